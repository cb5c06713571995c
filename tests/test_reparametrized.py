"""What only AdaLoRA and GaLore do: the budget, ranks that differ, an optimizer in a low-rank space."""

import io

import pytest
import torch
from tiny import TASKS, backbone, build, outputs, train

from peftlib import deltas
from peftlib.methods import AdaLoRA, GaLore
from peftlib.methods.base import Step
from peftlib.methods.reparametrized.galore import GaLoreAdamW, singular_space, state_size


def triplets(model):
    ((_, at),) = model.attachments
    return [edit for _, edit in at.edits]


# --- AdaLoRA ----------------------------------------------------------------------------------------------------------
def test_budget_falls_along_the_papers_cubic():
    method = AdaLoRA(rank=12, target=8, initial=0.1, final=0.5)
    budgets = [method.budget(step, 100, 10) for step in range(100)]
    assert budgets[:10] == [120] * 10 and budgets[50:] == [80] * 50
    assert budgets == sorted(budgets, reverse=True)
    assert budgets[30] == round((8 + 4 * (1 - 20 / 40) ** 3) * 10)  # half of the way


@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_a_short_run_ends_at_the_target_all_the_same(total):
    assert AdaLoRA(initial=0.4, final=0.0).budget(total - 1, total, 5) == 40


def test_masked_values_are_zero_and_ranks_differ_after_finish():
    model = build("AdaLoRA(rank=4, target=2)", "bert")
    train(model, "bert", steps=12)
    edits = triplets(model)
    alive = [int((edit.E != 0).sum()) for edit in edits]
    assert sum(alive) == 2 * len(edits) and len(set(alive)) > 1
    expected, trainable = outputs(model, "bert"), model.counts().trainable
    model.finish()
    assert [len(edit.E) for edit in edits] == alive
    assert [tuple(edit.P.shape[1:]) + tuple(edit.Q.shape[:1]) for edit in edits] == [(n, n) for n in alive]
    assert not any("kept" in n or "mean_" in n for n, _ in model.named_buffers())
    assert model.counts().trainable == trainable  # what was trained does not change with hindsight
    assert model.counts().stored == sum(p.numel() for e in edits for p in (e.P, e.E, e.Q))
    fresh = build("AdaLoRA(rank=4, target=2)", "bert", seed=9)
    deltas.load_tensors(fresh, model.delta())
    found = outputs(fresh, "bert")
    for task in TASKS:
        torch.testing.assert_close(found[task], expected[task], rtol=1e-5, atol=1e-6)


def test_nothing_is_masked_when_the_target_is_the_rank():
    model = build("AdaLoRA(rank=4, target=4, gap=1)", "bert")
    train(model, "bert", steps=6)
    assert all((edit.E != 0).all() for edit in triplets(model))


def test_a_masked_value_can_come_back():
    model = build("AdaLoRA(rank=2, target=1, initial=0.0, final=0.1)", "bert")
    ((method, at),) = model.attachments
    edits = triplets(model)

    def step(number, strong):
        """One step in which triplet `strong` of every site has by far the larger gradient."""
        for edit in edits:
            for name in ("P", "E", "Q"):
                getattr(edit, name).data.fill_(1.0)
            scale = torch.ones(2).scatter(0, torch.tensor([strong]), 1e4 * (number + 1))
            edit.P.grad, edit.E.grad = torch.ones_like(edit.P) * scale, scale.clone()
            edit.Q.grad = torch.ones_like(edit.Q) * scale[:, None]
        method.after_step(at, number, 10)
        return [edit.E.tolist() for edit in edits]

    for number in range(6):
        first = step(number, strong=0)
    assert all(values == [1.0, 0.0] for values in first[: len(first) // 2] if 0.0 in values)
    assert any(0.0 in values for values in first)
    for number in range(6, 9):
        second = step(number, strong=1)
    assert any(before[1] == 0.0 and after[1] == 1.0 for before, after in zip(first, second, strict=True))
    final = step(9, strong=0)  # the choice of step 9 is final
    assert sum(value != 0 for values in final for value in values) == len(edits)


def test_scores_are_the_papers_sensitivity_times_uncertainty():
    model = build("AdaLoRA(rank=2, target=1, sites=('query',), beta1=0.8, beta2=0.6)", "bert")
    edit = triplets(model)[0]
    mean, spread = {}, {}
    for _ in range(2):
        for name in ("P", "E", "Q"):
            w = getattr(edit, name)
            w.data.copy_(torch.randn(w.shape))
            w.grad = torch.randn(w.shape)
            now = (w.detach() * w.grad).abs()
            mean[name] = 0.2 * now + 0.8 * mean.get(name, torch.zeros(()))
            spread[name] = 0.4 * (now - mean[name]).abs() + 0.6 * spread.get(name, torch.zeros(()))
        edit.observe(0.8, 0.6)
        s = {n: mean[n] * spread[n] for n in mean}
        importance = s["E"] + s["P"].mean(0) + s["Q"].mean(1)
    torch.testing.assert_close(edit.scores(), importance)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_penalty_is_zero_for_orthogonal_vectors_and_its_closed_form_otherwise(form):
    model = build(f"AdaLoRA(rank=3, target=1, gamma=0.5, regularizer='{form}')", "bert")
    edits = triplets(model)
    with torch.no_grad():
        for edit in edits:
            torch.nn.init.orthogonal_(edit.P)
            torch.nn.init.orthogonal_(edit.Q)
    step = Step("sst", {}, torch.empty(0), ())  # the penalty is one of weights alone
    assert model.penalty(step).item() < 1e-5
    with torch.no_grad():
        edits[0].P.mul_(2**0.5)  # P'P = 2 I: |P'P - I|^2 = 3
    model.penalty(step).backward()
    expected = 0.5 * 3 if form == "paper" else 0.5 * 3**0.5 / (2 * len(edits))
    assert model.penalty(step).item() == pytest.approx(expected, abs=1e-5)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


# --- GaLore -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [(40, 24), (24, 40)])
def test_the_space_is_that_of_the_svd(size):
    torch.manual_seed(0)
    g = torch.randn(size)
    u, _, vt = torch.linalg.svd(g, full_matrices=False)
    expected = vt[:5].T if size[0] >= size[1] else u[:, :5]
    space = singular_space(g, 5)
    torch.testing.assert_close(space @ space.T, expected @ expected.T, rtol=1e-4, atol=1e-5)


def test_without_projection_it_is_torchs_adamw():
    torch.manual_seed(0)
    start = torch.randn(6, 4)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizers = (
        GaLoreAdamW([{"params": [ours], "weight_decay": 0.1}], lr=0.01, rank=4, gap=5, scale=0.25),
        torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1),
    )
    for step in range(10):
        gradient = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
        for p, optimizer in zip((ours, theirs), optimizers, strict=True):
            p.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("size", [(12, 8), (8, 12)])
def test_a_projected_step_is_the_papers(size):
    """First step: the moments' bias correction cancels, so Adam(R) = R / (|R| + eps)."""
    torch.manual_seed(0)
    p, g = torch.nn.Parameter(torch.zeros(size)), torch.randn(size)
    p.grad = g
    GaLoreAdamW([{"params": [p], "weight_decay": 0.0}], lr=0.1, rank=3, gap=5, scale=0.25).step()
    space = singular_space(g, 3)
    tall = size[0] >= size[1]
    low = g @ space if tall else space.T @ g
    update = low.sign() @ space.T if tall else space @ low.sign()
    torch.testing.assert_close(p.detach(), -0.1 * 0.25 * update, rtol=1e-4, atol=1e-5)
    assert torch.linalg.matrix_rank(p.detach()) == 3


@pytest.mark.parametrize("size", [(40, 24), (24, 40), (8, 40), (40,)])
def test_memory_is_the_documented_figure(size):
    p = torch.nn.Parameter(torch.randn(size))
    p.grad = torch.randn(size)
    optimizer = GaLoreAdamW([{"params": [p]}], lr=0.1, rank=8, gap=5, scale=0.25)
    optimizer.step()
    assert sum(t.numel() for t in optimizer.state[p].values() if torch.is_tensor(t)) == state_size(size, 8)


def test_a_new_space_every_gap_steps_and_moments_go_on():
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(12, 8))
    optimizer = GaLoreAdamW([{"params": [p]}], lr=0.1, rank=3, gap=3, scale=0.25)
    spaces = []
    for _ in range(7):
        p.grad = torch.randn(12, 8)
        optimizer.step()
        spaces.append(optimizer.state[p]["space"].clone())
    same = [torch.equal(a, b) for a, b in zip(spaces, spaces[1:], strict=False)]
    assert same == [True, True, False, True, True, False]
    assert optimizer.state[p]["step"] == 7


def test_state_goes_through_a_file_and_training_goes_on_bit_for_bit():
    def gradients(model, seed):
        generator = torch.Generator().manual_seed(seed)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)

    def steps(model, optimizer, seeds):
        for seed in seeds:
            gradients(model, seed)
            optimizer.step()

    def start():
        model = backbone("bert").requires_grad_(True)
        return model, GaLore(rank=8, gap=3).optimizer([{"params": list(model.parameters()), "weight_decay": 0.1}], 1e-2)

    whole, optimizer = start()
    steps(whole, optimizer, range(7))
    first, optimizer = start()
    steps(first, optimizer, range(4))
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "model": first.state_dict()}, file)
    file.seek(0)
    content = torch.load(file, weights_only=True)
    second, optimizer = start()
    second.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    steps(second, optimizer, range(4, 7))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))
