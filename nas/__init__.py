"""Neural architecture search over lightweight convolutional blocks, under budgets that are kept."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api import Result as Result
    from nas.api import search as search

__version__ = "0.16.0"


def __getattr__(name: str) -> Any:  # so that `import nas` and `nas --help` need nothing heavy
    if name in ("search", "Result"):
        from nas import api

        return getattr(api, name)
    raise AttributeError(f"module 'nas' has no attribute {name!r}")
