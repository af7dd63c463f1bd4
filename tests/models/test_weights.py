"""Files of weights: read whole, or refused with the place that does not fit."""

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from nas.models.torch_model import build
from nas.models.weights import put, read, to_bytes
from nas.records.results import WeightsInfo
from search_spaces import ANCHORS

ARCH = ANCHORS["tailored-mobilenetv2-imp4"].arch
MADE = WeightsInfo(ARCH, "digits", tuple("0123456789"), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "w.safetensors"
    path.write_bytes(to_bytes(build(ARCH), MADE))
    return path


def test_round_trip(file: Path) -> None:
    tensors, made = read(file)
    model = build(ARCH)
    put(model, tensors, "w")
    assert made == MADE
    assert all(torch.equal(tensors[name], tensor) for name, tensor in model.state_dict().items())


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, ("ran",))


@pytest.mark.parametrize("header", [640, 1152, 1408, 19280])
def test_a_header_whose_length_reads_like_a_pickle_does(tmp_path: Path, header: int) -> None:
    def saved(filling: int) -> bytes:
        return save({"weight": torch.ones(2)}, {"filling": "x" * filling})

    content = next(saved(n) for n in range(header - 200, header) if int.from_bytes(saved(n)[:8], "little") == header)
    (tmp_path / "w.safetensors").write_bytes(content)
    assert torch.equal(read(tmp_path / "w.safetensors")[0]["weight"], torch.ones(2))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_is_refused_and_not_run(here: Path, protocol: int) -> None:
    (here / "w.pt").write_bytes(pickle.dumps(Malicious(), protocol))
    with pytest.raises(ValueError, match=r"pickle, which could run code|no safetensors"):
        read(here / "w.pt")
    assert not (here / "ran").exists()


def test_what_torch_saves_is_refused_with_the_way_out(here: Path) -> None:
    torch.save(build(ARCH).state_dict(), here / "w.pt")
    with pytest.raises(ValueError, match="save them as safetensors"):
        read(here / "w.pt")


@pytest.fixture(scope="module")
def whole() -> bytes:
    return to_bytes(build(ANCHORS["lowres-mobilenet"].arch), MADE)


@given(share=st.floats(0, 0.999))
def test_a_truncated_file_is_refused(tmp_path_factory: pytest.TempPathFactory, whole: bytes, share: float) -> None:
    file = tmp_path_factory.mktemp("cut") / "w.safetensors"
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="no safetensors file, or a truncated one"):
        read(file)


def test_the_first_tensor_that_differs_is_named(file: Path) -> None:
    tensors, _ = read(file)
    other = build(ANCHORS["lowres-mobilenet"].arch)
    with pytest.raises(ValueError, match=r"w do not fit the network: stage1\.block0\.expand\.conv\.weight is 144x16"):
        put(other, tensors, "w")
    model, name = build(ARCH), next(iter(tensors))
    with pytest.raises(ValueError, match="has no further "):
        put(model, {**tensors, "further": tensors[name]}, "w")
    del tensors[name]
    with pytest.raises(ValueError, match=f"{name} .* is missing"):
        put(model, tensors, "w")


def test_a_wrong_class_count_is_named(file: Path) -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match=r"classifier.weight is 10x\d+, the network's 100x\d+"):
        put(build(replace(ARCH, classes=100)), read(file)[0], "w")
