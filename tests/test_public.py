"""What is at the root of `nas`: all that a command does is one call, and a name or a value will do."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import nas
from nas.cli.app import app
from search_spaces import ANCHORS, LOWRES

ROOT = Path(nas.__file__).parent
CALLBACKS = {c.name or c.callback.__name__: c.callback for c in app.registered_commands if c.callback}


def test_every_public_name_is_there_and_known_to_type_checkers() -> None:
    assert all(getattr(nas, name) for name in nas.__all__)
    assert set(nas.__all__) <= set(dir(nas))
    (block,) = [node for node in ast.parse((ROOT / "__init__.py").read_text()).body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    typed = {(node.module, alias.name) for node in imports for alias in node.names}
    assert typed == {(module, name) for module, names in nas.MODULES.items() for name in names}
    assert (ROOT / "py.typed").exists()
    with pytest.raises(AttributeError, match="module 'nas' has no attribute 'nothing'"):
        _ = nas.nothing


@pytest.mark.parametrize("command", CALLBACKS)
def test_every_option_of_a_command_is_an_argument_of_its_function(command: str) -> None:
    printed = {"json", "quiet", "context", "layers", "write_agent"}  # how it is printed, or another file than a result
    called = {"no_flip": "flip", "proxy": "proxies"}
    options = {called.get(name, name) for name in inspect.signature(CALLBACKS[command]).parameters} - printed
    if command == "anchors":
        options.remove("space")  # nas.projections(space)
    arguments = set(inspect.signature(getattr(nas, command)).parameters)
    assert options <= arguments, f"nas.{command} has no {sorted(options - arguments)}"


@pytest.mark.parametrize("anchor", ["lowres-mobilenet", ANCHORS["lowres-mobilenet"]], ids=["name", "value"])
@pytest.mark.parametrize("space", ["lowres", LOWRES], ids=["name", "value"])
def test_spaces_and_anchors_go_by_name_and_by_value(space: object, anchor: object) -> None:
    def by_macs(arch: nas.Arch, _rung: int) -> float:
        return nas.cost(arch).macs / 1e6

    found = nas.search(space, "25MFLOPs", by_macs, trials=3, anchors=[anchor])  # type: ignore[arg-type,list-item]
    assert found.trials[0].anchor == "lowres-mobilenet" and found.trials[0].cost.macs == 24_084_544
    with pytest.raises(ValueError, match="space 'lowre' is unknown; did you mean lowres"):
        nas.search("lowre", "25MFLOPs", by_macs)


def test_importing_nas_is_light() -> None:
    heavy = ("torch", "optuna", "ray", "sklearn", "numpy", "typer", "onnx", "plotly")
    code = f"import nas, nas.cli.app, sys; print([name for name in {heavy} if name in sys.modules and name != 'typer'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
