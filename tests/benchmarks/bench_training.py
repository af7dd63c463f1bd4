"""Our training against the loop a user would write: DataLoader, torchvision transforms on PIL images, NCHW.

Same network, optimiser, learning rates, batch, images and threads (one); on CIFAR-10 where it lies on disk.

And wide depthwise kernels with our gradients against torch's own.

    pytest -s -n 0 tests/benchmarks/bench_training.py
"""

import copy
import statistics
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from nas.api.resolve import architecture
from nas.models.torch_model import build
from nas.records.plan import PROXY
from nas.training.datasets import load
from nas.training.depthwise import with_fast_gradients
from nas.training.images import Data, Images
from nas.training.step import keep_freed_memory, optimiser_of, top1, train
from search_spaces import ANCHORS

CIFAR = Path(__file__).parents[3] / "shared" / "data"
HAND_DRAWN = Path(__file__).parents[2] / "runs" / "hand-k5" / "best" / "arch.json"
IMAGES, SEEDS, STEPS = 4_000, 3, 30


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, images: Images, transform: v2.Compose) -> None:
        from PIL import Image

        self.pictures = [Image.fromarray(pixels.numpy()) for pixels in images.pixels]
        self.labels, self.transform = images.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pictures[i]), self.labels[i]


def plain_loop(model: nn.Module, data: Data, images: Images) -> float:
    """Seconds."""
    transform = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(data.mean, data.std),
        ]
    )
    loader = DataLoader(Pictures(images, transform), batch_size=PROXY.batch, shuffle=True)
    optimiser = torch.optim.SGD(
        model.parameters(), PROXY.lr, PROXY.momentum, weight_decay=PROXY.weight_decay, nesterov=True
    )
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, PROXY.lr, total_steps=len(loader), pct_start=0.3, cycle_momentum=False
    )
    start = time.perf_counter()
    model.train()
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()
    return time.perf_counter() - start


@pytest.mark.skipif(not CIFAR.is_dir(), reason="CIFAR-10 is not on this disk")
def test_against_the_plain_loop() -> None:
    torch.set_num_threads(1)
    data = load("cifar10", str(CIFAR))
    images, val = data.train.first(IMAGES), data.val.first(2_000)
    rates: dict[str, list[float]] = {"plain": [], "ours": []}
    accuracy: dict[str, list[float]] = {"plain": [], "ours": []}
    for kind in rates:  # plain first: what ours tells the allocator lasts for the process
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            model = build(ANCHORS["lowres-mobilenet"].arch)
            if kind == "plain":
                seconds = plain_loop(model, data, images)
            else:
                seconds = train(model, optimiser_of(model, PROXY), data, images, 1, PROXY, seed).seconds
            rates[kind].append(IMAGES / seconds)
            accuracy[kind].append(top1(model, data, val))
    for kind in rates:
        print(f"\n{kind}: images a second {[round(r) for r in rates[kind]]}, top-1 {accuracy[kind]}", end="")
    ratios = [ours / plain for ours, plain in zip(rates["ours"], rates["plain"], strict=True)]
    print(f"\nratio: median {statistics.median(ratios):.2f}")
    noise = statistics.stdev(accuracy["plain"]) + statistics.stdev(accuracy["ours"])
    difference = statistics.mean(accuracy["ours"]) - statistics.mean(accuracy["plain"])
    print(f"difference of top-1 {difference:+.2f}, noise {noise:.2f}")
    assert statistics.median(ratios) >= 1.5
    assert difference > -noise


def test_kernels_of_five() -> None:
    """The hand-drawn network, whose depthwise layers all have kernels of 5."""
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    plain = build(architecture(HAND_DRAWN)).to(memory_format=torch.channels_last)
    ours = with_fast_gradients(copy.deepcopy(plain))
    x = torch.randn(64, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (64,))
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(STEPS):
        for kind, model in (("plain", plain), ("ours", ours)):
            begun = time.process_time()
            nn.functional.cross_entropy(model(x), labels).backward()
            seconds[kind].append(time.process_time() - begun)
    ratios = [a / b for a, b in zip(seconds["plain"][2:], seconds["ours"][2:], strict=True)]
    print(f"\nkernels of 5, {STEPS} steps in turn: {statistics.median(ratios):.2f} times as fast")
    assert statistics.median(ratios) > 1.03
