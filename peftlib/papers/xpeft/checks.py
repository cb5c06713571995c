"""What X-PEFT's claims are checked against, and the relations that they alone need: tasks are counted, one by one."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from peftlib.papers import about, number, paper_table
from peftlib.papers.xpeft.rows import FIRST, HEAD, SINGLE, label, rows
from peftlib.report import declared
from peftlib.report.averages import by_task
from peftlib.report.conditions import Case, Found
from peftlib.report.efficiency import benchmark
from peftlib.report.evidence import AVERAGE, Evidence, Rows, Unknown, Unlearned, measured
from peftlib.report.relations import decide, seen
from peftlib.report.tables import by_label
from peftlib.report.uncertainty import DRAWS, NOTHING, Number, odds, stream
from peftlib.report.verdicts import Claims

GLUE, SUPERGLUE = "xpeft/table2", "xpeft/table3"
PRINTED = {GLUE: ("table5", "table6"), SUPERGLUE: ("table7",)}  # where each experiment's single metrics are printed
AUTHORS, CURVES, SEEDS = "xpeft/authors", "xpeft/figure5", "xpeft/figure7"
COUNTS, TIME = "counts/table1", "benchmarks/xpeft"
TINY = ("wnli", "cb")  # validated on 71 and 56 rows; on WNLI every row of the paper's is below the commonest label
APART = "wnli"  # section 4.1 leaves it out
HALF = 0.4  # of the tasks; from there on it is "about half" of them
MARGIN = about("xpeft").margin


# --- what a claim is checked against ----------------------------------------------------------------------------------
def from_paper(without: Sequence[str] = ()) -> Evidence:
    """The paper's own printed numbers. It prints no averages: they are over all numbers of its single metrics, MNLI's
    mismatched half apart, which none of our sources has. without: tasks in no average and no count."""
    tables = {name: _printed(name, without) for name in PRINTED}
    hours = paper_table("xpeft", "table8").set_index("method").sum(axis=1)
    tables[TIME] = Rows(
        "the paper's Table 8", {row: {"time": float(whole)} for row, whole in hours.items()}, setting="hours of all tasks"
    )
    return Evidence(tables | {COUNTS: _printed_counts()})


def printed_scores(name: str) -> dict[str, dict[str, float]]:
    """By row of an experiment the scores that the paper prints, by their names in records."""
    found: dict[str, dict[str, float]] = {row: {} for row in rows()}
    for table in PRINTED[name]:
        printed = declared.read("xpeft", table)
        for row in found:
            found[row] |= {key: float(printed.rows.loc[row, key]) for key in printed.keys}
    return found


def _printed(name: str, without: Sequence[str]) -> Rows:
    values, tasks = {}, {}
    for row, scores in printed_scores(name).items():
        kept = {key: score for key, score in scores.items() if key.partition(".")[0] not in without}
        tasks = by_task(kept, ".")
        values[row] = scores | by_task(scores, ".") | {AVERAGE: sum(kept.values()) / len(kept)}
    where = " and ".join(table.removeprefix("table") for table in PRINTED[name])
    return Rows(f"the paper's Table {where}", values, margin=MARGIN, tasks=list(tasks))


def _printed_counts() -> Rows:
    """Table 1 by the rows of the tables of scores; the 150 adapters of Figure 1 are not in it."""
    values: dict[str, dict[str, float]] = {}
    for row in paper_table("xpeft", "table1").to_dict("records"):
        name = SINGLE if row["mode"] == SINGLE else label(row["adapters"], row["mode"].partition("(")[2][:-1])
        column = "trained" if row["quantity"] == "parameters" else "masks"
        values.setdefault(name, {})[column] = number(row["printed"])[0]  # type: ignore[index]  # all of them are numbers
    return Rows("the paper's Table 1", values, [*values, label(FIRST, "hard")])


def from_records(sources: Mapping[str, Sequence[dict]]) -> Evidence:
    """Our records, by experiment (`peftlib.study.results`): means over seeds, on the test split; counts on the paper's own
    BERT-base; the time of the benchmark, if it has been run."""
    tables: dict[str, Rows | Callable[[], Rows]] = {
        name: functools.partial(
            measured, name, source, margin=MARGIN, labels=list(rows()) if name in (GLUE, SUPERGLUE) else ()
        )
        for name, source in sources.items()
    }
    if CURVES in sources:
        tables[CURVES] = functools.partial(_losses, sources[CURVES], sources.get(SEEDS, ()))
    result = benchmark("xpeft")
    if result is not None:
        tables[TIME] = _steps(result)
    return Evidence(tables | {COUNTS: _counted})


def _losses(source: Sequence[dict], seeds: Sequence[dict]) -> Rows:
    """Training losses of the last epoch, as uncertain as those of Figure 7 are from seed to seed; none without these."""
    groups = [[_loss(record) for record in found] for found in by_label(seeds).values()]
    spread = [statistics.variance(losses) for losses in groups if len(losses) > 1]
    values: dict[str, dict[str, Number]] = {}
    for name, found in by_label(source).items():
        values[name] = {}
        if found and spread:
            noise = stream("loss", f"{CURVES} {name}").standard_normal(DRAWS)
            off = (statistics.fmean(spread) / len(found)) ** 0.5 * noise
            values[name]["loss"] = statistics.fmean(map(_loss, found)) + np.concatenate([[0.0], off])
    return Rows(CURVES, values, margin=MARGIN)


def _loss(record: Mapping) -> float:
    return record["history"][-1]["train_loss"]


def _steps(result: Mapping) -> Rows:
    where = f"{result['backbone']}, {result['batch']} sequences of {result['length']} tokens"
    values = {row: {"time": ratio} for row, ratio in step_ratios(result).items()}
    return Rows("our training step", values, rows(), setting=f"a training step to that of {SINGLE}, {where}")


def step_ratios(result: Mapping) -> dict[str, float]:
    """By row of the tables, a training step to that of one adapter, of what ``benchmarks/xpeft.py`` has measured."""
    found = {SINGLE: 1.0}
    for name, ratio in result["step_over_adapter"].items():
        kind, _, adapters = name.partition(" ")
        found[label(int(adapters), kind) if adapters.isdigit() else HEAD] = ratio
    return found


@functools.cache
def _counted() -> Rows:
    from peftlib.papers.xpeft import counts  # counts on shapes: brings torch

    values = {
        label(n, mask): {
            "trained": counts.trained(n),
            "masks": counts.mask_bytes(n, mask),
            "stored": counts.stored_bytes(n, mask),
        }
        for n in (100, FIRST, 200, 400)
        for mask in ("soft", "hard")
    }
    whole = counts.FLOAT * counts.adapter()
    values[SINGLE] = {"trained": counts.adapter(), "masks": whole, "stored": whole}
    return Rows(COUNTS, values, setting="counted on BERT-base")


# --- relations of its own: task by task -------------------------------------------------------------------------------
def _by_task(case: Case, pairs: Callable[[str], list[tuple[str, str]]]) -> dict[str, list[tuple[str, str, Number] | None]]:
    """By task of an informative table, for each pair of rows: both, and by how much the first is above the second; None
    where one of them did not learn the task."""
    (table,) = case.tables
    there, found = case.evidence.rows(table), {}
    if not there.values:
        raise Unknown(table)
    for task in there.tasks:
        try:
            found[task] = [_gap(there, task, *pair) for pair in pairs(task)]
        except Unlearned:  # no row that may be chosen did
            found[task] = [None]
    if not any(gap for gaps in found.values() for gap in gaps):
        raise Unlearned(f"no task of {there.name} was learned by both rows that are compared")
    return found


def _gap(there: Rows, task: str, one: str, other: str) -> tuple[str, str, Number] | None:
    try:
        return one, other, there.of(one, task) - there.of(other, task)
    except Unlearned:
        return None


def _best(case: Case, task: str) -> list[tuple[str, str]]:
    """The row that is asked about, chosen for the task, and the one it is compared with."""
    (own,) = case.labels(case.tables[0], case.condition.rows, task)
    return [(own, case.condition.than)]


def _told(found: Mapping[str, list]) -> str:
    said = []
    for task, gaps in found.items():
        said += [f"{task} {gap[2][0]:+.3f} ({gap[0]})" if gap else f"{task} not learned" for gap in gaps]
    return ", ".join(said)


def better_on_each_task(case: Case) -> Found:
    """Is the best of some rows, chosen for each task, above another row on every task but WNLI?"""
    found = _by_task(case, lambda task: _best(case, task))
    found = {task: gaps for task, gaps in found.items() if task != APART}
    gaps = [gap[2] if gap else None for (gap,) in found.values()]
    return Found(
        tuple(NOTHING if gap is None else decide("better", gap, 0) for gap in gaps),
        f"above {case.condition.than}, by task: {_told(found)}",
        seen=seen(case, AVERAGE, [gap for gap in gaps if gap is not None]),
    )


def better_on_about_half_of_the_tasks(case: Case) -> Found:
    """Is the best of some rows, chosen for each task, above another row on about half of the tasks or more?"""
    found = _by_task(case, lambda task: _best(case, task))
    gaps = [gap[2] for (gap,) in found.values() if gap]
    won = np.stack([gap > 0 for gap in gaps]).sum(axis=0)
    return Found(
        (odds(won >= HALF * len(gaps)),), f"above {case.condition.than} on {won[0]} of {len(gaps)} tasks: {_told(found)}"
    )


def near_where_below(case: Case) -> Found:
    """Where the best of some rows, chosen for each task, is below another row: is it on par with that, and nearer to it
    than to a head alone?"""
    there, margin = case.evidence.rows(case.tables[0]), case.evidence.rows(case.tables[0]).margin
    found = {
        task: [gap]
        for task, (gap,) in _by_task(case, lambda task: _best(case, task)).items()
        if gap and gap[2][0] < 0 and task != APART
    }
    decided = []
    for task, ((own, _, gap),) in found.items():
        decided.append(decide("no worse", gap, margin))
        try:
            decided.append(decide("better", there.of(own, task) - there.of(HEAD, task) + gap, 0))
        except Unlearned:  # a head alone is at the commonest label: further away than anything
            continue
    return Found(
        tuple(decided),
        f"below {case.condition.than}: {_told(found) or 'on no task'} (margin {margin:g})",
        seen=seen(case, AVERAGE, [gap[2] for (gap,) in found.values()]),
    )


def mostly_above_soft_masks(case: Case) -> Found:
    """Are rows with hard masks above those with soft ones of as many adapters on most tasks?"""
    (table,) = case.tables
    own = case.labels(table, case.condition.rows, AVERAGE)
    found = _by_task(case, lambda task: [(one, one.replace("hard", "soft")) for one in own])
    gaps = [gap[2] for pairs in found.values() for gap in pairs if gap]
    won = np.stack([gap > 0 for gap in gaps]).sum(axis=0)
    by_row = {one: [gap[2][0] for gaps in found.values() for gap in gaps if gap and gap[0] == one] for one in own}
    told = ", ".join(f"{one} on {sum(gap > 0 for gap in gaps)} of {len(gaps)} tasks" for one, gaps in by_row.items())
    return Found((odds(won > len(gaps) / 2),), f"hard masks above soft ones in {won[0]} of {len(gaps)} cases: {told}")


CLAIMS = Claims(
    "xpeft",
    from_paper,
    from_records,
    again=("Without WNLI and CB", lambda: from_paper(without=TINY)),
    relations=(better_on_each_task, better_on_about_half_of_the_tasks, near_where_below, mostly_above_soft_masks),
    pages={COUNTS: "table1", TIME: "table8", AUTHORS: "figure4"},
)
