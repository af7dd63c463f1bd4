"""Architectures as torch modules, as source code and as ONNX graphs, and their weights.

It imports `networks` and `records`, torch, onnx, safetensors and thop. Start reading with `torch_model`.
"""
