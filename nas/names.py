"""What names stand for: networks, anchors, what those cost. An unknown name raises ValueError."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TypeVar

from nas.arch import Anchor, Arch, cost
from nas.graph import Cost
from nas.plan import Budget, Plan
from nas.runs import open_run, read_trials
from nas.values import from_json
from search_spaces import ANCHORS, BASELINE

RESOLUTION = 32  # of the anchors that a search compares with
T = TypeVar("T")


def named(table: Mapping[str, T], name: str, what: str) -> T:
    """What `name` stands for in `table`; where it stands for nothing, the error names the nearest."""
    if name not in table:
        near = get_close_matches(name, table, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(table)}"
        raise ValueError(f"{what} {name!r} is unknown; {hint}")
    return table[name]


def architecture(network: str, resolution: int | None, classes: int | None) -> Arch:
    """The network called `network`: an anchor, the file of an architecture, the best of the run in that folder, or, as
    RUN/ID, the one of that search whose id begins so."""
    path = Path(network)
    if network in ANCHORS:
        arch = ANCHORS[network].arch
    elif path.suffix == ".json" or (network and os.path.isdir(path)):  # False, too, for a name that is too long
        file = path / "best" / "arch.json" if os.path.isdir(path) else path
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{file} cannot be read ({error}); give an anchor or an arch.json") from None
        arch = from_json(Arch, text, str(file))
    elif chosen := of_a_search(network):
        arch = tried(*chosen)
    else:
        arch = named({name: anchor.arch for name, anchor in ANCHORS.items()}, network, "network")
    resolution = arch.resolution if resolution is None else resolution
    return replace(arch, resolution=resolution, classes=arch.classes if classes is None else classes)


def of_a_search(network: str) -> tuple[Path, str] | None:
    """The folder and the id, where `network` is RUN/ID: a network of that search, by its id or how that begins."""
    path = Path(network)
    if path.suffix or len(path.parts) < 2 or os.path.exists(path) or not os.path.isfile(path.parent / "plan.json"):
        return None
    return path.parent, path.name


def tried(folder: Path, begins: str) -> Arch:
    """The network of the search in `folder` whose id begins so."""
    trials, _ = read_trials(open_run(folder)[0])
    found = [trial.arch for trial in trials if trial.arch_id.startswith(begins)]
    if len(found) != 1 or not isinstance(found[0], Arch):
        raise ValueError(
            f"{folder} has {len(found) or 'no'} networks whose id begins with {begins!r}; "
            f"nas show {folder} --json has the ids"
        )
    return found[0]


def anchor_costs(resolution: int, classes: int) -> dict[str, Callable[[], Cost]]:
    """What each anchor costs on such images: a budget may be given by name."""

    def spent(anchor: Anchor) -> Cost:
        if anchor.arch.resolution != resolution:
            small = f"{anchor.name}-{resolution}"
            hint = f"did you mean {small}?" if small in ANCHORS else "give a number"
            side = anchor.arch.resolution
            raise ValueError(f"budget {anchor.name!r} is a network for {side}x{side}, not {resolution}; {hint}")
        return cost(replace(anchor.arch, classes=classes))

    return {name: partial(spent, anchor) for name, anchor in ANCHORS.items()}


def anchors_for(plan: Plan) -> list[Anchor]:
    """The anchors that were made for images like the plan's, at its resolution and classes; the baseline first."""
    rows = [anchor for anchor in ANCHORS.values() if anchor.arch.resolution == RESOLUTION and not anchor.reference]
    rows.sort(key=lambda anchor: anchor.name != BASELINE)
    return [replace(a, arch=replace(a.arch, resolution=plan.resolution, classes=plan.classes)) for a in rows]


def first_of(plan: Plan) -> list[Arch]:
    """The baseline on the plan's images, where it keeps the budget."""
    baseline = anchors_for(plan)[0].arch
    return [baseline] if plan.budget.keeps(cost(baseline)) else []


def anchor_names(resolution: int | None) -> list[str]:
    """The anchors that were made for images of `resolution`, or of RESOLUTION."""
    side = resolution or RESOLUTION
    return [name for name, anchor in ANCHORS.items() if anchor.arch.resolution == side and not anchor.reference]


def on_paper(budget: Budget) -> Budget:
    """`budget`, which limits nothing that would have to be measured."""
    if budget.timed:
        raise ValueError(f"budget {budget} limits latency, which nothing measures here; leave it out")
    return budget


def absolute(dataset: str) -> str:
    """`dataset`, which a run that is resumed from elsewhere still finds."""
    if not dataset.startswith("folder:"):
        return dataset
    return f"folder:{Path(dataset.removeprefix('folder:')).expanduser().absolute()}"
