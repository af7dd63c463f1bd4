"""The five papers by the numbers that nas gives them, and the rows of the table that compares nine networks.

000  Yuan et al., "Low-res MobileNet: An efficient lightweight network for low-resolution image classification in
     resource-constrained scenarios", 2022
001  Zhao and Wang, "A new lightweight network based on MobileNetV3", 2022 (DP-Net)
002  Khasoggi et al., "Efficient mobilenet architecture as image recognition on mobile and embedded devices", 2019
003  Shukla, "Lightweight Convolutional Neural Network Model for Mobile Image Recognition" (HL-CNN)
004  "Research on Real-time Image Classification on Mobile Devices using Lightweight Convolutional Neural Networks
     Based on Deep Learning"
"""

from nas.arch import Published

COMPARED = "paper 000, Table 3"


def compared(
    params: str, flops: str, memory: str, augmented: str, plain: str, modules: tuple[str, ...] = ()
) -> Published:
    """A row of Table 3 of paper 000, as printed; `modules`: see `Published`."""
    recipe = "SGD, cosine from 0.1, batch 64, 200 epochs"
    top1 = f"{augmented} % CIFAR-10 ({recipe}, augmented; {plain} % without augmentation)"
    return Published(params, flops, memory, "torchstat", modules, top1)
