"""The kept runs say what they say: figures follow from records, records from networks, weights from training."""

import re
from pathlib import Path

import pytest

from nas.arch import arch_id, cost
from nas.compare import Drilled, Searched
from nas.data import load_test
from nas.fit import network, right
from nas.outcome import Export
from nas.recall import compared, course_taken
from nas.runs import Run, read_sessions, read_value
from nas.train import answered
from nas.weights import put, read

ROOT = Path(__file__).parent.parent
README = " ".join((ROOT / "README.md").read_text().split())
CIFAR = ROOT.parent / "shared" / "data"
KEPT = re.findall(r"^!/runs/([\w.,+-]+)/$", (ROOT / ".gitignore").read_text(), re.MULTILINE)
ROWS = {name: compared(ROOT / "runs" / name) for name in KEPT}
SEARCHES = [name for name, row in ROWS.items() if isinstance(row, Searched)]
TRAININGS = [name for name, row in ROWS.items() if isinstance(row, Drilled)]
WITH_WEIGHTS = [name for name in TRAININGS if list((ROOT / "runs" / name).glob("seed-*/weights.safetensors"))]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_trained_nothing_over_its_budget(name: str) -> None:
    row = ROWS[name]
    assert isinstance(row, Searched) and row.best in row.trials
    for trial in row.trials:  # that each costs what it says was checked when it was read
        if trial.scores:
            assert row.plan.budget.keeps(trial.cost)
            assert not row.plan.budget.timed or (trial.latency and row.plan.budget.fast(trial.latency))


@pytest.mark.parametrize("name", TRAININGS)
def test_the_figures_of_a_training_follow_from_its_answers(name: str) -> None:
    row = ROWS[name]
    assert isinstance(row, Drilled)
    assert (row.outcome.arch_id, row.outcome.cost) == (arch_id(row.course.arch), cost(row.course.arch))
    for one in row.outcome.tested:
        right = sum(one.confusion[i][i] for i in range(len(one.confusion)))
        assert sum(map(sum, one.confusion)) == row.outcome.test_images
        assert one.top1 == pytest.approx(100 * right / row.outcome.test_images)


@pytest.mark.parametrize("name", KEPT)
def test_the_commands_that_made_it_are_told(name: str) -> None:
    for session in read_sessions(Run(ROOT / "runs" / name)):
        assert "--resume" in session.command or session.command in README


@pytest.mark.skipif(not CIFAR.is_dir(), reason="CIFAR-10 is not there")
@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_the_weights_answer_as_was_recorded(name: str) -> None:
    folder, course, outcome = course_taken(ROOT / "runs" / name)
    tensors, _ = read(folder.weights(outcome.taken.seed))
    model, test = network(course.arch), load_test("cifar10", str(CIFAR))
    put(model, tensors, name)
    from nas.evaluate import loaded

    logits = answered(model, loaded("cifar10", str(CIFAR)), test)
    assert right(logits, test.labels) == pytest.approx(outcome.taken.top1, abs=0.02)  # other kernels, other roundings
    exported = read_value(Run(folder.export), "export", Export)
    assert exported and exported.top1 == pytest.approx(outcome.taken.top1, abs=0.02)
