"""Whatever sampler proposes: nothing over the budget is evaluated, nothing twice; and ours in studies of others."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

import nas
from nas.records.plan import SAMPLERS
from nas.records.run_folder import open_run
from tests.api.test_search import LAYERS, best_worth, macs, worth
from tests.conftest import same_outcome

LIMIT = 18_000_000  # 32 of the 243 networks keep it


def searched(sampler: Any, run: Path | None = None, trials: int = 20, evaluate: Any = worth, **more: Any) -> nas.Result:
    return nas.search(
        LAYERS, f"{LIMIT}FLOPs", evaluate, cost=macs, trials=trials, sampler=sampler, run=run, wave=4, **more
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_over_the_budget_or_was_tried_is_never_evaluated(name: str, tmp_path: Path) -> None:
    asked: list[Any] = []

    def counted(network: Any, rung: int) -> float:
        asked.append(network)
        return worth(network, rung)

    found = searched(name, tmp_path / "run", evaluate=counted)
    assert len(asked) == len(set(asked)) == len(found.trials) == 20
    assert all(macs(network) <= LIMIT for network in asked)
    assert [trial.arch for trial in searched(name).trials] == [trial.arch for trial in found.trials], "by seed"
    assert [trial.arch for trial in searched(name, seed=1).trials] != [trial.arch for trial in found.trials]
    assert found.plan.sampler == name and open_run(tmp_path / "run")[1].sampler == name


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "nsgaii"])  # it counts what was left behind
def test_killed_and_resumed_it_tries_what_it_would_have_tried(name: str, tmp_path: Path) -> None:
    whole = [same_outcome(trial) for trial in searched(name, tmp_path / "whole").trials]
    for after in (6, 13):

        def killed(network: Any, rung: int, left: list[int] = [after]) -> float:  # noqa: B006
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return worth(network, rung)

        with pytest.raises(KeyboardInterrupt):
            searched(name, tmp_path / f"{after}", evaluate=killed)
        again = searched(name, tmp_path / f"{after}")
        assert [same_outcome(trial) for trial in again.trials] == whole


def test_the_study_is_optunas_own_with_all_that_was_asked(tmp_path: Path) -> None:
    found = searched("tpe", tmp_path / "run", evaluate=lambda network, rung: worth(network) + rung, rungs=2)
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "run" / "study.log"))
    )
    study = optuna.load_study(study_name="nas", storage=storage)
    tried = {trial.user_attrs["index"]: trial for trial in study.trials if "index" in trial.user_attrs}
    assert set(tried) == {trial.index for trial in found.trials}
    for trial in found.trials:
        kept = tried[trial.index]
        assert kept.params == trial.choices and kept.user_attrs["arch_id"] == trial.arch_id
        assert kept.state == {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}[trial.state]
        assert kept.intermediate_values == {score.rung: score.top1 for score in trial.scores}
        assert kept.user_attrs["macs"] == trial.cost.macs
        assert kept.constraints == {"macs": trial.cost.macs / LIMIT - 1} and trial.cost.macs <= LIMIT
    refused = [trial for trial in study.trials if "refused" in trial.user_attrs]
    over = [trial for trial in refused if trial.user_attrs["refused"] == "over the budget"]
    assert over and {trial.state for trial in over} == {TrialState.PRUNED}
    assert {trial.state for trial in refused if trial not in over} <= {TrialState.FAIL}
    assert all(trial.constraints["macs"] > 0 for trial in over)
    assert study.best_value == max(trial.score or 0 for trial in found.trials if trial.state == "complete")


def test_a_study_that_is_whole_is_not_written_anew(tmp_path: Path) -> None:
    searched("tpe", tmp_path / "run")
    before = (tmp_path / "run" / "study.log").read_bytes()
    searched("tpe", tmp_path / "run")
    assert (tmp_path / "run" / "study.log").read_bytes().startswith(before)


def test_what_others_write_into_the_study_is_read(tmp_path: Path) -> None:
    file = tmp_path / "run" / "study.log"

    def callback(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        backend = optuna.storages.journal.JournalFileBackend(str(file))
        other = optuna.load_study(study_name="nas", storage=optuna.storages.JournalStorage(backend))
        other.set_user_attr(f"note {trial.number}", "a fine one")
        other.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))

    found = searched("tpe", tmp_path / "run", callbacks=[callback])
    backend = optuna.storages.journal.JournalFileBackend(str(file))
    study = optuna.load_study(study_name="nas", storage=optuna.storages.JournalStorage(backend))
    kept = {trial.user_attrs["index"]: trial for trial in study.trials if "index" in trial.user_attrs}
    assert {index: trial.params for index, trial in kept.items()} == {one.index: one.choices for one in found.trials}
    assert all(trial.state.is_finished() for trial in study.trials) and len(study.user_attrs) >= len(found.trials)


def test_a_damaged_study_is_written_anew_from_the_trials(tmp_path: Path) -> None:
    found = searched("gp", tmp_path / "run")
    (tmp_path / "run" / "study.log").write_bytes(b'{"op_code": 99}\n')
    more = searched("gp", tmp_path / "run", trials=24)
    assert more.trials[:20] == found.trials and len(more.trials) == 24


FOREIGN = """
import optuna

class Mine(optuna.samplers.RandomSampler):
    pass

READY = Mine(seed=3)
"""


def test_a_sampler_of_ones_own(here: Path) -> None:
    (here / "mine.py").write_text(FOREIGN)
    by_file = searched("mine.py:Mine", here / "run")
    assert by_file.plan.sampler == "mine.py:Mine" and len(by_file.trials) == 20
    assert searched("mine.py:READY").trials
    by_class = searched(optuna.samplers.RandomSampler)
    assert by_class.plan.sampler == "optuna.samplers._random:RandomSampler"
    assert [trial.arch for trial in by_class.trials] == [trial.arch for trial in by_file.trials]
    assert len(searched(optuna.samplers.TPESampler(seed=0)).trials) == 20
    for wrong in (
        optuna.create_study,
        3,
        object(),
        "mine.py:Other",
        "none.py:X",
        "luck",
        "json:dumps",
        "optuna.samplers:GridSampler",
    ):
        with pytest.raises(nas.Error, match=r"sampler|there is no"):
            searched(wrong)


def test_runs_of_before_name_their_sampler_as_they_did(tmp_path: Path) -> None:
    searched("near-budget", tmp_path / "run", trials=4)
    file = tmp_path / "run" / "plan.json"
    plan = json.loads(file.read_text())
    for then, now in (("surrogate", "gp"), ("random", "near-budget")):
        plan.pop("sampler", None)
        file.write_text(json.dumps(plan | {"proposals": then}))
        assert open_run(tmp_path / "run")[1].sampler == now


def test_ours_in_a_study_of_someone_elses() -> None:
    study = optuna.create_study(sampler=nas.GPSampler(LAYERS, f"{LIMIT}FLOPs", cost=macs), direction="maximize")
    tried = []

    def objective(trial: optuna.Trial) -> float:
        network = nas.suggest(trial, LAYERS)
        rate = trial.suggest_float("rate", 0.0, 1.0)  # no axis of the space
        assert 0 <= rate <= 1
        tried.append(network)
        trial.report(worth(network) - 1, 0)
        return worth(network)

    study.optimize(objective, n_trials=30)
    assert len(set(tried)) == 30 and all(macs(network) <= LIMIT for network in tried)
    assert study.best_value == best_worth(LIMIT)


def test_ours_minimizes_and_believes_what_runs() -> None:
    sampler = nas.GPSampler({"width": [8, 16, 32, 64], "depth": list(range(1, 9))}, seed=1, batch=4)
    study = optuna.create_study(sampler=sampler)
    space = {"width": [8, 16, 32, 64], "depth": list(range(1, 9))}
    seen = set()
    for _ in range(6):  # four at a time, as workers would
        trials = [study.ask() for _ in range(4)]
        networks = [nas.suggest(trial, space) for trial in trials]
        seen |= {tuple(network.values()) for network in networks}
        for trial, network in zip(trials, networks, strict=True):
            study.tell(trial, abs(network["width"] - 32) + abs(network["depth"] - 5))
    assert len(seen) == 24 and study.best_value == 0.0


def test_architectures_on_a_budget_of_macs() -> None:
    study = optuna.create_study(sampler=nas.GPSampler("lowres", "25MFLOPs", batch=5), direction="maximize")
    study.optimize(lambda trial: float(nas.cost(nas.suggest(trial, "lowres")).params), n_trials=15)
    assert all(nas.cost(nas.suggest(optuna.trial.FixedTrial(t.params), "lowres")).macs <= 25e6 for t in study.trials)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"budget": "1ms"}, "which nothing measures in a study of your own"),
        ({"budget": 12}, "budget of nas.GPSampler must be"),
        ({"space": "lowre"}, "did you mean lowres"),
        ({"space": LAYERS, "budget": "5MFLOPs"}, "need cost="),
        ({"budget": "1FLOPs"}, "keeps the budget"),
    ],
)
def test_samplers_that_cannot_be(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(nas.Error) as raised:
        nas.GPSampler(**asked)
    assert said in str(raised.value)


def test_optunas_callbacks_are_called_with_each_trial_that_ended() -> None:
    told: list[tuple[int, float]] = []

    def callback(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        assert study.study_name == "nas" and trial.state.is_finished()
        told.append((trial.user_attrs["index"], trial.value or 0.0))

    found = searched("gp", callbacks=[callback])
    assert told == [(trial.index, trial.score) for trial in found.trials]


def test_a_sampler_of_another_space_is_one_error() -> None:
    study = optuna.create_study(sampler=nas.GPSampler("lowres", "25MFLOPs"))
    with pytest.raises(nas.Error, match="the study's GPSampler is of space lowres, not ghostnet: name one space"):
        nas.suggest(study.ask(), "ghostnet")


def test_a_callback_that_raises_is_one_error() -> None:
    def callback(_study: optuna.Study, _trial: optuna.trial.FrozenTrial) -> None:
        raise KeyError("no such metric")

    with pytest.raises(nas.Error, match=r"callback .*callback raised KeyError: 'no such metric'; trial 0 is kept"):
        searched("gp", callbacks=[callback])


def test_a_log_that_is_not_installed_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.api.samplers.find_spec", lambda name: None)
    with pytest.raises(nas.Error, match=r"needs optuna_integration and mlflow; pip install optuna-integration mlflow"):
        searched("gp", log="mlflow")


def test_ours_serves_threads_and_scores_without_end() -> None:
    space = {"width": [8, 16, 32, 64], "depth": list(range(1, 11))}
    study = optuna.create_study(sampler=nas.GPSampler(space), direction="maximize")
    tried = []

    def objective(trial: optuna.Trial) -> float:
        tried.append(tuple(nas.suggest(trial, space).values()))
        return float("-inf") if trial.number % 3 == 1 else float(sum(tried[-1]))

    study.optimize(objective, n_trials=30, n_jobs=2)
    assert len(set(tried)) == len(tried) == 30
