"""What full trainings, exports and measurements came to, as tables on standard output or as JSON."""

import json as jsonlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from nas.networks.architecture import cost
from nas.networks.profile import profile
from nas.networks.sizes import SMALL
from nas.records.plan import Meter
from nas.records.recipes import TrainingPlan
from nas.records.results import Export, History, Prediction, TrainingResult
from nas.records.run_folder import Run
from nas.records.timing import Energy, Measurement
from nas.reports.search_table import interval_ms
from nas.reports.tables import FLOPS_ARE, console_of, print_table, say
from nas.serialization import to_data

MODULES = "the torch module is made anew"


GRAPHS = {
    "onnxruntime": "the ONNX graph, batch norm folded, is opened anew",
    "compiled": "the torch module, compiled once, is warmed up",
    "cuda-compiled": "the torch module, compiled once, is warmed up",
}


def print_measured(rows: Sequence[Measurement], meter: Meter | None, json: bool) -> None:
    """Prints how long networks took, with all conditions. `meter`: None where nothing was measured."""
    if json:
        data = [
            {"network": row.name, "arch": to_data(row.arch), "cost": to_data(cost(row.arch))}
            | {"latency": to_data(row.latency), "energy": row.energy if isinstance(row.energy, str) else None}
            | ({"energy": to_data(row.energy)} if isinstance(row.energy, Energy) else {})
            | ({} if row.whole_ms is None else {"whole_ms": row.whole_ms})
            for row in rows
        ]
        print(jsonlib.dumps({"meter": to_data(meter), "flops": FLOPS_ARE, "networks": data}))
        return
    if not rows:
        return
    if all(row.latency.ratio is None for row in rows):
        _print_without_reference(rows)
        return
    assert meter
    cells = []
    for row in rows:
        spent, memory = cost(row.arch), profile(row.arch)[1].memory
        ratio = f"{row.latency.ratio:.3f}" + (
            f" ({row.latency.ratio_low:.3f}-{row.latency.ratio_high:.3f})" if row.latency.ratio_low else ""
        )
        cells.append(
            (
                row.name,
                f"{spent.macs / 1e6:.2f} M",
                interval_ms(row.latency),
                ratio,
                f"{1000 / row.latency.median_ms:,.0f}",
                f"{memory / 2**20:.2f} MB",
                "yes" if row.latency.steady else "no",
            )
        )
    console = console_of(120)
    headings = ("network", "FLOPs", "ms (95 %)", f"x {meter.reference}", "batches/s", "memory R+W", "steady")
    several = f"{meter.threads} thread{'s' * (meter.threads > 1)}, batch {meter.batch}"
    first = rows[0].latency
    print_table(console, f"{first.device}, {first.runtime}, {several}", headings, cells, ("memory R+W", "batches/s"))
    lines = [
        f"{FLOPS_ARE} Milliseconds: the median, its 95 % interval by resampling rounds, in each of which "
        f"{GRAPHS.get(meter.runtime, MODULES)}, and run in turn with {meter.reference}; weights are random. "
        "Memory R+W: torchstat's, one image, as paper 000 prints it.",
        f"Rounds went on until the ratio's interval was within {100 * meter.precision:g} % on both sides, or for "
        f"{meter.seconds:g} s; runs of each: {min(r.latency.runs for r in rows):,} to "
        f"{max(r.latency.runs for r in rows):,}.",
    ]
    if len(rows) >= 5:
        from nas.search_strategy.calibration import spearman  # heavy, and most tables have no need of it

        found = spearman([cost(row.arch).macs for row in rows], [row.latency.median_ms for row in rows])
        lines += [
            f"Rank correlation (Spearman) of FLOPs and latency, {len(rows)} networks: {found.value:.2f} "
            f"({found.low:.2f} to {found.high:.2f}, by resampling networks)."
        ]
    if restless := [row.name for row in rows if not row.latency.steady]:
        lines += [
            f"The machine was too noisy to measure {', '.join(restless)} to within {100 * meter.precision:g} %: end "
            "what else runs, or give more --seconds."
        ]
    for row in rows:
        if isinstance(row.energy, Energy):
            lines += [
                f"{row.name}: {1000 * row.energy.joules_per_image:.2f} mJ an image, {row.energy.watts:.1f} W on "
                f"average ({row.energy.counters}, idle draw included)."
            ]
    if why := next((row.energy for row in rows if isinstance(row.energy, str)), None):
        lines += [f"Energy: {why}."]
    say(console, lines)


def _print_without_reference(rows: Sequence[Measurement]) -> None:
    """Prints what boards take, one number a network, or sums of a table's layers."""
    wholes = [(row.latency.median_ms, row.whole_ms) for row in rows if row.whole_ms is not None]
    cells = []
    for row in rows:
        ms, whole = row.latency.median_ms, row.whole_ms
        error = ("-", "-") if whole is None else (f"{whole:.3f}", f"{100 * (ms / whole - 1):+.1f} %")
        cells.append((row.name, f"{cost(row.arch).macs / 1e6:.2f} M", f"{ms:.3f}", *(error if wholes else ())))
    console = console_of(120)
    first = rows[0].latency
    headings = ("network", "FLOPs", "ms", *(("as a whole, ms", "error") if wholes else ()))
    print_table(console, f"{first.device}, int8, batch 1", headings, cells, ())
    lines = [FLOPS_ARE, "Milliseconds: as the command says, once for each network; weights are random."]
    if first.runtime.startswith("the sum"):
        lines[1] = "Milliseconds: the sum of a network's layers, each measured alone, as the table has them."
        lines += [
            f"Of the networks that the table has as a whole ({len(wholes)}), the sum is off by "
            f"{100 * max(abs(ms / whole - 1) for ms, whole in wholes):.1f} % at the most."
            if wholes
            else "The table has none of these networks as a whole: how far off the sums are is not known."
        ]
    say(console, lines)


def print_training(
    folder: Run, plan: TrainingPlan, outcome: TrainingResult, exported: Export | None, json: bool
) -> None:
    """Prints what a full training came to, and what of it was exported."""
    if json:
        mean, deviation = outcome.top1
        data = {
            "run": str(folder.path),
            "training_plan": to_data(plan),
            "flops": FLOPS_ARE,
            **to_data(outcome),
        }
        data |= {"export": to_data(exported)}
        print(jsonlib.dumps(data | {"top1": {"mean": mean, "standard_deviation": deviation}}))
        return
    rows = []
    for one in outcome.tested:
        val = "-" if one.val_top1 is None else f"{one.val_top1:.2f} %"
        shares = [f"{share:.2f} %" for share in (one.top1, one.top5, one.precision, one.recall, one.f1)]
        if len(outcome.classes) <= 5:
            shares[1] = "-"
        rows.append((str(one.seed), val, *shares, f"{one.train_seconds / 60:.1f}", f"{one.images_per_second:.0f}"))
    console = console_of(130)
    spent = f"{outcome.cost.macs / 1e6:.2f} M FLOPs, {outcome.cost.params / 1e6:.3f} M params"
    side = f" at {plan.arch.resolution}x{plan.arch.resolution}" * (plan.arch.resolution != SMALL)
    title = f"{plan.network} on {plan.dataset}{side}, recipe {plan.training.name}: {spent}"
    headings = ("seed", "val top-1", "top-1", "top-5", "precision", "recall", "F1", "minutes", "images/s")
    print_table(console, title, headings, rows, ("images/s", "recall", "precision", "minutes"))
    mean, deviation = outcome.top1
    recipe = plan.training
    val = f", val top-1 on {outcome.val_images:,} validation images" if outcome.val_images else ", no validation"
    error = 100 * (mean / 100 * (1 - mean / 100) / outcome.test_images) ** 0.5
    lines = [
        f"Top-1, top-5 and, as means over {len(outcome.classes)} classes, precision, recall and F1: "
        f"{outcome.test_images:,} test images, read once, after the last epoch{val}.",
        f"{recipe.epochs} epochs over {outcome.train_images:,} images"
        f"{plan.drawn}, "
        f"batch {recipe.batch} ({recipe.about}); {outcome.device}, {outcome.threads} thread, "
        + ", ".join(f"{name} {one}" for name, one in outcome.versions.items())
        + ".",
        f"By the test sample alone, an accuracy has a standard error of {error:.2f} points.",
        FLOPS_ARE,
    ]
    if deviation is not None:
        lines.insert(0, f"Top-1 of {len(outcome.tested)} seeds: {mean:.2f} % +- {deviation:.2f} (standard deviation).")
    say(console, [*lines, f"Files: {folder.path}/ (weights: {folder.weights(outcome.chosen.seed)})"])
    if exported:
        print_export(folder.export, exported, False)


def print_epochs(folder: Run, plan: TrainingPlan, histories: Mapping[int, History], json: bool) -> None:
    """Prints how far a full training is that has not ended."""
    if json:
        data = {"run": str(folder.path), "training_plan": to_data(plan), "finished": None}
        print(jsonlib.dumps(data | {"epochs": {str(seed): to_data(one.epochs) for seed, one in histories.items()}}))
        return
    lines = []
    for seed, history in histories.items():
        epochs = history.epochs
        accuracy = f", val top-1 {epochs[-1].val_top1:.2f} %" if epochs and epochs[-1].val_top1 is not None else ""
        lines += [f"seed {seed}: {len(epochs)} of {plan.training.epochs} epochs{accuracy}"]
    lines += [f"{plan.network} on {plan.dataset} has not ended; go on with nas train --resume {folder.path}"]
    say(console_of(), lines)


def print_export(folder: Path, found: Export, json: bool) -> None:
    """Prints what was exported, and how it was verified."""
    if json:
        print(jsonlib.dumps({"folder": str(folder), "flops": FLOPS_ARE, **to_data(found)}))
        return
    console = console_of(130)
    rows = []
    for one in found.artefacts:
        ms = interval_ms(one.latency) if one.latency else "-"
        ratio = f"{one.latency.ratio:.3f}" if one.latency and one.latency.ratio else "-"
        size = f"{one.bytes / 2**20:.2f} MB"
        seen = (f"{one.difference:.1e}", f"{one.same:.2f} %", f"{one.top1:.2f} %")
        rows.append((one.format, one.files[0], size, *seen, ms, ratio))
    headings = ("format", "file", "size", "difference", "same", "top-1", "ms (95 %)", "x model.onnx")
    if rows:
        print_table(console, f"{folder}: {found.arch_id}", headings, rows, ("x model.onnx", "same", "size"))
    lines = [
        f"Each was loaded again in a process without nas and answered all {found.test_images:,} test images. "
        f"Difference: the largest of any logit from the trained network, which comes to {found.top1:.2f} % there; "
        "same: images that get the same answer.",
    ]
    for one in found.artefacts:
        if one.micro:
            lines += [
                f"{one.files[0]} in TensorFlow Lite Micro ({one.micro.runtime}): an arena of {one.micro.arena:,} bytes "
                f"beside the file, {one.micro.same:.2f} % of LiteRT's answers on {one.micro.images:,} test images, "
                f"top-1 {one.micro.top1:.2f} %."
            ]
    if timed := next((one.latency for one in found.artefacts if one.latency), None):
        runtimes = ", ".join(dict.fromkeys(one.runtime for one in found.artefacts))
        lines += [
            f"Milliseconds: one image, one thread, in turn with model.onnx, the median with its 95 % interval; "
            f"{timed.device}; {runtimes}."
        ]
    if rows:
        say(console, [*lines, f"Files: {folder}/ (how each is loaded: {folder}/README.md)"])


def print_predictions(found: Sequence[Prediction], json: bool) -> None:
    """Prints what a network says of pictures."""
    if json:
        rows = [
            {"file": one.file, "classes": [{"class": name, "percent": share} for name, share in one.classes]}
            for one in found
        ]
        print(jsonlib.dumps(rows))
        return
    table = [(one.file, *(f"{name} {share:.1f} %" for name, share in one.classes)) for one in found]
    places = [str(i + 1) for i in range(len(found[0].classes))]
    print_table(console_of(), "pictures and their likeliest classes", ("picture", *places), table, places[:0:-1])
