"""The house: a room imports only rooms above it, and each third-party package has one door."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = [
    # The standard library only:
    "values", "graph", "sizes", "classics", "blocks", "arch", "space", "timing", "plan", "recipes", "outcome",
    "findings", "trial", "pareto", "survey", "files", "runs", "compare", "profile", "source",
    # The others:
    "agent", "conditions", "checker", "onnx_graph", "quantize", "model", "counting", "weights", "data",
    "augment", "train", "fit", "evaluate", "journal", "surrogate", "propose", "workers", "latency", "forecast",
    "gate", "book", "account", "waves", "calibrate", "course", "knobs", "diagram", "card", "takehome",
    "api", "report", "names", "recall", "request", "tables", "live", "verdict", "screen", "guard", "work", "look",
    "cli", "__main__",
]  # fmt: skip
STDLIB_ONLY = ROOMS[: ROOMS.index("source") + 1]
DOORS = {
    "torch": {
        "model", "counting", "weights", "data", "augment", "train", "fit", "evaluate", "latency", "course", "takehome",
        "checker",
    },
    "safetensors": {"weights"},
    "onnx": {"onnx_graph"},
    "onnxruntime": {"agent", "checker", "quantize"},
    "torchvision": {"data", "augment"},
    "sklearn": {"data", "fit", "surrogate", "forecast"},  # datasets, metrics, a Gaussian process, least squares
    "executorch": {"takehome", "checker"},
    "jinja2": {"card", "report"},
    "plotly": {"report"},
    "pandas": {"api"},
    "resvg_py": {"diagram"},
    "optuna": {"journal"},
    "ray": {"workers"},
    "pynvml": {"latency"},
    "scipy": {"calibrate"},
    "typer": {"guard", "work", "look", "cli"},
    "rich": {"tables", "live"},
    "thop": {"counting"},
}  # fmt: skip


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_room_is_on_the_list() -> None:
    assert {file.stem for file in (ROOT / "nas").glob("*.py")} == {*ROOMS, "__init__"}


def test_a_room_imports_only_rooms_above_it() -> None:
    wrong = []
    for place, room in enumerate(ROOMS):
        for name in imports(ROOT / "nas" / f"{room}.py"):
            parts = name.split(".")
            if parts[0] == "nas" and len(parts) > 1 and parts[1] in ROOMS[place:]:
                wrong.append(f"{room} imports {parts[1]}")
            if parts[0] == "search_spaces" and room not in ("work", "look", "names", "recall", "request"):
                wrong.append(f"{room} imports search_spaces")
    assert not wrong


def test_each_package_has_its_doors() -> None:
    wrong = []
    for room in ROOMS:
        packages = {name.split(".")[0] for name in imports(ROOT / "nas" / f"{room}.py")}
        wrong += [f"{room} imports {name}" for name in packages & DOORS.keys() if room not in DOORS[name]]
        if room in STDLIB_ONLY:
            import sys

            foreign = packages - set(sys.stdlib_module_names) - {"nas"}
            wrong += [f"{room} imports {name}" for name in foreign]
    assert not wrong


def test_spaces_are_data() -> None:
    for file in (ROOT / "search_spaces").glob("*.py"):
        rooms = {name.split(".")[1] for name in imports(file) if name.startswith("nas.")}
        assert rooms <= {"graph", "blocks", "classics", "arch", "space"}, file
