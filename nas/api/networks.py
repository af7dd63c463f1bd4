"""Networks and spaces looked at: `nas.anchors`, `nas.projections`, `nas.profile`, `nas.diagram`, `nas.space`, and, on a
machine, `nas.measure`.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nas.api.arguments import checked
from nas.api.resolve import (
    RESOLUTION,
    SpaceLike,
    architecture,
    budget_of,
    fitting,
    network_name,
    on_paper,
    space_of,
)
from nas.api.space_files import write_example
from nas.errors import Error
from nas.networks.architecture import Anchor, Arch
from nas.networks.descent import nearest
from nas.networks.profile import MODULES, Profile
from nas.networks.profile import profile as profile_of
from nas.networks.sizes import for_images
from nas.networks.space import Space, fitted
from nas.records.budget import Budget
from nas.records.plan import Meter
from nas.records.run_folder import Run, is_training, write_value
from nas.records.timing import Measurement
from nas.search_strategy.candidates import costs_for
from search_spaces import ANCHORS, SPACES

if TYPE_CHECKING:
    from nas.networks.space_summary import SpaceSummary


class SpaceFigures(NamedTuple):
    """A space, what it holds in figures, and the budget that it was compared with."""

    space: Space
    summary: "SpaceSummary"
    budget: Budget | None


@checked
def anchors(resolution: int | None = None) -> list[Anchor]:
    """Every published network, with what its paper prints; or those for images of `resolution` x `resolution`, as they
    are trained on such."""
    if resolution is None:
        return list(ANCHORS.values())
    return [replace(one, arch=for_images(one.arch, resolution, one.arch.classes)) for one in fitting(resolution)]


@checked
def projections(space: SpaceLike, resolution: int | None = None) -> list[tuple[Anchor, Arch]]:
    """The published networks for such images, 32x32 or of `resolution`, each with the nearest point of `space`: itself,
    where it is one."""
    template, rows, side = space_of(space), [], resolution or RESOLUTION
    for anchor in anchors(side):
        where = fitted(template, side, anchor.arch.classes)
        rows.append((anchor, nearest(where, anchor.arch, random.Random(0))))
    return rows


@checked
def profile(
    network: str | Path | Arch | Anchor,
    resolution: int | None = None,
    classes: int | None = None,
    channels: int | None = None,
    *,
    check: bool = False,
) -> Profile:
    """A network layer by layer, and its totals under each convention; with `check`, counted again on the built model.

    Raises Error where the name is unknown or the network does not fit such images, ImportError where `check` lacks
    thop.
    """
    arch = architecture(network, resolution, classes, channels)
    anchor = network if isinstance(network, Anchor) else ANCHORS.get(str(network))
    modules = tuple(anchor.published.modules if anchor else MODULES)
    rows, totals = profile_of(arch, modules)
    checked = None
    if check:
        from nas.models.counting import check as counted

        checked = counted(arch, modules)
    unchanged = anchor if anchor and arch == anchor.arch else None
    return Profile(network_name(network), arch, unchanged, modules, rows, totals, checked)


@checked
def diagram(network: str | Path | Arch | Anchor, to: str | Path | None = None) -> Path:
    """The file, .svg or .png, that a network is drawn into: a row for each block; by default NAME.svg here.

    Raises Error where the name is unknown or the file's ending is another one, ImportError where a .png lacks
    resvg-py, OSError where the file cannot be written.
    """
    from nas.networks.diagram import png, svg

    arch = architecture(network)
    name = Path(network_name(network)).resolve().name.removesuffix(".json")
    picture = svg(arch, name)
    file = Path(to) if to is not None else Path(f"{name}.svg")
    if file.suffix not in (".svg", ".png"):
        raise Error(f"--to {file} must end in .svg or .png")
    file.write_bytes(picture.encode() if file.suffix == ".svg" else png(picture))
    return file


@checked
def space(
    name: SpaceLike | None = None,
    budget: str | Sequence[str] | Budget | None = None,
    *,
    resolution: int | None = None,
    write: str | Path | None = None,
) -> SpaceFigures:
    """What a search space holds, and how much of it keeps `budget`, on images of 32x32 or of `resolution`.

    `name`: of ours, FILE.py:NAME, or a space as a value. `write`: a file that does not exist yet; a commented example,
    called SPACE in it, is written there first, and is what is looked at. Raises Error where a name is unknown.
    """
    from nas.networks.space_summary import summary_of

    if write is not None:
        if name is not None:
            raise Error(f"name of nas.space is {name!r}, and an example is to be written to {write}; leave out one")
        name = write_example(Path(write))
    elif name is None:
        raise Error(f"name a space: one of {', '.join(SPACES)}, or FILE.py:NAME")
    side = resolution or RESOLUTION
    where = fitted(space_of(name), side, 10)
    limits = on_paper(budget_of(budget, side, 10)) if budget is not None else None
    if limits is None:
        return SpaceFigures(where, summary_of(where), None)
    return SpaceFigures(where, summary_of(where, limits.use, costs=costs_for(limits)), limits)


@checked
def measure(
    networks: str | Path | Arch | Anchor | Sequence[str | Path | Arch | Anchor] = (),
    *,
    anchors: bool = False,
    resolution: int | None = None,
    runtime: str = "onnxruntime",
    device: str = "here",
    measure_command: str | None = None,
    reference: str = "lowres-mobilenet",
    threads: int = 1,
    batch: int = 1,
    seconds: float = 10.0,
    precision: float = 0.01,
    timeout: float = 120.0,
    energy: bool = False,
    keep: bool = False,
    write_layers: str | Path | None = None,
    table: str | Path | None = None,
    started: Callable[[int], None] = lambda _: None,
    watch: Callable[[str], None] = lambda _: None,
    measured: Callable[[Measurement], None] = lambda _: None,
) -> list[Measurement]:
    """How long networks take for a batch, each in turn with `reference`; in the order given.

    `networks`: names or values, see `architecture`; with `anchors`, all published ones made for images of `resolution`
    too. The conditions: see `nas.records.plan.Meter`. `energy`: what they take as well, where that is counted. `keep`:
    each figure is kept in the folder of its full training. `write_layers`: a folder, into which all different layers of
    the networks are written as int8 LiteRT files, and layers.csv; nothing is measured then, and the list is empty.
    `table`: such a file with milliseconds filled in, from which each network's latency is the sum of its layers'; where
    the table has the network as a whole, that is its `whole_ms`. `started` is called with how many there are, `watch`
    with the next one's name, `measured` with each figure.

    Raises Error where the request cannot be met, RunFailed where the device does not answer.
    """
    meter = Meter(reference, device, measure_command, runtime, threads, batch, seconds, precision, timeout)
    asked = [networks] if isinstance(networks, str | Path | Arch | Anchor) else list(networks)
    asked += [anchor.name for anchor in fitting(resolution)] if anchors else []
    if not asked:
        raise Error("name a network: an anchor, an arch.json, a run's folder or RUN/ID; or give --anchors")
    names = [network_name(one) for one in asked]
    if keep and (strays := [name for name in names if not is_training(Path(name))]):
        raise Error(f"--keep is for folders of full trainings; {strays[0]} is none")
    if keep and resolution:
        raise Error("--keep is for networks as they were trained; leave out --resolution")
    if write_layers is not None and table is not None:
        raise Error("--write-layers writes files to be measured, --table reads what they took; give one of them")
    if (table is not None or write_layers is not None) and (keep or energy):
        raise Error("--keep and --energy are for what is measured here; leave them out with --write-layers and --table")
    if (table is not None or write_layers is not None) and meter != Meter("lowres-mobilenet"):
        raise Error(
            "--write-layers and --table measure nothing: leave out --reference, --device, --measure-command, "
            "--runtime, --threads, --batch, --seconds, --precision, --timeout"
        )
    archs = [architecture(one, resolution) for one in asked]
    if write_layers is not None:
        from nas.latency.layer_table import write_layers as written

        written(dict(zip(names, archs, strict=True)), Path(write_layers))
        return []
    now = _of_table(Path(table)) if table is not None else _by_meter(archs, meter, energy)
    started(len(names))
    found = []
    for name, arch in zip(names, archs, strict=True):
        watch(name)
        found.append(now(name, arch))
        measured(found[-1])  # before it is kept: a full disk loses no figure
        if keep:
            write_value(Run(Path(name)), "latency", found[-1].latency)
    return found


def _of_table(file: Path) -> Callable[[str, Arch], Measurement]:
    """What gives sums of the layers in that table."""
    from nas.latency.layer_table import read_table, summed

    table = read_table(file)
    return lambda name, arch: summed(name, arch, table, file)


def _by_meter(archs: Sequence[Arch], meter: Meter, energy: bool) -> Callable[[str, Arch], Measurement]:
    """What measures each of `archs`, beside the reference network for images like its."""
    beside = {arch: architecture(meter.reference, arch.resolution, arch.classes, arch.channels) for arch in archs}

    from nas.latency.energy import energy_of
    from nas.latency.measure import measured

    def now(name: str, arch: Arch) -> Measurement:
        return Measurement(name, arch, measured(arch, beside[arch], meter), energy_of(arch, meter, energy))

    return now
