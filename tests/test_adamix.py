"""What only AdaMix does: experts by chance in training, their mean elsewhere, and two passes that are to agree."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import TASKS, backbone, batch, build, inputs_of, train
from torch import distributed, nn
from torch.nn import functional as F

from peftlib import backbones
from peftlib.accounting.counting import count
from peftlib.accounting.estimate import estimate
from peftlib.data.tasks import get_task
from peftlib.methods.adapters.adamix import Experts, divergence
from peftlib.methods.base import Step
from peftlib.model import Tuned

on_both = pytest.mark.parametrize("kind", ["bert", "t5"])
LABELS = torch.arange(8) % 2


def edits(model):
    ((_, at),) = model.attachments
    return [edit for _, edit in at.edits]


@on_both
def test_one_expert_is_an_adapter(kind):
    ours, theirs = (
        build("AdaMix(bottleneck=4, experts=1)", kind),
        build("PfeifferFFN(bottleneck=4, activation='gelu')", kind),
    )
    for a, b in zip(edits(ours), edits(theirs), strict=True):
        b.down.load_state_dict(a.D[0].state_dict())
        b.up.load_state_dict(a.U[0].state_dict())
    ours.heads.load_state_dict(theirs.heads.state_dict())
    for model in (ours, theirs):
        train(model, kind, steps=2)
    for task in TASKS:
        torch.testing.assert_close(ours(task, inputs_of(task, kind)), theirs(task, inputs_of(task, kind)))


@pytest.mark.parametrize("shared", [True, False])
def test_experts_are_drawn_evenly_and_apart(shared):
    model = build(f"AdaMix(bottleneck=2, experts=3, shared={shared})", "bert").train()
    one, other = edits(model)
    assert len(one.U) == (1 if shared else 3)
    whose = {id(linear.weight): i for linears in (one.D, one.U, other.D) for i, linear in enumerate(linears)}
    drawn = torch.tensor([[whose[id(e.acting(part)[0])] for e, part in ((one, one.D), (one, one.U), (other, other.D))]
                          for _ in range(3000)])  # fmt: skip
    for columns in ((0, 2), (0, 1), (1, 2)):
        sizes = [1 if shared and c == 1 else 3 for c in columns]
        seen = torch.bincount(drawn[:, columns[0]] * sizes[1] + drawn[:, columns[1]], minlength=sizes[0] * sizes[1])
        expected = 3000 / len(seen)
        assert len(seen) == sizes[0] * sizes[1] and ((seen - expected) ** 2 / expected).sum() < 27  # chi square, 8, 0.001


def test_a_pass_has_one_expert_a_place_for_the_whole_batch(monkeypatch):
    model, drawn = build("AdaMix(bottleneck=2, experts=4)", "bert").train(), []
    real = Experts.acting
    monkeypatch.setattr(Experts, "acting", lambda self, part: drawn.append(real(self, part)) or drawn[-1])
    model.step("sst", inputs_of("sst", "bert"), LABELS)
    assert len(drawn) == 2 * 2 * len(edits(model))  # a D and a U, in two passes


@on_both
@pytest.mark.parametrize("shared", [True, False])
def test_evaluation_computes_with_the_mean_that_is_kept(kind, shared):
    model = build(f"AdaMix(bottleneck=4, experts=3, shared={shared})", kind)
    train(model, kind)
    means = [copy.deepcopy(edit) for edit in edits(model)]
    before = model("sst", inputs_of("sst", kind))
    model.finish()
    for edit, old in zip(edits(model), means, strict=True):
        assert len(edit.D) == len(edit.U) == 1
        for name in ("weight", "bias"):
            torch.testing.assert_close(getattr(edit.D[0], name), sum(getattr(e, name) for e in old.D) / 3)
        assert not torch.equal(edit.D[0].weight, old.D[0].weight)
    assert torch.equal(model("sst", inputs_of("sst", kind)), before)
    assert torch.equal(model.train()("sst", inputs_of("sst", kind)), before)  # nothing is left to draw


@on_both
def test_only_experts_that_differ_cost_something(kind):
    for experts, differ in ((1, False), (2, True)):
        torch.manual_seed(1)
        model = build(f"AdaMix(bottleneck=4, experts={experts}, shared=False)", kind).train()
        penalties = [model.penalty(model.step("sst", inputs_of("sst", kind), LABELS)).item() for _ in range(6)]
        assert (max(penalties) > 0) == differ and min(penalties) >= 0


def test_the_divergence_is_the_symmetrised_one_and_moves_both_passes():
    model = build("AdaMix(bottleneck=4, consistency=2.0)", "bert")
    a, b = (torch.randn(8, 5, requires_grad=True) for _ in range(2))
    term = model.penalty(Step("sst", {}, LABELS, (a, b)))
    p, q = a.softmax(-1), b.softmax(-1)
    apart = ((p - q) * (p.log() - q.log())).sum(-1)  # KL(p || q) + KL(q || p)
    torch.testing.assert_close(term, apart.mean())
    term.backward()  # of KL(q || p) with q as it is, to a: p - q
    torch.testing.assert_close(a.grad, (p - q) / 8)
    torch.testing.assert_close(b.grad, (q - p) / 8)


def test_one_logit_is_of_two_classes():
    model = build("AdaMix(bottleneck=4)", "bert")
    a, b = torch.randn(8, 1), torch.randn(8, 1)
    p, q = (torch.cat([1 - z.sigmoid(), z.sigmoid()], 1) for z in (a, b))
    expected = (F.kl_div(p.log(), q, reduction="batchmean") + F.kl_div(q.log(), p, reduction="batchmean")) / 2
    torch.testing.assert_close(model.penalty(Step("quora", {}, LABELS, (a, b))), expected)


def test_scores_have_no_divergence_and_texts_that_of_their_tokens():
    tasks = [get_task(name) for name in ("sst", "sts")]
    model = Tuned(backbone("bert"), "AdaMix(bottleneck=4)", tasks)
    assert model.penalty(Step("sts", {}, torch.rand(8) * 5, (torch.randn(8, 1), torch.randn(8, 1)))) is None
    a, b, labels = torch.randn(2, 3, 9), torch.randn(2, 3, 9), torch.tensor([[4, 1, -100], [7, 1, 1]])
    kept = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    by_token = [divergence(a[i], b[i]) + divergence(b[i], a[i]) for i in kept]
    torch.testing.assert_close(model.penalty(Step("sst", {}, labels, (a, b))), torch.stack(by_token).mean() / 2)


def test_without_consistency_there_is_one_pass():
    model = build("AdaMix(bottleneck=4, consistency=0.0)", "bert").train()
    step = model.step("sst", inputs_of("sst", "bert"), LABELS)
    assert len(step.passed) == 1 and model.penalty(step) is None
    once, twice = (
        estimate(f"AdaMix(consistency={c})", "minilm", batch=4, length=32, precision="fp32", answer=0) for c in (0.0, 1.0)
    )
    assert 1.9 * once.flops < twice.flops < 2.1 * once.flops and once.weights == twice.weights


@pytest.mark.parametrize(
    "name, expression, trained, stored",
    [
        ("bert-base-uncased", "AdaMix()", 2_223_360, 894_528),
        ("bert-large-uncased", "AdaMix(bottleneck=16)", 1_992_192, 811_392),  # of RoBERTa-large, whose blocks are these
        ("bert-base-uncased", "AdaMix(shared=False)", 4 * 894_528, 894_528),
        ("bert-base-uncased", "Layers(AdaMix(), stop=6)", 2_223_360 // 2, 894_528 // 2),
    ],
)
def test_counts_are_those_of_the_authors_runs(name, expression, trained, stored):
    with torch.device("meta"):
        counts = Tuned(backbones.shape_only(name), expression, [get_task("sst")]).counts()
    assert (counts.trainable, counts.stored, counts.changed) == (trained, stored, stored)


# --- several processes ------------------------------------------------------------------------------------------------
def _process(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model = build("AdaMix(bottleneck=4, experts=3)", "bert").train()
    wrapped = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
    for i in range(3):  # what one pass takes and the other does not is another each time
        _backward(model, rank, wrapped, seed=i)
    torch.save({n: p.grad for n, p in model.named_parameters() if p.grad is not None}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def _backward(model, rank: int, forward, seed: int) -> None:
    found = {name: t[rank::2] for name, t in batch("sst").items()}
    labels = found.pop("labels")
    torch.manual_seed(seed)
    model.objective(model.step("sst", found, labels, forward=forward))[0].backward()


def test_processes_average_the_gradients_of_both_passes(tmp_path):
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2)
    model = build("AdaMix(bottleneck=4, experts=3)", "bert").train()
    for i in range(3):
        for rank in range(2):
            _backward(model, rank, None, seed=i)
    expected = {n: p.grad / 2 for n, p in model.named_parameters() if p.grad is not None}
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_an_estimate_has_one_answer_and_the_state_of_all_experts():
    """A step uses two experts of a place at most, and which is drawn; the optimizer has met all of them."""
    found = [estimate("AdaMix()", "minilm", batch=4, length=32) for _ in range(2)]
    counted = count("AdaMix()", "minilm")
    assert found[0] == found[1]
    assert found[0].optimizer == pytest.approx(2 * 4 * (counted.trainable + counted.heads), rel=1e-3)  # and step counters
    assert found[0].gradients < 4 * counted.trainable
