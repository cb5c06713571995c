"""One quantity has one value: pages that show the same number of a method show the same digits."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import matplotlib
import pytest

from peftlib import expressions, study
from peftlib.comparison import METHOD_RUNS
from peftlib.grids import experiments
from peftlib.methods.base import parse
from peftlib.papers.compacter.pages import budget, score_tables
from peftlib.papers.survey import taxonomy
from peftlib.report import choice, concerning, declared, methods, suites, uncertainty, verdicts
from peftlib.report.efficiency import benchmark
from peftlib.report.tables import Html

matplotlib.use("Agg")
PRESET = "published"


class Cells(HTMLParser):
    """The rows of a page's tables, each as its cells' texts."""

    def __init__(self, shown: Html):
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(str.__str__(shown._repr_html_()))

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data.strip()


def table(shown: Html) -> dict[str, dict[str, str]]:
    """The rows of a table by their first cell, each by its columns' names."""
    head, *rows = Cells(shown).rows
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


@pytest.fixture(scope="module")
def records():
    return study.results("methods/compared", PRESET, train=False)


@pytest.fixture(scope="module")
def choosing(records):
    return table(taxonomy.choices(records))


@pytest.mark.parametrize("label", METHOD_RUNS)
def test_choosing_and_a_methods_page_agree(records, choosing, label):
    if label not in choosing:
        pytest.skip("no record of it is in the comparison")
    costs, row = table(methods.cost(records, label))[label], choosing[label]
    assert {name: costs[name] for name in ("time", "memory", "stored")} == {
        name: row[name] for name in ("time", "memory", "stored")
    }
    said = methods.scored(records, label).text
    score, low, high = re.search(r"It reaches ([\d.]+) \(([\d.]+) to ([\d.]+)\)", said).groups()
    assert f"{score} [{low}, {high}]" == row["test score"].partition(" ✕")[0]
    if row["time"] != "not measured" and label != "Full":
        assert f"takes {row['time']} times the time and {row['memory']} times the memory" in said
    told = "cannot be told from" if row["level with the highest"] == "yes" else "is below"
    assert told in said or "No other" in said


def test_choosing_and_efficiency_agree(choosing):
    """On all configurations that were measured; of a method that is compared in another, on the first of it."""
    measured = table(budget.steps())
    rows = {label: method for label, method in METHOD_RUNS.items() if "time" in choice.cost(method) and label in choosing}
    assert rows
    for label, method in rows.items():
        alike = [name for name in measured if expressions.names(name) == expressions.names(method)]
        own = next((name for name in alike if str(parse(name)) == str(parse(method))), alike[0])
        assert [choosing[label][name] for name in ("time", "memory")] == [measured[own][n] for n in ("time", "memory")], (
            label
        )


def test_the_picture_shows_the_tables_numbers(records, choosing):
    for point in choice.points(records):
        row = choosing[point.label]
        assert row["test score"].split()[0] == f"{point.score.mean:.3f}" and row["stored"] == f"{point.stored:,}"


def test_no_page_takes_time_or_memory_of_a_method_from_records(records, monkeypatch):
    """They are made on machines that are busy with other work."""
    label = "LoRA"
    before = repr(methods.cost(records, label)), methods.scored(records, label).text
    for record in records:
        monkeypatch.setitem(record, "seconds", 1e6)
        monkeypatch.setitem(record, "examples_per_second", 1e-3)
        monkeypatch.setitem(record, "peak_bytes", 1 << 50)
    assert before == (repr(methods.cost(records, label)), methods.scored(records, label).text)
    assert benchmark("step") is not None


@pytest.mark.parametrize("label", ["LoRA", "HeadOnly"])
def test_a_page_and_a_ledger_give_one_verdict(label):
    """A page asks for the claims about its method alone, from the records that the ledger has."""
    method = METHOD_RUNS[label]
    for paper, mine in concerning.judged(method, PRESET).items():
        sources = {name: study.results(name, PRESET, train=False) for name in experiments() if name.startswith(f"{paper}/")}
        whole = {one.claim.id: one.verdict for one in verdicts.of(paper).judged(sources)}
        assert mine and {one.claim.id: one.verdict for one in mine} == {one.claim.id: whole[one.claim.id] for one in mine}


def tables_of(name):
    """Of a table of scores, by a page's function and by what the verdicts rest on: numbers by row and column."""
    paper, _, table = name.partition("/")
    sources = {one: study.results(one, PRESET, train=False) for one in experiments() if one.startswith(f"{paper}/")}
    ledger, source = verdicts.of(paper).from_records(sources).rows(name), sources[name]
    if paper == "adaptbert":
        return declared.test_scores(name, source), ledger
    pair = [sources[f"compacter/{one}"] for one in ("table7", "table7_frozen")] if "table7" in name else [source]
    return suites.numbers(source, left_out=suites.uninformative(*pair)), ledger


@pytest.mark.parametrize(
    "name",
    [
        *(f"adaptbert/{table}" for table in ("table2", "table3", "figure4")),
        *(f"compacter/{table}" for table in ("table1", "table6", "table7", "table7_frozen", "table9", "figure4")),
        "hyperformer/table1",
    ],
)
def test_a_table_and_the_ledger_give_one_score(name):
    shown, ledger = tables_of(name)
    compared = 0
    for label, row in shown.items():
        for key, score in row.items():
            own = ledger.values.get(label, {}).get(key)
            assert (score is None) == (own is None), (label, key)
            if score is not None:
                assert float(score) == pytest.approx(float(own[0])), (label, key)
                assert bool(score.marks) or not ledger.lost.get(label, {}).get(key)
                compared += 1
    assert compared > 1


@pytest.mark.parametrize("name", ["table6", "table9"])
def test_averages_are_over_the_same_tasks_whichever_row_stands_beside_them(name):
    """Full fine-tuning's row of another table may learn a task that no row of this one learned."""
    source = study.results(f"compacter/{name}", PRESET, train=False)
    full = study.results("compacter/table1", PRESET, train=False, labels=["T5-Base"])
    whole = score_tables.with_full(source, full) if name == "table6" else source
    both = declared.averages(declared.read("compacter", name), whole).set_index("method")["average, ours"]
    own = suites.by_task(source).set_index("method")["average"]
    there = [label for label in both.index if label in own.index]
    assert there and [str(both[label]) for label in there] == [str(own[label]) for label in there]


def test_there_is_one_rule_of_noise():
    assert not hasattr(methods, "standard_error")
    assert methods.interval is uncertainty.interval
