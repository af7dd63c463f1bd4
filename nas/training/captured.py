"""A training step as one CUDA graph.

A step of a small network is some four hundred kernels of a few microseconds, and Python needs longer to launch each
than the card to run it. A graph launches all of them at once. It is captured by hand and not by
`torch.compile(mode="reduce-overhead")`, which takes half a minute to compile what a rung trains in seconds.
"""

import warnings
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from nas.errors import Notice

Step: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Trains on images (B, C, R, R) and their labels, (B,) or (B, classes), and gives the loss, on the device."""
WARM = 3  # steps that run as they are: libraries choose their kernels, and all that is kept gets its memory
_refused: list[str] = []  # why steps are not captured in this process, once one could not be


class NotCaptured(Notice):
    """A step could not be captured as a CUDA graph, and runs as it is."""


class CapturedStep:
    """`step`, whose first steps run as they are and whose others are replays of a graph of it.

    It must not read anything back from the card, and must take what changes from step to step, the learning rate too,
    from tensors. A batch of another shape than the one that was captured runs as it is. What it gives is overwritten by
    the next step. Raises torch.OutOfMemoryError.
    """

    def __init__(self, step: Step) -> None:
        self.step, self.before = step, 0
        self.aside = torch.cuda.Stream()
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, x: Tensor, answers: Tensor) -> Tensor:
        if self.graph is None and not _refused and self.before >= WARM:
            self._capture(x, answers)
        if self.graph is None or x.shape != self.x.shape:
            self.before += 1
            return self._as_it_is(x, answers)
        self.x.copy_(x)
        self.answers.copy_(answers)
        self.graph.replay()
        return self.loss

    def _as_it_is(self, x: Tensor, answers: Tensor) -> Tensor:
        """On a stream of its own, as what is captured later has to be."""
        usual = torch.cuda.current_stream()
        self.aside.wait_stream(usual)
        with torch.cuda.stream(self.aside):
            loss = self.step(x, answers)
        usual.wait_stream(self.aside)
        return loss

    def _capture(self, x: Tensor, answers: Tensor) -> None:
        """Captures a step; nothing is trained by that."""
        self.x, self.answers = x.clone(), answers.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self.aside):
                self.loss = self.step(self.x, self.answers)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # of CUDA and of torch: they have no class of their own for it
            _refused.append(str(error).splitlines()[0])
            warnings.warn(f"steps run without CUDA graphs, slower: {_refused[0]}", NotCaptured, stacklevel=2)
            return
        self.graph = graph
