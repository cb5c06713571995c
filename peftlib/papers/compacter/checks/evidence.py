"""What Compacter's claims are checked against: its printed tables, our records, counts on T5, and a benchmark."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterable, Mapping, Sequence

from peftlib.papers import paper_table
from peftlib.report import suites
from peftlib.report.averages import TEST_ROWS, by_task, margin, rows_tested
from peftlib.report.efficiency import benchmark
from peftlib.report.evidence import Evidence, Rows
from peftlib.report.tables import by_label, by_rate

GLUE, SUPERGLUE, SIZES = "compacter/table1", "compacter/table2", "compacter/table6"
TUNED, FROZEN, BY_N, SMALLER = "compacter/table7", "compacter/table7_frozen", "compacter/table8", "compacter/table9"
RATES, FEW = "compacter/table4", "compacter/figure4"
STEP = "benchmarks/step"  # no experiment: a benchmark's result
PRINTED = (GLUE, SUPERGLUE, SIZES, TUNED, BY_N, SMALLER)
COUNTED = ("table1", "table6", "table7")  # whose percentages of trained parameters claims are about


class Suite(Rows):
    """A table's averages, "average", and one number a task, by row label.

    test_rows: by task, they decide the margin. cut: to how many examples training sets were cut, None if they were not.
    """

    def __init__(
        self, name: str, values: Mapping, labels: Iterable[str], test_rows: Mapping[str, int], cut: int | None = None
    ):
        super().__init__(name, values, labels, margin(test_rows) if test_rows else None)
        self.test_rows, self.cut = test_rows, cut


def from_paper(without: Sequence[str] = ()) -> Evidence:
    """The paper's own printed numbers; averages without some tasks are the means of the others' numbers."""
    tables = {name: _printed_table(name, without) for name in PRINTED}
    one, six, seven = tables[GLUE], tables[SIZES], tables[TUNED]
    tables[FROZEN] = Suite(
        "the paper's Tables 1 and 6", {k: (one.values | six.values)[k] for k in seven.labels}, (), one.test_rows
    )
    third = paper_table("compacter", "table3").set_index("method")
    tables[STEP] = Rows(
        "the paper's Table 3",
        {label: {"memory": row["memory_mb"], "time": row["minutes"]} for label, row in third.iterrows()},
        setting="the paper's Table 3",
    )
    return Evidence(tables | {f"counts/{name}": _printed_percent(name) for name in COUNTED} | {"counts/shares": _shares()})


def _printed_table(experiment: str, without: Sequence[str]) -> Suite:
    name, rows, tasks = experiment.split("/")[1], {}, {}
    paper = paper_table("compacter", name)
    columns = suites.score_columns(paper)
    kept = [column for column in columns if column.split("_")[0] not in without]
    for row in paper.to_dict("records"):
        tasks = by_task({column: row[column] for column in kept})
        whole = row["average"] if kept == columns else statistics.fmean(row[column] for column in kept)
        rows[row["method"]] = tasks | {"average": whole}
    return Suite(f"the paper's {name.replace('table', 'Table ')}", rows, (), {task: TEST_ROWS[task] for task in tasks})


def _printed_percent(table: str) -> Rows:
    printed = paper_table("compacter", table).set_index("method")["trained_printed"]
    return Rows(f"the paper's {table}", {label: {"trained": float(text.strip("%"))} for label, text in printed.items()})


def from_records(sources: Mapping[str, Sequence[dict]]) -> Evidence:
    """Our records, by experiment (`peftlib.study.results`), means over seeds; percentages counted on the paper's own
    T5; memory and time of the benchmark of a training step, if it has been run."""
    tables = {name: _rates(source) if name == RATES else _measured(name, source) for name, source in sources.items()}
    step = benchmark("step")
    if step is not None:
        where = f"{step['backbone']}, {step['batch']} sequences of {step['length']} tokens"
        tables[STEP] = Rows(
            where,
            {
                found["row"]: {"memory": found["ours"]["peak_bytes"], "time": found["ours"]["milliseconds"]}
                for found in step["methods"].values()
                if found["row"]
            },
            setting=where,
        )
    counted = {f"counts/{name}": functools.partial(_counted_percent, name) for name in COUNTED}
    return Evidence(tables | counted | {"counts/shares": _shares})


def _measured(name: str, source: Sequence[dict]) -> Suite:
    values = {}
    for label, row in suites.numbers(source).items():
        there = {key: float(value) for key, value in row.items() if value is not None}
        values[label] = by_task(there, ".") | {"spread": row["average"] and row["average"].sd}
    table = TUNED if name == FROZEN else name
    paper = paper_table("compacter", table.split("/")[1])["method"] if table in PRINTED else ()
    limits = [run.limits for run in getattr(source, "wanted", ())] + [r["run"]["limits"] for r in source]
    cut = min((limit[0] for limit in limits if limit[0] is not None), default=None)
    return Suite(name, values, [*paper, *by_label(source)], rows_tested(source), cut)


def _rates(source: Sequence[dict]) -> Rows:
    """Mean validation scores of a search, by row and learning rate."""
    values = {
        label: {f"{lr:g}": 100 * score for lr, score in sorted(by_rate(records).items())}
        for label, records in by_label(source).items()
    }
    return Rows(RATES, values, paper_table("compacter", "table4")["method"])


@functools.cache
def _counted_percent(table: str) -> Rows:
    from peftlib.papers.compacter import counts  # counts on shapes: brings torch

    counted = counts.table(table).set_index("method")["trained_percent"]
    return Rows(f"counts/{table}", {label: {"trained": percent} for label, percent in counted.items()})


@functools.cache
def _shares() -> Rows:
    """Of norms and biases in what is trained with n = 4, counted in closed form."""
    from peftlib.papers.compacter.errata import METHODS, PARTS, share  # brings torch

    labels = dict(zip(METHODS, ("Compacter", "Compacter++", "PHM-Adapter"), strict=True))
    values = {labels[method]: {part: share(method, part) for part in PARTS} for method in METHODS}
    return Rows(
        "counts/shares",
        {label: row | {"norms and biases": sum(row.values())} for label, row in values.items()},
        setting="counted, n = 4",
    )
