"""What only diff pruning does: gates by chance, a projection in the middle of a run, and what is trained after it."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from test_training import Killed, kill_in, numbers
from tiny import backbone, build, folder, inputs_of, outputs, train

from peftlib import backbones
from peftlib.data.tasks import get_task
from peftlib.methods import DiffPruning
from peftlib.methods.selective.diffpruning import Diff, Gate
from peftlib.methods.selective.sparse import SparseChange
from peftlib.model import Tuned
from peftlib.records import Recipe, Run
from peftlib.training import fits
from peftlib.training.loop import Trainer

on_both = pytest.mark.parametrize("kind", ["bert", "t5"])
LABELS = torch.arange(8) % 2


def diffs(model):
    ((_, at),) = model.attachments
    return at.shared


def with_random_differences(kind, expression="DiffPruning(fraction=0.05)"):
    model = build(expression, kind)
    torch.manual_seed(4)
    with torch.no_grad():
        for diff in diffs(model):
            diff.w.normal_()
            diff.alpha.normal_(2, 2)
            diff.group.fill_(torch.randn(()) + 3)
    return model


def test_gates_start_nearly_all_open():
    model = build("DiffPruning(l0=1e-3)", "bert")
    one = max(diffs(model), key=lambda diff: diff.w.numel())
    one.w.data.fill_(1.0)
    drawn = torch.stack([one.change(noisy=True) for _ in range(200)])
    group = drawn.flatten(1).amax(1)  # of each draw: where z is one, z_g is left
    shares = (drawn / group.view(-1, 1, 1) == 1).float().mean()
    assert shares == pytest.approx(0.9674, abs=0.002)  # 1 - sigmoid(log 5 - 5)
    assert one.change(noisy=False).eq(1).all()
    total = sum(diff.w.numel() for diff in diffs(model))
    term = model.penalty(model.step("sst", inputs_of("sst", "bert"), LABELS))
    assert term.item() == pytest.approx(1e-3 * total / (1 + math.exp(-5)) ** 2, rel=1e-4)


@on_both
def test_a_pass_has_one_draw_and_the_next_another(kind):
    model, seen = with_random_differences(kind).train(), []
    site = model.anatomy.at("ffn.up")[0]
    site.module.register_forward_hook(lambda module, *_: seen.append((module.weight, module.weight)))
    for _ in range(2):
        model("sst", inputs_of("sst", kind))
    assert all(torch.equal(*pair) for pair in seen) and not torch.equal(seen[0][0], seen[1][0])
    seen.clear()
    model.eval()
    for _ in range(2):
        model("sst", inputs_of("sst", kind))
    assert torch.equal(seen[0][0], seen[1][0])


@on_both
def test_the_largest_changes_of_all_tensors_are_kept(kind):
    model = with_random_differences(kind)
    changes = torch.cat([diff.change(noisy=False).detach().abs().flatten() for diff in diffs(model)])
    model.after_step(1, 4)  # of four steps the second is the last noisy one
    kept = torch.cat([diff.kept.flatten() for diff in diffs(model)])
    k = round(0.05 * len(changes))
    assert kept.sum() == k and changes[kept].min() >= changes[~kept].max() and changes[~kept].max() > 0


@on_both
def test_what_is_not_kept_is_as_it_was_and_what_is_goes_on_from_w(kind):
    model = with_random_differences(kind)
    plain = dict(backbone(kind).named_parameters())
    model.after_step(1, 4)
    model.after_step(2, 4)  # chooses nothing anew
    chosen = [diff.kept.clone() for diff in diffs(model)]
    train(model, kind, steps=2, first=2, total=4)
    for diff, kept in zip(diffs(model), chosen, strict=True):
        assert torch.equal(diff.kept, kept) and diff.alpha.grad is None
    expected = outputs(model, kind)
    values = torch.cat([diff.w.detach()[diff.kept] for diff in diffs(model)])
    model.finish()
    assert all(isinstance(change, SparseChange) for change in diffs(model))
    assert torch.equal(torch.cat([change.values.detach() for change in diffs(model)]).sort().values, values.sort().values)
    for task, found in outputs(model, kind).items():
        torch.testing.assert_close(found, expected[task])
    changed = sum((p != plain[name]).sum() for name, p in model.merge().backbone.named_parameters())
    assert changed == len(values)


def test_before_the_choice_merging_folds_what_evaluation_computes_with():
    model = with_random_differences("bert")
    expected = outputs(model, "bert")
    merged = model.train().merge().eval()
    for task, found in outputs(merged, "bert").items():
        torch.testing.assert_close(found, expected[task], rtol=1e-4, atol=1e-4)


def test_gates_have_a_rate_of_their_own_and_no_decay():
    model = build("DiffPruning(gate_lr=0.3) + LoRA(rank=2)", "bert")
    groups = model.optimizer(1e-3, 0.01).param_groups
    gates = [group for group in groups if any(isinstance(p, Gate) for p in group["params"])]
    assert [(group["lr"], group["weight_decay"]) for group in gates] == [(0.3, 0.0)]
    assert all(isinstance(p, Gate) for p in gates[0]["params"]) and len(gates[0]["params"]) == 2 * len(
        [m for m in model.modules() if isinstance(m, Diff)]
    )
    assert {group["lr"] for group in groups if group is not gates[0]} == {1e-3}
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("total", [1, 2, 3, 10, 101])
@pytest.mark.parametrize("noisy", [0.01, 0.5, 0.99])
def test_every_run_has_its_projection_and_only_then_a_best_epoch(total, noisy):
    method = DiffPruning(noisy=noisy)
    steps = [step for step in range(total) if method.ready(step, total)]
    assert steps == list(range(method.projected_after(total), total))


def test_gates_are_closed_by_the_penalty_alone():
    model = build("DiffPruning(fraction=0.05, l0=1e-3)", "bert")
    before = sum(diff.open().item() for diff in diffs(model))
    train(model, "bert", steps=20, total=100)
    assert sum(diff.open().item() for diff in diffs(model)) < 0.95 * before


@pytest.mark.parametrize("noisy", [0.3, 0.8])
def test_killed_before_or_after_the_projection_it_ends_the_same(noisy, tmp_path, monkeypatch):
    monkeypatch.setattr(fits, "check", lambda *_: None)  # the little model knows none of these words
    recipe = Recipe(lr=1e-2, epochs=3, batch_size=8, max_length=16, precision="fp32")
    method = f"DiffPruning(fraction=0.01, noisy={noisy})"
    run = Run(method, ("sst",), str(folder(tmp_path / "model")), "embedded", recipe, limits=(24, 8, 8))
    whole, checkpoint = numbers(Trainer(run, progress=False).fit()), tmp_path / "checkpoint.pt"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, epoch=3)
        Trainer(run, checkpoint, progress=False).fit()
    assert checkpoint.is_file()
    resumed = Trainer(run, checkpoint, progress=False).fit()
    assert numbers(resumed) == whole and (noisy < 0.5 or resumed.best_epoch == 3)


def test_counts_on_bert_base():
    with torch.device("meta"):
        model = Tuned(backbones.shape_only("bert-base-uncased"), "DiffPruning()", [get_task("sst")])
    counts = model.counts()
    assert (counts.trainable, counts.stored, counts.changed) == (218_964_679, 2 * 547_411, 547_411)


def test_a_copy_draws_by_itself():
    model = with_random_differences("bert").train()
    twin = copy.deepcopy(model)
    torch.manual_seed(0)
    one = model("sst", inputs_of("sst", "bert"))
    torch.manual_seed(0)
    assert torch.equal(twin("sst", inputs_of("sst", "bert")), one)
