"""The command line as a user meets it, in processes of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from nas.cli.app import app
from nas.networks.architecture import Arch, Head, Stage, Stem, arch_id, cost
from nas.networks.blocks import ShuffleV2
from nas.networks.space import fitted
from nas.records.budget import Budget
from nas.records.run_folder import Run, create, write_best
from nas.records.search_files import append_trial
from nas.records.trial import Trial
from nas.reports import tables
from nas.serialization import to_json
from search_spaces import ANCHORS, LOWRES
from tests.conftest import COMMAND, plan_for
from tests.records.test_run_folder import trial


def nas(*args: str | Path, program: Sequence[str] = COMMAND) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # two threads would fight with whatever else runs
    command = [sys.executable, *program, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)


@dataclass(frozen=True)
class Called:
    """What a command printed and returned."""

    returncode: int
    stdout: str
    stderr: str


def nas_here(*args: str | Path) -> Called:
    """The command in this process, which has loaded all already; for what is no matter of processes."""
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Called(done.exit_code, done.stdout, done.stderr)


def entries(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "budget is missing; a budget is a number and a unit"),
        (("--budget", "25MFLOP5"), "budget '25MFLOP5' is not understood"),
        (("--budget", "lowres-mobilnet"), "budget 'lowres-mobilnet' is not understood; did you mean lowres-mobilenet?"),
        (
            ("--budget", "10KBpeak"),
            "no network of space lightweight keeps the budget 10KBpeak: the smallest has 24,576",
        ),
        (("--budget", "-25MFLOPs"), "budget '-25MFLOPs' must allow at least 1"),
        (("--budget", "25MFLOPs", "--dataset", "cifar11"), "dataset 'cifar11' is unknown; one of digits, cifar10"),
        (("--budget", "25MFLOPs", "--space", "lite"), "space 'lite' is unknown; one of lightweight, lowres"),
        (("--budget", "25MFLOPs", "--trials", "0"), "trials must be at least 1, got 0"),
        (("--budget", "25MFLOPs", "--run", "../x"), "run '../x' must be a plain name"),
        (("--budget", "25MFLOPs", "--run", "taken"), "runs/taken exists already"),
        (("--budget", "25MFLOPs", "--dataset", "cifar10", "--data", "."), "--data DIR, the folder that holds"),
        (("--budget", "25MFLOPs", "--data", "."), "dataset digits takes no --data"),
        (("--budget", "25MFLOPs", "--dataset", "folder:x"), "/x is no folder; give one that holds pictures in folders"),
        (("--budget", "0.5MFLOPs", "--dataset", "cifar10"), "no network of space lightweight keeps the budget"),
        (
            ("--budget", "0.5MFLOPs"),
            "no network of space lightweight keeps the budget 500KFLOPs: the smallest has 829,4",
        ),
        (("--budget", "1KParams", "--space", "lowres"), "no network of space lowres keeps the budget 1KParams"),
        (("--budget", "25MFLOPs,0ms"), "budget '0ms' must be above 0"),
        (("--budget", "25MFLOPs,mobilenetv2:ms"), "is a network for 224x224, not 32; did you mean mobilenetv2-32"),
        (("--budget", "25MFLOPs,1ms", "--measure-device", "pi"), "device 'pi' is reached by --measure-command"),
        (("--budget", "25MFLOPs,1ms", "--measure-command", "x"), "--measure-command needs a name"),
        (("--budget", "25MFLOPs", "--device", "pi"), "device 'pi' is unknown; networks train on one of cuda, mps, cpu"),
        (("--budget", "25MFLOPs", "--measure-threads", "2"), "measured where --budget or --objective asks for it"),
        (("--resume", "nowhere"), "nowhere is no run"),
        (("--resume", "runs/taken"), "runs/taken is no run"),
        (("--resume", "runs/taken", "--budget", "1MFLOPs"), "leave out --budget"),
    ],
)
def test_bad_requests_get_one_line_and_leave_nothing(here: Path, args: tuple[str, ...], message: str) -> None:
    (here / "runs" / "taken").mkdir(parents=True)
    before = entries(here)
    ended = nas_here("search", *args)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("nas: error: ") and ended.stderr.count("\n") == 1, ended.stderr
    assert message in ended.stderr
    assert ended.stdout == ""
    assert entries(here) == before


def broken_run(here: Path, digest: str | None = None) -> Path:
    where = fitted(LOWRES, 32, 10)
    plan = plan_for(Budget(macs=25_000_000), where)
    path = here / "runs" / "a"
    run = create(path, plan)
    if digest:
        (path / "plan.json").write_text(to_json(plan).replace(plan.space_digest, digest))
    for index in range(3):
        append_trial(run, trial(index))
    return path


def test_a_run_of_another_space_is_not_resumed(here: Path) -> None:
    path = broken_run(here, digest="0" * 12)
    append_trial(Run(path), replace(trial(3), choices={"stages.0.width": 12}))
    ended = nas("search", "--resume", path)
    assert ended.returncode == 2
    assert "was made with another version of space lowres" in ended.stderr and ended.stderr.count("\n") == 1
    assert f"--warm-start {path}" in ended.stderr


def test_a_corrupted_plan_is_said_with_its_place(here: Path) -> None:
    path = broken_run(here)
    (path / "plan.json").write_text((path / "plan.json").read_text().replace('"seed": 0', '"seed": "x"'))
    for command in (("search", "--resume"), ("show",)):
        ended = nas(*command, path)
        assert ended.returncode == 2
        assert "plan.json.seed must be of type int, got 'x'" in ended.stderr and ended.stderr.count("\n") == 1


def test_corrupted_trials_stop_a_resume_and_stay_readable(here: Path) -> None:
    path = broken_run(here)
    file = path / "trials.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + lines[1].replace('"state": "complete"', '"state": "done"') + lines[2])
    kept = file.read_text()
    ended = nas("search", "--resume", path)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert "line 2 is no trial: state must be one of" in ended.stderr
    assert "the 2 other trials are readable and stay" in ended.stderr
    assert file.read_text() == kept
    shown = nas("show", path, "--json")
    assert shown.returncode == 0 and "line 2 is no trial" in shown.stderr
    assert [t["index"] for t in json.loads(shown.stdout)["trials"]] == [0, 2]


def test_what_only_shows_imports_nothing_heavy() -> None:
    runs = Path(__file__).parents[2] / "runs"
    code = f"""
import sys
from nas.cli.app import app
search, training = {str(runs / "cifar10-fast-0")!r}, {str(runs / "cifar10-fast-0-cifar10-quick")!r}
for args in ("--help", "search --help", "show --help", "--version", "anchors", "profile lowres-mobilenet",
             "show " + search, "show " + training, "compare " + search + " " + training):
    try:
        app(args.split())
    except SystemExit as error:
        assert not error.code, error.code
heavy = sorted({{"torch", "torchvision", "optuna", "sklearn", "scipy", "numpy"}} & set(sys.modules))
assert not heavy, heavy
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Example: nas search --budget 25MFLOPs --dataset cifar10" in ended.stdout


@pytest.mark.slow
def test_a_search_of_digits_and_its_result(here: Path) -> None:
    ended = nas("search", "--budget", "3MFLOPs", "--trials", "2", "--run", "tiny", "--space", "lowres", "--json")
    assert ended.returncode == 0, ended.stderr
    assert "wave 1, trial" in ended.stderr
    result = json.loads(ended.stdout)
    assert result["run"] == "runs/tiny" and result["beats_baseline"] is None
    anchors = [t for t in result["trials"] if t["anchor"]]
    assert len(anchors) > 20 and {t["state"] for t in anchors} == {"refused"}
    assert anchors[0]["anchor"] == "lowres-mobilenet"
    assert sorted(t["state"] for t in result["trials"] if not t["anchor"]) == ["complete", "pruned"]
    assert {p.name for p in (here / "runs" / "tiny").iterdir()} >= {"plan.json", "study.log", "trials.jsonl", "best"}
    best = json.loads((here / "runs" / "tiny" / "best" / "arch.json").read_text())
    assert best == result["best"]["arch"]
    shown = nas_here("show", "runs/tiny", "--json")
    assert json.loads(shown.stdout) == result
    table = nas_here("show", "runs/tiny").stdout
    assert f"{result['best']['cost']['peak'] / 1024:.0f} KB" in table
    assert "Over the budget, not trained: lowres-mobilenet, " in table and result["best"]["arch_id"] in table
    assert "multiply-accumulates" in table and "288 validation images" in table
    # Resumed when it is done already, it trains nothing and says the same.
    again = nas_here("search", "--resume", "runs/tiny", "--workers", "1", "--json", "--quiet")
    assert json.loads(again.stdout) == result and again.stderr == ""
    # With more trials, it goes on after them; with fewer, nothing is touched.
    fewer = nas_here("search", "--resume", "runs/tiny", "--trials", "1")
    assert fewer.returncode == 2 and "is to train 2 networks, 1 are fewer" in fewer.stderr
    alone = ("--workers", "1", "--json", "--quiet")
    more = json.loads(nas_here("search", "--resume", "runs/tiny", "--trials", "3", *alone).stdout)
    assert more["trials"][: len(result["trials"])] == result["trials"]
    assert sum(trial["state"] != "refused" for trial in more["trials"]) == 3


def test_the_table_compares_with_the_baseline(here: Path) -> None:
    path = here / "runs" / "a"
    run = create(path, plan_for(Budget(macs=25_000_000)))
    made: list[Trial] = [trial(0, 50.0), trial(1, 52.5), trial(2, 50.0)]
    names = ["lowres-mobilenet", None, "tailored-mobilenetv2"]
    for one, name in zip(made, names, strict=True):
        append_trial(run, replace(one, anchor=name))
    table = nas("show", path).stdout
    assert "beats it, +2.50" in table and "the baseline" in table and "equal" in table
    assert (
        "Trained on 384 images (0.01 T images x MACs) in 0.1 worker-minutes, 128 images a second and worker." in table
    )
    assert set(names[::2]) <= set(ANCHORS)


def test_what_sets_the_best_network_apart_is_told(here: Path) -> None:
    run = create(here / "runs" / "a", plan_for(Budget(macs=25_000_000)))
    first = trial(0, 50.0)
    arch = replace(first.arch, stages=(*first.arch.stages[:-1], replace(first.arch.stages[-1], depth=2)))
    choices = first.choices | {"stages.4.depth": 2}
    best = replace(trial(1, 52.0), arch=arch, arch_id=arch_id(arch), cost=cost(arch), choices=choices, anchor=None)
    append_trial(run, replace(first, anchor="lowres-mobilenet"))
    append_trial(run, best)
    write_best(run, best)
    assert f"{best.arch_id} is lowres-mobilenet but for stages.4.depth 2 (3)." in nas("show", run.path).stdout


def test_profile_without_building(here: Path) -> None:
    printed = nas("profile", "lowres-mobilenet", "--json")
    assert printed.returncode == 0, printed.stderr
    result = json.loads(printed.stdout)
    assert result["totals"]["macs"] == sum(row["macs"] for row in result["layers"]) == 24_084_544
    assert result["totals"]["torchstat"] == sum(row["flops"] for row in result["layers"]) == 25_463_872
    assert [cell["ours"] for cell in result["anchor"]["cells"]] == ["0.36M", "25.46M", "12.46MB"]
    assert "multiply-accumulates" in result["flops"]
    table = nas("profile", "lowres-mobilenet").stdout
    assert "24,084,544  MACs" in table and "25.46M  FLOPs in" in table and "stage1.block0" in table
    (here / "arch.json").write_text(json.dumps(result["arch"]))
    again = json.loads(nas("profile", "arch.json", "--json").stdout)
    assert again["totals"]["macs"] == 24_084_544 and again["anchor"] is None
    larger = json.loads(nas("profile", "mobilenetv2", "--resolution", "32", "--classes", "10", "--json").stdout)
    assert (larger["totals"]["params"], larger["totals"]["macs"]) == (2_236_682, 6_124_928)
    assert larger["anchor"] is None  # what the paper prints is for other images
    layers = nas("profile", "lowres-mobilenet", "--layers").stdout
    assert "stage1.block1.depthwise.k13" in layers and "BatchNorm2d" in layers


def test_profile_builds_and_counts_again_when_told(here: Path) -> None:
    ended = nas("profile", "squeezenet-32", "--check")
    assert ended.returncode == 0, ended.stderr
    assert "54,136,992 in closed form, 54,136,992 counted on the built model" in ended.stdout
    assert "thop: 26 of 26 convolutions and linear layers agree" in ended.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("dpnet",), "network 'dpnet' is unknown; did you mean dp-net?"),
        (("nowhere.json",), "nowhere.json cannot be read ([Errno 2] No such file or directory"),
        (("runs",), "runs/best/arch.json cannot be read"),
        (("",), "network '' is unknown"),
        (("a" * 300,), "must have parts of at most 200 letters"),
        (("latin.json",), "latin.json cannot be read ('utf-8' codec"),
        (("dropout.json", "--check"), "head: dropout must be at least 0 and below 1"),
        (("broken.json",), "broken.json is not JSON"),
        (("other.json",), "other.json.stem is missing"),
        (("misfit.json",), "stages.0: width must be even for a shuffle block, got 117"),
        (("lowres-mobilenet", "--resolution", "0"), "resolution must be at least 8, got 0"),
        (("squeezenet", "--resolution", "8"), "does not fit a map of"),
    ],
)
def test_networks_that_cannot_be_profiled(here: Path, args: tuple[str, ...], message: str) -> None:
    (here / "runs").mkdir()
    (here / "broken.json").write_text("{")
    (here / "other.json").write_text("{}")
    misfit = Arch(Stem(16), (Stage(ShuffleV2(), 117, 1),), Head())
    (here / "misfit.json").write_text(to_json(misfit))
    (here / "latin.json").write_bytes(b"\xe9")
    (here / "dropout.json").write_text(to_json(Arch(Stem(16), (Stage(ShuffleV2(), 16, 1),), Head(dropout=2.0))))
    ended = nas_here("profile", *args)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("nas: error: ") and ended.stderr.count("\n") == 1, ended.stderr
    assert message in ended.stderr


def test_anchors_as_a_table_and_as_json(here: Path) -> None:
    table = nas("anchors").stdout
    for name in ANCHORS:
        assert f" {name} " in table
    assert "exact" in table and "within 1.7 %" in table and "interpretation" in table
    assert "dp-net: Table 1 to the letter; params are missed" in table
    rows = json.loads(nas("anchors", "--json").stdout)["anchors"]
    assert [row["name"] for row in rows] == list(ANCHORS)
    assert {row["name"]: row["totals"]["macs"] for row in rows}["ghostnet"] == 141_150_512


@pytest.mark.parametrize("width", [80, 110, 160])
@pytest.mark.parametrize(
    "args", [("anchors",), ("profile", "lowres-mobilenet"), ("profile", "inception-v3-32", "--layers")], ids=" ".join
)
def test_no_cell_of_a_table_is_cut(
    args: tuple[str, ...], width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "console_of", lambda _=0: Console(width=width))
    with pytest.raises(SystemExit):
        app(args)
    printed = capsys.readouterr().out
    assert "…" not in printed
    table = [line for line in printed.splitlines() if line.startswith(("│", "┃"))]
    assert len(table) > 10 and max(map(len, table)) <= width


def test_the_block_table_tells_each_pool_and_leaves_gates_out(here: Path) -> None:
    table = nas_here("profile", "squeezenet-32").stdout
    assert [f"stage{i}.block0 " in table for i in range(9)] == [True] * 9
    small = nas_here("profile", "mobilenetv2", "--resolution", "32").stdout
    assert "│ stage5.block1 │ 1x1, dw 3x3, 1x1 " in small  # on a map of 1x1
    gated = nas_here("profile", "mobilenetv3-large-32").stdout
    assert "│ stage3.block0" in gated and "1x1, 1x1, 1x1" not in gated


def test_what_is_our_reading_is_said(here: Path) -> None:
    assert "interpretation  our design from the paper's ingredients" in nas_here("profile", "hl-cnn").stdout
    row = {r["name"]: r for r in json.loads(nas_here("anchors", "--json").stdout)["anchors"]}
    assert row["hl-cnn"]["reading"] and row["vgg16-32"]["reference"] and row["hl-cnn"]["arch"]["head"]


def test_a_name_with_markup_is_printed_as_it_is(here: Path) -> None:
    (here / "x[b].json").write_text(to_json(ANCHORS["lowres-mobilenet"].arch))
    assert "x[b].json at 32x32" in nas_here("profile", "x[b].json").stdout


def test_a_budget_by_the_name_of_a_larger_network_is_refused(here: Path) -> None:
    ended = nas_here("search", "--budget", "mobilenetv1")
    assert ended.returncode == 2
    assert "is a network for 224x224, not 32; did you mean mobilenetv1-32?" in ended.stderr


@pytest.mark.slow
def test_a_budget_by_name(here: Path) -> None:
    asked = ("--budget", "mobilenetv1-x0.5-32,3MFLOPs", "--trials", "1", "--space", "lowres", "--workers", "1")
    ended = nas_here("search", *asked, "--json")
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    limits = {name: limit for name, limit in result["plan"]["budget"].items() if limit is not None}
    assert limits == {"macs": 3_000_000, "params": 823_722, "peak": 49_152}
    assert result["run"] == "runs/digits-mobilenetv1-x0.5-32,3MFLOPs"
    assert result["best"]["cost"]["peak"] <= 49_152


FAKE = """
import hashlib, json, sys
content = sys.stdin.buffer.read()
with open("asked", "a") as asked:
    asked.write("x")
if {dies} and len(open("asked").read()) % 9 == 0:
    sys.exit("no route to pi")
ratio = 0.5 + len(content) / 1e7 + content[100] % 7 / 100
ends = [ratio * 0.99, ratio, ratio * 1.01]
print(json.dumps(dict(
    median_ms=20 * ratio, low_ms=20 * ends[0], high_ms=20 * ends[2], ratio=ratio, ratio_low=ends[0], ratio_high=ends[2],
    reference_ms=20.0, runs=80, rounds=8, steady=True, runtime="fake", device="a pi", threads=1, batch=1,
)))
"""


@pytest.mark.slow
def test_a_search_on_another_device_that_dies_now_and_then(here: Path) -> None:
    asked = ["--budget", "3MFLOPs,40ms", "--space", "lowres", "--trials", "4", "--workers", "1"]
    asked += ["--measure-device", "pi"]
    command = ["search", *asked]
    (here / "fake.py").write_text(FAKE.format(dies=False))
    told = ["--measure-command", f"{sys.executable} fake.py", "--json"]
    whole = json.loads(nas_here(*command, "--run", "whole", *told).stdout)
    assert whole["plan"]["meter"]["device"] == "pi"
    trained = [trial for trial in whole["trials"] if trial["state"] != "refused"]
    assert len(trained) == 4 and all(trial["latency"]["device"] == "a pi" for trial in trained)

    (here / "fake.py").write_text(FAKE.format(dies=True))
    ended = nas_here(*command, "--run", "often", *told)
    times = 0
    while ended.returncode:
        times += 1
        assert (
            ended.returncode == 1 and "ended with 1: no route to pi" in ended.stderr and "Traceback" not in ended.stderr
        )
        ended = nas_here("search", "--resume", "runs/often", "--workers", "1", "--json")
    assert times
    often = json.loads(ended.stdout)
    assert [(t["arch_id"], t["state"]) for t in often["trials"]] == [
        (t["arch_id"], t["state"]) for t in whole["trials"]
    ]
    shown = nas_here("show", "runs/often").stdout
    assert "Latency: fake on a pi, 1 thread, batch 1, in turn with lowres-mobilenet" in shown
    assert "were over the budget on paper, " in shown and " measured beside the anchors, " in shown


@pytest.mark.slow
def test_measure_prints_figures_with_their_conditions(here: Path) -> None:
    ended = nas_here("measure", "tailored-mobilenetv2-imp4", "--seconds", "0.2", "--energy", "--quiet")
    assert ended.returncode == 0, ended.stderr
    for said in (
        "tailored-mobilenetv2-imp4",
        "13.40 M",
        "1 thread, batch 1",
        "onnxruntime ",
        "run in turn with lowres",
    ):
        assert said in ended.stdout
    assert "an image" in ended.stdout or "Energy: not available on this machine: " in ended.stdout
    (here / "a.json").write_text(to_json(ANCHORS["lowres-mobilenet"].arch))
    ended = nas_here(
        "measure", "a.json", "--seconds", "0.2", "--batch", "4", "--reference", "tailored-mobilenetv2", "--json"
    )
    found = json.loads(ended.stdout)["networks"][0]
    assert found["cost"]["macs"] == 24_084_544 and found["latency"]["batch"] == 4
    assert found["latency"]["ratio"] > 1 and found["latency"]["reference"] == "tailored-mobilenetv2"


@pytest.mark.slow
def test_the_agent_is_written_and_runs_alone(here: Path) -> None:
    assert nas("measure", "--write-agent", "agent.py").returncode == 0
    assert nas("measure", "--write-agent", "nowhere/agent.py").stderr.startswith(
        "nas: error: nowhere/agent.py cannot be"
    )
    command = f"{sys.executable} agent.py"
    ended = nas(
        "measure", "lowres-mobilenet", "--device", "pi", "--measure-command", command, "--seconds", "0.1", "--json"
    )
    assert json.loads(ended.stdout)["networks"][0]["latency"]["runs"] >= 15


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ((), 2, "name a network: an anchor, an arch.json, a run's folder or RUN/ID; or give --anchors"),
        (("lowres-mobilnet",), 2, "network 'lowres-mobilnet' is unknown; did you mean lowres-mobilenet?"),
        (("lowres-mobilenet", "--batch", "0"), 2, "batch of a measurement must be above 0, got 0"),
        (
            ("lowres-mobilenet", "--device", "pi", "--measure-command", "false"),
            1,
            "false ended with 1: no message",
        ),
    ],
)
def test_what_cannot_be_measured_is_one_line(here: Path, args: tuple[str, ...], code: int, message: str) -> None:
    ended = nas_here("measure", *args, "--quiet")
    assert ended.returncode == code, ended.stderr
    assert message in ended.stderr and "Traceback" not in ended.stderr and ended.stdout == ""


def test_a_node_that_no_cluster_offers_is_one_line(here: Path) -> None:
    # In a process of its own: it joins the cluster of a test beside it, where there is one, and stays there.
    ended = nas("measure", "lowres-mobilenet", "--device", "ray:pi", "--quiet")
    assert ended.returncode == 1, ended.stderr
    assert "Ray cluster" in ended.stderr and "Traceback" not in ended.stderr and ended.stdout == ""
