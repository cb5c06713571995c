"""Methods that begin from other runs: what they take of these, by references of their own."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny import TASKS, after_training, batch, build, inputs_of, outputs, start_of, train
from torch.nn import functional as F

from peftlib import backbones, deltas, grids, own, records, study
from peftlib.accounting.estimate import estimate
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.methods import FAR, IPT, LTSFT, PromptAutoencoder, SPoT, parse
from peftlib.methods.soft_prompts.spot import similarity
from peftlib.model import Tuned
from peftlib.records import Recipe, Run
from peftlib.training import loop
from peftlib.training.loop import Trainer, digest_of

KINDS = pytest.mark.parametrize("kind", ["bert", "t5"])
ALL = ["LTSFT(fraction=0.05)", "FAR(retention=0.1)", "SPoT(length=4)", "IPT(length=4, dimension=3)"]


def moved(kind: str) -> dict[str, torch.Tensor]:
    """How far full fine-tuning moves each tensor, by name."""
    before, after = (dict(m.backbone.named_parameters()) for m in (build("Full()", kind), after_training("Full()", kind)))
    return {name: (after[name] - tensor).detach().abs() for name, tensor in before.items()}


# --- LT-SFT and FAR ---------------------------------------------------------------------------------------------------
@KINDS
def test_ltsft_trains_what_moved_most_from_the_beginning(kind):
    model = build("LTSFT(fraction=0.05)", kind)
    assert all(torch.equal(t, outputs(build("HeadOnly()", kind), kind)[task]) for task, t in outputs(model, kind).items())
    names = {name.lower() for name in moved(kind)}
    movable = {n: t for n, t in moved(kind).items() if "norm" not in n.lower()}
    assert len(movable) < len(names)
    k = round(0.05 * model.anatomy.shape.total)
    edge = torch.cat([t.flatten() for t in movable.values()]).topk(k).values[-1]
    found, theirs = 0, {n: t for n, t in model.delta().items() if n.endswith("indices")}
    for name, tensor in movable.items():
        path, _, last = name.rpartition(".")
        chosen = theirs.pop(f"backbone.{path}.parametrizations.{last}.0.indices", None)
        wanted = (tensor.flatten() > edge).nonzero()[:, 0]
        assert set(wanted.tolist()) <= set(() if chosen is None else chosen.tolist())  # ties at the edge are ours to choose
        found += 0 if chosen is None else len(chosen)
        assert chosen is None or (tensor.flatten()[chosen.long()] >= edge).all()
    assert found == k and not theirs


@KINDS
def test_far_trains_the_nodes_that_moved_farthest(kind):
    model, far = build("FAR(retention=0.1)", kind), moved(kind)
    (_, at), edits = model.attachments[0], 0
    for site, edit in at.edits:
        plain = {id(m): n.replace(".base", "") for n, m in model.backbone.named_modules()}[id(site.module.base)]
        distance = far[f"{plain}.weight"].sum(1) + far.get(f"{plain}.bias", 0.0)
        n = max(1, round(0.1 * len(distance)))
        assert edit.nodes.tolist() == sorted(distance.topk(n).indices.tolist())
        edits += 1
    assert edits == 2 * (2 if kind == "bert" else 4)


def test_far_is_the_layer_cut_in_two_and_put_together_again():
    """The paper's form: learners and frozen nodes as two layers, their outputs permuted back into place."""
    model = after_training("FAR(retention=0.1)", "bert")
    for site, edit in model.attachments[0][1].edits:
        linear, x = site.module.base, torch.randn(3, 5, site.module.base.in_features)
        nodes = edit.nodes.long()
        frozen = torch.tensor([i for i in range(linear.out_features) if i not in set(nodes.tolist())])
        learners = F.linear(x, linear.weight[nodes] + edit.V, linear.bias[nodes] + edit.c)
        parts = torch.cat([learners, F.linear(x, linear.weight[frozen], linear.bias[frozen])], -1)
        whole = parts[..., torch.argsort(torch.cat([nodes, frozen]))]
        torch.testing.assert_close(site.module(x), whole, rtol=1e-5, atol=1e-6)
        assert edit.V.abs().sum() > 0


@pytest.mark.parametrize(
    "method, name, trained, stored",
    [  # a tenth of DistilBERT's feed-forward nodes: 6 layers of 307 nodes of 769 numbers and 77 of 3,073
        (FAR(retention=0.1), "distilbert-base-uncased", 2_836_224, 2_836_224 + 6 * (307 + 77)),
        (FAR(retention=0.4), "distilbert-base-uncased", 6 * (1229 * 769 + 307 * 3073), 6 * (1229 * 770 + 307 * 3074)),
        (LTSFT(fraction=0.08), "bert-base-uncased", 8_758_579, 2 * 8_758_579),
        (SPoT(length=100), "t5-base", 76_800, 76_800),
        (IPT(length=100, dimension=250), "t5-base", 250, 76_800),
        (PromptAutoencoder(length=100, dimension=250), "bert-base-uncased", 78_452_218, 78_452_218 + 76_800),
        (PromptAutoencoder(length=100, dimension=5), "bert-base-uncased", 77_569 * 5 + 59_059_968, None),
    ],
)
def test_counts(method, name, trained, stored):
    with torch.device("meta"):
        model = Tuned(backbones.shape_only(name), method, [get_task("sst")])
    assert method.formula(model.anatomy.shape) == model.counts().trainable == trained
    assert stored is None or model.counts().stored == stored
    assert model.counts().changed <= model.counts().stored


def test_printed_of_ipt():
    """The survey: 78M, over 56% of BART-base (139,420,416)."""
    assert round(100 * 78_452_218 / 139_420_416, 2) == 56.27
    assert (
        estimate("FAR()", "bert-base-uncased", 8, 64).peak > 0 and estimate("LTSFT()", "bert-base-uncased", 8, 64).peak > 0
    )


# --- SPoT and intrinsic prompt tuning ---------------------------------------------------------------------------------
@KINDS
def test_spot_says_at_first_what_its_source_says(kind):
    source = after_training("PromptTuning(length=4)", kind)
    model = build("SPoT(length=4)", kind)
    for task, said in outputs(source, kind).items():
        assert torch.equal(outputs(model, kind)[task], said)
    train(model, kind)
    assert all(not torch.equal(t, outputs(source, kind)[task]) for task, t in outputs(model, kind).items())


def test_similarity_is_the_cosine_of_mean_vectors():
    first, second = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[1.0, 2.0], [1.0, 0.0]])
    assert similarity(first, second) == pytest.approx(2**-0.5) and similarity(first, 7 * first) == pytest.approx(1)


@KINDS
def test_the_autoencoder_is_that_of_the_paper(kind):
    model = after_training("PromptAutoencoder(length=4, dimension=3)", kind)
    W = {n.split("autoencoder.")[1]: t for n, t in model.delta().items() if "autoencoder" in n}
    given = [
        next(t for n, t in g.items() if n.endswith(".P"))
        for g in start_of("PromptAutoencoder(length=4, dimension=3)", kind)
    ]
    (leaf, at) = model.attachments[0]
    for task, p in zip(TASKS, given, strict=True):
        z = W["W1.weight"] @ p.flatten() + W["W1.bias"]
        decoded = (
            W["decoder.W3.weight"] @ torch.tanh(W["decoder.W2.weight"] @ z + W["decoder.W2.bias"]) + W["decoder.W3.bias"]
        )
        model.current.task = task
        torch.testing.assert_close(leaf.penalty(at).detach(), 200 * (decoded - p.flatten()).square().mean())
        prompt = build("PromptTuning(length=4)", kind)
        with torch.no_grad():
            prompt.attachments[0][1].edits[0][1].P.copy_(decoded.view(4, -1))
            prompt.heads.load_state_dict(model.heads.state_dict())
            said = prompt(task, inputs_of(task, kind))
        torch.testing.assert_close(outputs(model, kind)[task], said, rtol=1e-5, atol=1e-5)


@KINDS
def test_ipt_trains_the_vector_alone_and_ends_as_its_prompt(kind):
    model = build("IPT(length=4, dimension=3)", kind)
    (given,) = start_of("IPT(length=4, dimension=3)", kind)
    decoder = {n: t.clone() for n, t in model.delta().items() if "decoder" in n}
    assert len(decoder) == 4
    for name, tensor in decoder.items():
        assert torch.equal(tensor, given["shared.promptautoencoder__autoencoder.decoder." + name.rpartition("decoder.")[2]])
    train(model, kind)
    after = model.delta()
    assert all(torch.equal(after[name], tensor) for name, tensor in decoder.items())
    model.finish()
    assert {n.rpartition(".")[2] for n in model.delta() if not n.startswith("heads.")} == {"P"}


# --- refusals ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("expression", [*ALL, "PromptAutoencoder(length=4, dimension=3)", "LoRA(rank=2) + SPoT(length=4)"])
def test_without_a_start_it_is_refused_before_training(expression):
    model = build(expression, "bert", prepared=False)
    with pytest.raises(UsageError, match=r"begins from a run of .* and no start is given: name that run in `start`"):
        model.prepare([(task, batch(task)) for task in TASKS])


@pytest.mark.parametrize(
    "expression, given, said",
    [
        ("LTSFT(fraction=0.05)", ["LoRA(rank=4)"], r"begins from a run of Full\(\).*has not trained backbone\."),
        ("FAR(retention=0.1)", ["BitFit()"], r"begins from a run of Full\(\).*has not trained backbone\..*weight"),
        ("LTSFT(fraction=0.05)", ["Full()", "Full()"], "begins from one run, and its start names 2"),
        ("SPoT(length=4)", ["PromptTuning(length=3)"], r"a prompt of \(4, 32\), and its start has .*P of \(3, 32\)"),
        ("SPoT(length=4)", ["LoRA(rank=4)"], "and its start has no prompt"),
        ("SPoT(length=4)", ["PromptTuning(length=4)"] * 2, "expected 1, and its start names 2"),
        ("PromptAutoencoder(length=4)", ["PromptTuning(length=4)"], "expected 2, and its start names 1"),
        (
            "IPT(length=4, dimension=2)",
            ["PromptAutoencoder(length=4, dimension=3)"],
            r"W2.weight is \(32, 2\) here, \(32, 3\)",
        ),
        ("IPT(length=4, dimension=3)", ["PromptTuning(length=4)"], "here, none there"),
    ],
)
def test_a_start_that_does_not_fit_is_named(expression, given, said):
    model = build(expression, "bert", prepared=False)
    with pytest.raises(UsageError, match=said):
        model.begin([after_training(one, "bert").delta() for one in given])


# --- as runs ----------------------------------------------------------------------------------------------------------
def run(method: str) -> Run:
    """As the smoke preset would train it on one layer of MiniLM, with what it begins from."""
    smoke = dataclasses.replace(
        grids.get_preset("smoke"), backbone="minilm[:1]", limits=(16, 8, 8), limits_single=(16, 8, 8)
    )
    return grids.make_run(smoke, method, ("sst",))


ROWS = [("LTSFT(fraction=0.01)", 1), ("FAR()", 1), ("SPoT(length=100)", 1), ("IPT(length=100, dimension=50)", 2)]


@pytest.mark.parametrize("method, generation", ROWS)
def test_the_study_trains_what_it_begins_from(method, generation, tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    wanted = run(method)
    assert wanted.generation == generation
    others = {task for parent in wanted.start for task in parent.tasks}
    assert (others == {"sst"}) == ("Full" in wanted.start[0].method) and ("sst" not in others or others == {"sst"})
    monkeypatch.setattr(grids, "EXPERIMENTS", {"paper/table": lambda preset: [wanted]})
    monkeypatch.setattr(grids, "experiments", lambda: grids.EXPERIMENTS)
    (record,) = study.results("paper/table", "smoke", progress=False)
    assert set(record["start"]) == {parent.digest for parent in wanted.start}
    assert record["counts"]["trainable"] == parse(method).formula(
        Trainer(parent_of(wanted), progress=False).model.anatomy.shape
    )
    assert record["estimate_bytes"] > 0 and record["stored_bytes"] >= 4 * record["counts"]["stored"]


def parent_of(child: Run) -> Run:
    return records.with_parents([child])[0]


def carried(method: str, tasks: tuple[str, ...]) -> Run:
    """A run that begins as the first task of one on several."""
    parent = dataclasses.replace(run(method), tasks=tasks)
    return dataclasses.replace(run(method), start=(parent,), start_task=tasks[0])


@pytest.mark.parametrize(
    "wanted", [run("LTSFT(fraction=0.01)"), carried("HyperFormerPlusPlus(bottleneck=2)", ("quora", "cfimdb"))], ids=str
)
def test_taken_up_again_it_gives_the_same_bits(wanted, tmp_path, monkeypatch):
    recipe = Recipe(1e-3, 2, 8, precision="fp32", max_length=32)
    wanted = dataclasses.replace(wanted, recipe=recipe)
    deltas.save(Trainer(wanted.start[0], progress=False).fit().model, path := tmp_path / "full.safetensors")
    whole = Trainer(wanted, None, False, [path]).fit()
    monkeypatch.setattr(loop, "SAVE_EVERY", 0)
    real = Trainer._epoch

    def killed(self, epoch, *args):
        if epoch == 2:
            raise KeyboardInterrupt
        return real(self, epoch, *args)

    monkeypatch.setattr(Trainer, "_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        Trainer(wanted, tmp_path / "c.pt", False, [path]).fit()
    monkeypatch.setattr(Trainer, "_epoch", real)
    again = Trainer(wanted, tmp_path / "c.pt", False, [path]).fit()
    assert len(again.history) == 2 and digest_of(again.model.delta()) == digest_of(whole.model.delta())
    assert again.test == whole.test


def test_sources_of_methods_that_begin_on_other_tasks(tmp_path):
    with pytest.raises(UsageError, match="begins from no run on other tasks"):
        own.sources("LTSFT()", tmp_path)
    (path,) = own.sources("SPoT(length=4)", tmp_path, backbone="minilm[:1]")
    metadata, tensors = deltas.read_tensors(path)
    assert metadata["method"] == "PromptTuning(length=4)" and "sst" not in metadata["tasks"]
