"""What names and words stand for: spaces, anchors, networks, budgets, folders, times. All raise Error, with the
rule and the way out, where a name is unknown.
"""

import math
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from nas.api.space_files import space_in_file
from nas.errors import Error, shown
from nas.networks.architecture import COLOUR, Anchor, Arch, arch_id, cost, cost_or_unbuildable
from nas.networks.graph import Cost
from nas.networks.plain_space import plain_space
from nas.networks.sizes import SEEN, SMALL, for_images
from nas.networks.space import Space, decode, fitted, has_sides, sample, sides
from nas.records.budget import BUDGET_HELP, Budget, parse_budget
from nas.records.plan import DEVICES, FRONT_KEEP, Plan, Reading, filled
from nas.records.run_folder import Run, free_name, open_run
from nas.records.search_files import Restore, read_trials
from nas.records.trial import Trial, identity, restored
from nas.search_strategy.candidates import costs_for
from nas.serialization import from_json
from search_spaces import ANCHORS, BASELINE, SPACES

if TYPE_CHECKING:
    from nas.training.images import Data

RUNS = Path("runs")  # where runs lie that are given no folder
RESOLUTION = SMALL  # of images where nothing else is said
Read: TypeAlias = Callable[[str, int, int], None]
"""Called with what is read of a folder's pictures, how many have been read, and of how many."""
SpaceLike: TypeAlias = str | Space | Mapping[str, Any] | Sequence[Any]
"""A space by name or as a value; see `space_of`."""
T = TypeVar("T")
N = TypeVar("N", bound=str)


def named(table: Mapping[str, T], name: str, what: str) -> T:
    """What `name` stands for in `table`; where it stands for nothing, the error names the nearest."""
    if name not in table:
        near = get_close_matches(name, table, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(table)}"
        raise Error(f"{what} {shown(name)} is unknown; {hint}")
    return table[name]


def one_of(names: Sequence[N], name: str | None, what: str) -> N | None:
    """`name`, which is one of `names`; None where nothing was asked."""
    found = next((one for one in names if one == name), None)
    if name is not None and found is None:
        raise Error(f"{what} {shown(name)} is unknown; one of {', '.join(names)}")
    return found


def checked_device(device: str | None) -> None:
    """Raises Error where `device` is not one that networks are trained on, or torch finds none of it here."""
    if device is None:
        return
    if device not in DEVICES:
        raise Error(
            f"device {shown(device)} is unknown; networks train on one of {', '.join(DEVICES)}; where latency is "
            "measured is measure_device of nas.search"
        )

    from nas.training.devices import device as found

    found(device)


def workers_here(device: str | None, gpus: float | None, largest: Arch | None, batch: int) -> int:
    """How many trainings run side by side on this machine where nobody says: one a core, or as many as have room on its
    GPUs, by the memory that a step of the `largest` network takes."""
    from nas.execution.workers import usual_number
    from nas.training.devices import cards, room
    from nas.training.devices import device as found

    if found(device).type == "mps":
        return 1
    number = cards(device)
    if not number or gpus is not None or largest is None:
        return usual_number(number, gpus)
    return usual_number(number, None, room(largest, batch))


def fitted_space(space: Space) -> Space:
    """`space` for such images as anchors are compared on, 10 classes; networks of a user's own as they are."""
    try:
        return fitted(space, RESOLUTION, 10)
    except Error:  # they are no architectures
        return space


def tried_out(space: Space) -> Space:
    """`space`, of which a few networks can be drawn and counted. Raises Error with what a user's own code says."""
    try:
        for seed in range(3):
            network = sample(space, random.Random(seed))
            if isinstance(network, Arch):
                cost_or_unbuildable(network)
    except Exception as error:  # whatever a class or a `wire` of theirs raises
        said = str(error) if isinstance(error, Error) else f"{type(error).__name__}: {error}"
        raise Error(f"no network can be drawn from space {space.name}: {said}") from error
    return space


def space_of(space: SpaceLike) -> Space:
    """The search space called `space`, the one in a file, FILE.py:NAME, or the one that is given."""
    if not isinstance(space, str):
        return tried_out(plain_space(space))
    if ":" in space:
        return tried_out(space_in_file(space))
    if space.endswith(".py"):
        raise Error(f"space {space!r} is a file; say which space in it, as in {space}:SPACE")
    return named(SPACES, space, "space")


def architecture(
    network: str | Path | Arch | Anchor,
    resolution: int | None = None,
    classes: int | None = None,
    channels: int | None = None,
) -> Arch:
    """The network called `network`: an anchor, the file of an architecture, the best of the run in that folder, or, as
    RUN/ID, the one of that search whose id begins so. Or the one that is given.

    `resolution`, `classes`, `channels`: for images other than its own. An anchor that was made for small ones halves
    larger ones first, as `nas.networks.sizes` says; any other network stays as it is.
    """
    if isinstance(network, Anchor):
        return _anchor_for(network.arch, resolution, classes, channels)
    if isinstance(network, Arch):
        return _for_images(network, resolution, classes, channels)
    network, path = str(network), Path(network)
    if network in ANCHORS:
        return _anchor_for(ANCHORS[network].arch, resolution, classes, channels)
    if path.suffix == ".json" or (network and os.path.isdir(path)):  # False, too, for a name that is too long
        file = path / "best" / "arch.json" if os.path.isdir(path) else path
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Error(f"{file} cannot be read ({error}); give an anchor or an arch.json") from None
        arch = from_json(Arch, text, str(file))
    elif chosen := of_a_search(network):
        arch = tried(*chosen)
    else:
        arch = named({name: anchor.arch for name, anchor in ANCHORS.items()}, network, "network")
    return _for_images(arch, resolution, classes, channels)


def _anchor_for(arch: Arch, resolution: int | None, classes: int | None, channels: int | None) -> Arch:
    return for_images(arch, resolution or arch.resolution, classes or arch.classes, channels or arch.channels)


def _for_images(arch: Arch, resolution: int | None, classes: int | None, channels: int | None) -> Arch:
    return replace(
        arch,
        resolution=resolution or arch.resolution,
        classes=classes or arch.classes,
        channels=channels or arch.channels,
    )


def network_name(network: str | Path | Arch | Anchor) -> str:
    """What a network is called: its name as given, an anchor's own, of an architecture its identity."""
    if isinstance(network, Anchor):
        return network.name
    return arch_id(network) if isinstance(network, Arch) else str(network)


def of_a_search(network: str) -> tuple[Path, str] | None:
    """The folder and the id, where `network` is RUN/ID: a network of that search, by its id or how that begins."""
    path = Path(network)
    if path.suffix or len(path.parts) < 2 or os.path.exists(path) or not os.path.isfile(path.parent / "plan.json"):
        return None
    return path.parent, path.name


def tried(folder: Path, begins: str) -> Arch:
    """The network of the search in `folder` whose id begins so."""
    run, plan = open_run(folder)
    trials, _ = read_trials(run, restore_of(run, plan))
    found = [trial.arch for trial in trials if trial.arch_id.startswith(begins)]
    if len(found) != 1 or not isinstance(found[0], Arch):
        raise Error(
            f"{folder} has {len(found) or 'no'} networks whose id begins with {begins!r}; "
            f"nas show {folder} --json has the ids"
        )
    return found[0]


def redrawn(space: Space, trial: Trial) -> Trial:
    """`trial` as read from disk, with the network that its choices draw; an anchor outside the space has none."""
    if trial.anchor and not trial.choices:
        return restored(trial)
    network = decode(space, trial.choices)
    if identity(network) != trial.arch_id:
        raise Error(f"its choices draw {identity(network)}, the record is of {trial.arch_id}")
    return replace(trial, arch=network)


def restore_in(space: Space) -> Restore:
    """How networks of a search's trials are read: from their records; where the space was read from a file, which may
    hold blocks of its own, by drawing them again."""
    return partial(redrawn, space) if space.source else restored


def restore_of(run: Run, plan: Plan) -> Restore:
    """How networks of that run's trials are read; a space's file is read from the copy that the run keeps of it."""
    if not plan.dataset or ":" not in plan.space:
        return restored
    file, name = run.space_file, plan.space.rpartition(":")[2]
    space = space_in_file(f"{file}:{name}" if file.exists() else plan.space)
    return restore_in(fitted(space, plan.resolution, plan.classes, plan.reading.channels))


def anchor_costs(resolution: int, classes: int, channels: int) -> dict[str, Callable[[], Cost]]:
    """What each anchor costs on such images: a budget may be given by name."""

    def spent(anchor: Anchor) -> Cost:
        if not trains_at(anchor.arch, resolution):
            small = f"{anchor.name}-{SMALL}"
            hint = f"did you mean {small}?" if small in ANCHORS else "give a number"
            side = anchor.arch.resolution
            raise Error(f"budget {anchor.name!r} is a network for {side}x{side}, not {resolution}; {hint}")
        return cost(for_images(anchor.arch, resolution, classes, channels))

    return {name: partial(spent, anchor) for name, anchor in ANCHORS.items()}


def budget_of(
    budget: str | Sequence[str] | Budget | None,
    resolution: int,
    classes: int,
    anchors: Sequence[str | Anchor] | None = None,
    channels: int = COLOUR,
) -> Budget:
    """The budget that is spelt, in one text or several, or given. A name stands for what that anchor costs on such
    images: a published one, or one of `anchors`."""
    if isinstance(budget, Budget):
        return budget
    if not budget:
        raise Error(f"budget is missing; {BUDGET_HELP}")
    own = {one.name: partial(cost, one.arch) for one in anchors or () if isinstance(one, Anchor)}
    published = anchor_costs(resolution, classes, channels)
    return parse_budget([budget] if isinstance(budget, str) else budget, published | own)


def budget_text(budget: str | Sequence[str] | Budget | None) -> str:
    """A budget as it was spelt."""
    return str(budget) if isinstance(budget, str | Budget) else ",".join(budget or ())


def anchor_of(anchor: str | Anchor, plan: Plan | None) -> Anchor:
    """The published network called `anchor`, made for images like the plan's; or the one that is given."""
    if isinstance(anchor, Anchor):
        return anchor
    found = named(ANCHORS, anchor, "anchor")
    if plan is None:
        return found
    return _like(found, plan)


def _like(anchor: Anchor, plan: Plan) -> Anchor:
    """`anchor` for images like the plan's."""
    return replace(anchor, arch=for_images(anchor.arch, plan.resolution, plan.classes, plan.reading.channels))


def anchors_for(plan: Plan) -> list[Anchor]:
    """The anchors for images like the plan's, at its resolution and classes; the baseline first, then what the user
    begins with.

    Of a space that names its family's, those and the baseline.
    """
    family = SPACES[plan.space].anchors if plan.space in SPACES else ()
    # The space's points are its family as it is at 32x32, larger images halved first: not as it was made for 224x224.
    rows = [ANCHORS[name] for name in (BASELINE, *family)] if family else fitting(plan.resolution)
    rows.sort(key=lambda anchor: anchor.name != BASELINE)
    return with_starts([_like(anchor, plan) for anchor in rows], plan)


def with_starts(anchors: Sequence[Anchor], plan: Plan) -> list[Anchor]:
    """`anchors` with the plan's starts after the first one, which is the row to beat; each network once."""
    starts = [start for start in plan.starts if start.arch != anchors[0].arch] if anchors else list(plan.starts)
    own = [start.arch for start in starts]
    return [*anchors[:1], *starts, *(anchor for anchor in anchors[1:] if anchor.arch not in own)]


def first_of(plan: Plan) -> list[Arch]:
    """The baseline on the plan's images, where it keeps the budget."""
    baseline = anchors_for(plan)[0].arch
    return [baseline] if plan.budget.keeps(costs_for(plan.budget)(baseline)) else []


def fitting(resolution: int | None) -> list[Anchor]:
    """The anchors for images of `resolution`, or of RESOLUTION, but for those to compare with only.

    Larger images are for those made for 224x224, and for those made for small ones that have no such counterpart.
    """
    side = resolution or RESOLUTION
    found = [anchor for anchor in ANCHORS.values() if not anchor.reference and trains_at(anchor.arch, side)]
    if side > SEEN:
        made = {anchor.name for anchor in found if anchor.arch.resolution != SMALL}
        found = [anchor for anchor in found if anchor.name.removesuffix(f"-{SMALL}") not in made - {anchor.name}]
    return found


def trains_at(arch: Arch, resolution: int) -> bool:
    """Whether a published network is for such images: made for small ones, or these are large enough for it."""
    return arch.resolution in (SMALL, resolution) or resolution > SEEN


def on_paper(budget: Budget) -> Budget:
    """`budget`, which limits nothing that would have to be measured."""
    if budget.timed:
        raise Error(f"budget {budget} limits latency, which nothing measures here; leave it out")
    return budget


def absolute(dataset: str) -> str:
    """`dataset`, which a run that is resumed from elsewhere still finds."""
    kind, colon, path = dataset.partition(":")
    if kind not in ("folder", "npz") or not colon:
        return dataset
    return f"{kind}:{Path(path).expanduser().absolute()}"


def folder_of(data: str | Path | None) -> str | None:
    """The folder where a dataset lies, which a run that is resumed from elsewhere still finds."""
    return str(Path(data).expanduser().absolute()) if data else None


def new_folder(about: str) -> Path:
    """A folder in runs/ that does not exist yet, named after what a run is about."""
    return free_name(RUNS, re.sub(r"[^\w.,+-]+", "-", about).strip("-"))


def seconds_of(time_limit: float | str | None) -> float:
    """The seconds of a time limit: a number, or as in 90s, 30m, 2h; without end where there is none."""
    if time_limit is None or isinstance(time_limit, int | float):
        return math.inf if time_limit is None else float(time_limit)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", time_limit.strip())
    if not match or not float(match[1]):
        raise Error(f"time limit {time_limit!r} is not understood; it is a number and a unit: 90s, 30m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def images_of(dataset: str, data: str | None, resolution: int | None, reading: Reading, read: Read) -> "Data":
    """The images of a dataset, which lies in folder `data`, at `resolution` and of the channels that are asked, or as
    they are; a folder's pictures are decoded where that has not been done, of which `read` hears."""
    from nas.training.datasets import decode, natural_form
    from nas.training.proxy import loaded, refresh

    if (reading.groups or reading.skip_bad) and not dataset.startswith("folder:"):
        raise Error(f"groups and skip_bad are for folder:PATH, the dataset is {dataset}; leave them out")
    side, channels, about = natural_form(dataset, resolution or 0, reading.channels)
    if about:
        read(about, 0, 0)
    reading = replace(reading, channels=channels)
    refresh(dataset)
    decode(dataset, side, reading, lambda done, total: read("pictures read", done, total))
    return loaded(dataset, data, side, reading)


def fitted_to_dataset(
    plan: Plan, data: str | None, space: Space, resolution: int | None = None, read: Read = lambda *_: None
) -> tuple[Plan, Space]:
    """`plan` with what its dataset says: images, classes, rungs that they can fill; and `space` fitted to its images.

    `data`: the folder where the dataset lies. `resolution`: of the images; those that the space holds, where it holds
    some.
    """
    own = sides(space) if has_sides(space) else ()
    if own and resolution:
        raise Error(f"space {space.name} says itself which resolutions its networks have, {own}; leave out resolution")
    images = images_of(plan.dataset, data, max(own) if own else resolution, plan.reading, read)
    where = fitted(space, images.resolution, len(images.classes), images.channels)
    recipe = filled(plan.recipe, len(images.train), len(images.val))
    if len(plan.objective) > 1:
        recipe = replace(recipe, keep=FRONT_KEEP)
    plan = replace(plan, space_digest=where.digest, recipe=recipe, data=data, images_digest=images.digest)
    reading = replace(plan.reading, channels=images.channels)
    return replace(plan, resolution=images.resolution, classes=len(images.classes), reading=reading), where
