"""What a profile trains and stores: Table 1, Figure 1, Table 4 and appendix F, ours beside the paper's."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from peftlib.papers.xpeft import counts
from peftlib.papers.xpeft.rows import FIRST
from peftlib.report import style
from peftlib.report.tables import Html, table


def _agree(found: pd.DataFrame, column: str = "agrees") -> pd.Series:
    return found[column].map({True: "yes", False: "no"})


def table1() -> Html:
    """Table 1: the paper's cells and ours."""
    found = counts.table1()
    shown = pd.DataFrame(
        {
            "mode": found["mode"],
            "of what": found["quantity"],
            "adapters": found["adapters"],
            "formula, paper": found["formula"],
            "ours": found["ours"],
            "paper": found["printed"],
            "agree": _agree(found),
            "note": found["note"],
        }
    )
    return table(shown, caption="Table 1: what a profile trains, and the bytes of its masks, counted on BERT-base, b = 48")


def profile() -> Html:
    """All bytes of one profile."""
    found = counts.profile()
    times = [name for name in found.columns if name.startswith(("less", "with"))]
    return table(
        found,
        caption="All that a profile keeps, in bytes, and how many times less that is than what one with an adapter keeps",
        formats=dict.fromkeys(times, ",.0f"),
        rows=counts.profile_rows(),
        note="The head: one linear layer for two labels, on both sides of the last column. The paper's own head of two "
        f"layers takes {counts.FLOAT * counts.head(2):,} bytes.",
    )


def figure1() -> Html:
    """Figure 1's numbers."""
    found = counts.figure1()
    titles = {"adapters": "an adapter each", "masks": "bank and masks", "masks_and_norms": "bank, masks and norms"}
    shown = found[["profiles", *titles]].rename(columns=titles)
    return table(shown, caption=f"Bytes of all profiles together; the first {FIRST} have adapters, which the others share")


def curves(most: int = 1_000_000) -> Figure:
    """Bytes of all profiles, by their number: adapters, and X-PEFT as the paper counts it and with its norms."""
    found = counts.figure1().set_index("profiles")
    one = found.loc[FIRST, "adapters"] / FIRST
    x = np.geomspace(1, most, 200)
    fig, ax = plt.subplots(figsize=(7.2, 4.2))
    lines = {"an adapter each": (one * x, style.ORANGE, "-")}
    for name, factor, line in (
        ("hard masks", found.loc[FIRST, "factor"], "-"),
        ("hard masks and norms", found.loc[FIRST, "factor_with_norms"], "--"),
    ):
        lines[name] = (one * np.minimum(x, FIRST) + one / factor * np.maximum(0, x - FIRST), style.SKY, line)
    for name, (y, color, line) in lines.items():
        ax.plot(x, y / 1e9, color=color, linestyle=line)
        ax.annotate(name, (x[-1], y[-1] / 1e9), xytext=(6, 0), textcoords="offset points", va="center", color=color)
    ax.axvline(FIRST, color=style.GREY, linewidth=0.8, linestyle=":")
    ax.annotate(f"{FIRST} adapters", (FIRST, ax.get_ylim()[0]), xytext=(4, 8), textcoords="offset points", fontsize=9)
    ax.set(xscale="log", yscale="log", xlabel="profiles", ylabel="all of them together (GB)")
    return fig


def factors() -> dict[str, float]:
    """For sentences: how many times less than an adapter a profile over 150 adapters keeps, by masks alone, the adapter
    with and without its biases, and with its norms; bytes of both; and on how many cells of Table 1 ours agrees."""
    found, cells = counts.figure1().iloc[0], counts.table1()["agrees"]
    return {
        "masks": found["factor"],
        "norms": found["factor_with_norms"],
        "matrices": counts.FLOAT * counts.matrices() / counts.mask_bytes(FIRST, "hard"),
        "mask_bytes": counts.mask_bytes(FIRST, "hard"),
        "norm_bytes": counts.norm_bytes(),
        "cells": len(cells),
        "right": int(cells.sum()),
    }


def table4() -> Html:
    """Table 4: the paper's cells and ours, by adapters and labels of the head."""
    found = counts.table4()
    found["head"] = found["labels"].map(lambda labels: f"{labels} labels" if labels else "none")
    shown = pd.DataFrame(
        {
            "adapters": found["adapters"],
            "head": found["head"],
            "ours": found["ours"],
            "paper, millions": found["printed"],
            "agree": _agree(found),
        }
    )
    return table(shown, caption="Table 4: parameters that a profile trains, with and without its head")


def appendix_f() -> Html:
    """Appendix F: the paper's totals, ours, and ours with its round number for the backbone."""
    found = counts.appendix_f()
    shown = pd.DataFrame(
        {
            "adapters": found["adapters"],
            "ours": found["ours"],
            "with 110M for the backbone": found["as_added"],
            "paper": found["printed"],
            "ours agree": _agree(found),
            "with 110M agree": _agree(found, "as_added_agrees"),
        }
    )
    return table(shown, caption="Appendix F: all parameters of the model with its bank and a head of three labels")


def heads() -> dict[str, float]:
    """For sentences: parameters of the paper's head of two labels, of a linear one, and what X-PEFT with 100 adapters and
    an adapter train with the paper's head, and how many times as many the second is."""
    own, two = counts.trained(100), counts.head(2)
    d = (two - counts.head(0)) // 2 - 1
    return {
        "head": two,
        "linear": 2 * (d + 1),
        "ours": own + two,
        "adapter": counts.adapter() + two,
        "factor": (counts.adapter() + two) / (own + two),
        "share": 100 * two / (own + two),
    }
