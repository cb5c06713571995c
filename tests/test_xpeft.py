"""What only X-PEFT does: masks over a frozen bank, profiles of a few bytes, and many of them in one pass."""

from __future__ import annotations

import copy
import dataclasses
import shutil

import pytest
import tiny
import torch
from safetensors import safe_open
from torch.nn import functional as F

from peftlib import backbones, deltas, serving
from peftlib.backbones import weights_digest
from peftlib.data.tasks import get_task
from peftlib.edits import Switch
from peftlib.errors import UsageError
from peftlib.methods import XPEFT, parse
from peftlib.methods.adapters import xpeft
from peftlib.methods.adapters.xpeft import hard_softmax, profile_of
from peftlib.model import Tuned
from peftlib.parametrized import carries_a_method
from peftlib.serving import Profiles
from peftlib.tensorfiles import DeltaError, read_tensors, write_tensors

KINDS = ("bert", "xlm-roberta", "t5")  # RoBERTa's class is that of its multilingual kind
N, B, K = 13, 8, 3
SOFT, HARD = f"XPEFT(adapters={N}, bottleneck={B})", f"XPEFT(adapters={N}, bottleneck={B}, mask='hard', k={K})"
FORMS = [
    SOFT,
    HARD,
    HARD.replace("k=3", "k=3, separate=False, tau=0.5, nu=0.0"),
    SOFT.replace(")", ", separate=False, activation='none')"),
]
AUTHORS = [get_task(f"authors_{i}") for i in range(4)]
on_all = pytest.mark.parametrize("kind", KINDS)
in_all_forms = pytest.mark.parametrize("expression", FORMS)


def moved(expression, kind, seed=0):
    """A model of an expression, its trained numbers anywhere."""
    model = tiny.build(expression, kind, seed)
    torch.manual_seed(seed + 1)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p += 0.5 * torch.randn_like(p)
    return model


def only(model):
    ((method, at),) = model.attachments
    return method, at


# --- against the paper ------------------------------------------------------------------------------------------------
def literally(model, kind, noise):
    """A model of heads alone whose feed-forward networks add what the paper's formulas say, adapter by adapter; and the
    tensors that these are functions of."""
    method, at = only(model)
    profile, bank = profile_of(at), model.fixed["xpeft__bank"]
    own = {n: p.detach().clone().requires_grad_() for n, p in profile.named_parameters()}
    plain = tiny.build("HeadOnly()", kind)
    plain.load_state_dict({n: t for n, t in model.state_dict().items() if n.startswith("heads.")}, strict=False)
    d = 32

    def mask(layer, which):
        logits = own["logits"][which if method.separate else 0, layer]
        if method.mask == "soft":
            return logits.softmax(0)
        if model.training:
            logits = logits + method.nu * noise[which if method.separate else 0]
        y_soft = torch.softmax(logits / method.tau, 0)
        y_hard = torch.zeros(N)
        for i in torch.topk(y_soft, K).indices:
            y_hard[i] = 1
        y_hard = y_hard / K
        return y_hard - y_soft.detach() + y_soft

    def hook(layer):
        def add(_, __, y):
            A_hat = a_hat = B_hat = b_hat = 0
            for i, (m_A, m_B) in enumerate(zip(mask(layer, 0), mask(layer, 1), strict=True)):
                A, a = bank.A[layer, i].split([B * d, B])
                U, b = bank.B[layer, i].split([d * B, d])
                A_hat, a_hat = A_hat + m_A * A.view(B, d), a_hat + m_A * a
                B_hat, b_hat = B_hat + m_B * U.view(d, B), b_hat + m_B * b
            gamma, beta = (own[n][layer * B : (layer + 1) * B] for n in ("gamma", "beta"))
            h = F.layer_norm(y @ A_hat.T + a_hat, (B,), gamma, beta)
            return y + (h.relu() if method.activation == "relu" else h) @ B_hat.T + b_hat

        return add

    for layer, site in enumerate(plain.anatomy.at("ffn.down")):
        site.module.register_forward_hook(hook(layer))
    return plain, own


@on_all
@in_all_forms
@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_are_those_of_a_loop_over_all_adapters(expression, kind, training, monkeypatch):
    model = moved(expression, kind).train(training)
    noise = 3 * torch.rand(2 if only(model)[0].separate else 1, N)
    monkeypatch.setattr(xpeft, "_gumbel", lambda like: noise)
    plain, own = literally(model, kind, noise)
    inputs = tiny.inputs_of("sst", kind)
    found, expected = model("sst", inputs), plain("sst", inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (found**2).sum().backward()
    (expected**2).sum().backward()
    for name, p in profile_of(only(model)[1]).named_parameters():
        torch.testing.assert_close(p.grad, own[name].grad, rtol=1e-4, atol=1e-5)
        assert p.grad.abs().max() > 0
    assert all(p.grad is None and not p.requires_grad for p in model.fixed.parameters())


def test_algorithm_1():
    logits = torch.tensor([[0.0, 1.0, -1.0, 3.0, 1.0]], requires_grad=True)
    y = hard_softmax(logits, 2, 0.5)
    assert y.tolist() == [[0, 0.5, 0, 0.5, 0]]  # exactly, and of equals the first
    (y * torch.arange(5)).sum().backward()
    soft = (logits.detach() / 0.5).softmax(-1)
    torch.testing.assert_close(logits.grad, 2 * soft * (torch.arange(5) - (soft * torch.arange(5)).sum()))


def test_noise_chooses_one_adapter_as_often_as_the_softmax_says():
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    draws = torch.stack([hard_softmax(logits + xpeft._gumbel(logits), 1, 1.0) for _ in range(20_000)]).mean(0)
    torch.testing.assert_close(draws, logits.softmax(0), rtol=0, atol=0.015)


@on_all
def test_hard_masks_are_noisy_in_training_and_k_hot_in_evaluation(kind):
    model = moved(HARD, kind)
    profile, inputs = profile_of(only(model)[1]), tiny.inputs_of("sst", kind)
    said = [model("sst", inputs) for _ in range(2)]
    assert torch.equal(*said)
    for layer in range(len(model.fixed["xpeft__bank"].A)):
        masks = profile.masks(layer)
        assert sorted(set(masks.flatten().tolist())) == [0, (torch.ones(1) / K).item()]
        assert ((masks > 0).sum(-1) == K).all()
        best = profile.logits[:, layer].topk(K).indices.sort().values
        assert torch.equal(masks.nonzero()[:, 1].view(-1, K), best)
    model.train()
    assert not torch.equal(model("sst", inputs), model("sst", inputs))
    model.finish()
    assert torch.equal(model("sst", inputs), said[0])  # the choice is made, whatever the mode
    assert profile.mask.dtype == torch.bool and (profile.mask.sum(-1) == K).all()


# --- counts and bytes -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["bert-base-uncased", "roberta-base", "t5-base"])
@pytest.mark.parametrize("adapters, bytes_hard, bytes_soft", [(100, 312, 9600), (200, 600, 19200), (400, 1200, 38400)])
def test_table_1(name, adapters, bytes_hard, bytes_soft):
    for mask in ("hard", "soft"):
        with torch.device("meta"):
            model = Tuned(backbones.shape_only(name), f"XPEFT(adapters={adapters}, mask={mask!r})", [get_task("sst")])
        method, at = only(model)
        stacks = at.shape.layers // 12
        assert model.counts().trainable == method.formula(at.shape) == 2 * (adapters + 48) * 12 * stacks
        assert method.mask_bytes(at.shape) == stacks * (bytes_hard if mask == "hard" else bytes_soft)
        assert sum(p.numel() for p in model.fixed.parameters()) == adapters * 894_528 * stacks  # as appendix F has it
        assert model.counts().stored * 4 == method.mask_bytes(at.shape) + 4 * 2 * 48 * 12 * stacks


@on_all
@in_all_forms
def test_a_profile_on_disk_is_its_masks_norms_and_head(expression, kind, tmp_path):
    model = moved(expression, kind)
    tiny.train(model, kind)
    model.finish()
    method, at = only(model)
    deltas.save(model, tmp_path / "delta")
    with safe_open(tmp_path / "delta", "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    masks = 2 if method.separate else 1
    layers = at.shape.layers
    kept = {n.removeprefix("shared.xpeft__profile."): t for n, t in found.items() if not n.startswith("heads.")}
    stored = kept.pop("mask" if method.mask == "hard" else "logits")
    assert stored.nbytes == method.mask_bytes(at.shape) == masks * layers * (2 if method.mask == "hard" else 4 * N)
    assert {n: t.nbytes for n, t in kept.items()} == {"gamma": 4 * layers * B, "beta": 4 * layers * B}
    again = deltas.load(tmp_path / "delta", tiny.backbone(kind))
    said = tiny.outputs(model, kind)
    assert all(torch.equal(answer, said[task]) for task, answer in tiny.outputs(again, kind).items())
    assert again.counts() == model.counts()


# --- the bank ---------------------------------------------------------------------------------------------------------
def test_a_bank_is_the_same_for_every_profile_and_of_its_seed():
    models = [tiny.build(e, "bert", seed) for e, seed in ((SOFT, 0), (HARD, 1), (SOFT.replace(")", ", seed=1)"), 0))]
    same, too, other = (m.parts["xpeft__bank"].digest for m in models)
    assert same == too != other
    bank = models[0].fixed["xpeft__bank"]
    weights, biases = bank.A[..., : B * 32], bank.A[..., B * 32 :]
    assert abs(weights.std().item() / 0.02 - 1) < 0.03 and abs(weights.mean().item()) < 1e-3 and not biases.any()
    assert bank.B.shape == (2, N, 32 * (B + 1)) and not bank.B[..., 32 * B :].any()


@on_all
def test_two_profiles_have_one_bank_and_do_not_leak(kind):
    model = tiny.build(f"PerTask({HARD})", kind)
    assert list(model.fixed) == ["xpeft__bank"] and len(model.attachments) == 2
    assert not any("bank" in name for name in model.delta())
    before, bank = tiny.outputs(model, kind), model.fixed["xpeft__bank"]
    tiny.train(model, kind, steps=5, tasks=("sst",))
    after = tiny.outputs(model, kind)
    assert torch.equal(after["quora"], before["quora"]) and not torch.equal(after["sst"], before["sst"])
    assert weights_digest(bank) == model.parts["xpeft__bank"].digest


def warm(kind, folder, bottleneck=B, count=3):
    """Files of adapters that others have trained: of two tasks each, in one model."""
    folder.mkdir()
    for i in range(count):
        model = moved(f"PerTask(PfeifferFFN(bottleneck={bottleneck}))", kind, seed=i)
        deltas.save(model, folder / f"{i}.safetensors")
    return folder


@on_all
def test_a_warm_bank_is_what_others_trained_and_stays_so(kind, tmp_path):
    folder = warm(kind, tmp_path / "bank")
    expression = f"XPEFT(adapters=6, bottleneck={B}, bank={str(folder)!r})"
    model = tiny.build(expression, kind)
    before = [p.clone() for p in model.fixed.parameters()]
    others = moved(f"PerTask(PfeifferFFN(bottleneck={B}))", kind, seed=2)
    for layer, site in enumerate(others.anatomy.at("ffn.down")):
        (switch,) = site.module.edits.values()
        assert isinstance(switch, Switch)
        last = switch.by_task["quora"]  # the sixth: of the third file, the second task
        assert torch.equal(before[0][layer, 5], torch.cat([last.down.weight.flatten(), last.down.bias]))
        assert torch.equal(before[1][layer, 5], torch.cat([last.up.weight.flatten(), last.up.bias]))
    tiny.train(model, kind, steps=3)
    assert all(torch.equal(p, old) for p, old in zip(model.fixed.parameters(), before, strict=True))
    deltas.save(model, tmp_path / "delta")
    again = deltas.load(tmp_path / "delta", tiny.backbone(kind))
    said = tiny.outputs(model, kind)
    assert all(torch.equal(answer, said[task]) for task, answer in tiny.outputs(again, kind).items())
    deltas.save(moved(f"PerTask(PfeifferFFN(bottleneck={B}))", kind, seed=9), folder / "1.safetensors")
    net = tiny.backbone(kind)
    with pytest.raises(DeltaError, match="frozen part 'xpeft__bank' of digest") as refused:
        deltas.load(tmp_path / "delta", net)
    assert model.parts["xpeft__bank"].digest in str(refused.value) and not carries_a_method(net)
    assert tiny.build(expression, kind).parts["xpeft__bank"].digest in str(refused.value)


def test_one_adapter_of_a_file_without_copies(tmp_path):
    deltas.save(moved("PfeifferFFN(bottleneck=8)", "bert"), tmp_path / "one.safetensors")
    model = tiny.build(f"XPEFT(adapters=1, bottleneck=8, bank={str(tmp_path / 'one.safetensors')!r})", "bert")
    assert model.fixed["xpeft__bank"].A.shape == (2, 1, 8 * 33)


def test_a_bank_that_does_not_fit_is_refused(tmp_path):
    folder = warm("bert", tmp_path / "bank")
    for change, message in [
        ("adapters=5, bottleneck=8", "has 6 adapters, expected 5"),
        ("adapters=6, bottleneck=4", r"'down' of the adapter at .* is \(8, 32\), expected \(4, 32\)"),
    ]:
        with pytest.raises(UsageError, match=message):
            tiny.build(f"XPEFT({change}, bank={str(folder)!r})", "bert")
    with pytest.raises(UsageError, match="is missing, expected"):
        tiny.build(f"XPEFT(adapters=6, bottleneck=8, bank={str(folder)!r})", "distilbert")
    with pytest.raises(UsageError, match="trained on weights of digest"):
        Tuned(tiny.backbone("bert", seed=8), f"XPEFT(adapters=6, bottleneck=8, bank={str(folder)!r})", AUTHORS)
    deltas.save(tiny.build("LoRA(rank=2)", "bert"), folder / "3.safetensors")
    with pytest.raises(
        UsageError, match=r"3.safetensors holds 'LoRA\(rank=2\)', and a bank is made of adapters of PfeifferFFN"
    ):
        tiny.build(f"XPEFT(adapters=6, bottleneck=8, bank={str(folder)!r})", "bert")
    with pytest.raises(DeltaError, match="there is no such file"):
        tiny.build("XPEFT(bank='nowhere')", "bert")
    with pytest.raises(UsageError, match="XPEFT.* would need .* numbers beside a backbone"):
        tiny.build("XPEFT(adapters=1000000, bottleneck=64)", "bert")


# --- a bank of the runs that a run begins from -------------------------------------------------------------------------
PFEIFFER = f"PfeifferFFN(bottleneck={B}, activation='relu')"
BEGUN = HARD.replace(")", ", bank='start')")


OTHERS = [get_task(f"authors_{i}") for i in (11, 7)]


def parents(kind, folder, expressions, tasks=OTHERS):
    """Deltas of others, each with numbers of its own, and the models. A sum is of both tasks, others of one."""
    folder.mkdir()
    models, paths = [], []
    for i, expression in enumerate(expressions):
        torch.manual_seed(i)
        model = Tuned(tiny.backbone(kind), expression, tasks if "PerTask" in expression else tasks[:1], dropout=0.0)
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p += 0.5 * torch.randn_like(p)
        models.append(model)
        paths.append(folder / f"{9 - i}.safetensors")  # in another order than by name
        deltas.save(model, paths[-1])
    return models, paths


def begun(expression, kind, paths, tasks=AUTHORS):
    """A model on other tasks than those that the parents know, begun from them."""
    torch.manual_seed(0)
    model = Tuned(tiny.backbone(kind), expression, tasks, dropout=0.0)
    model.begin([deltas.for_start(path, model) for path in paths])
    model.prepare([])
    return model.eval()


@on_all
def test_a_bank_is_made_of_the_runs_that_a_run_begins_from(kind, tmp_path):
    others, paths = parents(
        kind, tmp_path / "parents", [PFEIFFER, f"HeadOnly(shared=True) + PerTask({PFEIFFER})", PFEIFFER]
    )
    expression = BEGUN.replace(f"adapters={N}", "adapters=4")
    model = begun(f"PerTask({expression})", kind, paths)
    bank = model.fixed["xpeft__bank"]
    before = [p.clone() for p in bank.parameters()]
    for layer in range(len(bank.A)):
        found = []
        for other in others:
            edit = next(iter(other.anatomy.at("ffn.down")[layer].module.edits.values()))
            found += [edit.by_task[task] for task in ("authors_11", "authors_7")] if isinstance(edit, Switch) else [edit]
        for i, adapter in enumerate(found):  # of runs in their order, in one by the names of tasks
            assert torch.equal(bank.A[layer, i], torch.cat([adapter.down.weight.flatten(), adapter.down.bias]))
            assert torch.equal(bank.B[layer, i], torch.cat([adapter.up.weight.flatten(), adapter.up.bias]))
    assert model.parts["xpeft__bank"].digest == weights_digest(bank)
    assert begun(expression, kind, paths[::-1]).parts["xpeft__bank"].digest != weights_digest(bank)
    optimizer = model.train().optimizer(0.1, 0.0)
    for _ in range(3):
        for task in model.tasks:
            model.loss(task, model(task, tiny.inputs_of("sst", kind)), torch.arange(8)).backward()
        optimizer.step()
    assert all(torch.equal(p, old) and p.grad is None for p, old in zip(bank.parameters(), before, strict=True))


def test_a_profile_over_such_a_bank_is_loaded_with_its_parts(tmp_path):
    expressions = [f"HeadOnly(shared=True) + PerTask({PFEIFFER})"]
    (source,), paths = parents("bert", tmp_path / "parents", expressions)
    expression = f"HeadOnly(given='start') + PerTask({HARD.replace(f'adapters={N}', 'adapters=2').replace('k=3', 'k=1')})"
    expression = expression.replace("mask='hard'", "mask='hard', bank='start'")
    model = begun(expression, "bert", paths)
    assert torch.equal(model.heads["authors_2"].weight, source.heads["authors_7"].weight)
    assert not any(p.requires_grad for p in model.heads.parameters()) and not any("heads" in n for n in model.delta())
    for p in model.parameters():
        p.data += 0.3 * p.requires_grad
    model.finish()
    deltas.save(model, tmp_path / "delta")
    inputs = tiny.inputs_of("sst", "bert")
    again = deltas.load(tmp_path / "delta", tiny.backbone("bert"), parts=model.parts)
    assert all(torch.equal(again(task, inputs), model(task, inputs)) for task in model.tasks)
    server = Profiles(begun(expression, "bert", paths))
    server.add(tmp_path / "delta", [f"user {i}" for i in range(4)])
    torch.testing.assert_close(server(["user 3"] * 8, inputs)[2], model("authors_3", inputs)[2], rtol=1e-5, atol=1e-5)
    with pytest.raises(DeltaError, match=r"frozen part 'xpeft__bank' of digest.*load it with the one it was made for"):
        deltas.load(tmp_path / "delta", tiny.backbone("bert"), parts={"headonly__head": model.parts["headonly__head"]})


def test_what_a_bank_cannot_be_made_of_is_refused(tmp_path):
    _, paths = parents("bert", tmp_path / "parents", [PFEIFFER, "LoRA(rank=2)", PFEIFFER.replace(f"={B}", "=4")])
    one = BEGUN.replace(f"adapters={N}", "adapters=1").replace("k=3", "k=1")
    for given, message in [
        ([paths[0]] * 2, "the start has 2 adapters, expected 1"),
        ([paths[1]], "run 1 of the start has trained no PfeifferFFN at 'backbone.encoder.layer.0"),
        ([paths[0], paths[2]], r"run 2 of the start: 'down' of the adapter at .* is \(4, 32\), expected \(8, 32\)"),
    ]:
        with pytest.raises(UsageError, match=message):
            begun(one, "bert", given)
    with pytest.raises(UsageError, match="begins from runs of PfeifferFFN, and no start is given"):
        begun(one, "bert", [])
    with pytest.raises(UsageError, match="cannot go on from its start"):  # a bank that is drawn has no use for them
        begun(SOFT, "bert", paths[:1])
    with pytest.raises(DeltaError, match="trained on weights of digest"):
        model = Tuned(tiny.backbone("bert", seed=8), one, AUTHORS)
        deltas.for_start(paths[0], model)
    _, heads = parents("bert", tmp_path / "heads", [f"PerTask({PFEIFFER})"])
    _, other = parents("bert", tmp_path / "other", [PFEIFFER], [get_task("sst")])
    for paths, message in [
        (heads, "the start has 2 heads: expected a delta with one"),
        (other, r"the head of the start is \(5, 32\), and the tasks here need one of \(15, 32\)"),
    ]:
        with pytest.raises(UsageError, match=message):
            begun("HeadOnly(given='start') + LoRA(rank=2)", "bert", paths)


# --- what stays as it begins -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", [SOFT, HARD])
@pytest.mark.parametrize(
    "fixed, moves", [("masks", {"gamma", "beta"}), ("norms", {"logits"}), ("", {"logits", "gamma", "beta"})]
)
def test_what_is_fixed_gets_no_gradient_and_stays(form, fixed, moves):
    model = tiny.build(form.replace(")", f", fixed={fixed!r}, start=1.0)"), "bert")
    method, at = only(model)
    profile = profile_of(at)
    before = {name: p.detach().clone() for name, p in profile.named_parameters()}
    got = set()
    tiny.train(
        model, "bert", steps=3, watch=lambda: got.update(n for n, p in profile.named_parameters() if p.grad is not None)
    )
    after = dict(profile.named_parameters())
    assert got == moves == {name for name in before if not torch.equal(before[name], after[name])}
    assert method.formula(at.shape) == model.counts().trainable == sum(p.numel() for n, p in after.items() if n in moves)


def test_masks_that_are_fixed_have_no_noise():
    model = tiny.build(HARD.replace(")", ", fixed='masks', start=1.0)"), "bert")
    said = tiny.outputs(model, "bert")
    for mode in (True, False):
        assert all(torch.equal(t, said[task]) for task, t in tiny.outputs(model.train(mode), "bert").items())


# --- a profile that does not fit ----------------------------------------------------------------------------------------
def changed(path, model, **new):
    deltas.save(model, path)
    metadata, tensors = read_tensors(path)
    write_tensors(path, tensors | {f"shared.xpeft__profile.{name}": t for name, t in new.items()}, metadata)
    return path


def test_a_mask_that_is_none_is_refused(tmp_path):
    model = moved(HARD, "bert")
    model.finish()
    for bits, message in [
        (torch.zeros(2, 2, 2, dtype=torch.uint8), "a mask chooses 0 adapters, expected k=3"),
        (torch.full((2, 2, 2), 15, dtype=torch.uint8), "a mask chooses 8 adapters, expected k=3"),
        (torch.full((2, 2, 2), 0b111 << 5, dtype=torch.uint8), r"expected bits \(2, 2, 13\), found uint8 \(2, 2, 2\)"),
        (torch.full((2, 2, 3), 7, dtype=torch.uint8), r"expected bits \(2, 2, 13\), found uint8 \(2, 2, 3\)"),
        (torch.ones(2, 2, 13), r"expected bits \(2, 2, 13\), found float32 \(2, 2, 13\)"),
    ]:
        path, net = changed(tmp_path / "delta", model, mask=bits), tiny.backbone("bert")
        with pytest.raises(DeltaError, match=message):
            deltas.load(path, net)
        assert not carries_a_method(net)
        with pytest.raises((DeltaError, UsageError), match=message):
            Profiles(copy.deepcopy(model)).add(path, replace=True)


# --- serving ----------------------------------------------------------------------------------------------------------
def of_authors(expression, kind, seed=0):
    torch.manual_seed(seed)
    model = Tuned(tiny.backbone(kind), expression, AUTHORS, dropout=0.0)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p += 0.5 * torch.randn_like(p)
    return model.eval()


@on_all
@pytest.mark.parametrize("expression", [*FORMS, f"HeadOnly(shared=True) + PerTask({SOFT})"])
def test_a_mixed_batch_says_what_each_profile_says_alone(expression, kind):
    model = of_authors(expression if "PerTask" in expression else f"PerTask({expression})", kind)
    inputs, server = tiny.inputs_of("sst", kind), Profiles(model)
    names = [f"authors_{i}" for i in (2, 0, 1, 2, 3, 3, 0, 2)]
    with torch.no_grad():
        alone = {task: model(task, inputs) for task in model.tasks}
    for row, (name, found) in enumerate(zip(names, server(names, inputs), strict=True)):
        torch.testing.assert_close(found, alone[name][row], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(alone["authors_0"], alone["authors_1"], atol=1e-3)
    with torch.no_grad():
        assert torch.equal(model("authors_0", inputs), alone["authors_0"])  # nothing of the batch stays behind


@pytest.mark.parametrize("expression", [SOFT, HARD])
def test_profiles_come_from_their_deltas(expression, tmp_path):
    inputs, server = tiny.inputs_of("sst", "bert"), Profiles(of_authors(expression, "bert"))
    said = {}
    for i in range(3):
        model = Tuned(tiny.backbone("bert"), expression, [AUTHORS[i]], parts=server.model.parts)
        tiny_step(model, AUTHORS[i].name, inputs)
        deltas.save(model, tmp_path / f"{i}")
        assert server.add(tmp_path / f"{i}", [f"user {i}"]) == [f"user {i}"]
        said[f"user {i}"] = model(AUTHORS[i].name, inputs)
    together = of_authors(f"PerTask({expression})", "bert", seed=4)
    together.finish()
    deltas.save(together, tmp_path / "all")
    assert server.add(tmp_path / "all", replace=True) == [task.name for task in AUTHORS]
    said |= {task.name: together(task.name, inputs) for task in AUTHORS}
    names = [*said, "user 1"]
    for row, (name, found) in enumerate(zip(names, server(names, inputs), strict=True)):
        torch.testing.assert_close(found, said[name][row].detach(), rtol=1e-5, atol=1e-5)
    masks = 2 * 2 * (2 if "hard" in expression else 4 * N)
    assert server.held["user 1"].nbytes == masks + 4 * (2 * 2 * B + 33 * 15)


def tiny_step(model, task, inputs):
    model.train()
    optimizer = model.optimizer(0.3, 0.0)
    model.loss(task, model(task, inputs), torch.arange(8)).backward()
    optimizer.step()
    model.eval().finish()


def test_what_cannot_be_served_is_refused(tmp_path):
    server, inputs = Profiles(of_authors(HARD, "bert")), tiny.inputs_of("sst", "bert")
    with pytest.raises(UsageError, match="no profile 'nobody' among 4: add its delta first"):
        server(["nobody"] * 8, inputs)
    with pytest.raises(UsageError, match="3 profiles are named for 8 rows"):
        server(["authors_0"] * 3, inputs)
    for other, message in [
        (HARD.replace("k=3", "k=4"), r"a profile of XPEFT\(.*k=4\), and these are of XPEFT\(.*k=3\)"),
        (SOFT, r"a profile of XPEFT\(adapters=13, bottleneck=8\), and these are of .*mask='hard'"),
        (HARD.replace(")", ", separate=False)"), r"separate=False\), and these are of"),
        (HARD.replace(")", ", activation='none')"), r"activation='none'\), and these are of"),
        ("LoRA(rank=2)", r"delta: LoRA\(rank=2\) is not XPEFT"),
        (f"{HARD} + {HARD}", r"delta: XPEFT.* \+ XPEFT.* is not XPEFT"),
        (f"Layers({HARD}, start=1)", r"xpeft__bank"),  # of one block, and so another one
    ]:
        model = of_authors(other, "bert")
        model.finish()
        deltas.save(model, tmp_path / "delta")
        with pytest.raises(DeltaError, match=message):
            server.add(tmp_path / "delta")
    for fields, message in [
        ({"form": "text"}, "a profile of form 'text', and here it is 'heads'"),
        ({"weights": "x"}, "a profile of weights of digest 'x', and here it is"),
        ({"pooling": "cls"}, "a profile of pooling 'cls', and here it is 'mean'"),
        (
            {"parts": '{"xpeft__bank": "y"}'},
            f"'xpeft__bank' of digest 'y', and here it is '{server.model.parts['xpeft__bank'].digest}",
        ),
    ]:
        model = of_authors(HARD, "bert")
        model.finish()
        deltas.save(model, tmp_path / "delta")
        metadata, tensors = read_tensors(tmp_path / "delta")
        write_tensors(tmp_path / "delta", tensors, metadata | fields)
        with pytest.raises(DeltaError, match=message):
            server.add(tmp_path / "delta", replace=True)
    assert list(server.held) == [task.name for task in AUTHORS]
    with pytest.raises(UsageError, match="holds 4 profiles, and 1 names are given"):
        deltas.save(of_authors(SOFT, "bert"), tmp_path / "soft")
        Profiles(of_authors(SOFT, "bert")).add(tmp_path / "soft", ["one"])
    with pytest.raises(UsageError, match=r"LoRA\(rank=2\) is not XPEFT"):
        Profiles(tiny.build(f"{SOFT} + LoRA(rank=2)", "bert"))


def saved(expression, path, tasks=AUTHORS[:1], seed=3):
    """A delta of trained profiles, and the model that has them."""
    torch.manual_seed(seed)
    model = Tuned(tiny.backbone("bert"), expression, tasks, dropout=0.0).eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p += 0.5 * torch.randn_like(p)
    model.finish()
    deltas.save(model, path)
    return model


def answers_as_alone(server, name, model, task="authors_0"):
    inputs = tiny.inputs_of("sst", "bert")
    with torch.no_grad():
        alone = model(task, inputs)
    dtype = server.held[name].weight.dtype
    torch.testing.assert_close(torch.stack(server([name] * 8, inputs)), alone.to(dtype), rtol=1e-5, atol=1e-5)


def test_a_profile_whose_bank_is_another_one_is_refused_with_both_digests(tmp_path):
    """Whatever else differs."""
    server, here = Profiles(of_authors(HARD, "bert")), tiny.build(HARD, "bert").parts["xpeft__bank"].digest
    for expression in (SOFT.replace(")", ", seed=1)"), HARD.replace("k=3", "k=4, seed=1"), "XPEFT(bottleneck=4)"):
        theirs = saved(expression, tmp_path / "delta").parts["xpeft__bank"].digest
        message = f"delta: a profile of 'xpeft__bank' of digest '{theirs}', and here it is '{here}'"
        with pytest.raises(DeltaError, match=message):
            server.add(tmp_path / "delta", ["user"])


def test_a_profile_is_read_by_its_own_head_or_refused(tmp_path):
    saved("HeadOnly(shared=True) + LoRA(rank=2)", tmp_path / "head", seed=5)
    given = f"HeadOnly(given={str(tmp_path / 'head')!r}) + {SOFT}"
    refers, own = saved(given, tmp_path / "refers"), saved(SOFT, tmp_path / "own")
    server = Profiles(of_authors(SOFT, "bert"))
    digest = refers.parts["headonly__head"].digest
    message = f"need a frozen part 'headonly__head' of digest '{digest}', and the model here has 'xpeft__bank'"
    with pytest.raises(DeltaError, match=message):
        server.add(tmp_path / "refers", ["user"])
    assert "user" not in server.held
    server = Profiles(of_authors(given, "bert"))  # whose head a profile may have one beside
    server.add(tmp_path / "refers", ["refers"])
    server.add(tmp_path / "own", ["own"])
    answers_as_alone(server, "refers", refers)
    answers_as_alone(server, "own", own)
    saved("HeadOnly(shared=True) + LoRA(rank=2)", tmp_path / "head", seed=6)
    saved(given, tmp_path / "refers")
    with pytest.raises(DeltaError, match=f"'headonly__head' of digest '(?!{digest}).*', and here it is '{digest}'"):
        server.add(tmp_path / "refers", ["user"])


@pytest.mark.parametrize("expression", [SOFT, f"PerTask({SOFT})", f"HeadOnly(shared=True) + PerTask({SOFT})"])
def test_a_delta_that_has_lost_a_head_is_refused(expression, tmp_path):
    path, server = tmp_path / "delta", Profiles(of_authors(SOFT, "bert"))
    model = saved(expression, path, AUTHORS[:2])
    metadata, tensors = read_tensors(path)
    server.add(path, ["user 0", "user 1"])
    answers_as_alone(server, "user 1", model, "authors_1")
    last = max(name for name in tensors if name.startswith("heads."))  # the only one, where tasks have one
    write_tensors(path, {n: t for n, t in tensors.items() if n != last}, metadata)
    with pytest.raises(DeltaError, match=rf"'{last}' does not fit .*, found none\)"):
        server.add(path, ["user 2", "user 3"])
    assert "user 2" not in server.held


@pytest.mark.parametrize("expression", [SOFT, HARD])
def test_profiles_that_are_taken_up_are_where_the_model_is_and_of_its_type(expression, tmp_path):
    """No GPU runs this. Another default device stands for it, where what does not follow the model would be made; code that
    names the CPU would not be found out."""
    alone, model = saved(expression, tmp_path / "delta"), of_authors(expression, "bert")
    server, wide = Profiles(copy.deepcopy(model)), Profiles(copy.deepcopy(model).double())
    with torch.device("meta"):
        server.add(tmp_path / "delta", ["user"])
        wide.add(tmp_path / "delta", ["user"])
    for one in (server, wide):
        for held in one.held.values():
            first = one.held["authors_0"]
            assert {n: (t.device, t.dtype) for n, t in vars(held).items()} == {
                n: (one.bank.A.device, t.dtype) for n, t in vars(first).items()
            }
        answers_as_alone(one, "user", alone)
    assert wide.held["user"].weight.dtype == wide.held["user"].gamma.dtype == torch.float64


def test_a_bank_in_bf16_serves_what_is_taken_up(tmp_path):
    saved(HARD, tmp_path / "delta")
    model = of_authors(HARD, "bert").store_frozen(torch.bfloat16)
    server, inputs = Profiles(model), tiny.inputs_of("sst", "bert")
    server.add(tmp_path / "delta", ["user"])
    alone = deltas.load(tmp_path / "delta", tiny.backbone("bert")).store_frozen(torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found, expected = torch.stack(server(["user"] * 8, inputs)), alone("authors_0", inputs)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def test_no_profile_is_lost_to_another_of_its_name(tmp_path):
    server = Profiles(of_authors(SOFT, "bert"))
    first, second = saved(SOFT, tmp_path / "first", seed=3), saved(SOFT, tmp_path / "second", seed=4)
    saved(SOFT, tmp_path / "all", AUTHORS)
    before = dict(server.held)
    with pytest.raises(UsageError, match=r"there is a profile 'authors_0' already: .*names=\[...\].*replace=True"):
        server.add(tmp_path / "first")
    with pytest.raises(UsageError, match="there is a profile 'authors_2' already"):
        server.add(tmp_path / "all", ["a", "b", "authors_2", "c"])
    for replace in (False, True):
        with pytest.raises(UsageError, match="several profiles are to be 'x': give each a name of its own"):
            server.add(tmp_path / "all", ["x", "x", "x", "y"], replace=replace)
    assert server.held == before
    assert server.add(tmp_path / "first", ["ann"]) == ["ann"]
    answers_as_alone(server, "ann", first)
    assert server.add(tmp_path / "second", ["ann"], replace=True) == ["ann"]
    answers_as_alone(server, "ann", second)
    del server.held["ann"]
    server.add(tmp_path / "first", ["ann"])
    assert list(server.held) == [*before, "ann"]


@pytest.mark.parametrize(
    "expression, others",
    [
        (HARD, ("tau=0.5", "nu=0.0", "start=1.0", "fixed='masks'", "fixed='norms'")),
        (SOFT, ("tau=0.5", "nu=0.0", "start=1.0", "fixed='masks'", "k=3")),
        (f"Layers({SOFT}, stop=1)", ()),
    ],
)
def test_how_a_profile_was_trained_does_not_keep_it_from_being_served(expression, others, tmp_path):
    server = Profiles(of_authors(expression, "bert"))
    for other in ("seed=42", *others):
        other = expression.replace("bottleneck=8", f"bottleneck=8, {other}")
        model = saved(other, tmp_path / "delta")
        server.add(tmp_path / "delta", [other])
        answers_as_alone(server, other, model)


def test_every_other_field_decides():
    """One that is added to the method is compared until somebody says that outputs do not depend on it."""
    values = {"adapters": 7, "bottleneck": 4, "mask": "hard", "k": 2, "separate": False, "activation": "none"}
    for mask, idle in serving.IDLE.items():
        names = {f.name for f in dataclasses.fields(XPEFT)}
        assert set(idle) < names and names - set(idle) == values.keys() - ({"k"} if mask == "soft" else set())


def test_a_bank_is_the_same_wherever_it_lies(tmp_path):
    folder = warm("bert", tmp_path / "bank")
    shutil.copytree(folder, tmp_path / "elsewhere")
    ours, theirs = (f"XPEFT(adapters=6, bottleneck={B}, bank={str(at)!r})" for at in (folder, tmp_path / "elsewhere"))
    server, model = Profiles(of_authors(ours, "bert")), saved(theirs, tmp_path / "delta")
    server.add(tmp_path / "delta", ["user"])
    answers_as_alone(server, "user", model)


def test_profiles_of_other_blocks_are_refused(tmp_path):
    """Their bank has the same numbers, of as many blocks."""
    lower, upper, spelled = (f"Layers({SOFT}, {at})" for at in ("stop=1", "start=1", "start=0, stop=1, stack='encoder'"))
    server = Profiles(of_authors(lower, "bert"))
    saved(upper, tmp_path / "delta")
    with pytest.raises(DeltaError, match=r"of Layers\(XPEFT.*, start=1\), and these are of Layers\(XPEFT.*, stop=1\)"):
        server.add(tmp_path / "delta", ["user"])
    model = saved(spelled, tmp_path / "delta")
    server.add(tmp_path / "delta", ["user"])
    answers_as_alone(server, "user", model)


@pytest.mark.parametrize(
    "text",
    [
        "fixed='head'",
        "adapters=0",
        "adapters=10, mask='hard'",
        "k=0",
        "tau=0.0",
        "nu=-1.0",
        "mask='both'",
        "bottleneck=0",
        "start=-1.0",
    ],
)
def test_impossible_sizes_are_refused(text):
    with pytest.raises(UsageError, match="is impossible"):
        parse(f"XPEFT({text})")
    assert XPEFT(adapters=10).k == 50  # which soft masks do not use
