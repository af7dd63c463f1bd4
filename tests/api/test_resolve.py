"""What the name of a network stands for."""

from pathlib import Path

import pytest

from nas.api.resolve import architecture
from nas.api.train import new_training
from nas.records.run_folder import open_run
from nas.records.search_files import read_trials
from search_spaces import ANCHORS

SEARCH = Path(__file__).parents[2] / "runs" / "cifar10-fast-0"


def test_every_network_of_a_search_has_a_name() -> None:
    trials, _ = read_trials(open_run(SEARCH)[0])
    assert len(trials) == 70
    for trial in trials[::5]:
        assert architecture(f"{SEARCH}/{trial.arch_id}", None, None) == trial.arch
        assert architecture(f"{SEARCH}/{trial.arch_id[:7]}", 64, None).resolution == 64


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "zzz",
            "has no networks whose id begins with 'zzz'; nas show .*cifar10-fast-0 --json has the ids",
        ),
        ("1", "has 4 networks whose id begins with '1'"),
        ("nowhere/1", "nowhere/1' is unknown"),
        ("1.json", r"1\.json cannot be read"),
    ],
)
def test_what_no_network_is_called(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        architecture(f"{SEARCH}/{name}", None, None)


def test_a_network_that_did_not_win_is_trained_by_its_id(here: Path) -> None:
    name = f"{SEARCH}/5fd3cc7f8e"
    run, training_plan = new_training(name, "digits", None, "quick", None, None, 1, 0, False, None, None)
    assert run.path.resolve() == here / "runs" / "cifar10-fast-0-5fd3cc7f8e-digits-quick"
    assert training_plan.arch == architecture(name, None, None) != ANCHORS["lowres-mobilenet"].arch
    assert training_plan.found.startswith(f"Network `5fd3cc7f8e` of `{SEARCH}`: `nas search --budget 25MFLOPs,")
