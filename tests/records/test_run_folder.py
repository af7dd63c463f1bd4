"""A run's folder survives what happens to files."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from nas.networks.architecture import Arch, arch_id, cost
from nas.networks.space import encode
from nas.records.budget import Budget
from nas.records.run_folder import create, free_name, locked, open_run, write_best
from nas.records.search_files import append_trial, read_trials
from nas.records.trial import Trial, best
from nas.serialization import from_json
from search_spaces import ANCHORS, LOWRES
from tests.conftest import plan_for, same_outcome, score

PLAN = plan_for(Budget(macs=25_000_000))
ARCH = ANCHORS["lowres-mobilenet"].arch


def trial(index: int, top1: float = 50.0) -> Trial:
    scores = (score(0, top1 - 5), score(1, top1))
    return Trial(index, 0, arch_id(ARCH), cost(ARCH), "complete", ARCH, encode(LOWRES, ARCH), "anchor", scores)


def test_round_trip(tmp_path: Path) -> None:
    run = create(tmp_path / "runs" / "a", PLAN)
    append_trial(run, trial(0))
    append_trial(run, trial(1))
    write_best(run, trial(1))
    again, plan = open_run(run.path)
    assert plan == PLAN
    assert read_trials(again) == ([trial(0), trial(1)], [])
    assert from_json(Arch, run.best_arch.read_text()) == ARCH
    assert not [path for path in run.path.rglob(".*") if path.name != ".lock"]


def test_a_torn_last_line_is_dropped_and_written_over(tmp_path: Path) -> None:
    run = create(tmp_path / "a", PLAN)
    append_trial(run, trial(0))
    with (run.path / "trials.jsonl").open("ab") as file:
        file.write(b'{"index": 1, "wa')
    assert read_trials(run) == ([trial(0)], [])
    with locked(run):
        append_trial(run, trial(1))
    assert read_trials(run) == ([trial(0), trial(1)], [])


def test_a_last_line_without_its_newline_is_kept(tmp_path: Path) -> None:
    run = create(tmp_path / "a", PLAN)
    append_trial(run, trial(0))
    file = run.path / "trials.jsonl"
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    assert read_trials(run) == ([trial(0)], [])
    with locked(run):
        append_trial(run, trial(1))
    assert read_trials(run) == ([trial(0), trial(1)], [])


def test_a_record_that_contradicts_itself_is_no_trial(tmp_path: Path) -> None:
    run = create(tmp_path / "a", PLAN)
    append_trial(run, trial(0))
    file = run.path / "trials.jsonl"
    file.write_text(file.read_text().replace('"width": 96', '"width": 960'))
    trials, problems = read_trials(run)
    assert not trials and "arch is not c6177ce8c1 of Cost(macs=24084544" in problems[0]


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(ValueError, match="cannot be made"):
        create(tmp_path / "runs" / "a", PLAN)


def test_what_is_readable_of_a_corrupted_file_is_kept(tmp_path: Path) -> None:
    run = create(tmp_path / "a", PLAN)
    for index in range(3):
        append_trial(run, trial(index))
    file = run.path / "trials.jsonl"
    lines = file.read_bytes().split(b"\n")
    lines[1] = b"\xff\xfe" + lines[1][10:]
    file.write_bytes(b"\n".join([*lines[:3], lines[2], b""]))
    trials, problems = read_trials(run)
    assert trials == [trial(0), trial(2)]
    assert [problem.split(" ", 1)[1][:6] for problem in problems] == ["line 2", "line 4"]
    assert "repeats trial 2" in problems[1]


def test_a_full_disk_loses_no_finished_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create(tmp_path / "a", PLAN)
    append_trial(run, trial(0))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_best(run, trial(0))
        with pytest.raises(ValueError, match=r"cannot be made.*No space left"):
            create(tmp_path / "b", PLAN)
    assert not run.best_arch.exists() and not (tmp_path / "b").exists()
    assert read_trials(run)[0] == [trial(0)]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    run = create(tmp_path / "a", PLAN)
    with locked(run), pytest.raises(ValueError, match="in use by another nas process"), locked(run):
        pass
    with locked(run):
        pass


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no run"):
        open_run(tmp_path)
    (tmp_path / "plan.json").write_text('{"budget": {"macs": 1}, "x": 1}')
    with pytest.raises(ValueError, match=r"plan\.json\.x is unknown"):
        open_run(tmp_path)
    with pytest.raises(ValueError, match="exists already"):
        create(tmp_path, PLAN)


def test_free_name(tmp_path: Path) -> None:
    assert free_name(tmp_path, "a") == tmp_path / "a"
    (tmp_path / "a").mkdir()
    (tmp_path / "a-2").mkdir()
    assert free_name(tmp_path, "a") == tmp_path / "a-3"


def test_best_is_what_merits_most_then_the_cheaper() -> None:
    assert best([], "top1") is None
    timed = replace(trial(0), scores=tuple(replace(s, train_seconds=9.0, threads=7) for s in trial(0).scores))
    assert timed != trial(0)
    assert best([trial(0, 50), trial(1, 60), trial(2, 60)], "top1") == trial(1, 60)
    surer = replace(trial(3, 50), scores=tuple(replace(s, train_loss=s.train_loss / 2) for s in trial(3).scores))
    assert best([trial(1, 60), surer], "loss") == surer
    assert same_outcome(timed) == same_outcome(trial(0)) != same_outcome(trial(1))
