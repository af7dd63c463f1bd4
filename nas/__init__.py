"""Neural architecture search over lightweight convolutional blocks, under budgets that are kept.

What is public is here, each name loaded when it is first asked for. A command of the command line and the function of
the same name are the same thing: `nas.search`, `nas.train`, `nas.export`, `nas.measure` and so on.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api.calibrate import calibrate as calibrate
    from nas.api.export import export as export
    from nas.api.export import load as load
    from nas.api.images import images as images
    from nas.api.networks import anchors as anchors
    from nas.api.networks import diagram as diagram
    from nas.api.networks import measure as measure
    from nas.api.networks import profile as profile
    from nas.api.networks import projections as projections
    from nas.api.networks import space as space
    from nas.api.predict import predict as predict
    from nas.api.report import compare as compare
    from nas.api.report import dashboard as dashboard
    from nas.api.report import importance as importance
    from nas.api.report import report as report
    from nas.api.report import show as show
    from nas.api.samplers import GPSampler as GPSampler
    from nas.api.samplers import suggest as suggest
    from nas.api.search import search as search
    from nas.api.train import train as train
    from nas.errors import Error as Error
    from nas.networks.architecture import Anchor as Anchor
    from nas.networks.architecture import Arch as Arch
    from nas.networks.architecture import Head as Head
    from nas.networks.architecture import Published as Published
    from nas.networks.architecture import Stage as Stage
    from nas.networks.architecture import Stem as Stem
    from nas.networks.architecture import arch_id as arch_id
    from nas.networks.architecture import cost as cost
    from nas.networks.graph import Cost as Cost
    from nas.networks.space import Space as Space
    from nas.networks.space import of as of
    from nas.networks.space import one_of as one_of
    from nas.records.budget import Budget as Budget
    from nas.records.results import Prediction as Prediction
    from nas.records.run_folder import RunFailed as RunFailed
    from nas.records.timing import Latency as Latency
    from nas.records.trial import Trial as Trial
    from nas.reports.comparison import Result as Result
    from nas.search_strategy.progress import Halt as Halt

__version__ = "0.23.0"
MODULES = {
    "nas.api.calibrate": ("calibrate",),
    "nas.api.export": ("export", "load"),
    "nas.api.images": ("images",),
    "nas.api.networks": ("anchors", "diagram", "measure", "profile", "projections", "space"),
    "nas.api.predict": ("predict",),
    "nas.api.report": ("compare", "dashboard", "importance", "report", "show"),
    "nas.reports.comparison": ("Result",),
    "nas.api.samplers": ("GPSampler", "suggest"),
    "nas.api.search": ("search",),
    "nas.api.train": ("train",),
    "nas.errors": ("Error",),
    "nas.networks.architecture": ("Anchor", "Arch", "Head", "Published", "Stage", "Stem", "arch_id", "cost"),
    "nas.networks.graph": ("Cost",),
    "nas.networks.space": ("Space", "of", "one_of"),
    "nas.records.budget": ("Budget",),
    "nas.records.results": ("Prediction",),
    "nas.records.run_folder": ("RunFailed",),
    "nas.records.timing": ("Latency",),
    "nas.records.trial": ("Trial",),
    "nas.search_strategy.progress": ("Halt",),
}
"""Where each public name is written."""
__all__ = [name for names in MODULES.values() for name in names]


def __getattr__(name: str) -> Any:  # so that `import nas` and `nas --help` need nothing heavy
    for module, names in MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'nas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
