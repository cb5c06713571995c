"""What Compacter's claims are checked against: its printed tables, our records, counts on T5, and a benchmark."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence

from peftlib.papers import about, paper_table
from peftlib.report import declared, suites
from peftlib.report.averages import by_task
from peftlib.report.efficiency import benchmark
from peftlib.report.evidence import Evidence, Rows, measured, validated
from peftlib.report.learned import untaught
from peftlib.report.tables import by_label, by_rate, ran_elsewhere

GLUE, SUPERGLUE, SIZES = "compacter/table1", "compacter/table2", "compacter/table6"
TUNED, FROZEN, BY_N, SMALLER = "compacter/table7", "compacter/table7_frozen", "compacter/table8", "compacter/table9"
RATES, FEW = "compacter/table4", "compacter/figure4"
# Of a table, the search over the whole grid that its learning rates come from; a second step only looks around its best.
SEARCHED = dict.fromkeys((GLUE, SUPERGLUE, SIZES, BY_N, FEW), RATES) | {
    TUNED: "compacter/table5",
    FROZEN: "compacter/table5",
    SMALLER: "compacter/table10",
}
STEP = "benchmarks/step"  # no experiment: a benchmark's result
PRINTED = (GLUE, SUPERGLUE, SIZES, TUNED, BY_N, SMALLER)
COUNTED = ("table1", "table6", "table7")  # whose percentages of trained parameters claims are about
MARGIN = about("compacter").margin


def from_paper(without: Sequence[str] = ()) -> Evidence:
    """The paper's own printed numbers; averages without some tasks are the means of the others' numbers."""
    tables = {name: _printed_table(name, without) for name in PRINTED}
    one, six, seven = tables[GLUE], tables[SIZES], tables[TUNED]
    both = {label: {**one.values, **six.values}[label] for label in seven.labels}
    tables[FROZEN] = Rows("the paper's Tables 1 and 6", both, margin=MARGIN, tasks=one.tasks)
    third = paper_table("compacter", "table3").set_index("method")
    tables[STEP] = Rows(
        "the paper's Table 3",
        {label: {"memory": row["memory_mb"], "time": row["minutes"]} for label, row in third.iterrows()},
        setting="the paper's Table 3",
    )
    return Evidence(tables | {f"counts/{name}": _printed_percent(name) for name in COUNTED} | {"counts/shares": _shares()})


def _printed_table(experiment: str, without: Sequence[str]) -> Rows:
    name, rows, tasks = experiment.split("/")[1], {}, {}
    paper = paper_table("compacter", name)
    columns = declared.score_columns("compacter", name)
    kept = [column for column in columns if column.split("_")[0] not in without]
    for row in paper.to_dict("records"):
        tasks = by_task({column: row[column] for column in kept})
        whole = row["average"] if kept == columns else statistics.fmean(row[column] for column in kept)
        rows[row["method"]] = tasks | {"average": whole}
    return Rows(f"the paper's {name.replace('table', 'Table ')}", rows, margin=MARGIN, tasks=list(tasks))


def _printed_percent(table: str) -> Rows:
    printed = paper_table("compacter", table).set_index("method")["trained_printed"]
    return Rows(f"the paper's {table}", {label: {"trained": float(text.strip("%"))} for label, text in printed.items()})


def from_records(sources: Mapping[str, Sequence[dict]]) -> Evidence:
    """Our records, by experiment (`peftlib.study.results`), means over seeds; percentages counted on the paper's own
    T5; memory and time of the benchmark of a training step, if it has been run."""
    compared = [sources[name] for name in (TUNED, FROZEN) if name in sources]  # row by row: over the same tasks
    tables: dict[str, Rows | Callable[[], Rows]] = {
        name: functools.partial(_rates, source)
        if name == RATES
        else functools.partial(
            _measured,
            name,
            source,
            compared if name in (TUNED, FROZEN) else [source],
            sources.get(SEARCHED.get(name, ""), ()),
        )
        for name, source in sources.items()
    }
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
            ran=ran_elsewhere(paper_table("compacter", "table3")["method"], step["backbone"]),
        )
    counted = {f"counts/{name}": functools.partial(_counted_percent, name) for name in COUNTED}
    return Evidence(tables | counted | {"counts/shares": _shares})


def _measured(name: str, source: Sequence[dict], compared: Sequence[Sequence[dict]], searched: Sequence[dict]) -> Rows:
    """compared: the tables with which this one is compared row by row, itself included. searched: the search over the whole
    grid of learning rates that this table's began with."""
    table = TUNED if name == FROZEN else name
    paper = paper_table("compacter", table.split("/")[1])["method"] if table in PRINTED else ()
    return measured(
        name,
        source,
        margin=MARGIN,
        labels=paper,
        unit=100,
        left_out=suites.uninformative(*compared),
        by_chance=dict.fromkeys(untaught(searched), SEARCHED.get(name, "")),
    )


def _rates(source: Sequence[dict]) -> Rows:
    """Mean validation scores of a search, by row and learning rate; lost: rows that no rate told from the commonest
    label."""
    values = {}
    for label, records in by_label(source).items():
        rates = {
            lr: [validated(RATES, r, task) for r in records if r["run"]["recipe"]["lr"] == lr for task in r["run"]["tasks"]]
            for lr in sorted(by_rate(records))
        }
        values[label] = {f"{lr:g}": 100 * sum(found) / len(found) for lr, found in rates.items()}
    lost = {label: dict.fromkeys(values[label], "at any rate") for label in untaught(source)}
    return Rows(RATES, values, paper_table("compacter", "table4")["method"], lost=lost)


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
