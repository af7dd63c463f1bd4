"""A folder of photographs, searched, trained and exported at their own size."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

import nas
from nas import Arch, Head, Space, Stage, Stem, of, one_of
from nas.errors import Error
from nas.networks.blocks import Separable
from nas.records.plan import PROXY, Rung
from nas.records.run_folder import open_run

TINY = Space(
    "tiny",
    of(
        Arch,
        stem=of(Stem, width=one_of(4, 8)),
        stages=(Stage(Separable(), 8, 1, 2), of(Stage, block=Separable(), width=one_of(8, 16), depth=1, stride=2)),
        head=Head(),
    ),
)


@pytest.fixture
def photographs(here: Path) -> Path:
    """Bright ones and dark ones, 20 people each, 90 pixels high, and a broken one."""
    root = here / "photographs"
    for name, level in (("bright", 200), ("dark", 30)):
        (root / name).mkdir(parents=True)
        for i in range(60):
            Image.new("RGB", (120, 90), (level, 2 * i, i)).save(root / name / f"person{i % 20}-{i}.jpg", quality=95)
    (root / "dark" / "person3-999.jpg").write_bytes(b"no picture")
    return root


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    rungs = (Rung(48, 1, 16), Rung(48, 1, 16))
    monkeypatch.setattr("nas.api.search_tasks.PROXY", replace(PROXY, rungs=rungs, batch=16))
    monkeypatch.setattr("nas.records.plan.RUNG_STEPS", 3)  # what is tested does not hang on their number, the time does


@pytest.mark.usefixtures("quick")
def test_from_a_folder_to_files(photographs: Path, here: Path) -> None:
    about: list[str] = []
    asked = {"dataset": f"folder:{photographs}", "groups": r"person(\d+)", "resolution": 48}
    with pytest.raises(Error, match=r"1 of the pictures in .* cannot be read.*--skip-bad:\n  dark/person3-999.jpg"):
        nas.search(TINY, "2MFLOPs", **asked, trials=3, anchors=(), workers=1, read=lambda what, *_: about.append(what))
    found = nas.search(TINY, "2MFLOPs", **asked, skip_bad=True, trials=3, anchors=(), workers=1, run=here / "searched")
    plan = open_run(here / "searched")[1]
    assert plan.resolution == 48 and plan.reading.groups == r"person(\d+)" and plan.reading.skip_bad
    assert {trial.arch.resolution for trial in found.trials} == {48} and about == ["pictures read"]
    with (here / "searched" / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    people = {part: {row["file"].split("-")[0].split("/")[1] for row in rows if row["part"] == part} for part in
              ("train", "val", "test")}  # fmt: skip
    assert len(rows) == 121 and sum(map(len, people.values())) == 20 and all(people.values())
    assert [row["file"] for row in rows if not row["part"]] == ["dark/person3-999.jpg"]

    again = nas.search(TINY, "2MFLOPs", **asked, skip_bad=True, trials=4, anchors=(), workers=1, run=here / "searched")
    assert len([trial for trial in again.trials if trial.state != "refused"]) == 4
    trained = nas.train(here / "searched", epochs=2, workers=1, run=here / "trained")
    assert trained.training_plan.arch.resolution == 48 and trained.training_plan.reading == plan.reading
    assert trained.outcome.test_images == 6 * len(people["test"]) and trained.outcome.tested[0].top1 > 50
    exported = nas.export(here / "trained", formats="python,onnx", seconds=0)
    assert {one.format: one.same for one in exported.found.artefacts} == {"python": 100, "onnx": 100}
    said = json.loads((here / "trained" / "export" / "preprocess.json").read_text())
    assert said["resolution"] == 48 and said["share"] == pytest.approx(7 / 8, abs=0.01)

    pictures = [photographs / "dark", photographs / "bright" / "person1-1.jpg"]
    with pytest.raises(Error, match=r"1 of the pictures cannot be read.*--skip-bad:\n  .*person3-999.jpg: "):
        nas.predict(here / "trained", pictures)
    trained_says = nas.predict(here / "trained", pictures, top=1, skip_bad=True)
    exported_says = nas.predict(here / "trained" / "export", pictures, top=1, skip_bad=True)
    assert len(trained_says) == 61
    for one, other in zip(trained_says, exported_says, strict=True):
        assert one.file == other.file and one.classes[0][0] == other.classes[0][0]
        assert one.classes[0][1] == pytest.approx(other.classes[0][1], abs=0.01)
    right = [one.classes[0][0] == Path(one.file).parent.name for one in trained_says]
    assert sum(right) > 40

    with pytest.raises(Error, match="resolution, channels, groups, skip_bad and balance are for a dataset"):
        nas.search(TINY, evaluate=lambda network, rung: 1.0, resolution=64)
    again = nas.train(here / "searched", f"folder:{photographs}", epochs=1, workers=1, run=here / "again")
    assert again.training_plan.reading == plan.reading  # tested as it was found
    Image.new("RGB", (90, 90)).save(photographs / "dark" / "person4-more.jpg")
    with pytest.raises(Error, match="has been changed since the network was trained on it"):
        nas.export(here / "trained", formats="onnx", seconds=0)
    with pytest.raises(Error, match="is for images of 48x48, resolution is 64; leave it out"):
        nas.train(here / "searched", resolution=64)


@pytest.mark.usefixtures("quick")
def test_a_space_may_hold_the_resolution(photographs: Path, here: Path) -> None:
    (photographs / "dark" / "person3-999.jpg").unlink()
    template = TINY.template
    sizes = replace(TINY, template=replace(template, fields=(*template.fields, ("resolution", one_of(32, 40, 48)))))
    dataset = f"folder:{photographs}"
    found = nas.search(sizes, "0.25MFLOPs", dataset=dataset, trials=6, anchors=(), workers=1, run=here / "r")
    sides = {trial.arch.resolution for trial in found.trials}
    assert len(sides) > 1 and sides <= {32, 40, 48} and open_run(here / "r")[1].resolution == 48
    assert {trial.state for trial in found.trials} <= {"complete", "pruned"}
    with pytest.raises(Error, match=r"says itself which resolutions.*\(32, 40, 48\); leave out resolution"):
        nas.search(sizes, "2MFLOPs", dataset=dataset, resolution=48)


def test_published_networks_on_larger_pictures(photographs: Path, here: Path) -> None:
    (photographs / "dark" / "person3-999.jpg").unlink()
    dataset = f"folder:{photographs}"
    trained = nas.train("lowres-mobilenet", dataset, resolution=64, epochs=1, workers=1, run=here / "a")
    assert trained.training_plan.arch.stem.stride == 2 and trained.training_plan.arch.classes == 2
    natural: list[str] = []
    trained = nas.train(
        "shufflenetv2", dataset, epochs=1, workers=1, run=here / "b", read=lambda what, *_: natural.append(what)
    )
    assert trained.training_plan.arch.resolution == 64
    assert natural[0] == "120 pictures of about 90 pixels are taken at 64x64; --resolution takes another size"
    with pytest.raises(Error, match=r"shufflenetv2 is for images of 224x224, .* has 32"):
        nas.train("shufflenetv2", dataset, resolution=32)


def test_other_sizes_of_cifar_and_digits_are_searched(here: Path) -> None:
    with pytest.raises(Error, match="groups and skip_bad are for folder:PATH, the dataset is digits"):
        nas.search(budget="2MFLOPs", dataset="digits", skip_bad=True)
    trained = nas.train("tailored-mobilenetv2", "digits", resolution=16, epochs=1, workers=1, run=here / "digits")
    assert trained.training_plan.arch.resolution == 16 and trained.outcome.test_images == 360


@pytest.mark.usefixtures("quick")
def test_gray_images_stay_gray_to_the_last_file(here: Path) -> None:
    """As Fashion-MNIST is: searched, trained, exported and predicted with one channel, which nobody asked for."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    pixels = (rng.integers(0, 60, (200, 28, 28)) + 150 * labels[:, None, None]).astype(np.uint8)
    dataset = nas.images(pixels, labels, classes=["dark", "bright"])
    found = nas.search(
        TINY, "lowres-mobilenet", dataset=dataset, anchors=(), trials=2, workers=1, run=here / "searched"
    )
    assert found.plan.reading.channels == 1 and {trial.arch.channels for trial in found.trials} == {1}
    baseline = nas.profile("lowres-mobilenet", 28, 2, 1)
    assert found.plan.budget.macs == nas.cost(baseline.arch).macs  # the gray one's
    trained = nas.train(here / "searched", epochs=4, workers=1, balance=True, run=here / "trained")
    assert trained.training_plan.arch.channels == 1 and trained.outcome.tested[0].top1 > 90
    assert trained.training_plan.balance and not found.plan.balance
    exported = nas.export(here / "trained", formats="onnx,onnx-pixels", seconds=0)
    assert not exported.found.failed
    session = onnxruntime.InferenceSession(str(exported.folder / "model.onnx"))
    assert session.get_inputs()[0].shape == ["batch", 1, 28, 28]
    Image.fromarray(pixels[1]).convert("RGB").save(here / "photo.png")
    for what in (here / "trained", exported.folder):
        assert nas.predict(what, here / "photo.png", top=1)[0].classes[0][0] == "bright"
    colour = nas.search(TINY, "2MFLOPs", dataset=dataset, channels=3, trials=1, anchors=(), workers=1, run=here / "c")
    assert {trial.arch.channels for trial in colour.trials} == {3}
    with pytest.raises(Error, match="is for images of 1 channels, channels is 3; leave it out"):
        nas.train(here / "searched", channels=3, epochs=1, run=here / "d")
