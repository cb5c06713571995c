"""What Compacter's claims are checked against: its printed tables, our records, counts on T5, and a benchmark."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from peftlib.papers import paper_table
from peftlib.report import suites, verdicts
from peftlib.report.averages import TEST_ROWS, by_task, margin, rows_tested
from peftlib.report.efficiency import benchmark
from peftlib.report.tables import by_label, by_rate
from peftlib.report.verdicts import Unknown

GLUE, SUPERGLUE, SIZES = "compacter/table1", "compacter/table2", "compacter/table6"
TUNED, FROZEN, BY_N, SMALLER = "compacter/table7", "compacter/table7_frozen", "compacter/table8", "compacter/table9"
RATES, FEW = "compacter/table4", "compacter/figure4"
STEP = "benchmarks/step"  # no experiment: a benchmark's result
PRINTED = (GLUE, SUPERGLUE, SIZES, TUNED, BY_N, SMALLER)
FULL, SMALL_FULL, COMPACTER, PLUSPLUS = "T5-Base", "T5-Small", "Compacter (n=4)", "Compacter++ (n=4)"
PROMPTS, SAID = ("Prompt Tuning-R", "Prompt Tuning-T"), "Intrinsic-SAID"
ADAPTERS = ("Adapter", "Pfeiffer-Adapter", "AdapterDrop", "Adapter-LowRank")
EARLIER = (*ADAPTERS, *PROMPTS, SAID, "BitFit")


class Suite(verdicts.Rows):
    """A table's averages, "average", and one number a task, by row label.

    test_rows: by task, they decide the margin. cut: to how many examples training sets were cut, None if they were not.
    """

    def __init__(self, name: str, values: Mapping, labels: Iterable[str], test_rows: Mapping[str, int],
                 cut: int | None = None):
        super().__init__(name, values, labels)
        self.test_rows, self.cut = test_rows, cut

    @property
    def margin(self) -> float:
        """Two standard errors of an average, in points. Raises `Unknown` if nothing is asked for."""
        if not self.test_rows:
            raise Unknown(self.name)
        return margin(self.test_rows)

    def lead(self, label: str, over: str, key: str = "average") -> float:
        """By how many points a row is above another."""
        return self.of(label, key) - self.of(over, key)

    def named(self, name: str) -> list[str]:
        """Labels of a method, whatever its n in brackets."""
        return [label for label in self.labels if label.partition(" (")[0] == name]

    def ours(self) -> list[str]:
        """Labels of Compacter and Compacter++."""
        return [*self.named("Compacter"), *self.named("Compacter++")]

    def efficient(self) -> list[str]:
        return [label for label in self.labels if label not in (FULL, SMALL_FULL)]


class Evidence(verdicts.Evidence):
    """Tables by experiment. trained: percent of the backbone that a row trains, by table and label."""

    def __init__(self, tables: Mapping[str, verdicts.Rows], trained: Callable[[str, str], float]):
        super().__init__(tables)
        self.trained = trained


def from_paper(without: Sequence[str] = ()) -> Evidence:
    """The paper's own printed numbers; averages without some tasks are the means of the others' numbers."""
    tables = {name: _printed_table(name, without) for name in PRINTED}
    one, six, seven = tables[GLUE], tables[SIZES], tables[TUNED]
    tables[FROZEN] = Suite("the paper's Tables 1 and 6", {k: (one.values | six.values)[k] for k in seven.labels}, (),
                           one.test_rows)
    third = paper_table("compacter", "table3").set_index("method")
    tables[STEP] = verdicts.Rows("the paper's Table 3", {
        label: {"memory": row["memory_mb"], "time": row["minutes"]} for label, row in third.iterrows()})
    return Evidence(tables, _printed_percent)


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


@functools.cache
def _printed(table: str) -> Mapping[str, str]:
    return paper_table("compacter", table).set_index("method")["trained_printed"].to_dict()


def _printed_percent(table: str, label: str) -> float:
    return float(_printed(table)[label].strip("%"))


def from_records(sources: Mapping[str, Sequence[dict]]) -> Evidence:
    """Our records, by experiment (`peftlib.study.results`), means over seeds; percentages counted on the paper's own
    T5; memory and time of the benchmark of a training step, if it has been run."""
    tables = {name: _rates(source) if name == RATES else _measured(name, source) for name, source in sources.items()}
    step = benchmark("step")
    if step is not None:
        where = f"{step['backbone']}, {step['batch']} sequences of {step['length']} tokens"
        tables[STEP] = verdicts.Rows(where, {
            found["row"]: {"memory": found["ours"]["peak_bytes"], "time": found["ours"]["milliseconds"]}
            for found in step["methods"].values() if found["row"]})
    return Evidence(tables, _counted_percent)


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


def _rates(source: Sequence[dict]) -> verdicts.Rows:
    """Mean validation scores of a search, by row and learning rate."""
    values = {label: {f"{lr:g}": 100 * score for lr, score in sorted(by_rate(records).items())}
              for label, records in by_label(source).items()}
    return verdicts.Rows(RATES, values, paper_table("compacter", "table4")["method"])


@functools.cache
def _counted(table: str) -> Mapping[str, float]:
    from peftlib.papers.compacter import counts  # counts on shapes: brings torch

    return counts.table(table).set_index("method")["trained_percent"].to_dict()


def _counted_percent(table: str, label: str) -> float:
    return _counted(table)[label]
