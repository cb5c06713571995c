"""Tables of the survey's chapter that need no training: parameters and memory of its Table 5, and its Tables 1 and 2."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable
from typing import ParamSpec

import pandas as pd
from IPython.display import Markdown

from peftlib.papers.survey import memory, properties
from peftlib.papers.survey.counts import NOT_BUILT, table5, table5_rows
from peftlib.report.efficiency import benchmark, not_measured
from peftlib.report.sentences import say
from peftlib.report.tables import Html, table

P = ParamSpec("P")
LONGEST = 120  # characters of a configuration
YES = {True: "yes", False: "NO", None: "–"}


def parameters(model: str) -> Html:
    """The two parameter columns for T5-Large, T5-3B or T5-11B: ours and the paper's."""
    counted = table5().query("model == @model")
    shown = pd.DataFrame(
        {
            "method": counted["method"],
            "trained": counted["trained"],
            "millions, paper": counted["trained_printed"],
            "agrees": counted["agrees"].map(YES),
            "% of the model": counted["percent"],
            "%, paper": counted["percent_printed"],
            "configuration": counted["expression"],
        }
    )
    return table(
        shown,
        caption=f"Parameters trained on {model}: counted, and as the survey prints them",
        formats={"% of the model": ".4f"},
        missing=NOT_BUILT,
        rows=table5_rows(),
    )


def wrong_counts() -> Html:
    """The printed counts that are not those of their configuration, and what they are."""
    wrong = table5().query("agrees == False")
    shown = pd.DataFrame(
        {
            "model": wrong["model"],
            "method": wrong["method"],
            "trained": wrong["trained"],
            "millions, paper": wrong["trained_printed"],
            "why": wrong["note"],
        }
    )
    return table(shown, caption="Printed counts that are not those of their configuration", rows=table5_rows())


def counts_said() -> Markdown:
    """How many printed counts are those of their configuration, and which are not."""
    rows = table5()
    there, wrong = rows.dropna(subset=["trained"]), rows.query("agrees == False")
    absent = rows[rows["trained"].isna()]["method"].unique()
    said = (
        "Of {n} printed counts, **{right} are those of their configuration** to the last digit; {wrong} are not: {which}."
    )
    if len(absent):
        said += " Not built, and so not counted here: {absent}."
    return say(
        said,
        n=len(there),
        right=len(there) - len(wrong),
        wrong=len(wrong),
        same=int((there["trained"] == there["formula"]).sum()),
        which=", ".join(wrong["model"] + " " + wrong["method"]) or "none",
        absent=", ".join(absent),
    )


def _of_estimates(shown: Callable[P, Html]) -> Callable[P, Html | Markdown]:
    """A table of the memory estimates; in its place how to make them, where there are none."""

    @functools.wraps(shown)
    def told(*given: P.args, **named: P.kwargs) -> Html | Markdown:
        return not_measured("survey_memory") if benchmark("survey_memory") is None else shown(*given, **named)

    return told


@_of_estimates
def ram(model: str) -> Html:
    """The RAM column for T5-Large, T5-3B or T5-11B beside our estimates."""
    rows = memory.table().query("model == @model")
    shown = pd.DataFrame(
        {
            "method": rows["method"],
            "RAM, paper": rows["printed"],
            "estimate, GiB": rows["estimated"],
            "off, %": rows["off"],
            "weights, gradients, moments": rows["states"],
            "activations": rows["activations"],
            "step of": rows["dataset"],
        }
    )
    formats = dict.fromkeys(("RAM, paper", "estimate, GiB", "weights, gradients, moments", "activations"), ".1f")
    return table(
        shown,
        caption=f"Memory of training {model}: estimated, and as printed",
        formats=formats | {"off, %": "+.0f"},
        missing="–",
        rows=table5_rows(),
    )


@_of_estimates
def ram_agreement() -> Html:
    """How near the estimates are, by model."""
    found = memory.agreement(memory.table()).rename(
        columns={
            "median": "off by, median %",
            "median_gb": "were it 10^9 bytes, %",
            "largest": "largest, %",
            "furthest": "furthest off",
            "order": "rank correlation",
        }
    )
    formats = {"off by, median %": ".1f", "were it 10^9 bytes, %": ".1f", "largest, %": ".0f", "rank correlation": ".2f"}
    return table(found, caption="How far estimates and printed memory are apart", formats=formats, rows=table5_rows())


@_of_estimates
def ram_besides() -> Html:
    """Two methods with what the survey's programs kept beyond the estimate."""
    found = memory.besides(memory.table())
    shown = found.rename(columns={"printed": "RAM, paper", "estimated": "estimate, GiB", "more": "besides"})
    formats = dict.fromkeys(("RAM, paper", "estimate, GiB", "besides", "together"), ".1f")
    return table(
        shown,
        caption="With the optimizer's copy, and with the products that are built",
        formats=formats,
        rows=table5_rows(),
    )


@_of_estimates
def ram_impossible() -> Html:
    """How many printed numbers leave no room for weights, gradients and moments, by their width."""
    shown = memory.impossible(memory.table()).rename(
        columns={
            "below16": "too little in 16 bits",
            "below32": "too little in 32 bits",
            "printed": "full tuning, paper",
            "states16": "takes in 16 bits",
            "states32": "takes in 32 bits",
        }
    )
    return table(
        shown,
        caption="Rows whose printed memory is less than weights, gradients and moments take",
        formats=dict.fromkeys(("full tuning, paper", "takes in 16 bits", "takes in 32 bits"), ".1f"),
        note="The last three columns are of full tuning, in GiB.",
    )


@_of_estimates
def ram_disputed() -> Html:
    """What the RAM column says of the counts that are not those of their configuration."""
    found = memory.disputed(memory.table())
    shown = pd.DataFrame(
        {
            "model": found["model"],
            "method": found["method"],
            "above LN tuning, paper": found["measured"],
            "by the printed count": found["as_printed"],
            "by ours": found["as_counted"],
            "the column supports": found["says"],
        }
    )
    names = ("above LN tuning, paper", "by the printed count", "by ours")
    return table(
        shown,
        caption="Gigabytes that either count would need for weights, gradients and moments",
        formats=dict.fromkeys(names, ".2f"),
        rows=table5_rows(),
        note="Nothing: the two counts differ by less memory than the estimates of that model are off by.",
    )


# --- Tables 1 and 2 ---------------------------------------------------------------------------------------------------
TITLES = {
    "disk": "storage",
    "ram": "memory",
    "backpropagation": "backpropagation",
    "overhead_printed": "inference overhead",
    "trainable_printed": "trained",
    "changed_printed": "changed",
}


def ticks() -> Html:
    """Table 1: what is printed and, behind it, what was found."""
    rows = properties.table()
    shown = pd.DataFrame({"method": rows["method"]})
    for name in ("disk", "ram", "backpropagation"):
        shown[f"{TITLES[name]}: paper, found"] = [
            None if found is None else f"{printed} {found}"
            for printed, found in zip(rows[name], rows[f"found_{name}"], strict=True)
        ]
    shown["stored, %"], shown["memory of full tuning's"] = rows["stored"], rows["memory"]
    shown["blocks passed"] = [
        None if row.passed is None else f"{row.passed:.0f} of {row.blocks:.0f}" for row in rows.itertuples()
    ]
    return table(
        shown,
        caption="Table 1: does it save storage, memory and the way back through the backbone?",
        formats={"stored, %": ".3f", "memory of full tuning's": ".2f"},
        missing=NOT_BUILT,
        rows=properties.rows(),
        note=f"A step of {properties.BATCH} sequences of {properties.LENGTH} tokens in bf16, estimated on shapes; full "
        "tuning's memory on the same backbone is 1. Blocks passed: those whose output has a gradient, of all blocks.",
    )


def overheads() -> Html:
    """Table 1's last column."""
    rows = properties.table()
    shown = pd.DataFrame(
        {
            "method": rows["method"],
            "paper": rows["overhead_printed"],
            "folds into the weights": rows["found_overhead_printed"].map({properties.FREE: "yes", "some": "no"}),
            "unmerged: products added, %": rows["flops"],
            "where": rows["places"].map(lambda places: places if places is None else places or "–"),
        }
    )
    return table(
        shown,
        caption="Table 1: what inference costs more",
        formats={"unmerged: products added, %": "+.2f"},
        missing=NOT_BUILT,
        rows=properties.rows(),
        note="Products: multiplications and additions of matrix products and attention in a forward pass over "
        f"{properties.LENGTH} tokens, more than the plain backbone's. Where: the sites at which operations are added; "
        "readout: heads read something else than the last states.",
    )


def shares() -> Html:
    """Table 2: percent trained and changed."""
    rows = properties.table().dropna(subset=["trainable_printed"])
    shown = pd.DataFrame(
        {
            "method": rows["method"],
            "trained, %": rows["trainable"],
            "trained, paper": rows["trainable_printed"],
            "changed, %": rows["changed"],
            "changed, paper": rows["changed_printed"],
        }
    )
    return table(
        shown,
        caption="Table 2: the share of parameters trained and changed",
        formats={"trained, %": ".3f", "changed, %": ".3f"},
        missing=NOT_BUILT,
        rows=properties.rows(),
        note="Heads are left out. Changed: whole weights where a method folds into them.",
    )


def configurations() -> Html:
    """What each row is tried on."""
    rows = properties.table()
    shown = pd.DataFrame(
        {
            "method": rows["method"],
            "configuration": rows["expression"].map(
                lambda text: text and textwrap.shorten(text, LONGEST, placeholder=" ...")
            ),
            "backbone": rows["backbone"],
            "from": rows["of"].replace("", "–"),
        }
    )
    return table(shown, caption="The configurations that were tried", missing=NOT_BUILT, rows=properties.rows())


def differences() -> Html:
    """Every tick or share that does not come out as printed, with what explains it."""
    found = properties.disagreements()
    shown = pd.DataFrame(
        {
            "method": found["method"],
            "column": found["column"].map(TITLES),
            "paper": found["printed"],
            "found": found["found"],
            "why": found["why"].replace("", "unexplained"),
        }
    )
    return table(shown, caption="What does not come out as printed", missing="–", rows=properties.rows())


def found_said() -> Markdown:
    """How many ticks and shares come out as printed."""
    rows = properties.table()
    there, wrong = rows.dropna(subset=["expression"]), properties.disagreements()
    cells = {name: int(there[name].notna().sum()) for name in (*properties.TICKS, *properties.SHARES)}
    ticks, shares = (
        (sum(cells[name] for name in names), int(wrong["column"].isin(names).sum()))
        for names in (properties.TICKS, properties.SHARES)
    )
    absent = rows[rows["expression"].isna()]["method"]
    return say(
        "{n} of the {all} methods of Table 1 were tried. **{ticks_right} of their {ticks} ticks come out as printed**, and "
        "{shares_right} of {shares} shares of Table 2." + (" Not built: {absent}." if len(absent) else ""),
        n=len(there),
        all=len(rows),
        ticks=ticks[0],
        ticks_right=ticks[0] - ticks[1],
        shares=shares[0],
        shares_right=shares[0] - shares[1],
        absent=", ".join(absent),
    )
