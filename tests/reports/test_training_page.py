"""The page of a full training; opened in headless Chromium where there is one."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from nas.api.loading import training_view
from nas.api.report import report
from nas.errors import Error
from nas.records.plan import READING
from nas.records.recipes import TrainingPlan
from nas.records.run_folder import Run
from nas.reports.training_page import TrainingView, interval, training_page
from nas.serialization import to_json
from nas.training.arrays import kept
from nas.training.datasets import load
from nas.training.mistakes import mistakes_of
from tests.reports.test_page import CHROMIUM, HOSTILE, Pieces, drawn
from tests.training.test_full_training import began, finish


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, TrainingPlan]:
    """Two seeds on digits."""
    run, plan = began(tmp_path_factory.mktemp("trained") / "run", epochs=2, seeds=2)
    finish(run.path)
    return run, plan


@pytest.fixture(scope="module")
def view(trained: tuple[Run, TrainingPlan]) -> TrainingView:
    return training_view(trained[0].path)


def test_all_of_a_training_is_on_its_page(view: TrainingView) -> None:
    assert view.outcome and view.mistakes and not view.why_none
    text = training_page([view], whole=False)
    pieces = Pieces(text)
    ids = {attrs["id"] for tag, attrs in pieces.tags if tag == "div" and "id" in attrs}
    assert ids == {"loss0", "top10", "classes0", "confusion0"}
    assert f"{view.outcome.top1[0]:.2f} %" in text and f"{view.outcome.chosen.recall:.2f} %" in text
    pictures = [attrs["src"] or "" for tag, attrs in pieces.tags if tag == "img"]
    assert len(pictures) == len(view.mistakes) and all(one.startswith("data:image/png;base64,") for one in pictures)
    fetched = {attrs.get("src") for tag, attrs in pieces.tags if tag == "script" and attrs.get("src")}
    assert len(fetched) == 1 and all("cdn.plot.ly" in str(one) for one in fetched)


def test_names_are_text_whatever_they_hold(view: TrainingView) -> None:
    assert view.outcome
    outcome = replace(view.outcome, classes=(HOSTILE, *view.outcome.classes[1:]))
    mistake = replace(view.mistakes[0], truth=HOSTILE, answer=HOSTILE)
    text = training_page([replace(view, name=HOSTILE, outcome=outcome, mistakes=(mistake,))])
    assert HOSTILE not in text and "<img src=x" not in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.slow
def test_it_is_drawn(view: TrainingView, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(training_page([view, replace(view, name="another")]))
    dom, log = drawn(file)
    assert dom.count('class="main-svg"') >= 16 and "Uncaught" not in log and "Refused" not in log


def test_a_training_that_goes_on_has_a_page(tmp_path: Path, view: TrainingView) -> None:
    run, _ = began(tmp_path / "run", epochs=2)
    begun = training_view(run.path)
    text = training_page([replace(begun, histories={0: view.histories[0]})], whole=False)
    assert "has not ended" in text and 'id="loss0"' in text and "confusion" not in text


def test_what_is_not_there_is_said(trained: tuple[Run, TrainingPlan], tmp_path: Path) -> None:
    """Evidence is kept without weights; images may have been changed, or all trained on."""
    run, plan = trained
    for changed, why in (
        ({"all_images": True}, "All images were trained on"),
        ({"images_digest": "another"}, "have been changed since"),
        ({"dataset": f"npz:{tmp_path / 'none.npz'}"}, "cannot be read"),
        ({"dataset": "cifar10", "data": str(tmp_path)}, "which are not on this machine"),
    ):
        before = (run.path / "training.json").read_text()
        try:
            (run.path / "training.json").write_text(to_json(replace(plan, **changed)))
            assert why in training_view(run.path).why_none
        finally:
            (run.path / "training.json").write_text(before)
    weights = run.weights(training_view(run.path).outcome.chosen.seed)  # type: ignore[union-attr]
    weights.rename(weights.with_suffix(".away"))
    try:
        found = training_view(run.path)
        assert "which are not there" in found.why_none and "which are not there" in training_page([found], whole=False)
    finally:
        weights.with_suffix(".away").rename(weights)


def test_one_command_for_both_kinds(trained: tuple[Run, TrainingPlan], tmp_path: Path) -> None:
    file = report(trained[0].path, tmp_path / "page.html", small=True)
    assert "What it is most wrong about" in file.read_text()
    searched = Path(__file__).parents[2] / "runs" / "cifar10-seed-1"
    with pytest.raises(Error, match="is a full training, others are searches; each kind has a page of its own"):
        report([searched, trained[0].path])


def test_intervals_are_wilsons() -> None:
    """Wilson 1927: 8 of 10, as textbooks have it."""
    assert interval(8, 10) == pytest.approx((49.02, 94.33), abs=0.01)
    assert interval(10, 10)[1] == pytest.approx(100)


class Reads(nn.Module):
    """Says of a constant image the class that its level names, and is surer of brighter ones."""

    def __init__(self) -> None:
        super().__init__()
        self.sure = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        level = x.mean((1, 2, 3)) * self.sure
        return torch.stack([-level, level], 1)


def test_those_it_is_surest_of_come_first() -> None:
    levels = np.array([10, 240, 30, 200, 220, 60] * 8, np.uint8)
    labels = np.array([0, 1, 0, 0, 0, 1] * 8)  # bright is 1: of six, two bright and a dark one are called otherwise
    pixels = np.broadcast_to(levels[:, None, None, None], (48, 8, 8, 1)).copy()
    pixels[:, -1, -1, 0] = np.arange(48)  # equal ones would be on one side of the split
    data = load(f"npz:{kept(pixels, labels, None, None, ['dark', 'bright'])}", reading=replace(READING, channels=1))
    found = mistakes_of(Reads(), data, data.train, 5)
    assert len(found) == 5 and [one.share for one in found] == sorted((one.share for one in found), reverse=True)
    assert {(one.truth, one.answer) for one in found} == {("dark", "bright")}
    image = Image.open(io.BytesIO(base64.b64decode(found[0].picture)))
    assert image.size == (8, 8) and image.getpixel((0, 0)) == 220
