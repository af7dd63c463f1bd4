"""`nas.search`: the network with the best score under a budget, on a dataset or by a function of your own."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.api.arguments import checked
from nas.api.resolve import (
    Read,
    SpaceLike,
    absolute,
    checked_device,
    new_folder,
    seconds_of,
    space_of,
    workers_here,
)
from nas.api.search_tasks import Asked, Task, by_function, on_dataset, plan_on_paper, resumed_search
from nas.api.space_files import keep_source, module_name
from nas.api.starts import StartLike
from nas.api.user_functions import UserFunction
from nas.errors import Error
from nas.networks.architecture import Anchor, Arch
from nas.networks.graph import Cost
from nas.records.budget import Budget
from nas.records.pareto import front
from nas.records.plan import MEASURED_SECONDS, Meter, Plan, Reading, default_trials
from nas.records.run_folder import Run, create, open_run
from nas.records.search_files import read_trials
from nas.records.timing import Latency
from nas.reports.comparison import Result

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from nas.search_strategy.progress import Halt, Watch


@checked
def search(
    space: SpaceLike = "lightweight",
    budget: str | Sequence[str] | Budget | None = None,
    evaluate: UserFunction | None = None,
    *,
    dataset: str = "digits",
    data: str | Path | None = None,
    resolution: int | None = None,
    flip: bool = True,
    groups: str | None = None,
    skip_bad: bool = False,
    channels: int | None = None,
    balance: bool = False,
    anchors: Sequence[str | Anchor] | None = None,
    start: Sequence[StartLike] = (),
    warm_start: str | Path | None = None,
    trials: int | None = None,
    seed: int = 0,
    reproducible: bool | None = None,
    objective: str = "accuracy",
    sampler: "str | BaseSampler | type[BaseSampler]" = "gp",
    rungs: int = 1,
    wave: int | None = None,
    cost: Callable[[Any], Cost | float] | None = None,
    latency: Callable[[Any], Latency | float] | None = None,
    measure_device: str = "here",
    measure_command: str | None = None,
    measure_runtime: str = "onnxruntime",
    measure_threads: int = 1,
    measure_batch: int = 1,
    run: str | Path | None = None,
    resume: str | Path | None = None,
    device: str | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    cpus: float = 1.0,
    gpus: float | None = None,
    time_limit: float | str | None = None,
    trial_timeout: float | str | None = None,
    callbacks: Sequence[Callable[[Any, Any], None]] = (),
    log: str | None = None,
    halt: "Halt | None" = None,
    read: Read = lambda *_: None,
    started: Callable[[Path, Plan], None] = lambda *_: None,
    watch: "Watch" = lambda _: None,
) -> Result:
    """The result of searching `space` for the network with the highest score that keeps `budget`.

    Networks are trained on `dataset` by a short training, whose loss or validation accuracy ranks them; the test images
    are not read. Or `evaluate(network, rung)` scores a network, in `rungs` rungs: the better half of a wave goes on to
    each next one.

    What is searched. `space`: a name (see `nas.space`), FILE.py:NAME, a `Space`; or plain Python, see
    `nas.networks.plain_space`: a dict of choices, a list of candidates. `budget`: as in "25MFLOPs,1.5ms", see
    `nas.records.budget.BUDGET_HELP`; only an `evaluate` needs none. `anchors`: published networks, by name or as an
    `Anchor`, that are tried first; the first of them goes through all rungs. By default those made for such images,
    and none for an `evaluate`. `start`: networks of your own that are tried with them: the file of an architecture, a
    run's folder, RUN/ID, an anchor's name or an `Arch`; with one that is no point of the space, or over the budget, the
    nearest point that keeps it. `warm_start`: the folder of an earlier search, trained and scored alike, whose trials
    the sampler knows from the beginning, and whose best three that keep the budget are tried. `cost`: what a network
    of your own costs, a `Cost` or a number of MACs, where a budget limits that; what an architecture costs is known.
    `objective`: "accuracy", or a front of it against costs: "accuracy,macs". `trials`: networks to train, anchors among
    them; by default 64, on digits 24. `sampler`: who proposes them, see `nas.records.plan.SAMPLERS`; or one of
    Optuna's kind, as a value or MODULE:NAME. `wave`: networks proposed before the result of any is used; 8, or 4 for
    an `evaluate`. `reproducible`: whether the trials are the same for the same `seed`, whoever trains what; else no
    worker waits for another, and they depend on who ended when. By default they are the same, but on a cluster and
    where there are more workers than a wave has networks.

    Data. `data`: the folder where the dataset lies; `resolution`: side of the images, by default 32, and of a folder's
    pictures what fits them; `channels`: 1 (gray) or 3, by default as they are; `flip`: whether images are mirrored in
    training; `balance`: whether each class counts alike in the loss, however many images it has. Of a folder's
    pictures, `groups`: a pattern with one capture; pictures of which it captures the same are never on two sides of a
    split. `skip_bad`: whether files that cannot be read are left out. `read` hears of pictures that are decoded.

    Latency, where `budget` or `objective` asks for it, is measured in turn with the anchor that `budget` names, or the
    first: on `measure_device` ("here", "ray:NAME", or what `measure_command` reaches), by `measure_runtime` (see
    `nas.measure`; "cuda": this machine's GPU), on `measure_threads` threads, `measure_batch` images at a time. Or
    `latency(network)` gives milliseconds.

    The run. `run`: the folder that keeps all of it, and is resumed where it exists, also with more `trials`; by default
    a new one in runs/, or none for an `evaluate`. `resume`: the folder of a search that is resumed as it was begun.
    `device`: where networks train, "cuda", "mps" or "cpu"; by default the first of them that there is.
    `workers`: trainings side by side, by Ray where there are several; by default one a core, on GPUs as many as have
    room on them, and one for an `evaluate`. `ray_address`: a running cluster; `cpus`, `gpus`: what a worker takes, of
    which `gpus=0.25` is a quarter of one. `time_limit`: seconds, or "30m".
    `trial_timeout`: the same for one training of a network, through a rung: it is ended then, and has failed.
    `callbacks`: functions of Optuna's kind, called with the study and each trial that has ended; `log`: one of
    `nas.api.samplers.LOGS`, into the run's folder. `halt`: an object whose `asked` ends the search after the trainings
    under way. `started` is called with the folder and the plan as soon as they are on disk, `watch` with the progress.

    Raises Error where the request cannot be met, RunFailed after three failures in a row.
    """
    from nas.api.samplers import check_log, loggers, sampler_of
    from nas.execution.workers import check_workers, open_workers
    from nas.search_strategy.progress import Halt

    check_workers(workers)
    checked_device(device)
    check_log(log)
    if measure_runtime.startswith("cuda"):
        checked_device("cuda")
    if evaluate and device:
        raise Error("device is for a dataset: an evaluate trains networks where it likes")
    if device is None and gpus == 0:
        device = "cpu"
    if device == "cpu" and gpus:
        raise Error(f"device is cpu, and gpus={gpus} of a GPU are asked for a worker; leave out one")
    timeout = None if trial_timeout is None else seconds_of(trial_timeout)
    halt = halt or Halt()
    if not isinstance(halt, Halt):
        raise Error(f"halt of nas.search must be a nas.Halt, got {halt!r}")
    halt.deadline = min(halt.deadline, time.monotonic() + seconds_of(time_limit))
    meter = Meter(
        "", measure_device, measure_command, measure_runtime, measure_threads, measure_batch, MEASURED_SECONDS
    )
    if resume is not None:
        task = resumed_search(Path(resume), space, data, trials, device)
        called, own_sampler = sampler_of(sampler if sampler != "gp" else task.plan.sampler)
    else:
        called, own_sampler = sampler_of(sampler)
        where = space_of(space)  # once: a file is run for it
        names = tuple(objective.replace(" ", "").split(","))
        networks = default_trials(dataset) if trials is None else trials
        earlier = None if warm_start is None else Path(warm_start)
        reading = Reading(groups or "", skip_bad, channels or 0)
        asked = Asked(
            budget, networks, seed, names, called, resolution, flip, reading, balance, reproducible, tuple(start),
            earlier,
        )  # fmt: skip
        if evaluate and (resolution or groups or skip_bad or channels or balance):
            raise Error(
                "resolution, channels, groups, skip_bad and balance are for a dataset, evaluate scores networks itself"
            )
        if evaluate:
            task = by_function(asked, where, evaluate, rungs, wave, anchors or (), cost, latency, meter)
        elif rungs > 1:
            raise Error(f"rungs={rungs} is for an evaluate; networks that are trained here have those of nas search")
        else:
            plan = plan_on_paper(asked, where, absolute(dataset), anchors, wave, cost, latency, meter)
            task = on_dataset(plan, asked, where, data, anchors, cost, latency, meter, device, read)
    number = 1 if evaluate and workers is None else workers
    if number is None and ray_address is None:
        archs = [anchor.arch for anchor in task.anchors if isinstance(anchor.arch, Arch)]
        fit = [arch for arch in archs if task.plan.budget.keeps(task.costs(arch))]
        largest = max(fit, key=lambda arch: task.costs(arch).peak, default=None)
        number = workers_here(device, gpus, largest, task.plan.recipe.batch)
    if resume is None:
        many = ray_address is not None or (number or 0) > task.plan.wave
        task = replace(task, plan=_in_order(task.plan, reproducible, many))
    if device == "cpu" and number != 1:
        gpus = 0.0
    with _folder(task, run, resume, trials, reproducible) as (folder, plan):
        started(folder.path, plan)

        from nas.search_strategy.engine import search as run_engine  # heavy; what can be refused is refused by now

        own_module = module_name(task.space.name) if task.space.source else None
        with open_workers(task.score, number, ray_address, cpus, gpus, own_module=own_module, timeout=timeout) as pool:
            found = run_engine(
                plan, task.space, task.anchors, folder, pool, watch, halt, task.costs, task.restore, task.measure,
                own_sampler, [*callbacks, *loggers(log, folder.path)],
            )  # fmt: skip
        kept = folder.path if run or resume or task.about else None
    return Result(plan, tuple(found.trials), found.best, tuple(front(found.trials, plan.objective)), kept)


def _in_order(plan: Plan, reproducible: bool | None, many: bool) -> Plan:
    """`plan`, asynchronous or not; `many`: whether waves would leave workers idle.

    By default in waves where latency is measured on this machine, which must not train meanwhile.
    """
    here = plan.meter is not None and plan.meter.device == "here"
    return replace(plan, asynchronous=many and not here if reproducible is None else not reproducible)


@contextmanager
def _folder(
    task: Task, run: str | Path | None, resume: str | Path | None, trials: int | None, reproducible: bool | None
) -> Iterator[tuple[Run, Plan]]:
    """The folder that keeps the search, and its plan: a new one; or one that was begun with the same plan."""
    if resume is not None:
        yield Run(Path(resume)), task.plan
        return
    if run is None and not task.about:
        with tempfile.TemporaryDirectory() as staging:
            yield create(Path(staging) / "run", task.plan, task.earlier), task.plan
        return
    path = Path(run) if run is not None else new_folder(task.about)
    if not path.exists():
        folder = create(path, task.plan, task.earlier)
        keep_source(folder, task.space)

        from nas.api.loading import keep_split

        keep_split(folder, task.plan)
        yield folder, task.plan
        return
    yield _continued(path, task, trials, reproducible)


def _continued(path: Path, task: Task, trials: int | None, reproducible: bool | None) -> tuple[Run, Plan]:
    """The run in folder `path`, which was begun with the plan of `task` but for how many trials it was to have."""
    from nas.search_strategy.trial_log import extend_run

    folder, begun = open_run(path)
    plan = task.plan
    if plan.dataset:
        plan = replace(plan, recipe=begun.recipe)  # that of its day
    if begun.space_digest == task.space.old_digest:
        plan = replace(plan, space_digest=begun.space_digest)
    if reproducible is None:
        plan = replace(plan, asynchronous=begun.asynchronous)
    if not begun.images_digest:
        plan = replace(plan, images_digest="")
    if begun.reading.channels != plan.reading.channels:
        raise Error(
            f"{path} was begun on images of {begun.reading.channels} channels, these have {plan.reading.channels}; "
            f"go on with --channels {begun.reading.channels}"
        )
    if begun.space_digest not in (task.space.digest, task.space.old_digest):
        raise Error(
            f"{path} was begun in another space, {begun.space!r} as it was then; name another run, or put it back"
        )
    if problems := read_trials(folder, task.restore)[1]:
        raise Error(f"{problems[0]}; the other trials stay: delete that line to go on without it")
    if trials is None:
        plan = replace(plan, trials=begun.trials)
    if replace(begun, trials=plan.trials) == plan and plan.trials > begun.trials:
        extend_run(folder, plan.trials, sum(plan.budget.keeps(task.costs(anchor.arch)) for anchor in task.anchors))
    elif begun != plan:
        raise Error(f"{path} was started with another plan; name another run, or ask for what it was started with")
    return folder, plan
