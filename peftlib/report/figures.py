"""Records -> figures. One idea each; a figure with no record behind it is not drawn, the page says what to run."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from peftlib.report import style
from peftlib.report.tables import TITLES, Html, Spread, provenance


def figure(fig: Figure | None, *, caption: str, source: Sequence[dict] | None = None) -> Html:
    """A figure with its caption and a line that says where its numbers come from, for light and dark pages.

    fig: None when there is nothing to draw; then the caption says that it was not drawn.
    """
    foot = provenance(source) if source is not None else ""
    said = html.escape(caption)
    small = f"<br><small>{html.escape(foot)}</small>" if foot else ""
    if fig is None:
        return Html(f"<p><em>Not drawn, because no run behind it has been recorded:</em> {said}{small}</p>",
                    f"[not drawn: no records] {caption}\n{foot}")
    data = io.BytesIO()
    fig.savefig(data, format="svg", metadata={"Date": None}, bbox_inches="tight")
    plt.close(fig)
    image = base64.b64encode(data.getvalue()).decode()
    return Html(f'<figure><img class="transparent" alt="{html.escape(caption, quote=True)}" style="max-width:100%" '
                f'src="data:image/svg+xml;base64,{image}"><figcaption>{said}{small}</figcaption></figure>',
                f"[figure] {caption}\n{foot}")


def dumbbells(table: pd.DataFrame, metrics: Sequence[str]) -> Figure | None:
    """The paper's score (hollow) and ours (filled, with its standard deviation), joined: one panel a metric, one line a
    row. table: of `peftlib.report.beside`. None if nothing of ours is there."""
    if table.empty or not table["n"].any():
        return None
    fig, axes = plt.subplots(1, len(metrics), sharey=True, squeeze=False,
                             figsize=(2.6 + 1.7 * len(metrics), 1.2 + 0.3 * len(table)))
    for ax, metric in zip(axes[0], metrics, strict=True):
        _dumbbell(ax, table, TITLES[metric])
    axes[0][0].set_yticks(range(len(table)), table["method"])
    axes[0][0].invert_yaxis()
    axes[0][0].plot([], [], "o", color=style.GREY, markerfacecolor="none", label="paper")
    axes[0][0].plot([], [], "o", color=style.BLUE, label="ours")
    fig.legend(loc="outside upper right", ncols=2)
    return fig


def _dumbbell(ax: Axes, table: pd.DataFrame, title: str) -> None:
    for y, (printed, ours) in enumerate(zip(table[f"{title}, paper"], table[f"{title}, ours"], strict=True)):
        ax.plot(printed, y, "o", color=style.GREY, markerfacecolor="none")
        if isinstance(ours, Spread):
            ax.plot([printed, ours.mean], [y, y], "-", color=style.GREY, linewidth=1, zorder=1)
            ax.errorbar(ours.mean, y, xerr=ours.sd, fmt="o", color=style.BLUE, capsize=2)
    ax.set_xlabel(f"{title} ({'Pearson r' if title == 'STS' else 'mean score' if title == 'average' else 'accuracy'})")
    ax.grid(axis="y", visible=False)
