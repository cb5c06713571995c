"""Records -> figures. One idea each; a figure with no record behind it is not drawn, the page says what to run."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from peftlib import markup
from peftlib.report import learned, shares, style
from peftlib.report.tables import TITLES, Html, Spread, by_label, not_run, of_task, provenance

LOST: dict[str, Any] = {
    "marker": "x",
    "linestyle": "none",
    "markersize": 7,
    "markeredgewidth": 1.8,
}  # of runs that did not learn
LOST_SAYS = f"a run or more {' or '.join(learned.WORDS)}"  # beside that marker, in a legend


def figure(fig: Figure | None, *, caption: str, source: Sequence[dict] | None = None) -> Html:
    """A figure with its caption and a line that says where its numbers come from, for light and dark pages.

    fig: None when there is nothing to draw; then the caption says that it was not drawn.
    """
    if instead := not_run(source):
        return instead
    foot = provenance(source) if source is not None else ""
    caption = markup.line(caption)
    small = Markup("<br><small>{}</small>").format(foot) if foot else ""
    if fig is None:
        why = "a run that it needs has not been" if source else "no run behind it has been"
        lacking = Markup("<p><em>Not drawn, because {} recorded:</em> {}{}</p>")
        return Html(lacking.format(why, caption, small), f"[not drawn: no records] {caption}\n{foot}")
    data = io.BytesIO()
    fig.savefig(data, format="svg", metadata={"Date": None}, bbox_inches="tight")
    plt.close(fig)
    image = base64.b64encode(data.getvalue()).decode()
    shown = Markup(
        '<figure><img class="transparent" alt="{}" style="max-width:100%" src="data:image/svg+xml;base64,{}">'
        "<figcaption>{}{}</figcaption></figure>"
    )
    return Html(shown.format(caption, image, caption, small), f"[figure] {caption}\n{foot}")


def dumbbells(table: pd.DataFrame, metrics: Sequence[str]) -> Figure | None:
    """The paper's score (hollow) and ours (filled, with its interval or its standard deviation), joined: one panel a
    metric, one line a row. Ours is a cross where runs did not learn. table: of `peftlib.report.declared.beside`, or any
    with columns "metric, paper" and "metric, ours". None if nothing of ours is there."""
    titles = [TITLES.get(metric, metric) for metric in metrics]
    if table.empty or not any(table[f"{title}, ours"].notna().any() for title in titles):
        return None
    fig, axes = plt.subplots(
        1, len(metrics), sharey=True, squeeze=False, figsize=(2.6 + 1.7 * len(metrics), 1.2 + 0.3 * len(table))
    )
    for ax, title in zip(axes[0], titles, strict=True):
        _dumbbell(ax, table, title)
    axes[0][0].set_yticks(range(len(table)), map(style.plain, table["method"]))
    axes[0][0].invert_yaxis()
    axes[0][0].plot([], [], "o", color=style.GREY, markerfacecolor="none", label="paper")
    axes[0][0].plot([], [], "o", color=style.BLUE, label="ours")
    if any(_marked(row, title) for _, row in table.iterrows() for title in titles):
        axes[0][0].plot([], [], color=style.VERMILLION, label=f"ours, where {LOST_SAYS}", **LOST)
    fig.legend(loc="outside upper right", ncols=3)
    return fig


def _marked(row: pd.Series, title: str) -> bool:
    """Does a number of ours rest on runs that did not learn? A difference does where an average that it is of does."""
    own = row[f"{title}, ours"]
    if isinstance(own, Spread):
        return bool(own.marks)
    others = [value for name, value in row.items() if str(name).endswith(", ours") and isinstance(value, Spread)]
    return own is not None and any(value.marks for value in others)


def _bars(score: object) -> tuple[float, float]:
    """How far the bar of a score reaches below and above it: to the ends of its interval, else by its deviation."""
    if not isinstance(score, Spread):
        return 0.0, 0.0
    if score.ends is not None:
        return max(0.0, score.mean - score.ends[0]), max(0.0, score.ends[1] - score.mean)
    return score.sd or 0.0, score.sd or 0.0


UNITS = {"STS": "Pearson r", "average": "mean score", **dict.fromkeys(("to full", "gain", "lost"), "points")}


def _dumbbell(ax: Axes, table: pd.DataFrame, title: str) -> None:
    for y, (_, row) in enumerate(table.iterrows()):
        printed, ours = row[f"{title}, paper"], row[f"{title}, ours"]
        ax.plot(printed, y, "o", color=style.GREY, markerfacecolor="none")
        if ours is None:
            continue
        if _marked(row, title):
            ax.plot(float(ours), y, color=style.VERMILLION, **LOST)
            continue
        ax.plot([printed, float(ours)], [y, y], "-", color=style.GREY, linewidth=1, zorder=1)
        low, high = _bars(ours)
        bars = [[low], [high]] if low or high else None
        ax.errorbar(float(ours), y, xerr=bars, fmt="o", color=style.BLUE, capsize=2)
    ax.set_xlabel(style.plain(f"{title} ({UNITS.get(title, 'accuracy')})"))
    ax.grid(axis="y", visible=False)


# --- one figure each --------------------------------------------------------------------------------------------------
def points(source: Sequence[dict], value: Callable[[Sequence[dict]], Spread | None]) -> pd.DataFrame:
    """For `over`: each row of an experiment by the percentage it updates per task. value: from its records."""
    rows = [
        {"method": found[0]["run"]["method"], "x": shares.updated(found[0]), "y": value(found)}
        for found in by_label(source).values()
        if found
    ]
    return pd.DataFrame(rows, columns=["method", "x", "y"])


def over(panels: Mapping[str, pd.DataFrame], x_label: str, y_label: str, *, log_y: bool = False) -> Figure | None:
    """Scores or costs over a logarithmic count: one panel a source, one line a method, labelled at its end. No line leads
    through runs that did not learn: they are crosses.

    Args:
        panels: by title; columns ``method`` (expression), ``x`` (> 0), ``y`` (number, `Spread` or None), and perhaps
            ``name`` (in place of the method's own) and ``seeds`` (the scores that ``y`` is the mean of): small points.

    Returns:
        None if no panel has a point.
    """
    kept = {title: points for title, df in panels.items() if len(points := _drawable(df, log_y))}
    if not kept:
        return None
    lines = max(_names(points).nunique() for points in kept.values())
    fig, axes = plt.subplots(
        1, len(kept), squeeze=False, figsize=(1.5 + 4.4 * len(kept), max(4.4, 0.33 * lines)), sharex=True
    )
    for ax, (title, points) in zip(axes[0], kept.items(), strict=True):
        ends = [_line(ax, group, name) for name, group in points.groupby(_names(points), sort=False)]
        ax.set(
            xscale="log",
            yscale="log" if log_y else "linear",
            xlabel=style.plain(x_label),
            title=style.plain(title) if len(kept) > 1 else "",
        )
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        _label_ends(ax, ends)
    axes[0][0].set_ylabel(style.plain(y_label))
    if any(_lost(points["y"]).any() for points in kept.values()):
        axes[0][0].plot([], [], color=style.GREY, label=LOST_SAYS, **LOST)
        fig.legend(loc="outside upper right")
    return fig


def _lost(scores: pd.Series) -> pd.Series:
    """Which of them are of runs that did not learn."""
    return scores.map(lambda score: isinstance(score, Spread) and bool(score.marks)).astype(bool)


def _names(points: pd.DataFrame) -> pd.Series:
    """What each point's line is called."""
    return points["name"] if "name" in points else points["method"].map(lambda method: style.of(method).name)


def _drawable(points: pd.DataFrame, log_y: bool) -> pd.DataFrame:
    """Points that have a place: a logarithmic axis has none for zero."""
    there = points[points["y"].notna() & (points["x"] > 0)]
    return there[there["y"].map(float) > 0] if log_y else there


def _line(ax: Axes, group: pd.DataFrame, name: str) -> tuple[float, float, str, str]:
    """Draw a method's points; returns where its line ends, its name and colour."""
    look, group = style.of(group["method"].iloc[0]), group.sort_values("x")
    if "seeds" in group:
        _small_points(ax, group, look)
    lost = _lost(group["y"])
    if lost.any():
        ax.plot(group["x"][lost], group["y"][lost].map(float), color=look.color, **LOST)
    there = group[~lost]
    y, bars = [float(value) for value in there["y"]], [_bars(value) for value in there["y"]]
    ax.plot(there["x"], y, color=look.color, marker=look.marker, linestyle=look.line, linewidth=1.2)
    if any(map(any, bars)):
        ax.errorbar(there["x"], y, yerr=list(zip(*bars, strict=True)), fmt="none", color=look.color, capsize=2)
    last = there if len(there) else group
    return last["x"].iloc[-1], float(last["y"].iloc[-1]), name, look.color


def _small_points(ax: Axes, group: pd.DataFrame, look: style.Style) -> None:
    """Each seed's score, behind the line, whether its run learned or not."""
    at = [(x, score) for x, scores in zip(group["x"], group["seeds"], strict=True) for score in scores]
    x, y = zip(*at, strict=True) if at else ((), ())
    ax.plot(x, y, color=look.color, marker=look.marker, linestyle="none", markersize=3.5, alpha=0.55, zorder=1.5)


def _label_ends(ax: Axes, ends: list[tuple[float, float, str, str]], gap: float = 0.055) -> None:
    """Names at the right ends of lines, moved apart where they would touch. gap: of the axes' height."""
    ax.margins(x=0.08)
    ax.autoscale_view()  # or the limits would still be those of an empty plot
    to_axes = ax.transScale + ax.transLimits
    placed: list[float] = []
    for x, y, name, color in sorted(ends, key=lambda end: end[1]):
        at_x, at_y = to_axes.transform((x, y))
        level = max([at_y, *(p + gap for p in placed)])
        placed.append(level)
        ax.annotate(
            style.plain(name),
            (at_x, at_y),
            (1.02, level),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=color,
            va="center",
            fontsize=9,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "alpha": 0.35, "linewidth": 0.8},
        )


def epochs(source: Sequence[dict], task: str, reference: str = "Finetune") -> Figure | None:
    """A task's validation score over epochs, from the histories of a table's runs: one panel a group of rows, the
    reference in grey in each. Lines are means over seeds, the wider the further down the table; dashed, with crosses and
    named so, where runs did not learn. Runs of other tasks are left out."""
    rows = {label: found for label, records in by_label(source).items() if (found := of_task(records, task))}
    curves = {label: _history(records, task) for label, records in rows.items()}
    lost = {label for label, records in rows.items() if learned.marks(records, task)}
    groups: dict[str, list[str]] = {}
    for label in curves:
        groups.setdefault(label.split("[")[0].strip(), []).append(label)
    own = groups.pop(reference, [])
    groups = groups or ({reference: own} if own else {})
    if not groups:
        return None
    fig, axes = plt.subplots(1, len(groups), sharey=True, squeeze=False, figsize=(1.2 + 2.9 * len(groups), 4.2))
    for ax, (name, labels) in zip(axes[0], groups.items(), strict=True):
        for label in own:
            ax.plot(*curves[label], color=style.GREY, marker="*", linestyle=":", label=_legend(label, label in lost))
        _fan(ax, {label: curves[label] for label in labels}, rows, lost)
        ax.set(title=style.plain(name), xlabel="epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(fontsize=8, loc="lower right")
    axes[0][0].set_ylabel(f"{TITLES[task]}, validation {'Pearson r' if task == 'sts' else 'accuracy'}")
    return fig


def _history(records: Sequence[dict], task: str) -> tuple[list[int], list[float]]:
    """Epochs and the score at each, mean over seeds."""
    by_epoch: dict[int, list[float]] = {}
    for entry in (entry for record in records for entry in record["history"]):
        by_epoch.setdefault(entry["epoch"], []).append(entry["validation"][task])
    return list(by_epoch), [sum(values) / len(values) for values in by_epoch.values()]


def _legend(label: str, lost: bool) -> str:
    return style.plain(f"{label} ({LOST_SAYS})" if lost else label)


def _fan(
    ax: Axes,
    curves: Mapping[str, tuple[list[int], list[float]]],
    records: Mapping[str, Sequence[dict]],
    lost: Collection[str],
) -> None:
    """Rows of one group: the same colour, wider and darker from first to last, markers in turn."""
    for i, (label, (x, y)) in enumerate(curves.items()):
        share = (i + 1) / len(curves)
        look = style.of(records[label][0]["run"]["method"])
        short = label[label.index("[") :].replace("[", "").replace("]", "") if "[" in label else label
        ax.plot(
            x,
            y,
            color=look.color,
            alpha=0.35 + 0.65 * share,
            linewidth=0.8 + 1.8 * share,
            marker="x" if label in lost else "os^Dv<>Ph"[i % 9],
            markersize=5,
            linestyle="--" if label in lost else look.line,
            label=_legend(short, label in lost),
        )


def rates(points: pd.DataFrame, task: str, split: str = "validation") -> Figure | None:
    """A task's score by learning rate; the best one of those whose runs learned is ringed, the others are crosses. points:
    columns ``lr``, ``score`` (`Spread` or None), of a split."""
    if points.empty or points["score"].isna().all():
        return None
    points = points[points["score"].notna()].sort_values("lr")
    fig, ax = plt.subplots()
    _, _, _, color = _line(ax, points.assign(method="Full()", x=points["lr"], y=points["score"]), "")
    there = points[~_lost(points["score"])]
    if len(there):
        best = there.iloc[there["score"].map(float).argmax()]
        at = (best["lr"], float(best["score"]))
        ax.plot(*at, "o", color=style.VERMILLION, markersize=11, markerfacecolor="none")
        ax.annotate(f"best: {best['lr']:.2g}", at, (0, 12), textcoords="offset points", ha="center", color=style.VERMILLION)
    if len(there) < len(points):
        ax.plot([], [], color=color, label=LOST_SAYS, **LOST)
        ax.legend()
    ax.margins(y=0.15)
    ax.set(xscale="log", xlabel="learning rate", ylabel=f"{TITLES[task]}, {split} accuracy")
    return fig


def search(trials: pd.DataFrame, found: Mapping[str, float]) -> Figure | None:
    """Trials of the dropout and weight-decay search, each with its score, crosses without one where they did not learn; the
    best ringed, the paper's a star; filled contours between them from six trials on. trials: columns ``dropout``,
    ``weight_decay``, ``score``. found: the paper's."""
    if trials.empty:
        return None
    fig, ax = plt.subplots()
    ax.set(yscale="log", xlabel="dropout before the head", ylabel="weight decay")
    lost = _lost(trials["score"])
    if lost.any():
        gone = trials[lost]
        ax.plot(gone["dropout"], gone["weight_decay"], color=style.GREY, label=LOST_SAYS, **LOST)
        ax.legend(loc="upper left")
    trials = trials[~lost]
    if trials.empty:
        return fig
    x, y, z = trials["dropout"], trials["weight_decay"], trials["score"].map(float)
    if len(trials) >= 6:
        ax.tricontourf(x, y, z, levels=8, cmap="cividis", alpha=0.35)
    points = ax.scatter(x, y, c=z, cmap="cividis", s=70, edgecolor=style.GREY, zorder=3)
    best = z.idxmax()
    ax.plot(x[best], y[best], "o", color=style.VERMILLION, markersize=15, markerfacecolor="none", zorder=4)
    ax.plot(found["dropout"], found["weight_decay"], "*", color=style.GREY, markersize=14, markerfacecolor="none")
    ax.annotate("paper's best", (found["dropout"], found["weight_decay"]), (9, 0), textcoords="offset points", va="center")
    for at in zip(x, y, z, strict=True):
        ax.annotate(f"{at[2]:.3f}", at[:2], (0, -16), textcoords="offset points", ha="center", fontsize=8)
    ax.margins(0.12)
    fig.colorbar(points, label="SST, validation accuracy")
    return fig
