"""Muon: SGD whose steps for whole convolutions are made orthogonal.

Keller Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"
(https://kellerjordan.github.io/posts/muon/), as it is used for CIFAR-10 there: a kernel (out, in, k, k) is a matrix of
`out` rows, its gradient with Nesterov momentum is brought near the nearest orthogonal matrix by a few steps of a
Newton-Schulz iteration. `torch.optim.Muon` takes matrices alone; here kernels keep their shape, and all else is trained
by SGD in the same step.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from nas.networks.architecture import COLOUR
from nas.records.optimisers import Muon

Parts: TypeAlias = Sequence[tuple[Sequence[nn.Parameter], float]]
"""Parameters, and how much their weights decay."""
COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the iteration: the steepest at 0 that stays near 1


class MuonSGD(torch.optim.SGD):
    """SGD, but in groups that have "muon", the number of iterations, steps are made orthogonal before."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step. The gradients of those groups are changed by it."""
        for group in self.param_groups:
            for p in group["params"] if group.get("muon") else ():
                if p.grad is not None:
                    velocity = self.state[p].setdefault("velocity", torch.zeros_like(p.grad))
                    velocity.mul_(group["muon_momentum"]).add_(p.grad)
                    ahead = p.grad.add(velocity, alpha=group["muon_momentum"]).flatten(1)
                    scale = max(1.0, ahead.shape[0] / ahead.shape[1]) ** 0.5
                    p.grad.copy_(orthogonal(ahead, group["muon"]).mul_(scale).view(p.shape))
        return super().step(closure)


def orthogonal(matrix: Tensor, steps: int) -> Tensor:
    """(M, N) -> (M, N): its singular values brought near 1 by `steps` of a Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


def whole_kernels(model: nn.Module) -> list[Tensor]:
    """The kernels that Muon trains: of convolutions without groups and bias, but for those that see the image."""
    return [
        layer.weight
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.in_channels > COLOUR and layer.bias is None
    ]


def sgd(
    model: nn.Module, parts: Parts, muon: Muon | None, lr: float, momentum: float, nesterov: bool
) -> torch.optim.SGD:
    """SGD for `parts` of the parameters, each with its own weight decay; whole convolutions by `muon`, if given."""
    apart = dict.fromkeys(whole_kernels(model) if muon else ())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in part if p not in apart], "weight_decay": decay} for part, decay in parts
    ]
    if not muon:
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, foreach=True)
    ours = {"params": list(apart), "highest_lr": muon.lr, "weight_decay": 0.0, "momentum": 0.0, "nesterov": False}
    groups.append(ours | {"muon": muon.steps, "muon_momentum": muon.momentum})
    return MuonSGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, foreach=True)
