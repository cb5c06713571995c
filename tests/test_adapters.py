"""What is particular to the adapters: counts, initial distributions, Kronecker products, the hypernetwork."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from transformers import BertConfig, T5Config

from peftlib import backbones
from peftlib.anatomy import Anatomy
from peftlib.data import get_task
from peftlib.errors import UsageError
from peftlib.methods import parse
from peftlib.methods.adapters import kronecker
from peftlib.methods.adapters.bottleneck import Bottleneck
from peftlib.methods.adapters.compacter import LPHM, Rule
from peftlib.methods.adapters.lowrank import LowRankLinear
from peftlib.methods.adapters.phm import PHM
from peftlib.methods.multitask.hypernet import Generated, Hypernet
from peftlib.model import Tuned

THREE = [get_task(name) for name in ("sst", "quora", "sts")]
BERT_TOTAL = 109_482_240


def tiny(kind: str = "bert"):
    torch.manual_seed(0)
    if kind == "bert":
        config = BertConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=99)
    else:
        config = T5Config(d_model=32, d_ff=64, num_layers=2, num_heads=4, d_kv=8, vocab_size=99, decoder_start_token_id=0)
    return backbones.from_config(config)


def inputs() -> dict[str, torch.Tensor]:
    ids = torch.arange(14).reshape(2, 7) + 5
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def counted(method: str, backbone: str, tasks=THREE[:1]) -> int:
    """What a model on the meta device really has; the closed form must say the same of one copy."""
    with torch.device("meta"):
        tuned = Tuned(backbones.shape_only(backbone), method, tasks)
    trainable = tuned.counts().trainable
    named = tuned.named_parameters()
    assert sum(p.numel() for n, p in named if p.requires_grad and not n.startswith("heads.")) == trainable
    return trainable


# --- counts -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("a", "updated", "stored"),
    [(8, 0.72, 2.15), (16, 1.39, 4.16), (32, 2.74, 8.20), (64, 5.42, 16.26), (128, 10.8, 32.4), (256, 21.56, 64.67)],
)
def test_adaptbert_adapters_are_those_of_table_3(a, updated, stored):
    one = 12 * (a * 7680 + 2 * a + 3840)
    shape = backbones.anatomy_of("bert-base-uncased").shape
    assert counted(f"AdaptBertAdapter(bottleneck={a})", "bert-base-uncased") == one
    assert parse(f"AdaptBertAdapter(bottleneck={a})").formula(shape) == one
    assert counted(f"PerTask(AdaptBertAdapter(bottleneck={a}))", "bert-base-uncased", THREE) == 3 * one
    assert 100 * one / BERT_TOTAL == pytest.approx(updated, rel=0.03)
    assert 300 * one / BERT_TOTAL == pytest.approx(stored, rel=0.03)


@pytest.mark.parametrize(("a", "stored"), [(8, 4.49), (16, 8.1), (32, 15.32), (64, 29.76), (128, 58.63)])
def test_the_hypernetwork_is_near_table_3(a, stored):
    method = f"AdaptBertHypernet(bottleneck={a})"
    count = counted(method, "bert-base-uncased", THREE)
    shape = backbones.anatomy_of("bert-base-uncased").shape
    assert count == parse(method).formula(shape, tasks=3)
    assert 100 * count / BERT_TOTAL == pytest.approx(stored, abs=0.5)


def test_the_hypernetworks_docstring_gives_the_counts_it_has():
    from peftlib.methods.multitask import adaptbert_hypernet

    shape = backbones.anatomy_of("bert-base-uncased").shape
    for a in (8, 16, 32, 64, 128):
        percent = 100 * parse(f"AdaptBertHypernet(bottleneck={a})").formula(shape, tasks=3) / BERT_TOTAL
        assert f"{percent:.2f}" in adaptbert_hypernet.__doc__


@pytest.mark.parametrize(
    ("method", "backbone", "count"),
    [
        ("Houlsby(bottleneck=64)", "t5-large", 12_687_360),  # survey, Table 5
        ("Houlsby(bottleneck=64)", "t5-11b", 12_687_360),
        ("Compacter(train_norms=False)", "t5-large", 304_192),  # survey, Table 5
        ("Compacter(train_norms=False)", "t5-base", 114_112),  # Compacter paper, 0.073% with the norms
        ("Compacter()", "t5-base", 114_112 + 47_616),
        ("Compacter(n=8, train_norms=False)", "t5-base", 114_560),
        ("Compacter(n=12, train_norms=False)", "t5-base", 115_776),
        ("Compacter(rank=2, train_norms=False)", "t5-base", 114_112 + 48 * 2 * 792),
        ("CompacterPlusPlus(train_norms=False)", "t5-base", 57_088),
        ("CompacterPlusPlus(n=12)", "t5-base", 57_088 - 64 + 1_728 + 47_616),
        ("Compacter(n=16, bottleneck=16, train_norms=False)", "t5-small", 42_112),
        ("PHMAdapter(n=12, train_norms=False)", "t5-base", 351_360),
        ("PHMAdapter(n=16, bottleneck=64, train_norms=False)", "t5-small", 24 * (2 * (512 * 4 + 4096) + 576)),
        ("AdapterLowRank(train_norms=False)", "t5-base", 114_048),
        ("AdapterLowRank(rank=3, train_norms=False)", "t5-base", 114_048 + 48 * 4 * 792),
        ("PfeifferAttention(bottleneck=24)", "t5-base", 903_744),
        ("PfeifferFFN(bottleneck=64)", "t5-3b", 6_343_680),  # survey, Table 5
        ("AdapterDrop(bottleneck=24)", "t5-base", 1_054_368),  # Compacter paper, 0.494% with all norms
        ("AdapterDrop(bottleneck=24, train_norms=True)", "t5-base", 1_054_368 + 47_616),
        ("AdapterDrop(bottleneck=16)", "t5-small", 67_648),
        ("Houlsby(bottleneck=24)", "t5-base", 1_807_488),  # Compacter paper, row "Adapter"
        ("Houlsby(bottleneck=24, train_norms=True)", "t5-base", 1_807_488 + 47_616),
    ],
)
def test_counts_on_t5_are_the_papers(method, backbone, count):
    assert counted(method, backbone) == count
    assert parse(method).formula(backbones.anatomy_of(backbone).shape) == count


# --- places -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "widths"),
    [
        ("AdaptBertAdapter(bottleneck=4)", {"attention.output": 32, "ffn.down": 64}),
        ("Houlsby(bottleneck=4)", {"attention.output": 32, "ffn.down": 32}),
    ],
)
@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_every_block_has_two_adapters_and_cross_attention_none(method, widths, kind):
    tuned = Tuned(tiny(kind), method, THREE[:1])
    ((_, at),) = tuned.attachments
    blocks = Anatomy(tiny(kind)).shape.layers
    assert [(s.name, e.down.in_features) for s, e in at.edits].count(("attention.output", 32)) == blocks
    assert {s.name: e.down.in_features for s, e in at.edits} == widths
    assert len(at.edits) == 2 * blocks


def test_the_adapter_on_the_hidden_activation_acts_before_ffn_down():
    tuned = Tuned(tiny(), "AdaptBertAdapter(bottleneck=4)", THREE[:1]).eval()
    edited = tuned.backbone.encoder.layer[0].output.dense
    adapter, x = edited.edits["adaptbertadapter"], torch.randn(3, 64)
    by_hand = x + adapter.up(torch.nn.functional.gelu(adapter.down(x)))
    torch.testing.assert_close(edited(x), edited.base(by_hand))


@pytest.mark.parametrize(
    "method, sites",
    [
        ("PfeifferAttention(bottleneck=4)", {"attention.output"}),
        ("PfeifferFFN(bottleneck=4)", {"ffn.down"}),
        ("CompacterPlusPlus(bottleneck=4)", {"ffn.down"}),
        ("Compacter(bottleneck=4)", {"attention.output", "ffn.down"}),
        ("AdapterLowRank(bottleneck=4)", {"attention.output", "ffn.down"}),
        ("PHMAdapter(bottleneck=4)", {"attention.output", "ffn.down"}),
    ],
)
def test_variants_keep_their_places_in_every_block(method, sites):
    ((_, at),) = Tuned(tiny("t5"), method, THREE[:1]).attachments
    assert {(s.stack, s.layer, s.name) for s, _ in at.edits} == {
        (stack, layer, name) for stack in ("encoder", "decoder") for layer in (0, 1) for name in sites
    }
    assert len(at.edits) == 4 * len(sites)


# --- AdapterDrop ------------------------------------------------------------------------------------------------------
def test_dropped_blocks_have_no_adapter_in_either_stack():
    ((_, at),) = Tuned(tiny("t5"), "AdapterDrop(bottleneck=4, drop=1)", THREE[:1]).attachments
    assert [(s.stack, s.layer) for s, _ in at.edits] == [("encoder", 1)] * 2 + [("decoder", 1)] * 2


@pytest.mark.parametrize(
    "kind, drop, said",
    [("bert", 2, "2 encoder blocks"), ("bert", 7, "from 0 to 1"), ("t5", 2, "2 encoder blocks and 2 decoder blocks")],
)
def test_dropping_everything_is_refused_with_the_depth(kind, drop, said):
    with pytest.raises(UsageError, match=rf"AdapterDrop\(.*drop={drop}.*{said}"):
        Tuned(tiny(kind), f"AdapterDrop(bottleneck=4, drop={drop})", THREE[:1])


def needs_gradient(tuned: Tuned) -> dict[str, bool]:
    """Does what a module of the backbone returns depend on anything that is trained?"""
    found = {}

    def look(name):
        return lambda module, args, out: found.update({name: (out if torch.is_tensor(out) else out[0]).requires_grad})

    for name, module in tuned.backbone.named_modules():
        module.register_forward_hook(look(name))
    tuned("sst", inputs())
    return found


def test_nothing_below_an_encoders_first_adapter_needs_a_gradient_unless_norms_are_trained():
    first, last = "encoder.layer.0", "encoder.layer.1"
    frozen = needs_gradient(Tuned(tiny(), "AdapterDrop(bottleneck=4, drop=1)", THREE[:1]))
    assert not frozen[first] and frozen[last] and not frozen[f"{last}.attention.self"]
    trained = needs_gradient(Tuned(tiny(), "AdapterDrop(bottleneck=4, drop=1, train_norms=True)", THREE[:1]))
    assert trained[first] and trained["embeddings"]


def test_a_decoders_cross_attention_is_a_way_to_the_encoders_adapters():
    found = needs_gradient(Tuned(tiny("t5"), "AdapterDrop(bottleneck=4, drop=1)", THREE[:1]))
    assert not found["encoder.block.0"] and found["encoder.block.1"]
    assert not found["decoder.block.0.layer.0"] and found["decoder.block.0.layer.1"]


# --- how they start ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("init", "std", "bound"), [("bert", 0.02, None), ("hyperformer", 0.01, None), ("houlsby", 0.88e-3, 2e-3)]
)  # 0.88: the cut narrows a normal
def test_bottlenecks_start_as_their_name_says(init, std, bound):
    torch.manual_seed(0)
    adapter = Bottleneck(512, 64, "relu", init)
    for linear in (adapter.down, adapter.up):
        assert linear.weight.std().item() == pytest.approx(std, rel=0.03)
        assert linear.weight.mean().abs().item() < 4 * std / math.sqrt(linear.weight.numel())
        assert bound is None or linear.weight.abs().max() <= bound
        assert not linear.bias.any()


def test_compacter_starts_from_a_rule_of_1e_4_and_xavier_factors():
    torch.manual_seed(0)
    rule = Rule(12)
    layer = LPHM(rule, 12 * 64, 12 * 2)
    assert rule.A.std().item() == pytest.approx(1e-4, rel=0.1)
    for factor, fans in ((layer.s, 64 + 1), (layer.t, 1 + 2)):
        bound = math.sqrt(2) * math.sqrt(6 / fans)
        assert factor.abs().max() <= bound
    assert layer.s.std().item() == pytest.approx(math.sqrt(2) * math.sqrt(6 / 65) / math.sqrt(3), rel=0.1)
    assert not layer.b.any()


# --- Compacter --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("n", "k", "m"), [(4, 32, 8), (4, 8, 32), (2, 6, 10), (1, 5, 3)])
def test_a_phm_layer_is_a_sum_of_kronecker_products(n, k, m):
    torch.manual_seed(0)
    rule = Rule(n)
    torch.nn.init.normal_(rule.A)
    layer = LPHM(rule, k, m)
    torch.nn.init.normal_(layer.b)
    H = sum(torch.kron(rule.A[i], layer.s[i] @ layer.t[i]) for i in range(n))
    x = torch.randn(2, 5, k)
    assert H.shape == (k, m)
    torch.testing.assert_close(layer(x), x @ H + layer.b, rtol=1e-4, atol=1e-5)


def test_one_rule_serves_the_whole_model_and_a_copy_of_it_serves_the_copy():
    for tuned in (model := Tuned(tiny("t5"), "Compacter(bottleneck=4)", THREE[:1]), copy.deepcopy(model)):
        layers = [m for m in tuned.modules() if isinstance(m, LPHM)]
        assert len(layers) == 4 * 2 * 2
        assert {id(layer.rule.module) for layer in layers} == {id(tuned.shared["compacter__rule"])}
        assert [n for n in tuned.state_dict() if n.endswith(".A")] == ["shared.compacter__rule.A"]


@pytest.mark.parametrize(
    ("method", "number"), [("Compacter()", "1"), ("Compacter(bottleneck=6)", "6"), ("Compacter(n=3, bottleneck=3)", "n=3")]
)
def test_compacter_refuses_sizes_that_n_does_not_divide(method, number):
    with pytest.raises(UsageError, match=f"{number}.*must divide both"):
        Tuned(tiny(), method, THREE[:1])


def test_compacters_norms_are_not_held_per_task_but_its_adapters_can_be():
    with pytest.raises(UsageError, match="take it out of PerTask"):
        Tuned(tiny(), "PerTask(Compacter(bottleneck=4))", THREE)
    tuned = Tuned(tiny(), "PerTask(Compacter(bottleneck=4, train_norms=False))", THREE)
    assert len([m for m in tuned.modules() if isinstance(m, Rule)]) == 3


# --- Kronecker products and low rank ----------------------------------------------------------------------------------
@pytest.mark.parametrize("order", [kronecker.built, kronecker.factored])
@pytest.mark.parametrize(
    ("n", "k", "m", "rank"),
    [(4, 32, 8, None), (4, 8, 32, None), (2, 6, 10, 2), (3, 9, 6, 1), (1, 5, 3, None), (4, 32, 8, 3)],
)
def test_both_orders_are_the_sum_of_kronecker_products(order, n, k, m, rank):
    torch.manual_seed(0)
    A, x = torch.randn(n, n, n), torch.randn(2, 5, k)
    B = torch.randn(n, k // n, m // n) if rank is None else (torch.randn(n, k // n, rank), torch.randn(n, rank, m // n))
    H = sum(torch.kron(A[i], B[i] if rank is None else B[0][i] @ B[1][i]) for i in range(n))
    torch.testing.assert_close(order(x, A, B), x @ H, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(kronecker.multiply(x, A, B), x @ H, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n", "k", "m", "rank"), [(4, 32, 8, None), (4, 8, 32, None), (4, 32, 8, 1), (2, 8, 6, 3)])
@pytest.mark.parametrize("tokens", [1, 10])
def test_products_are_those_that_are_carried_out(n, k, m, rank, tokens):
    """Counted as torch counts the operations of matrix products: two for each product."""
    from torch.utils.flop_counter import FlopCounterMode

    A, x = torch.randn(n, n, n), torch.randn(tokens, k)
    B = torch.randn(n, k // n, m // n) if rank is None else (torch.randn(n, k // n, rank), torch.randn(n, rank, m // n))
    for name, expected in kronecker.products(n, k, m, tokens, rank).items():
        with FlopCounterMode(display=False) as counter:
            getattr(kronecker, name)(x, A, B)
        assert counter.get_total_flops() == 2 * expected, name


def test_the_cheaper_order_is_taken(monkeypatch):
    called = []
    for name in ("built", "factored"):
        monkeypatch.setattr(kronecker, name, lambda x, A, B, name=name: called.append(name))
    phm, lphm, wide = PHM(4, 768, 24), LPHM(Rule(4), 768, 24), LPHM(Rule(12), 768, 24, rank=3)
    for tokens, layer, B in (
        (64, phm, phm.B),
        (192, phm, phm.B),
        (4096, phm, phm.B),
        (4096, lphm, (lphm.s, lphm.t)),
        (4096, wide, (wide.s, wide.t)),
    ):
        rule = layer.A if layer is phm else layer.rule.module.A
        kronecker.multiply(torch.empty(tokens, 768), rule, B)
    assert called == ["factored", "factored", "built", "factored", "built"]  # 192 = max(k, m) / n: no difference yet
    assert kronecker.products(4, 768, 24, 1, rank=1)["factored"] == 3_232  # as the docstring says


def test_a_phm_layer_starts_from_a_rule_of_its_own_and_xavier_factors():
    torch.manual_seed(0)
    layers = [m for m in Tuned(tiny("t5"), "PHMAdapter(n=4, bottleneck=8)", THREE[:1]).modules() if isinstance(m, PHM)]
    assert len({id(layer.A) for layer in layers}) == len(layers) == 2 * 2 * 4
    assert torch.cat([layer.A.flatten() for layer in layers]).std().item() == pytest.approx(0.01, rel=0.1)
    bound = math.sqrt(2) * math.sqrt(6 / (8 + 2))
    assert all(layer.B.abs().max() <= bound and not layer.b.any() for layer in layers)
    assert torch.cat([layer.B.flatten() for layer in layers]).std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_low_rank_layer_is_a_matrix_product(rank):
    torch.manual_seed(0)
    layer, x = LowRankLinear(8, 5, rank), torch.randn(2, 7, 8)
    torch.nn.init.normal_(layer.b)
    torch.testing.assert_close(layer(x), x @ (layer.l @ layer.r) + layer.b)
    assert torch.linalg.matrix_rank(layer.l @ layer.r) == rank
    assert layer.l.abs().max() <= math.sqrt(2) * math.sqrt(6 / (8 + rank))


def test_phm_refuses_12_on_t5_large_which_the_paper_names_for_it():
    with pytest.raises(UsageError, match="width 1024.*n=12 must divide both"):
        counted("PHMAdapter(n=12)", "t5-large")


# --- the hypernetwork -------------------------------------------------------------------------------------------------
HYPERNET = "AdaptBertHypernet(bottleneck=4, task_dim=8, hidden=16, norm_std=0.01)"


def hypernet(method: str = HYPERNET, kind: str = "bert", tasks=THREE) -> tuple[Tuned, Hypernet]:
    tuned = Tuned(tiny(kind), method, tasks).eval()
    return tuned, next(m for m in tuned.modules() if isinstance(m, Hypernet))


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_generated_tensors_have_the_shapes_of_an_adapter(kind):
    tuned, net = hypernet(kind=kind)
    for position, n in ((0, 32), (1, 64)):
        shapes = [tuple(t.shape) for t in net.adapter(position, tuned.anatomy.shape.layers - 1)]
        assert shapes == [(4, n), (4,), (n, 4), (n,), (n,), (n,)]
    places = {(e.which, e.row) for e in tuned.modules() if isinstance(e, Generated)}
    assert places == {(p, layer) for p in (0, 1) for layer in range(tuned.anatomy.shape.layers)}


def test_equation_4_by_hand():
    tuned, net = hypernet()
    D, b_D, U, b_U, gamma, beta = net.adapter(0, 1)
    x = torch.randn(3, 32)
    h = torch.nn.functional.gelu(x @ D.T + b_D) @ U.T + b_U
    normed = (h - h.mean(1, keepdim=True)) / (h.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    edited = tuned.backbone.encoder.layer[1].attention.output.dense
    edit = next(iter(edited.edits.values()))
    torch.testing.assert_close(edit.after(x, x), x + normed * gamma + beta)
    torch.testing.assert_close(edited(x), edit.after(x, edited.base(x)))


def test_tasks_differ_by_their_embedding_alone():
    tuned, net = hypernet()
    tuned("sts", inputs())
    tuned.features(inputs()).sum().backward()
    assert net.z["sts"].weight.grad.any()
    assert net.z["sst"].weight.grad is None and net.z["quora"].weight.grad is None
    apart = [tuned("sst", inputs()), tuned.head("sst", features_as(tuned, "quora"))]
    assert not torch.equal(*apart)
    with torch.no_grad():
        net.z["quora"].weight.copy_(net.z["sst"].weight)
    torch.testing.assert_close(tuned("sst", inputs()), tuned.head("sst", features_as(tuned, "quora")))


def features_as(tuned: Tuned, task: str) -> torch.Tensor:
    tuned.current.task = task
    return tuned.features(inputs())


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_every_place_is_written_once_a_forward_and_nothing_is_kept(kind):
    tuned, net = hypernet(kind=kind)
    calls = []
    for h in net.h:
        h.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(2):
        tuned("sst", inputs())
    assert len(calls) == 2 * 2  # two forwards, two widths; not once a layer
    with pytest.raises(IndexError):
        tuned("sst", {**inputs(), "input_ids": torch.full((2, 7), 10**6)})
    with torch.no_grad():
        before = tuned("sst", inputs())
        net.h[0].W_U.weight.add_(1)
        assert not torch.equal(tuned("sst", inputs()), before)


def test_a_copy_of_the_model_writes_from_its_own_network():
    tuned, net = hypernet()
    twin = copy.deepcopy(tuned)
    expected = tuned("sts", inputs())
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    assert not torch.equal(tuned("sts", inputs()), expected)
    tuned.current.task = "sst"
    torch.testing.assert_close(twin("sts", inputs()), expected)


def test_held_per_task_each_task_has_a_network_of_its_own():
    tuned, _ = hypernet(f"PerTask({HYPERNET})")
    nets = {name: m for name, m in tuned.shared.items()}
    assert list(nets) == [f"adaptberthypernet__{t.name}__hypernet" for t in THREE]
    tuned("sts", inputs()).sum().backward()
    for name, net in nets.items():
        assert all((p.grad is not None) == ("sts" in name.split("__")) for p in net.parameters())


def test_hyperformers_start_is_told_apart_from_ours():
    exact, other = hypernet("AdaptBertHypernet()")[1], hypernet("AdaptBertHypernet(norm_std=0.01)")[1]
    assert not any(p.any() for h in exact.h for p in h.W_LN.parameters())
    for h in other.h:
        assert h.W_LN.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert h.W_D.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert not h.W_D.bias.any()


# --- precision --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "method",
    [
        "AdaptBertAdapter(bottleneck=4)",
        "Houlsby(bottleneck=4, train_norms=True)",
        "Compacter(bottleneck=4)",
        "PHMAdapter(bottleneck=4)",
        "AdapterLowRank(bottleneck=4)",
        HYPERNET,
    ],
)
@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_forward_and_backward_in_bfloat16(method, kind):
    tuned = Tuned(tiny(kind), method, THREE).eval()
    exact = tuned("sts", inputs()).detach()
    tuned.store_frozen(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = tuned("sts", inputs())
        tuned.loss("sts", out, torch.zeros(2)).backward()
    torch.testing.assert_close(out.float(), exact, rtol=0.05, atol=0.05)
    assert all(torch.isfinite(p.grad).all() for p in tuned.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "bad",
    [
        "AdaptBertAdapter(bottleneck=0)",
        "AdaptBertAdapter(activation='tanhh')",
        "Houlsby(init='xavier')",
        "Compacter(n=0)",
        "Compacter(bottleneck=0)",
        "Compacter(rank=0)",
        "PfeifferFFN(bottleneck=0)",
        "AdapterDrop(drop=-1)",
        "AdapterLowRank(rank=0)",
        "AdapterLowRank(rank=25)",
        "PHMAdapter(n=0)",
        "AdaptBertHypernet(task_dim=0)",
        "AdaptBertHypernet(norm_std=-1.0)",
    ],
)
def test_impossible_hyperparameters_are_refused(bad):
    with pytest.raises(UsageError, match="is impossible"):
        parse(bad)
