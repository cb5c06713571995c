"""X-PEFT's own numbers: counts recounted, tables read as printed, runs that are those of its rows, and what pages show."""

from __future__ import annotations

import json

import pytest
from test_report import made
from test_report_verdicts_compacter import records

from peftlib import cli, grids, report
from peftlib.errors import UsageError
from peftlib.expressions import canonical
from peftlib.papers import paper_table
from peftlib.papers.xpeft import checks, counts, rows
from peftlib.papers.xpeft.pages import counts as shown
from peftlib.papers.xpeft.pages import hours, scores
from peftlib.report import declared, suites

TABLES = ("table2", "table3", "table5", "table6", "table7")


# --- counts -----------------------------------------------------------------------------------------------------------
def test_table1_is_ours_but_for_rounding_and_biases():
    found = counts.table1().to_dict("records")
    ours = {(row["mode"], row["quantity"], row["adapters"]): row["ours"] for row in found}
    for mask in ("hard", "soft"):
        assert [ours[f"x_peft ({mask})", "parameters", n] for n in (100, 200, 400)] == [3_552, 5_952, 10_752]
    assert [ours["x_peft (hard)", "bytes", n] for n in (100, 200, 400)] == [312, 600, 1_200]
    assert [ours["x_peft (soft)", "bytes", n] for n in (100, 200, 400)] == [9_600, 19_200, 38_400]
    assert ours["single_adapter", "parameters", 1] == 884_736 + 12 * (768 + 48)
    assert sum(row["agrees"] for row in found) == 4
    assert all(bool(row["note"]) is not row["agrees"] for row in found)


def test_figure1_is_of_150_adapters_and_grows_by_456_bytes_a_profile():
    found = counts.figure1().set_index("profiles")
    one = 4 * 894_528
    assert (found["adapters"] == one * found.index).all()
    assert found.loc[151, "masks"] - found.loc[150, "masks"] == 456
    assert found.loc[151, "masks_and_norms"] - found.loc[150, "masks_and_norms"] == 456 + 4 * 2 * 48 * 12
    assert found.loc[150, "adapters"] == found.loc[150, "masks"] == 150 * one


def test_what_a_profile_keeps_is_the_sum_of_its_parts():
    found = counts.profile().set_index("method")
    assert (found["masks"] + found["norms"] + found["head"] == found["in all"]).all()
    row = found.loc["x_peft (100 hard)"]
    assert (row["masks"], row["norms"], row["head"]) == (312, 4_608, 6_152)
    assert row["less than an adapter, masks alone"] > 10_000 > 1_000 > row["with norms"] > row["with norms and heads"]


def test_table4_is_ours_with_the_head_of_two_layers_and_with_no_other():
    found = counts.table4()
    assert len(found) == 20 and found["agrees"].all()
    assert counts.head(2) == 590_592 + 2 * 769
    linear = found[(found["adapters"] == 100) & (found["labels"] == 2)].iloc[0]
    assert counts.trained(100) + 2 * 769 != linear["ours"] and linear["printed"] == "0.596"


def test_appendix_f_adds_to_a_round_number():
    found = counts.appendix_f()
    assert found["as_added_agrees"].all()
    assert list(found[~found["agrees"]]["adapters"]) == [150, 200]


def test_the_command_prints_them(capsys):
    for name, expected in (("table1", 14), ("figure1", 7), ("table4", 20), ("appendixF", 5)):
        assert cli.main(["count", f"xpeft/{name}", "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)) == expected


# --- rows and runs ----------------------------------------------------------------------------------------------------
def test_every_printed_row_is_a_method():
    for name in (*TABLES, "table8", "table9"):
        assert list(paper_table("xpeft", name)["method"]) == list(rows.rows())
    assert canonical(rows.expression("x_peft (200 hard)")) == canonical("XPEFT(adapters=200, mask='hard')")
    assert rows.label(200, "hard") == "x_peft (200 hard)"
    with pytest.raises(UsageError, match="no row 'x_peft' of X-PEFT: expected single_adapter, head_only or"):
        rows.expression("x_peft")


@pytest.mark.parametrize(
    ("name", "hub"),
    [
        ("xpeft/table2", ["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"]),
        ("xpeft/table3", ["cb", "boolq", "axb", "axg"]),
    ],
)
def test_runs_are_each_row_on_each_task_by_itself(name, hub):
    found = grids.runs(name, "paper")
    assert [run.tasks for run in found] == [(task,) for _ in rows.rows() for task in hub]
    assert list(dict.fromkeys(run.label for run in found)) == list(rows.rows())
    assert {(run.seed, run.recipe.batch_size, run.recipe.max_length, run.recipe.epochs) for run in found} == {
        (42, 64, 128, 10)
    }
    assert {run.recipe.lr for run in found} == {1e-5}


def test_quick_runs_are_few():
    quick = [run for name in ("xpeft/table2", "xpeft/table3") for run in grids.runs(name, "quick")]
    assert len(quick) <= 12 and {run.label for run in quick} == set(rows.rows())


# --- tables and pages -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [*TABLES, "table8", "table9"])
def test_tables_are_shown_with_the_digits_that_are_printed(name):
    said = repr(declared.as_printed("xpeft", name))
    printed = {text for row in counts._texts(name) for text in row.values()}
    assert all(text.lstrip("0") in said for text in printed), name
    assert ("accuracy" in said) == (name in ("table3", "table5", "table7"))


def test_two_metrics_are_one_number_in_table_2_and_parity_is_a_share():
    source = made("xpeft/table2", lambda run: 0.25)
    for record in source:
        if list(record["run"]["tasks"]) == ["mrpc"]:
            record["test"] |= {"mrpc": 0.5, "mrpc.accuracy": 0.4, "mrpc.f1": 0.6}
    row = declared.beside(declared.read("xpeft", "table2"), source).set_index("method").loc["head_only"]
    assert (row["MRPC, paper"], row["MRPC, ours"].mean) == (0.76, 0.5)
    assert declared.read("xpeft", "table7").rows.loc["head_only", "axg.gender_parity"] == pytest.approx(0.823276)


def test_a_stand_in_stands_beside_the_task_under_its_own_name():
    both = declared.beside(declared.read("xpeft", "table6"), made("xpeft/table2", lambda run: 0.25))
    assert both["xnli_resplit, for MNLI, ours"].map(float).eq(0.25).all() and "MNLI, ours" not in both.columns


def test_averages_are_of_the_tasks_that_were_run_and_end_at_adapter_and_head():
    gains, two = {"single_adapter": 0.6, "head_only": 0.4}, ("sst2", "qnli_resplit")
    source = made("xpeft/table2", lambda run: gains.get(run.label, 0.5), lambda run: run.tasks[0] in two)
    source.wanted = [run for run in source.wanted if run.tasks[0] in two]
    both = scores.averages("xpeft/table2", source)
    row = both.set_index("method").loc["x_peft (400 soft)"]
    assert row["same tasks, paper"] == pytest.approx((0.8991 + 0.8349) / 2)
    assert float(row["average, ours"]) == pytest.approx(0.5)
    assert (row["to adapter, ours"], row["to head, ours"]) == pytest.approx((-0.1, 0.1))
    assert scores.tally(both, "to adapter") == {"n": 6, "paper": 0, "ours": 0}
    assert scores.tally(both, "to head") == {"n": 6, "paper": 6, "ours": 6}
    nothing = scores.averages("xpeft/table2", [])
    assert nothing["average, ours"].isna().all() and set(scores.tally(nothing, "to head").values()) == {None}
    assert suites.order(both)["n"] == 8


def test_averages_leave_out_what_the_paper_does_not_print():
    """CB's F1."""
    source = records("xpeft/table3", lambda run: 0.5, preset="paper")
    for record in source:
        if "cb.macro_f1" in record["test"]:
            record["test"]["cb.macro_f1"] = 0.9
    row = scores.averages("xpeft/table3", source).set_index("method").loc["head_only"]
    printed = (0.7143, 0.6358, 0.0869, 0.4972, 0.823276)
    assert row["same tasks, paper"] == pytest.approx(sum(printed) / 5) and float(row["average, ours"]) == 0.5


def test_caveats_are_those_of_an_encoder_scored_on_validation():
    said = report.caveats(made("xpeft/table2"), "xpeft").data
    assert "The paper scores the official validation set" in said and "xnli_resplit for MNLI" in said
    assert "T5" not in said and "section 5" not in said and "CoLA and RTE are not run" in said
    every, of_superglue = (
        report.caveats(records(f"xpeft/{name}", lambda run: 0.5, preset="paper"), "xpeft").data
        for name in ("table2", "table3")
    )
    assert "WNLI's has 36 rows" in every and "Missing tasks" not in every
    assert "CB's has 28 rows" in of_superglue and "COPA" not in of_superglue


def test_counts_on_pages():
    assert "cut off" in repr(shown.table1()) and "x_peft (150 hard)" in repr(shown.profile())
    assert repr(shown.appendix_f()).count(" no ") == 2
    found = shown.factors()
    assert (found["mask_bytes"], found["norm_bytes"], found["cells"], found["right"]) == (456, 4_608, 14, 4)
    assert found["matrices"] == 4 * 2 * 12 * 768 * 48 / 456
    assert shown.heads()["ours"] == 595_682 and shown.heads()["factor"] == pytest.approx(2.496, abs=1e-3)
    assert shown.curves().axes[0].get_xlabel() == "profiles"


# --- hours ------------------------------------------------------------------------------------------------------------
STEP = {
    "backbone": "minilm",
    "batch": 32,
    "length": 64,
    "steps": 6,
    "precision": "bf16",
    "step_over_adapter": {"head alone": 0.5, "soft 100": 1.1, "hard 100": 1.2, "soft 400": 1.3, "hard 400": 1.4},
    "machine": {"device": "x86_64 CPU", "threads": 1, "cores": 2},
    "versions": {},
    "date": "2026-01-01",
    "commit": "0123456789ab",
}


def test_hours_are_over_those_of_one_adapter(monkeypatch):
    table8 = hours.ratios("table8")
    assert table8.loc["single_adapter"].eq(1).all() and list(table8.columns) == ["all tasks", "mnli"]
    assert table8.loc["x_peft (400 soft)", "mnli"] == pytest.approx(104.57 / 4.22)
    monkeypatch.setattr(hours, "benchmark", lambda name: STEP)
    shown_beside = repr(hours.beside("table9"))
    assert "1.40" in shown_beside and shown_beside.count("not run") == 2, "200 adapters are not measured"
    assert hours.highest("table8") == {"paper": pytest.approx(25.998, abs=1e-2), "ours": 1.4}
    assert hours.by_adapters("table8") is not None
    peak = {"adapter": 200.0, "soft 100": 210.0, "hard 100": 190.0}
    more = STEP | {"mixed_over_one_profile": {"100": 1.25}, "peak_bytes_of_steps": peak}
    monkeypatch.setattr(hours, "benchmark", lambda name: more)
    assert "100                   1.05                   0.95                                1.25" in hours.besides().text
    monkeypatch.setattr(hours, "benchmark", lambda name: None)
    assert "benchmarks/xpeft.py" in hours.beside("table8").data and hours.by_adapters("table8") is None
    assert hours.highest("table8")["ours"] is None and "benchmarks/xpeft.py" in hours.besides().data


def test_the_benchmark_measures_every_row():
    result = report.efficiency.benchmark("xpeft")
    assert set(checks.step_ratios(result)) == set(rows.rows())
