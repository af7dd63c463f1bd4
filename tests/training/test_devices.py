"""Which device is taken, and how many trainings have room on it."""

import pytest
import torch

from nas.errors import Error
from nas.training.devices import cards, described, device, fitting, half, loss_scale, name_of, on_card

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def test_the_first_device_that_there_is_is_taken() -> None:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    assert device() == torch.device(next(name for name, found in there.items() if found))
    assert device("cpu") == CPU and not on_card(CPU) and on_card(CUDA)
    assert cards("cpu") == 0 and name_of(CPU) == "cpu"
    assert described("cpu") == "trains on cpu, fp32, one thread a training"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_an_error(name: str) -> None:
    if torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available():
        pytest.skip(f"{name} is here")
    with pytest.raises(Error, match=f"device {name} is asked for, torch .* finds none here; leave it out, or take cpu"):
        device(name)


def test_precision_is_by_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    for capability, dtype, scale in (((7, 5), torch.float16, 1024.0), ((9, 0), torch.bfloat16, 1.0)):
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda _, of=capability: of)
        half.cache_clear()
        assert half(CUDA) == dtype and loss_scale(CUDA) == scale
    half.cache_clear()
    assert half(CPU) is None and loss_scale(CPU) == 1.0


@pytest.mark.parametrize(("free", "used", "number"), [(80, 2, 18), (10, 2, 2), (1, 2, 1), (0, 2, 1)])
def test_trainings_share_a_card_as_far_as_its_memory_reaches(free: int, used: int, number: int) -> None:
    assert fitting(free * 2**30, used * 2**30) == number
