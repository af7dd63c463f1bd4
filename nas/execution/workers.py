"""Who trains: this process for one worker, Ray for several, for a cluster, for its GPUs."""

from collections.abc import Iterator
from contextlib import contextmanager

from nas.errors import Error
from nas.execution.cluster import LIMIT, SHARERS, RayWorkers, shared
from nas.execution.environment import cores
from nas.execution.jobs import Evaluate, Workers
from nas.execution.local import LocalWorkers


def check_workers(workers: int | None) -> None:
    """Raises Error where fewer workers than one are asked for."""
    if workers is not None and workers < 1:
        raise Error(f"workers must be at least 1, got {workers}")


def usual_number(cards: int, gpus: float | None, room: int = SHARERS) -> int:
    """How many workers a machine has where nobody says: one a core, but no more than its `cards` have room for.

    `gpus`: what each takes of the cards; None: its share of those there are, 0: none is used. `room`: how many the
    memory of a card has room for.
    """
    if not cards or gpus == 0:
        return cores()
    return max(1, min(cores(), int(cards / gpus))) if gpus else shared(cards, None, cores(), min(SHARERS, room))[0]


@contextmanager
def open_workers(
    evaluate: Evaluate,
    workers: int | None,
    ray_address: str | None = None,
    cpus: float = 1,
    gpus: float | None = None,
    limit: float = LIMIT,
    own_module: str | None = None,
    timeout: float | None = None,
) -> Iterator[Workers]:
    """Workers for as long as they are needed.

    `workers`: by default one a core. `timeout`: seconds after which a training is ended and has failed; a process of
    its own is needed for that, so Ray is begun for one worker too. The others: see `nas.execution.cluster.RayWorkers`.
    """
    check_workers(workers)
    if ray_address is None and (workers or cores()) == 1 and cpus == 1 and gpus is None and timeout is None:
        yield LocalWorkers(evaluate)
        return
    on_ray = RayWorkers(
        evaluate, workers, ray_address, cpus, gpus, timeout or limit, own_module, retries=timeout is None
    )
    try:
        yield on_ray
    finally:
        on_ray.close()
