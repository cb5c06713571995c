"""The papers' numbers are read as printed, and what does not agree in them is found."""

import pytest

from peftlib import papers
from peftlib.errors import DataError, PeftlibError, UsageError
from peftlib.experiments import TABLE3
from peftlib.papers import paper_table
from peftlib.study import EXPERIMENTS


def test_table3_has_the_rows_that_are_run():
    table = paper_table("adaptbert", "table3")
    assert list(table["method"]) == list(TABLE3)
    assert table["average"].dtype == float
    assert list(table["updated_printed"][[8, 15]]) == ["10.8%", "5.1%"]  # as printed, not as 10.80


@pytest.mark.parametrize("table", ["table2", "table3", "table4"])
def test_printed_percentages_are_the_numbers(table):
    frame = paper_table("adaptbert", table)
    for column in ("updated", "stored"):
        assert [float(t.strip("%+")) for t in frame[f"{column}_printed"]] == list(frame[column])


def test_statements_and_claims():
    statements = paper_table("adaptbert", "statements")
    assert statements["id"].is_unique and statements["section"].iloc[0] == "abstract"
    claims = paper_table("adaptbert", "claims")
    assert claims["id"].is_unique and set(claims["section"]) == {"abstract", "6.1", "6.2", "7"}
    assert set(claims["experiment"]) - {""} <= set(EXPERIMENTS)


@pytest.mark.parametrize("paper, table, hint", [
    ("adaptbart", "table3", "'adaptbert'"), ("adaptbert", "table9", "'table"), ("adaptbert", "../README", "Known")])
def test_unknown_names_are_refused(paper, table, hint):
    with pytest.raises(UsageError, match=hint):
        paper_table(paper, table)


def test_a_broken_file_is_named(tmp_path, monkeypatch):
    home = tmp_path / "data" / "papers" / "one"
    home.mkdir(parents=True)
    (home / "table1.csv").write_text("")
    monkeypatch.setattr(papers.records, "root", lambda: tmp_path)
    with pytest.raises(DataError, match="table1.csv"):
        paper_table("one", "table1")


def test_no_folder_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(papers.records, "root", lambda: tmp_path)
    monkeypatch.setattr(papers, "BESIDE_THE_PACKAGE", tmp_path)
    with pytest.raises(PeftlibError, match="PEFTLIB_ROOT"):
        papers.papers()
