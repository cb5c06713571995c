"""The papers' numbers are read as printed, and what does not agree in them is found."""

import functools
import tomllib
from pathlib import Path

import pytest

from peftlib import papers
from peftlib.errors import DataError, UsageError
from peftlib.papers import paper_table
from peftlib.papers.adaptbert.experiments import TABLE3
from peftlib.report import arithmetic, formulas


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


def test_statements():
    statements = paper_table("adaptbert", "statements")
    assert statements["id"].is_unique and statements["section"].iloc[0] == "abstract"


@pytest.mark.parametrize(
    "paper, table, hint",
    [("adaptbart", "table3", "'adaptbert'"), ("adaptbert", "table9", "'table"), ("adaptbert", "../README", "Known")],
)
def test_unknown_names_are_refused(paper, table, hint):
    with pytest.raises(UsageError, match=hint):
        paper_table(paper, table)


def test_a_broken_file_is_named(tmp_path, monkeypatch):
    home = tmp_path / "one" / "numbers"
    home.mkdir(parents=True)
    (home / "table1.csv").write_text("")
    (tmp_path / "one" / "paper.toml").write_text("")
    monkeypatch.setattr(papers, "FOLDER", tmp_path)
    with pytest.raises(DataError, match="table1.csv"):
        paper_table("one", "table1")


# --- errata -----------------------------------------------------------------------------------------------------------
WITH_ERRATA = [paper for paper in papers.papers() if (papers.FOLDER / paper / "errata.toml").is_file()]
DISAGREEING = Path(__file__).parent / "disagreeing"  # one file a paper: the rows that do not agree, in their order


@functools.cache
def examined(paper: str) -> tuple:
    """A paper's errata; and table, row and column of each cell that its relations look at."""
    found, cells = set(), formulas.Tables.cells

    def noted(self, table, pattern, first, last):
        rows = list(self.frame(table).index) if pattern is None else self.rows(table, pattern)
        columns = list(self.frame(table).columns)
        columns = columns[columns.index(first) : columns.index(last or first) + 1] if first in columns else columns
        found.update((table, row, column) for row in rows for column in columns)
        return cells(self, table, pattern, first, last)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formulas.Tables, "cells", noted)
        return arithmetic.errata(paper), found


def recomputed(paper: str):
    return examined(paper)[0]


def test_every_paper_has_a_page_of_errata():
    assert set(WITH_ERRATA) == set(papers.papers())
    assert all((papers.FOLDER.parents[1] / "notebooks" / paper / "errata.ipynb").is_file() for paper in WITH_ERRATA)


@pytest.mark.parametrize("paper", WITH_ERRATA)
def test_every_row_says_what_and_where(paper):
    found = recomputed(paper)
    assert set(found["agrees"]) == {True, False}
    for column in ("item", "where", "printed", "recomputed"):
        assert found[column].str.strip().ne("").all() and not found[column].str.contains(r"[{}]|\bnan\b").any()
    assert ((found["consequence"] == "") == found["agrees"]).all()
    assert not found.duplicated().any()


@pytest.mark.parametrize("paper", sorted(path.stem for path in DISAGREEING.glob("*.txt")))
def test_these_rows_disagree_and_no_others(paper):
    """A change of the list is a change of what the book says of a paper."""
    found = recomputed(paper)
    wrong = [f"{where} | {item}" for item, where in found.loc[~found["agrees"], ["item", "where"]].itertuples(index=False)]
    assert wrong == (DISAGREEING / f"{paper}.txt").read_text(encoding="utf-8").splitlines()


def unread(paper: str) -> set[str]:
    """Rows of which some number is looked at by none of a paper's relations: ``table1[row]``. Of a sentence its number is
    there twice, as text and as value."""
    tables = formulas.Tables(papers.FOLDER / paper / "numbers", _rows_of(paper))
    found = set()
    for name in set(tables.names()) - {"methods", "counts"}:  # of ours: by sections, by expressions
        frame = tables.frame(name)
        for row in frame.index:
            numbers = [column for column in frame if isinstance(frame.at[row, column], formulas.Printed)]
            numbers = set(numbers) - {*tables._naming(name, frame), "section", "seed", "run"}
            left = {column for column in numbers if (name, row, column) not in examined(paper)[1]}
            if left and (name != "statements" or not {"printed", "value"} - left):
                found.add(f"{name}[{row}]")
    return found


def _rows_of(paper: str) -> dict:
    return tomllib.loads((papers.FOLDER / paper / "errata.toml").read_text(encoding="utf-8")).get("rows", {})


@pytest.mark.parametrize(
    "paper, without",
    [
        # conditions of the experiments, which nothing else printed depends on
        ("xpeft", ["3.adapters", "4.1.deviation", "4.1.least", "4.1.most", "4.2.k", "D.points", "D.categories"]),
        ("hyperformer", ["3.validation", "3.temperature"]),
        ("survey", []),
    ],
)
def test_every_number_of_a_paper_is_looked_at(paper, without):
    unknown = {"table2[KronA (residual)]"} if paper == "survey" else set()  # of what configuration?
    assert unread(paper) == {f"statements[{key}]" for key in without} | unknown


def test_the_surveys_tables_and_its_taxonomy_are_of_one_print():
    named, counts = paper_table("survey", "table1").set_index("method"), paper_table("survey", "counts").set_index("row")
    printed = paper_table("survey", "table5")
    millions = dict(zip(printed["model"] + " " + printed["method"], printed["trainable"], strict=True))
    assert counts["printed"].astype(float).to_dict() == {row: millions[row] for row in counts.index}
    methods = paper_table("survey", "methods").set_index("method")
    both = methods.index.intersection(named.index)
    assert len(both) == 27 and (methods.loc[both, "types_printed"] == named.loc[both, "type"]).all()
    assert (methods.loc[both, "overhead_printed"] == named.loc[both, "overhead_printed"]).all()


def test_what_is_said_of_the_new_papers_is_of_their_rows():
    heads = {
        paper: papers.part(paper, "errata").headline(recomputed(paper)) for paper in ("xpeft", "hyperformer", "survey")
    }
    assert (heads["xpeft"]["norms"], heads["xpeft"]["hard"], heads["xpeft"]["scores"]) == ("699", 8, 39)
    assert (heads["hyperformer"]["lead_printed"], heads["hyperformer"]["lead"]) == ("+0.75", "+0.02")
    assert (heads["survey"]["wrong"], heads["survey"]["counts"], heads["survey"]["copied"]) == (6, 45, 5)


def test_shares_trained_by_hyperformer_are_those_of_t5():
    found = rows(recomputed("hyperformer"), "share trained for a task by", "Table 1").query("where == 'Table 1'")
    assert len(found) == 12 and found["agrees"].all()


def test_x_pefts_tables_follow_from_its_appendix():
    found = recomputed("xpeft")
    for where, n in {"Table 2, from": 72, "Table 3, from": 40, "Table 4": 20, "appendix F": 5}.items():
        part = found[found["where"].str.startswith(where)]
        assert len(part) == n and part["agrees"].all()


@pytest.fixture(scope="module")
def errata():
    return recomputed("adaptbert")


def rows(errata, text: str, where: str = ""):
    return errata[errata["item"].str.contains(text, regex=False) & errata["where"].str.contains(where, regex=False)]


def test_only_disagreement_has_a_consequence(errata):
    assert errata["item"].duplicated().sum() < len(errata) and set(errata["agrees"]) == {True, False}
    assert (errata.loc[errata["agrees"], "consequence"] == "").all()
    assert (errata.loc[~errata["agrees"], "consequence"] != "").all()


def test_table2_averages_are_exchanged(errata):
    found = rows(errata, "average of", "Table 2")
    assert len(found) == 4 and not found["agrees"].any()
    assert list(found["recomputed"]) == ["0.3840", "0.4163", "0.7643", "0.7533"]
    assert found["consequence"].str.contains("exchanged").all()


def test_table3_averages_agree_but_for_full_finetuning(errata):
    found = rows(errata, "average of", "Table 3")
    assert len(found) == 19
    assert list(found.loc[~found["agrees"], "item"]) == ["average of Finetune, Multi-task"]


def test_the_conclusions_gap_is_that_of_the_exchanged_average(errata):
    found = rows(errata, "difference of LoRA+Adapter").set_index("item")["agrees"]
    assert found["difference of LoRA+Adapter [r=128, a=128] from full fine-tuning, by printed averages"]
    assert not found["difference of LoRA+Adapter [r=128, a=128] from full fine-tuning, by means of the scores"]


def test_storage_of_table4_and_the_formula_disagree(errata):
    stored = rows(errata, "stored of Adapter[a=256]", "Table 4").iloc[0]
    assert (stored["printed"], stored["recomputed"], stored["agrees"]) == ("39.32%", "64.67%", False)
    formula = rows(errata, "2md + m")
    assert len(formula) == 6 and not formula["agrees"].any()
    assert not rows(errata, "LoRA's SST scores")["agrees"].any()


@pytest.fixture(scope="module")
def compacter():
    return recomputed("compacter")


def test_compacters_consequences_stand_where_numbers_disagree(compacter):
    assert set(compacter["agrees"]) == {True, False}
    assert (compacter.loc[compacter["agrees"], "consequence"] == "").all()
    assert (compacter.loc[~compacter["agrees"], "consequence"] != "").all()


def test_compacters_averages_are_over_all_numbers(compacter):
    found = rows(compacter, "average of", "Table")
    assert len(found) == 12 + 14 + 14 + 18 + 12 + 9 and found["agrees"].all()


def test_compacters_table3_does_not_count_what_it_measures(compacter):
    found = rows(compacter, "share trained by", "Table 3").set_index("item")
    wrong = {label.split()[3] for label in found.index[~found["agrees"]]}
    assert len(found) == 10 and wrong == {"PHM-Adapter", "Intrinsic-SAID"}
    assert not rows(compacter, "peak memory of full fine-tuning", "Table 3")["agrees"].any()


def test_compacters_changes_of_memory_are_relative_to_the_method_itself(compacter):
    memory, time = rows(compacter, "change of memory by", "Table 3"), rows(compacter, "change of time by", "Table 3")
    assert len(memory) == len(time) == 10
    assert not memory["agrees"].any() and memory["consequence"].str.startswith("The change was divided by").all()
    assert time["agrees"].all()
    assert (
        dict(zip(memory["item"], memory["recomputed"], strict=True))[
            "change of memory by Compacter++, relative to full fine-tuning"
        ]
        == "-29.55%"
    )


def test_compacters_lead_on_superglue_is_that_of_two_small_tasks(compacter):
    found = rows(compacter, "CB and COPA left out").set_index("item")["agrees"]
    assert not found["Compacter (n=12) above full fine-tuning, CB and COPA left out"]
    assert found["Compacter++ (n=12) above full fine-tuning, CB and COPA left out"]


def test_compacters_shares_of_norms_leave_two_norms_out(compacter):
    found = rows(compacter, "share of the layer norms")
    assert len(found) == 3 and not found["agrees"].any()
    assert all(printed in text for printed, text in zip(found["printed"], found["consequence"], strict=True))
    assert rows(compacter, "share of the biases")["agrees"].all()


def test_every_number_of_compacters_sentences_is_looked_at(compacter):
    said = paper_table("compacter", "statements")
    without = {"3.2.complexity", "4.compacter", "4.phm", "E.small"}  # formulae, and a size that counts show
    assert set(said.loc[~said["id"].isin(without), "what"]) <= set(compacter["item"])
