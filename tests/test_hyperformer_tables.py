"""The HyperFormer paper's parameter columns and formulae, recounted."""

from __future__ import annotations

import json

import pytest

from peftlib import cli
from peftlib.accounting.counted import shape
from peftlib.errors import UsageError
from peftlib.papers.hyperformer import counts
from peftlib.papers.hyperformer.pages import counts as pages

ALONE = {(f"HyperFormer-{size}", "total") for size in ("Small", "Base")}


@pytest.mark.parametrize("name, rows", [("table1", 12), ("table3", 4)])
def test_every_printed_count_is_ours_but_those_with_a_note(name, rows):
    found = counts.table(name).to_dict("records")
    assert len(found) == rows
    for row in found:
        for column in ("trained", "total"):
            assert row[f"{column}_agrees"] is ((row["method"], column) not in ALONE), row
        assert (row["note"] == "") == (row["trained_agrees"] and row["total_agrees"])


def test_the_multiples_that_disagree_are_a_hundredth_too_small():
    """The share beside them is right, and they do not follow from it."""
    for row in counts.table("table1").to_dict("records"):
        if not row["total_agrees"]:
            printed, by_share = (
                float(row["total_printed"].rstrip("x")),
                1 + 8 * float(row["trained_printed"].rstrip("%")) / 100,
            )
            assert 0.005 < by_share - printed < 0.015 and abs(row["total"] - by_share) < 0.001
            assert f"{by_share:.3f}" in row["note"]


def test_another_reduction_would_not_print_the_tables(monkeypatch):
    monkeypatch.setattr(counts, "TABLES", {"table1": {"HyperFormer++": 16}, "table3": {"Adapters†": 4}})
    assert not counts.table("table1").set_index("method").loc["HyperFormer++-Base", "trained_agrees"]
    assert not counts.table("table3").set_index("method").loc["Adapters†-Base", "trained_agrees"]


@pytest.mark.parametrize("reduction", [2, 8, 32])
@pytest.mark.parametrize("tasks", [1, 8, 1000])
@pytest.mark.parametrize("name", ["t5-small", "t5-base", "t5-large"])
def test_section_41_leaves_out_biases_and_norms_and_nothing_else(name, tasks, reduction):
    rows = counts.section41(shape(name), reduction, tasks)
    assert list(rows["paper"] + rows["biases"] + rows["norms"]) == list(rows["built"])
    assert (rows["biases"] > 0).all()


def test_section_41_on_t5_base():
    found = counts.section41(shape("t5-base")).set_index("method")
    assert list(found["paper"]) == [14_745_600, 4_983_040]
    assert found.loc["HyperFormer++", "built"] == 5_163_440 + 47_616


def test_the_page_shows_all_cells():
    assert pages.agreement() == {"cells": 32, "right": 28}
    assert "a hundredth of T5 less" in pages.parameters("table3")._repr_html_()
    assert "4TL(2hd + 2h)" in pages.formulae()._repr_html_() and "1,000" in pages.growth()._repr_html_()


def test_the_hypernetworks_are_worth_so_many_tasks():
    """A task's matrices are 48(2 768 24 + 792) numbers."""
    assert pages.worth() == {"one_each": round(122_400_000 / 1_807_488), "one_a_stack": round(5_210_000 / 1_807_488)}


@pytest.mark.parametrize(
    "method, rows", [("HyperFormer()", 2), ("HyperFormerPlusPlus()", 2), ("TaskAdapters()", 6), ("Full()", 0)]
)
def test_methods_have_their_printed_rows_once(method, rows):
    found = counts.of_method(method)
    assert len(found) == rows and all(row["agree"] == "yes" for row in found)
    if method == "TaskAdapters()":
        assert {row["configuration"] for row in found} == {
            "TaskAdapters(reduction=32, shared_norms=False)",
            "TaskAdapters(reduction=32)",
            "TaskAdapters(reduction=2)",
        }


def test_the_command_counts_a_table(capsys):
    assert cli.main(["count", "hyperformer/table3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["trained_printed"] for row in rows] == ["10.44%", "5.80%", "12.73%", "6.86%"]


def test_what_is_not_counted_is_refused():
    with pytest.raises(UsageError, match="no table hyperformer/table2 to count: expected one of table1, table3"):
        counts.table("table2")
    with pytest.raises(UsageError, match="'Adapters-Large' is no row of hyperformer/table1"):
        counts.expression("Adapters-Large")
