"""Intrinsic SAID: the projection against matrices written out, its adjoint, its place in the model, and what is stored."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from scipy.linalg import hadamard as scipy_hadamard
from tiny import TASKS, build, inputs_of, outputs, train
from torch.nn.utils import parametrize

from peftlib import backbones, deltas
from peftlib.accounting.estimate import estimate
from peftlib.data.tasks import get_task
from peftlib.edits import Current
from peftlib.errors import UsageError
from peftlib.methods import IntrinsicSAID
from peftlib.methods.reparametrized.fastfood import Fastfood, Project, Subspace, hadamard
from peftlib.model import Tuned

on_both = pytest.mark.parametrize("kind", ["bert", "t5"])
SAID = "IntrinsicSAID(dimension=300)"


def parts(model: Tuned) -> tuple[Subspace, list[Fastfood]]:
    (at,) = [a for leaf, a in model.attachments if isinstance(leaf, IntrinsicSAID)]
    return at.shared[0], at.shared[1:]


def one(size: int, dimension: int = 52, seed: int = 0) -> tuple[Subspace, Fastfood]:
    """A projection by itself; two of the dimensions are weights of tensors."""
    generator = torch.Generator().manual_seed(seed)
    space = Subspace(dimension, 2, generator, torch.device("cpu"), Current())
    return space, Fastfood(size, 0, space, generator)


@torch.no_grad()
def dense(space: Subspace, fastfood: Fastfood) -> torch.Tensor:
    """P, (D, d - m), column by column from the transform itself."""
    columns, zero = [], torch.zeros(fastfood.size)
    for unit in torch.eye(len(space.z)):
        space.z.copy_(unit)
        columns.append(fastfood.add_product(zero, space.rotated()[0]))
    space.z.zero_()
    return torch.stack(columns, dim=1)


# --- the transform ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("length", [1, 2, 16, 64, 512, 2048])
def test_hadamard_is_the_matrix(length):
    x = torch.randn(3, length, dtype=torch.float64)
    ours = hadamard(x.float()).double()
    torch.testing.assert_close(ours, x @ torch.tensor(scipy_hadamard(length), dtype=torch.float64), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [5, 64, 150, 640])
def test_a_projection_is_the_product_of_its_matrices(size):
    space, fastfood = one(size)
    L, blocks = 64, -(-size // 64)
    assert space.length == L and fastfood.G.shape == (blocks, L)
    H, rows = torch.tensor(scipy_hadamard(L), dtype=torch.float32), []
    for g, order in zip(fastfood.G.float(), fastfood.permutation.long(), strict=True):
        assert order.sort().values.equal(torch.arange(L))
        rows.append(H @ torch.diag(g) @ torch.eye(L)[order] @ H @ torch.diag(space.B.float()))
    expected = torch.cat(rows)[:size, : len(space.z)]
    torch.testing.assert_close(dense(space, fastfood), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [5, 150, 5000])
def test_backwards_is_the_adjoint(size):
    _, fastfood = one(size)
    v, y = torch.randn(64), torch.randn(size)
    forwards, backwards = fastfood.add_product(torch.zeros(size), v), fastfood.transposed(y)
    torch.testing.assert_close(forwards @ y, v @ backwards, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fastfood.add_product(y, v), y + forwards)


@pytest.mark.parametrize("width", [7, 64, 150])  # of a row: several to a block, one, over several blocks
def test_a_look_up_is_that_of_the_whole_table(width):
    space, fastfood = one(21 * width)
    table, ids = torch.nn.Embedding(21, width), torch.tensor([[20, 3, 3], [0, 8, 3]])
    parametrize.register_parametrization(table, "weight", fastfood)
    space.z.data.normal_()
    whole = table.weight
    whole_gradient = torch.autograd.grad((whole[ids] ** 2).sum(), [space.z, space.lambdas])
    hooks, blocks, real = fastfood.follow(table), [], fastfood.product
    fastfood.product = lambda some, v: blocks.extend(some.tolist()) or real(some, v)
    found = table(ids)
    torch.testing.assert_close(found, whole[ids])
    holding = {entry // 64 for row in (0, 3, 8, 20) for entry in range(row * width, (row + 1) * width)}
    assert blocks == sorted(holding) and len(holding) < len(fastfood.G)
    for ours, theirs in zip(torch.autograd.grad((found**2).sum(), [space.z, space.lambdas]), whole_gradient, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    fastfood.product = real
    assert len(hooks) == 2 and torch.equal(table.weight, whole)  # outside of a look-up it is the whole table


def test_lengths_are_preserved_on_average_and_blocks_are_independent():
    ratios = []
    for seed in range(8):
        space, fastfood = one(64 * 32, seed=seed)
        P = dense(space, fastfood)
        ratios.append((P.norm() ** 2 / len(space.z)).item())
        assert abs(P.square().sum(0).mean() - 1) < 0.05
        off_diagonal = (P.T @ P)[~torch.eye(len(space.z), dtype=torch.bool)]
        assert off_diagonal.abs().mean() < 0.05
        unit = torch.randn(len(space.z))
        given = (P @ unit).view(32, 64)  # what the blocks make of one z
        between = torch.corrcoef(given)[~torch.eye(32, dtype=torch.bool)]
        assert abs(between.mean()) < 0.02 and between.std() < 1.5 / 64**0.5
    assert abs(sum(ratios) / len(ratios) - 1) < 0.01
    small = torch.cat([dense(*one(8, seed=seed)) for seed in range(200)]) / 200**0.5
    assert abs((small.norm() ** 2 / 50).item() - 1) < 0.05  # a tensor smaller than the subspace, on average


def test_the_seed_means_the_same_projection_and_no_buffer_is_stored():
    first, same, other = (one(150, seed=s)[1] for s in (3, 3, 4))
    assert torch.equal(first.G, same.G) and torch.equal(first.permutation, same.permutation)
    assert not torch.equal(first.G, other.G) and not torch.equal(first.permutation, other.permutation)
    assert not first.state_dict()


def test_large_subspaces_have_wider_indices():
    assert one(10, dimension=2 + 2**15)[1].permutation.dtype == torch.int16
    space, fastfood = one(10, dimension=3 + 2**15)
    assert space.length == 2**16 and fastfood.permutation.dtype == torch.int32
    assert fastfood.permutation.max() == 2**16 - 1


# --- in a model -------------------------------------------------------------------------------------------------------
@on_both
def test_gradients_are_those_of_the_matrices(kind):
    """z gets sum_i lambda_i P_i' g_i and lambda_i gets g_i' P_i z, from the gradients g of the same model in full."""
    model = build(SAID, kind)
    space, projections = parts(model)
    with torch.no_grad():
        space.z.normal_(std=0.3)
        space.lambdas.normal_(mean=1, std=0.3)
    plain = copy.deepcopy(model).merge()
    plain.backbone.requires_grad_(True)
    for one_model in (model, plain):
        one_model.loss("sst", one_model("sst", inputs_of("sst", kind)), torch.arange(8) % 2).backward()
    gradients = [p.grad for p in plain.backbone.parameters()]
    z = space.z.detach().clone()
    of_z, of_lambdas = torch.zeros_like(z), torch.zeros(len(projections))
    for i, (fastfood, g) in enumerate(zip(projections, gradients, strict=True)):
        if g is not None:
            back = dense(space, fastfood).T @ g.flatten()
            of_z += space.lambdas[i].detach() * back
            of_lambdas[i] = back @ z
    torch.testing.assert_close(space.z.grad, of_z, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(space.lambdas.grad, of_lambdas, rtol=1e-3, atol=1e-5)
    assert of_z.norm() > 0.1 and of_lambdas.norm() > 0.01


def test_a_trained_original_gets_its_own_gradient():
    model, plain = build(f"LayerNormTuning() + {SAID}", "bert"), build("LayerNormTuning()", "bert")
    for one_model in (model, plain):
        one_model("sst", inputs_of("sst", "bert")).sum().backward()
    pairs = list(zip(model.attachments[0][1].trained, plain.attachments[0][1].trained, strict=True))
    assert len(pairs) == 2 * model.anatomy.shape.norms
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.grad, theirs.grad)


@on_both
def test_all_tensors_move_and_each_is_computed_once_a_pass(kind, monkeypatch):
    model = build(SAID, kind)
    before = {n: p.detach().clone() for n, p in build("Full()", kind).backbone.named_parameters()}
    train(model, kind)
    computed, real, joint = [], Fastfood.product, Subspace.singles
    monkeypatch.setattr(Fastfood, "product", lambda self, *rest: computed.append(self.index) or real(self, *rest))
    monkeypatch.setattr(
        Subspace, "singles", lambda self: computed.extend(f.module.index for f in self.single) or joint(self)
    )
    outputs(model, kind)  # one pass a task
    used = set(computed)
    assert len(computed) == len(TASKS) * len(used)
    assert used == set(range(len(before)))  # tied embeddings are one tensor
    after = dict(model.merge().backbone.named_parameters())
    assert after.keys() == before.keys()
    assert not any(torch.equal(after[n], before[n]) for n in before)


def test_nothing_is_held_between_passes():
    model = build(SAID, "bert")
    space, _ = parts(model)
    first = outputs(model, "bert")["sst"]
    space.z.data.normal_()  # a change that tensors' version counters do not see
    assert not torch.allclose(outputs(model, "bert")["sst"], first, atol=1e-3)
    for fails in (False, True):
        with pytest.raises(ValueError, match="input_ids") if fails else nullcontext():
            model.backbone(**({} if fails else inputs_of("sst", "bert")))
        assert model.current.once("a key", lambda: 1) == 1 and model.current.once("a key", lambda: 2) == 2
    twin = copy.deepcopy(model)
    assert parts(twin)[0].current is twin.current is not model.current


def test_merging_leaves_a_plain_backbone():
    model = build(SAID, "t5")
    train(model, "t5")
    net = model.merge().backbone
    assert not any(isinstance(m, parametrize.ParametrizationList) for m in net.modules())
    assert not net._forward_pre_hooks and not net._forward_hooks and not model.shared
    assert net.shared.weight is net.encoder.embed_tokens.weight is net.decoder.embed_tokens.weight


@pytest.mark.parametrize("expression", [f"LoRA(rank=2) + {SAID}", f"{SAID} + LoRA(rank=2)"])
def test_a_lora_beside_it_can_be_merged(expression):
    model = build(expression, "bert")
    train(model, "bert")
    expected = outputs(model, "bert")
    merged = outputs(model.merge(), "bert")
    for task in TASKS:
        torch.testing.assert_close(merged[task], expected[task], rtol=1e-4, atol=1e-5)


def test_mixed_precision_does_not_reach_the_projection():
    model = build(SAID, "bert")
    train(model, "bert")
    weight = model.backbone.encoder.layer[0].output.dense
    with torch.no_grad():
        plain = weight.weight.clone()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(weight.weight, plain)
    model.store_frozen(torch.bfloat16)
    assert weight.weight.dtype == torch.bfloat16
    torch.testing.assert_close(weight.weight.float(), plain, rtol=2**-7, atol=2**-9)


# --- what is stored, and memory ---------------------------------------------------------------------------------------
@on_both
def test_a_delta_is_the_dimension_and_the_heads(kind, tmp_path):
    model = build("IntrinsicSAID(dimension=100, seed=5)", kind)
    train(model, kind)
    own = {n: t for n, t in model.delta().items() if not n.startswith("heads.")}
    assert sum(t.numel() for t in own.values()) == 100
    assert set(own) == {"shared.intrinsicsaid__space.z", "shared.intrinsicsaid__space.lambdas"}
    counts = model.counts()
    assert (counts.trainable, counts.stored, counts.changed) == (100, 100, counts.total)
    size = deltas.save(model, tmp_path / "delta.safetensors")
    heads = sum(p.numel() for p in model.heads.parameters())
    assert size < 4 * (100 + heads) + 1500


def test_buffers_are_a_few_bytes_an_entry():
    """Nothing of the size D x d: a bfloat16 and an int16 for each entry of a tensor, in whole blocks."""
    for model in (build(SAID, "bert"), build(SAID, "t5")):
        space, projections = parts(model)
        for fastfood in projections:
            held = list(fastfood.buffers())
            assert len(held) == 2 and not list(fastfood.parameters())
            assert all(b.element_size() == 2 and b.numel() < fastfood.size + space.length for b in held)
        assert sum(b.numel() * b.element_size() for b in space.buffers()) == space.length


def test_nothing_of_a_tensors_size_waits_for_the_backward_pass():
    space, fastfood = one(5000)
    kept, original = [], torch.zeros(5000)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        Project.apply(original, space.rotated()[0], space.lambdas[0], fastfood)
    assert max(kept) <= max(space.length, 32 * 32)  # the transform keeps the small matrices of its products


@pytest.mark.parametrize(("precision", "weights"), [("fp32", (1.9, 2.3)), ("bf16", (1.3, 1.7))])
def test_estimate_sees_small_gradients_and_the_buffers(precision, weights):
    said, full = (estimate(method, "minilm", 4, 8, precision) for method in ("IntrinsicSAID()", "Full()"))
    assert said.gradients + said.optimizer < 0.02 * (full.gradients + full.optimizer)
    assert weights[0] * full.weights < said.weights < weights[1] * full.weights
    assert said.peak < full.peak


@pytest.mark.parametrize("name", ["minilm", "t5-base"])
def test_the_count_is_exact(name):
    with torch.device("meta"):
        model = Tuned(backbones.shape_only(name), IntrinsicSAID(dimension=20_000), [get_task("sst")])
    space, projections = parts(model)
    assert len(space.z) + len(space.lambdas) == 20_000 and len(space.lambdas) == len(projections)
    assert all(b.is_meta for fastfood in projections for b in fastfood.buffers())


@pytest.mark.parametrize(
    "expression, hint",
    [
        (f"PerTask({SAID})", "take it out of PerTask"),
        (f"{SAID} + {SAID}", "neither repeated nor combined"),
        (f"{SAID} + FishMask(fraction=0.1)", "neither repeated nor combined"),
        (f"{SAID} + BitFit()", "write bitfit first"),
        ("IntrinsicSAID(dimension=30)", "39 tensors.*at least 40"),
        ("IntrinsicSAID(dimension=0)", "dimension=0"),
        ("IntrinsicSAID(seed=-1)", "seed=-1"),
    ],
)
def test_what_cannot_be_done_is_refused(expression, hint):
    with pytest.raises(UsageError, match=hint):
        build(expression, "bert")
