"""One page that shows a run, or several beside each other: HTML that holds all it needs and opens from a file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.networks.diagram import svg
from nas.records.trial import merit
from nas.reports.plots import ReportView, calibration, importances, name_of, rungs, scatter, so_far, waves
from nas.serialization import to_data


def page(views: Sequence[ReportView], whole: bool = True) -> str:
    """The page of one run, or of several beside each other.

    Names, messages and networks are shown as text, whatever they hold. Nothing is fetched from anywhere, unless
    `whole` is False: then plotly is, which is most of the page.
    """
    trained = {i for i, view in enumerate(views) if any(trial.scores for trial in view.trials)}
    figures = {"scatter": scatter(views), "sofar": so_far(views)} if trained else {}
    for i, view in enumerate(views):
        if i in trained:
            figures[f"rungs{i}"] = rungs(view)
        if view.importance:
            figures[f"importance{i}"] = importances(view)
        if view.calibration:
            figures[f"calibration{i}"] = calibration(view.calibration)
        if i in trained:
            figures[f"waves{i}"] = waves(view)
    drawings = [[svg(trial.arch, name_of(trial)) for trial in (view.best, view.against) if trial] for view in views]
    return rendered(
        "page.jinja",
        figures,
        whole,
        title=" and ".join(view.name for view in views),
        views=views,
        trained=trained,
        rows=[_rows(view) for view in views],
        facts=[_facts(view) for view in views],
        drawings=drawings,
        plans=[json.dumps(to_data(view.plan), indent=1) for view in views],
    )


def rendered(template: str, figures: Mapping[str, Any], whole: bool, **values: Any) -> str:
    """A page with `figures`, each drawn where an element has its name as id, and what else its template asks for."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["commas"] = "{:,.0f}".format
    return environment.get_template(template).render(
        plotly=get_plotlyjs() if whole else "",
        fetched=f"https://cdn.plot.ly/plotly-{get_plotlyjs_version()}.min.js",
        figures={name: _embedded(figure) for name, figure in figures.items()},
        **values,
    )


def _embedded(figure: Any) -> str:
    """A figure as JSON that may stand in a script: nothing in it can end the script."""
    return str(figure.to_json()).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _rows(view: ReportView) -> list[dict[str, Any]]:
    """The table: the best networks found, and all anchors that were trained."""
    ended = [trial for trial in view.trials if trial.scores]
    judge = view.plan.recipe.judge
    ended.sort(key=lambda t: (t.state != "complete", t != view.best, -merit(t.scores[-1], judge)))
    baseline = view.against if view.against and view.against.state == "complete" else None
    rows = []
    for trial in [t for t in ended if not t.anchor][:10] + [t for t in ended if t.anchor]:
        gain = (trial.score or 0) - (baseline.score or 0) if baseline and trial.state == "complete" else None
        note = "the baseline" if trial is baseline else "stopped early" if trial.state != "complete" else "-"
        rows.append({"trial": trial, "name": name_of(trial), "best": trial is view.best, "note": note})
        if gain is not None and trial is not baseline:
            rows[-1]["gain"] = gain
    return rows


def _facts(view: ReportView) -> list[tuple[str, str]]:
    scores = [score for trial in view.trials for score in trial.scores]
    images, seconds = sum(s.images for s in scores), sum(s.train_seconds for s in scores)
    counts = [
        (state, sum(t.state == state for t in view.trials)) for state in ("complete", "pruned", "failed", "refused")
    ]
    plan = view.plan
    facts = [
        ("budget", str(plan.budget)),
        ("dataset", f"{plan.dataset}, {plan.resolution}x{plan.resolution}, {plan.classes} classes")
        if plan.dataset
        else ("scores", "of an evaluate of its own"),
        ("space", f"{plan.space} ({plan.space_digest})"),
        ("seed", str(plan.seed)),
        ("objective", ", ".join(plan.objective)),
        ("trials", ", ".join(f"{number} {state}" for state, number in counts if number) or "none yet"),
    ]
    if scores:
        first = scores[0]
        rungs_of = ", ".join(f"{rung.images * rung.epochs:,}" for rung in plan.recipe.rungs)
        facts += [
            ("trained", f"{images:,} images in {seconds / 60:.1f} worker-minutes, {images / seconds:.0f} a second"),
            ("recipe", f"{plan.recipe.name}: {rungs_of} images"),
            ("on", f"{first.device}, {first.threads} thread, torch {first.torch}"),
        ]
    if view.tallies:
        names = ("drawn", "over_budget", "predicted_too_slow", "measured_too_slow", "accepted")
        sums = [(name, sum(tally.get(name, 0) for tally in view.tallies.values())) for name in names]
        facts += [
            ("candidates", ", ".join(f"{number:,.0f} {name.replace('_', ' ')}" for name, number in sums if number))
        ]
    timed = next((t.latency for t in view.trials if t.latency), None)
    if timed:
        facts += [("latency", f"{timed.runtime} on {timed.device}, {timed.threads} thread, batch {timed.batch}")]
    return facts
