"""Parameters counted without weights, and what printed percentages allow."""

import pandas as pd
import pytest

from peftlib.accounting import printed
from peftlib.accounting.counting import adaptbert_table3, count, rounds_to
from peftlib.backbones import anatomy_of
from peftlib.errors import UsageError
from peftlib.methods import METHODS

T5_TOTALS = {"t5-large": 737_668_096, "t5-3b": 2_851_598_336, "t5-11b": 11_307_321_344}
# Trainable parameters of the survey's Table 5, with the configurations that its authors' code ran.
QUERY_VALUE = "LoRA(rank=8, sites=('query', 'value'))"
EVERYWHERE = "LoRA(rank=8, sites=('query', 'key', 'value', 'output', 'up', 'down'))"
SURVEY = [
    (QUERY_VALUE, "t5-large", 2_359_296), (QUERY_VALUE, "t5-11b", 20_054_016), (EVERYWHERE, "t5-large", 8_650_752),
    (EVERYWHERE, "t5-3b", 25_165_824), (EVERYWHERE, "t5-11b", 91_226_112), ("LayerNormTuning()", "t5-large", 124_928),
    ("PrefixTuning(length=30, mlp=None)", "t5-3b", 17_694_720), ("PrefixTuning(length=30)", "t5-large", 77_311_488),
    ("PrefixTuning(length=30)", "t5-11b", 1_211_985_408),
    ("Full()", "t5-large", 737_668_096), ("LoRA(rank=8)", "bert-base-uncased", 442_368),
]


@pytest.mark.parametrize("backbone, total", T5_TOTALS.items())
def test_totals_are_the_published_ones(backbone, total):
    assert anatomy_of(backbone).shape.total == total


@pytest.mark.parametrize("method, backbone, expected", SURVEY)
def test_counts_of_the_survey(method, backbone, expected):
    assert count(method, backbone).trainable == expected


def test_every_task_has_its_copy_and_its_head():
    shared, one = count("LoRA(rank=8)", "minilm", 4), count("LoRA(rank=8)", "minilm", 1)
    own = count("PerTask(LoRA(rank=8))", "minilm", 4)
    assert shared.stored == one.stored and own.stored == 4 * one.stored
    assert one.heads == 385 * 5 and own.heads == 385 * (5 + 1 + 1 + 5)
    assert count("LoRA(rank=8)", "minilm", ["sts", "cfimdb"]).heads == 385 * 3


def test_as_dict_has_percentages_of_the_backbone():
    out = count("LoRA(rank=8)", "bert-base-uncased", 3).as_dict()
    assert out["trainable_percent"] == pytest.approx(100 * 442_368 / 109_482_240)
    assert (out["method"], out["tasks"], out["total"]) == ("LoRA()", 3, 109_482_240)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_counted_as_its_formula_says(name):
    method = METHODS[name]()
    assert count(method, "minilm").trainable == method.formula(anatomy_of("minilm").shape)


@pytest.mark.parametrize("arguments, hint", [
    (("LoRA(rank=8)", "minilm", 0), "at least 1"), (("LoRA(rank=8)", "minilm", ["sat"]), "sst"),
    (("LoRA(rnk=8)", "minilm"), "rnk"), (("LoRA()", "no/such-folder"), "known")])
def test_what_cannot_be_counted_is_refused(arguments, hint):
    with pytest.raises(UsageError, match=hint):
        count(*arguments)


# --- AdaptBert's Table 3 ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def table3() -> pd.DataFrame:
    return adaptbert_table3().set_index("method")


def test_table3_lora_rows_agree(table3):
    rows = table3[table3.index.str.startswith("LoRA[")]
    assert len(table3) == 19 and len(rows) == 4
    assert rows["updated_agrees"].all() and rows["stored_agrees"].all()
    assert table3.loc["Finetune", ["updated_agrees", "stored_agrees"]].all()


def test_table3_adapters_are_stored_three_times(table3):
    adapters = table3[table3.index.str.startswith("Adapter")]
    assert (adapters["stored"] == 3 * adapters["updated"]).all()
    combined = table3.loc["LoRA+Adapter [r=8, a=64]"]
    lora, adapter = table3.loc["LoRA[r=8]"], table3.loc["Adapter[a=64]"]
    assert combined["updated"] == lora["updated"] + adapter["updated"]
    assert combined["stored"] == lora["stored"] + 3 * adapter["updated"]


def test_one_denominator_and_the_heads_explain_adapters_and_combinations():
    """Not BERT-base alone, but 0.22 M more and the three heads, in all 18 cells at once."""
    fit = printed.heads_fit()
    assert fit["possible"] and fit["h"] == 5383
    denominator = 1e6 * (fit["D_low"] + fit["D_high"]) / 2
    frame = printed.cells("once")
    frame = frame[frame["group"] != "Hypernet"]
    assert len(frame) == 26
    for row in frame.to_dict("records"):
        assert rounds_to(100 * (row["count"] + fit["h"] * row["copies"]) / denominator, row["printed"]), row


def test_a_constant_in_every_copy_cannot_explain_them():
    table = printed.regions().set_index(["group", "constant", "rule"])["possible"]
    assert not table["adapters and combinations", "per copy", "rounded"]
    assert table["adapters and combinations", "once", "rounded"]
    assert table["hypernetworks", "once", "cut off"]


def test_the_polygon_of_made_up_cells_is_where_they_came_from():
    counts = [1_000_000, 3_000_000, 7_500_000]
    cells = pd.DataFrame({"count": counts, "copies": 1.0,
                          "printed": [f"{100 * (n + 5000) / 5e7:.3f}%" for n in counts]})
    found = printed.polygon(cells)
    assert found["D_low"] <= 5e7 <= found["D_high"] and found["h_low"] <= 5000 <= found["h_high"]
    assert found["D_high"] - found["D_low"] < 1e5
    wrong = pd.concat([cells, pd.DataFrame({"count": [1_000_000], "copies": 1.0, "printed": ["9.999%"]})])
    assert printed.polygon(wrong) is None


@pytest.mark.parametrize("value, text, agrees", [(5.43, "5.4%", True), (5.46, "5.4%", False), (200.4, "+200%", True),
                                                 (64.675, "64.67%", True), (64.676, "64.67%", False)])
def test_rounding_is_that_of_the_printed_digits(value, text, agrees):
    assert rounds_to(value, text) is agrees
