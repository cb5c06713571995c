"""Parts behind gates that read the text: UniPELT and adaptive prefixes."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import TASKS, after_training, build, inputs_of, outputs, train, writing_t5

from peftlib.accounting.counting import count
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.methods.hybrid.unipelt import Gate
from peftlib.methods.soft_prompts.adaptive import AdaptivePrefix
from peftlib.methods.soft_prompts.prefix import Prefix
from peftlib.model import Tuned

UNIPELT = "UniPELT(length=2, mlp=None, rank=2, bottleneck=4)"
PARTS = (
    "PrefixTuning(length=2, mlp=None) + LoRA(rank=2, sites=('query', 'value'))"
    " + PfeifferFFN(bottleneck=4, activation='relu', init='bert')"
)
on_all = pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "distilbert", "t5", "mt5"])


def set_gates(model, bias):
    """All gates at a constant."""
    for gate in (m for m in model.modules() if isinstance(m, Gate)):
        torch.nn.init.zeros_(gate.linear.weight)
        torch.nn.init.constant_(gate.linear.bias, bias)


def give_weights(model, other):
    """The other model's tensors, by what they are, in their order."""

    def tensors(one):
        edits = [edit for _, at in one.attachments for _, edit in at.edits]
        return [
            [p for edit in edits for n, p in edit.named_parameters() if n.split(".")[0] == part]
            for part in ("flat", "A", "B", "down", "up")
        ] + [list(one.heads.parameters())]

    with torch.no_grad():
        for ours, theirs in zip(tensors(model), tensors(other), strict=True):
            assert len(ours) == len(theirs) > 0
            for p, q in zip(ours, theirs, strict=True):
                p.copy_(q)


@on_all
def test_with_open_gates_unipelt_is_the_sum_of_its_parts(kind):
    model, parts = build(UNIPELT, kind), build(PARTS, kind)
    train(parts, kind)
    give_weights(model, parts)
    half = outputs(model, kind)
    set_gates(model, 50.0)
    for task, expected in outputs(parts, kind).items():
        torch.testing.assert_close(outputs(model, kind)[task], expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(half[task], expected, atol=1e-4)


def test_a_gate_is_the_mean_over_the_text_of_what_it_reads():
    model = after_training(UNIPELT, "bert")
    ((_, at),) = model.attachments
    (edit,) = (e for s, e in at.edits if s.name == "attention.value" and s.layer == 0)
    seen = []
    edit.gate.register_forward_hook(lambda _, given, g: seen.append((given[0], g)))
    given = inputs_of("sst", "bert")
    model("sst", given)
    ((x, gate),) = seen
    for row, mask in enumerate(given["attention_mask"].bool()):
        expected = torch.sigmoid(x[row, mask] @ edit.gate.linear.weight[0] + edit.gate.linear.bias).mean()
        torch.testing.assert_close(gate[row, 0, 0], expected)
    assert gate.std() > 0


@pytest.mark.parametrize("expression", [UNIPELT, "PromptTuning(length=2) + " + UNIPELT, "AdaptivePrefixTuning(length=2)"])
@on_all
def test_an_answer_does_not_depend_on_padding(expression, kind):
    model, given = after_training(expression, kind), inputs_of("sst", kind)
    longer = {n: torch.nn.functional.pad(t, (0, 5)) for n, t in given.items()}
    with torch.no_grad():
        torch.testing.assert_close(model("sst", longer), model("sst", given), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_a_block_that_is_recomputed_reads_the_mask_that_it_read(reentrant):
    model = after_training(UNIPELT, "bert")

    def gradients(model):
        first, second = inputs_of(TASKS[0], "bert"), inputs_of(TASKS[1], "bert")
        second["attention_mask"][:] = 1  # of the pass that comes between
        torch.stack([model(TASKS[0], first).sum(), model(TASKS[1], second).sum()]).sum().backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    expected = gradients(copy.deepcopy(model))
    model.backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    found = gradients(model.train())
    assert expected.keys() == found.keys()
    for name, ours in expected.items():
        torch.testing.assert_close(found[name], ours, rtol=1e-5, atol=1e-6, msg=name)


@on_all
def test_a_gate_of_one_half_twice_is_a_plain_prefix(kind):
    model, plain = build("AdaptivePrefixTuning(length=3)", kind), build("PrefixTuning(length=3, mlp=None)", kind)
    ours, theirs = (
        [e for s, e in sorted(m.attachments[0][1].edits, key=lambda it: (it[0].stack, it[0].layer, it[0].name))]
        for m in (model, plain)
    )
    assert all(isinstance(e, AdaptivePrefix) and not e.W.any() and e.scale == 1 for e in ours)
    assert all(type(e) is Prefix for e in theirs)
    with torch.no_grad():
        for one, other in zip(ours, theirs, strict=True):
            one.flat.copy_(other.flat)
            one.scale.fill_(2.0)
        for p, q in zip(model.heads.parameters(), plain.heads.parameters(), strict=True):
            p.copy_(q)
    for task, expected in outputs(plain, kind).items():
        assert torch.equal(outputs(model, kind)[task], expected)


def test_a_position_is_weighed_by_the_first_token():
    model = after_training("AdaptivePrefixTuning(length=3)", "bert")
    site, edit = model.attachments[0][1].edits[0]
    x = torch.randn(2, 5, 32)
    edit.x.module.before(x)
    key, value = edit.inside(2)
    gate = edit.scale * torch.sigmoid(x[:, 0] @ edit.W)  # (batch, length)
    for found, flat in ((key, edit.flat[0]), (value, edit.flat[1])):
        expected = gate[:, :, None] * flat  # (batch, length, inner)
        torch.testing.assert_close(found.transpose(1, 2).flatten(2), expected)
    assert (key[0] != key[1]).all() and site.name == "attention"


@pytest.mark.parametrize("expression", [UNIPELT, "AdaptivePrefixTuning(length=2)"])
def test_in_a_decoder_that_writes_it_is_refused_and_in_its_encoder_it_writes(expression):
    with pytest.raises(UsageError, match=r"is not there to be read: use form 'heads', or Layers\(.*stack='encoder'\)"):
        Tuned(writing_t5(), expression, [get_task("sst")], form="text")
    model = Tuned(writing_t5(), f"Layers({expression}, stack='encoder')", [get_task("sst")], form="text").eval()
    given = {
        "input_ids": torch.tensor([[5, 6, 7, 1], [8, 1, 0, 0]]),
        "attention_mask": torch.tensor([[1] * 4, [1, 1, 0, 0]]),
    }
    written = model.write("sst", given, 4)
    for row, length in enumerate((4, 2)):  # by itself, without padding
        alone = model.write("sst", {n: t[row : row + 1, :length] for n, t in given.items()}, 4)
        assert torch.equal(alone[0], written[row, : alone.shape[1]])


@pytest.mark.parametrize(
    "expression, name, trainable, stored",
    [
        ("UniPELT()", "bert-base-uncased", 11_083_376, 1_410_672),
        ("UniPELT(bottleneck=64)", "t5-large", 86_223_624, None),
        ("UniPELT(bottleneck=64)", "t5-3b", 316_697_352, None),
        ("UniPELT(bottleneck=64)", "t5-11b", 1_238_592_264, None),
        ("AdaptivePrefixTuning()", "bert-base-uncased", 442_380, 442_380),
    ],
)
def test_worked_counts(expression, name, trainable, stored):
    found = count(expression, name)
    assert found.trainable == trainable and (stored is None or found.stored == stored)
