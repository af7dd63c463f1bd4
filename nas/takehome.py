"""A trained network as files that run without nas, each loaded again in a process of its own and held against the
network it was made of; one that does not agree is not delivered.
"""

import copy
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nas import checker
from nas.arch import Arch, arch_id, cost, graph
from nas.card import card
from nas.course import Trained
from nas.data import Images, load_test
from nas.evaluate import loaded
from nas.files import making, moved
from nas.fit import right
from nas.graph import foldable
from nas.model import build
from nas.onnx_graph import Array, onnx_bytes
from nas.outcome import FORMATS, Artefact, Export, Made
from nas.quantize import int8_bytes
from nas.runs import RunFailed
from nas.source import python_source, renamed
from nas.timing import Latency
from nas.values import from_data, to_json
from nas.weights import packed, put
from nas.workers import commanded

DIFFERENCE = 1e-4  # of logits, that an fp32 file may show
CALIBRATION, BATCH = 512, 64  # training images that give the ranges of activations
PREPROCESS, WEIGHTS, DONE = "preprocess.json", "model.safetensors", "export.json"
LIMIT = 3600.0  # seconds for one file to answer all test images

Watch = Callable[[str], None]


def deliver(
    trained: Trained, formats: Sequence[str], seconds: float, int8_loss: float, watch: Watch = lambda _: None
) -> Export:
    """What was taken home: `formats` in the folder that `trained` names, over files of their names there.

    Nothing there changes before all of it is made and verified, nor where no format could be made. Raises ValueError
    where the weights do not fit the network, or the network the dataset.
    """
    made = trained.made
    images, test = loaded(made.dataset, trained.data), load_test(made.dataset, trained.data)
    if (made.classes, made.arch.resolution) != (images.classes, images.resolution):
        raise ValueError(
            f"the network is for {len(made.classes)} classes at {made.arch.resolution}x{made.arch.resolution}, dataset "
            f"{made.dataset} has {len(images.classes)} at {images.resolution}x{images.resolution}"
        )
    with making(trained.export) as room:
        about = f"{trained.name}, trained on {made.dataset}."
        some = images.train.first(CALIBRATION)
        found = export(trained.tensors, made, formats, some, test, room, about, seconds, int8_loss, watch)
        if found.artefacts:
            (room / DONE).write_text(to_json(found, indent=1) + "\n")
            page = card(trained.name, trained.found, found, trained.course, trained.outcome)
            (room / "README.md").write_text(page.rstrip() + "\n")
            fresh = {name for artefact in found.artefacts for name in artefact.files}
            moved(room, trained.export, DONE, {name for form in FORMATS for name in _files(form)} - fresh)
    return found


def check_free(folder: Path) -> None:
    """Raises ValueError where an export into `folder` would write over files that are not an earlier export's."""
    if not (folder / DONE).exists():
        names = ["README.md", PREPROCESS, *(name for form in FORMATS for name in _files(form))]
        if taken := next((name for name in names if (folder / name).exists()), None):
            raise ValueError(
                f"{folder / taken} would be written over, and {folder} has no {DONE}: it is no export, or one that was "
                "cut off; take another --to, or remove it"
            )


def export(
    tensors: dict[str, Tensor],
    made: Made,
    formats: Sequence[str],
    calibration: Images,
    test: Images,
    room: Path,
    about: str,
    seconds: float,
    int8_loss: float,
    watch: Watch = lambda _: None,
) -> Export:
    """Writes `formats` into folder `room` and gives what was seen of each.

    `tensors`: the state dict of the built model of `made.arch`. `seconds`: for measuring the latency of each; 0: not
    measured. `int8_loss`: points of top-1 that int8 may lose. Raises ValueError where weights do not fit.
    """
    model = build(made.arch)
    put(model, tensors, "the weights")
    model.eval()
    said = {"input": "(pixels / 255 - mean) / std", "layout": "NCHW", "resolution": made.arch.resolution}
    said |= {"mean": made.mean, "std": made.std, "classes": made.classes}
    (room / PREPROCESS).write_text(json.dumps(said, indent=1) + "\n")
    images, answers, plain = (room / name for name in ("test.npy", "answers.npy", "reference.onnx"))
    np.save(images, test.pixels.numpy())
    watch("the trained network")
    torch.set_num_threads(1)
    wanted = _answered(model, checker.prepared(test.pixels.numpy(), said))
    top1 = right(wanted, test.labels)
    maker = _Maker(model, made, about, plain, calibration, said)
    artefacts, failed = [], {}
    for form in formats:
        watch(form)
        files = _files(form)
        try:
            maker.write(form, room)
            command = [sys.executable, "-P", checker.__file__, form, str(room / files[0]), str(images), str(answers)]
            said_of = commanded([*command, str(seconds), str(plain)], b"", LIMIT + seconds)
            given = json.loads(said_of.decode().strip().splitlines()[-1])
            artefact = _compared(form, files, room, torch.from_numpy(np.load(answers)), wanted, test, given)
            _refuse(artefact, top1, int8_loss)
            artefacts.append(artefact)
        except OSError:
            raise
        except Exception as error:  # of exporters and runtimes: each has its own; the other formats are still written
            failed[form] = (str(error).strip() or type(error).__name__).splitlines()[0]
            for name in _files(form):
                (room / name).unlink(missing_ok=True)
    for file in (images, answers, plain):
        file.unlink(missing_ok=True)
    return Export(arch_id(made.arch), cost(made.arch), made, len(test), top1, tuple(artefacts), failed)


def _files(form: str) -> tuple[str, ...]:
    """The files of a format, the one to be loaded first."""
    return (FORMATS[form][0], WEIGHTS) if form == "python" else (FORMATS[form][0],)


@dataclass(frozen=True, slots=True)
class _Maker:
    """Writes each format of one network."""

    model: fx.GraphModule
    made: Made
    about: str
    plain: Path
    calibration: Images
    said: dict[str, object]

    def write(self, form: str, room: Path) -> None:
        """Writes the files of `form`."""
        arch, name = self.made.arch, FORMATS[form][0]
        if not self.plain.exists():
            self.plain.write_bytes(self.onnx())
        match form:
            case "python":
                made = self.made
                source = python_source(arch, self.about, made.classes, made.mean, made.std, WEIGHTS)
                (room / name).write_text(source)
                names = renamed(arch)
                weights = {
                    f"{names[place]}.{kind}": tensor
                    for path, tensor in self.model.state_dict().items()
                    for place, _, kind in [path.rpartition(".")]
                }
                (room / WEIGHTS).write_bytes(packed(weights, {}))  # under other names than nas trains with
            case "onnx":
                (room / name).write_bytes(self.onnx())
            case "onnx-int8":
                pixels = self.calibration.pixels.numpy()
                batches = [checker.prepared(pixels[i : i + BATCH], self.said) for i in range(0, len(pixels), BATCH)]
                (room / name).write_bytes(int8_bytes(self.onnx(), batches))
            case "pt2":
                (room / name).write_bytes(exported(self.model, arch))
            case "executorch":
                (room / name).write_bytes(lowered(self.model, arch))

    def onnx(self) -> bytes:
        """The ONNX graph, with how images are prepared as its metadata."""
        arrays: dict[str, Array] = {name: tensor.numpy() for name, tensor in self.model.state_dict().items()}
        return onnx_bytes(self.made.arch, arrays, {PREPROCESS: json.dumps(self.said)})


def exported(model: fx.GraphModule, arch: Arch) -> bytes:
    """`model` by torch.export, batch norm folded, as the content of a .pt2 file."""
    program = torch.export.export(
        folded(model, arch),
        (torch.randn(2, 3, arch.resolution, arch.resolution),),  # 2: a batch of 1 would be taken for a constant
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
    )
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
    image = (torch.randn(1, 3, arch.resolution, arch.resolution),)
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
    parts = [model(part) for part in torch.from_numpy(images).split(checker.BATCH)]
    return torch.cat(parts)


def _compared(
    form: str,
    files: tuple[str, ...],
    room: Path,
    answers: Tensor,
    wanted: Tensor,
    test: Images,
    given: dict[str, object],
) -> Artefact:
    if answers.shape != wanted.shape:
        raise ValueError(f"{files[0]} answers {tuple(answers.shape)}, the network {tuple(wanted.shape)}")
    latency, figures = None, given["figures"]
    if isinstance(figures, dict) and figures:
        latency = from_data(Latency, {**figures, "runtime": given["runtime"], "reference": "model.onnx"})
    return Artefact(
        format=form,
        files=files,
        bytes=sum((room / name).stat().st_size for name in files),
        difference=float((answers - wanted).abs().max()),
        same=100 * float((answers.argmax(1) == wanted.argmax(1)).float().mean()),
        top1=right(answers, test.labels),
        runtime=str(given["runtime"]),
        latency=latency,
    )


def _refuse(artefact: Artefact, top1: float, int8_loss: float) -> None:
    """Raises RunFailed where a file is not what it was made of."""
    if artefact.format == "onnx-int8":
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
