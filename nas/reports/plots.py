"""The figures of a report page, by plotly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from typing import Any

from nas.records.pareto import front
from nas.records.plan import Plan
from nas.records.statistics import Calibration
from nas.records.trial import Trial
from nas.serialization import to_data

GREEN, BLUE, GREY, RED, ORANGE = "#2b8a3e", "#1971c2", "#adb5bd", "#c92a2a", "#e8590c"


PALETTE = (BLUE, ORANGE, GREEN, "#6741d9", "#0b7285", "#a61e4d")


AXES = {
    "macs": ("MACs, M", 1e6),
    "params": ("params, M", 1e6),
    "peak": ("peak, KB", 1024),
    "latency": ("latency, ms", 1),
}


@dataclass(frozen=True, slots=True)
class ReportView:
    """A run, as it is shown."""

    name: str
    plan: Plan
    trials: tuple[Trial, ...]
    best: Trial | None
    tallies: Mapping[int, Mapping[str, float]]
    importance: Mapping[str, float]
    """Of each choice; see `nas.search_strategy.study`."""
    calibration: Calibration | None
    baseline: str
    """The anchor that all are compared with."""

    @property
    def against(self) -> Trial | None:
        """The baseline's trial."""
        return next((trial for trial in self.trials if trial.anchor == self.baseline), None)


def name_of(trial: Trial) -> str:
    return trial.anchor or trial.arch_id


def _axis(trial: Trial, name: str) -> float | None:
    if name == "latency":
        return trial.latency.median_ms if trial.latency else None
    value: int = getattr(trial.cost, name)
    return value / AXES[name][1]


def _hover(trial: Trial) -> str:
    spent = trial.cost
    lines = [
        f"<b>{escape(name_of(trial))}</b> ({trial.state}, trial {trial.index}, wave {trial.wave})",
        f"{trial.score:.2f} % after {sum(s.images for s in trial.scores):,} images" if trial.scores else "not trained",
        f"{spent.macs / 1e6:.2f} M MACs, {spent.params / 1e6:.3f} M params, {spent.peak / 1024:.0f} KB",
    ]
    if trial.latency:
        lines.append(f"{trial.latency.median_ms:.3f} ms ({trial.latency.low_ms:.3f} to {trial.latency.high_ms:.3f})")
    stages = getattr(trial.arch, "stages", ())
    for stage in stages:
        block = to_data(stage.block)
        settings = ", ".join(
            f"{key} {value}" for key, value in block.items() if key in ("expand", "kernel", "se", "share")
        )
        lines.append(escape(f"{stage.depth} x {block['kind']} to {stage.width}, stride {stage.stride}; {settings}"))
    return "<br>".join(lines)


def layout(figure: Any, x: str, y: str, height: int = 420) -> Any:
    """`figure` as all of them look, with its axes named."""
    return figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 30, "b": 50},
        xaxis_title=x,
        yaxis_title=y,
        legend={"orientation": "h", "y": -0.2, "yanchor": "top"},
        hoverlabel={"align": "left"},
        font={"family": "system-ui, sans-serif"},
    )


def scatter(views: Sequence[ReportView]) -> Any:
    """Accuracy against cost: found networks, anchors by name, the front, the limits."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    shown: list[list[Trial]] = []  # of each trace
    several = len(views) > 1
    for number, view in enumerate(views):
        suffix = f", {escape(view.name)}" if several else ""
        complete = [trial for trial in view.trials if trial.state == "complete"]
        pruned = [trial for trial in view.trials if trial.state == "pruned"]
        best = front(view.trials, ("accuracy", "macs"))
        colour = PALETTE[number % len(PALETTE)]
        groups = (
            ("pruned, after fewer images" + suffix, pruned, {"color": GREY, "symbol": "x", "size": 6}, "markers"),
            ("front" + suffix, sorted(best, key=lambda t: t.cost.macs), {"color": colour, "size": 1}, "lines"),
            ("found" + suffix, [t for t in complete if not t.anchor], {"color": colour, "size": 10}, "markers"),
            (
                "anchors" + suffix,
                [t for t in complete if t.anchor],
                {"color": RED, "symbol": "diamond", "size": 10},
                "",
            ),
        )
        for name, trials, marker, mode in groups:
            shown.append(trials)
            figure.add_trace(
                Scatter(
                    name=name,
                    x=[_axis(t, "macs") for t in trials],
                    y=[t.score for t in trials],
                    mode=mode or "markers+text",
                    marker=marker,
                    line={"color": colour, "dash": "dot", "width": 1},
                    text=[escape(name_of(t)) for t in trials] if not mode else None,
                    textposition="bottom center",
                    textfont={"size": 10},
                    hovertext=[_hover(t) for t in trials],
                    hoverinfo="text",
                )
            )
    timed = any(trial.latency for trials in shown for trial in trials)
    names = [name for name in AXES if name != "latency" or timed]
    limits = {name: _limits(views, name) for name in names}
    buttons = [
        {
            "label": name,
            "method": "update",
            "args": [
                {"x": [[_axis(t, name) for t in trials] for trials in shown]} | _bars(shown, name),
                {"xaxis.title.text": AXES[name][0], "shapes": limits[name]},
            ],
        }
        for name in names
    ]
    figure.update_layout(
        shapes=limits["macs"],
        updatemenus=[
            {"buttons": buttons, "x": 0, "y": 1.12, "xanchor": "left", "type": "buttons", "direction": "right"}
        ],
    )
    return layout(figure, AXES["macs"][0], "top-1 on validation images, %", 560)


def _bars(shown: Sequence[Sequence[Trial]], name: str) -> dict[str, Any]:
    """The intervals of latencies; none for what is counted."""
    if name != "latency":
        return {"error_x": [{"visible": False} for _ in shown]}
    bars = []
    for trials in shown:
        known = [trial.latency for trial in trials]
        bars.append(
            {
                "visible": True,
                "type": "data",
                "symmetric": False,
                "array": [one.high_ms - one.median_ms if one else 0 for one in known],
                "arrayminus": [one.median_ms - one.low_ms if one else 0 for one in known],
                "thickness": 1,
            }
        )
    return {"error_x": bars}


def _limits(views: Sequence[ReportView], name: str) -> list[dict[str, Any]]:
    """A line at each limit of `name`."""
    found = set()
    for view in views:
        limit: float | None = view.plan.budget.limits().get(name)
        if name == "latency":
            limit = view.plan.budget.latency_ms
            ratio, reference = view.plan.budget.latency_ratio, view.plan.budget.reference
            timed = next((t.latency for t in view.trials if t.anchor == reference and t.latency), None)
            if limit is None and ratio is not None and timed:
                limit = ratio * timed.median_ms
        if limit is not None:
            found.add(limit / AXES[name][1])
    line = {"color": RED, "dash": "dash", "width": 1}
    return [
        {"type": "line", "xref": "x", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": line}
        for at in sorted(found)
    ]


def so_far(views: Sequence[ReportView]) -> Any:
    """The best accuracy so far against the compute spent, in the order in which networks were proposed."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for number, view in enumerate(views):
        work = list(accumulate(sum(s.images for s in t.scores) * t.cost.macs / 1e12 for t in view.trials))
        steps = [(at, t) for at, t in zip(work, view.trials, strict=True) if t.state == "complete"]
        best = list(accumulate((t.score or 0.0 for _, t in steps), max))
        colour = PALETTE[number % len(PALETTE)]
        figure.add_trace(
            Scatter(
                name=f"best so far, {escape(view.name)}",
                x=[at for at, _ in steps],
                y=best,
                line={"shape": "hv", "color": colour},
                mode="lines+markers",
                text=[escape(name_of(t)) for _, t in steps],
            )
        )
        if view.against and view.against.state == "complete":
            score = view.against.score
            name = f"{escape(view.baseline)}, {escape(view.name)}"
            figure.add_trace(
                Scatter(name=name, x=[0, work[-1]], y=[score] * 2, line={"color": colour, "dash": "dash"}, mode="lines")
            )
    return layout(figure, "training images x MACs, T", "top-1 on validation images, %")


def rungs(view: ReportView) -> Any:
    """What each network came to, rung by rung; who ends early was not among its wave's best."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    listed: set[str] = set()
    for trial in view.trials:
        if not trial.scores:
            continue
        kind = "baseline" if trial is view.against else "anchor" if trial.anchor else trial.state
        style = {"baseline": (RED, 3), "anchor": (ORANGE, 1), "complete": (BLUE, 2)}.get(kind, (GREY, 1))
        figure.add_trace(
            Scatter(
                name={"baseline": escape(view.baseline), "anchor": "other anchors"}.get(kind, kind),
                legendgroup=kind,
                showlegend=kind not in listed,
                x=list(accumulate(score.images for score in trial.scores)),
                y=[score.top1 for score in trial.scores],
                mode="lines+markers",
                line={"color": style[0], "width": style[1]},
                hovertext=_hover(trial),
                hoverinfo="text",
            )
        )
        listed.add(kind)
    return layout(figure, "training images", "top-1 on validation images, %")


def importances(view: ReportView) -> Any:
    """How much each choice accounts for."""
    from plotly.graph_objects import Bar, Figure

    top = sorted(view.importance.items(), key=lambda item: item[1])[-15:]
    names, values = [escape(name) for name, _ in top], [value for _, value in top]
    figure = Figure(Bar(x=values, y=names, orientation="h", marker={"color": BLUE}))
    figure = layout(figure, "share of the spread of scores at the first rung", "")
    return figure.update_layout(margin={"l": 160, "r": 20, "t": 30, "b": 50})


def calibration(found: Calibration) -> Any:
    """How well each rung of each proxy ranks networks, with intervals."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for number, by in enumerate(dict.fromkeys(one.by for one in found.agreements)):
        rows = [one for one in found.agreements if one.by == by]
        figure.add_trace(
            Scatter(
                name=f"by {escape(by)}",
                x=[escape(f"{one.proxy}, rung {one.rung + 1}") for one in rows],
                y=[one.spearman.value for one in rows],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [one.spearman.high - one.spearman.value for one in rows],
                    "arrayminus": [one.spearman.value - one.spearman.low for one in rows],
                },
                mode="markers",
                marker={"color": PALETTE[number], "size": 10},
                offsetgroup=by,
            )
        )
    figure.update_layout(scattermode="group", scattergap=0.8)
    return layout(figure, "", "Spearman's correlation with longer training")


def waves(view: ReportView) -> Any:
    """Worker-minutes of each wave, by what became of the networks."""
    from plotly.graph_objects import Bar, Figure

    figure = Figure()
    numbers = sorted({trial.wave for trial in view.trials})
    for state, colour in (("complete", BLUE), ("pruned", GREY), ("failed", RED)):
        spent = [
            sum(
                s.train_seconds + s.val_seconds
                for t in view.trials
                if (t.wave, t.state) == (wave, state)
                for s in t.scores
            )
            for wave in numbers
        ]
        if any(spent):
            minutes = [seconds / 60 for seconds in spent]
            figure.add_trace(Bar(name=state, x=numbers, y=minutes, marker={"color": colour}))
    return layout(figure.update_layout(barmode="stack"), "wave", "worker-minutes", 320)
