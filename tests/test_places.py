"""What edits read at another site, and states of all layers in the place of the last: the methods that need them."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from tiny import TASKS, backbone, build, inputs_of, outputs, train, writing_t5

from peftlib import backbones
from peftlib.data.tasks import get_task
from peftlib.edits import Seen
from peftlib.errors import UsageError
from peftlib.methods import METHODS, AttentionFusion, Method
from peftlib.methods.base import Attachment
from peftlib.methods.reparametrized.krona import multiply, near_root
from peftlib.model import Tuned

on_both = pytest.mark.parametrize("kind", ["bert", "t5"])


def counts(expression, name):
    with torch.device("meta"):
        return Tuned(backbones.shape_only(name), expression, [get_task("sst")]).counts()


def run(model, kind):
    with torch.no_grad():
        return model(TASKS[0], inputs_of(TASKS[0], kind))


# --- an edit that reads another site ----------------------------------------------------------------------------------
@pytest.mark.parametrize("normed", [False, True])
@on_both
def test_a_parallel_adapter_reads_what_the_sublayer_does(kind, normed):
    model, given, taken = build(f"ParallelAdapter(bottleneck=4, scale=2.0, normed={normed})", kind), {}, {}
    first = "ffn.norm" if kind == "t5" and not normed else "ffn.up"
    for site in model.anatomy.at(first):
        site.module.register_forward_pre_hook(lambda _, x, k=(site.stack, site.layer): given.update({k: x[0].clone()}))
    ((_, at),) = model.attachments
    for site, edit in at.edits:
        edit.down.register_forward_pre_hook(lambda _, x, k=(site.stack, site.layer): taken.update({k: x[0].clone()}))
    run(model, kind)
    assert given.keys() == taken.keys() and len(given) == model.anatomy.shape.layers
    assert all(torch.equal(taken[k], x) for k, x in given.items())
    assert not [m for m in model.modules() if isinstance(m, Seen) and m._x is not None]  # kept no longer than needed


@on_both
def test_a_parallel_adapter_adds_to_the_sublayer(kind):
    model = build("ParallelAdapter(bottleneck=4, scale=3.0)", kind)
    train(model, kind)
    ((_, at),) = model.attachments
    site, edit = at.edits[0]
    read, before, after = [], [], []
    edit.down.register_forward_pre_hook(lambda _, x: read.append(x[0]))
    site.module.base.register_forward_hook(lambda _, __, y: before.append(y))
    site.module.register_forward_hook(lambda _, __, y: after.append(y))
    run(model, kind)
    h = torch.relu(read[0] @ edit.down.weight.T + edit.down.bias) @ edit.up.weight.T + edit.up.bias
    torch.testing.assert_close(after[0], before[0] + 3.0 * h)


@pytest.mark.parametrize(
    "first, second", [("ParallelAdapter(bottleneck=4)", "KronAB()"), ("KronAB()", "LoRA(rank=2, sites=('up', 'down'))")]
)
@on_both
def test_several_methods_read_one_place(first, second, kind):
    model = build(f"{first} + {second}", kind)
    train(model, kind)
    before = outputs(model, kind)
    twin = copy.deepcopy(model)
    train(twin, kind)
    assert all(torch.equal(now, before[task]) for task, now in outputs(model, kind).items())


def test_a_learned_scale_is_one_number_a_block():
    fixed, learned = (counts(f"ParallelAdapter(bottleneck=8, learned={x})", "bert-base-uncased") for x in (False, True))
    assert learned.trainable - fixed.trainable == 12
    model = build("ParallelAdapter(bottleneck=8, scale=2.0, learned=True)", "bert")
    train(model, "bert")
    assert all(edit.scale.item() != 2.0 for _, edit in model.attachments[0][1].edits)


@on_both
def test_mam_is_its_two_parts(kind):
    models = [
        build(text, kind)
        for text in (
            "MAM(length=2, mlp=16, bottleneck=8, scale=2.0)",
            "PrefixTuning(length=2, mlp=16) + ParallelAdapter(bottleneck=8, scale=2.0)",
        )
    ]
    for model in models:
        train(model, kind)
        model.finish()
    ours, theirs = models
    assert ours.counts() == theirs.counts()
    assert all(torch.equal(now, outputs(theirs, kind)[task]) for task, now in outputs(ours, kind).items())


# --- products ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("a1, a2, b1, b2", [(4, 3, 5, 2), (1, 6, 7, 1), (24, 24, 32, 32)])
def test_a_kronecker_product_without_its_matrix(a1, a2, b1, b2):
    A, B, x = (torch.randn(*shape, dtype=torch.float64) for shape in ((a1, a2), (b1, b2), (2, 3, a2 * b2)))
    torch.testing.assert_close(multiply(x, A, B), x @ torch.kron(A, B).T, rtol=1e-12, atol=1e-12)


def test_the_largest_divisor_up_to_the_root():
    assert [near_root(n) for n in (1, 7, 768, 1024, 4096, 384)] == [1, 1, 24, 32, 64, 16]


@on_both
def test_a_residual_of_zero_is_kron_a_b(kind):
    text = "KronABRes(residual=0.0)"
    model, plain = build(text, kind), build("KronAB()", kind)
    assert all(torch.equal(now, outputs(plain, kind)[task]) for task, now in outputs(model, kind).items())
    assert METHODS["KronABRes"].near_identity is None and model.counts().trainable == plain.counts().trainable + (
        model.anatomy.shape.layers
    )
    train(model, kind)
    assert all(edit.s_res.item() for _, edit in model.attachments[0][1].edits)


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_lengths_without_the_matrix(kind):
    model = build("DoRA(rank=4, alpha=8.0)", kind)
    ((_, at),) = model.attachments
    with torch.no_grad():
        for site, edit in at.edits:
            assert torch.allclose(edit.lengths(), edit.m, rtol=1e-6)
            edit.B.normal_()
            V = site.module.weight + edit.scale * edit.B @ edit.A
            torch.testing.assert_close(edit.lengths(), V.norm(dim=1), rtol=1e-5, atol=1e-6)


# --- states of all layers ---------------------------------------------------------------------------------------------
@pytest.fixture
def last():
    """A method that gives back the last state."""

    @dataclasses.dataclass(frozen=True)
    class Last(Method):
        def readout(self, at: Attachment, states, mask):
            assert len(states["encoder"]) == at.shape.encoder_layers + 1
            return states["decoder" if at.shape.decoder_layers else "encoder"][-1]

    yield Last()
    del METHODS["Last"]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@on_both
def test_the_last_state_is_what_heads_read(last, kind, pooling):
    models = []
    for method in (last, "HeadOnly()"):
        torch.manual_seed(0)
        models.append(Tuned(backbone(kind), method, [get_task(n) for n in TASKS], pooling=pooling).eval())
    assert torch.equal(*(run(model, kind) for model in models))


@on_both
def test_a_query_of_zero_is_the_mean_over_layers(kind):
    model, seen = build("AttentionFusion()", kind), []
    stack = "decoder" if kind == "t5" else "encoder"
    with torch.no_grad():
        query = model.attachments[0][1].shared[0]
        query.register_forward_hook(lambda _, states, fused: seen.append((states[0], fused)))
        run(model, kind)
        states, fused = seen.pop()
        torch.testing.assert_close(fused, torch.stack(states).mean(0))
        # A large query along the difference of two layers chooses one of them.
        token = torch.stack(states)[:, 0, 0]
        query.q.copy_(1e6 * (token[1] - token[2]))
        run(model, kind)
        fused = seen.pop()[1]
        assert len(states) == getattr(model.anatomy.shape, f"{stack}_layers") + 1
        chosen = (token @ query.q).argmax()
        torch.testing.assert_close(fused[0, 0], token[chosen])


@on_both
@pytest.mark.parametrize("expression", ["AttentionFusion()", "LST(reduction=2, skip=0)"])
def test_nothing_of_the_backbone_is_kept_for_gradients(expression, kind):
    model = build(expression, kind).train()
    asked = []
    for site in model.anatomy.at("ffn.up"):
        site.module.register_forward_hook(lambda _, __, y: asked.append(y.requires_grad))
    model(TASKS[0], inputs_of(TASKS[0], kind)).sum().backward()
    assert asked and not any(asked)


@on_both
def test_a_ladder_mixes_each_blocks_state_into_the_next_side_state(kind):
    model, seen = build("LST(reduction=2, skip=2)", kind), {}
    ladder = model.attachments[0][1].shared[0]
    stacks = {"encoder": ladder.side.encoder} | ({"decoder": ladder.side.decoder} if kind == "t5" else {})
    rungs = {name: (stack.layer if kind == "bert" else stack.block)[0] for name, stack in stacks.items()}
    for name, rung in rungs.items():  # the only one: beside block 1 of 2
        torch.nn.init.constant_(rung.g, 0.05)
        rung.register_forward_pre_hook(lambda rung, args, n=name: seen.update({n: (args[0], rung.h)}))
        rung.block.register_forward_pre_hook(lambda _, args, n=name: seen.update({n + " mixed": args[0]}))
    read = []
    ladder.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    run(model, kind)
    mu = torch.sigmoid(torch.tensor(0.5))
    for name, rung in rungs.items():
        s, h = seen[name]
        assert torch.equal(h, read[0][name][2]) and rung.h is None
        with torch.no_grad():
            torch.testing.assert_close(seen[name + " mixed"], mu * s + (1 - mu) * rung.D(h))
            torch.testing.assert_close(s, ladder.first[name](read[0][name][0]))


def test_a_ladder_sees_no_padding():
    model, inputs = build("LST(reduction=2, skip=0)", "bert"), inputs_of(TASKS[0], "bert")
    with torch.no_grad():
        short = {name: t[4:, :-3] for name, t in inputs.items()}  # rows whose last three tokens are padding
        long = {name: t[4:] for name, t in inputs.items()}
        torch.testing.assert_close(model(TASKS[0], short), model(TASKS[0], long), rtol=1e-5, atol=1e-6)


def test_every_task_may_read_by_a_query_of_its_own():
    model = build("PerTask(AttentionFusion())", "bert")
    train(model, "bert", tasks=TASKS[:1])
    first, second = (at.shared[0].q for _, at in model.attachments)
    assert first.abs().sum() > 0 and second.abs().sum() == 0


def test_behind_a_prompt_the_text_is_read():
    model = build("PromptTuning(length=3) + AttentionFusion()", "bert")
    train(model, "bert")
    assert run(model, "bert").isfinite().all()


def test_what_writes_has_no_heads_to_read_for():
    with pytest.raises(UsageError, match=r"AttentionFusion\(\) gives linear heads what they read.*use form 'heads'"):
        Tuned(writing_t5(), AttentionFusion(), [get_task("sst")], form="text")


# --- worked counts ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "expression, name, trainable, stored",
    [
        ("IA3()", "bert-base-uncased", 55_296, None),
        ("IA3()", "t5-base", 129_024, None),
        ("IA3()", "t5-large", 344_064, None),
        ("ParallelAdapter(bottleneck=384)", "t5-base", 14_183_424, None),
        ("MAM(length=30, mlp=800, bottleneck=384)", "bert-base-uncased", 22_493_984, 7_644_672),
        ("MAM(length=16, mlp=None, bottleneck=16, scale=2.0)", "bert-base-uncased", 599_232, None),
        ("KronA()", "bert-base-uncased", 38_400, None),
        ("KronA(rank=8)", "t5-3b", 405_504, None),
        ("KronA(rank=8)", "t5-11b", 774_144, None),
        ("KronA(rows=32, columns=24)", "t5-base", 110_592, None),
        ("DoRA(sites=('query', 'value'))", "bert-base-uncased", 313_344, None),
        ("GLoRA()", "bert-base-uncased", 368_784, None),
        ("GLoRA(weight='vector', input='vector', bias='vector')", "bert-base-uncased", 92_160, None),
        ("GLoRA()", "t5-base", 884_736, None),
        ("AttentionFusion()", "bert-base-uncased", 768, None),
        ("LST()", "t5-base", 3_878_712 - 6, None),  # without gates of blocks that have no rung
        ("CrossAttentionTuning()", "t5-base", 28_311_552 + 9_216, None),
        ("CrossAttentionTuning()", "t5-large", 100_687_872, None),
        ("DiffFit()", "bert-base-uncased", 139_776, None),
        ("DiffFit()", "t5-base", 93_696, None),
    ],
)
def test_worked_counts(expression, name, trainable, stored):
    found = counts(expression, name)
    assert (found.trainable, found.stored) == (trainable, trainable if stored is None else stored)
