"""What methods alone do whose adapters a network writes: HyperFormer, HyperFormer++; and the adapters they compare with."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import tiny
import torch
from tiny import TASKS, after_training, backbone, build, inputs_of, outputs, train
from torch.nn import functional as F

from peftlib import backbones, deltas
from peftlib.accounting.counting import count
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.hypernets import add_task, bake
from peftlib.methods import HyperFormer, HyperFormerPlusPlus, parse
from peftlib.methods.base import normal
from peftlib.methods.multitask.hypernet import Generated, Writes, joined
from peftlib.methods.selective.layernorm import LayerNormTuning
from peftlib.model import Tuned
from peftlib.tensorfiles import read_tensors

GLUE = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte")
HYPERFORMER, PLUSPLUS = "HyperFormer(bottleneck=4)", "HyperFormerPlusPlus(bottleneck=4)"
ADAPTBERT = "AdaptBertHypernet(bottleneck=4, norm_std=0.01)"
PLAIN_NORM, NO_PROJECTOR = (HYPERFORMER.replace(")", f", {name}=False)") for name in ("conditional_norm", "projector"))
WRITERS = [HYPERFORMER, PLUSPLUS, ADAPTBERT, PLAIN_NORM, NO_PROJECTOR, PLUSPLUS.replace(")", ", conditional_norm=False)")]
on_both = pytest.mark.parametrize("kind", ["bert", "t5"])
both_forms = pytest.mark.parametrize("expression", [HYPERFORMER, PLUSPLUS])
all_writers = pytest.mark.parametrize("expression", WRITERS)


def net_of(model: Tuned):
    ((_, at),) = model.attachments
    return Writes.hypernet(at)


def written(model: Tuned, task: str) -> list[list[torch.Tensor]]:
    """The tensors of every adapter as a task has them, in the order of places."""
    ((_, at),) = model.attachments
    model.current.task = task
    return [[t.detach() for t in edit.weights()] for _, edit in at.edits if isinstance(edit, Generated)]


# --- counts -----------------------------------------------------------------------------------------------------------
def test_counts_on_t5_base_with_8_tasks_are_the_issues():
    norms = LayerNormTuning().formula(backbones.anatomy_of("t5-base").shape)
    assert norms == 47_616
    assert count("HyperFormer(reduction=32)", "t5-base", GLUE).trainable == 122_357_056 + norms
    assert count("HyperFormerPlusPlus(reduction=32)", "t5-base", GLUE).trainable == 5_163_440 + norms


@pytest.mark.parametrize("name", ["t5-small", "t5-base", "bert-base-uncased"])
@pytest.mark.parametrize("reduction", [2, 4, 8, 16, 32])
@pytest.mark.parametrize(
    "method",
    [
        "HyperFormer(reduction={})",
        "HyperFormer(reduction={}, conditional_norm=False)",
        "HyperFormer(reduction={}, projector=False, train_norms=False)",
        "HyperFormer(reduction={}, blocks=False)",
        "HyperFormerPlusPlus(reduction={})",
        "HyperFormerPlusPlus(reduction={}, conditional_norm=False)",
        "TaskAdapters(reduction={})",
        "TaskAdapters(reduction={}, shared_norms=False)",
        "TaskAdapters(reduction={}, hidden=True, train_norms=False)",
    ],
)
def test_closed_forms_hold_for_many_tasks(method, reduction, name):
    method = method.format(reduction)
    shape, counted = backbones.anatomy_of(name).shape, count(method, name, GLUE)
    assert counted.trainable == counted.stored == parse(method).formula(shape, tasks=8)


def test_a_further_task_costs_its_embedding():
    shape = backbones.anatomy_of("t5-base").shape
    for method, more in ((HyperFormer(), 512), (HyperFormer(projector=False), 64), (HyperFormerPlusPlus(), 64)):
        assert method.formula(shape, tasks=9) - method.formula(shape, tasks=8) == more


# --- the equations ----------------------------------------------------------------------------------------------------
@on_both
@both_forms
def test_an_adapter_is_equation_3_and_stands_behind_both_sublayers(expression, kind):
    model = build(expression, kind)
    ((_, at),) = model.attachments
    sites = [(s.name, s.stack, s.layer) for s, e in at.edits if isinstance(e, Generated)]
    stacks = ("encoder", "decoder") if kind == "t5" else ("encoder",)
    assert sorted(sites) == sorted((n, s, i) for n in ("attention.output", "ffn.down") for s in stacks for i in (0, 1))
    for site, edit in at.edits:
        x = torch.randn(3, site.fan_in)
        D, b_D, U, b_U, gamma, beta = edit.weights()
        y = site.module.base(x)
        h = F.gelu(y @ D.T + b_D, approximate="tanh") @ U.T + b_U
        normed = (h - h.mean(1, keepdim=True)) / (h.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        torch.testing.assert_close(site.module(x), y + gamma * normed + beta)


@on_both
def test_hyperformers_weights_are_equations_5_to_7(kind):
    model = build(HYPERFORMER, kind)
    net = net_of(model)
    first, last = net.h_I[0], net.h_I[2]
    assert (first.in_features, first.out_features, last.out_features) == (512, 128, 64)
    for task in TASKS:
        I = last.weight @ (first.weight @ net.z[task].weight + first.bias).relu() + last.bias  # noqa: E741
        for h, (D, b_D, U, b_U, gamma, beta) in zip(net.h, written(model, task), strict=True):
            a, n = D.shape
            torch.testing.assert_close(torch.cat([D.flatten(), b_D]), h.W_D.weight @ I + h.W_D.bias)
            torch.testing.assert_close(torch.cat([U.flatten(), b_U]), h.W_U.weight @ I + h.W_U.bias)
            torch.testing.assert_close(torch.cat([gamma, beta]), h.W_LN.weight @ I + h.W_LN.bias)
            assert (a, n, tuple(U.shape)) == (4, 32, (32, 4))
    assert len(net.h) == 2 * model.anatomy.shape.layers  # one for each layer, position and stack


@on_both
def test_plusplus_weights_are_equation_8_with_one_network_a_stack(kind):
    model = build(PLUSPLUS, kind)
    net, ((_, at),) = net_of(model), model.attachments
    names = ["encoder", "decoder"][: 1 + (kind == "t5")]
    assert len(net.h) == len(net.stacks) == len(names)
    positions = {"attention.output": 0, "ffn.down": 1}
    for (site, _), (D, *_, gamma, _) in zip(at.edits, written(model, TASKS[1]), strict=False):
        which = names.index(site.stack)
        stack, h = net.stacks[which], net.h[which]
        joint = torch.cat([net.z[TASKS[1]].weight, stack.l[site.layer], stack.p[positions[site.name]]])
        I = F.layer_norm(stack.h_I(joint), (64,), stack.norm.weight, stack.norm.bias, 1e-6)  # noqa: E741
        torch.testing.assert_close(D.flatten(), (h.W_D.weight @ I + h.W_D.bias)[: D.numel()])
        torch.testing.assert_close(gamma, (h.W_LN.weight @ I + h.W_LN.bias)[:32])


def test_joined_has_every_layer_with_every_position():
    z, l, p = torch.randn(3), torch.randn(4, 3), torch.randn(2, 3)  # noqa: E741
    found = joined(z, l, p)
    assert found.shape == (4, 2, 9)
    assert torch.equal(found[3, 1], torch.cat([z, l[3], p[1]])) and torch.equal(found[0, 0], torch.cat([z, l[0], p[0]]))


# --- tasks ------------------------------------------------------------------------------------------------------------
@on_both
@all_writers
def test_every_task_and_place_has_weights_of_its_own(expression, kind):
    model = after_training(expression, kind)
    first, second = (written(model, task) for task in TASKS)
    for one, other in zip(first, second, strict=True):
        assert not any(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))
        assert torch.equal(one[4], other[4]) == ("conditional_norm=False" in expression)
    of_a_size = [t[0] for t in first if t[0].shape == first[0][0].shape]
    assert len(of_a_size) > 1 and not any(torch.equal(of_a_size[0], D) for D in of_a_size[1:])


@on_both
@all_writers
def test_gradients_reach_every_hypernetwork_and_the_embedding_of_the_task_alone(expression, kind):
    model = build(expression, kind).train()
    ((_, at),) = model.attachments
    for norm in (edit.norm for _, edit in at.edits if isinstance(edit, Generated) and edit.norm is not None):
        torch.nn.init.ones_(norm.weight)  # 0 would let nothing through
    net = net_of(model)
    model(TASKS[0], inputs_of(TASKS[0], kind)).square().sum().backward()
    missing = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == [f"z.{TASKS[1]}.weight"] and net.z[TASKS[1]].weight.grad is None


@on_both
@both_forms
def test_a_task_is_its_embedding(expression, kind):
    model = after_training(expression, kind)
    net, inputs = net_of(model), inputs_of(TASKS[0], kind)
    apart = []
    for task in TASKS:
        model.current.task = task
        apart.append(model.features(inputs).detach())
    assert not torch.equal(*apart)
    with torch.no_grad():
        net.z[TASKS[1]].weight.copy_(net.z[TASKS[0]].weight)
    torch.testing.assert_close(model.features(inputs), apart[0])


@on_both
@both_forms
def test_training_a_task_leaves_the_others_embedding_bit_for_bit(expression, kind):
    model = build(expression, kind)
    before = net_of(model).z[TASKS[1]].weight.detach().clone()
    train(model, kind, tasks=TASKS[:1])  # with weight decay
    assert torch.equal(net_of(model).z[TASKS[1]].weight, before)


@on_both
def test_adapters_of_a_task_leave_the_others_alone_unless_norms_are_shared(kind):
    for shared in (False, True):
        model = build(f"TaskAdapters(bottleneck=4, shared_norms={shared})", kind)
        train(model, kind)
        before = outputs(model, kind)
        own = {n: p.detach().clone() for n, p in model.named_parameters() if f".{TASKS[1]}." in n}
        train(model, kind, tasks=TASKS[:1])
        after = outputs(model, kind)
        assert not torch.equal(after[TASKS[0]], before[TASKS[0]])
        assert torch.equal(after[TASKS[1]], before[TASKS[1]]) == (not shared)
        assert own and all(torch.equal(dict(model.named_parameters())[n], p) for n, p in own.items())


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    "gamma, at_the_backbone", [(None, {"bert": True, "t5": False}), (1.0, {}), (0.0, {"bert": True, "t5": True})]
)
@on_both
def test_adapters_start_at_a_backbone_whose_norms_come_last(kind, gamma, at_the_backbone, shared):
    adapted = build(f"TaskAdapters(bottleneck=4, shared_norms={shared}, gamma={gamma})", kind)
    plain = build("HeadOnly()", kind)
    for task in TASKS:
        adapted.current.task = plain.current.task = task
        with torch.no_grad():
            ours, theirs = adapted.features(inputs_of(task, kind)), plain.features(inputs_of(task, kind))
        assert torch.equal(ours, theirs) == at_the_backbone.get(kind, False)


@on_both
def test_norms_that_nobody_writes_start_as_those_of_adapters(kind):
    for expression in WRITERS:
        if "conditional_norm=False" in expression:
            ((_, at),) = build(expression, kind).attachments
            norms = [edit.norm for _, edit in at.edits if isinstance(edit, Generated)]
            assert norms and {norm.weight.mean().item() for norm in norms} == {1.0 if kind == "t5" else 0.0}


@on_both
def test_norms_of_a_task_are_norms_with_their_gamma_scaled(kind):
    model = after_training("TaskAdapters(bottleneck=4, shared_norms=False)", kind)
    ((_, at),) = model.attachments
    scaled = [(site, edit) for site, edit in at.edits if site.name.endswith("norm")]
    assert len(scaled) == model.anatomy.shape.norms
    model.current.task = TASKS[1]
    for site, edit in scaled:
        own, norm = edit.by_task[TASKS[1]], copy.deepcopy(site.module.base)
        x = torch.randn(5, 32)
        with torch.no_grad():
            found = site.module(x)
            norm.weight *= own.s
            if kind == "bert":
                norm.bias.copy_(norm.bias * own.s + own.b)
        torch.testing.assert_close(found, norm(x))


# --- the start --------------------------------------------------------------------------------------------------------
@on_both
def test_initial_deviations(kind):
    for expression in (HYPERFORMER, PLUSPLUS):
        torch.manual_seed(1)
        net = net_of(build(expression, kind, seed=1))
        for module in net.modules():
            if isinstance(module, torch.nn.Linear):
                entries = module.weight.numel()
                assert module.weight.std().item() == pytest.approx(0.01, rel=5 / math.sqrt(entries))
                assert not module.bias.any()
        embeddings = [torch.cat([e.weight for e in net.z.values()])]
        if expression == PLUSPLUS:
            embeddings += [torch.cat([s.l.flatten(), s.p.flatten()]) for s in net.stacks]
        for z in embeddings:
            assert z.std().item() == pytest.approx(1, rel=5 / math.sqrt(z.numel()))
            assert abs(z.mean().item()) < 5 / math.sqrt(z.numel())


@on_both
def test_generated_weights_start_with_the_deviation_that_the_norm_of_the_embedding_gives(kind):
    """N(0, 0.01) times |I|: 8 behind the layer norm of HyperFormer++, and about 0.15 without one."""
    for expression, low, high in ((HYPERFORMER, 0.1, 0.2), (PLUSPLUS, 7.9, 8.01)):
        model = build(expression, kind)
        net = net_of(model)
        for task in TASKS:
            model.current.task = task
            size = net.embed(0)[0].norm().item()
            assert low < size < high
            U, gamma = (torch.cat([w[i].flatten() for w in written(model, task)]) for i in (2, 4))
            assert U.std().item() == pytest.approx(0.01 * size, rel=0.25)
            assert gamma.std().item() == pytest.approx(0.01 * size, rel=0.25)


@on_both
@pytest.mark.parametrize("seed", range(3))
def test_the_start_is_within_the_declared_bound_at_the_papers_sizes(kind, seed):
    plain = build("HeadOnly()", kind)
    far: dict[str, list[float]] = {}
    for expression in (HYPERFORMER, PLUSPLUS, PLAIN_NORM):
        model = build(expression, kind, seed)
        for task in TASKS:
            model.current.task = task
            with torch.no_grad():
                ours, theirs = model.features(inputs_of(task, kind)), plain.features(inputs_of(task, kind))
            far.setdefault(expression, []).append(((ours - theirs).norm() / theirs.norm()).item())
    assert max(far[HYPERFORMER]) <= HyperFormer.near_identity < min(far[PLUSPLUS])
    assert max(far[PLUSPLUS]) <= HyperFormerPlusPlus.near_identity
    if kind == "t5":
        assert min(far[PLAIN_NORM]) > 10 * max(far[HYPERFORMER])  # gamma 1
    else:
        assert not any(far[PLAIN_NORM])  # gamma 0


# --- what Table 4 removes ---------------------------------------------------------------------------------------------
@on_both
def test_each_part_can_be_removed(kind):
    whole = build(HYPERFORMER, kind)
    shape, norms = whole.anatomy.shape, LayerNormTuning().formula(whole.anatomy.shape)
    without = {name: build(HYPERFORMER.replace(")", f", {name}=False)"), kind) for name in
               ("blocks", "conditional_norm", "projector", "train_norms")}  # fmt: skip
    names = {
        key: {n for n, p in m.named_parameters() if p.requires_grad and "heads" not in n} for key, m in without.items()
    }
    assert without["blocks"].counts().trainable == norms and not any("hypernet" in n for n in names["blocks"])
    assert not any("W_LN" in n for n in names["conditional_norm"])
    assert sum(".norm.weight" in n and "edits" in n for n in names["conditional_norm"]) == 2 * shape.layers
    assert not any("h_I" in n for n in names["projector"]) and net_of(without["projector"]).features == 64
    assert not any(n.startswith("backbone") for n in names["train_norms"])
    assert whole.counts().trainable - without["train_norms"].counts().trainable == norms


# --- how often weights are written ------------------------------------------------------------------------------------
@on_both
@both_forms
def test_each_set_writes_once_a_pass_and_nothing_is_kept(expression, kind):
    model = build(expression, kind)
    net, calls = net_of(model), []
    for h in net.h:
        h.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(2):
        model(TASKS[0], inputs_of(TASKS[0], kind))
    assert len(calls) == 2 * len(net.h)
    with torch.no_grad():
        before = model(TASKS[0], inputs_of(TASKS[0], kind))
        normal(net.h[0].W_LN.weight, 1.0)
        assert not torch.equal(model(TASKS[0], inputs_of(TASKS[0], kind)), before)


# --- a task without its hypernetwork ----------------------------------------------------------------------------------
BAKED = [*WRITERS, f"PerTask({ADAPTBERT})", f"Layers({PLUSPLUS}, start=1)", f"HeadOnly() + {PLUSPLUS}"]


@on_both
@pytest.mark.parametrize("expression", BAKED)
def test_baked_adapters_say_what_written_ones_say(expression, kind, tmp_path):
    model = after_training(expression, kind)
    with torch.no_grad():  # far enough from the start that adapters matter
        for name, p in model.named_parameters():
            if "W_" in name:
                p += 0.1 * torch.randn_like(p)
    expected = outputs(model, kind)
    assert (expected[TASKS[0]] - after_training("HeadOnly()", kind)(TASKS[0], inputs_of(TASKS[0], kind))).abs().max() > 0.01
    before = model.current.task
    for task in TASKS:
        baked = bake(model, task, backbone(kind))
        assert baked.tasks == (task,) and not any(isinstance(m, Generated) for m in baked.modules()) and not baked.shared
        torch.testing.assert_close(outputs(baked, kind)[task], expected[task], rtol=1e-5, atol=1e-5)
        deltas.save(baked, tmp_path / "baked.safetensors")
        assert not any("hypernet" in name for name in read_tensors(tmp_path / "baked.safetensors")[1])
        loaded = deltas.load(tmp_path / "baked.safetensors", backbone(kind))
        assert torch.equal(outputs(loaded, kind)[task], outputs(baked, kind)[task])
    after = outputs(model, kind)
    assert model.current.task != "" and all(torch.equal(after[t], expected[t]) for t in TASKS) and before in TASKS


@both_forms
def test_a_baked_model_writes_what_the_other_writes(expression):
    tasks = [get_task(name) for name in TASKS]
    model = Tuned(tiny.writing_t5(), expression, tasks, form="text").eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for p in net_of(model).parameters():
            p += 0.05 * torch.randn_like(p)
        for site in model.anatomy.norms:
            site.module.weight += 0.1 * torch.randn(32)
    ids = torch.arange(14).reshape(2, 7) + 5
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "answers": ids[:, :3]}
    for task in TASKS:
        baked = bake(model, task, tiny.writing_t5())
        with torch.no_grad():
            torch.testing.assert_close(baked(task, inputs), model(task, inputs), rtol=1e-4, atol=1e-4)
        assert torch.equal(baked.write(task, inputs, 5), model.write(task, inputs, 5))


# --- a further task ---------------------------------------------------------------------------------------------------
def three_steps(model: Tuned, task: str, kind: str) -> None:
    optimizer = model.train().optimizer(1e-2, 0.01)
    for _ in range(3):
        model.objective(model.step(task, inputs_of(TASKS[0], kind), torch.arange(8.0) % 2))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


@on_both
@pytest.mark.parametrize(
    "expression", [HYPERFORMER, PLUSPLUS, ADAPTBERT, "TaskAdapters(bottleneck=4)", "PerTask(LoRA(rank=2))"]
)
@pytest.mark.parametrize("like", ["", TASKS[1]])
def test_a_further_task_alone_leaves_the_others_bit_for_bit(expression, like, kind, tmp_path):
    model = after_training(expression, kind)
    expected = outputs(model, kind)
    grown = add_task(model, get_task("sts"), backbone(kind), like=like)
    own = {n for n, p in grown.named_parameters() if p.requires_grad}
    assert {"heads.sts.weight", "heads.sts.bias"} < own and all("sts" in n for n in own)
    if expression in (HYPERFORMER, PLUSPLUS, ADAPTBERT):
        (embedding,) = own - {"heads.sts.weight", "heads.sts.bias"}
        assert embedding.endswith("hypernet.z.sts.weight")
        z = net_of(grown).z
        assert torch.equal(z["sts"].weight, z[TASKS[1]].weight) == bool(like)

    before = grown("sts", inputs_of(TASKS[0], kind)).detach()
    three_steps(grown, "sts", kind)
    assert not torch.equal(grown("sts", inputs_of(TASKS[0], kind)), before)
    with torch.no_grad():
        for name in TASKS:
            assert torch.equal(grown(name, inputs_of(name, kind)), expected[name])

    deltas.save(grown, tmp_path / "grown.safetensors")
    loaded = deltas.load(tmp_path / "grown.safetensors", backbone(kind))
    assert loaded.tasks == (*TASKS, "sts")
    with torch.no_grad():
        for name in TASKS:
            assert torch.equal(loaded(name, inputs_of(name, kind)), expected[name])
    assert "PerTask" in expression or grown.counts().stored == loaded.counts().stored > grown.counts().trainable
    assert all(torch.equal(outputs(model, kind)[name], expected[name]) for name in TASKS)


@pytest.mark.parametrize(
    "expression, kind, name",
    [
        (PLUSPLUS, "bert", "hypernet"),
        (PLUSPLUS, "bert", "LayerNorm"),
        (PLUSPLUS, "t5", "layer_norm"),
        (HYPERFORMER, "t5", "z"),
        ("TaskAdapters(bottleneck=4, shared_norms=False)", "bert", "output"),
        ("TaskAdapters(bottleneck=4)", "t5", "norm"),
        ("PerTask(LoRA(rank=2)) + LayerNormTuning()", "bert", "layer"),
    ],
)
def test_no_task_is_called_as_a_part_of_the_model(expression, kind, name):
    """Which tensors are a task's own is known by its name."""
    called = dataclasses.replace(get_task("sts"), name=name)
    with pytest.raises(UsageError, match=rf"task '{name}': a part of this model is called so"):
        add_task(after_training(expression, kind), called, backbone(kind))


@on_both
@both_forms
def test_a_further_task_with_the_hypernetworks_trains_all_of_it(expression, kind):
    model = after_training(expression, kind)
    grown = add_task(model, get_task("sts"), backbone(kind), like=TASKS[0], alone=False)
    assert grown.counts().trainable == model.counts().trainable + net_of(model).features
    assert all(torch.equal(outputs(model, kind)[t], grown(t, inputs_of(t, kind))) for t in TASKS)
    model.current.task, grown.current.task = TASKS[0], "sts"
    inputs = inputs_of(TASKS[0], kind)
    assert torch.equal(model.features(inputs), grown.features(inputs))  # it begins as the task that it is like


@both_forms
def test_a_run_on_another_task_begins_with_what_a_task_of_its_start_has(expression, tmp_path):
    parent = after_training(expression, "t5")
    deltas.save(parent, tmp_path / "parent.safetensors")
    child = Tuned(backbone("t5"), expression, [get_task("sts")])
    child.begin([deltas.for_start(tmp_path / "parent.safetensors", child, TASKS[1])])
    assert torch.equal(net_of(child).z["sts"].weight, net_of(parent).z[TASKS[1]].weight)
    ours, theirs = written(child, "sts"), written(parent, TASKS[1])
    assert all(torch.equal(a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True))
