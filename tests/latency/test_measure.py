"""Measuring architectures: here, by a command, and what goes wrong at the other end."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from select import select

import pytest
import torch

from nas.execution.command import commanded
from nas.latency import energy
from nas.latency.energy import energy_of
from nas.latency.measure import asking, measured, understood
from nas.records.plan import Meter
from nas.records.run_folder import RunFailed
from nas.records.timing import Energy, Latency, exactly
from search_spaces import ANCHORS

SMALL, OTHER = ANCHORS["tailored-mobilenetv2-imp4"].arch, ANCHORS["lowres-mobilenet"].arch
METER = Meter("lowres-mobilenet", seconds=0.1)
ANSWER = {
    "median_ms": 2.0, "low_ms": 1.9, "high_ms": 2.1, "ratio": 0.5, "ratio_low": 0.49, "ratio_high": 0.52,
    "reference_ms": 4.0, "runs": 80, "rounds": 8, "steady": True,
    "runtime": "onnxruntime 1", "device": "a pi", "threads": 1, "batch": 1,
}  # fmt: skip


def by(command: str, timeout: float = 60.0) -> Meter:
    return replace(METER, device="pi", command=command, timeout=timeout)


def python(program: str) -> str:
    return shlex.join([sys.executable, "-c", program])


def test_here_in_a_process_of_its_own() -> None:
    found = measured(SMALL, OTHER, METER)
    assert found.ratio_low is not None and found.ratio_high is not None
    assert 0 < found.ratio_low <= found.ratio_high < 1  # 13 M against 24 M MACs
    assert (found.reference, found.threads, found.batch) == ("lowres-mobilenet", 1, 1)
    assert found.runtime.startswith("onnxruntime ") and found.device


def test_threads_and_batch_are_those_asked() -> None:
    found = measured(SMALL, OTHER, replace(METER, threads=2, batch=4))
    assert (found.threads, found.batch) == (2, 4)


def test_the_torch_module_too() -> None:
    found = measured(SMALL, OTHER, replace(METER, runtime="torch"))
    assert found.ratio is not None and found.runtime.endswith(" torch") and found.runs >= 15


def test_a_command_gets_a_graph_that_holds_what_is_asked(tmp_path: Path) -> None:
    keep = f"open({str(tmp_path / 'got')!r}, 'wb').write(sys.stdin.buffer.read())"
    meter = by(python(f"import sys; {keep}; print({json.dumps(ANSWER)!r})"))
    assert measured(SMALL, OTHER, meter) == Latency(**ANSWER, reference="lowres-mobilenet")  # type: ignore[arg-type]
    assert (tmp_path / "got").read_bytes() == asking(SMALL, OTHER, meter)


def test_the_agent_at_the_end_of_a_command() -> None:
    from nas.execution import agent

    found = measured(SMALL, OTHER, by(shlex.join([sys.executable, agent.__file__])))
    assert found.ratio is not None and found.ratio < 1


@pytest.mark.parametrize(
    "program, said",
    [
        ("import sys; sys.exit(3)", "ended with 3: no message"),
        ("import sys; sys.exit('ssh: no route to host')", "ended with 1: ssh: no route to host"),
        ("import os; os.kill(os.getpid(), 9)", "ended with -9"),
        ("print('hello')", "must print what nas measure --write-agent's agent.py prints, got 'hello'"),
        ("", "got ''"),
        ("print('[' * 100000)", "must print"),
        ("print('{}')", "median_ms is missing"),
        ("while True: print('y' * 10_000)", "printed more than 1,048,576 bytes, an answer is one line of JSON"),
        (f"print({json.dumps(ANSWER)!r}.replace('4.0', '9' * 400))", "reference_ms must be of type float"),
        (f"print({json.dumps(ANSWER | {'median_ms': 'fast'})!r})", "median_ms must be of type float"),
        (f"print({json.dumps(ANSWER | {'median_ms': -1.0})!r})", "must be positive and in order"),
        (f"print({json.dumps(ANSWER | {'high_ms': 1.0})!r})", "must be positive and in order"),
        (f"print({json.dumps(ANSWER | {'low_ms': float('nan')})!r})", "must be positive and in order"),
        (f"print({json.dumps(ANSWER | {'threads': 4})!r})", "measured with 4 threads and batch 1, asked were 1 and 1"),
        (f"print({json.dumps({k: None if 'ratio' in k else v for k, v in ANSWER.items()})!r})", "no reference network"),
    ],
)  # fmt: skip
def test_what_a_device_may_do_wrong_is_one_error(program: str, said: str) -> None:
    with pytest.raises(RunFailed) as error:
        measured(SMALL, OTHER, by(python(program)))
    assert said in str(error.value)


def test_a_dead_device_is_given_up() -> None:
    with pytest.raises(RunFailed, match=r"gave no answer within 0\.6 s; is the device there\?"):
        measured(SMALL, OTHER, by(python("import threading; threading.Event().wait()"), timeout=0.5))
    with pytest.raises(RunFailed, match="no-such-program --fast cannot be run: No such file"):
        measured(SMALL, OTHER, by("no-such-program --fast"))


def test_what_a_command_begins_ends_with_it(tmp_path: Path) -> None:
    # A shell's child keeps the pipe open and would outlive the shell: the whole group is ended.
    with pytest.raises(RunFailed, match="gave no answer"):
        commanded(["sh", "-c", f"sleep 1000 & echo $! > {tmp_path / 'child'}; wait"], b"", timeout=1.0)
    child = int((tmp_path / "child").read_text())
    with suppress(ProcessLookupError):  # gone already
        assert select([os.pidfd_open(child)], [], [], 60)[0], "it lives"


def test_what_a_command_leaves_behind_does_not_hide_its_answer() -> None:
    answer = commanded(["sh", "-c", "echo good; setsid sleep 30 &"], b"", timeout=20.0)
    assert answer == b"good\n"


def test_an_answer_is_the_last_line() -> None:
    banner = b"Welcome to pi\n" + json.dumps(ANSWER).encode() + b"\n"
    assert understood(banner, METER).median_ms == 2.0


@pytest.mark.parametrize(
    "asked, said",
    [
        ({"device": "pi"}, "device 'pi' is reached by --measure-command"),
        ({"command": "ssh pi"}, "needs a name that its figures are recorded under"),
        ({"device": "ray:pi", "runtime": "torch"}, "runtime torch measures on this machine only"),
        ({"runtime": "tvm"}, "runtime 'tvm' is unknown; one of onnxruntime, torch"),
        ({"seconds": 0.0}, "seconds of a measurement must be above 0, got 0"),
        ({"threads": 0}, "threads of a measurement must be above 0"),
        ({"device": "pi", "command": "ssh 'pi"}, '--measure-command "ssh \'pi" cannot be read: No closing quotation'),
        ({"device": "pi", "command": " "}, "--measure-command is empty"),
    ],
)
def test_a_meter_that_cannot_be(asked: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError) as error:
        replace(METER, **asked)
    assert said in str(error.value)


def test_energy_is_counted_where_there_are_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    assert str(energy_of(SMALL, METER)).startswith("not available on this machine: no RAPL counter that may be read (")
    for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:1", "psys")):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "name").write_text(name)
        (tmp_path / zone / "energy_uj").write_text("1000000" if zone == "intel-rapl:0" else "no")
    assert energy_of(SMALL, METER, seconds=0.01) == (
        "not available on this machine: its RAPL, all CPU packages counted 0 J"
    )
    reads = iter([1.0, 1.0, 4.0])
    monkeypatch.setattr(energy, "_rapl", lambda: next(reads))
    found = energy_of(SMALL, METER, seconds=0.01)
    assert isinstance(found, Energy) and found.joules_per_image > 0
    assert found.watts == pytest.approx(3 / 0.01, rel=0.9)
    assert energy_of(SMALL, METER, asked=False) is None
    counts, threads = iter([1.0, 1.0, 4.0]), list[int]()

    def opened(*_: object) -> Callable[[], None]:
        return lambda: threads.append(torch.get_num_threads())

    monkeypatch.setattr(energy, "_rapl", lambda: next(counts))
    monkeypatch.setattr(energy, "opened", opened)
    before = torch.get_num_threads()
    energy_of(SMALL, replace(METER, runtime="torch", threads=before + 1), seconds=0.01)
    assert set(threads) == {before + 1} and torch.get_num_threads() == before
    assert energy_of(SMALL, by("x")) == "not available: the counters of pi are not read"


def test_a_latency_that_is_known() -> None:
    assert exactly(1.5).high_ms == 1.5 and exactly(1.5).ratio is None
