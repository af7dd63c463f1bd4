"""A trained network as files that run without nas, each loaded again in a process of its own and compared with the
network it was made of; one that does not agree is not written.
"""

import copy
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nas.errors import Error
from nas.execution.command import commanded
from nas.exports import verification
from nas.exports.microcontroller import FILES, array_source, contents, sources
from nas.exports.model_card import card
from nas.exports.quantization import int8_bytes
from nas.models.litert_file import litert_bytes
from nas.models.litert_int8 import MISSING, int8_model
from nas.models.onnx_graph import Array, onnx_bytes, with_preparation
from nas.models.source_code import python_source, renamed
from nas.models.torch_model import build
from nas.models.weights import packed, put
from nas.networks.architecture import Arch, arch_id, cost, graph
from nas.networks.graph import foldable
from nas.records.atomic_files import making, moved
from nas.records.results import FORMATS, Artefact, Export, Micro, WeightsInfo
from nas.records.run_folder import RunFailed
from nas.records.timing import Latency
from nas.serialization import from_data, to_json
from nas.training.crops import evaluated
from nas.training.datasets import load_test
from nas.training.full_training import TrainedNetwork
from nas.training.images import Images
from nas.training.learner import topk_accuracy
from nas.training.proxy import loaded, refresh

DIFFERENCE = 1e-4  # of logits, that an fp32 file may show
CALIBRATION, BATCH = 512, 64  # training images that give the ranges of activations
LITERT_CALIBRATION = 128  # of them for ai-edge-quantizer, which takes a tenth of a second each
MICRO_FLOATS = 100  # test images that TensorFlow Lite Micro is asked in floats
MICRO_SAME = 98.0  # percent of LiteRT's answers that it has to give: kernels round differently, by a step or two
NO_MICRO = 'TensorFlow Lite Micro is not installed ({error}); pip install "nas[litert]", on Linux on x86-64'
PREPROCESS, WEIGHTS, DONE = "preprocess.json", "model.safetensors", "export.json"
LIMIT = 3600.0  # seconds for one file to answer all test images

Watch = Callable[[str], None]


def export_network(
    trained: TrainedNetwork, formats: Sequence[str], seconds: float, int8_loss: float, watch: Watch = lambda _: None
) -> Export:
    """What was exported: `formats` in the folder that `trained` names, over files of their names there.

    Nothing there changes before all of it is made and verified, nor where no format could be made. Raises Error
    where the weights do not fit the network, or the network the dataset.
    """
    info = trained.info
    where = (info.dataset, trained.data, info.arch.resolution, info.reading)
    refresh(info.dataset)
    images = loaded(*where)
    if trained.training_plan and trained.training_plan.images_digest not in ("", images.digest):
        raise Error(
            f"dataset {info.dataset} has been changed since the network was trained on it: of its test some may have "
            "been trained on; put back what it was"
        )
    test = load_test(*where)
    arch = info.arch
    theirs = images.classes, images.resolution, images.channels
    if (info.classes, arch.resolution, arch.channels) != theirs:
        raise Error(
            f"the network is for {len(info.classes)} classes at {arch.resolution}x{arch.resolution}x{arch.channels}, "
            f"dataset {info.dataset} has {len(theirs[0])} at {theirs[1]}x{theirs[1]}x{theirs[2]}"
        )
    with making(trained.export) as staging:
        about = f"{trained.name}, trained on {info.dataset}."
        some, all_tested = (evaluated(one, images) for one in (images.train.first(CALIBRATION), test))
        found = write_formats(
            trained.tensors, info, formats, some, all_tested, staging, about, seconds, int8_loss, watch
        )
        if found.artefacts:
            (staging / DONE).write_text(to_json(found, indent=1) + "\n")
            page = card(trained.name, trained.found, found, trained.training_plan, trained.outcome)
            (staging / "README.md").write_text(page.rstrip() + "\n")
            fresh = {name for artefact in found.artefacts for name in artefact.files}
            moved(staging, trained.export, DONE, {name for form in FORMATS for name in _files(form)} - fresh)
    return found


def check_free(folder: Path) -> None:
    """Raises Error where an export into `folder` would write over files that are not an earlier export's."""
    if not (folder / DONE).exists():
        names = ["README.md", PREPROCESS, *(name for form in FORMATS for name in _files(form))]
        if existing := next((name for name in names if (folder / name).exists()), None):
            raise Error(
                f"{folder / existing} would be written over, and {folder} has no {DONE}: it is no export, or one that "
                "was cut off; take another --to, or remove it"
            )


def write_formats(
    tensors: dict[str, Tensor],
    info: WeightsInfo,
    formats: Sequence[str],
    calibration: Images,
    test: Images,
    staging: Path,
    about: str,
    seconds: float,
    int8_loss: float,
    watch: Watch = lambda _: None,
) -> Export:
    """Writes `formats` into folder `staging` and gives what was seen of each.

    `tensors`: the state dict of the built model of `info.arch`. `seconds`: for measuring the latency of each; 0: not
    measured. `int8_loss`: points of top-1 that int8 may lose. Raises Error where weights do not fit.
    """
    model = build(info.arch)
    put(model, tensors, "the weights")
    model.eval()
    preprocessing = {"input": "(pixels / 255 - mean) / std", "layout": "NCHW", "resolution": info.arch.resolution}
    preprocessing |= {"channels": info.arch.channels}
    preprocessing |= {"share": info.share} if info.share < 1 else {}
    preprocessing |= {"mean": info.mean, "std": info.std, "classes": info.classes}
    (staging / PREPROCESS).write_text(json.dumps(preprocessing, indent=1) + "\n")
    images, answers, plain, small = (
        staging / name for name in ("test.npy", "answers.npy", "reference.onnx", "int8.tflite")
    )
    np.save(images, test.all().numpy())
    watch("the trained network")
    torch.set_num_threads(1)
    wanted = _answered(model, verification.prepared(test.all().numpy(), preprocessing))
    top1 = topk_accuracy(wanted, test.labels)
    maker = _Maker(model, info, about, plain, small, calibration, test, preprocessing)
    artefacts, failed = [], {}
    for form in formats:
        watch(form)
        files = _files(form)
        try:
            maker.write(form, staging)
            answer = _asked(form, staging / files[0], images, answers, seconds, plain)
            right = wanted.softmax(1) if form == "onnx-pixels" else wanted
            artefact = _compared(form, files, staging, torch.from_numpy(np.load(answers)), right, test, answer)
            _check_artefact(artefact, top1, int8_loss)
            if form.startswith("litert") or form == "tflm":
                watch(f"{form} in TensorFlow Lite Micro")
                artefact = _in_micro(artefact, staging, images, answers, wanted, test)
            artefacts.append(artefact)
        except OSError:
            raise
        except Exception as error:  # of exporters and runtimes: each has its own; the other formats are still written
            failed[form] = (str(error).strip() or type(error).__name__).splitlines()[0]
            for name in _files(form):
                (staging / name).unlink(missing_ok=True)
    for file in (images, answers, plain, small):
        file.unlink(missing_ok=True)
    return Export(arch_id(info.arch), cost(info.arch), info, len(test), top1, tuple(artefacts), failed)


def _asked(form: str, file: Path, images: Path, answers: Path, seconds: float, plain: Path) -> dict[str, object]:
    """What a process without nas says of a file; its answers to `images` lie in `answers` then."""
    command = [sys.executable, "-P", verification.__file__, form, str(file), str(images), str(answers)]
    output = commanded([*command, str(seconds), str(plain)], b"", LIMIT + seconds)
    said: dict[str, object] = json.loads(output.decode().strip().splitlines()[-1])
    return said


def _in_micro(artefact: Artefact, staging: Path, images: Path, answers: Path, wanted: Tensor, test: Images) -> Artefact:
    """`artefact` with what TensorFlow Lite Micro makes of it; in floats, which no microcontroller will be given, of the
    first images only. Raises RunFailed where its answers are not LiteRT's."""
    try:
        import tflite_micro  # noqa: F401
    except ImportError:
        return artefact
    by_litert, number = torch.from_numpy(np.load(answers)), len(test)
    if artefact.format == "litert":
        number = min(number, MICRO_FLOATS)
        few = staging / "few.npy"
        np.save(few, np.load(images, mmap_mode="r")[:number])
        images = few
    said = _asked("micro", staging / artefact.files[0], images, answers, 0.0, staging / "none")
    found = torch.from_numpy(np.load(answers))
    (staging / "few.npy").unlink(missing_ok=True)
    same = 100 * float((found.argmax(1) == by_litert[:number].argmax(1)).float().mean())
    figures = said["figures"]
    assert isinstance(figures, dict)
    micro = Micro(
        images=number,
        difference=float((found - wanted[:number]).abs().max()),
        same=same,
        top1=topk_accuracy(found, test.labels[:number]),
        arena=int(figures["arena"]),
        runtime=str(said["runtime"]),
    )
    if not same >= MICRO_SAME:
        raise RunFailed(f"{artefact.files[0]} gives {same:.2f} % of LiteRT's answers in TensorFlow Lite Micro")
    return replace(artefact, micro=micro)


def _files(form: str) -> tuple[str, ...]:
    """The files of a format, the one to be loaded first."""
    first = FORMATS[form][0]
    if form == "tflm":
        return tuple(str(Path(first).with_name(name)) for name in FILES)
    return (first, WEIGHTS) if form == "python" else (first,)


@dataclass(frozen=True, slots=True)
class _Maker:
    """Writes each format of one network."""

    model: fx.GraphModule
    info: WeightsInfo
    about: str
    plain: Path
    """Where the ONNX graph is put that all others are timed against."""
    small: Path
    """Where the int8 LiteRT model is put, which takes a while: it is made once."""
    calibration: Images
    test: Images
    preprocessing: dict[str, object]

    def write(self, form: str, staging: Path) -> None:
        """Writes the files of `form`."""
        arch, name = self.info.arch, FORMATS[form][0]
        if not self.plain.exists():
            self.plain.write_bytes(self.onnx())
        match form:
            case "python":
                info = self.info
                source = python_source(arch, self.about, info.classes, info.mean, info.std, WEIGHTS, info.share)
                (staging / name).write_text(source)
                names = renamed(arch)
                weights = {
                    f"{names[place]}.{kind}": tensor
                    for path, tensor in self.model.state_dict().items()
                    for place, _, kind in [path.rpartition(".")]
                }
                (staging / WEIGHTS).write_bytes(packed(weights, {}))  # under other names than nas trains with
            case "onnx":
                (staging / name).write_bytes(self.onnx())
            case "onnx-pixels":
                (staging / name).write_bytes(with_preparation(self.onnx(), self.info.mean, self.info.std))
            case "onnx-int8":
                pixels = self.calibration.all().numpy()
                batches = [
                    verification.prepared(pixels[i : i + BATCH], self.preprocessing)
                    for i in range(0, len(pixels), BATCH)
                ]
                (staging / name).write_bytes(int8_bytes(self.onnx(), batches))
            case "litert":
                (staging / name).write_bytes(self.litert())
            case "litert-int8":
                (staging / name).write_bytes(self.int8())
            case "tflm":
                self.write_sources(staging / name)
            case "pt2":
                (staging / name).write_bytes(exported(self.model, arch))
            case "executorch":
                (staging / name).write_bytes(lowered(self.model, arch))

    def onnx(self) -> bytes:
        """The ONNX graph; its metadata say how images are prepared, as one text and one by one, and the classes."""
        arrays: dict[str, Array] = {name: tensor.numpy() for name, tensor in self.model.state_dict().items()}
        said = {name: json.dumps(value) for name, value in self.preprocessing.items()}
        return onnx_bytes(self.info.arch, arrays, {PREPROCESS: json.dumps(self.preprocessing), **said})

    def litert(self) -> bytes:
        """The LiteRT model. Raises RunFailed where LiteRT is not installed."""
        try:
            return litert_bytes(self.info.arch, {n: t.numpy() for n, t in self.model.state_dict().items()})
        except ImportError as error:
            raise RunFailed(MISSING.format(error=error)) from None

    def int8(self) -> bytes:
        """The same in int8. Raises RunFailed where what makes it is not installed."""
        if not self.small.exists():
            pixels = self.calibration.first(LITERT_CALIBRATION).all().numpy()
            images = verification.prepared(pixels, self.preprocessing)
            self.small.write_bytes(int8_model(self.litert(), [images]))
        return self.small.read_bytes()

    def write_sources(self, array: Path) -> None:
        """Writes the int8 model as the C array `array`, and beside it all that runs it on the first test image.

        Raises RunFailed where TensorFlow Lite Micro is not installed, or has not all operators.
        """
        try:
            import tflite_micro  # noqa: F401
        except ImportError as error:
            raise RunFailed(NO_MICRO.format(error=error)) from None
        model = self.int8()
        held = contents(model)
        array.parent.mkdir()
        array.write_text(array_source(model))
        pixels = self.test.first(1).all().numpy()
        image, answer = array.with_name("image.npy"), array.with_name("answer.npy")
        try:
            np.save(image, pixels)
            said = _asked("micro", array, image, answer, 0.0, array)
            figures, logits = said["figures"], np.load(answer)[0]
        finally:  # all that lies here is put in place, where another format could be made
            image.unlink(missing_ok=True)
            answer.unlink(missing_ok=True)
        assert isinstance(figures, dict)
        taken = verification.prepared(pixels, self.preprocessing)[0].transpose(1, 2, 0)
        cut = verification.as_int8
        arena, runtime = int(figures["arena"]), str(said["runtime"])
        files = sources(model, held, cut(taken, *held.entry), cut(logits, *held.out), self.info.classes, arena, runtime)
        for name, text in files.items():
            array.with_name(name).write_text(text)


def exported(model: fx.GraphModule, arch: Arch) -> bytes:
    """`model` by torch.export, batch norm folded, as the content of a .pt2 file."""
    images = torch.randn(2, arch.channels, arch.resolution, arch.resolution)  # of a batch of 1 it would be a constant
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(folded(model, arch), (images,), dynamic_shapes=(batch,))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def lowered(model: fx.GraphModule, arch: Arch) -> bytes:
    """`model` for ExecuTorch, by XNNPACK where that has the layers, as the content of a .pte file.

    Raises RunFailed where ExecuTorch is not installed.
    """
    try:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
    except ImportError as error:
        raise RunFailed(f'ExecuTorch is not installed ({error}); pip install "nas[executorch]"') from None
    image = (torch.randn(1, arch.channels, arch.resolution, arch.resolution),)
    program = to_edge_transform_and_lower(
        torch.export.export(folded(model, arch), image), partitioner=[XnnpackPartitioner()]
    )
    content: bytes = bytes(program.to_executorch().buffer)
    return content


def folded(model: fx.GraphModule, arch: Arch) -> fx.GraphModule:
    """A copy of `model`, in evaluation, with each batch norm folded into the convolution before it."""
    model, nodes = copy.deepcopy(model).eval(), graph(arch)
    for at, norm in foldable(nodes).items():
        name = nodes[at].module
        conv, batch_norm = model.get_submodule(name), model.get_submodule(norm.module)
        assert isinstance(conv, nn.Conv2d) and isinstance(batch_norm, nn.BatchNorm2d)
        model.set_submodule(name, fuse_conv_bn_eval(conv, batch_norm))
        model.set_submodule(norm.module, nn.Identity())
    return model


@torch.inference_mode()
def _answered(model: nn.Module, images: Array) -> Tensor:
    parts = [model(part) for part in torch.from_numpy(images).split(verification.BATCH)]
    return torch.cat(parts)


def _compared(
    form: str,
    files: tuple[str, ...],
    staging: Path,
    answers: Tensor,
    wanted: Tensor,
    test: Images,
    given: dict[str, object],
) -> Artefact:
    if answers.shape != wanted.shape:
        raise Error(f"{files[0]} answers {tuple(answers.shape)}, the network {tuple(wanted.shape)}")
    latency, figures = None, given["figures"]
    if isinstance(figures, dict) and figures:
        latency = from_data(Latency, {**figures, "runtime": given["runtime"], "reference": "model.onnx"})
    return Artefact(
        format=form,
        files=files,
        bytes=sum((staging / name).stat().st_size for name in files),
        difference=float((answers - wanted).abs().max()),
        same=100 * float((answers.argmax(1) == wanted.argmax(1)).float().mean()),
        top1=topk_accuracy(answers, test.labels),
        runtime=str(given["runtime"]),
        latency=latency,
    )


def _check_artefact(artefact: Artefact, top1: float, int8_loss: float) -> None:
    """Raises RunFailed where a file is not what it was made of."""
    if artefact.format in ("onnx-int8", "litert-int8", "tflm"):
        if not top1 - artefact.top1 <= int8_loss:
            raise RunFailed(
                f"int8 comes to {artefact.top1:.2f} % on the test images, the network to {top1:.2f} %: more than "
                f"{int8_loss:g} points are lost; allow more with --int8-loss"
            )
    elif not artefact.difference <= DIFFERENCE:  # not: NaN is neither
        raise RunFailed(
            f"{artefact.files[0]} differs from the network by {artefact.difference:g}, allowed are {DIFFERENCE:g}"
        )
    elif artefact.top1 != top1:
        raise RunFailed(f"{artefact.files[0]} comes to {artefact.top1:.2f} %, the network to {top1:.2f} %")
