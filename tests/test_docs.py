"""The docs say what the program does. `python -m tests.test_docs` writes anew what they take from it."""

import contextlib
import io
import re
import tomllib
from pathlib import Path

import pytest

import nas
from nas.cli.app import app
from nas.networks.architecture import cost
from nas.networks.blocks import BLOCKS
from nas.networks.profile import status
from nas.networks.space import size
from nas.records.datasets import BUILT_IN, DATASETS
from nas.records.recipes import TRAINING_RECIPES
from nas.records.results import FORMATS
from search_spaces import ANCHORS, SPACES
from tests.cli.test_cli import nas_here

ROOT = Path(__file__).parent.parent
DOCS = ("README.md", "nas/README.md", "search_spaces/README.md", "runs/README.md", "tests/README.md")
TEXTS = {name: (ROOT / name).read_text() for name in DOCS}
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
PRINTED = re.compile(r"^(\$ nas ((?:profile|space|show|compare|importance) .*))\n(?:.*\n)*?```", re.MULTILINE)


def anchor_rows() -> list[str]:
    rows = []
    for anchor in ANCHORS.values():
        spent, printed = cost(anchor.arch), anchor.published
        paper = f"{printed.params or '-'}, {printed.flops or '-'}" if printed.params or printed.flops else "-"
        images = f"{anchor.arch.resolution}/{anchor.arch.classes}"
        rows.append(
            f"| `{anchor.name}` | {images} | {spent.params:,} | {spent.macs:,} | {paper} | {status(anchor)} "
            f"| {anchor.source} |"
        )
    return rows


TABLES = {  # by a table's first line: its rows
    "| name | what it is | images | classes | taken at | mirrored |": [
        f"| `{name}` | {one.title} | {one.images:,} | {one.classes} | {one.side}x{one.side}x{one.channels} "
        f"| {'yes' if one.flip else 'no'} |"
        for name, one in BUILT_IN.items()
    ],
    "| anchor | input/classes | params | MACs | paper: params, FLOPs | status | source |": anchor_rows(),
    "| block kind | what it is |": [
        f"| `{kind}` | {(block.__doc__ or '').partition(chr(10))[0]} |" for kind, block in BLOCKS.items()
    ],
    "| space | networks | about |": [f"| `{one.name}` | {size(one):.1e} | {one.about} |" for one in SPACES.values()],
    "| recipe | epochs | what it is |": [
        f"| `{name}` | {one.epochs} | {one.about} |" for name, one in TRAINING_RECIPES.items()
    ],
    "| format | file | what it is |": [f"| `{form}` | `{file}` | {about} |" for form, (file, about) in FORMATS.items()],
}


def as_written(text: str) -> str:
    """`text` with its tables as they follow from the program."""
    for head, rows in TABLES.items():
        lines = "\n".join(rows).replace("\\", r"\\") + "\n"
        text = re.sub(rf"(?<={re.escape(head)}\n)(\|[-|]+\|\n)(?:\|.*\n)*", rf"\1{lines}", text)
    return text


def as_printed(text: str) -> str:
    """`text` with what its commands print today: those that ask for nothing but what lies in the repository."""

    def answered(shown: re.Match[str]) -> str:
        done = nas_here(*shown[2].split())
        assert done.returncode == 0, f"{shown[1]} says {done.stderr}"
        return "\n".join([shown[1], *(line.rstrip() for line in done.stdout.splitlines()), "```"])

    return PRINTED.sub(answered, text)


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", DOCS)
def test_tables_are_those_of_the_program(name: str) -> None:
    assert as_written(TEXTS[name]) == TEXTS[name], "run python -m tests.test_docs, which writes them anew"


def test_every_table_has_its_place() -> None:
    assert all(head in "\n".join(TEXTS.values()) for head in TABLES)


@pytest.mark.parametrize("name", [name for name in DOCS if PRINTED.search(TEXTS[name])])
def test_what_is_shown_is_what_is_printed(name: str) -> None:
    assert as_printed(TEXTS[name]) == TEXTS[name], "run python -m tests.test_docs, which writes it anew"


def test_the_first_two_commands_are_the_promised_ones() -> None:
    blocks = "\n".join(re.findall(r"^```\n(.*?)^```", TEXTS["README.md"], re.MULTILINE | re.DOTALL))
    commands = [line for line in blocks.splitlines() if line.startswith("pip install")]
    assert commands == ["pip install . && nas search --budget 25MFLOPs", 'pip install ".[test]" && pytest']


def test_the_readme_is_short() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 250


def test_every_command_is_named_and_says_how_it_is_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    section = TEXTS["README.md"].partition("\n## Commands\n")[2].partition("\n## ")[0]
    assert set(COMMANDS) == set(re.findall(r"`nas ([a-z]+)`", section))
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            app([command, "--help"])
        shown = re.sub(r" +\n", "\n", capsys.readouterr().out)
        assert re.search(rf"Example: nas {command}[ \n]", shown), f"nas {command} --help has no example"
        assert callable(getattr(nas, command)), "a command is the function of the same name"


@pytest.mark.parametrize("name", DOCS)
def test_python_examples_run_as_they_stand(name: str) -> None:
    for code in re.findall(r"^```python\n(.*?)^```", TEXTS[name], re.MULTILINE | re.DOTALL):
        if "evaluate" not in code:  # it trains, or shows a part of a module
            compile(code, name, "exec")
            continue
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, name, "exec"), {"__name__": "example"})
        assert printed.getvalue().strip()


def test_every_dataset_is_named_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        app(["search", "--help"])
    shown = re.sub(r"[\s│]", "", capsys.readouterr().out)  # names may be broken at their hyphens
    assert all(name in shown for name in DATASETS)


def test_every_package_and_module_is_listed_in_its_order() -> None:
    (layers,) = [
        contract["layers"]
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers" and "nas.serialization" in contract["layers"]
    ]
    text = TEXTS["nas/README.md"]
    assert (
        re.findall(r"^\*\*`(\w+)`\*\*:", text, re.MULTILINE) == [layer.removeprefix("nas.") for layer in layers][::-1]
    )
    listed = set(re.findall(r"`(\w+)`", text))
    assert {path.stem for path in (ROOT / "nas").rglob("[a-z]*.py")} <= listed


@pytest.mark.parametrize("name", DOCS)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        file, _, heading = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        assert path.exists(), f"{name} links to {target}"
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, target


@pytest.mark.parametrize("name", DOCS)
def test_lines_fit_and_nothing_is_left_open(name: str) -> None:
    assert not re.findall(r"@[A-Z0-9]+@|TODO|TBD", TEXTS[name])
    prose = re.sub(r"^```.*?^```", "", TEXTS[name], flags=re.MULTILINE | re.DOTALL)
    assert not [line for line in prose.splitlines() if len(line) > 124 and not line.startswith("|")]


if __name__ == "__main__":  # python -m tests.test_docs, in the repository's root
    for name, text in TEXTS.items():
        Path(name).write_text(as_printed(as_written(text)))
