"""One page that shows a full training, or several one after the other."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from nas.networks.diagram import svg
from nas.records.recipes import TrainingPlan
from nas.records.results import Export, History, Mistake, TestResult, TrainingResult
from nas.reports.page import rendered
from nas.reports.plots import BLUE, PALETTE, layout
from nas.serialization import to_data


@dataclass(frozen=True, slots=True)
class TrainingView:
    """A full training, as it is shown."""

    name: str
    plan: TrainingPlan
    histories: Mapping[int, History]
    """By seed."""
    outcome: TrainingResult | None
    """None where it has not ended."""
    exported: Export | None
    mistakes: tuple[Mistake, ...]
    why_none: str
    """Why no mistakes are shown, where there are none."""


def training_page(views: Sequence[TrainingView], whole: bool = True) -> str:
    """The page of one training, or of several. See `nas.reports.page.page`."""
    figures: dict[str, Any] = {}
    for i, view in enumerate(views):
        figures[f"loss{i}"] = by_epoch(view, "train_loss", "training loss")
        if any(epoch.val_top1 is not None for history in view.histories.values() for epoch in history.epochs):
            figures[f"top1{i}"] = by_epoch(view, "val_top1", "top-1 on validation images, %")
        if view.outcome:
            figures[f"classes{i}"] = of_classes(view.outcome.chosen, view.outcome.classes)
            figures[f"confusion{i}"] = confusion(view.outcome.chosen, view.outcome.classes)
    return rendered(
        "training_page.jinja",
        figures,
        whole,
        title=" and ".join(view.name for view in views),
        views=views,
        facts=[_facts(view) for view in views],
        drawings=[svg(view.plan.arch, view.name) for view in views],
        plans=[json.dumps(to_data(view.plan), indent=1) for view in views],
    )


def by_epoch(view: TrainingView, quantity: str, called: str) -> Any:
    """A quantity of each epoch, a line for each seed."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for number, (seed, history) in enumerate(view.histories.items()):
        figure.add_trace(
            Scatter(
                name=f"seed {seed}",
                x=[epoch.number + 1 for epoch in history.epochs],
                y=[getattr(epoch, quantity) for epoch in history.epochs],
                mode="lines+markers",
                line={"color": PALETTE[number % len(PALETTE)]},
            )
        )
    return layout(figure, "epoch", called, 340)


def of_classes(tested: TestResult, classes: Sequence[str]) -> Any:
    """The share of each class that was recognised, with its interval."""
    from plotly.graph_objects import Figure, Scatter

    rows = []
    for i, (name, counts) in enumerate(zip(classes, tested.confusion, strict=True)):
        if seen := sum(counts):
            rows.append((100 * counts[i] / seen, *interval(counts[i], seen), f"{escape(name, quote=False)} ({seen})"))
    rows.sort(reverse=True)
    shares = [row[0] for row in rows]
    figure = Figure(
        Scatter(
            x=shares,
            y=[row[3] for row in rows],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [high - share for share, _, high, _ in rows],
                "arrayminus": [share - low for share, low, _, _ in rows],
                "thickness": 1,
            },
            mode="markers",
            marker={"color": BLUE, "size": 9},
        )
    )
    figure = layout(figure, "recognised, %", "", 140 + 22 * len(rows))
    return figure.update_layout(margin={"l": 160, "r": 20, "t": 10, "b": 50})


def interval(hits: int, number: int) -> tuple[float, float]:
    """The 95 % interval of a share in percent: Wilson's."""
    from scipy.stats import binomtest

    found = binomtest(hits, number).proportion_ci(method="wilson")
    return 100 * float(found.low), 100 * float(found.high)


def confusion(tested: TestResult, classes: Sequence[str]) -> Any:
    """Images of each class by the class that was answered; what is right has no colour, or no other had."""
    from plotly.graph_objects import Figure, Heatmap

    names = [escape(name, quote=False) for name in classes]
    wrong = [[0 if i == j else n for j, n in enumerate(row)] for i, row in enumerate(tested.confusion)]
    figure = Figure(
        Heatmap(
            z=wrong,
            x=names,
            y=names,
            text=tested.confusion,
            texttemplate="%{text}" if len(names) <= 20 else None,
            hovertemplate="%{text} of %{y} were taken for %{x}<extra></extra>",
            colorscale=[[0, "#ffffff"], [1, "#e8590c"]],
            showscale=False,
        )
    )
    figure = layout(figure, "answered", "is", max(360, 80 + 26 * len(names)))
    figure.update_yaxes(autorange="reversed", type="category").update_xaxes(type="category")
    return figure.update_layout(margin={"l": 160, "r": 20, "t": 10, "b": 90})


def _facts(view: TrainingView) -> list[tuple[str, str]]:
    plan, outcome, training = view.plan, view.outcome, view.plan.training
    arch = plan.arch
    facts = [
        ("network", plan.found),
        ("dataset", f"{plan.dataset}, {arch.resolution}x{arch.resolution}x{arch.channels}, {arch.classes} classes"),
        ("recipe", f"{training.name}: {training.about}; {training.epochs} epochs, batch {training.batch}"),
    ]
    if outcome:
        chosen = outcome.chosen
        shares = f"{chosen.precision:.2f}, {chosen.recall:.2f}, {chosen.f1:.2f} %"
        facts += [
            ("images", f"{outcome.train_images:,} to train{plan.drawn}, {outcome.val_images:,} to validate"),
            ("precision, recall, F1", f"{shares} (means over classes, seed {chosen.seed})"),
            ("on", f"{outcome.device}, {outcome.threads} thread"),
            ("versions", ", ".join(f"{name} {version}" for name, version in outcome.versions.items())),
        ]
    for one in view.exported.artefacts if view.exported else ():
        facts.append((f"exported, {one.format}", f"{one.top1:.2f} % in {one.bytes:,} bytes"))
    return facts
