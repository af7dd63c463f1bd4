"""The results of training a network and of exporting it, as values."""

from dataclasses import dataclass
from statistics import mean, stdev

from nas.networks.architecture import Arch
from nas.networks.graph import Cost
from nas.records.plan import READING, Reading
from nas.records.timing import Latency

FORMATS = {
    "python": ("model.py", "plain torch code for this network alone, weights in safetensors beside it"),
    "onnx": ("model.onnx", "for onnxruntime and most others; batch norm folded, any batch"),
    "onnx-pixels": (
        "model-pixels.onnx",
        "the same, uint8 pixels (batch, height, width, channels) in, scores out",
    ),
    "onnx-int8": ("model-int8.onnx", "model.onnx with int8 weights and activations, calibrated on training images"),
    "pt2": ("model.pt2", "torch.export; batch norm folded, any batch"),
    "litert": ("model.tflite", "for LiteRT (TensorFlow Lite) on phones and boards; one image at a time"),
    "litert-int8": ("model-int8.tflite", "the same in int8 from end to end; for microcontrollers too, by TFLM"),
    "tflm": (
        "tflm/model.cc",
        "model-int8.tflite as a C array, with a program that runs it on boards, by TensorFlow Lite Micro",
    ),
    "executorch": ("model.pte", "for ExecuTorch on phones and boards, by XNNPACK; one image at a time"),
}
USUAL = ("python", "onnx", "onnx-pixels", "onnx-int8", "pt2")
"""Those that need nothing but what nas needs itself."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch that has been trained."""

    number: int
    """From 0."""
    lr: float
    """Of its last step."""
    train_loss: float
    val_top1: float | None
    """In percent; None where all images are trained on."""
    images: int
    train_seconds: float
    val_seconds: float


@dataclass(frozen=True, slots=True)
class History:
    """The epochs of one seed, in their order."""

    epochs: tuple[Epoch, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """A process that was at work in a run, and its conditions."""

    command: str
    began: str
    """Date and time, UTC."""
    ended: str | None
    """None where it was killed."""
    machine: str
    """Its processor."""
    cores: int
    """That it might use."""
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class TestResult:
    """A trained network on the test images, read once. Shares are in percent."""

    seed: int
    top1: float
    top5: float
    precision: float
    """Like recall and f1 the plain mean over the classes."""
    recall: float
    f1: float
    confusion: tuple[tuple[int, ...], ...]
    """Test images of each true class (row) by the class that was answered (column)."""
    val_top1: float | None
    """After the last epoch, whose weights these are: no epoch is chosen by validation."""
    train_loss: float
    train_seconds: float
    images_per_second: float


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What came of a full training, with its conditions."""

    arch_id: str
    cost: Cost
    train_images: int
    val_images: int
    test_images: int
    classes: tuple[str, ...]
    tested: tuple[TestResult, ...]
    """A seed each."""
    device: str
    threads: int
    versions: dict[str, str]
    """Of python, nas, torch and torchvision; "git": the commit of nas where it runs from a checkout."""
    finished: str
    """Date and time, UTC."""

    @property
    def top1(self) -> tuple[float, float | None]:
        """Mean over the seeds, and the standard deviation where there are several."""
        values = [one.top1 for one in self.tested]
        return mean(values), stdev(values) if len(values) > 1 else None

    @property
    def chosen(self) -> TestResult:
        """The seed that is exported: the best by validation; the first where there is none."""
        return max(self.tested, key=lambda one: (one.val_top1 or 0.0, -self.tested.index(one)))


@dataclass(frozen=True, slots=True)
class WeightsInfo:
    """What a file of weights says of itself."""

    arch: Arch
    dataset: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """A channel, of pixels in [0, 1], as is `std`: an image is prepared as (pixels / 255 - mean) / std."""
    std: tuple[float, ...]
    share: float = 1.0
    """Of a picture's short side: the middle that is seen, brought to the resolution of `arch`."""
    reading: Reading = READING


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image of which a network says with confidence what it is not."""

    picture: str
    """As it is seen: a PNG in base64."""
    truth: str
    answer: str
    share: float
    """How sure the network is of its answer, in percent."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says of a picture."""

    file: str
    classes: tuple[tuple[str, float], ...]
    """The likeliest, each with its probability in percent."""


@dataclass(frozen=True, slots=True)
class Micro:
    """A file in TensorFlow Lite Micro, in its own kernels: what runs on microcontrollers."""

    images: int
    """Test images that it was asked, the first ones."""
    difference: float
    """The largest of any logit, from the network that was trained."""
    same: float
    """Share of them that get the same answer as in LiteRT, in percent."""
    top1: float
    """On them, in percent."""
    arena: int
    """Bytes that it allocates beside the file: activations, and all that it keeps of each layer."""
    runtime: str


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file that was exported, and what was seen of it after it had been loaded again in a fresh process."""

    format: str
    files: tuple[str, ...]
    bytes: int
    """Of all its files."""
    difference: float
    """The largest, of any logit on any test image, from the network that was trained."""
    same: float
    """Share of the test images that get the same answer, in percent."""
    top1: float
    """On the test images, in percent."""
    runtime: str
    latency: Latency | None
    """Of one image on one thread, in turn with model.onnx; None where it was not measured."""
    micro: Micro | None = None
    """What TensorFlow Lite Micro makes of it, where it can be asked."""

    @property
    def place(self) -> str:
        """Its files, or the folder that they lie in."""
        folder, _, _ = self.files[0].rpartition("/")
        return f"{folder}/" if folder else ", ".join(self.files)


@dataclass(frozen=True, slots=True)
class Export:
    """What was exported, and what could not be."""

    arch_id: str
    cost: Cost
    made: WeightsInfo
    test_images: int
    top1: float
    """Of the trained network in torch, on the test images, in percent."""
    artefacts: tuple[Artefact, ...]
    failed: dict[str, str]
    """Why, by format."""
