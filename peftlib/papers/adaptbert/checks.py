"""What AdaptBert's claims are checked against, and the relations that they alone need."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from peftlib.papers import about
from peftlib.papers.adaptbert import search
from peftlib.report import declared, shares
from peftlib.report.conditions import Case, Found, listed
from peftlib.report.evidence import Evidence, Rows, Unknown, measured, validated
from peftlib.report.relations import decide, seen, tolerance
from peftlib.report.tables import epoch_seconds
from peftlib.report.uncertainty import Number, Odds, exact, interval, is_exact, odds, smallest_seen
from peftlib.report.verdicts import Claims

MARGIN = about("adaptbert").margin
TABLE2, TABLE3 = "adaptbert/table2", "adaptbert/table3"
VALIDATED = "validated"  # the column of validation scores, by which a search chooses
TRIPLE = ("sst", "quora", "sts")


# --- what a claim is checked against ----------------------------------------------------------------------------------
def from_paper(recomputed: bool = False) -> Evidence:
    """The paper's own printed numbers. recomputed: averages are the means of the three scores beside them, which some
    of the printed ones are not (see the errata)."""
    tables = {name: declared.read(*name.split("/")).rows for name in (TABLE2, TABLE3)}
    if recomputed:
        tables = {name: frame.assign(average=frame[list(TRIPLE)].mean(axis=1)) for name, frame in tables.items()}
    return Evidence(
        {name: Rows("the paper's table", frame.to_dict("index"), margin=MARGIN) for name, frame in tables.items()}
    )


def from_records(sources: Mapping[str, Sequence[dict]]) -> Evidence:
    """Our records, by experiment (`peftlib.study.results`): means over seeds, on the test split."""
    return Evidence({name: functools.partial(_measured, name, source) for name, source in sources.items()})


def _measured(name: str, source: Sequence[dict]) -> Rows:
    paper = list(declared.read(*name.split("/")).rows.index) if name in (TABLE2, TABLE3) else []
    return measured(name, source, margin=MARGIN, labels=paper, beside=_beside)


def _beside(records: Sequence[dict]) -> dict[str, float | Number | None]:
    """What is no test score, from a row's records of all seeds: updated and stored (percent), seconds (an epoch), lr,
    dropout, weight_decay; of a row on one task the validation score."""
    first = [r for r in records if r["run"]["seed"] == records[0]["run"]["seed"]]
    row: dict[str, float | Number | None] = {
        name: records[0]["run"]["recipe"][name] for name in ("lr", "dropout", "weight_decay")
    }
    seconds = epoch_seconds(records)
    tasks = {task for r in records for task in r["run"]["tasks"]}
    if len(tasks) == 1:
        scores = [validated(records[0]["run"]["label"], r, task) for r in records for task in tasks]
        row[VALIDATED] = sum(scores) / len(scores)
    return row | {
        "seconds": None if seconds is None else float(seconds),
        "updated": shares.updated(records[0]),
        "stored": shares.stored(first),
    }


# --- relations of its own ---------------------------------------------------------------------------------------------
def steadiest(case: Case) -> Found:
    """Is the first of three groups the one whose scores follow a rising line over the logarithm of parameters best?"""
    rows, (own, *others), slopes, fits = case.evidence.rows(TABLE3), listed(case.condition.rows), {}, {}
    for name in (own, *others):
        scores = rows.column(case.labels(TABLE3, name, "average"), "average")
        x = np.log10([rows.of(label, "updated")[0] for label in scores])
        x, y = x - x.mean(), np.stack(list(scores.values()))
        y = y - y.mean(axis=0)
        products, squares = x @ y, (y**2).sum(axis=0)
        slopes[name] = products / (x @ x)
        fits[name] = np.divide(products**2, (x @ x) * squares, out=np.zeros_like(squares), where=squares > 0)
    said = "; ".join(f"{name} {slopes[name][0]:+.3f}, r² {fits[name][0]:.2f}" for name in fits)
    gaps = [fits[own] - fits[name] for name in others]
    return Found(
        tuple(decide("better", number, 0) for number in (*gaps, slopes[own])),
        f"gain with ten times the parameters: {said}",
        seen=_seen_of_lines(gaps, slopes[own]),
    )


def _seen_of_lines(gaps: Sequence[Number], slope: Number) -> str:
    """The smallest differences that `steadiest` could have seen, in words; nothing where numbers are exact."""
    if any(map(is_exact, gaps)):
        return ""
    return f"{max(map(smallest_seen, gaps)):.2f} in r², {smallest_seen(slope):.3f} in the gain"


def least_gain(case: Case) -> Found:
    """Is the first of three tasks the one that gains least from one row to the other?"""
    ask, rows = case.condition, case.evidence.rows(TABLE2)
    (label,) = listed(ask.rows)
    gain = {task: rows.of(label, task) - rows.of(ask.than, task) for task in ask.columns}
    said = ", ".join(
        f"{task} {case.written(task, value[0], sign=True)}{case.ends(task, value, True)}" for task, value in gain.items()
    )
    own = gain.pop(ask.columns[0])
    gaps = [value - own for value in gain.values()]
    return Found(
        tuple(decide("better", gap, 0) for gap in gaps),
        f"{label} less {ask.than}: {said}",
        seen=seen(case, ask.columns[0], gaps),
    )


def _by_rate(case: Case, *, whatever: bool) -> dict[float, Number]:
    """SST by learning rate, relative to the preset's own. whatever: also of runs that did not learn."""
    (table,) = case.tables
    rows = case.evidence.rows(table)
    own, number = rows.of("lr x 1", "lr")[0], rows.whatever if whatever else rows.of
    labels = [label for label in rows.labels if whatever or "sst" not in rows.lost.get(label, {})]
    return {round(rows.whatever(label, "lr")[0] / own, 6): number(label, "sst") for label in labels}


def own_rate_is_about_best(case: Case) -> Found:
    """Is no other rate better than the recipe's own and the one that is said to be slightly better, and that one by no
    more than the margin?"""
    by_rate, said = _by_rate(case, whatever=False), case.names.statements
    margin = case.evidence.rows(case.tables[0]).margin
    wanted = said["6.2.lr_better"][0] / said["6.2.lr"][0]
    if not {wanted, 1.0} <= set(by_rate):
        raise Unknown(f"'lr x {wanted:g}' of {case.tables[0]}")
    best, more = np.maximum(by_rate[1.0], by_rate[wanted]), by_rate[wanted] - by_rate[1.0]
    others = {rate: best - value for rate, value in by_rate.items() if rate not in (1.0, wanted)}
    told = ", ".join(f"{value[0]:.3f} at {rate:g}" for rate, value in by_rate.items())
    return Found(
        (*(decide("better", gap, 0) for gap in others.values()), decide("no better", more, margin)),
        f"by times the recipe's rate: {told}; {wanted:g} times it gives {more[0]:+.3f}{case.ends('sst', more, True)}",
        seen=seen(case, "sst", [*others.values(), more]),
    )


def far_rates_fail(case: Case) -> Found:
    """Are the lowest and the highest rate further below the best than the margin, whether their runs learned or not?"""
    by_rate, margin = _by_rate(case, whatever=True), case.evidence.rows(case.tables[0]).margin
    best, ends = max(by_rate, key=lambda rate: by_rate[rate][0]), (min(by_rate), max(by_rate))
    said = ", ".join(f"{by_rate[rate][0]:.3f}{case.ends('sst', by_rate[rate])} at {rate:g} times" for rate in ends)
    gaps = [by_rate[best] - by_rate[rate] for rate in ends]
    return Found(
        tuple(decide("far better", gap, margin) for gap in gaps),
        f"best {by_rate[best][0]:.3f} at {best:g} times, {said}",
        seen=seen(case, "sst", gaps),
    )


def search_ends_near(case: Case) -> Found:
    """Has the best trial of a search, on validation, a hyperparameter near the printed one? Which trial is the best is a
    matter of chance, too: each draw of the validation scores has a best trial of its own. And it can be shown neither near
    nor far if no trial lies near enough. What was searched on a logarithmic scale is compared on it."""
    ask, (table,), (column,) = case.condition, case.tables, listed(case.condition.columns)
    rows, (wanted, printed) = case.evidence.rows(table), case.names.statements[str(ask.value)]
    labels = case.labels(table, ask.rows, VALIDATED)
    if not labels:
        raise Unknown(table)
    scores, tried = ([rows.of(label, name) for label in labels] for name in (VALIDATED, column))
    value = np.concatenate(tried)[np.argmax(scores, axis=0)]
    within, logarithmic = tolerance(case, table, exact(0.0)), search.SPACE[column][2]

    def off(found: np.ndarray) -> np.ndarray:
        return np.log(found / wanted) if logarithmic else found - wanted

    margin = float(np.log1p(within)) if logarithmic else within
    nearest = min(tried, key=lambda one: abs(off(one)[0]))
    reached = abs(off(nearest)[0]) <= margin
    first, second = sorted(labels, key=lambda label: -rows.of(label, VALIDATED)[0])[:2] if labels[1:] else labels * 2
    low, high = interval(value)
    said = (
        f"{column.replace('_', ' ')} of the best of {len(labels)} trials on validation ({first} "
        f"{rows.of(first, VALIDATED)[0]:.3f}, then {second} {rows.of(second, VALIDATED)[0]:.3f}): {value[0]:.3g} "
        f"[{low:.3g}, {high:.3g}] (printed {printed})"
    )
    if not reached:
        said += f"; the nearest of the trials has {nearest[0]:.3g}, so that none could have ended there"
    half = smallest_seen(off(value))
    return Found(
        (decide("near", off(value), margin) if reached else Odds(1.0, 1.0, sure=True),),
        said,
        seen=f"a factor of {np.exp(half):.3g} in {column.replace('_', ' ')}" if logarithmic else f"{half:.3g} in {column}",
    )


def hypernet_saves_with_many_tasks(case: Case) -> Found:
    from peftlib.papers.adaptbert.growth import crossings

    table, most = crossings(), case.names.statements["7.future_tasks_low"][0]
    said = ", ".join(f"a={row.bottleneck}: from {row.tasks} tasks on" for row in table.itertuples())
    found = odds(np.array([(table["tasks"] <= most).all()]))
    return Found((found,), f"stores less than one adapter a task on BERT-base, {said} (counted)")


CLAIMS = Claims(
    "adaptbert",
    from_paper,
    from_records,
    again=("With averages recomputed", lambda: from_paper(recomputed=True)),
    relations=(
        steadiest,
        least_gain,
        own_rate_is_about_best,
        far_rates_fail,
        search_ends_near,
        hypernet_saves_with_many_tasks,
    ),
    pages=dict.fromkeys(("adaptbert/learning_rates", "adaptbert/rates_near"), "table3"),
)
