"""Methods that are limited to some blocks: ``Layers(m, start=, stop=, stack=)``."""

from __future__ import annotations

import pytest
import torch
from tiny import TASKS, build, inputs_of, outputs, train

from peftlib import backbones, catalogue, deltas, expressions
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.methods import METHODS, Layers, LoRA, parse
from peftlib.model import Tuned

LIMITED = [e.small for n, e in sorted(catalogue.methods().items()) if METHODS[n].by_layer]
WHOLE = [e.small for n, e in sorted(catalogue.methods().items()) if not METHODS[n].by_layer]
on_both = pytest.mark.parametrize("kind", ["bert", "t5"])


def counts(expression, backbone="bert-base-uncased"):
    with torch.device("meta"):
        return Tuned(backbones.shape_only(backbone), expression, [get_task("sst")]).counts()


@on_both
@pytest.mark.parametrize("expression", LIMITED)
def test_stays_in_its_blocks(expression, kind, tmp_path):
    if kind == "bert" and METHODS[expression.split("(")[0]].needs_decoder:
        pytest.skip("needs a decoder")
    model = build(f"Layers({expression}, start=1)", kind)
    train(model, kind)
    for leaf in model.method.leaves(model.tasks):
        found = [(leaf, at) for method, at in model.attachments if method == leaf.method]
        for _, at in found:
            blocks = {id(p) for s in model.anatomy.sites if s.layer == 1 for p in s.module.parameters()}
            assert {site.layer for site, _ in at.edits} <= {1} and at.tensors()
            assert {id(p) for p in at.trained} <= blocks
    model.finish()
    deltas.save(model, tmp_path / "delta.safetensors")
    again = outputs(deltas.load(tmp_path / "delta.safetensors", build("HeadOnly()", kind).backbone), kind)
    assert all(torch.equal(again[task], now) for task, now in outputs(model, kind).items())


@pytest.mark.parametrize("backbone", ["bert-base-uncased", "t5-base"])
@pytest.mark.parametrize("method", sorted(name for name, cls in METHODS.items() if cls.by_layer))
def test_closed_forms_are_those_of_the_blocks(method, backbone):
    if backbone != "t5-base" and METHODS[method].needs_decoder:
        pytest.skip("needs a decoder")
    with torch.device("meta"):
        model = Tuned(backbones.shape_only(backbone), f"Layers({method}(), start=1, stop=4)", [get_task("sst")])
    forms = [leaf.formula(model.anatomy.shape) for leaf in model.method.leaves(model.tasks)]
    assert model.counts().trainable == sum(forms) < counts(f"{method}()", backbone).trainable


@pytest.mark.parametrize("expression", WHOLE)
def test_what_acts_on_the_whole_backbone_is_refused(expression):
    with pytest.raises(UsageError, match="acts on the whole backbone, not block by block: take it out of Layers"):
        parse(f"Layers({expression}, stop=1)")


@on_both
def test_adapters_in_the_last_blocks_are_adapterdrop(kind):
    ours, theirs = (build(e, kind) for e in ("Layers(Houlsby(bottleneck=8), start=1)", "AdapterDrop(drop=1, bottleneck=8)"))
    for model in (ours, theirs):
        train(model, kind)
    assert ours.counts() == theirs.counts()
    for task, now in outputs(ours, kind).items():
        assert torch.equal(now, outputs(theirs, kind)[task])
    assert counts("Layers(Houlsby(bottleneck=24), start=5)", "t5-base") == counts("AdapterDrop(bottleneck=24)", "t5-base")


@pytest.mark.parametrize("expression", ["LoRA(rank=4)", "Houlsby(bottleneck=8)", "BitFit()", "LayerNormTuning()"])
def test_two_halves_are_the_whole(expression):
    halves = f"Layers({expression}, stop=1) + Layers({expression}, start=1)"
    both, one = build(halves, "bert"), build(expression, "bert")
    norms = sum(p.numel() for s in both.anatomy.norms if s.layer < 0 for p in s.module.parameters() if p.requires_grad)
    for model in (both, one):
        train(model, "bert")
    outer = {"BitFit()": 32, "LayerNormTuning()": 64}.get(expression, 0)  # the embeddings' norm is in no block
    assert both.counts().trainable == one.counts().trainable - outer and norms == 0
    if not outer:
        for task, now in outputs(both, "bert").items():
            assert torch.equal(now, outputs(one, "bert")[task])


def test_limits_meet_in_sums_and_copies():
    text = "Layers(LoRA(rank=2), stop=1, stack='encoder') + PerTask(Layers(Houlsby(bottleneck=4) + BitFit(), start=1))"
    read = parse("PerTask(Layers(Houlsby(bottleneck=4), start=1)) + Layers(LoRA(rank=2), stop=1, stack='encoder')")
    model = build(read, "t5")
    train(model, "t5")
    before = outputs(model, "t5")
    train(model, "t5", tasks=TASKS[:1])
    lora = next(at for leaf, at in model.attachments if isinstance(leaf, LoRA))
    assert {(site.stack, site.layer) for site, _ in lora.edits} == {("encoder", 0)}
    assert not torch.equal(outputs(model, "t5")[TASKS[0]], before[TASKS[0]])
    assert expressions.names(text) == ["LoRA", "Houlsby", "BitFit"] and expressions.per_task(text) == [False, True, True]
    assert parse(text) == parse(str(parse(text))) and str(parse(text)) == expressions.canonical(text)
    assert Layers(LoRA(), 1, None) == parse("Layers(LoRA, start=1, stop=None)")
    assert expressions.skeleton(text) == "Layers(LoRA) + PerTask(Layers(Houlsby + BitFit))"


def test_a_prefix_of_one_stack_has_networks_of_that_stack():
    for stack, kinds in (("encoder", 1), ("decoder", 2)):
        model = build(f"Layers(PrefixTuning(length=4, mlp=16), stack='{stack}')", "t5")
        assert len(model.shared) == kinds
        (leaf,) = model.method.leaves(TASKS)
        assert model.counts().trainable == leaf.formula(model.anatomy.shape)


def test_no_way_back_below_and_merging():
    model = build("Layers(LoRA(rank=2), start=1)", "bert")
    train(model, "bert")
    expected, seen = outputs(model, "bert"), []
    model.backbone.encoder.layer[1].register_forward_pre_hook(lambda _, args: seen.append(args[0].requires_grad))
    model(TASKS[0], inputs_of(TASKS[0], "bert"))
    assert seen == [False]  # no gradient is asked of what lies below
    for task, now in outputs(model.merge(), "bert").items():
        torch.testing.assert_close(now, expected[task], rtol=1e-5, atol=1e-5)
