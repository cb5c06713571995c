"""What AdaptBert's claims are checked against, and the relations that they alone need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from peftlib.papers import paper_table
from peftlib.report import shares
from peftlib.report.conditions import Case, Found
from peftlib.report.evidence import Evidence, Rows, Unknown
from peftlib.report.tables import by_label, epoch_seconds, scores
from peftlib.report.verdicts import Claims

SIMILAR = 0.02  # averages closer than this are "similar": about two standard errors over three tasks of 1,000 examples
TABLE2, TABLE3 = "adaptbert/table2", "adaptbert/table3"
TRIPLE = ("sst", "quora", "sts")


# --- what a claim is checked against ----------------------------------------------------------------------------------
def paper_rows(table: str) -> pd.DataFrame:
    """A table of AdaptBert by the labels that its experiment gives the runs."""
    frame = paper_table("adaptbert", table)
    if table == "table2":
        frame["method"] = frame["method"] + ", " + frame["type"].str.lower()
    return frame.set_index("method")


def from_paper(recomputed: bool = False) -> Evidence:
    """The paper's own printed numbers. recomputed: averages are the means of the three scores beside them, which some
    of the printed ones are not (see the errata)."""
    tables = {name: paper_rows(name.split("/")[1]) for name in (TABLE2, TABLE3)}
    if recomputed:
        tables = {name: frame.assign(average=frame[list(TRIPLE)].mean(axis=1)) for name, frame in tables.items()}
    return Evidence(
        {name: Rows("the paper's table", frame.to_dict("index"), margin=SIMILAR) for name, frame in tables.items()}
    )


def from_records(sources: Mapping[str, Sequence[dict]]) -> Evidence:
    """Our records, by experiment (`peftlib.study.results`); means over seeds."""
    tables = {}
    for name, source in sources.items():
        paper = list(paper_rows(name.split("/")[1]).index) if name in (TABLE2, TABLE3) else []
        values = {label: _measured(records) for label, records in by_label(source).items() if records}
        tables[name] = Rows(name, values, [*paper, *by_label(source)], SIMILAR)
    return Evidence(tables)


def _measured(records: Sequence[dict]) -> dict[str, float | None]:
    """The numbers of one row, from its records of all seeds: scores, updated and stored (percent), seconds (an epoch), lr,
    dropout, weight_decay."""
    first = [r for r in records if r["run"]["seed"] == records[0]["run"]["seed"]]
    row = {name: scores(records, name) for name in ("sst", "quora", "sts", "cfimdb", "average")}
    row |= {name: float(spread) if spread else None for name, spread in row.items()}
    row |= {name: records[0]["run"]["recipe"][name] for name in ("lr", "dropout", "weight_decay")}
    return row | {
        "seconds": float(epoch_seconds(records)),
        "updated": shares.updated(records[0]),
        "stored": shares.stored(first),
    }


# --- relations of its own ---------------------------------------------------------------------------------------------
def steadiest(case: Case) -> Found:
    """Is the first of three groups the one whose scores follow a rising line over the logarithm of parameters best?"""
    rows, (own, *others), fits = case.evidence.rows(TABLE3), case.condition.rows, {}
    for name in (own, *others):
        labels = case.labels(TABLE3, name, "average")
        x = np.log10(list(rows.column(labels, "updated").values()))
        y = np.array(list(rows.column(labels, "average").values()))
        slope = np.polyfit(x, y, 1)[0]
        r = np.corrcoef(x, y)[0, 1] if y.std() > 0 else 0.0
        fits[name] = (slope, r * r)
    said = "; ".join(f"{name} {slope:+.3f}, r² {r2:.2f}" for name, (slope, r2) in fits.items())
    return max(fits, key=lambda name: fits[name][1]) == own and fits[own][0] > 0, (
        f"gain with ten times the parameters: {said}"
    )


def least_gain(case: Case) -> Found:
    """Is the first of three tasks the one that gains least from one row to the other?"""
    ask, rows = case.condition, case.evidence.rows(TABLE2)
    gain = {task: rows.of(ask.rows, task) - rows.of(ask.than, task) for task in ask.columns}
    said = ", ".join(f"{task} {value:+.3f}" for task, value in gain.items())
    return min(gain, key=gain.get) == ask.columns[0], f"{ask.rows} less {ask.than}: {said}"


def _by_rate(case: Case) -> dict[float, float]:
    """SST by learning rate, relative to the preset's own."""
    (table,) = case.tables
    rows = case.evidence.rows(table)
    own = rows.of("lr x 1", "lr")
    return {round(rows.of(label, "lr") / own, 6): rows.of(label, "sst") for label in rows.labels}


def own_rate_is_about_best(case: Case) -> Found:
    by_rate, said = _by_rate(case), case.names.statements
    best, wanted = max(by_rate, key=by_rate.get), said["6.2.lr_better"][0] / said["6.2.lr"][0]
    if wanted not in by_rate:
        raise Unknown(f"'lr x {wanted:g}' of {case.tables[0]}")
    more = by_rate[wanted] - by_rate[1.0]
    return best in (1.0, wanted) and more <= SIMILAR, (
        f"best at {best:g} times the recipe's rate; {wanted:g} times it gives {more:+.3f}"
    )


def far_rates_fail(case: Case) -> Found:
    by_rate = _by_rate(case)
    best, ends = max(by_rate.values()), {rate: by_rate[rate] for rate in (min(by_rate), max(by_rate))}
    said = ", ".join(f"{value:.3f} at {rate:g} times" for rate, value in ends.items())
    return all(best - value > SIMILAR for value in ends.values()), f"best {best:.3f}, {said}"


def hypernet_saves_with_many_tasks(case: Case) -> Found:
    from peftlib.papers.adaptbert.growth import crossings

    table, most = crossings(), case.names.statements["7.future_tasks_low"][0]
    said = ", ".join(f"a={row.bottleneck}: from {row.tasks} tasks on" for row in table.itertuples())
    return bool((table["tasks"] <= most).all()), f"stores less than one adapter a task on BERT-base, {said} (counted)"


CLAIMS = Claims(
    "adaptbert",
    from_paper,
    from_records,
    again=("With averages recomputed", lambda: from_paper(recomputed=True)),
    relations={
        "steadiest": steadiest,
        "least gain": least_gain,
        "own rate is about best": own_rate_is_about_best,
        "far rates fail": far_rates_fail,
        "hypernet saves with many tasks": hypernet_saves_with_many_tasks,
    },
)


def sampling_error(source: Sequence[dict]) -> float | None:
    """The largest standard error that a record's accuracy has because the validation split is finite; None if its size
    is not in the record (all examples)."""
    sizes = [r["run"]["limits"][1] for r in source]
    return 0.5 / min(sizes) ** 0.5 if sizes and None not in sizes else None
