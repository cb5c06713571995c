"""Adapters that are pruned before training, and what stands in for a look at data on a model of shapes."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import TASKS, after_training, backbone, batch, build, outputs, train

from peftlib import deltas
from peftlib.accounting.counting import count
from peftlib.accounting.estimate import estimate
from peftlib.errors import PeftlibError, UsageError
from peftlib.methods.hybrid.sparseadapter import Pruned, from_bits, to_bits
from peftlib.methods.selective.fish import spread

SMALL = "SparseAdapter(bottleneck=8, kept=0.25, examples=8)"


def layers(model):
    return [m for m in model.modules() if isinstance(m, Pruned)]


@pytest.mark.parametrize("numbers", [1, 7, 8, 9, 1000])
def test_a_mask_is_a_bit_for_each_entry(numbers):
    torch.manual_seed(numbers)
    indices = torch.rand(numbers).lt(0.3).nonzero().flatten()
    bits = to_bits(indices, numbers)
    assert bits.dtype == torch.uint8 and len(bits) == -(-numbers // 8)
    assert torch.equal(from_bits(bits), indices.int())


@pytest.mark.parametrize("kind", ["bert", "t5"])
@pytest.mark.parametrize("score", ["snip", "magnitude", "random"])
def test_as_many_weights_are_kept_as_was_said_of_all_adapters_together(kind, score):
    model = build(f"SparseAdapter(bottleneck=8, kept=0.25, score='{score}', examples=8)", kind)
    shape = model.anatomy.shape
    numbers = shape.layers * 2 * 2 * 32 * 8
    kept = [len(layer.values) for layer in layers(model)]
    assert sum(kept) == numbers // 4 and len(set(kept)) > 1
    assert model.counts().trainable == numbers // 4 + shape.layers * 2 * (32 + 8)
    assert model.counts().stored == model.counts().trainable + numbers // 32
    train(model, kind)
    for layer in layers(model):
        assert torch.equal(layer.whole().flatten().nonzero().flatten().int(), layer.indices)  # what is pruned stays zero


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_snip_keeps_the_weights_whose_loss_of_influence_would_be_largest(kind):
    """Against the gradient of a mask of ones over the weights."""
    model = build(SMALL, kind, prepared=False)
    whole, pruned, given = copy.deepcopy(model), build(SMALL, kind), batch(TASKS[0], kind=kind)
    labels, masks = given.pop("labels"), []
    for layer in layers(whole):
        masks.append(torch.ones_like(layer.weight, requires_grad=True))
        weight = layer.weight.detach() * masks[-1]
        layer.forward = lambda x, weight=weight, bias=layer.bias: torch.nn.functional.linear(x, weight, bias)
    loss = whole.loss(TASKS[0], whole(TASKS[0], given), labels)  # eight examples are one batch of the first task
    scores = [g.abs().flatten() for g in torch.autograd.grad(loss, masks)]
    least = torch.cat(scores).sort(descending=True).values[sum(s.numel() for s in scores) // 4 - 1]
    for score, layer, before in zip(scores, layers(pruned), layers(model), strict=True):
        assert torch.equal(score.ge(least).nonzero().flatten().int(), layer.indices)
        assert torch.equal(layer.values, before.weight.flatten()[layer.indices.long()])


def test_scores_that_are_all_zero_decide_nothing():
    model = build(SMALL, "bert", prepared=False)
    for layer in layers(model)[1::2]:
        torch.nn.init.zeros_(layer.weight)  # U, as other adapters start
    with pytest.raises(UsageError, match="every score is zero: were there examples"):
        model.prepare([(TASKS[0], batch(TASKS[0]))])
    with pytest.raises(UsageError, match="every score is zero: were there examples"):
        build(SMALL, "bert", prepared=False).prepare([])


def test_every_task_has_masks_of_its_own():
    model = build(f"PerTask({SMALL})", "bert")
    first, second = (torch.cat([layer.mask for layer in layers_of(at)]) for _, at in model.attachments)
    assert first.shape == second.shape and not torch.equal(first, second)


def layers_of(at):
    return [layer for _, edit in at.edits for layer in (edit.down, edit.up)]


@pytest.mark.parametrize("wrong", ["another share", "past the end", "of another type", "one is missing"])
def test_masks_that_do_not_fit_are_refused(wrong, tmp_path):
    model, file = after_training(SMALL, "bert"), tmp_path / "delta.safetensors"
    deltas.save(model, file)
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    tensors = load_file(file)
    name = next(n for n in tensors if n.endswith(".mask"))
    if wrong == "another share":
        tensors[name][:] = 255
    elif wrong == "past the end":
        tensors[name] = torch.cat([tensors[name], torch.ones(1, dtype=torch.uint8)])
    elif wrong == "of another type":
        tensors[name] = tensors[name].int()
    else:
        del tensors[name]
    save_file(tensors, file, about)
    with pytest.raises(PeftlibError, match="keeps 512 weights of its adapters"):
        deltas.load(file, backbone("bert"))


def test_a_model_that_has_not_looked_at_data_is_saved_whole(tmp_path):
    model = build(SMALL, "bert", prepared=False)
    deltas.save(model, tmp_path / "delta.safetensors", backbone="bert")
    loaded = deltas.load(tmp_path / "delta.safetensors", backbone("bert"))
    assert all(torch.equal(outputs(loaded, "bert")[t], now) for t, now in outputs(model, "bert").items())


# --- in the place of data ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sizes, k", [([5], 1), ([100, 2, 3], 50), ([1000, 1, 1, 1], 5), ([10, 10, 10], 4), ([7, 9], 16)])
def test_entries_are_spread_and_none_is_lost(sizes, k):
    found = spread(sizes, k)
    assert sum(found) == k and all(0 <= n <= size for n, size in zip(found, sizes, strict=True))


def test_estimates_look_at_no_data_and_count_what_is_kept():
    few, many = (estimate(f"SparseAdapter(kept={kept})", "minilm", 8, 64) for kept in (0.1, 0.9))
    numbers = 12 * 2 * 384 * 64
    assert many.optimizer - few.optimizer == pytest.approx(2 * 4 * 0.8 * numbers, rel=1e-3)
    trained = count("SparseAdapter(kept=0.1)", "minilm")
    assert few.gradients == 4 * (trained.trainable + trained.heads)
    fish = count("FishMask(fraction=0.001)", "minilm")
    assert estimate("FishMask(fraction=0.001)", "minilm", 8, 64).gradients == 4 * (fish.trainable + fish.heads)


def test_worked_counts():
    found = count("SparseAdapter()", "roberta-base")
    weights = 24 * 2 * 768 * 64
    assert found.trainable == found.changed == round(0.6 * weights) + 24 * (768 + 64) == 1_435_546
    assert found.stored == found.trainable + weights // 32
    large = count("SparseAdapter(bottleneck=256, kept=0.25)", "roberta-base")  # Large-Sparse: as many, among more
    assert large.trainable == weights + 24 * (768 + 256)
