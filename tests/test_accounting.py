"""Parameters counted without weights, and what printed percentages allow."""

import os
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

from peftlib import backbones, catalogue
from peftlib.accounting.counting import count
from peftlib.accounting.estimate import estimate
from peftlib.backbones import anatomy_of
from peftlib.methods import METHODS
from peftlib.papers import rounds_to
from peftlib.papers.adaptbert import counts, denominators

T5_TOTALS = {"t5-large": 737_668_096, "t5-3b": 2_851_598_336, "t5-11b": 11_307_321_344}
# Trainable parameters of the survey's Table 5, with the configurations that its authors' code ran.
QUERY_VALUE = "LoRA(rank=8, sites=('query', 'value'))"
EVERYWHERE = "LoRA(rank=8, sites=('query', 'key', 'value', 'output', 'up', 'down'))"
SURVEY = [
    (QUERY_VALUE, "t5-large", 2_359_296),
    (QUERY_VALUE, "t5-11b", 20_054_016),
    (EVERYWHERE, "t5-large", 8_650_752),
    (EVERYWHERE, "t5-3b", 25_165_824),
    (EVERYWHERE, "t5-11b", 91_226_112),
    ("LayerNormTuning()", "t5-large", 124_928),
    ("PrefixTuning(length=30, mlp=None)", "t5-3b", 17_694_720),
    ("PrefixTuning(length=30)", "t5-large", 77_311_488),
    ("PrefixTuning(length=30)", "t5-11b", 1_211_985_408),
    ("Full()", "t5-large", 737_668_096),
    ("LoRA(rank=8)", "bert-base-uncased", 442_368),
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


def test_a_slice_is_counted_and_estimated_in_the_form_that_is_asked_for():
    heads, text = (count("LoRA(rank=8)", "t5-small[:2]", form=form) for form in ("heads", "text"))
    assert (heads.heads, text.heads) == (513 * 5, 0)
    assert heads.trainable == text.trainable == count("LoRA(rank=8)", "t5-small").trainable / 3  # of six blocks
    assert count("OutputLayer()", "t5-small[:2]", form="text").trainable == 32_128 * 512
    assert estimate("LoRA()", "t5-small[:2]", 1, 8, answer=2).flops < estimate("LoRA()", "t5-small", 1, 8, answer=2).flops


def test_what_is_counted_is_what_is_loaded_recorded_and_estimated():
    assert count("Full()", "minilm").trainable == backbones.load("minilm").model.num_parameters() == 22_565_376
    buffers = 2 * 512 * 8  # positions and token types, as integers
    assert estimate("HeadOnly()", "minilm", 1, 8, "fp32").weights == 4 * (22_565_376 + 385 * 5) + buffers


def test_many_methods_are_counted_in_seconds():
    started = time.process_time()
    assert count(" + ".join(["LoRA(rank=8)"] * 30), "bert-base-uncased").trainable == 30 * 442_368
    assert time.process_time() - started < 6  # it took twenty


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_counted_as_its_formula_says(name):
    method = METHODS[name]()
    backbone = "t5-small" if method.needs_decoder else "minilm"
    assert count(method, backbone).trainable == method.formula(anatomy_of(backbone).shape)


# --- AdaptBert's Table 3 ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def table3() -> pd.DataFrame:
    return counts.table3().set_index("method")


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
    fit = denominators.heads_fit()
    assert fit["possible"] and fit["h"] == 5383
    denominator = 1e6 * (fit["D_low"] + fit["D_high"]) / 2
    frame = denominators.cells("once")
    frame = frame[frame["group"] != "Hypernet"]
    assert len(frame) == 26
    for row in frame.to_dict("records"):
        assert rounds_to(100 * (row["count"] + fit["h"] * row["copies"]) / denominator, row["printed"]), row


def test_a_constant_in_every_copy_cannot_explain_them():
    table = denominators.regions().set_index(["group", "constant", "rule"])["possible"]
    assert not table["adapters and combinations", "per copy", "rounded"]
    assert table["adapters and combinations", "once", "rounded"]
    assert table["hypernetworks", "once", "cut off"]


def test_the_polygon_of_made_up_cells_is_where_they_came_from():
    counts = [1_000_000, 3_000_000, 7_500_000]
    cells = pd.DataFrame({"count": counts, "copies": 1.0, "printed": [f"{100 * (n + 5000) / 5e7:.3f}%" for n in counts]})
    found = denominators.polygon(cells)
    assert found["D_low"] <= 5e7 <= found["D_high"] and found["h_low"] <= 5000 <= found["h_high"]
    assert found["D_high"] - found["D_low"] < 1e5
    wrong = pd.concat([cells, pd.DataFrame({"count": [1_000_000], "copies": 1.0, "printed": ["9.999%"]})])
    assert denominators.polygon(wrong) is None


@pytest.mark.parametrize(
    "value, text, agrees",
    [
        (5.43, "5.4%", True),
        (5.46, "5.4%", False),
        (200.4, "+200%", True),
        (64.675, "64.67%", True),
        (64.676, "64.67%", False),
    ],
)
def test_rounding_is_that_of_the_printed_digits(value, text, agrees):
    assert rounds_to(value, text) is agrees


# --- estimates --------------------------------------------------------------------------------------------------------
FULL_FP32 = estimate("Full()", "minilm", 4, 16, "fp32", device="cpu")


def test_parts_have_their_closed_forms():
    total = count("Full()", "minilm").total
    numbers = total + 5 * 385
    fixed = sum(b.numel() * 8 for b in anatomy_of("minilm").model.buffers())  # positions, not trained
    assert FULL_FP32.weights == 4 * numbers + fixed
    assert FULL_FP32.gradients == 4 * numbers
    assert 0 <= FULL_FP32.optimizer - 8 * numbers < 4 * 500  # two moments, and a step count a tensor
    assert FULL_FP32.peak < FULL_FP32.weights + FULL_FP32.gradients + FULL_FP32.optimizer + 3 * FULL_FP32.activations


def test_flops_are_six_a_token_and_parameter():
    """Forward 2 and backward 4 for every weight that is multiplied; attention itself is small at 16 tokens."""
    multiplied = 6 * (4 * 384**2 + 2 * 384 * 1536)
    assert FULL_FP32.flops == pytest.approx(6 * multiplied * 4 * 16, rel=0.02)


def test_activations_grow_with_the_batch_and_gradients_do_not():
    twice = estimate("Full()", "minilm", 8, 16, "fp32", device="cpu")
    assert twice.activations == pytest.approx(2 * FULL_FP32.activations, rel=0.02)
    assert twice.gradients == FULL_FP32.gradients and twice.flops == pytest.approx(2 * FULL_FP32.flops, rel=0.01)


def test_efficient_methods_and_half_precision_cost_less():
    lora, half = (estimate("LoRA()", "minilm", 8, 32, precision) for precision in ("fp32", "bf16"))
    assert lora.optimizer < FULL_FP32.optimizer / 50
    assert half.activations < lora.activations and half.weights < 0.6 * lora.weights
    assert half.gradients == lora.gradients  # trained weights stay in fp32
    galore = estimate("GaLore(rank=8)", "minilm", 4, 16, "fp32", device="cpu")
    assert galore.gradients == FULL_FP32.gradients and galore.optimizer < FULL_FP32.optimizer / 2


@pytest.mark.parametrize("backbone", ["minilm[:2]", "t5-small[:2]"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_estimated(name, backbone):
    if METHODS[name].needs_decoder and backbone.startswith("minilm"):
        pytest.skip("has no place in an encoder alone")
    found = estimate(catalogue.methods()[name].small, backbone, 2, 8, "bf16", 2, device="cpu")
    assert found.peak >= found.weights + found.optimizer and found.flops > 0
    assert (found.optimizer > 0) and found.activations > 0


def test_t5_11b_is_estimated_on_shapes_alone():
    found = estimate("LoRA()", "t5-11b", 32, 128, "bf16")
    assert 2 * 11_307_321_344 < found.weights < 2.1 * 11_307_321_344
    assert found.peak > found.weights + found.activations


MEASURE = """
import torch
from peftlib.accounting.memory import PeakMemory
from peftlib.backbones import SHAPES, from_config
from peftlib.data.tasks import get_task
from peftlib.model import Tuned

def steps(batch, layers):
    config = SHAPES["minilm"]()
    config.num_hidden_layers, config.vocab_size = layers, 30522
    body = from_config(config)
    body.pooler = None
    model = Tuned(body, {method!r}, [get_task("sst")]).train()
    model.assume()
    model.anatomy.set_attention_dropout(0.0)
    optimizer = model.optimizer(1e-3, 0.01)
    mask = torch.ones(batch, {length}, dtype=torch.long)
    mask[:, -1] = 0
    inputs = {{"input_ids": mask.clone(), "attention_mask": mask}}
    for _ in range(2):  # the second has an optimizer state
        model.loss("sst", model("sst", inputs), torch.zeros(batch, dtype=torch.long)).backward()
        optimizer.step()
        optimizer.zero_grad()

torch.set_num_threads(1)
steps(1, 1)  # what the libraries load at first use is no part of it
with PeakMemory() as peak:
    steps({batch}, 6)
print(peak.bytes)
"""


@pytest.mark.parametrize("method", ["Full()", "LoRA()", "QLoRA(rank=8)", "SparseAdapter()"])
def test_the_estimate_is_near_the_measured_peak(method):
    batch, length = 32, 64
    script = MEASURE.format(method=method, batch=batch, length=length)
    # glibc otherwise keeps freed blocks of up to 32 MB for later, which are no tensor's any more
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    if done.stdout.strip() == "None":
        pytest.skip("neither a GPU nor /proc here to measure with")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = estimate(method, "minilm", batch, length, "fp32", device=device)
    assert found.peak == pytest.approx(int(done.stdout), rel=0.25)
