"""Weights as safetensors files, which carry their architecture and how images are prepared for it. Nothing that is
read here can run code.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nas.errors import Error
from nas.records.results import WeightsInfo
from nas.serialization import from_json, to_json


def to_bytes(model: nn.Module, made: WeightsInfo) -> bytes:
    """The weights of `model` as the content of a safetensors file."""
    return packed(model.state_dict(), {"nas": to_json(made)})


def packed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """`tensors` and `metadata` as the content of a safetensors file."""
    from safetensors.torch import save

    content: bytes = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, dict(metadata)
    )
    return content


def read(file: Path) -> tuple[dict[str, Tensor], WeightsInfo | None]:
    """The tensors in a safetensors file, and what it says of itself, where nas wrote it.

    Raises Error where it is none, or is truncated.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = file.read_bytes()  # of safetensors 8 bytes are the length of the JSON that follows, any bytes
    except OSError as error:
        raise Error(f"weights {file} cannot be read: {error.strerror}") from None
    if content[8:9] != b"{" and content[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        raise Error(
            f"weights {file} are a pickle, which could run code, and are not opened; save them as safetensors: "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        )
    try:
        tensors: dict[str, Tensor] = load(content)
        header: dict[str, Any] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, ValueError, KeyError) as error:
        raise Error(f"weights {file} are no safetensors file, or a truncated one: {error}") from None
    text = header.get("__metadata__", {}).get("nas")
    return tensors, from_json(WeightsInfo, text, str(file)) if text else None


def put(model: nn.Module, tensors: Mapping[str, Tensor], whose: str) -> None:
    """Puts `tensors`, the weights called `whose`, into `model`.

    Raises Error, naming the first that differs, where they do not fit.
    """
    own = model.state_dict()
    for name, tensor in own.items():
        if name not in tensors:
            raise Error(f"{whose} do not fit the network: {name} {_shape(tensor)} is missing")
        if tensors[name].shape != tensor.shape:
            raise Error(
                f"{whose} do not fit the network: {name} is {_shape(tensors[name])}, the network's {_shape(tensor)}"
            )
    if further := [name for name in tensors if name not in own]:
        raise Error(f"{whose} do not fit the network: it has no {further[0]} {_shape(tensors[further[0]])}")
    model.load_state_dict(dict(tensors))


def _shape(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "a number"
