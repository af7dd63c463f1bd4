"""The README says what the program does."""

import re
from pathlib import Path

import pytest

from nas.arch import cost
from nas.blocks import BLOCKS
from nas.cli import app
from nas.data import DATASETS
from nas.outcome import FORMATS
from nas.profile import status
from nas.recipes import TRAININGS
from nas.space import size
from search_spaces import ANCHORS, SPACES
from tests.test_cli import nas_here
from tests.test_layers import ROOMS

README = (Path(__file__).parent.parent / "README.md").read_text()


COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]


def test_its_first_two_commands_are_the_promised_ones() -> None:
    blocks = "\n".join(re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
    commands = [line for line in blocks.splitlines() if line.startswith("pip install")]
    assert commands == ["pip install . && nas search --budget 25MFLOPs", 'pip install ".[test]" && pytest']


def test_the_anchors_table() -> None:
    rows = []
    for anchor in ANCHORS.values():
        spent, printed = cost(anchor.arch), anchor.published
        paper = f"{printed.params or '-'}, {printed.flops or '-'}" if printed.params or printed.flops else "-"
        images = f"{anchor.arch.resolution}/{anchor.arch.classes}"
        rows.append(
            f"| `{anchor.name}` | {images} | {spent.params:,} | {spent.macs:,} | {paper} | {status(anchor)} "
            f"| {anchor.source} |"
        )
    assert "\n".join(rows) in README, "README.md's anchors table should read\n" + "\n".join(rows)


def test_the_kinds_table() -> None:
    rows = [f"| `{kind}` | {(block.__doc__ or '').partition(chr(10))[0]} |" for kind, block in BLOCKS.items()]
    assert "\n".join(rows) in README, "README.md's block kinds table should read\n" + "\n".join(rows)


def test_the_spaces_table() -> None:
    rows = [f"| `{space.name}` | {size(space):.1e} | {space.about} |" for space in SPACES.values()]
    assert "\n".join(rows) in README, "README.md's spaces table should read\n" + "\n".join(rows)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_the_table(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        app([command, "--help"])
    help = capsys.readouterr().out
    assert f"Example: nas {command} " in help or f"Example: nas {command}\n" in re.sub(r" +\n", "\n", help)
    options = set(re.findall(r"--[a-z]+[a-z0-9-]*", help.partition("Options")[2])) - {"--help"}
    section = README.partition(f"Options of `nas {command}`")[2].partition("\n\n\n")[0].partition("Options of `nas")[0]
    rows = re.findall(r"^\| (`--[^|]*`) \|", section, re.MULTILINE)
    assert options == {option for row in rows for option in re.findall(r"`(--[a-z0-9-]+)`", row)}


def test_the_recipes_and_formats_tables() -> None:
    rows = [f"| `{name}` | {one.epochs} | {one.about} |" for name, one in TRAININGS.items()]
    assert "\n".join(rows) in README, "README.md's recipes table should read\n" + "\n".join(rows)
    rows = [f"| `{form}` | `{file}` | {about} |" for form, (file, about) in FORMATS.items()]
    assert "\n".join(rows) in README, "README.md's formats table should read\n" + "\n".join(rows)


def as_printed(readme: str) -> str:
    """The README with what its commands print today: those that ask for nothing but what lies in the repository."""

    def answered(shown: re.Match[str]) -> str:
        done = nas_here(*shown[2].split())
        assert done.returncode == 0, f"{shown[1]} says {done.stderr}"
        return "\n".join([shown[1], *(line.rstrip() for line in done.stdout.splitlines()), "```"])

    return re.sub(
        r"^(\$ nas ((?:profile|space|show|compare|importance) .*))\n(?:.*\n)*?```", answered, readme, flags=re.M
    )


def test_what_it_shows_is_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent)
    assert README.count("\n$ nas ") >= 3
    assert as_printed(README) == README, "run python -m tests.test_readme, which writes it anew"


def test_every_command_is_named() -> None:
    assert set(COMMANDS) == set(re.findall(r"Options of `nas ([a-z]+)`", README))


def test_the_python_example_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (code,) = [block for block in blocks if "from nas import" in block]
    assert len([line for line in code.splitlines() if line.strip()]) < 40
    namespace: dict[str, object] = {"__name__": "example"}
    exec(compile(code, "README.md", "exec"), namespace)
    assert len(capsys.readouterr().out.splitlines()) == 21


def test_every_dataset_is_named() -> None:
    assert all(f"`{name}`" in README for name in DATASETS)


def test_every_room_is_named() -> None:
    rooms = {path.name for path in (Path(__file__).parent.parent / "nas").glob("[a-z]*.py")}
    assert rooms == set(re.findall(r"nas/([a-z_]+\.py)", README))


def test_the_house_is_listed_in_its_order() -> None:
    rows = [
        re.findall(r"nas/([a-z_]+)\.py", line) for line in README.splitlines() if re.match(r"nas/[a-z_]+\.py ", line)
    ]
    listed = [row[0] for row in rows] + [row[1] for row in rows if len(row) > 1]
    assert listed == [room for room in ROOMS if room != "__main__"]


def test_nothing_is_left_open() -> None:
    assert not re.findall(r"@[A-Z0-9]+@", README)


if __name__ == "__main__":  # python -m tests.test_readme, in the repository's root
    Path("README.md").write_text(as_printed(README))
