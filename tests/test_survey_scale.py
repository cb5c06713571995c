"""The survey's tables at their own scale, without weights: counts and memory of Table 5, and what Tables 1 and 2 tick."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from peftlib import cli, expressions, papers
from peftlib.accounting.effects import effects
from peftlib.accounting.estimate import estimate
from peftlib.errors import UsageError
from peftlib.papers import paper_table
from peftlib.papers.survey import counts, memory, pages, properties
from peftlib.report import efficiency

SIZES = {"T5-Large", "T5-3B", "T5-11B"}


@pytest.fixture
def fresh():
    """Forgets what has been looked up, before and after."""
    cached = (counts.configurations, counts.table5, memory.steps, properties.implemented, properties.configuration)

    def forget():
        for function in cached:
            function.cache_clear()

    forget()
    yield
    forget()


# --- counts -----------------------------------------------------------------------------------------------------------
def test_the_command_counts_all_rows_at_all_sizes(capsys):
    assert cli.main(["count", "survey/table5", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    printed = paper_table("survey", "table5")
    assert [(row["model"], row["method"]) for row in rows] == list(zip(printed["model"], printed["method"], strict=True))
    assert len(rows) == 45 and {row["model"] for row in rows} == SIZES
    there = {f"{row['model']} {row['method']}": row["trained"] for row in rows if row["trained"] is not None}
    exact = {
        "T5-Large Houlsby": 12_687_360,
        "T5-3B (IA)3": 1_376_256,
        "T5-11B (IA)3": 5_505_024,
        "T5-3B Prefix tuning": 304_246_272,
        "T5-11B Prefix tuning": 1_211_985_408,
        "T5-3B Prompt tuning": 17_694_720,
        "T5-3B LoRA (q and v)": 5_898_240,
        "T5-11B LoRA (all)": 91_226_112,
        "T5-3B KronA": 405_504,
        "T5-11B KronA": 774_144,
        "T5-3B MAM": 525_406_560,
        "T5-11B MAM": 1_942_753_632,
        "T5-3B UniPELT": 316_697_352,
        "T5-11B UniPELT": 1_238_592_264,
        "T5-11B Full tuning": 11_307_321_344,
    }
    assert {row: there[row] for row in exact} == exact
    assert set(there) == set(printed["model"] + " " + printed["method"]), "every row's method is built"
    assert cli.main(["count", "survey/table5"]) == 0
    assert "525,406,560" in capsys.readouterr().out


def test_built_models_and_closed_forms_are_one_and_six_printed_counts_are_neither():
    rows = counts.table5().dropna(subset=["trained"])
    assert (rows["trained"] == rows["formula"]).all()
    wrong = set(rows["model"] + " " + rows["method"]) - set(
        rows["model"][rows["agrees"].astype(bool)] + " " + rows["method"][rows["agrees"].astype(bool)]
    )
    six = {"T5-3B Prefix tuning", "T5-3B LoRA (q and v)", "T5-3B MAM", "T5-11B (IA)3", "T5-11B MAM", "T5-11B UniPELT"}
    assert wrong == six
    assert rows[~rows["agrees"].astype(bool)]["note"].str.len().gt(0).all(), "each says why"


def test_a_row_whose_method_is_not_there_says_so_and_comes_with_it(monkeypatch, fresh):
    """Whichever method that is: here KronA goes."""
    known = {name: fields for name, fields in expressions._declared().items() if name != "KronA"}
    monkeypatch.setattr(expressions, "_declared", lambda: known)
    monkeypatch.setattr(expressions, "METHODS", {})
    row = counts.table5().set_index(["model", "method"]).loc[("T5-3B", "KronA")]
    assert row["expression"] == counts.NOT_BUILT and row["trained"] is None and row["note"] == counts.NOT_BUILT
    assert "T5-3B KronA" not in counts.configurations() and "T5-3B KronA" not in memory.steps()
    assert "KronA" in pages.counts_said().data.partition("Not built")[2]


def test_what_is_no_table_is_refused_with_those_that_are(capsys):
    assert cli.main(["count", "survey/table6"]) == 2
    assert "survey/table5" in capsys.readouterr().err


# --- memory -----------------------------------------------------------------------------------------------------------
def test_the_kept_estimates_are_those_of_the_rows_and_of_the_code():
    kept = efficiency.benchmark("survey_memory")["rows"]
    wanted = memory.steps()
    assert {row: {name: one["method"] for name, one in found.items()} for row, found in kept.items()} == {
        row: {name: one["method"] for name, one in found.items()} for row, found in wanted.items() if row in kept
    }
    missing = {row.partition(" ")[2] for row in set(wanted) - set(kept)}
    assert not missing, "python benchmarks/survey_memory.py"
    step = wanted["T5-3B LN tuning"]["BoolQ"]
    assert step == {
        "method": "LayerNormTuning()",
        "backbone": "t5-3b",
        "batch": 2,
        "length": 512,
        "answer": 8,
        "precision": "bf16-true",
    }
    assert kept["T5-3B LN tuning"]["BoolQ"]["peak"] == pytest.approx(estimate(**step).peak, rel=0.02)


def test_the_command_estimates_all_rows_beside_the_printed_column(capsys):
    assert cli.main(["estimate", "survey/table5", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    printed = paper_table("survey", "table5")
    assert [(row["model"], row["method"], row["printed"]) for row in rows] == list(
        zip(printed["model"], printed["method"], printed["memory_gb"], strict=True)
    )
    kept = efficiency.benchmark("survey_memory")["rows"]
    for row in rows:
        steps = kept[f"{row['model']} {row['method']}"]
        assert row["estimated"] * 2**30 == pytest.approx(max(step["peak"] for step in steps.values()))
        assert row["off"] == pytest.approx(100 * (row["estimated"] / row["printed"] - 1))
    assert cli.main(["estimate", "survey/table5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 45 + 1 and "UniPELT" in lines[45] and "GiB" in lines[46]


def test_all_in_16_bits_is_eight_bytes_a_trained_number():
    true, full = (estimate("Full()", "minilm[:1]", 2, 8, precision) for precision in ("bf16-true", "fp32"))
    assert 2 * true.gradients == full.gradients
    for part in ("weights", "optimizer"):  # positions and the number of steps have whole numbers
        assert 2 * getattr(true, part) == pytest.approx(getattr(full, part), abs=10_000)
    with pytest.raises(UsageError, match="bf16-true"):
        estimate("Full()", "minilm[:1]", 2, 8, "bf16-false")


def test_memory_agrees_as_well_as_the_page_says():
    rows = memory.table()
    assert len(rows) == 45
    found = memory.agreement(rows).set_index("model")
    assert set(found.index) == SIZES and (found["methods"] == 15).all()
    assert (found["median"] < [16, 11, 4]).all() and (found["order"] > 0.7).all()
    assert (found["median_gb"] < found["median"]).tolist() == [True, True, False], "neither unit fits all sizes better"
    together = memory.besides(rows).set_index(["model", "method"])
    for method in ("Full tuning", "KronA"):
        row = together.loc[("T5-11B", method)]
        assert abs(row["together"] / row["printed"] - 1) < 0.03 < abs(row["estimated"] / row["printed"] - 1)
    assert memory.impossible(rows)["below16"].sum() == 0
    assert memory.impossible(rows).set_index("model").loc["T5-11B", "below32"] >= 14


def test_the_ram_column_supports_our_counts_where_it_can_tell():
    said = memory.disputed(memory.table()).set_index(["model", "method"])["says"]
    ours = [("T5-3B", "Prefix tuning"), ("T5-3B", "MAM"), ("T5-11B", "MAM")]
    assert (said[ours] == "ours").all() and (said.drop(ours) == "nothing").all()


def test_a_missing_file_says_what_writes_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    for page in (pages.ram_agreement, pages.ram_besides, pages.ram_impossible, pages.ram_disputed):
        assert "python benchmarks/survey_memory.py" in page().data
    assert memory.estimated() == {}
    with pytest.raises(UsageError, match=r"python benchmarks/survey_memory\.py"):
        memory.kept()


def test_estimates_of_another_configuration_are_not_shown(tmp_path, monkeypatch):
    other = memory.steps()["T5-3B MAM"]
    made = {name: step | {"peak": 1, "batch": 99} for name, step in other.items()}
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    (folder / "survey_memory.json").write_text(json.dumps({"rows": {"T5-3B MAM": made}}))
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    assert memory.estimated() == {}


# --- Tables 1 and 2 ---------------------------------------------------------------------------------------------------
SMALL = "minilm[:3]"


@pytest.mark.parametrize(
    "method, passed, merges, places",
    [
        ("HeadOnly()", 0, True, ""),
        ("Full()", 3, True, ""),
        ("LoRA(rank=2)", 3, True, "attention.key, attention.query, attention.value"),
        ("Layers(Houlsby(bottleneck=4), start=2)", 1, False, "attention.output, ffn.down"),
        ("PromptTuning(length=4)", 3, False, "embeddings.words"),
        ("AttentionFusion()", 0, False, "readout"),
        ("LST(skip=3)", 0, False, "readout"),
        ("LST(skip=3) + BitFit()", 3, False, "readout"),  # one trained tensor brings the whole way back
        ("FishMask()", 3, True, ""),
        ("HyperFormer(bottleneck=4)", 3, False, "attention.output, ffn.down"),  # whose modules are given parameters
    ],
)
def test_what_a_method_does_to_a_model_is_seen(method, passed, merges, places):
    found = effects(method, SMALL, 2, 16)
    assert (found.blocks, found.passed, found.merges, found.places) == (3, passed, merges, places)


def test_operations_that_are_added_are_counted():
    plain, ours = effects("HeadOnly()", SMALL, 2, 16), effects("Houlsby(bottleneck=8)", SMALL, 2, 16)
    assert ours.flops - plain.flops == 2 * 2 * 16 * 3 * 2 * 2 * 384 * 8  # two products a site, multiply and add
    assert effects("IA3()", SMALL, 2, 16).flops == plain.flops
    assert ours.peak < effects("Full()", SMALL, 2, 16).peak


@pytest.mark.parametrize(
    "value, printed, holds",
    [
        (0.093, "0.05 - 0.1", True),
        (0.073, "0.05-0.07", True),
        (0.0351, "0.05-0.07", False),
        (199.9, "200", True),
        (0.51, ">0.5", True),
        (0.5, ">0.5", False),
        (26.45, "6.6-26.4", True),
        (26.5, "6.6-26.4", False),
    ],
)
def test_printed_shares_are_read(value, printed, holds):
    assert properties.within(value, printed) is holds


def test_every_row_of_the_two_tables_has_a_configuration():
    named = list(paper_table("survey", "table1")["method"])
    assert set(paper_table("survey", "table2")["method"]) < set(named)
    for row in named:
        found = properties.configuration(row)
        assert set(found.why) <= {*properties.TICKS, *properties.SHARES}


def test_a_method_that_comes_is_found_by_its_name(monkeypatch, fresh):
    from peftlib import catalogue

    assert properties.implemented("Fish-Mask") == "FishMask" and properties.implemented("Cross-Attn tuning")
    assert properties.implemented("No such method") == ""
    houlsby = catalogue.methods()["Houlsby"]
    monkeypatch.setattr(catalogue, "methods", lambda: {"NoSuchMethod": houlsby})
    properties.implemented.cache_clear()
    assert properties.implemented("No such method") == "NoSuchMethod"
    assert properties.implemented("LoRA") == "", "what the list names and the library has not is not there"


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    return properties.table().set_index("method")


@pytest.mark.slow
def test_ticks_are_found_and_not_copied(found):
    assert found["expression"].notna().all(), "every row's method is built"
    assert set(found.index[found["passed"] == 0]) == {"Attention Fusion", "Ladder Side-Tuning"}
    assert found.loc["Cross-Attn tuning", "passed"] == 12 and found.loc["Cross-Attn tuning", "blocks"] == 24
    assert found.loc["(IA)3", "found_overhead_printed"] == properties.FREE
    assert found.loc["Ladder Side-Tuning", "memory"] < found.loc["LoRA", "memory"] < 1
    assert found.loc["Intrinsic SAID", "changed"] == 100


@pytest.mark.slow
def test_every_difference_is_explained(found):
    rows = properties.disagreements()
    assert set(rows["method"]) >= {"(IA)3", "Fish-Mask", "Ladder Side-Tuning", "Prefix-Tuning"}
    unexplained = rows[rows["why"] == ""]
    assert unexplained.empty, f"{papers.FOLDER}/survey/configurations.toml: say why\n{unexplained.to_string()}"
    assert "unexplained" not in pages.differences().text
