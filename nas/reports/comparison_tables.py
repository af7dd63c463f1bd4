"""Runs beside each other as tables on standard output, or as JSON."""

import json as jsonlib
from collections.abc import Sequence

from nas.records.plan import LONGER, Plan
from nas.records.recipes import Recipes
from nas.records.results import Session
from nas.records.statistics import FEWEST, Calibration, ChoiceEffect, Estimate, KnobImportance
from nas.records.trial import Trial
from nas.reports.comparison import CalibrationRun, SearchRun, TrainedRun, against, hours
from nas.reports.tables import FLOPS_ARE, console_of, ending, print_table, say
from nas.serialization import to_data

WIDE = 165
SHOWN = 12  # axes
RANKED_BY = {"top1": "their validation top-1 after", "loss": "their mean training loss in"}
UNITS = {"top1": "points", "loss": "% of loss"}
POINTS = {"top1": "of top-1", "loss": "percent that the loss is lower"}
WORTHS_ARE = (
    "Worth: points of top-1, or percent that the loss is lower, between a network that makes the choice wherever it "
    "can and one that never does. Other knobs are not held still, so choices that came together, as among relatives of "
    f"the best, share what they were worth. Choices that fewer than {FEWEST} networks made, or left, are not ranked."
)


def print_compared(rows: Sequence[SearchRun | CalibrationRun | TrainedRun], baseline: str, json: bool) -> None:
    """Prints a table of the searches, one of each calibration, and one of the full trainings beside `baseline`."""
    trainings = [row for row in rows if isinstance(row, TrainedRun)]
    if json:
        entries = [_data(row, trainings, baseline) for row in rows]
        print(jsonlib.dumps({"flops": FLOPS_ARE, "baseline": baseline, "runs": entries}))
        return
    if searches := [row for row in rows if isinstance(row, SearchRun)]:
        _print_searches(searches, baseline)
    for row in rows:
        if isinstance(row, CalibrationRun):
            print_calibration(row.folder, row.plan, row.recipes, row.found, False)
    if trainings:
        _print_trainings(trainings, baseline)


def _rival(one: TrainedRun, trainings: Sequence[TrainedRun], baseline: str) -> TrainedRun | None:
    """The training of the baseline that a training is compared with: one on the same images by the same recipe."""
    return next((other for other in trainings if other.name == baseline and other.like == one.like), None)


def _data(row: SearchRun | CalibrationRun | TrainedRun, trainings: Sequence[TrainedRun], baseline: str) -> object:
    kind = {SearchRun: "search", CalibrationRun: "calibration", TrainedRun: "training"}[type(row)]
    derived: dict[str, object] = {"hours": hours(row.sessions)}
    if isinstance(row, SearchRun):
        derived |= {"looked_at": row.looked_at, "trained": row.trained, "images": row.images}
        derived |= {"cpu_hours": row.cpu_hours}
    if isinstance(row, TrainedRun):
        derived |= {"validated": row.validated, "int8": row.int8, "cpu_hours": row.cpu_hours}
        rival = _rival(row, trainings, baseline)
        gain, error = against(row, rival) if rival and rival is not row else (None, None)
        derived |= {"gain": gain, "gain_error": error}
    return {"kind": kind, **derived, **to_data(row)}


def _print_searches(searches: Sequence[SearchRun], baseline: str) -> None:
    console = console_of(WIDE)
    cells = []
    for one in searches:
        seen = one.looked_at
        rival = next((trial for trial in one.trials if trial.anchor == baseline), None)
        cells.append(
            (
                one.run,
                str(one.plan.budget),
                one.plan.sampler,
                str(one.plan.seed),
                f"{seen.get('drawn', 0):,}",
                f"{seen.get('over_budget', 0):,}",
                f"{seen.get('predicted_too_slow', 0):,}" if one.plan.timed else "-",
                f"{seen.get('measured_too_slow', 0):,}" if one.plan.timed else "-",
                str(one.trained) if one.trained >= one.plan.trials else f"{one.trained} of {one.plan.trials}",
                f"{one.images:,}",
                f"{one.cpu_hours:.2f}",
                _hours(one.sessions),
                one.best.anchor or one.best.arch_id if one.best else "-",
                _top1(one.best),
                _top1(rival),
            )
        )
    headings = (
        "search", "budget", "sampler", "seed", "drawn", "over", "unlikely", "slow", "trained", "images", "CPU h", "h",
        "best", "val", "baseline",
    )  # fmt: skip
    print_table(console, "searches", headings, cells, ("unlikely", "images", "sampler"))
    proxies = dict.fromkeys(
        f"{one.plan.dataset or 'an evaluate of its own'}, space {one.plan.space}, {one.plan.recipe.name}: "
        f"{one.plan.recipe.images:,} images"
        for one in searches
    )
    lines = [
        "drawn: networks looked at beside the anchors; over: the budget on paper; unlikely: predicted to be too slow; "
        "slow: measured, over the limit. Those over, unlikely or slow were not trained.",
        f"val: top-1 on validation images after the proxy ({'; '.join(proxies)}), of the network of which most is "
        f"expected (where a search has not ended, of the best so far); baseline: of {baseline}, alike.",
        "CPU h: hours of all workers that trained or validated; h: hours from beginning to end, measuring included.",
        _where([session for one in searches for session in one.sessions]),
        FLOPS_ARE,
    ]
    say(console, [line for line in lines if line])


def print_calibration(folder: str, plan: Plan, compared: Recipes, found: Calibration, json: bool) -> None:
    """Prints how well each rung of each proxy ranks networks."""
    if json:
        print(jsonlib.dumps({"run": folder, "plan": to_data(plan), **to_data(compared), **to_data(found)}))
        return
    goals = compared.goals
    by_name = {recipe.name: recipe for recipe in compared.recipes}
    rows = []
    for one in found.agreements:
        rung = by_name[one.proxy].rungs[one.rung]
        side = rung.side_of(plan.resolution)
        rows.append(
            (
                f"{one.proxy}, rung {one.rung + 1}",
                f"{rung.images * rung.epochs:,} at {side}x{side}",
                one.by,
                _shown(one.spearman),
                _shown(one.kendall),
                f"{one.minutes:.2f}",
            )
        )
    console = console_of(130)
    drawn_from = f"budget {plan.budget}, space {plan.space}" if not goals else "trained in full before"
    title = f"{plan.dataset}, {drawn_from}: {len(found.networks)} networks, seed {plan.seed}"
    headings = ("proxy", "images", "ranked by", "Spearman (95 %)", "Kendall (95 %)", "minutes")
    print_table(console, title, headings, rows, ("Kendall (95 %)", "images"))
    if found.losses:
        _print_ranked(compared, found)
    if goals:
        seeds = sorted({len(goal.top1) for goal in goals.networks})
        images, val_images, epochs = goals.images, goals.val_images, goals.training.epochs
        how = f"recipe {goals.training.name}, mean of {' or '.join(map(str, seeds))} seed{'s' * (seeds != [1])}"
    else:
        longest = compared.recipes[-1].rungs[-1]
        images, val_images, epochs = longest.images * longest.epochs, longest.val_images, longest.epochs
        how = "weights and batches of their own"
    lines = [
        f"Against top-1 on {val_images:,} validation images after {images:,} training images ({epochs} epochs, {how}); "
        f"intervals by resampling the networks{', and the seeds of each' if goals else ''}.",
        f"minutes: of one worker, for one network, from its first step to here; {found.device}, torch {found.torch}.",
    ]
    if found.again:
        lines += [
            f"The first two seeds of what they are compared with rank the networks alike by {_shown(found.again)}."
        ]
    by = {"top1": "accuracy", "loss": "loss"}
    weak = [one for one in found.agreements if one.by == by[by_name[one.proxy].judge] and one.spearman.value < 0.5]
    if weak:
        names = ", ".join(f"{one.proxy} rung {one.rung + 1}" for one in weak)
        lines += [f"Warning: a Spearman below 0.5 ranks little better than chance: {names}."]
    say(console, [*lines, f"Files: {folder}/calibration.json"])


def _print_ranked(compared: Recipes, found: Calibration) -> None:
    """Prints the networks, the best first, with what each proxy goes by at the end of its rungs."""
    proxies = [recipe for recipe in compared.recipes if recipe.name != LONGER]
    entries = []
    for place, network in enumerate(found.networks):
        cells: list[str] = []
        for one in proxies:
            by_loss = (f"{loss:.3f}" for loss in found.losses[one.name][place])
            cells += by_loss if one.judge == "loss" else (f"{top1:.2f} %" for top1 in found.scores[one.name][place])
        top1 = found.scores[LONGER][place][-1]
        entries.append((top1, (network, f"{top1:.2f} %", *cells)))
    rungs = [f"{one.name}, rung {rung + 1}" for one in proxies for rung in range(len(one.rungs))]
    rows = [cells for _, cells in sorted(entries, key=lambda row: -row[0])]
    print_table(
        console_of(130), "the networks: loss or top-1 that a proxy goes by", ("network", "longer", *rungs), rows, rungs
    )


def _shown(correlation: Estimate) -> str:
    return f"{correlation.value:+.2f} ({correlation.low:+.2f} to {correlation.high:+.2f})"


def _print_trainings(trainings: Sequence[TrainedRun], baseline: str) -> None:
    console = console_of(WIDE)
    cells = []
    for one in sorted(trainings, key=lambda one: -one.outcome.top1[0]):
        mean, deviation = one.outcome.top1
        rival = _rival(one, trainings, baseline)
        gain = "the baseline" if one is rival else "-"
        if rival and one is not rival:
            points, error = against(one, rival)
            gain = f"{points:+.2f}" + (f" +- {error:.2f}" if error is not None else "")
        latency = one.latency
        cells.append(
            (
                one.name,
                f"{one.outcome.cost.macs / 1e6:.2f} M",
                f"{one.outcome.cost.params / 1e6:.3f} M",
                f"{latency.median_ms:.3f} ({latency.low_ms:.3f}-{latency.high_ms:.3f})" if latency else "-",
                f"{latency.ratio:.2f} ({latency.ratio_low:.2f}-{latency.ratio_high:.2f})"
                if latency and latency.ratio and latency.reference in ("", baseline)
                else "-",
                f"{one.validated:.2f} %" if one.validated is not None else "-",
                f"{mean:.2f} %" + (f" +- {deviation:.2f}" if deviation is not None else ""),
                gain,
                f"{one.int8:+.2f}" if one.int8 is not None else "-",
                str(len(one.outcome.tested)),
                f"{one.cpu_hours:.2f}",
                one.run,
            )
        )
    headings = (
        "network", "FLOPs", "params", "ms (95 %)", f"x {baseline}", "val top-1", "test top-1", "gain", "int8", "seeds",
        "CPU h", "run",
    )  # fmt: skip
    print_table(console, "trained networks", headings, cells, ("run", "CPU h", "params"))
    recipes = dict.fromkeys(one.like for one in trainings)
    entries = [
        f"{dataset}, recipe {training.name}: {training.epochs} epochs over {images:,} images{drawn} "
        f"({training.about}), then "
        f"{next(one.outcome.test_images for one in trainings if one.training_plan.dataset == dataset):,} test images"
        + (f", taught by {teacher.weights}" if teacher else "")
        for dataset, training, teacher, images, drawn in recipes
    ]
    lines = ["; ".join(entries) + "." + (" They were not trained alike!" if len(recipes) > 1 else "")]
    lines += [
        "Test top-1: all test images, read once, after the last epoch; mean +- standard deviation over seeds. Gain: "
        f"points of it above {baseline} trained alike, +- standard error by the seeds. int8: points that the exported "
        "int8 graph is above the same weights in fp32. CPU h: of training, all seeds."
    ]
    timed = dict.fromkeys(
        f"Milliseconds: {latency.runtime} on {latency.device}, {latency.threads} thread"
        f"{'s' * (latency.threads > 1)}, batch {latency.batch}"
        + ("." if latency.ratio is None else f", in turn with {latency.reference or baseline}.")
        for latency in (one.latency for one in trainings)
        if latency
    )
    lines += list(timed)
    lines += [_where([session for one in trainings for session in one.sessions]), FLOPS_ARE]
    say(console, [line for line in lines if line])


def print_importance(searches: Sequence[KnobImportance], json: bool) -> None:
    """Prints which axes the scores of a search depend on, and which choices were worth something; of several searches,
    what choices were worth in each, those that they agree on most first."""
    if json:
        print(jsonlib.dumps([_importance_data(one) for one in searches]))
    elif len(searches) == 1:
        _print_one_importance(searches[0])
    else:
        _print_agreement(searches)


def _importance_data(one: KnobImportance) -> dict[str, object]:
    first = one.recipe.rungs[0]
    return {
        "run": one.run,
        "dataset": one.dataset,
        "images": first.images * first.epochs,
        "networks": one.networks,
        "points": POINTS[one.recipe.judge],
        "axes": to_data(list(one.axes)),
        "choices": to_data(list(one.choices)),
    }


def _print_one_importance(one: KnobImportance) -> None:
    console = console_of(WIDE)
    shares = [(row.axis, *_interval(row.share, 100, "%")) for row in one.axes[:SHOWN]]
    print_table(console, f"what the scores of {one.networks} networks depend on", ("axis", "share", "95 %"), shares, ())
    seen = [row for row in one.choices if _seen(row)]
    shown = seen if len(seen) <= 2 * SHOWN else [*seen[:SHOWN], *seen[-SHOWN:]]
    rows = [(row.knob, str(row.choice), str(row.networks), *_interval(row.points)) for row in shown]
    headings = ("knob", "choice", "networks", UNITS[one.recipe.judge], "95 %")
    print_table(console, "choices that were worth something", headings, rows, ())
    more = [
        f"{len(one.axes) - SHOWN} more axes have smaller shares" if len(one.axes) > SHOWN else "",
        f"{len(seen) - len(shown)} more choices smaller worths" if len(seen) > len(shown) else "",
    ]
    lines = [
        f"Of {one.run}: {_how_ranked(one)}. Share: of the spread of scores, by fANOVA, over the axes that all networks "
        "have; intervals by resampling networks.",
        WORTHS_ARE,
        ", ".join(part for part in more if part) + " (--json has all)." if any(more) else "",
    ]
    unseen: dict[str, list[str]] = {}
    for row in one.choices:
        if not _seen(row):
            unseen.setdefault(row.knob, []).append(str(row.choice))
    if unseen:
        names = "; ".join(f"{knob} {', '.join(labels)}" for knob, labels in sorted(unseen.items()))
        lines += [f"No worth seen (the interval holds 0): {names}."]
    say(console, [line for line in lines if line])


def _print_agreement(searches: Sequence[KnobImportance]) -> None:
    console = console_of(max(WIDE, 40 + 20 * len(searches)))
    found: dict[tuple[str, str], dict[int, ChoiceEffect]] = {}
    for i, one in enumerate(searches):
        for row in one.choices:
            found.setdefault((row.knob, str(row.choice)), {})[i] = row
    entries = []
    apart = []
    for (knob, choice), by in found.items():
        ups, downs = (sum(_seen(row) == sign for row in by.values()) for sign in (1, -1))
        if ups and downs:
            apart.append(f"{knob} {choice}")
        elif len(by) > 1 and ups + downs:
            cells = [
                "{} ({})".format(*_interval(by[i].points, places=0)) if i in by else "-" for i in range(len(searches))
            ]
            mean = sum(row.points.value for row in by.values()) / len(by)
            entries.append((ups + downs, mean, (knob, choice, *cells, f"{ups + downs} of {len(by)}")))
    entries.sort(key=lambda row: (-row[0], -abs(row[1])))
    rows = [cells for _, _, cells in entries[: 2 * SHOWN]]
    names = [one.run.rpartition("/")[2] for one in searches]
    print_table(console, "what choices were worth", ("knob", "choice", *names, "seen"), rows, names)
    lines = [f"{one.run}, {UNITS[one.recipe.judge]}: {_how_ranked(one)}." for one in searches]
    lines += [
        f"95 % intervals by resampling networks; seen: in how many searches the interval does not hold 0. {WORTHS_ARE}"
    ]
    if len(entries) > len(rows):
        lines += [
            f"{len(entries) - len(rows)} more choices were seen to be worth something less often (--json has all)."
        ]
    if apart:
        lines += [f"Worth something in one search, and the contrary in another: {'; '.join(sorted(apart))}."]
    say(console, lines)


def _how_ranked(one: KnobImportance) -> str:
    first = one.recipe.rungs[0]
    return (
        f"{one.networks} networks that were drawn, by {RANKED_BY[one.recipe.judge]} {ending(one.recipe)}the first rung"
        + (f" ({first.images * first.epochs:,} images of {one.dataset})" if one.dataset else "")
    )


def _seen(row: ChoiceEffect) -> int:
    """1 or -1 where a choice is seen to be worth something, or to lose it; 0 where its interval holds 0."""
    return (row.points.low > 0) - (row.points.high < 0)


def _interval(figure: Estimate, times: float = 1, unit: str = "", places: int = 1) -> tuple[str, str]:
    space = f" {unit}" if unit else ""
    sign = "" if unit else "+"
    low, value, high = (f"{times * one:{sign}.{places}f}" for one in (figure.low, figure.value, figure.high))
    return f"{value}{space}", f"{low} to {high}"


def _top1(trial: Trial | None) -> str:
    return f"{trial.score:.2f} %" if trial and trial.score is not None else "-"


def _hours(sessions: Sequence[Session]) -> str:
    spent = hours(sessions)
    return f"{spent:.2f}" if spent is not None else "-"


def _where(sessions: Sequence[Session]) -> str:
    """The machines that runs were made on, and on each the versions they were made with; those that differ by a /."""
    machines: dict[str, dict[str, dict[str, None]]] = {}
    for one in sessions:
        packages = machines.setdefault(f"{one.cores} cores of {one.machine}", {})
        for name, version in one.versions.items():
            packages.setdefault(name, {})[version] = None
    lines = (
        ", ".join([machine, *(f"{name} {'/'.join(found)}" for name, found in packages.items() if name != "git")])
        for machine, packages in machines.items()
    )
    return "; ".join(lines) + "." if machines else ""
