"""What methods share: parts of one for all tasks, frozen parts that no delta holds, one head, truth values as bits."""

from __future__ import annotations

import json
import types
from dataclasses import dataclass

import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import nn

from peftlib import backbones, deltas
from peftlib.backbones import weights_digest
from peftlib.data.tasks import get_task
from peftlib.edits import Edit
from peftlib.errors import UsageError
from peftlib.methods.base import METHODS, Method, Ref
from peftlib.model import Tuned
from peftlib.parametrized import carries_a_method
from peftlib.tensorfiles import DeltaError, packed, read_tensors, unpacked, write_tensors
from peftlib.training.loop import Trainer

AUTHORS = [get_task("authors_0"), get_task("authors_1")]


class Chosen(nn.Module):
    """Which outputs of the bank are added."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("mask", torch.arange(32) % 3 == 0)


class Add(Edit):
    def __init__(self, bank: nn.Module, chosen: nn.Module):
        super().__init__()
        self.bank, self.chosen = Ref(bank), Ref(chosen)

    def after(self, x, y):
        return y + self.chosen.module.scale * self.chosen.module.mask * self.bank.module(y)


@dataclass(frozen=True)
class Toy(Method):
    """A frozen bank for all tasks; every task has a number and 32 bits of its own."""

    seed: int = 0

    def attach(self, at):
        bank = at.share("bank", lambda: nn.Linear(at.shape.width, at.shape.width), kept=False, once=True, seed=self.seed)
        chosen = at.share("chosen", Chosen)
        at.share("together", nn.Linear(1, 1), once=True)
        for site in at.anatomy.at("ffn.down"):
            at.edit(site, Add(bank, chosen))


del METHODS["Toy"]


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(METHODS, "Toy", Toy)


def written(model, path, **metadata):
    deltas.save(model, path)
    found, tensors = read_tensors(path)
    write_tensors(path, tensors, found | metadata)


# --- parts ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_a_delta_holds_what_is_kept_and_no_more(kind, tmp_path):
    model = tiny.build("PerTask(Toy())", kind)
    assert list(model.fixed) == list(model.parts) == ["toy__bank"]  # one for all tasks
    assert {n: tuple(t.shape) for n, t in model.delta().items() if not n.startswith("heads.")} == {
        "shared.toy__sst__chosen.scale": (1,),
        "shared.toy__sst__chosen.mask": (32,),
        "shared.toy__together.weight": (1, 1),
        "shared.toy__together.bias": (1,),
        "shared.toy__quora__chosen.scale": (1,),
        "shared.toy__quora__chosen.mask": (32,),
    }
    assert model.counts().trainable == 2 * 1 + 2  # what is there once counts once
    assert not any(n.startswith("fixed.") for n in Trainer._state(types.SimpleNamespace(model=model)))
    before = weights_digest(model.fixed)
    tiny.train(model, kind)
    assert weights_digest(model.fixed) == before
    deltas.save(model, tmp_path / "delta")
    again = deltas.load(tmp_path / "delta", tiny.backbone(kind))
    said = tiny.outputs(model, kind)
    assert all(torch.equal(found, said[name]) for name, found in tiny.outputs(again, kind).items())


def test_what_is_not_kept_comes_from_its_seed_alone():
    first, other = tiny.build("Toy()", "bert", seed=1), tiny.build("Toy(seed=1)", "bert", seed=1)
    torch.manual_seed(5)
    torch.rand(3)
    state = torch.get_rng_state()
    again = Tuned(tiny.backbone("bert"), "Toy()", AUTHORS[:1])
    assert again.parts["toy__bank"].digest == first.parts["toy__bank"].digest != other.parts["toy__bank"].digest
    torch.set_rng_state(state)
    plain = Tuned(tiny.backbone("bert"), "HeadOnly()", AUTHORS[:1])
    torch.set_rng_state(state)
    nn.Linear(1, 1)  # what Toy draws beside its bank
    assert torch.equal(nn.Linear(32, 15).weight, again.heads["authors_0"].weight)
    assert not torch.equal(plain.heads["authors_0"].weight, again.heads["authors_0"].weight)


def test_other_parts_are_refused_with_both_digests_and_nothing_is_changed(tmp_path):
    model, other = tiny.build("Toy()", "bert"), tiny.build("Toy(seed=1)", "bert")
    written(model, tmp_path / "delta", method="Toy(seed=1)")
    net = tiny.backbone("bert")
    with pytest.raises(DeltaError, match="frozen part 'toy__bank'") as refused:
        deltas.load(tmp_path / "delta", net)
    assert all(one.parts["toy__bank"].digest in str(refused.value) for one in (model, other))
    assert not carries_a_method(net) and weights_digest(net) == weights_digest(tiny.backbone("bert"))
    written(model, tmp_path / "delta", parts="{}")
    with pytest.raises(DeltaError, match="of digest None"):
        deltas.load(tmp_path / "delta", net)
    written(model, tmp_path / "delta", parts="[1]")
    with pytest.raises(DeltaError, match="expected names and digests"):
        deltas.load(tmp_path / "delta", net)


def test_parts_of_another_model_are_used_in_the_place_of_new_ones(tmp_path):
    model = tiny.build("Toy()", "bert")
    deltas.save(model, tmp_path / "delta")
    again = deltas.load(
        tmp_path / "delta", tiny.backbone("bert"), parts=model.parts | {"of_nobody": model.parts["toy__bank"]}
    )
    assert again.fixed["toy__bank"] is model.fixed["toy__bank"] and list(again.parts) == ["toy__bank"]
    with pytest.raises(DeltaError, match="it was trained with a frozen part"):
        deltas.load(tmp_path / "delta", tiny.backbone("bert"), parts=tiny.build("Toy(seed=1)", "bert").parts)


def test_on_shapes_nothing_is_drawn_and_in_bf16_the_digest_stays(tmp_path):
    state = torch.get_rng_state()
    with torch.device("meta"):
        model = Tuned(backbones.shape_only("bert-base-uncased"), "Toy()", AUTHORS)
    assert model.parts["toy__bank"].digest is None and model.fixed["toy__bank"].weight.is_meta
    assert torch.equal(torch.get_rng_state(), state)
    narrow = tiny.build("Toy()", "bert").store_frozen(torch.bfloat16)
    assert narrow.fixed["toy__bank"].weight.dtype == torch.bfloat16
    deltas.save(narrow, tmp_path / "delta")
    deltas.load(tmp_path / "delta", tiny.backbone("bert"))


def test_files_of_models_without_such_parts_are_what_they_were(tmp_path):
    deltas.save(tiny.build("LoRA(rank=2)", "bert"), tmp_path / "delta")
    assert read_tensors(tmp_path / "delta")[0].keys() == {
        "format",
        "method",
        "tasks",
        "pooling",
        "form",
        "weights",
        "backbone",
    }


# --- bits -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(1,), (8,), (9,), (2, 3, 100)])
def test_truth_values_are_bits_on_disk(shape, tmp_path):
    mask = torch.rand(shape) > 0.5
    write_tensors(tmp_path / "bits", {"mask": mask}, {})
    stored = load_file(tmp_path / "bits")["mask"]
    assert stored.dtype == torch.uint8 and stored.shape == (*shape[:-1], -(-shape[-1] // 8))
    assert torch.equal(unpacked(stored, mask), mask)


def test_what_is_no_bit_array_of_the_right_length_is_refused(tmp_path):
    model = tiny.build("Toy()", "bert")
    deltas.save(model, tmp_path / "delta")
    metadata, tensors = read_tensors(tmp_path / "delta")
    name = "shared.toy__chosen.mask"
    assert tensors[name].tolist() == packed(torch.arange(32) % 3 == 0).tolist()
    for wrong, found in [
        (torch.zeros(5, dtype=torch.uint8), r"uint8 \(5,\)"),
        (torch.zeros(3, dtype=torch.uint8), r"uint8 \(3,\)"),
        (torch.zeros(32), r"float32 \(32,\)"),
    ]:
        write_tensors(tmp_path / "delta", tensors | {name: wrong}, metadata)
        with pytest.raises(DeltaError, match=rf"chosen.mask' does not fit .*expected bits \(32,\), found {found}"):
            deltas.load(tmp_path / "delta", tiny.backbone("bert"))
    assert unpacked(torch.tensor([255], dtype=torch.uint8), torch.ones(7, dtype=torch.bool)).dtype == torch.uint8


# --- heads ------------------------------------------------------------------------------------------------------------
def authors(method, **options):
    torch.manual_seed(0)
    return Tuned(tiny.backbone("bert"), method, AUTHORS, **options).eval()


def step(model):
    optimizer, inputs = model.optimizer(1e-2, 0.0), tiny.inputs_of("sst", "bert")
    for task in model.tasks:
        model.loss(task, model(task, inputs), torch.arange(8)).backward()
    optimizer.step()


def test_one_head_is_trained_for_all_tasks_and_kept_once(tmp_path):
    model = authors("HeadOnly(shared=True) + PerTask(Houlsby(bottleneck=2))")
    assert model.heads["authors_0"] is model.heads["authors_1"] and model.counts().heads == 33 * 15
    step(model)
    deltas.save(model, tmp_path / "delta")
    assert [n for n in model.delta() if n.startswith("heads.")] == ["heads.authors_0.weight", "heads.authors_0.bias"]
    again, inputs = deltas.load(tmp_path / "delta", tiny.backbone("bert")), tiny.inputs_of("sst", "bert")
    assert all(torch.equal(again(task, inputs), model(task, inputs)) for task in model.tasks)


def test_a_given_head_is_frozen_and_in_no_delta(tmp_path):
    first = authors("HeadOnly(shared=True) + PerTask(Houlsby(bottleneck=2))")
    step(first)
    deltas.save(first, tmp_path / "first")
    method = f"HeadOnly(given={str(tmp_path / 'first')!r}) + PerTask(LoRA(rank=2))"
    model = authors(method)
    step(model)
    assert torch.equal(model.heads["authors_1"].weight, first.heads["authors_0"].weight)
    assert model.counts().heads == 0 and not any("head" in n for n in model.delta())
    deltas.save(model, tmp_path / "second")
    again, inputs = deltas.load(tmp_path / "second", tiny.backbone("bert")), tiny.inputs_of("sst", "bert")
    assert all(torch.equal(again(task, inputs), model(task, inputs)) for task in model.tasks)
    step(first)
    deltas.save(first, tmp_path / "first")  # another head under the same name
    with pytest.raises(DeltaError, match="frozen part 'headonly__head' of digest"):
        deltas.load(tmp_path / "second", tiny.backbone("bert"))
    with pytest.raises(UsageError, match="trains nothing, for its head is frozen: add a method"):
        authors(method.partition(" +")[0]).require_training()


def test_heads_that_cannot_be_one_are_refused(tmp_path):
    with pytest.raises(UsageError, match="'sst' and 'quora' cannot have one head: they have other labels"):
        tiny.build("HeadOnly(shared=True)", "bert")
    with pytest.raises(UsageError, match="all tasks one head, which another method does already"):
        authors("HeadOnly(shared=True) + HeadOnly(shared=True)")
    with pytest.raises(UsageError, match="form 'text' has none"):
        Tuned(tiny.writing_t5(), "HeadOnly(shared=True) + BitFit()", [AUTHORS[0]], form="text")
    with pytest.raises(DeltaError, match="nowhere: there is no such file"):
        authors("HeadOnly(given='nowhere')")
    deltas.save(authors("HeadOnly()"), tmp_path / "two")
    with pytest.raises(UsageError, match="has 2 heads: expected a delta with one"):
        authors(f"HeadOnly(given={str(tmp_path / 'two')!r})")
    deltas.save(tiny.build("HeadOnly()", "bert"), tmp_path / "sst")
    metadata, tensors = read_tensors(tmp_path / "sst")
    write_tensors(tmp_path / "sst", {n: t for n, t in tensors.items() if ".sst." in n}, metadata)
    with pytest.raises(UsageError, match=r"is \(5, 32\), and task 'authors_0' needs one of \(15, 32\) here"):
        authors(f"HeadOnly(given={str(tmp_path / 'sst')!r})")


def test_the_digest_of_a_part_is_in_the_file(tmp_path):
    model = tiny.build("Toy()", "bert")
    deltas.save(model, tmp_path / "delta")
    assert json.loads(read_tensors(tmp_path / "delta")[0]["parts"]) == {"toy__bank": model.parts["toy__bank"].digest}
