"""The survey's S4, as an expression."""

from __future__ import annotations

import pytest
import torch
from tiny import inputs_of, train

from peftlib import backbones
from peftlib.accounting.counting import count
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.methods import parse
from peftlib.model import Tuned
from peftlib.papers.survey import s4


@pytest.mark.parametrize("blocks, sizes", [(6, (1, 2, 2, 1)), (12, (2, 4, 4, 2)), (24, (4, 8, 8, 4)), (13, (2, 5, 4, 2))])
def test_a_spindle_is_wider_in_the_middle(blocks, sizes):
    assert s4.spindle(blocks) == sizes and sum(sizes) == blocks


@pytest.mark.parametrize("backbone", ["t5-base", "bert-base-uncased", "roberta-base", "minilm"])
def test_it_trains_half_a_percent_in_equal_blocks(backbone):
    method = parse(s4.expression(backbone))
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
    model = Tuned(backbones.from_config(backbones.SHAPES["minilm"]()), s4.expression("minilm"), [get_task("sst")])
    before = {n: t.clone() for n, t in model.delta().items()}
    train(model, "bert", tasks=("sst",))
    blocks = {
        n.split("layer.")[1].split(".")[0] for n, t in model.delta().items() if "layer." in n and (t != before[n]).any()
    }
    assert blocks == set("012345") and model("sst", inputs_of("sst", "bert")).isfinite().all()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(UsageError, match="expected more than 0 and less than 1"):
        s4.expression("minilm", share)


def test_too_few_blocks_are_refused():
    with pytest.raises(UsageError, match="four groups, the middle ones larger: expected at least 6, got 3"):
        s4.expression("minilm[:3]")


def test_its_page_has_a_row_a_group():
    said = repr(s4.groups("t5-base"))
    assert said.count("A + P + B") == 2 and "0.512 % of t5-base; the survey prints 0.5 %" in said
