"""The README says what the program does."""

import re
from pathlib import Path

import pytest

from nas.arch import cost
from nas.cli import app
from nas.data import DATASETS
from nas.space import size
from search_spaces import ANCHORS, SPACES

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_its_first_two_commands_are_the_promised_ones() -> None:
    blocks = "\n".join(re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
    commands = [line for line in blocks.splitlines() if line.startswith("pip install")]
    assert commands == ["pip install . && nas search --budget 25MFLOPs", 'pip install ".[test]" && pytest']


def test_the_anchors_table() -> None:
    rows = [f"| `{a.name}` | {cost(a.arch).params:,} | {cost(a.arch).macs:,} | {a.source} |" for a in ANCHORS.values()]
    assert "\n".join(rows) in README, "README.md's anchors table should read\n" + "\n".join(rows)


def test_the_spaces_table() -> None:
    rows = [f"| `{space.name}` | {size(space):.1e} | {space.about} |" for space in SPACES.values()]
    assert "\n".join(rows) in README, "README.md's spaces table should read\n" + "\n".join(rows)


def test_every_option_is_in_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        app(["search", "--help"])
    options = set(re.findall(r"--[a-z]+", capsys.readouterr().out)) - {"--help"}
    assert options == set(re.findall(r"^\| `(--[a-z]+)` \|", README, re.MULTILINE))


def test_every_dataset_is_named() -> None:
    assert all(f"`{name}`" in README for name in DATASETS)


def test_every_room_is_named() -> None:
    rooms = {path.name for path in (Path(__file__).parent.parent / "nas").glob("[a-z]*.py")}
    assert rooms == set(re.findall(r"nas/([a-z]+\.py)", README))


def test_nothing_is_left_open() -> None:
    assert not re.findall(r"@[A-Z]+@", README)
