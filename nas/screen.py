"""What commands come to: tables and sentences on standard output, or JSON."""

import json as jsonlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.arch import Arch, cost
from nas.outcome import Export, Outcome
from nas.pareto import front, hypervolume, point
from nas.plan import Meter, Plan
from nas.profile import profile
from nas.recipes import Course
from nas.runs import Run, read_history, read_tallies
from nas.tables import FLOPS_ARE, console_of, ending, print_table, say
from nas.timing import Energy, Latency
from nas.trial import Trial, merit
from nas.values import to_data

APART = 8  # choices that set a network apart from an anchor, at the most, where they are told


def print_result(
    folder: Run, plan: Plan, trials: list[Trial], top: Trial | None, baseline_name: str, json: bool
) -> None:
    """Prints what a search found so far, beside the anchors; `top` is the network of which most is expected."""
    baseline = next((t for t in trials if t.anchor == baseline_name), None)
    if json:
        print(jsonlib.dumps(_result_data(folder, plan, trials, top, baseline)))
        return
    judge = plan.recipe.judge
    complete = sorted(
        (t for t in trials if t.state == "complete"), key=lambda t: (-merit(t.scores[-1], judge), t.cost.macs)
    )
    several = len(plan.objective) > 1
    found = [t for t in complete if t.anchor is None][:5]
    if several:
        found = [t for t in front(trials, plan.objective) if t.anchor is None]
    elif top and top.anchor is None:
        found = [top, *(t for t in found if t.index != top.index)][:5]
    rows = []
    shown = [*found, *(t for t in complete if t.anchor)]
    for trial in shown:
        name = trial.anchor or trial.arch_id
        rows.append((name, *_cost_cells(trial, plan), *_score_cells(trial, plan), _verdict(trial, baseline)))
    stopped = [t for t in trials if t.anchor and t.state == "pruned"]
    for trial in sorted(stopped, key=lambda t: (-len(t.scores), -(t.score or 0))):
        seen = sum(score.images for score in trial.scores)
        rows.append(
            (str(trial.anchor), *_cost_cells(trial, plan), *_score_cells(trial, plan), f"stopped at {seen:,} images")
        )
    for trial in (t for t in trials if t.anchor and t.state == "failed"):
        rows.append((str(trial.anchor), *_cost_cells(trial, plan), *_score_cells(trial, plan), "failed"))
    console = console_of()
    title = (
        f"{plan.dataset or 'networks scored by a function'}, budget {plan.budget}, space {plan.space}, seed {plan.seed}"
    )
    latency = ("ms (95 %)",) * plan.timed
    scores = ("val top-1" if plan.dataset else "score", *("loss",) * (judge == "loss"))
    headings = ("network", "FLOPs", "params", "peak", *latency, *scores, "against Low-res MobileNet")
    best = shown.index(top) if top in shown else None
    print_table(console, title, headings, rows, ("peak", "params"), best)
    counts = {state: sum(t.state == state for t in trials) for state in ("complete", "pruned", "failed", "refused")}
    said = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    lines = [
        f"{len(trials)} trials: {said}.{' ' + _effort(trials) if plan.dataset else ''}",
        _conditions(complete, plan),
    ]
    if several and complete and plan.dataset:
        lines += [_covered(trials, plan)]
    elif not several and top and complete and top.index != complete[0].index:
        name = top.anchor or top.arch_id
        lines += [
            f"Best: {name}. Of it most is expected once the luck of one training is taken off, as far as others tell."
        ]
    if top and not several:
        lines += _apart(top, trials)
    refused = [trial for trial in trials if trial.state == "refused" and trial.anchor]
    if over := [str(trial.anchor) for trial in refused if not trial.latency]:
        lines += [f"Over the budget{' on paper' * plan.timed}, not trained: {', '.join(over)}."]
    if slow := [f"{t.anchor} ({t.latency.median_ms:.3f} ms)" for t in refused if t.latency]:
        lines += [f"Too slow, not trained: {', '.join(slow)}."]
    lines += [f"{FLOPS_ARE} Peak: activations held at once, bytes in int8."]
    if plan.timed:
        lines += _timing(folder, plan, trials)
    trained = len(trials) - counts["refused"]
    if trained < plan.trials:
        lines += [
            f"{trained} of {plan.trials} networks: the search has not ended (go on with --resume {folder.path}), "
            "or no further network keeps the budget."
        ]
    lines += [f"Files: {folder.path}/ (best network: {folder.best_arch if folder.best_arch.exists() else 'none yet'})"]
    if complete:
        lines += [f"Next: nas report {folder.path} (a page to look at), nas train {folder.path} (its best, in full)."]
    for trial in [t for t in trials if t.state == "failed"][:3]:
        reason = (trial.error or "").strip().splitlines()[-1:]
        lines += [f"failed: {trial.anchor or trial.arch_id}: {''.join(reason)}"]
    say(console, lines)


@dataclass(frozen=True, slots=True)
class Figures:
    """A network and what was measured of it."""

    name: str
    arch: Arch
    latency: Latency
    energy: Energy | str | None


MODULES = "the torch module is made anew"
GRAPHS = {
    "onnxruntime": "the ONNX graph, batch norm folded, is opened anew",
    "compiled": "the torch module, compiled once, is warmed up",
    "cuda-compiled": "the torch module, compiled once, is warmed up",
}


def print_measured(rows: Sequence[Figures], meter: Meter, json: bool) -> None:
    """Prints how long networks took, with all conditions."""
    if json:
        data = [
            {"network": row.name, "arch": to_data(row.arch), "cost": to_data(cost(row.arch))}
            | {"latency": to_data(row.latency), "energy": row.energy if isinstance(row.energy, str) else None}
            | ({"energy": to_data(row.energy)} if isinstance(row.energy, Energy) else {})
            for row in rows
        ]
        print(jsonlib.dumps({"meter": to_data(meter), "flops": FLOPS_ARE, "networks": data}))
        return
    if not rows:
        return
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
                _span(row.latency),
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
        from nas.calibrate import spearman  # heavy, and most tables have no need of it

        found = spearman([cost(row.arch).macs for row in rows], [row.latency.median_ms for row in rows])
        lines += [
            f"Rank correlation (Spearman) of FLOPs and latency, {len(rows)} networks: {found.value:.2f} "
            f"({found.low:.2f} to {found.high:.2f}, by resampling networks)."
        ]
    if restless := [row.name for row in rows if not row.latency.steady]:
        lines += [
            f"Too noisy a machine to tell {', '.join(restless)} to within {100 * meter.precision:g} %: end what else "
            "runs, or give more --seconds."
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


def _span(latency: Latency) -> str:
    return f"{latency.median_ms:.3f} ({latency.low_ms:.3f}-{latency.high_ms:.3f})"


def _covered(trials: list[Trial], plan: Plan) -> str:
    """How much of the space of objectives the front covers, beside the anchors alone."""
    complete = [trial for trial in trials if trial.state == "complete"]
    unit = next((t.latency.reference_ms for t in complete if t.latency), None)
    limits: dict[str, float | None] = {**plan.budget.limits(), "latency": plan.budget.limit_ms(unit)}
    free = [name for name in plan.objective[1:] if limits.get(name) is None]
    worst = [max(-point(0.0, t.cost, (name,), t.latency)[0] for t in complete) for name in plan.objective[1:]]
    ends = [limits.get(name) or 1.01 * most for name, most in zip(plan.objective[1:], worst, strict=True)]
    reference = (100 / plan.classes, *(-float(end) for end in ends))
    whole = 100 - reference[0]
    for limit in reference[1:]:
        whole *= -limit

    def covered(of: list[Trial]) -> float:
        points = [point(t.score or 0.0, t.cost, plan.objective, t.latency) for t in of if t.state == "complete"]
        return 100 * hypervolume(points, reference) / whole

    alone = covered([t for t in trials if t.anchor])
    upto = f" (of {', '.join(free)}, not limited, up to 1.01 times the most seen here)" if free else ""
    return (
        f"Hypervolume: the front {covered(trials):.1f} % of what the limits allow{upto}, the anchors alone "
        f"{alone:.1f} %."
    )


def _cost_cells(trial: Trial, plan: Plan) -> tuple[str, ...]:
    spent = trial.cost
    cells = (f"{spent.macs / 1e6:.2f} M", f"{spent.params / 1e6:.3f} M", f"{spent.peak / 1024:.0f} KB")
    return (*cells, _span(trial.latency) if trial.latency else "-") if plan.timed else cells


def _apart(found: Trial, trials: list[Trial]) -> list[str]:
    """What sets a network apart from the anchor of its space that it is most like, where that is soon said."""
    differences = {
        str(trial.anchor): [
            f"{axis} {found.choices.get(axis, '-')} ({trial.choices.get(axis, '-')})"
            for axis in dict.fromkeys((*found.choices, *trial.choices))
            if found.choices.get(axis, "-") != trial.choices.get(axis, "-")
        ]
        for trial in trials
        if trial.anchor and trial.choices
    }
    nearest = min(differences, key=lambda name: len(differences[name]), default=None)
    if not nearest or found.anchor or len(differences[nearest]) > APART:
        return []
    return [f"{found.arch_id} is {nearest} but for {', '.join(differences[nearest])}."]


def _timing(folder: Run, plan: Plan, trials: list[Trial]) -> list[str]:
    """The conditions of the latencies, and how many candidates what refused."""
    latency = next((trial.latency for trial in trials if trial.latency), None)
    tallies = read_tallies(folder).values()
    lines = []
    if latency and plan.meter:
        restless = sum(not trial.latency.steady for trial in trials if trial.latency)
        limited = {
            "the ratio's interval keeps the limit": plan.budget.latency_ratio,
            "the interval in milliseconds keeps the limit": plan.budget.latency_ms,
        }
        held = "".join(f"; the upper end of {what}" for what, limit in limited.items() if limit)
        lines += [
            f"Latency: {latency.runtime} on {latency.device}, {latency.threads} thread{'s' * (latency.threads > 1)}, "
            f"batch {latency.batch}, in turn with {plan.meter.reference}{held}; milliseconds as the machine was at the "
            "start of the search."
            + (f" {restless} intervals stayed wider than asked: a noisy machine." if restless else "")
        ]
    if tallies:
        names = ("drawn", "over the budget", "hopeless", "too slow", "let in")
        drawn, over, hopeless, slow, fast = (sum(tally.get(name, 0) for tally in tallies) for name in names)
        errors = [tally["forecast error"] for tally in tallies if "forecast error" in tally]
        lines += [
            f"Of {drawn:,.0f} networks drawn, {over:,.0f} were over the budget on paper, {hopeless:,.0f} hopeless by "
            f"forecast; of {slow + fast:.0f} measured beside the anchors, {slow:.0f} were too slow."
            + (f" The last forecast's error: {100 * errors[-1]:.0f} %." if errors else "")
        ]
    return lines


def _score_cells(trial: Trial, plan: Plan) -> tuple[str, ...]:
    judge = plan.recipe.judge
    if not trial.scores:
        return ("-",) * (1 + (judge == "loss"))
    last = trial.scores[-1]
    return (f"{last.top1:.2f}" + " %" * bool(plan.dataset), *(f"{last.train_loss:.3f}",) * (judge == "loss"))


def _verdict(trial: Trial, baseline: Trial | None) -> str:
    if baseline is None or baseline.state != "complete":
        return "not trained"
    if trial is baseline:
        return "the baseline"
    gain = (trial.score or 0) - (baseline.score or 0)
    if gain == 0:
        return "equal"
    return f"{'beats it' if gain > 0 else 'behind'}, {gain:+.2f}"


def _effort(trials: list[Trial]) -> str:
    """What the training of `trials` took, over all workers."""
    scores = [score for trial in trials for score in trial.scores]
    images, seconds = sum(s.images for s in scores), sum(s.train_seconds for s in scores)
    if not images:
        return "Nothing has been trained yet."
    work = sum(trial.cost.macs * score.images for trial in trials for score in trial.scores)
    return (
        f"Trained on {images:,} images ({work / 1e12:.2f} T images x MACs) in {seconds / 60:.1f} worker-minutes, "
        f"{images / seconds:.0f} images a second and worker."
    )


def _conditions(complete: list[Trial], plan: Plan) -> str:
    """The conditions of the accuracies in the table, with how far chance alone moves a difference of two."""
    if not complete:
        return "No network has been trained to the last rung yet."
    if not plan.dataset:
        return "Scores are those of an evaluate of its own."
    score, images = complete[0].scores[-1], sum(s.images for s in complete[0].scores)
    share, by_loss = score.top1 / 100, plan.recipe.judge == "loss"
    error = 100 * (2 * share * (1 - share) / score.val_images) ** 0.5
    return (
        f"Accuracy: {score.val_images:,} validation images after {images:,} training images (recipe "
        f"{plan.recipe.name}, seed {plan.seed}, one training each; {score.device}, {score.threads} threads, "
        f"torch {score.torch}).\n"
        f"By the validation sample alone, a difference of two has a standard error of about {error:.1f} points; "
        "the noise of short trainings, often several points, comes on top."
        + f"\nLoss: the mean over {ending(plan.recipe)}the last rung's training. Networks go on, and one is called "
        "best, by it." * by_loss
    )


def _result_data(
    folder: Run, plan: Plan, trials: list[Trial], top: Trial | None, baseline: Trial | None
) -> dict[str, Any]:
    beats = None
    if top and baseline and baseline.state == "complete":
        beats = (top.score or 0) > (baseline.score or 0)
    return {
        "run": str(folder.path),
        "plan": to_data(plan),
        "flops": FLOPS_ARE,
        "best": to_data(top),
        "baseline": baseline and baseline.anchor,
        "beats_baseline": beats,
        "front": [trial.index for trial in front(trials, plan.objective)],
        "trials": to_data(trials),
    }


def print_outcome(folder: Run, course: Course, outcome: Outcome, exported: Export | None, json: bool) -> None:
    """Prints what a full training came to, and what of it was taken home."""
    if json:
        mean, deviation = outcome.top1
        data = {"run": str(folder.path), "course": to_data(course), "flops": FLOPS_ARE, **to_data(outcome)}
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
    title = f"{course.network} on {course.dataset}, recipe {course.training.name}: {spent}"
    headings = ("seed", "val top-1", "top-1", "top-5", "precision", "recall", "F1", "minutes", "images/s")
    print_table(console, title, headings, rows, ("images/s", "recall", "precision", "minutes"))
    mean, deviation = outcome.top1
    recipe = course.training
    val = f", val top-1 on {outcome.val_images:,} validation images" if outcome.val_images else ", no validation"
    error = 100 * (mean / 100 * (1 - mean / 100) / outcome.test_images) ** 0.5
    lines = [
        f"Top-1, top-5 and, as means over {len(outcome.classes)} classes, precision, recall and F1: "
        f"{outcome.test_images:,} test images, read once, after the last epoch{val}.",
        f"{recipe.epochs} epochs over {outcome.train_images:,} images{'' if course.flip else ', none mirrored'}, batch "
        f"{recipe.batch} ({recipe.about}); {outcome.device}, {outcome.threads} thread, "
        + ", ".join(f"{name} {one}" for name, one in outcome.versions.items())
        + ".",
        f"By the test sample alone, an accuracy has a standard error of {error:.2f} points.",
        FLOPS_ARE,
    ]
    if deviation is not None:
        lines.insert(0, f"Top-1 of {len(outcome.tested)} seeds: {mean:.2f} % +- {deviation:.2f} (standard deviation).")
    say(console, [*lines, f"Files: {folder.path}/ (weights: {folder.weights(outcome.taken.seed)})"])
    if exported:
        print_export(folder.export, exported, False)


def print_epochs(folder: Run, course: Course, json: bool) -> None:
    """Prints how far a full training is that has not ended."""
    histories = {seed: read_history(folder, seed).epochs for seed in course.seeds}
    if json:
        data = {"run": str(folder.path), "course": to_data(course), "finished": None}
        print(jsonlib.dumps(data | {"epochs": {str(seed): to_data(epochs) for seed, epochs in histories.items()}}))
        return
    lines = []
    for seed, epochs in histories.items():
        accuracy = f", val top-1 {epochs[-1].val_top1:.2f} %" if epochs and epochs[-1].val_top1 is not None else ""
        lines += [f"seed {seed}: {len(epochs)} of {course.training.epochs} epochs{accuracy}"]
    lines += [f"{course.network} on {course.dataset} has not ended; go on with nas train --resume {folder.path}"]
    say(console_of(), lines)


def print_export(folder: Path, found: Export, json: bool) -> None:
    """Prints what was taken home, and how it was verified."""
    if json:
        print(jsonlib.dumps({"folder": str(folder), "flops": FLOPS_ARE, **to_data(found)}))
        return
    console = console_of(130)
    rows = []
    for one in found.artefacts:
        ms = _span(one.latency) if one.latency else "-"
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
    if timed := next((one.latency for one in found.artefacts if one.latency), None):
        runtimes = ", ".join(dict.fromkeys(one.runtime for one in found.artefacts))
        lines += [
            f"Milliseconds: one image, one thread, in turn with model.onnx, the median with its 95 % interval; "
            f"{timed.device}; {runtimes}."
        ]
    if rows:
        say(console, [*lines, f"Files: {folder}/ (how each is loaded: {folder}/README.md)"])
