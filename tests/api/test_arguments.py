"""Every public function with each argument wrong: one `nas.Error`: rule, value, way out, before anything runs."""

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FixedTrial

import nas
from nas.api.arguments import RANGES

NUMBERS: list[Any] = [math.nan, -1, "5", True, [], 10**40, None]
LIMITED: list[Any] = [math.nan, -1, "5", [], 10**40, math.inf]
TEXTS: list[Any] = [3, b"digits", [], "", " ", "a\0b", None]
PATHS: list[Any] = [3, 1.5, [], "", "a\0b", "x" * 5000]
SWITCHES: list[Any] = ["yes", 1, None, math.nan]
FUNCTIONS: list[Any] = ["f", 3, []]
NETWORKS: list[Any] = [3, None, "", "no-such-net", "x" * 5000, "runs/none", Path("no.json"), object(), "a\0b"]
RUNS: list[Any] = [3, "", "runs/none", Path("none"), object(), "x" * 5000]
BUDGETS: list[Any] = [12, [25], [], "", "fast", "0MFLOPs", "-5MFLOPs", "25", object(), "5MFLOPs,", "x" * 5000]
SPACES: list[Any] = [3, None, "", "lowre", object(), [], {}, {"a": 1}, "no.py:S", ":", "x" * 5000, (1, 2)]
ANCHORS: list[Any] = [3, "lowres-mobilenet", ["no-such-net"], [3], [None]]
ASKED = {"budget": "2MFLOPs", "trials": 1, "workers": 1}
RUN = {
    "run": PATHS,
    "resume": RUNS,
    "device": [3, b"cpu", [], "", "gpu", "here", "mps"],
    "workers": [*LIMITED, 0, 1.5],
    "seed": [*NUMBERS, 1.5],
    "flip": SWITCHES,
    "resolution": [*LIMITED, 0, 7, 1024, 32.5],
    "groups": [3, "", r"(\d+)"],  # for folders alone
    "skip_bad": [*SWITCHES, True],
    "channels": [*LIMITED, 0, 2, 4],
    "read": FUNCTIONS,
    "dataset": [*TEXTS, "cifar", "folder:", "folder:/no/such"],
    "data": PATHS[:-1],
    "started": FUNCTIONS,
    "watch": FUNCTIONS,
}
WRONG: dict[str, tuple[dict[str, Any], dict[str, list[Any]]]] = {
    "search": (
        ASKED,
        RUN
        | {
            "space": SPACES,
            "budget": [*BUDGETS, None],
            "evaluate": [*FUNCTIONS, lambda network: 1.0, lambda: 1.0],
            "anchors": ANCHORS,
            "start": [3, "lowres-mobilenet", *([one] for one in NETWORKS if one != "")],
            "warm_start": RUNS,
            "trials": [*LIMITED, 0, 1.5],
            "objective": [*TEXTS, "macs", "accuracy,speed"],
            "sampler": [*TEXTS, "luck", "no.module:S", "optuna:create_study"],
            "reproducible": [3, "yes", []],
            "balance": SWITCHES,
            "rungs": [*NUMBERS, 0, 2],  # 2: only for an evaluate
            "wave": [*LIMITED, 0],
            "cost": [*FUNCTIONS, lambda: 1, lambda network: math.nan, lambda network: "1", lambda network: -1],
            "latency": FUNCTIONS,
            "measure_device": [*TEXTS, "elsewhere"],
            "measure_command": [3, "", "python agent.py"],
            "measure_runtime": [*TEXTS, "tensorrt", "torch"],  # torch: nothing asks for latency
            "measure_threads": [*NUMBERS, 0, 2],  # 2: as above
            "measure_batch": [*NUMBERS, 0, 2],
            "ray_address": [3, ""],
            "cpus": [*NUMBERS[:-1], None],
            "gpus": LIMITED,
            "time_limit": [math.nan, -1, "5", "", [], "1d"],
            "trial_timeout": [math.nan, -1, "5", "", [], "1d"],
            "callbacks": [3, [3], ["f"]],
            "log": [3, "", "excel"],
            "halt": [3, "now", object()],
        },
    ),
    "calibrate": (
        {"budget": "2MFLOPs", "workers": 1},
        RUN
        | {
            "trained": ["runs/none", [3], ["runs/none", "runs/no", "runs/neither"], 3],
            "budget": [*BUDGETS, None],
            "space": SPACES,
            "networks": [*NUMBERS, 2],
            "proxies": [3, [3], ["proxi"], "proxy"],
            "images": [*NUMBERS, 0],
            "epochs": [*NUMBERS, 0],
            "halt": [3, object()],
        },
    ),
    "train": (
        {"network": "lowres-mobilenet", "dataset": "digits", "epochs": 1, "workers": 1},
        {name: wrong for name, wrong in RUN.items() if name != "dataset"}
        | {
            "network": [*NETWORKS, "mobilenetv2"],
            "dataset": [3, b"", [], "", "cifar", "folder:/no/such"],
            "recipe": [*TEXTS, "slow"],
            "epochs": [*LIMITED, 0],
            "batch": [*LIMITED, 0, 1_000_000],
            "balance": SWITCHES,
            "decay": [3, "", "some"],
            "seeds": [*NUMBERS, 0],
            "all_images": SWITCHES,
            "teacher": [*PATHS[:-1], "none.safetensors"],
        },
    ),
    "export": (
        {"network": "runs/none"},
        {
            "network": [*NETWORKS, "lowres-mobilenet"],
            "weights": [3, "", "none.safetensors"],
            "formats": [3, [3], "pdf", [], ""],
            "to": PATHS[:-1],
            "dataset": [3, ""],
            "data": PATHS[:-1],
            "int8_loss": [*NUMBERS, 101],
            "seconds": NUMBERS,
            "started": FUNCTIONS,
            "watch": FUNCTIONS,
        },
    ),
    "images": (
        {"x_train": np.zeros((4, 8, 8, 3), np.uint8), "y_train": [0, 1, 0, 1]},
        {
            "x_train": [
                3,
                None,
                "x",
                np.zeros((4, 8, 8, 3)),
                np.zeros((4, 8), np.uint8),
                np.zeros((4, 8, 8, 5), np.uint8),
            ],
            "y_train": [3, "x", [0.5] * 4, [0, 1], [0, 1, 0, -1], np.zeros((4, 2), int)],
            "x_test": [3, np.zeros((4, 8, 8, 3), np.uint8)],
            "y_test": [[0, 1]],
            "classes": [3, ["a"], [1, 2]],
        },
    ),
    "predict": (
        {"network": "runs/none", "pictures": "none.jpg"},
        {"network": NETWORKS, "pictures": [3, None, [], [3], "none.jpg"], "top": [*NUMBERS, 0], "skip_bad": SWITCHES},
    ),
    "load": ({"network": "runs/none"}, {"network": NETWORKS, "weights": [3, "", "none.safetensors"]}),
    "measure": (
        {"networks": "lowres-mobilenet"},
        {
            "networks": [*NETWORKS, [3], ["no-such-net"], []],
            "anchors": SWITCHES,
            "resolution": [*LIMITED, 0],
            "runtime": [*TEXTS, "tensorrt"],
            "device": [*TEXTS, "elsewhere"],
            "measure_command": [3, "", "python agent.py"],
            "reference": [*TEXTS, "no-such-net"],
            "threads": [*NUMBERS, 0],
            "batch": [*NUMBERS, 0],
            "seconds": [*NUMBERS, 0],
            "precision": [*NUMBERS, 0, 2],
            "timeout": [*NUMBERS, 0],
            "energy": SWITCHES,
            "keep": [*SWITCHES, True],  # True: no folder of a training
            "write_layers": PATHS[:-1],
            "table": [*PATHS[:-1], "none.csv"],
            "started": FUNCTIONS,
            "watch": FUNCTIONS,
            "measured": FUNCTIONS,
        },
    ),
    "profile": (
        {"network": "lowres-mobilenet"},
        {
            "network": NETWORKS,
            "resolution": [*LIMITED, 0],
            "classes": [*LIMITED, 0],
            "channels": [*LIMITED, 0, 2],
            "check": SWITCHES,
        },
    ),
    "diagram": ({"network": "lowres-mobilenet"}, {"network": NETWORKS, "to": [*PATHS, "picture.gif"]}),
    "anchors": ({}, {"resolution": [*LIMITED, 0]}),
    "projections": ({"space": "lowres"}, {"space": [*SPACES, {"a": [1, 2]}], "resolution": [*LIMITED, 0]}),
    "space": (
        {"name": "lowres"},
        {
            "name": [*SPACES, {"a": [1, 2]}],
            "budget": [*BUDGETS, "1ms"],
            "resolution": [*LIMITED, 0],
            "write": [*PATHS, "my_space.py"],
        },
    ),
    "suggest": ({"trial": FixedTrial({})}, {"trial": [3, None, "x"], "space": SPACES}),
    "show": ({}, {"run": RUNS}),
    "compare": ({}, {"runs": [[run] for run in RUNS] + ["runs/none", 3, None]}),
    "importance": ({"runs": []}, {"runs": [[run] for run in RUNS] + ["runs/none", 3, None], "axes": ["yes", 1]}),
    "report": ({"runs": "runs/none"}, {"runs": [*RUNS, [], ["runs/none"]], "to": PATHS, "small": SWITCHES}),
    "dashboard": ({"run": "runs/none"}, {"run": RUNS, "port": [*NUMBERS, 0, 65536]}),
    "cost": ({}, {"arch": [None, 3, "lowres-mobilenet", object()]}),
    "arch_id": ({}, {"arch": [None, 3, "lowres-mobilenet", object()]}),
}
CASES = [
    pytest.param(function, usual, name, value, id=f"{function}-{name}-{str(value)[:20]!r}")
    for function, (usual, arguments) in WRONG.items()
    for name, values in arguments.items()
    for value in values
]


@pytest.mark.parametrize(("function", "usual", "name", "value"), CASES)
def test_a_wrong_argument_is_one_error(here: Path, function: str, usual: dict[str, Any], name: str, value: Any) -> None:
    before = set(here.rglob("*"))
    with pytest.raises(nas.Error) as raised:
        getattr(nas, function)(**(usual | {name: value}))
    assert 10 < len(str(raised.value)) < 1500 and "\n" not in str(raised.value)
    assert set(here.rglob("*")) == before, "nothing is begun"


def test_every_argument_of_every_function_is_in_the_table() -> None:
    functions = {name for name in nas.__all__ if inspect.isfunction(getattr(nas, name))} - {"of", "one_of"}
    assert set(WRONG) == functions
    for function, (_, arguments) in WRONG.items():
        assert set(inspect.signature(getattr(nas, function)).parameters) == set(arguments), function


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: nas.Budget(macs="5"), "macs of a budget must be a whole number above 0, got '5'"),  # type: ignore
        (lambda: nas.Budget(macs=-1), "above 0, got -1"),
        (lambda: nas.Budget(latency_ms=math.nan), "latency_ms of a budget must be a number above 0, got nan"),
        (lambda: nas.Budget(latency_ratio=1.0), "needs reference"),
        (lambda: nas.Arch(None, (), nas.Head()), "stem must be a Stem, got None"),  # type: ignore
        (lambda: nas.Arch(nas.Stem(8), [1], nas.Head()), "stages must be a tuple of Stages"),  # type: ignore
        (lambda: nas.Arch(nas.Stem("8"), (), nas.Head()), "stem.width must be a whole number"),  # type: ignore
        (lambda: nas.one_of(), "an axis needs different choices"),
        (lambda: nas.one_of(1, 1), "an axis needs different choices"),
    ],
)
def test_wrong_values(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(nas.Error) as raised:
        make()
    assert said in str(raised.value)


def test_an_unknown_argument_is_pythons_own_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        nas.search(trails=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("answer", [None, (1, 2), math.nan, math.inf, "0.5", [1.0], object(), True])
def test_what_an_evaluate_returns_is_looked_at_once(tmp_path: Path, answer: Any) -> None:
    asked = []

    def mine(network: Any, rung: int) -> Any:
        asked.append(network)
        return answer

    with pytest.raises(nas.Error, match=r"evaluate must return a finite number, but .*mine returned"):
        nas.search({"width": [8, 16]}, evaluate=mine)
    assert len(asked) == 1


def test_numbers_of_numpy_are_numbers() -> None:
    found = nas.search(
        {"width": [8, 16]},
        evaluate=lambda network, _: np.float32(network["width"]),
        trials=np.int64(2),
        seed=np.int32(1),
    )
    assert found.best and found.best.arch == {"width": 16} and type(found.plan.trials) is int


def test_each_quantity_has_one_range() -> None:
    for function in WRONG:
        for name, parameter in inspect.signature(getattr(nas, function)).parameters.items():
            if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool):
                assert name in RANGES, f"{name} of nas.{function} has no range"
