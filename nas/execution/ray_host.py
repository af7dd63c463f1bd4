"""The process that talks to Ray, so that a Ray that dies takes this process with it and not the search.

Started by `cluster`, which sends jobs through a pipe and gets outcomes back; what networks and functions are is not
known here, they pass as bytes. It ends with the process that started it.

    from `cluster`: (address, processors), evaluate; then (cpus, gpus); then ("run", key, job), ("end", key, None),
                    ("share", 0, gpus) and, at the end, ("leave", 0, None)
    to it: ("ready", cpus, gpus) or ("no", kind, text); then ("done", key, bytes), ("failed", key, text, refused, full)
"""

import logging
import os
import pickle
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

TICK = 0.2  # seconds between looks at the pipe, while nothing happens
PAUSE = 3.0  # seconds in which a process ends whose Ray has died


def main() -> None:
    """Serves the pipe whose file descriptor is the one argument, until it is closed."""
    pipe = Connection(int(sys.argv[1]))
    (address, processors), evaluate = pipe.recv()

    import ray

    try:
        ray.init(
            address=address or "local",
            num_cpus=None if address else processors,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # whatever it is, the search says it
        pipe.send(("no", type(error).__name__, str(error)))
        return
    held = ray.cluster_resources()  # type: ignore[no-untyped-call]
    pipe.send(("ready", held.get("CPU", 0), int(held.get("GPU", 0))))
    cpus, gpus = pipe.recv()
    # Ray begins a process for each task that takes of a GPU, and each needs seconds to import torch. Where there is one
    # GPU they serve on, as trainings give back its memory; one that has begun on a GPU cannot change to another.
    calls = 1 if held.get("GPU", 0) > 1 and gpus else 0
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, max_calls=calls)(_evaluated)
    shared, running = ray.put(evaluate), dict[Any, int]()
    while True:
        if not running or pipe.poll():
            try:
                what, key, *content = pipe.recv()
            except (EOFError, OSError):  # the search has ended
                break
            if what == "run":
                running[task.remote(shared, content[0], gpus > 0)] = key
            elif what == "end":
                for reference in [one for one, of in running.items() if of == key]:
                    ray.cancel(reference, force=True)
                    del running[reference]
            elif what == "share":
                task = task.options(num_gpus=content[0])
            else:  # "leave"
                break
            continue
        ready, _ = ray.wait(list(running), timeout=TICK)
        for reference in ready:
            pipe.send(_outcome(ray, reference, running.pop(reference)))
    ray.shutdown()


def _outcome(ray: Any, reference: Any, key: int) -> tuple[object, ...]:
    from nas.errors import Error

    try:
        return "done", key, ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        refused, full = isinstance(error.cause, Error), type(error.cause).__name__ == "OutOfMemoryError"  # torch's
        return "failed", key, str(error.cause) if refused else str(error), refused, full
    except ray.exceptions.OutOfMemoryError as error:
        return "failed", key, f"OutOfMemoryError: {str(error).splitlines()[0]}; take fewer --workers", False, False
    except ray.exceptions.RayError as error:  # the worker was killed, its node lost
        time.sleep(PAUSE)  # where that was the first sign that Ray dies, this process ends here
        return "failed", key, f"{type(error).__name__}: {error}", False, False


def _evaluated(evaluate: bytes, job: bytes, sees_gpus: bool) -> bytes:
    if not sees_gpus:  # Ray hides those of other workers, but none from a worker that takes none
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return pickle.dumps(pickle.loads(evaluate)(*pickle.loads(job), lambda _: None))


if __name__ == "__main__":
    main()
