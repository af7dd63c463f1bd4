"""Who proposes networks: Optuna samplers by name and by value; and ours for studies of a user's own."""

import inspect
import random
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from optuna.samplers import BaseSampler
from optuna.trial import BaseTrial

from nas.api.arguments import checked
from nas.api.resolve import RESOLUTION, SpaceLike, budget_of, fitted_space, space_of
from nas.api.space_files import loaded_module
from nas.api.user_functions import priced
from nas.errors import Error, shown
from nas.networks.graph import Cost
from nas.networks.space import Label, axes, draw
from nas.records.budget import Budget
from nas.records.plan import SAMPLERS
from nas.search_strategy.candidates import cheapest
from nas.search_strategy.gp_sampler import ProposerSampler, within
from nas.search_strategy.proposer import Proposer
from nas.search_strategy.study import Callback
from nas.search_strategy.study_proposer import MakeSampler


class GPSampler(ProposerSampler):
    """An Optuna sampler that proposes networks of `space` that keep `budget`, and promise most by the trials so far.

        study = optuna.create_study(sampler=nas.GPSampler("lightweight", "25MFLOPs"), direction="maximize")
        study.optimize(lambda trial: train(nas.suggest(trial, "lightweight")), n_trials=50)

    A Gaussian process learns from the study's values, and from intermediate values where there are some, and knows a
    network by its choices and by what can be counted on paper. Nothing over the budget is proposed, and nothing twice.
    What is no axis of the space is left to chance. `cost`: what a network of your own costs, a `Cost` or a number of
    MACs. `batch`: networks that are proposed together: 8 take little longer than one. Raises Error where nothing keeps
    the budget.
    """

    @checked
    def __init__(
        self,
        space: SpaceLike = "lightweight",
        budget: str | Sequence[str] | Budget | None = None,
        *,
        cost: Callable[[Any], Cost | float] | None = None,
        seed: int = 0,
        batch: int = 1,
    ) -> None:
        where = fitted_space(space_of(space))
        limits = Budget() if budget is None else budget_of(budget, RESOLUTION, 10)
        if limits.timed:
            raise Error(f"budget {limits} limits latency, which nothing measures in a study of your own; leave it out")
        costs = priced(cost, limits)
        cheapest(where, limits, random.Random(seed), costs)  # raises where nothing keeps the budget
        super().__init__(Proposer(where, limits, costs, seed), batch)


@checked
def suggest(trial: BaseTrial, space: SpaceLike = "lightweight") -> Any:
    """The network of `space` that `trial` of an Optuna study suggests, whatever its sampler; on 32x32 images, where it
    is an `Arch`. Raises Error where the study's sampler is a `GPSampler` of another space."""
    where = fitted_space(space_of(space))
    names = axes(where)
    sampler = getattr(getattr(trial, "study", None), "sampler", None)  # trials that have ended have no study
    if isinstance(sampler, ProposerSampler) and sampler.proposer.axes != names:
        raise Error(
            f"the study's GPSampler is of space {sampler.proposer.space.name}, not {where.name}: name one space"
        )

    def pick(name: str, labels: Sequence[Label]) -> Label:
        return within(trial.suggest_categorical(name, names[name]), names[name], labels)

    return draw(where, pick)


LOGS = {"mlflow": "mlflow", "wandb-offline": "wandb"}
"""What a search can be followed in beside optuna-dashboard, by Optuna's own callbacks, and the package it needs."""


def check_log(log: str | None) -> None:
    """Raises Error where `log` is none of LOGS, or what it needs is not installed."""
    if log is not None and log not in LOGS:
        raise Error(f"log {shown(log)} is unknown; one of {', '.join(LOGS)}")
    missing = [name for name in ("optuna_integration", LOGS[log]) if not find_spec(name)] if log else []
    if log and missing:
        raise Error(f"log {log} needs {' and '.join(missing)}; pip install optuna-integration {LOGS[log]}")


def loggers(log: str | None, folder: Path) -> list[Callback]:
    """Optuna's callback for `log`, which writes into the run's folder; none where nothing is asked."""
    if log is None:
        return []
    import optuna_integration

    if log == "mlflow":
        return [optuna_integration.MLflowCallback(f"sqlite:///{folder.absolute()}/mlflow.db")]
    settings = {"mode": "offline", "dir": str(folder), "project": "nas", "group": folder.name}
    return [optuna_integration.WeightsAndBiasesCallback(wandb_kwargs=settings, as_multirun=True)]


def sampler_of(sampler: Any) -> tuple[str, MakeSampler | None]:
    """What a sampler is called in a plan, and, where it is none of ours, what makes it by a seed.

    `sampler`: one of SAMPLERS; MODULE:NAME or FILE.py:NAME; or a sampler of Optuna's kind, or its class. Raises Error
    where it is none.
    """
    if isinstance(sampler, str):
        if ":" not in sampler:
            return sampler, None  # the plan refuses it where it is unknown
        name = sampler.rpartition(":")[2]
        module, called = loaded_module(sampler, "sampler"), sampler
        if not hasattr(module, name):
            raise Error(f"sampler {sampler!r}: there is no {name} in it")
        sampler = getattr(module, name)
    else:
        cls = sampler if inspect.isclass(sampler) else type(sampler)
        called = f"{cls.__module__}:{cls.__qualname__}"
    if isinstance(sampler, BaseSampler):
        return called, lambda _seed: sampler
    if inspect.isclass(sampler) and issubclass(sampler, BaseSampler):
        made: Any = sampler
        missing = [p.name for p in inspect.signature(made).parameters.values() if p.default is p.empty and p.kind < 2]
        if missing:
            raise Error(f"sampler {called} needs {missing[0]}; make one, and give it as a value")
        seeded = "seed" in inspect.signature(made).parameters
        return called, (lambda seed: made(seed=seed)) if seeded else (lambda _seed: made())
    raise Error(
        f"sampler must be one of {', '.join(SAMPLERS)}, MODULE:NAME, or a sampler of Optuna's kind, got "
        f"{called if sampler is None else shown(sampler)}"
    )
