"""Which denominators do a paper's printed percentages allow? Interval analysis of AdaptBert's Table 3.

A cell that prints p for n parameters, of which there may be h more in each of c copies, says of the denominator D

    p - e  <=  100 (n + c h) / D  <=  p + e          e: half of the last printed digit

or p <= ... <= p + 2e if the digits were cut off instead of rounded. Both are linear in (D, h), so the cells of a group
allow a convex polygon, whose extent four linear programs give. An empty polygon means that the group's cells cannot all
come from our counts, whatever was divided by.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import linprog

from peftlib.accounting import BERT
from peftlib.accounting.counted import count
from peftlib.errors import UsageError
from peftlib.papers.adaptbert.counts import table3

RULES = ("rounded", "cut off")
MILLION = 1e6
# How often the constant h is in the ("updated", "stored") cell of adapters and combinations: in every task's copy, like
# a head of the task's own; or once in each, like the heads of all tasks together.
CONSTANTS = {"per copy": (1, 3), "once": (1, 1)}
# Cells examined together. LoRA's are tried without a constant; a hypernetwork's h belongs to the whole, of which
# "updated per task" is a third.
GROUPS = {
    "LoRA": (["LoRA"], ["once"]),
    "adapters and combinations": (["Adapter", "LoRA+Adapter"], ["per copy", "once"]),
    "LoRA, adapters and combinations": (["LoRA", "Adapter", "LoRA+Adapter"], ["once"]),
    "hypernetworks": (["Hypernet"], ["once"]),
}


def bounds(printed: str, rule: str = "rounded") -> tuple[float, float]:
    """Lowest and highest value that a printed number stands for; ends included.

    Raises:
        UsageError: a rule that is neither "rounded" nor "cut off".
    """
    if rule not in RULES:
        raise UsageError(f"rule {rule!r} is unknown: expected one of {RULES}")
    number = printed.strip("%+")
    unit = 10.0 ** -len(number.partition(".")[2])
    value = float(number)
    return (value - unit / 2, value + unit / 2) if rule == "rounded" else (value, value + unit)


def group_of(method: str) -> str:
    """ "LoRA", "Adapter", "LoRA+Adapter", "Hypernet" or "Finetune", from a printed row name."""
    return method.split("[")[0].strip()


def cells(constant: str = "once") -> pd.DataFrame:
    """Every percentage of Table 3's efficient rows as one row, and what it alone says of the denominator.

    Args:
        constant: where h may be in adapters' and combinations' counts: a key of `CONSTANTS`.

    Columns: method, group, column ("updated" or "stored"), count, copies (c above), printed, low and high (millions:
    the denominators for which our count, without h, rounds to it), bert (is BERT-base among them?).
    """
    if constant not in CONSTANTS:
        raise UsageError(f"constant {constant!r} is unknown: expected one of {sorted(CONSTANTS)}")
    total, rows = count("HeadOnly()", BERT).total, []
    copies = {"LoRA": (0, 0), "Hypernet": (1 / 3, 1)} | dict.fromkeys(("Adapter", "LoRA+Adapter"), CONSTANTS[constant])
    for row in table3().to_dict("records"):
        group = group_of(row["method"])
        for i, column in enumerate(("updated", "stored") if group in copies else ()):
            low, high = bounds(row[f"{column}_printed"])
            first, last = 100 * row[column] / high, 100 * row[column] / low
            rows.append(
                {
                    "method": row["method"],
                    "group": group,
                    "column": column,
                    "count": row[column],
                    "copies": copies[group][i],
                    "printed": row[f"{column}_printed"],
                    "low": first / MILLION,
                    "high": last / MILLION,
                    "bert": first <= total <= last,
                }
            )
    return pd.DataFrame(rows)


def polygon(frame: pd.DataFrame, rule: str = "rounded") -> dict[str, float] | None:
    """Extent of the denominators D and constants h (both in parameters, h >= 0) that all the cells allow.

    Args:
        frame: rows of `cells`.

    Returns:
        D_low, D_high, h_low, h_high; None if no pair satisfies every cell.
    """
    low, high = np.array([bounds(p, rule) for p in frame["printed"]]).T
    n, c = frame["count"].to_numpy(float), frame["copies"].to_numpy(float)
    # low D - 100 c h <= 100 n <= high D - 100 c h, in millions to keep the numbers near one
    matrix = np.concatenate([np.stack([low, -100 * c], 1), np.stack([-high, 100 * c], 1)])
    limits = 100 * np.concatenate([n, -n]) / MILLION
    extent = {}
    for i, name in enumerate(("D", "h")):
        for sign, end in ((1, "low"), (-1, "high")):
            found = linprog(sign * np.eye(2)[i], matrix, limits, bounds=[(0, None), (0, None)])
            if found.status == 2:
                return None
            extent[f"{name}_{end}"] = sign * found.fun * MILLION if found.status == 0 else np.inf
    return extent


def culprits(frame: pd.DataFrame, rule: str = "rounded") -> list[str]:
    """The cells of which leaving out just one makes the others possible."""
    out = []
    for position in range(len(frame)):
        row = frame.iloc[position]
        if polygon(frame.drop(index=frame.index[position]), rule) is not None:
            out.append(f"{row['method']} {row['column']} {row['printed']}")
    return out


def regions() -> pd.DataFrame:
    """For each group of cells, place of the constant and rule: the denominators D and constants h that make all right.

    Columns: group, constant, rule, cells, at_bert (how many agree at D = BERT-base, h = 0), possible, D_low, D_high
    (millions), beyond_bert_low, beyond_bert_high (D less BERT-base, parameters), h_low, h_high (parameters), culprits
    (where nothing is possible: the cells of which one alone would have to be misprinted).
    """
    total = count("HeadOnly()", BERT).total
    rows = []
    for name, (members, constants) in GROUPS.items():
        for constant in constants:
            every = cells(constant)
            frame = every[every["group"].isin(members)]
            for rule in RULES:
                ends = [bounds(p, rule) for p in frame["printed"]]
                agree = sum(low <= 100 * n / total <= high for n, (low, high) in zip(frame["count"], ends, strict=True))
                row = {"group": name, "constant": constant, "rule": rule, "cells": len(frame), "at_bert": agree}
                rows.append(row | _extent(frame, rule, total))
    return pd.DataFrame(rows)


def _extent(frame: pd.DataFrame, rule: str, total: int) -> dict:
    extent = polygon(frame, rule)
    if extent is None:
        return {"possible": False, "culprits": "; ".join(culprits(frame, rule))}
    free = bool((frame["copies"] == 0).all())  # h is in no cell
    return {
        "possible": True,
        "D_low": extent["D_low"] / MILLION,
        "D_high": extent["D_high"] / MILLION,
        "beyond_bert_low": extent["D_low"] - total,
        "beyond_bert_high": extent["D_high"] - total,
        "h_low": None if free else extent["h_low"],
        "h_high": None if free else extent["h_high"],
        "culprits": "",
    }


def heads_fit() -> dict[str, float | bool]:
    """Is the constant in adapters' and combinations' cells the heads of all three tasks, in both columns?

    Returns:
        h: those heads' parameters; possible; and D_low, D_high (millions) that the cells then allow,
        beyond_bert_low, beyond_bert_high (the same less BERT-base, parameters).
    """
    heads = count("HeadOnly()", BERT, 3)
    frame = cells("once")
    frame = frame[frame["group"].isin(GROUPS["adapters and combinations"][0])]
    frame = frame.assign(count=frame["count"] + heads.heads, copies=0.0)
    found = _extent(frame, "rounded", heads.total)
    wanted = ("possible", "D_low", "D_high", "beyond_bert_low", "beyond_bert_high")
    return {"h": heads.heads, **{k: found[k] for k in wanted if k in found}}
