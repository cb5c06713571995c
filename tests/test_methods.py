"""One matrix of invariants over all registered methods, some expressions, and three families of backbones."""

import contextlib
import copy
import re

import numpy as np
import pytest
import torch
from tiny import TASKS, after_training, backbone, build, inputs_of, outputs, train
from torch.nn.utils.parametrize import ParametrizationList

from peftlib import backbones, catalogue, deltas
from peftlib.data.tasks import get_task
from peftlib.edits import Edited, Inside
from peftlib.errors import UsageError
from peftlib.methods import METHODS, Houlsby, LoRA, Method, PerTask, parse
from peftlib.model import Tuned
from peftlib.training.loop import digest_of

# What each method says to be its size for a model of width 32.
ABOUT = {name: entry.about for name, entry in catalogue.methods().items()}
SINGLE = [catalogue.methods()[name].small for name in sorted(ABOUT)]
EXPRESSIONS = SINGLE + [
    "LoRA(rank=4) + PerTask(AdaptBertAdapter(bottleneck=4))",
    "PerTask(LoRA(rank=4))",
    "XPEFT(adapters=12, bottleneck=8, mask='hard', k=3)",
]
ENCODERS = ("bert", "distilbert")  # the second without token types, a pooler or dropout by BERT's names
KINDS = (*ENCODERS, "t5")
# A decoder that is given one token attends to that token alone, whatever its query, key and position bias are. A random
# BERT's biases are zero, whatever they are multiplied by.
NO_INFLUENCE = re.compile(
    r"decoder\.block\.\d+\.(block\.)?layer\.0\.SelfAttention\.(q|k|relative_attention_bias)\.|edits\.glora\.parts\.D\.values"
)

matrix = pytest.mark.parametrize("expression", EXPRESSIONS)
on_all = pytest.mark.parametrize("kind", KINDS)


def leaves(expression):
    return [leaf.method for leaf in parse(expression).leaves(("task",))]


@pytest.fixture(autouse=True)
def has_its_places(request):
    """What needs a decoder is refused elsewhere, and there is nothing more to see."""
    given = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    methods = leaves(given["expression"]) if "expression" in given else []
    kind = given.get("kind")
    if kind in ENCODERS and any(leaf.needs_decoder for leaf in methods):
        with pytest.raises(UsageError, match=f"needs a decoder, and this {kind} backbone has only an encoder"):
            build(given["expression"], kind)
        pytest.skip("needs a decoder")


def owned(model):
    """ids of the tensors that the methods declare as trained."""
    return {id(p) for _, at in model.attachments for p in at.tensors()}


def own_names(tensors):
    """Without the heads: what a method itself draws."""
    return {n: t for n, t in tensors.items() if not n.startswith("heads.")}


@matrix
@on_all
def test_starts_where_the_backbone_is(expression, kind):
    bounds = [leaf.near_identity for leaf in leaves(expression)]
    if None in bounds:
        pytest.skip("declares that it starts elsewhere")
    model, plain = build(expression, kind), build("HeadOnly()", kind)
    for task in TASKS:
        model.current.task = task
        with torch.no_grad():
            ours, theirs = model.features(inputs_of(task, kind)), plain.features(inputs_of(task, kind))
        assert (ours - theirs).norm() / theirs.norm() <= sum(bounds) + 1e-6


@matrix
@on_all
def test_only_declared_tensors_are_trained_and_all_of_them(expression, kind):
    model = build(expression, kind)
    heads = {id(p) for p in model.heads.parameters()}
    trainable = {id(p): n for n, p in model.named_parameters() if p.requires_grad}
    assert set(trainable) == owned(model) | heads

    added = [m for _, at in model.attachments for m in [e for _, e in at.edits] + at.shared]
    method_state = {id(b) for m in added for b in m.buffers()}
    frozen = [
        (n, t)
        for n, t in [*model.named_parameters(), *model.named_buffers()]
        if id(t) not in trainable and id(t) not in method_state
    ]
    before = [t.detach().clone() for _, t in frozen]
    strength = dict.fromkeys(trainable, 0.0)

    def watch():
        for p in model.parameters():
            if p.requires_grad and p.grad is not None:
                strength[id(p)] += p.grad.abs().sum().item()

    train(model, kind, watch=watch)
    changed = [n for (n, t), old in zip(frozen, before, strict=True) if not torch.equal(t, old)]
    assert not changed
    assert not [n for i, n in trainable.items() if not strength[i] > 0 and not NO_INFLUENCE.search(n)]


@matrix
@on_all
def test_saved_and_loaded_it_says_the_same(expression, kind, tmp_path):
    model = after_training(expression, kind)
    trained = outputs(model, kind)
    model.finish()
    expected = outputs(model, kind)
    for task in TASKS:
        torch.testing.assert_close(expected[task], trained[task], rtol=1e-5, atol=1e-5)
    size = deltas.save(model, tmp_path / "delta.safetensors", backbone=kind)
    loaded = deltas.load(tmp_path / "delta.safetensors", backbone(kind))
    assert loaded.method == model.method and loaded.tasks == model.tasks
    found = outputs(loaded, kind)
    assert all(torch.equal(found[task], expected[task]) for task in TASKS)
    counts = model.counts()
    assert loaded.counts() == counts
    numbers = 4 * (counts.stored + counts.heads)
    assert numbers <= size <= numbers + 200 * len(model.delta()) + 1000


@matrix
@on_all
def test_merged_it_says_the_same_or_refuses(expression, kind):
    model = after_training(expression, kind)
    model.finish()
    expected = outputs(model, kind)
    if "PerTask" in expression or not all(leaf.mergeable for leaf in leaves(expression)):
        with pytest.raises(UsageError, match="cannot be merged"):
            model.merge()
        return
    merged = outputs(model.merge(), kind)
    again = outputs(model.merge(), kind)
    for task in TASKS:
        torch.testing.assert_close(merged[task], expected[task], rtol=1e-5, atol=1e-5)
        assert torch.equal(again[task], merged[task])
    assert not any(isinstance(m, Edited | Inside) for m in model.backbone.modules())


HALFWAY = [
    "LoRA(rank=2) + Houlsby(bottleneck=2)",
    "BitFit() + PerTask(LoRA(rank=2))",
    "LoRA(rank=2) + PromptTuning(length=2)",
    "AdaLoRA(rank=4, target=2) + PrefixTuning(length=2, mlp=None)",
    "IntrinsicSAID(dimension=300) + Compacter(bottleneck=4, train_norms=False)",
    "LoRA(rank=2) + FishMask(fraction=0.1, examples=8) + AdaptBertHypernet(bottleneck=2)",
]


@on_all
@pytest.mark.parametrize("expression", HALFWAY)
def test_a_refused_merge_changes_nothing(expression, kind):
    model = after_training(expression, kind)
    before, delta = outputs(model, kind), digest_of(model.delta())
    with pytest.raises(UsageError, match="cannot be merged"):
        model.merge()
    assert not model.merged and digest_of(model.delta()) == delta and model.counts() == build(expression, kind).counts()
    for task, now in outputs(model, kind).items():
        assert torch.equal(now, before[task])
    train(model, kind)  # goes on as if nothing had been


@on_all
def test_merged_biases_that_transformers_would_drop_are_not_written(kind, tmp_path):
    model = build("BitFit()", kind)
    train(model, kind)
    net = model.merge().backbone
    if kind == "t5":
        with pytest.raises(UsageError, match="has no biases.*keep the delta instead"):
            net.save_pretrained(tmp_path)
        assert not list(tmp_path.iterdir())
    else:
        net.save_pretrained(tmp_path)
        again = dict(type(net).from_pretrained(tmp_path).named_parameters())
        assert all(torch.equal(again[name], p) for name, p in net.named_parameters())


@pytest.mark.parametrize(
    "expression",
    [
        "LoRA(rank=4)",
        "AdaLoRA(rank=4, target=2)",
        "FishMask(fraction=0.05, examples=8)",
        "IntrinsicSAID(dimension=300)",
        "BitFit()",
    ],
)
@on_all
def test_narrow_weights_take_no_change_and_wide_ones_all_of_it(expression, kind):
    model = build(expression, kind).store_frozen(torch.bfloat16)
    if not any(at.edits or at.shared for _, at in model.attachments):
        assert model.merge().merged  # it trains the weights themselves, which are not narrow
        return
    with pytest.raises(UsageError, match=r"kept in torch.bfloat16.*call model.float\(\)"):
        model.merge()
    train(model.float(), kind)
    expected = outputs(model, kind)
    for task, now in outputs(model.merge(), kind).items():
        torch.testing.assert_close(now, expected[task], rtol=1e-5, atol=1e-5)


@matrix
@on_all
def test_the_seed_decides_the_start(expression, kind):
    first, same, other = (own_names(build(expression, kind, seed).delta()) for seed in (0, 0, 1))
    assert digest_of(first) == digest_of(same)
    assert (digest_of(first) != digest_of(other)) == any(ABOUT[type(leaf).__name__].drawn for leaf in leaves(expression))


@pytest.mark.parametrize("name", ["bert-base-uncased", "roberta-base", "distilbert-base-uncased", "t5-base", "mt5-small"])
@pytest.mark.parametrize("method", sorted(ABOUT))
def test_closed_form_is_what_is_built(method, name):
    if METHODS[method].needs_decoder and "t5" not in name:
        pytest.skip("needs a decoder")
    with torch.device("meta"):
        model = Tuned(backbones.shape_only(name), f"{method}()", [get_task("sst")])
    expected = model.method.formula(model.anatomy.shape)
    before = model.counts()
    with torch.device("meta"):
        model.assume()
    assert before.trainable == expected and model.counts() == before
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected + before.heads


@pytest.mark.parametrize(
    "expression, trainable, stored, changed",
    [
        ("BitFit() + LayerNormTuning()", 121_344, 121_344, 121_344),
        ("Full() + BitFit()", 109_482_240, 109_482_240, 109_482_240),
        ("LoRA() + Full()", 109_482_240 + 442_368, 109_482_240 + 442_368, 109_482_240),
        ("LoRA() + LoRA(rank=4)", 442_368 + 221_184, 442_368 + 221_184, 36 * 768**2),
        ("Full() + FishMask()", 109_482_240 + 547_411, 109_482_240 + 2 * 547_411, 109_482_240),
        ("LayerNormTuning() + IntrinsicSAID()", 38_400 + 20_000, 38_400 + 20_000, 109_482_240),
    ],
)
def test_what_methods_share_counts_once(expression, trainable, stored, changed):
    with torch.device("meta"):
        counts = Tuned(backbones.shape_only("bert-base-uncased"), expression, [get_task("sst")]).counts()
    assert (counts.trainable, counts.stored, counts.changed) == (trainable, stored, changed)


@on_all
@pytest.mark.parametrize(
    "expression",
    [
        "BitFit() + Compacter(bottleneck=4)",
        "Full() + LoRA(rank=2)",
        "AdaLoRA(rank=4, target=2) + Full()",
        "LayerNormTuning() + FishMask(fraction=0.05, examples=8) + BitFit()",
    ],
)
def test_counts_of_a_sum_are_what_is_there(expression, kind):
    model = build(expression, kind)
    assert model.counts().trainable == sum(
        p.numel() for n, p in model.named_parameters() if p.requires_grad and not n.startswith("heads.")
    )
    model.finish()
    assert model.counts().stored == sum(t.numel() for t in own_names(model.delta()).values())


@on_all
@pytest.mark.parametrize("expression", [e for e in SINGLE if not e.startswith(("Full", "HeadOnly", "GaLore"))])
def test_a_backbone_carries_one_method_at_a_time(expression, kind):
    model = build(expression, kind)
    for m in model.backbone.modules():
        if isinstance(m, Edited | Inside | ParametrizationList):
            break
    else:
        return  # it trains the backbone's own tensors, and nothing goes on acting
    with pytest.raises(UsageError, match="carries another method already.*load the backbone anew"):
        Tuned(model.backbone, "LoRA(rank=2)", [get_task("sst")])
    with contextlib.suppress(UsageError):
        net = model.merge().backbone
        assert Tuned(net, "LoRA(rank=2)", [get_task("sst")]).counts().trainable > 0


@matrix
@on_all
def test_mixed_precision_with_frozen_weights_in_bf16(expression, kind):
    model = build(expression, kind).store_frozen(torch.bfloat16)
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    for task in TASKS:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(task, inputs_of(task, kind))
        out.float().square().sum().backward()
        assert out.isfinite().all()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)


@matrix
@on_all
def test_a_model_that_is_only_used_may_be_in_bf16(expression, kind):
    model = build(expression, kind).eval().requires_grad_(False).store_frozen(torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(model(task, inputs_of(task, kind)).isfinite().all() for task in TASKS)


@matrix
@on_all
def test_under_autocast_sublayers_answer_in_bf16(expression, kind):
    """What an edit returns in fp32 would make the residual stream after it fp32, slower and twice as large."""
    model, types = build(expression, kind).store_frozen(torch.bfloat16), set()
    sites = model.anatomy.at("attention.output", "ffn.up", "ffn.down")
    for site in sites:
        site.module.register_forward_hook(lambda _, __, y: types.add(y.dtype))
    for task in TASKS:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(task, inputs_of(task, kind))
    assert sites and types == {torch.bfloat16}


@matrix
@on_all
def test_a_copy_is_independent(expression, kind):
    model = after_training(expression, kind)
    before = outputs(model, kind)
    twin = copy.deepcopy(model)
    assert twin.current is not model.current
    twin.current.task, model.current.task = TASKS
    same = outputs(twin, kind)
    assert model.current.task == TASKS[1]
    train(twin, kind)
    after, own = outputs(model, kind), outputs(twin, kind)
    for task in TASKS:
        assert torch.equal(same[task], before[task])
        assert torch.equal(after[task], before[task])
        assert not torch.equal(own[task], before[task])


@on_all
@pytest.mark.parametrize("expression", SINGLE)
def test_copies_per_task_do_not_leak(expression, kind):
    if expression == "HeadOnly()":
        pytest.skip("has nothing but heads")
    try:
        model = build(f"PerTask({expression})", kind)
    except UsageError as refused:
        assert "PerTask" in str(refused)
        return
    train(model, kind, steps=4, total=6)
    before = outputs(model, kind)
    train(model, kind, steps=2, first=4, total=6, tasks=TASKS[:1])
    after = outputs(model, kind)
    assert not torch.equal(after[TASKS[0]], before[TASKS[0]])
    assert torch.equal(after[TASKS[1]], before[TASKS[1]])


@matrix
@on_all
def test_it_learns(expression, kind):
    model = build(expression, kind)
    everything = model.counts().trainable == model.anatomy.shape.total
    lr = 2e-3 if everything else 1e-2
    losses = train(model, kind, steps=40, lr=lr, tasks=TASKS[:1])
    assert losses[-1] < 0.5 * losses[0]


# --- gradient checkpointing -------------------------------------------------------------------------------------------
def gradients(model, kind):
    """Of one backward pass over a batch of every task, as the loop makes them."""
    torch.manual_seed(0)  # of what a pass draws
    steps = [model.step(name, inputs_of(name, kind), torch.arange(8) % 2) for name in TASKS]
    torch.stack([model.objective(step)[0] for step in steps]).sum().backward()
    return {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


@matrix
@on_all
@pytest.mark.filterwarnings("error:None of the inputs", "ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_gradients_are_the_same_under_checkpointing(expression, kind):
    models = [build(expression, kind)]
    with contextlib.suppress(UsageError):  # what trains the backbone's own tensors has no copies
        models.append(build(f"PerTask({expression})", kind))
    for model in models:
        train(model, kind, steps=1)  # away from zero, where some gradients are
        model.zero_grad()
        expected = gradients(copy.deepcopy(model).train(), kind)
        for reentrant in (True, False):
            asked = copy.deepcopy(model).train()
            asked.backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
            unasked = copy.deepcopy(asked)
            unasked.backbone.disable_input_require_grads()  # transformers lets embeddings ask for gradients, peft lets not
            for again in (asked, unasked):
                runs = []
                again.anatomy.at("ffn.up")[-1].module.register_forward_hook(lambda *_, runs=runs: runs.append(1))
                found = gradients(again, kind)
                no_way_back = not owned(model) or all(leaf.reads_states for leaf, _ in model.attachments)
                passes = max(leaf.passes for leaf, _ in model.attachments)
                assert len(runs) == 2 * passes * len(TASKS) or no_way_back  # the last block ran a second time
                assert expected.keys() == found.keys()
                for name, ours in expected.items():
                    torch.testing.assert_close(found[name], ours, rtol=1e-5, atol=1e-6, msg=f"{name}, {reentrant=}")


# --- expressions ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "expression",
    EXPRESSIONS
    + ["LoRA", "LoRA(alpha=None, sites=('query', 'up'), dropout=0.1)", "PerTask(LoRA() + LoRA(rank=2)) + BitFit()"],
)
def test_text_and_expression_are_the_same_thing(expression):
    read = parse(expression)
    assert parse(str(read)) == read
    assert parse(read) is read
    assert str(parse(str(read))) == str(read)


def test_defaults_are_left_out_and_whole_numbers_stand_for_floats():
    assert str(parse("LoRA(rank=8, alpha=16)")) == "LoRA(alpha=16.0)"
    assert parse("LoRA(rank=4) + (BitFit() + HeadOnly())") == parse("LoRA(rank=4) + BitFit() + HeadOnly()")
    assert isinstance(parse("PerTask(LoRA())"), PerTask)


def test_numpys_numbers_become_pythons_own(tmp_path):
    given = {"rank": np.int64(4), "alpha": np.float32(8), "sites": (np.str_("query"), "up"), "dropout": np.float64(0)}
    method = LoRA(**given)
    assert method == parse(str(method)) == LoRA(rank=4, alpha=8, sites=("query", "up"))
    assert [type(getattr(method, name)) for name in given] == [int, float, tuple, float]
    assert Houlsby(train_norms=np.True_).train_norms is True
    model = build(method, "bert")
    deltas.save(model, tmp_path / "delta.safetensors")
    assert deltas.load(tmp_path / "delta.safetensors", backbone("bert")).method == method


@pytest.mark.parametrize(
    "text, message",
    [
        ("Lora(rank=8)", "did you mean LoRA"),
        ("LoRA(ranks=8)", "no field 'ranks'; its fields are rank, alpha"),
        ("LoRA(rank=8.0)", "expected int, got float"),
        ("LoRA(rank=True)", "expected int, got bool"),
        ("LoRA(rank='8')", "expected int, got str"),
        ("LoRA(rank=0)", r"LoRA\(rank=0\) is impossible"),
        ("LoRA(sites=('querry',))", "is impossible"),
        ("AdaLoRA(rank=4, target=8)", r"AdaLoRA\(target=8\) is impossible"),
        ("AdaLoRA(initial=0.6, final=0.5)", r"AdaLoRA\(final=0.5\) is impossible"),
        ("GaLore(gap=0)", r"GaLore\(gap=0\) is impossible"),
        ("LoRA(8)", r"expected Name\(field=value, ...\)"),
        ("LoRA(**x)", r"expected Name\(field=value, ...\)"),
        ("LoRA() * 2", r"expected Name\(field=value, ...\)"),
        ("LoRA(rank=", "cannot read the method"),
        ("", "cannot read the method"),
    ],
)
def test_what_cannot_be_read_says_why(text, message):
    with pytest.raises(UsageError, match=message):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "LoRA(rank=__import__('os').system('touch {}'))",
        "__import__('pathlib').Path('{}').touch()",
        "LoRA(rank=[open('{}', 'w') for _ in 'a'])",
        "(lambda: open('{}', 'w'))()",
        "LoRA().__class__",
    ],
)
def test_nothing_is_evaluated(text, tmp_path):
    trace = tmp_path / "trace"
    with pytest.raises(UsageError):
        parse(text.replace("{}", str(trace)))
    assert not trace.exists()


@pytest.mark.parametrize("name", ["PerTask", "Layers"])
def test_a_method_cannot_be_called_what_expressions_mean(name):
    with pytest.raises(UsageError, match=f"a method cannot be called {name}"):
        type(name, (Method,), {})
    assert name not in METHODS


def test_copies_inside_copies_are_refused():
    with pytest.raises(UsageError, match="PerTask inside PerTask"):
        build("PerTask(PerTask(LoRA()))", "bert")


def test_two_optimizers_are_refused():
    with pytest.raises(UsageError, match="asks for 2 optimizers"):
        build("GaLore(rank=8) + GaLore(rank=4)", "bert").optimizer(1e-3, 0.0)
