"""The Compacter paper's own numbers: its parameter columns and formulae recounted, its tables read as printed."""

import json

import pytest

from peftlib import cli
from peftlib.backbones import anatomy_of
from peftlib.errors import UsageError
from peftlib.papers import paper_table, rounds_to
from peftlib.papers.compacter import counts

ALONE = {
    ("table6", "PHM-Adapter (n=4)", "trained"),
    ("table6", "PHM-Adapter (n=4)", "total"),
    *(("table6", f"Intrinsic-SAID (d'={d}K)", "total") for d in ("0.4", "1.4", "2.5", "10")),
}


@pytest.fixture(scope="module")
def tables():
    return {name: counts.table(name) for name in counts.TABLES}


@pytest.mark.parametrize("name", counts.TABLES)
def test_every_printed_count_is_ours_but_those_with_a_note(tables, name):
    rows = tables[name].to_dict("records")
    assert len(rows) == {"table1": 12, "table2": 12, "table6": 14, "table7": 14, "table8": 9, "table9": 18}[name]
    for row in rows:
        for column in ("trained", "total"):
            assert row[f"{column}_agrees"] is ((name, row["method"], column) not in ALONE), row
        assert (row["note"] == "") == (row["trained_agrees"] and row["total_agrees"])


def test_counts_of_table1_without_the_norms(tables):
    found = {row["method"]: row["trained"] for row in tables["table1"].to_dict("records")}
    assert found["T5-Base"] == 222_882_048
    assert found["BitFit"] == 280_932  # trains no norm's weight
    added = {
        "Adapter": 1_807_488,
        "Pfeiffer-Adapter": 903_744,
        "AdapterDrop": 1_054_368,
        "Adapter-LowRank": 114_048,
        "PHM-Adapter (n=12)": 351_360,
        "Compacter (n=4)": 114_112,
        "Compacter++ (n=4)": 57_088,
    }
    assert {name: found[name] - 47_616 for name in added} == added


def test_table7_leaves_the_output_layer_out_of_its_totals(tables):
    one, seven = (tables[t].set_index("method") for t in ("table1", "table7"))
    for name in ("Adapter", "BitFit", "Compacter (n=4)"):
        assert seven.loc[name, "trained"] - one.loc[name, "trained"] == 32_100 * 768
        assert seven.loc[name, "total"] == one.loc[name, "total"]
    with_it = 1 + 8 * seven.loc["Adapter", "trained"] / 222_882_048
    assert not rounds_to(with_it, seven.loc["Adapter", "total_printed"]) and with_it > 1.9


def test_a_vocabulary_of_32128_words_would_not_print_table7(tables):
    adapter = tables["table7"].set_index("method").loc["Adapter"]
    assert not rounds_to(100 * (adapter["trained"] + 28 * 768) / (222_882_048 + 28 * 768), adapter["trained_printed"])


# --- formulae and shares ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "backbone, a, n", [("t5-base", 24, 4), ("t5-base", 24, 12), ("t5-small", 16, 16), ("t5-large", 32, 8)]
)
def test_section4_leaves_out_biases_and_norms_and_nothing_else(backbone, a, n):
    rows = counts.section4(anatomy_of(backbone).shape, a, n)
    assert list(rows["paper"] + rows["biases"] + rows["norms"]) == list(rows["built"])
    assert (rows["biases"] > 0).all()


def test_section4_on_t5_base():
    found = counts.section4(anatomy_of("t5-base").shape, 24, 4).set_index("method")
    assert list(found["paper"]) == [1_769_472, 448_512, 76_096]
    assert set(found["biases"]) == {38_016} and set(found["norms"]) == {47_616}


@pytest.mark.parametrize(
    "expression, norms, biases",
    [("Compacter(n=4)", 28.49, 23.51), ("CompacterPlusPlus(n=4)", 44.01, 18.15), ("PHMAdapter(n=4)", 8.63, 7.12)],
)
def test_shares_in_appendix_b_are_of_the_60_norms_inside_blocks(expression, norms, biases):
    whole = counts.built(expression, "t5-base")
    adapters = 24 if "PlusPlus" in expression else 48
    assert rounds_to(100 * 60 * 768 / whole, str(norms)) and not rounds_to(100 * 62 * 768 / whole, str(norms))
    assert rounds_to(100 * adapters * (768 + 24) / whole, str(biases))


# --- the tables as printed --------------------------------------------------------------------------------------------
def test_table3_compares_time_with_full_tuning_but_memory_with_the_method():
    rows = paper_table("compacter", "table3").to_dict("records")
    full = rows[0]
    for row in rows[1:]:
        memory, minutes = row["memory_mb"] - full["memory_mb"], row["minutes"] - full["minutes"]
        assert abs(100 * memory / row["memory_mb"] - float(row["memory_change_printed"].strip("%"))) < 0.02, row
        assert abs(100 * minutes / full["minutes"] - float(row["minutes_change_printed"].strip("%"))) < 0.02, row


@pytest.mark.parametrize("name", counts.TABLES)
def test_averages_are_means_over_all_columns(name):
    frame = paper_table("compacter", name).set_index("method")
    scores = frame.drop(columns=["total_printed", "trained_printed", "marks_printed", "average"]).astype(float)
    far = (scores.mean(axis=1) - frame["average"]).abs() > 0.0051
    assert not far.any(), list(frame.index[far])


@pytest.mark.parametrize("name", ["table4", "table5", "table10", "table11"])
def test_learning_rates_are_of_the_papers_grid(name):
    rates = paper_table("compacter", name)
    assert set(rates["lr"]) <= {3e-5, 3e-4, 3e-3, 3e-2, 3e-1} and rates["method"].is_unique


# --- the command ------------------------------------------------------------------------------------------------------
def test_the_command_prints_a_table(capsys):
    assert cli.main(["count", "compacter/table8", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["expression"] == "PHMAdapter(n=4, bottleneck=24)" and rows[0]["trained_agrees"] is True
    assert cli.main(["count", "compacter/table1"]) == 0
    assert "Pfeiffer-Adapter" in capsys.readouterr().out


def test_an_unknown_table_is_refused(capsys):
    with pytest.raises(UsageError, match="table3.*table9"):
        counts.table("table3")
    assert cli.main(["count", "compacter/table3"]) == 2
    assert "compacter/table9" in capsys.readouterr().err


def test_the_page_shows_which_rows_agree():
    from peftlib.papers.compacter.pages.counts import TITLES, agreement, parameters

    assert set(TITLES) == set(counts.TABLES)
    assert agreement() == {"cells": 158, "right": 158 - len(ALONE)}
    shown = repr(parameters("table6"))
    assert shown.count(" no ") == 5 and "the total is that of d' = 20K" in shown
