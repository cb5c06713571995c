"""Compacter's Table 3 (section 5.5) beside what steps of its methods take on T5-Base: benchmarks/results/budget.json.

The paper prints megabytes that are too few for a whole step. What they can be is memory divided by the batch, so the
estimates beside them are the peak of the largest batch that fits, divided by that batch.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from peftlib.papers import paper_table
from peftlib.papers.compacter.counts import measured_share, weights
from peftlib.papers.compacter.experiments import FULL
from peftlib.report import efficiency, style
from peftlib.report.efficiency import benchmark, not_measured
from peftlib.report.tables import Html, table

PARTS = ("weights", "gradients", "optimizer", "activations", "peak")
MB, GIB = 10**6, 2**30


def a_sequence(largest: dict) -> float:
    """Peak megabytes of the largest batch's step, divided by its sequences."""
    return largest["peak"] / largest["batch"] / MB


def ratios(result: dict) -> pd.DataFrame:
    """By row of Table 3: estimated and printed ``memory`` and compute (``flops``, ``time``) relative to full
    fine-tuning, the estimated of the largest batch and for a sequence. Columns: memory, memory_paper, flops, time_paper."""
    printed, rows = paper_table("compacter", "table3").set_index("method"), {}
    for name, found in result["methods"].items():
        largest = found["largest"]
        rows[name] = {
            "memory": a_sequence(largest),
            "memory_paper": printed.loc[name, "memory_mb"],
            "flops": largest["flops"] / largest["batch"],
            "time_paper": printed.loc[name, "minutes"],
        }
    both = pd.DataFrame.from_dict(rows, orient="index")
    return both / both.loc[FULL]


# --- tables -----------------------------------------------------------------------------------------------------------
def steps() -> Html | Markdown:
    """A training step of every method as it was measured here, beside Table 3's ratios."""
    printed = paper_table("compacter", "table3").set_index("method")[["minutes", "memory_mb"]]
    relative = (printed / printed.loc[FULL]).rename(columns={"minutes": "time", "memory_mb": "memory"})
    about = (
        "The paper: T5-Base on MNLI, its own batch size for every method; its memory is taken from its megabytes, not "
        "from its percentages (see its errata)."
    )
    return efficiency.steps(relative.to_dict("index"), about)


def step() -> Html | Markdown:
    """What one step of one batch holds in memory, by method."""
    result = benchmark("budget")
    if result is None:
        return not_measured("budget")
    rows = [
        {
            "method": name,
            **{part: found["one"][part] / GIB for part in PARTS},
            "peak / full": found["one"]["peak"] / result["methods"][FULL]["one"]["peak"],
        }
        for name, found in result["methods"].items()
    ]
    return table(
        pd.DataFrame(rows),
        caption=f"GiB of a training step of {result['batch']} sequences, estimated",
        formats=dict.fromkeys((*PARTS, "peak / full"), ".2f"),
        note=_shape(result),
    )


def largest() -> Html | Markdown:
    """The largest batch that fits the paper's budget, and memory divided by it beside the paper's."""
    result = benchmark("budget")
    if result is None:
        return not_measured("budget")
    printed, relative = paper_table("compacter", "table3").set_index("method"), ratios(result)
    rows = [
        {
            "method": name,
            "largest batch": found["largest"]["batch"],
            "MB a sequence": a_sequence(found["largest"]),
            "MB, paper": printed.loc[name, "memory_mb"],
            "relative": relative.loc[name, "memory"],
            "relative, paper": relative.loc[name, "memory_paper"],
        }
        for name, found in result["methods"].items()
    ]
    return table(
        pd.DataFrame(rows),
        caption=f"Sequences that fit {result['budget'] / 10**9:g} GB, and memory for each",
        formats={"MB a sequence": ".1f", "MB, paper": ".1f", "relative": ".2f", "relative, paper": ".2f"},
        note=f"{_shape(result)} The paper's ratios are of its megabytes, not its percentages (see its errata).",
    )


def compute() -> Html | Markdown:
    """FLOPs of an epoch relative to full fine-tuning, beside the paper's time."""
    result = benchmark("budget")
    if result is None:
        return not_measured("budget")
    relative = ratios(result)
    rows = pd.DataFrame(
        {
            "method": relative.index,
            "FLOPs": relative["flops"],
            "time, paper": relative["time_paper"],
            "time / FLOPs": relative["time_paper"] / relative["flops"],
        }
    )
    return table(
        rows,
        caption="An epoch relative to full fine-tuning: FLOPs estimated, and the paper's time",
        formats=dict.fromkeys(rows.columns[1:], ".2f"),
        note=_shape(result),
    )


def _shape(result: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"{result['backbone']} with its language-model head, sequences of {result['length']} tokens, answers of "
        f"{result['answer']}, {result['precision']}, kernels of {result['device']}; estimated with {versions} · "
        f"{result['date']} · commit {result['commit']}."
    )


# --- figure -----------------------------------------------------------------------------------------------------------
def beside_paper() -> Figure | None:
    """Memory and compute relative to full fine-tuning: the paper's (hollow) and ours (filled); None without estimates."""
    result = benchmark("budget")
    if result is None:
        return None
    relative = ratios(result)
    fig, axes = plt.subplots(1, 2, sharey=True, figsize=(8.4, 1.2 + 0.32 * len(relative)))
    panels = {
        "memory for a sequence / full fine-tuning": ("memory", "memory_paper"),
        "FLOPs (ours), time (paper) / full fine-tuning": ("flops", "time_paper"),
    }
    for ax, (label, (ours, paper)) in zip(axes, panels.items(), strict=True):
        for y, (ratio, theirs) in enumerate(zip(relative[ours], relative[paper], strict=True)):
            ax.plot([ratio, theirs], [y, y], color=style.GREY, linewidth=1, zorder=1)
        ax.plot(relative[paper], range(len(relative)), "o", color=style.GREY, markerfacecolor="none", label="paper")
        ax.plot(relative[ours], range(len(relative)), "o", color=style.BLUE, label="ours, estimated")
        ax.axvline(1, color=style.GREY, linewidth=0.8, linestyle=":")
        ax.set(xlabel=label)
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(relative)), map(style.plain, relative.index))
    axes[0].invert_yaxis()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return fig


# --- numbers for sentences --------------------------------------------------------------------------------------------
def units() -> dict[str, float | None]:
    """Why the printed megabytes are no peak: ``printed`` of full fine-tuning, ``weights`` of T5-Base alone in fp32 and
    ``half`` in bf16, in MB; and of the estimates ``ours``, a sequence's share at the largest batch (None without them)."""
    full = weights() / MB
    printed, result = paper_table("compacter", "table3").set_index("method"), benchmark("budget")
    ours = a_sequence(result["methods"][FULL]["largest"]) if result else None
    return {"printed": printed.loc[FULL, "memory_mb"], "weights": full, "half": full / 2, "ours": ours}


def agreement() -> dict[str, float | str | None]:
    """How far estimated and printed ratios are apart: the row with the largest difference of memory (``memory_row``,
    its two ratios ``memory`` and ``memory_paper``), the mean absolute difference of the others (``others``), and the row
    whose time is furthest above its FLOPs (``time_row``, ``time``, ``flops``); None without estimates."""
    result = benchmark("budget")
    if result is None:
        return dict.fromkeys(("memory_row", "memory", "memory_paper", "others", "time_row", "time", "flops"))
    relative = ratios(result).drop(index=FULL)
    apart = (relative["memory"] - relative["memory_paper"]).abs()
    far, slow = apart.idxmax(), (relative["time_paper"] / relative["flops"]).idxmax()
    return {
        "memory_row": far,
        "memory": relative.loc[far, "memory"],
        "memory_paper": relative.loc[far, "memory_paper"],
        "others": apart.drop(index=far).mean(),
        "time_row": slow,
        "time": relative.loc[slow, "time_paper"],
        "flops": relative.loc[slow, "flops"],
    }


def sizes() -> dict[str, float | str]:
    """The two rows whose printed share is not that of section 5.5's configuration: printed text and counted percent."""
    printed = paper_table("compacter", "table3").set_index("method")["trained_printed"]
    return {
        "phm_printed": printed["PHM-Adapter"],
        "phm": measured_share("PHM-Adapter"),
        "said_printed": printed["Intrinsic-SAID"],
        "said": measured_share("Intrinsic-SAID"),
    }
