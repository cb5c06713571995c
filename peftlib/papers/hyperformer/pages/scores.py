"""HyperFormer's tables of scores: 1, 3, 4 and 7, the paper's numbers and ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pandas as pd

from peftlib.data.tasks import get_task
from peftlib.papers import paper_table
from peftlib.papers.hyperformer.rows import SMALL_TASKS, at_reduction
from peftlib.report import declared, suites
from peftlib.report.tables import Spread, by_label, frame, less


def of_size(name: str, size: str) -> declared.Printed:
    """The rows of Table 1 or 7 on one size of T5."""
    found = declared.read("hyperformer", name)
    own = found.only(label for label in found.rows.index if f"-{size}" in label)
    return dataclasses.replace(own, full=own.full and own.full.replace("-Base", f"-{size}"))


def own_scores(source: Sequence[dict]) -> pd.DataFrame:
    """As `peftlib.report.suites.by_task`, without what is trained for a task, which `averages` has as this paper counts."""
    return suites.by_task(source).drop(columns="trained, %")


def averages(size: str, source: Sequence[dict]) -> pd.DataFrame:
    """Table 1 on one size as `peftlib.report.declared.averages` has it; what is trained is divided by the tasks that it is
    trained on, as the paper counts it."""
    found = declared.averages(of_size("table1", size), source)
    groups = by_label(source)
    found["trained, ours"] = [trained(groups.get(label, [])) for label in found["method"]]
    return found


def trained(records: Sequence[dict]) -> float | None:
    """Parameters trained for a task in percent of the backbone, heads apart; None without records."""
    if not records:
        return None
    counts, tasks = records[0]["counts"], records[0]["run"]["tasks"]
    return 100 * counts["trainable"] / len(tasks) / counts["total"]


def lead(both: pd.DataFrame, row: str, other: str) -> dict[str, float | None]:
    """By how much a row of `averages` is above another, in the ``paper``, on the ``same`` tasks and in ``ours``."""
    by_row = both.set_index("method")
    gaps = {"paper": "average, paper", "same": "same tasks, paper", "ours": "average, ours"}
    return {key: less(by_row.loc[row, column], by_row.loc[other, column]) for key, column in gaps.items()}


# --- Table 3 ----------------------------------------------------------------------------------------------------------
def larger(size: str, source: Sequence[dict]) -> pd.DataFrame:
    """Table 3 on one size: ``method``; ``average, paper``; ``validation, ours`` and ``average, ours`` (test); ``trained,
    paper`` and ``trained, ours`` for a task; ``n`` seeds."""
    printed = paper_table("hyperformer", "table3").set_index("method")
    lines = {at_reduction(f"Adapters†-{size}", 2): f"Adapters†-{size}", f"HyperFormer-{size}": f"HyperFormer-{size}"}
    groups, out = by_label(source), suites.uninformative(source)
    validation, test = (suites.numbers(source, split, out) for split in ("validation", "test"))
    rows = []
    for label in (at_reduction(f"Adapters†-{size}", 2), at_reduction(f"Adapters†-{size}", 4), f"HyperFormer-{size}"):
        line = printed.loc[lines[label]] if label in lines else None
        rows.append(
            {
                "method": label,
                "average, paper": "–" if line is None else float(line["average"]),
                "validation, ours": validation.get(label, {}).get("average"),
                "average, ours": test.get(label, {}).get("average"),
                "trained, paper": "–" if line is None else line["trained_printed"],
                "trained, ours": trained(groups.get(label, [])),
                "n": suites.seeds(groups.get(label, [])),
            }
        )
    return frame(rows)


def chosen(found: pd.DataFrame) -> dict[str, object]:
    """Of a table of `larger`: which Adapters† is better on validation (``row``), and how far HyperFormer is above it in the
    ``paper`` and in ``ours``; None without the runs."""
    adapters, own = found.iloc[:-1], found.iloc[-1]
    paper = less(own["average, paper"], adapters["average, paper"].iloc[0])
    if adapters["validation, ours"].isna().any():
        return {"row": None, "paper": paper, "ours": None}
    best = adapters.loc[adapters["validation, ours"].map(float).idxmax()]
    return {"row": best["method"], "paper": paper, "ours": less(own["average, ours"], best["average, ours"])}


# --- Table 4 ----------------------------------------------------------------------------------------------------------
def ablations(source: Sequence[dict]) -> pd.DataFrame:
    """Table 4: ``variant``; the average and what it is above the whole method's, of the paper and of ours; ``n`` seeds."""
    printed = paper_table("hyperformer", "table4").set_index("variant")["average"].astype(float)
    groups, found = by_label(source), suites.numbers(source)
    ours = {label: found.get(label, {}).get("average") for label in printed.index}
    whole = printed.index[0]
    return frame(
        {
            "variant": label,
            "average, paper": float(average),
            "average, ours": ours[label],
            "to whole, paper": float(average - printed[whole]),
            "to whole, ours": less(ours[label], ours[whole]),
            "n": suites.seeds(groups.get(label, [])),
        }
        for label, average in printed.items()
    )


def below(found: pd.DataFrame) -> dict[str, int | None]:
    """Of a table of `ablations`: how many variants are below the whole; see `peftlib.report.suites.tally`."""
    return suites.tally(found.iloc[1:], "to whole", lambda gap: gap < 0)


# --- Table 7 ----------------------------------------------------------------------------------------------------------
def validation(source: Sequence[dict]) -> pd.DataFrame:
    """Validation scores: ``method``, one column for each number of each task, ``average``."""
    titles = suites.headings(source)
    return frame(
        {"method": label, **{titles[key]: row[key] for key in titles}, "average": row["average"]}
        for label, row in suites.numbers(source, "validation").items()
    )


def best_factors(size: str, source: Sequence[dict]) -> dict[str, int | None]:
    """For how many of the numbers of ``small`` tasks reduction 32 is above 8, and of ``large`` ones 8 above 32, each of so
    many (``small_n``, ``large_n``): in the paper (``_paper``) and in ours (``_ours``; None without the runs)."""
    name = f"HyperFormer++-{size}"
    ends = [at_reduction(name, r) for r in (8, 32)]
    printed, found = of_size("table7", size), suites.numbers(source, "validation")
    out: dict[str, int | None] = {}
    for key, small in (("small", True), ("large", False)):
        keys = [one for one in printed.keys if (one.partition(".")[0] in SMALL_TASKS) == small]
        gaps = [printed.rows.loc[ends[1], one] - printed.rows.loc[ends[0], one] for one in keys]
        out |= {f"{key}_n": len(gaps), f"{key}_paper": sum(gap > 0 if small else gap < 0 for gap in gaps)}
        ours = list(_gaps(found, ends, small))
        out[f"{key}_ours_n"] = len(ours) or None
        out[f"{key}_ours"] = sum(gap > 0 if small else gap < 0 for gap in ours) if ours else None
    return out


def _gaps(found: dict[str, dict[str, Spread | None]], ends: Sequence[str], small: bool) -> Iterator[float]:
    """What reduction 32 is above 8, by number."""
    low, high = (found.get(label, {}) for label in ends)
    for key, value in low.items():
        if key != "average" and value is not None and high.get(key) is not None:
            if (suites.real(get_task(key.partition(".")[0]).name) in SMALL_TASKS) == small:
                yield float(high[key]) - float(value)  # type: ignore[arg-type]  # it is there
