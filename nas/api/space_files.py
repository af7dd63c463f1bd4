"""Search spaces of a user's own, by the file or the module that they are written in: my_space.py:SPACE."""

import functools
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from nas.errors import Error
from nas.networks.plain_space import plain_space
from nas.networks.space import Space
from nas.records.atomic_files import put_whole
from nas.records.run_folder import Run

PREFIX = "nas_space_file_"  # of the modules that files become, so that random.py hides no module of Python's


def space_in_file(reference: str) -> Space:
    """The space that `reference` names, FILE.py:NAME or package.module:NAME, called by it, its source's digest in it.

    Raises Error where the file cannot be read or run, or holds no such space.
    """
    module, name = loaded_module(reference), reference.rpartition(":")[2]
    if not hasattr(module, name):
        there = [key for key, value in vars(module).items() if isinstance(value, Space)]
        raise Error(f"{reference}: there is no {name}; spaces in it: {', '.join(there) or 'none'}")
    try:
        space = plain_space(getattr(module, name))
    except Error as error:
        raise Error(f"{reference}: {error}") from None
    file = source_file(reference)
    called = f"{file}:{name}" if _is_file(reference) else reference
    return replace(space, name=called, source=hashlib.sha256(file.read_bytes()).hexdigest()[:12])


def write_example(file: Path) -> str:
    """What names the space in `file`, which is written: a commented example, ready to be searched and changed.

    Raises Error where the file exists already, or cannot be written.
    """
    from search_spaces import example

    if file.suffix != ".py":
        raise Error(f"write {str(file)!r} must end in .py, so that it can be loaded")
    try:
        with file.open("x") as out:
            out.write(Path(example.__file__).read_text())
    except FileExistsError:
        raise Error(f"{file} exists already; name a file that does not, or remove it") from None
    except OSError as error:
        raise Error(f"{file} cannot be written: {error.strerror}") from None
    return f"{file}:SPACE"


def module_name(reference: str) -> str:
    """What the module is called that `reference` is loaded as."""
    where = reference.rpartition(":")[0]
    return PREFIX + Path(where).stem if _is_file(reference) else where


def source_file(reference: str) -> Path:
    """The file that a loaded `reference` was read from."""
    return Path(str(sys.modules[module_name(reference)].__file__))


def keep_source(run: Run, space: Space) -> None:
    """Puts a copy of the file that `space` was read from, if it was, into the run's folder."""
    if space.source and _is_file(space.name):
        put_whole(run.space_file, source_file(space.name).read_bytes())


def loaded_module(reference: str, what: str = "space") -> ModuleType:
    """The module of `reference`, run anew where it is a file: it may have been changed."""
    where = reference.rpartition(":")[0]
    if not _is_file(reference):
        return _run(reference, what, functools.partial(importlib.import_module, where))
    file = Path(where).expanduser().absolute()
    if not file.is_file():
        way_out = f"; nas space --write {where} writes an example" if what == "space" else ""
        raise Error(f"{what} {reference!r}: there is no file {file}{way_out}")
    spec = importlib.util.spec_from_file_location(module_name(reference), file)
    assert spec and spec.loader
    module, loader = importlib.util.module_from_spec(spec), spec.loader
    sys.modules[module.__name__] = module
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # what lies beside it may be imported, as from a script

    def run() -> ModuleType:
        loader.exec_module(module)
        return module

    return _run(reference, what, run)


def _is_file(reference: str) -> bool:
    where = reference.rpartition(":")[0]
    return where.endswith(".py") or "/" in where


def _run(reference: str, what: str, run: Callable[[], ModuleType]) -> ModuleType:
    try:
        return run()
    except ModuleNotFoundError as error:
        raise Error(
            f"{what} {reference!r} cannot be loaded: {error}; give FILE.py:NAME, or install that module"
        ) from None
    except (Exception, SystemExit) as error:  # whatever a file of a user's own raises
        frames = traceback.extract_tb(error.__traceback__)
        line = frames[-1].lineno if not isinstance(error, SyntaxError) else error.lineno
        said = f"{type(error).__name__} in line {line}: {error}"
        raise Error(f"{what} {reference!r} cannot be loaded: {said}") from error
