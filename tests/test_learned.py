"""Which runs did not learn, by made-up records; how tables show and count them, and what a page shows of claims."""

from __future__ import annotations

import copy
import re

import numpy as np
import pandas as pd
import pytest
from test_report import made

from peftlib import grids, records, report, study
from peftlib.comparison import HEADS, budget
from peftlib.packed import pack
from peftlib.report import evidence, learned, ledger, suites, verdicts
from peftlib.report.learned import Mark

ROWS = 854  # test rows of SST


def sst(test: float, validation=(0.4,), base: float = 0.3, method: str = "LoRA(rank=8)", **changes) -> dict:
    """A record of one task with such a test score and validation scores by epoch."""
    (record,) = made("methods/compared", keep=lambda run: run.label == "LoRA" and run.tasks == ("sst",))
    record = copy.deepcopy(record)
    record["run"]["method"] = method
    record["run"]["recipe"]["epochs"] = len(validation)
    record["history"] = [
        {"epoch": i + 1, "validation": {"sst": value, "mean": value}, "train_loss": 1.0, "seconds": 1.0, "examples": 9}
        for i, value in enumerate(validation)
    ]
    return record | {"test": {"sst": test, "mean": test}} | changes


@pytest.fixture
def commonest(monkeypatch):
    """The commonest label has 0.3."""
    monkeypatch.setattr(learned, "to_beat", lambda run, task, split="test": 0.3)


# --- the rules --------------------------------------------------------------------------------------------------------
def test_who_stays_within_a_standard_error_of_the_commonest_label_did_not_learn(commonest):
    error = (0.3 * 0.7 / ROWS) ** 0.5
    assert learned.of(sst(0.3 + 1.1 * error), "sst") is None
    for score in (0.3 + 0.9 * error, 0.3, 0.1):
        assert learned.of(sst(score), "sst").word == "did not learn"
    assert "the commonest label has 0.300" in learned.of(sst(0.3), "sst").why


def test_who_gives_one_answer_did_not_learn_whatever_it_scores(monkeypatch):
    monkeypatch.setattr(learned, "to_beat", lambda run, task, split="test": None)
    same, varied = (sst(0.5, predictions={"sst": pack(values, "class")}) for values in (np.full(9, 2), np.arange(9) % 5))
    assert learned.of(same, "sst") == Mark("did not learn", "gave every test row the same answer")
    assert learned.of(varied, "sst") is None and learned.tested(varied, "sst") == 9


def test_an_answer_that_does_not_vary_correlates_with_nothing():
    (record,) = made("compacter/table4", keep=lambda run: run.label == "T5-Base" and run.recipe.lr == 3e-3)
    record["test"] |= {"stsb.pearson": 0.1}
    assert learned.of(record, "stsb").why == "0.100 where the commonest label has 0.000 ± 0.143"  # 50 rows
    assert learned.of(record | {"test": {"stsb.pearson": 0.5}}, "stsb") is None


def test_who_ends_below_a_head_alone_did_not_learn(commonest, monkeypatch):
    monkeypatch.setattr(learned, "_heads", lambda preset: {budget(records.run_of(sst(0.4))): [{"test": {"sst": 0.45}}]})
    assert learned.of(sst(0.4, preset="any"), "sst") == Mark("did not learn", "0.400 where a head alone has 0.450")
    assert learned.of(sst(0.44, preset="any"), "sst") is None  # within a standard error
    assert learned.of(sst(0.4), "sst") is None  # of no preset
    assert learned.of(sst(0.4, preset="any", method="HeadOnly()"), "sst") is None
    assert learned.of(sst(0.4, validation=(0.4, 0.4), preset="any"), "sst") is None  # at another budget


@pytest.mark.parametrize("name", ["compacter/table1", "compacter/figure4", "adaptbert/table3", "hyperformer/table1"])
def test_a_head_alone_is_run_at_every_budget_of_a_table(name):
    heads = grids.runs(HEADS, "published")
    assert {run.method for run in heads} == {"HeadOnly()"} and not any(run.start for run in heads)
    assert {budget(run) for run in grids.runs(name, "published")} <= {budget(run) for run in heads}
    assert len({budget(run) for run in heads}) == len(heads) == len({(run.label, run.tasks) for run in heads})


def test_heads_alone_are_found_among_the_records():
    found = learned._heads("published")
    assert all(-1 <= head["test"][task] <= 1 for (tasks, *_), heads in found.items() for head in heads for task in tasks)
    assert {("sst",), ("sst", "quora", "sts")} <= {tasks for tasks, *_ in found}


@pytest.mark.parametrize(
    ("curve", "word"),
    [
        ((0.3, 0.5, 0.39), "collapsed"),
        ((0.5, 0.3), "collapsed"),
        ((0.3, 0.5, 0.41), None),  # less than half
        ((0.3, 0.5, 0.3, 0.5), None),  # came back
        ((0.32, 0.30), None),  # noise
    ],
)
def test_who_loses_more_than_half_collapsed(commonest, curve, word):
    mark = learned.of(sst(0.45, validation=curve), "sst")
    assert (mark and mark.word) == word


def test_runs_of_several_tasks_are_judged_task_by_task(monkeypatch):
    monkeypatch.setattr(learned, "to_beat", lambda run, task, split="test": 0.3)
    record, *_ = made("adaptbert/table3", lambda run: 0.6, keep=lambda run: run.label == "Finetune")
    record["test"] = record["test"] | {"quora": 0.3}
    assert [bool(learned.of(record, task)) for task in ("sst", "quora", "sts")] == [False, True, False]
    assert learned.counted([record]) == {"did not learn": 1, "collapsed": 0}
    (row,) = learned.by_method([record])
    assert row == {
        "method": "Full",
        "runs": 3,
        "learned": 2,
        "did not learn": 1,
        "collapsed": 0,
        "diverged": 0,
        "share": pytest.approx(1 / 3),
    }


def test_methods_that_fail_most_come_first(commonest):
    lost = sst(0.5, method="BitFit()")
    del lost["test"]
    source = study.Results([sst(0.3), sst(0.6), sst(0.6, method="Full()")], [], [lost | {"diverged": "nan"}])
    assert [(row["method"], row["share"]) for row in learned.by_method(source)] == [
        ("BitFit", 1),
        ("LoRA", 0.5),
        ("Full", 0),
    ]


def test_runs_of_a_search_are_judged_by_the_split_that_chooses(commonest):
    """A search has few test rows: that its runs cannot be told from the commonest label there says nothing of them."""
    source = [sst(0.3, digest=f"{lr}") for lr in (1e-3, 1e-2, 1e-1)]
    for record, lr in zip(source, (1e-3, 1e-2, 1e-1), strict=True):
        record["run"]["recipe"]["lr"] = lr
        record["validation"] = {"sst": 0.3 if lr == 1e-1 else 0.6, "mean": 0.6}
    assert learned.counted(source) == {"did not learn": 1, "collapsed": 0}
    assert learned.counted(source[:1]) == {"did not learn": 1, "collapsed": 0}  # at one rate, no search
    assert "3 runs, ✕ 1 did not learn" in report.presence(source)
    assert learned.of(source[0], "sst").word == "did not learn" and learned.of(source[0], "sst", "validation") is None
    for record, name in zip(source, "aab", strict=True):
        record["run"]["label"] = name
    assert learned.untaught(source) == ["b"]


# --- tables -----------------------------------------------------------------------------------------------------------
def test_marks_stand_beside_numbers_and_under_the_table(commonest):
    one, three = report.scores([sst(0.3)], "sst", "test"), [sst(score) for score in (0.3, 0.5, 0.6)]
    for seed, record in enumerate(three):
        record["run"]["seed"] = seed
    assert str(one) == "0.300 ✕ did not learn"
    assert f"{report.scores(three, 'sst', 'test'):.2f}" == "0.55 ± 0.07 ✕ 1 of 3 did not learn"
    lost = [sst(0.3), sst(0.2)]
    lost[1]["run"]["seed"] = 1
    assert f"{report.scores(lost, 'sst', 'test'):.2f}" == "0.25 ± 0.07 ✕ 2 of 2 did not learn"  # no other seed to show
    html = report.table(pd.DataFrame({"x": [one]}), caption="c", source=[sst(0.3)])._repr_html_()
    assert re.search('data-sort="0.300" class="[^"]*unlearned', html) and "1 run, ✕ 1 did not learn" in html


def test_uninformative_tasks_are_in_no_average_of_ours_or_of_the_papers(monkeypatch):
    monkeypatch.setattr(learned, "to_beat", lambda run, task, split="test": 0.5)
    source = made("compacter/table1", lambda run: 0.51 if run.tasks == ("rte",) else 0.9)
    assert learned.uninformative(source) == ["rte"]
    row = suites.numbers(source)["BitFit"]
    assert float(row["average"]) == pytest.approx(90) and not row["average"].marks and row["rte"].marks
    assert "RTE, uninformative" in suites.by_task(source).columns
    paper = pd.DataFrame({name: [80.0] for name in ("cola", "sst2")} | {"rte": [0.0]}, index=["BitFit"])
    both = [r for r in source if r["run"]["tasks"][0] in ("cola", "sst2", "rte")]
    assert suites.paper_averages(paper, both)["BitFit"] == 80
    ours = evidence.measured("t", source, unit=100)
    assert (
        ours.left_out == ("rte",)
        and "rte" not in ours.tasks
        and float(ours.of("BitFit", "average")[0]) == pytest.approx(90)
    )


def test_the_luckiest_of_many_rows_does_not_make_a_task_informative(monkeypatch):
    monkeypatch.setattr(learned, "to_beat", lambda run, task, split="test": 0.5)
    two_errors = 0.5 + 2 * (0.25 / (139 + 4)) ** 0.5
    source = made(
        "compacter/table1", lambda run: two_errors if run.label == "BitFit" else 0.5, lambda run: "rte" in run.tasks
    )
    assert learned.uninformative(source) == ["rte"]
    one = next(r for r in source if r["run"]["label"] == "BitFit")
    assert learned.uninformative([one]) == []


def test_an_average_with_a_task_that_was_not_learned_is_marked_in_part(monkeypatch):
    monkeypatch.setattr(learned, "to_beat", lambda run, task, split="test": 0.5)
    source = made("compacter/table1", lambda run: 0.5 if (run.label, run.tasks) == ("BitFit", ("rte",)) else 0.9)
    assert f"{suites.numbers(source)['BitFit']['average']:.1f}".endswith(" ✕ in part")
    assert not suites.numbers(source)["Adapter"]["average"].marks


# --- predictions ------------------------------------------------------------------------------------------------------
def test_runs_with_predictions_are_compared_row_by_row(monkeypatch, tmp_path):
    """Two runs that differ on few rows differ surely, though each of them is uncertain."""
    from peftlib import answered

    monkeypatch.setattr(records, "root", lambda: tmp_path)
    monkeypatch.setattr(learned, "to_beat", lambda run, task, split="test": 0.1)
    monkeypatch.setattr(evidence, "usual_deviation", lambda *_: 1e-6)
    labels = np.random.default_rng(0).integers(0, 5, 800)
    answered.keep("published", "sst", "rows", labels, None)
    given = {"one": np.where(np.arange(800) < 400, labels, (labels + 1) % 5), "two": labels.copy()}
    given["two"][420:] = (labels[420:] + 1) % 5
    source = []
    for label, found in given.items():
        record = sst((found == labels).mean(), preset="published", digest=label, data={"test": {"sst": "rows"}})
        record["run"]["label"] = label
        source.append(record | {"predictions": {"sst": pack(found, "class")}})
    rows = evidence.measured("t", source)
    one, two = (rows.of(label, "sst") for label in given)
    low, high = evidence.uncertainty.interval(two - one)
    assert 0 < low < 0.025 < high and evidence.uncertainty.smallest_seen(one) > 0.03


# --- the ledger -------------------------------------------------------------------------------------------------------
def test_the_ledger_shows_a_row_a_claim_with_its_verdict_first():
    judged = verdicts.of("adaptbert").judged({})
    shown = ledger.show("adaptbert", judged, [])
    html = shown._repr_html_()
    assert html.count("<details") == len(judged) == html.count('class="permalink"')
    row = html[html.index('id="claim-S8"') :]
    assert row.index("reproduced</span>") < row.index("S8</span>") < row.index('href="#claim-S8"') < row.index("<dl>")
    assert 'data-outcome="reproduced"><span aria-hidden="true">✓</span> reproduced' in row  # a sign and a word
    assert 'href="#claim-A2">A2</a> says, not run, and is not counted again' in html  # S2
    assert '<option value="not run">not run (25)</option>' in html and '<option value="6.1">' in html
    assert "undecided" in html and "A2" in repr(shown)


def test_the_ledger_links_numbers_to_their_pages_and_escapes_what_it_shows(monkeypatch):
    (judged,) = verdicts.of("compacter").judged({}, ["M9"])
    html = ledger.show("compacter", [judged], [])._repr_html_()
    assert '<a href="table1.html">trained over Compacter++' in html and "The paper's own numbers bear it out" in html
    odd = verdicts.Judged(judged.claim, verdicts.Verdict("not run", "needs <b>"), "", ())
    assert "needs &lt;b&gt;" in ledger.show("compacter", [odd], [])._repr_html_()


def test_the_ledger_is_filtered_and_its_addresses_unfold(browser, tmp_path):
    looks = [(records.root() / "book" / "_static" / name).read_text() for name in ("ledger.css", "ledger.js")]
    shown = str(ledger.show("compacter", verdicts.of("compacter").judged({}), [])._repr_html_())
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><meta charset=utf-8><style>{}</style><script>{}</script>".format(*looks) + shown)
    browser.width(1100)
    browser.open(f"{page.as_uri()}#claim-M9")
    state = "[...document.querySelectorAll('details')].filter(claim => {}).map(claim => claim.id)"
    assert browser.ask(state.format("claim.open")) == ["claim-M9"]
    assert browser.ask("document.querySelector('output').textContent") == "79 of 79 claims"
    browser.ask("document.querySelectorAll('details').forEach(claim => claim.open = false)")
    assert browser.ask("document.scrollingElement.scrollHeight") < 4000
    choose = "(() => {{ const list = document.querySelector('[data-filter={}]'); list.value = '{}'; " + (
        "list.dispatchEvent(new Event('change', {{ bubbles: true }})); }})()"
    )
    browser.ask(choose.format("verdict", "contradicted"))
    there = browser.ask(state.format("claim.offsetParent"))
    assert {"claim-A1", "claim-B5", "claim-B8"} <= set(there) and not {"claim-I5", "claim-B4"} & set(there)  # I5 repeats A1
    browser.ask(choose.format("section", "B"))
    assert browser.ask("document.querySelector('output').textContent") == "2 of 79 claims"
    browser.width(390)
    assert browser.ask("document.scrollingElement.scrollWidth") <= 400 and not browser.errors


def test_before_and_after_stand_side_by_side_with_what_changed_them():
    judged = verdicts.of("compacter").judged({})
    table = verdicts.changes("compacter", judged).set_index("id")
    assert table.loc["I6", "before"] == "not reproduced" and table.loc["I6", "after"] == "as A4"
    assert table.loc["I6", "what changed it"].startswith("repeats A4")
    assert table.loc["A1", "after"] == "contradicted" and table.loc["A1", "what changed it"] == ""
    assert table.loc["G5", "after"] == "not run" and "needs" in table.loc["G5", "what changed it"]
    counts = verdicts.tallied({"Compacter": table.reset_index()}).set_index("outcome")
    assert counts["Compacter, before"].sum() == counts["Compacter, after"].sum() == len(judged)
