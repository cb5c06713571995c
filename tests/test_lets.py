"""What only the LeTS-like method does: all layers read by a recurrent network, few weights chosen in the last blocks."""

from __future__ import annotations

import re

import pytest
import torch
from tiny import TASKS, backbone, batch, build, inputs_of
from torch.nn import functional as F

from peftlib import backbones
from peftlib.data.tasks import get_task
from peftlib.methods.selective.sparse import SparseChange
from peftlib.model import Tuned

on_both = pytest.mark.parametrize("kind", ["bert", "t5"])


def late_of(model):
    ((_, at),) = model.attachments
    return at.shared[0]


def test_the_network_reads_the_largest_of_real_tokens_in_every_layer():
    model, states = build("LeTSLike(hidden=3, layers=1)", "bert"), []
    late = late_of(model)
    late.register_forward_pre_hook(lambda _, given: states.append(given))
    inputs = inputs_of("sst", "bert")
    features = model.features(inputs)
    ((layers, mask),) = states
    assert len(layers) == 3 and torch.equal(mask, inputs["attention_mask"])
    rows = []
    for row in range(8):
        length = int(mask[row].sum())
        assert length < mask.shape[1] or row < 4
        sequence = torch.stack([h[row, :length].amax(0) for h in layers])
        forward, backward = late.lstm(sequence)[0].unflatten(1, (2, 3)).unbind(1)  # steps in the layers' order
        rows.append(late.up(torch.cat([forward[-1], backward[0]])))
    torch.testing.assert_close(features, model.backbone.pooler(torch.stack(rows)[:, None]))


@on_both
def test_what_is_chosen_matters_most_in_the_last_blocks(kind):
    torch.manual_seed(0)
    tasks = [get_task(name) for name in TASKS]
    model = Tuned(backbone(kind), "LeTSLike(hidden=3, fraction=0.02, layers=1, batches=2)", tasks, dropout=0.0)
    plain = dict(backbone(kind).named_parameters())
    looked = [(name, batch(name, kind=kind)) for name in (*TASKS, "sst")]  # of which two are looked at
    own = dict(model.backbone.named_parameters())
    names = [n for n, p in own.items() if re.search(r"coder\.(layer|block)\.1\.", n) and p.ndim == 2]
    total, tensors = {n: torch.zeros_like(plain[n]) for n in names}, [own[n].requires_grad_(True) for n in names]
    for task, given in looked[:2]:
        loss = model.loss(task, model.eval()(task, inputs_of(task, kind)), given["labels"])
        for n, g in zip(names, torch.autograd.grad(loss, tensors), strict=True):
            total[n] += g
    for p in tensors:
        p.requires_grad_(False)
    scores = {n: (plain[n].detach() * total[n]).abs().flatten() for n in names}
    least = torch.cat(list(scores.values())).topk(round(0.02 * sum(p.numel() for p in plain.values()))).values[-1]
    model.prepare(looked)
    chosen = {
        n.replace("parametrizations.weight.0", "weight"): m.indices
        for n, m in model.backbone.named_modules()
        if isinstance(m, SparseChange)
    }
    for n, values in scores.items():
        found = chosen.get(n, torch.empty(0, dtype=torch.int32))
        assert torch.equal(found.long(), (values >= least).nonzero()[:, 0])


@on_both
def test_no_gradient_goes_below_the_last_blocks(kind):
    model, states = build("LeTSLike(hidden=3, layers=1)", kind).train(), []
    late_of(model).register_forward_pre_hook(lambda _, given: states.extend(given[0]))
    F.mse_loss(model("sst", inputs_of("sst", kind)), torch.zeros(8, 5)).backward()
    assert [h.requires_grad for h in states] == [False, kind == "t5", True]  # T5's decoder reads its trained encoder


def test_counts_on_bert_base():
    with torch.device("meta"):
        counts = Tuned(backbones.shape_only("bert-base-uncased"), "LeTSLike()", [get_task("sst")]).counts()
    assert (counts.trainable, counts.stored, counts.changed) == (1_511_420, 1_511_420 + 985_340, 1_511_420)
    assert round(counts.percent("trainable"), 2) == 1.38
