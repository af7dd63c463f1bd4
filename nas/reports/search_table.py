"""What commands come to: tables and sentences on standard output, or JSON."""

import json as jsonlib
from typing import Any

from nas.networks.sizes import SMALL
from nas.records.pareto import front, hypervolume, point
from nas.records.plan import Plan
from nas.records.run_folder import Run
from nas.records.search_files import read_tallies
from nas.records.timing import Latency
from nas.records.trial import Trial, merit
from nas.reports.tables import FLOPS_ARE, console_of, ending, print_table, say
from nas.serialization import to_data

APART = 8  # choices that set a network apart from an anchor, at the most, where they are listed

DEVICE = (
    "Arena and flash: at most what TensorFlow Lite Micro takes for the int8 file, and that file (nas export --formats "
    "litert-int8)."
)


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
        rows.append((name, *_cost_cells(trial, plan), *_score_cells(trial, plan), _against_baseline(trial, baseline)))
    stopped = [t for t in trials if t.anchor and t.state == "pruned"]
    for trial in sorted(stopped, key=lambda t: (-len(t.scores), -(t.score or 0))):
        seen = sum(score.images for score in trial.scores)
        rows.append(
            (str(trial.anchor), *_cost_cells(trial, plan), *_score_cells(trial, plan), f"stopped at {seen:,} images")
        )
    for trial in (t for t in trials if t.anchor and t.state == "failed"):
        rows.append((str(trial.anchor), *_cost_cells(trial, plan), *_score_cells(trial, plan), "failed"))
    console = console_of()
    side = f" at {plan.resolution}x{plan.resolution}" * (plan.resolution not in (0, SMALL))
    images = f"{plan.dataset or 'networks scored by a function'}{side}"
    title = f"{images}, budget {plan.budget}, space {plan.space}, seed {plan.seed}"
    latency = ("ms (95 %)",) * plan.timed
    scores = ("val top-1" if plan.dataset else "score", *("loss",) * (judge == "loss"))
    memory = tuple(name for name in ("arena", "flash") if name in plan.budget.limits())
    headings = ("network", "FLOPs", "params", "peak", *memory, *latency, *scores, "against Low-res MobileNet")
    best = shown.index(top) if top in shown else None
    print_table(console, title, headings, rows, ("peak", "params"), best)
    counts = {state: sum(t.state == state for t in trials) for state in ("complete", "pruned", "failed", "refused")}
    summary = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    lines = [
        f"{len(trials)} trials: {summary}.{' ' + _effort(trials) if plan.dataset else ''}",
        _conditions(complete, plan),
    ]
    if several and complete and plan.dataset:
        lines += [_covered(trials, plan)]
    elif not several and top and complete and top.index != complete[0].index:
        name = top.anchor or top.arch_id
        lines += [
            f"Best: {name}. Its expected score is the highest, once the noise of single trainings is averaged out."
        ]
    if top and not several:
        lines += _apart(top, trials)
    refused = [trial for trial in trials if trial.state == "refused" and trial.anchor]
    if over := [str(trial.anchor) for trial in refused if not trial.latency]:
        lines += [f"Over the budget{' on paper' * plan.timed}, not trained: {', '.join(over)}."]
    if slow := [f"{t.anchor} ({t.latency.median_ms:.3f} ms)" for t in refused if t.latency]:
        lines += [f"Too slow, not trained: {', '.join(slow)}."]
    lines += [f"{FLOPS_ARE} Peak: activations held at once, bytes in int8.{f' {DEVICE}' * plan.budget.on_device}"]
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
    if plan.dataset and trained >= plan.trials:
        more = 2 * plan.trials
        lines += [f"Search longer: nas search --resume {folder.path} --trials {more} ({plan.trials} networks more)."]
    for trial in [t for t in trials if t.state == "failed"][:3]:
        reason = (trial.error or "").strip().splitlines()[-1:]
        lines += [f"failed: {trial.anchor or trial.arch_id}: {''.join(reason)}"]
    say(console, lines)


def interval_ms(latency: Latency) -> str:
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
    cells = [f"{spent.macs / 1e6:.2f} M", f"{spent.params / 1e6:.3f} M", f"{spent.peak / 1024:.0f} KB"]
    for name in ("arena", "flash"):
        if name in plan.budget.limits():
            cells.append(f"{getattr(spent, name) / 1024:.1f} KB")
    if plan.timed:
        cells.append(interval_ms(trial.latency) if trial.latency else "-")
    return tuple(cells)


def _apart(found: Trial, trials: list[Trial]) -> list[str]:
    """What sets a network apart from the anchor of its space that it is most like, where the list is short."""
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
    if latency and plan.meter and plan.meter.on_board:
        lines += [f"Latency: {latency.runtime} on {latency.device}, one image, as its command says, once a network."]
    elif latency and plan.meter:
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
        names = ("drawn", "over_budget", "predicted_too_slow", "measured_too_slow", "accepted")
        drawn, over, unlikely, slow, fast = (sum(tally.get(name, 0) for tally in tallies) for name in names)
        errors = [tally["predictor_error"] for tally in tallies if "predictor_error" in tally]
        lines += [
            f"Of {drawn:,.0f} networks drawn, {over:,.0f} were over the budget on paper, {unlikely:,.0f} predicted too "
            f"slow; of {slow + fast:.0f} measured beside the anchors, {slow:.0f} were too slow."
            + (f" The last prediction's error: {100 * errors[-1]:.0f} %." if errors else "")
        ]
    return lines


def _score_cells(trial: Trial, plan: Plan) -> tuple[str, ...]:
    judge = plan.recipe.judge
    if not trial.scores:
        return ("-",) * (1 + (judge == "loss"))
    last = trial.scores[-1]
    return (f"{last.top1:.2f}" + " %" * bool(plan.dataset), *(f"{last.train_loss:.3f}",) * (judge == "loss"))


def _against_baseline(trial: Trial, baseline: Trial | None) -> str:
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
        f"{plan.recipe.name}, seed {plan.seed}{', asynchronous' * plan.asynchronous}, one training each; "
        f"{score.device}, {score.threads} threads, torch {score.torch}).\n"
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
