"""What HyperFormer's claims are checked against, and the relations that they alone need."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from peftlib.papers import about, paper_table
from peftlib.papers.hyperformer.experiments import task_of
from peftlib.papers.hyperformer.rows import METHODS, SMALL_TASKS, TRANSFERRED, at_reduction, at_size, read, rows_of
from peftlib.report import declared, suites
from peftlib.report.averages import by_task, keys
from peftlib.report.conditions import Case, Found
from peftlib.report.evidence import AVERAGE, Evidence, Rows, Unknown, Unlearned, measured
from peftlib.report.uncertainty import Number, odds
from peftlib.report.verdicts import Claims

SIZES = {"": "Base", "_small": "Small"}  # how the experiments of each size of T5 end
TRANSFER, ABLATIONS = "hyperformer/table2", "hyperformer/table4"
COUNTS, GROWTH = "counts/table1", "counts/growth"
DOUBTED = ("rte",)  # tested on 138 rows
GROWN = ("Adapters-Base", "Adapters†-Base", "HyperFormer-Base", "HyperFormer++-Base")
MARGIN = about("hyperformer").margin


# --- what a claim is checked against ----------------------------------------------------------------------------------
def from_paper(without: Sequence[str] = ()) -> Evidence:
    """The paper's own printed numbers. without: tasks in no average of Tables 1 and 7; 3 and 4 print averages alone."""
    tables = {TRANSFER: _printed_transfer(), ABLATIONS: _printed_averages("table4", "variant")}
    for ending, size in SIZES.items():
        for name in ("table1", "table7"):
            tables[f"hyperformer/{name}{ending}"] = _printed(name, size, without)
        third = _printed_averages("table3", "method").values
        rows = {label: found for label, found in third.items() if label.endswith(f"-{size}")}
        rows = {at_reduction(label, 2) if label.startswith("Adapters") else label: found for label, found in rows.items()}
        tables[f"hyperformer/table3{ending}"] = Rows("the paper's Table 3", rows, margin=MARGIN)
    printed = paper_table("hyperformer", "table1").set_index("method")["trained_printed"]
    trained = {label: {"trained": float(text.strip("%"))} for label, text in printed.items()}
    return Evidence(tables | {COUNTS: Rows("the paper's Table 1", trained), GROWTH: Rows(GROWTH, {}, GROWN)})


def _printed(name: str, size: str, without: Sequence[str]) -> Rows:
    table = declared.read("hyperformer", name)
    values, tasks = {}, {}
    for label, line in table.rows.iterrows():
        if f"-{size}" in str(label):
            kept = {key: float(line[key]) for key in table.keys if key.partition(".")[0] not in without}
            tasks = by_task(kept, ".")
            whole = statistics.fmean(kept.values()) if without else float(line[AVERAGE])
            values[str(label)] = by_task({key: float(line[key]) for key in table.keys}, ".") | {AVERAGE: whole}
    return Rows(f"the paper's {name.replace('table', 'Table ')}", values, margin=MARGIN, tasks=list(tasks))


def _printed_averages(name: str, column: str) -> Rows:
    printed = paper_table("hyperformer", name).set_index(column)[AVERAGE]
    values = {str(label): {AVERAGE: float(average)} for label, average in printed.items()}
    return Rows(f"the paper's {name.replace('table', 'Table ')}", values, margin=MARGIN)


def _printed_transfer() -> Rows:
    values: dict[str, dict[str, float]] = {}
    tasks: dict[str, None] = {}
    for line in paper_table("hyperformer", "table2").to_dict("records"):
        task = task_of(line["dataset"])
        tasks[task] = None
        for name, column in zip(TRANSFERRED, ("t5_base", "adapters_base", "hyperformer_base"), strict=True):
            values.setdefault(at_size(name, int(line["samples"])), {})[keys(task)[0]] = float(line[column])
    return Rows("the paper's Table 2", values, margin=MARGIN, tasks=list(tasks))


def from_records(sources: Mapping[str, Sequence[dict]]) -> Evidence:
    """Our records, by experiment (`peftlib.study.results`): means over seeds, on the test split; parameters counted on the
    paper's own T5."""
    tables: dict[str, Rows | Callable[[], Rows]] = {
        name: functools.partial(measured, name, source, margin=MARGIN, unit=100, labels=_labels(name))
        for name, source in sources.items()
    }
    return Evidence(tables | {COUNTS: _counted, GROWTH: _grown})


def _labels(name: str) -> list[str]:
    """The rows that a complete Table 1 has."""
    whole = {f"hyperformer/table1{ending}": size for ending, size in SIZES.items()}
    return rows_of(whole[name]) if name in whole else []


@functools.cache
def _counted() -> Rows:
    """Of Table 1's rows what is ``trained`` for a task, and ``total``, all tasks, as a multiple of T5; ``with output``: how
    many times as much is trained for a task with an output layer of its own."""
    from peftlib.accounting.counted import T5_WORDS
    from peftlib.papers.hyperformer import counts  # counts on shapes: brings torch

    values = {}
    for row in counts.table("table1").to_dict("records"):
        sizes = counts.shape(counts.BACKBONES[read(row["method"]).size])
        output = T5_WORDS * sizes.width
        values[row["method"]] = {
            "trained": row["trained_percent"],
            "total": row["total"],
            "with output": (row["trained"] + output) / row["trained"],
        }
    return Rows(COUNTS, values, setting="counted on T5")


@functools.cache
def _grown() -> Rows:
    """Of methods on T5-Base what a ``further`` task trains, and what a ``thousand`` train together, in closed form."""
    from peftlib.papers.hyperformer import counts  # as above

    sizes, values = counts.shape("t5-base"), {}
    for label in GROWN:
        of = functools.partial(counts.formula, METHODS[read(label).method], sizes)
        values[label] = {"further": of(9) - of(8), "thousand": of(1000)}
    return Rows(GROWTH, values, setting="counted on T5-Base")


# --- relations of its own ---------------------------------------------------------------------------------------------
def above_both_in_most_settings(case: Case) -> Found:
    """Are rows, each at its number of examples, above full fine-tuning and Adapters† on most data sets and numbers?"""
    (table,) = case.tables
    there = case.evidence.rows(table)
    if not there.values:
        raise Unknown(table)
    others, lost = [name for name in TRANSFERRED if not name.startswith("HyperFormer")], 0
    won: list[np.ndarray] = []
    for label in case.labels(table, case.condition.rows, AVERAGE):
        size = int(label.rpartition(", ")[2])
        for task in there.tasks:
            pairs = [label, *(at_size(name, size) for name in others)]
            try:
                own, *rest = (there.of(one, keys(task)[0]) for one in pairs)
            except Unlearned:
                lost += 1
            except Unknown:  # CB has no 500 rows
                continue
            else:
                won.append(functools.reduce(np.logical_and, (own > other for other in rest)))
    if not won:
        raise Unlearned(f"no setting of {there.name} was learned by all three rows") if lost else Unknown(table)
    count = _in_each_draw(won)
    said = f"the best of three in {int(count[0])} of {len(won)} settings" + (f"; not learned: {lost}" if lost else "")
    return Found((odds(count > len(won) / 2),), said)


def _in_each_draw(won: Sequence[np.ndarray]) -> np.ndarray:
    """How many of these hold: of the numbers, and of each draw."""
    return functools.reduce(np.add, (one.astype(int) for one in won))


def small_tasks_take_small_bottlenecks(case: Case) -> Found:
    """Is reduction 32 above 8 on most of the small tasks, and 8 above 32 on most of the large ones?"""
    found: dict[bool, list[Number]] = {True: [], False: []}
    for table in case.tables:
        there = case.evidence.rows(table)
        if not there.values:
            raise Unknown(table)
        labels = {read(label.partition(" (")[0]).size: None for label in there.labels}
        for size in labels:
            low, high = (at_reduction(f"HyperFormer++-{size}", r) for r in (8, 32))
            for task in there.tasks:
                try:
                    gap = there.of(high, task) - there.of(low, task)
                except Unlearned:
                    continue
                small = suites.real(task) in SMALL_TASKS
                found[small].append(gap > 0 if small else gap < 0)
    if not all(found.values()):
        raise Unlearned("no small task, or no large one, was learned at both reduction factors")
    counts = {small: _in_each_draw(won) for small, won in found.items()}
    said = "; ".join(
        f"the {way} bottleneck is better on {int(counts[small][0])} of {len(found[small])} {what} tasks"
        for small, way, what in ((True, "small", "small"), (False, "large", "large"))
    )
    return Found(tuple(odds(counts[small] > len(found[small]) / 2) for small in (True, False)), said)


def formulae_are_what_is_built(case: Case) -> Found:
    """Do section 4.1's formulae give all that is trained?"""
    from peftlib.papers.hyperformer import counts  # as above

    found = counts.section41(counts.shape("t5-base"))
    exact = bool((found["paper"] == found["built"]).all())
    said = ", ".join(f"{row['method']} {row['paper']:,} of {row['built']:,}" for row in found.to_dict("records"))
    return Found((odds(np.array([exact])),), f"by the formulae, of what is built on T5-Base: {said} (counted)")


CLAIMS = Claims(
    "hyperformer",
    from_paper,
    from_records,
    again=("Without RTE", lambda: from_paper(without=DOUBTED)),
    relations=(above_both_in_most_settings, small_tasks_take_small_bottlenecks, formulae_are_what_is_built),
    pages={
        COUNTS: "counts",
        GROWTH: "counts",
        **{f"hyperformer/{name}_small": name for name in ("table1", "table3", "table7")},
    },
)
