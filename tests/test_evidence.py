"""The kept runs say what they say: figures follow from records, records from networks, weights from training."""

import re
from pathlib import Path

import pytest

from nas.api.loading import finished_training, run_summary
from nas.models.weights import put, read
from nas.networks.architecture import arch_id, cost
from nas.records.results import Export
from nas.records.run_folder import Run, read_sessions, read_value
from nas.reports.comparison import SearchRun, TrainedRun
from nas.training.datasets import load_test
from nas.training.learner import network, topk_accuracy
from nas.training.step import logits_of

ROOT = Path(__file__).parent.parent
EVIDENCE = " ".join((ROOT / "runs" / "README.md").read_text().split())
CIFAR = ROOT.parent / "shared" / "data"
KEPT = re.findall(r"^!/runs/([\w.,+-]+)/$", (ROOT / ".gitignore").read_text(), re.MULTILINE)
ROWS = {name: run_summary(ROOT / "runs" / name) for name in KEPT}
SEARCHES = [name for name, row in ROWS.items() if isinstance(row, SearchRun)]
TRAININGS = [name for name, row in ROWS.items() if isinstance(row, TrainedRun)]
WITH_WEIGHTS = [name for name in TRAININGS if list((ROOT / "runs" / name).glob("seed-*/weights.safetensors"))]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_trained_nothing_over_its_budget(name: str) -> None:
    row = ROWS[name]
    assert isinstance(row, SearchRun) and row.best in row.trials
    for trial in row.trials:  # that each costs what it says was checked when it was read
        if trial.scores:
            assert row.plan.budget.keeps(trial.cost)
            assert not row.plan.budget.timed or (trial.latency and row.plan.budget.fast(trial.latency))


@pytest.mark.parametrize("name", TRAININGS)
def test_the_figures_of_a_training_follow_from_its_answers(name: str) -> None:
    row = ROWS[name]
    assert isinstance(row, TrainedRun)
    assert (row.outcome.arch_id, row.outcome.cost) == (arch_id(row.training_plan.arch), cost(row.training_plan.arch))
    for one in row.outcome.tested:
        correct = sum(one.confusion[i][i] for i in range(len(one.confusion)))
        assert sum(map(sum, one.confusion)) == row.outcome.test_images
        assert one.top1 == pytest.approx(100 * correct / row.outcome.test_images)


@pytest.mark.parametrize("name", KEPT)
def test_the_commands_that_made_it_are_in_the_evidence(name: str) -> None:
    for session in read_sessions(Run(ROOT / "runs" / name)):
        assert "--resume" in session.command or session.command in EVIDENCE


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR.is_dir(), reason="CIFAR-10 is not there")
@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_the_weights_answer_as_was_recorded(name: str) -> None:
    folder, training_plan, outcome = finished_training(ROOT / "runs" / name)
    tensors, _ = read(folder.weights(outcome.chosen.seed))
    model, test = network(training_plan.arch), load_test("cifar10", str(CIFAR))
    put(model, tensors, name)
    from nas.training.proxy import loaded

    logits = logits_of(model, loaded("cifar10", str(CIFAR)), test)
    assert topk_accuracy(logits, test.labels) == pytest.approx(
        outcome.chosen.top1, abs=0.02
    )  # other kernels, other roundings
    exported = read_value(Run(folder.export), "export", Export)
    assert exported and exported.top1 == pytest.approx(outcome.chosen.top1, abs=0.02)
