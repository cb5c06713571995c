"""The survey's S4, as an expression."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import folder, inputs_of, train

from peftlib import backbones, deltas
from peftlib.accounting.counted import shape
from peftlib.accounting.counting import count
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.methods import parse
from peftlib.model import Tuned
from peftlib.papers.survey import spindle as s4
from peftlib.papers.survey.s4 import groups


@pytest.mark.parametrize("blocks, sizes", [(6, (1, 2, 2, 1)), (12, (2, 4, 4, 2)), (24, (4, 8, 8, 4)), (13, (2, 5, 4, 2))])
def test_a_spindle_is_wider_in_the_middle(blocks, sizes):
    assert s4.spindle(blocks) == sizes and sum(sizes) == blocks


@pytest.mark.parametrize("backbone", ["t5-base", "bert-base-uncased", "roberta-base", "minilm"])
def test_it_trains_half_a_percent_in_equal_blocks(backbone):
    method = parse(s4.expression(shape(backbone)))
    found, sizes = count(method, backbone), backbones.anatomy_of(backbone).shape
    assert found.percent("trainable") == pytest.approx(0.5, abs=0.015)
    by_block = {}
    for leaf in method.leaves(("task",)):
        start, stop, stack = leaf.layers.blocks
        for block in range(start, stop):
            one = sizes.only(block, block + 1, stack)
            by_block[stack, block] = by_block.get((stack, block), 0) + leaf.method.formula(one)
    assert len(by_block) == sizes.layers and sum(by_block.values()) == found.trainable
    target = 0.005 * sizes.total / sizes.layers
    assert all(abs(numbers / target - 1) < 0.06 for numbers in by_block.values())


def test_it_learns_in_every_block():
    torch.manual_seed(0)
    model = Tuned(backbones.from_config(backbones.SHAPES["minilm"]()), s4.expression(shape("minilm")), [get_task("sst")])
    before = {n: t.clone() for n, t in model.delta().items()}
    train(model, "bert", tasks=("sst",))
    blocks = {
        n.split("layer.")[1].split(".")[0] for n, t in model.delta().items() if "layer." in n and (t != before[n]).any()
    }
    assert blocks == set("012345") and model("sst", inputs_of("sst", "bert")).isfinite().all()


# --- on an encoder-decoder --------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    """A folder with a small T5 of six blocks a stack, and S4 on it."""
    path = folder(tmp_path_factory.mktemp("t5"), "t5", num_layers=6, num_decoder_layers=6)
    return path, s4.expression(shape(str(path)), share=0.1)


def on_t5(t5, seed=0) -> Tuned:
    torch.manual_seed(seed)
    path, expression = t5
    return Tuned(backbones.load(str(path)).model, expression, [get_task("sst")], dropout=0.0).eval()


def said_by(model: Tuned) -> torch.Tensor:
    with torch.no_grad():
        return model("sst", inputs_of("sst", "t5")).clone()


def test_on_a_t5_it_has_four_groups_a_stack_and_all_of_them_learn(t5):
    model = on_t5(t5)
    assert t5[1].count("Layers(") == 2 * len(s4.GROUPS)
    before = {n: t.clone() for n, t in model.delta().items()}
    losses = train(model, "t5", steps=20, tasks=("sst",))
    assert losses[-1] < losses[0]
    after = model.delta()
    moved = {(stack, i) for n in after for stack in ("encoder", "decoder") for i in range(6)
             if f"{stack}.block.{i}." in n and not torch.equal(after[n], before[n])}  # fmt: skip
    assert moved == {(stack, i) for stack in ("encoder", "decoder") for i in range(6)}


def test_on_a_t5_it_is_saved_and_loaded(t5, tmp_path):
    model = on_t5(t5)
    train(model, "t5", steps=3, tasks=("sst",))
    model.finish()
    expected = said_by(model)
    assert not torch.equal(expected, said_by(on_t5(t5)))
    deltas.save(model, tmp_path / "s4.safetensors", backbone="t5")
    loaded = deltas.load(tmp_path / "s4.safetensors", backbones.load(str(t5[0])).model)
    assert torch.equal(said_by(loaded.eval()), expected) and loaded.counts() == model.counts()


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.filterwarnings("error:None of the inputs")
def test_on_a_t5_gradients_are_the_same_under_checkpointing(t5, reentrant):
    model = on_t5(t5)
    train(model, "t5", steps=1, tasks=("sst",))
    model.zero_grad()
    found = []
    for checkpointed in (False, True):
        twin, runs = copy.deepcopy(model).train(), []
        if checkpointed:
            twin.backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
        twin.anatomy.at("ffn.up")[-1].module.register_forward_hook(lambda *_, runs=runs: runs.append(1))
        twin("sst", inputs_of("sst", "t5")).square().sum().backward()
        assert len(runs) == 1 + checkpointed, "the last block ran a second time"
        found.append({n: p.grad for n, p in twin.named_parameters() if p.requires_grad})
    assert found[0].keys() == found[1].keys()
    for name, plain in found[0].items():
        torch.testing.assert_close(found[1][name], plain, rtol=1e-5, atol=1e-6, msg=name)


def test_on_a_t5_it_cannot_be_merged_and_stays_what_it_was(t5):
    model = on_t5(t5)
    before = said_by(model)
    with pytest.raises(UsageError, match="cannot be merged"):
        model.merge()
    assert torch.equal(said_by(model), before)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(UsageError, match="expected more than 0 and less than 1"):
        s4.expression(shape("minilm"), share)


def test_too_few_blocks_are_refused():
    with pytest.raises(UsageError, match="four groups, the middle ones larger: expected at least 6, got 3"):
        s4.expression(shape("minilm[:3]"))


def test_its_page_has_a_row_a_group():
    said = repr(groups("t5-base"))
    assert said.count("A + P + B") == 2 and "0.512 % of t5-base; the survey prints 0.5 %" in said
