"""The five papers by the numbers that nas gives them, and the tables that compare ten networks at 32x32.

000  Yuan et al., "Low-res MobileNet: An efficient lightweight network for low-resolution image classification in
     resource-constrained scenarios", 2022
001  Zhao and Wang, "A new lightweight network based on MobileNetV3", 2022 (DP-Net)
002  Khasoggi et al., "Efficient mobilenet architecture as image recognition on mobile and embedded devices", 2019
003  Shukla, "Lightweight Convolutional Neural Network Model for Mobile Image Recognition" (HL-CNN)
004  "Research on Real-time Image Classification on Mobile Devices using Lightweight Convolutional Neural Networks
     Based on Deep Learning"
"""

from nas.networks.architecture import Published

COMPARED = "paper 000, Tables 3 and 4"
RECIPE = "SGD, cosine from 0.1, batch 64, 200 epochs"

TABLES_3_AND_4 = {
    # CIFAR-10: plain, augmented; params, FLOPs, memory R+W, batches/s; CINIC-10: methods 1 and 2; CIFAR-100
    "vgg16-32": ("90.62", "94.62", "14.7M", "314.43M", "62.77MB", "32", "84.75", "87.77", "72.93"),
    "inception-v1-32": ("91.99", "96.13", "6.2M", "1533.47M", "104.22MB", "6", "88.46", "91.17", "77.16"),
    "inception-v3-32": ("92.03", "97.24", "22.3M", "3403.58M", "199.78MB", "3", "88.68", "91.70", "77.19"),
    "xception-32": ("89.67", "94.81", "21.0M", "1135.92M", "136.33MB", "7", "85.87", "87.21", "75.03"),
    "squeezenet-32": ("84.39", "90.52", "0.7M", "54.1M", "11.54MB", "35", "81.92", "84.64", "69.44"),
    "shufflenetv1-32": ("84.35", "89.94", "0.9M", "40.46M", "17.18MB", "31", "80.92", "84.89", "70.12"),
    "shufflenetv2-x2-32": ("86.95", "92.02", "5.3M", "183.86M", "37.57MB", "21", "83.56", "86.53", "71.82"),
    "mobilenetv1-32": ("84.04", "89.61", "3.2M", "47.18M", "18.55MB", "32", "80.45", "82.00", "66.04"),
    "mobilenetv2-32": ("86.27", "91.83", "2.3M", "94.60M", "35.03MB", "21", "83.04", "86.27", "68.11"),
    "lowres-mobilenet": ("89.38", "93.32", "0.36M", "25.46M", "12.46MB", "35", "84.77", "87.08", "71.60"),
}


def compared(name: str, modules: tuple[str, ...] = ()) -> Published:
    """The rows of `name` in Tables 3 and 4 of paper 000, as printed; `modules`: see `Published`."""
    plain, augmented, params, flops, memory, batches, cinic, cinic_both, cifar100 = TABLES_3_AND_4[name]
    top1 = (
        f"{augmented} % CIFAR-10 ({RECIPE}, augmented; {plain} % without augmentation); {cifar100} % CIFAR-100; "
        f"{cinic} % CINIC-10 (300 epochs; {cinic_both} % trained on its validation images too)"
    )
    return Published(params, flops, memory, "torchstat", modules, top1, f"{batches} batches/s")
