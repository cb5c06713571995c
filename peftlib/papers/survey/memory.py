"""The RAM column of the survey's Table 5, beside what a training step of each configuration is estimated to take.

The survey measured the most that PyTorch had allocated (section 11.1). It says neither of which data set the column is, nor
its unit, nor the precision. What stands here is the larger of the steps on BoolQ and on CNN/Dailymail at Table 3's
microbatches, with texts of 512 tokens and answers of 8 and 128 (section 11.1; texts of RTE and COPA are shorter), all in
bf16 as its authors' code loads T5, moments included, in GiB. The optimizer is a fused one that makes nothing but its state;
theirs was PyTorch's plain AdamW.
"""

from __future__ import annotations

import functools
import statistics

import pandas as pd

from peftlib.accounting.counted import shape
from peftlib.errors import UsageError
from peftlib.papers import paper_table
from peftlib.papers.survey.counts import BACKBONES, MILLION, configurations, table5
from peftlib.report.efficiency import benchmark

LENGTH, ANSWERS = 512, {"BoolQ": 8, "CNN": 128}  # tokens
PRECISION, BYTES, GIB = "bf16-true", 2, 2**30
STATES = 4  # a trained number, its gradient and two moments
BASE = "LN tuning"  # trains least of what no method adds to


@functools.cache
def steps() -> dict[str, dict[str, dict[str, str | int]]]:
    """What is estimated: by row of Table 5 that has a configuration here, and data set, the arguments of
    `peftlib.accounting.estimate.estimate`, with Table 3's microbatches."""
    batches = {
        (row.model, dataset): int(row.microbatch)
        for row in paper_table("survey", "table3").itertuples()
        for dataset in row.datasets.split(", ")
    }
    return {
        row: {
            dataset: {
                "method": method,
                "backbone": BACKBONES[(model := row.partition(" ")[0])],
                "batch": batches[model, dataset],
                "length": LENGTH,
                "answer": answer,
                "precision": PRECISION,
            }
            for dataset, answer in ANSWERS.items()
        }
        for row, method in configurations().items()
    }


def estimated() -> dict[str, dict]:
    """The larger step of each row of Table 5, from ``benchmarks/results/survey_memory.json``: what was asked for, bytes,
    and ``dataset``. Rows that the file does not have, or has of other arguments, are left out; a method that does not
    write has an answer of 0 tokens, for a head."""
    rows, found = (benchmark("survey_memory") or {"rows": {}})["rows"], {}
    for row, wanted in steps().items():
        kept = rows.get(row, {})
        asked = {name: {key: one[key] for key in wanted[name]} for name, one in kept.items()}
        if asked in (wanted, {name: step | {"answer": 0} for name, step in wanted.items()}):
            dataset = max(kept, key=lambda name: kept[name]["peak"])
            found[row] = kept[dataset] | {"dataset": dataset}
    return found


def table() -> pd.DataFrame:
    """Every row of Table 5: model, method; printed (its RAM column); estimated, and of it states (weights, gradients and
    moments) and activations, GiB; dataset, whose step it is; off, percent of the printed number. None where the method is
    not built or not estimated."""
    rows, every = [], estimated()
    for printed in paper_table("survey", "table5").to_dict("records"):
        found, ram = every.get(f"{printed['model']} {printed['method']}"), printed["memory_gb"]
        sizes = {}
        if found is not None:
            peak, states = found["peak"] / GIB, sum(found[part] for part in ("weights", "gradients", "optimizer")) / GIB
            sizes = {"estimated": peak, "states": states, "activations": found["activations"] / GIB}
            sizes |= {"dataset": found["dataset"], "off": 100 * (peak / ram - 1)}
        rows.append({"model": printed["model"], "method": printed["method"], "printed": ram} | sizes)
    columns = ["model", "method", "printed", "estimated", "states", "activations", "dataset", "off"]
    return pd.DataFrame(rows, columns=columns).astype(object).where(lambda frame: frame.notna(), None)


def kept() -> pd.DataFrame:
    """`table`, for the command line.

    Raises:
        UsageError: no row has been estimated.
    """
    rows = table()
    if rows["estimated"].isna().all():
        raise UsageError(
            "no row of survey/table5 has an estimate of its configuration here: expected that "
            "python benchmarks/survey_memory.py has made them"
        )
    return rows


UNITS = (
    "GiB: the larger of a step on BoolQ and one on CNN/Dailymail at Table 3's microbatches, all in bf16; printed: the RAM "
    "column, off: percent of it. benchmarks/survey_memory.py estimates them anew, in minutes."
)
ESTIMATED = {"table5": (kept, UNITS)}


def agreement(rows: pd.DataFrame) -> pd.DataFrame:
    """How well they agree, by model: methods, how many; median and largest distance in percent of the printed number, and
    which method is furthest off; median_gb, the median if the printed numbers were in 10^9 bytes; order, Spearman's
    correlation."""
    found = []
    for model, mine in rows.dropna(subset=["estimated"]).groupby("model", sort=False):
        off, each = mine["off"].astype(float).abs(), mine[["estimated", "printed"]].astype(float)
        found.append(
            {
                "model": model,
                "methods": len(mine),
                "median": statistics.median(off),
                "median_gb": statistics.median((100 * (each["estimated"] * GIB / 1e9 / each["printed"] - 1)).abs()),
                "largest": off.max(),
                "furthest": mine["method"][off.idxmax()],
                "order": each.corr("spearman").iloc[0, 1],
            }
        )
    return pd.DataFrame(found)


def impossible(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose printed RAM is less than weights, gradients and moments take together, if these were in 16 or in 32 bits.
    Columns: model; methods, how many; below16, below32, how many of them; and of full tuning, printed, states16 and
    states32, GiB."""
    found = []
    for model, mine in rows.dropna(subset=["states"]).groupby("model", sort=False):
        full = mine.set_index("method").loc["Full tuning"]
        found.append(
            {
                "model": model,
                "methods": len(mine),
                "below16": int((mine["printed"] < mine["states"]).sum()),
                "below32": int((mine["printed"] < 2 * mine["states"]).sum()),
                "printed": full["printed"],
                "states16": full["states"],
                "states32": 2 * full["states"],
            }
        )
    return pd.DataFrame(found)


def disputed(rows: pd.DataFrame) -> pd.DataFrame:
    """What the RAM column says of counts that are not those of their configuration. Columns: model, method; measured, what
    is printed above tuning the norms alone, GiB; as_printed and as_counted, GiB that so many trained numbers need; says:
    "ours" or "the printed one", which is nearer, or "nothing" where the two are closer together than the estimates of
    that model are to its numbers, by the median."""
    scatter = agreement(rows).set_index("model")["median"] / 100
    found = []
    for count in table5().query("agrees == False").to_dict("records"):
        mine = rows[rows["model"] == count["model"]].set_index("method")["printed"]
        measured, size = mine[count["method"]] - mine[BASE], STATES * BYTES / GIB
        printed, ours = size * float(count["trained_printed"]) * MILLION, size * count["trained"]
        nearer = "ours" if abs(ours - measured) < abs(printed - measured) else "the printed one"
        told = abs(ours - printed) > scatter.get(count["model"], 0.0) * mine[count["method"]]
        found.append(
            {
                "model": count["model"],
                "method": count["method"],
                "measured": measured,
                "as_printed": printed,
                "as_counted": ours,
                "says": nearer if told else "nothing",
            }
        )
    return pd.DataFrame(found, columns=["model", "method", "measured", "as_printed", "as_counted", "says"])


def besides(rows: pd.DataFrame) -> pd.DataFrame:
    """What the survey's programs kept beyond an estimate, where that is known, in GiB: PyTorch's AdamW, of full tuning, a
    number in 16 bits for each that is trained; Hugging Face peft, of KronA, the products on query and value. Columns:
    model, method; printed, estimated, more, together."""
    found = []
    for row in rows.dropna(subset=["estimated"]).itertuples():
        sizes = shape(BACKBONES[row.model])
        more = {"Full tuning": sizes.total, "KronA": 2 * sizes.attentions * sizes.width * sizes.inner}.get(row.method)
        if more:
            size = BYTES * more / GIB
            one = {"model": row.model, "method": row.method, "printed": row.printed, "estimated": row.estimated}
            found.append(one | {"more": size, "together": row.estimated + size})
    return pd.DataFrame(found, columns=["model", "method", "printed", "estimated", "more", "together"])
