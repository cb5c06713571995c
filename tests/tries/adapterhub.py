"""Checkpoints of AdapterHub's `adapters` that have no equal outputs here, or are none."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import adapterhub as written
from transformers import DistilBertConfig, DistilBertModel

from peftlib.interop import adapterhub, from_adapters
from peftlib.model import Tuned
from tries import Generator, Try
from tries.deltas import ODD, _flip, _retype, _rewrite

DOOR = "from_adapters"


def read(kind: str, case: str, change: Callable[[dict], object] | None = None, rule: bool = True, **fields):
    def go(folder: Path) -> Tuned:
        written.folder(folder, kind, case, rule=rule, change=change, **fields)
        return from_adapters(folder, written.backbone(kind), ["sst"])

    return go


def file(name: str, content: bytes) -> Callable[[Path], object]:
    def go(folder: Path) -> Tuned:
        (written.folder(folder, "bert", "houlsby") / name).write_bytes(content)
        return from_adapters(folder, written.backbone("bert"), ["sst"])

    return go


def _turned(found: dict) -> None:
    found["encoder.block.0.layer.1.DenseReluDense.wi.loras.it.lora_B"].mul_(-1)


def _one_copy_other(found: dict) -> None:
    name = "bert.encoder.layer.0.attention.self.prefix_tuning.pool.prefix_tunings.it.self_prefix.wte.weight"
    found[name] = found[name] + 1


def _renamed(found: dict) -> None:
    for name in list(found):
        found[name.replace(".it.", ".other.")] = found.pop(name)


def _without_a_layer(found: dict) -> None:
    for name in [name for name in found if "layer.0.output" in name]:
        del found[name]


class Runs:
    """A pickle that does something."""

    def __reduce__(self):
        return (print, ("run",))


def _other_family(folder: Path) -> Tuned:
    written.folder(folder, "bert", "houlsby")
    small = DistilBertConfig(vocab_size=20, dim=16, hidden_dim=32, n_layers=2, n_heads=2)
    return from_adapters(folder, DistilBertModel(small), ["sst"])


def _no_task(folder: Path) -> Tuned:
    return from_adapters(written.folder(folder, "bert", "houlsby"), written.backbone("bert"), [])


TRIES = [
    Try(DOOR, "no folder", lambda folder: from_adapters(folder / "it", written.backbone("bert"), ["sst"]), ("it",)),
    Try(DOOR, "no tasks", _no_task, ("at least one task",)),
    Try(DOOR, "a family whose places are not known", _other_family, ("distilbert", "bert, roberta")),
    Try(
        DOOR,
        "Pfeiffer's adapter as the library has it",
        read("bert", "pfeiffer_default"),
        ("original_ln_before is True", "PfeifferFFN", "False"),
    ),
    Try(DOOR, "the same on T5", read("t5", "pfeiffer_default"), ("original_ln_before is True",)),
    Try(DOOR, "Compacter as the library has it", read("bert", "compacter_default"), ("'gelu'", "Compacter", "'gelu_new'")),
    Try(DOOR, "(IA)3 before a GELU", read("bert", "ia3"), ("scales what enters the activation", "bert backbone")),
    Try(DOOR, "(IA)3 below zero before a ReLU", read("t5", "ia3", _turned), ("wi.loras.lora_B", "not above zero")),
    Try(DOOR, "(IA)3 on more", read("t5", "ia3", output_lora=True), ("output_lora is True",)),
    Try(DOOR, "a LoRA", read("t5", "ia3", composition_mode="add"), ("composition_mode is 'add'", "'scale'")),
    Try(DOOR, "prefixes on T5", read("t5", "prefix"), ("position bias",)),
    Try(DOOR, "MAM on T5", read("t5", "mam"), ("position bias",)),
    Try(DOOR, "UniPELT", read("bert", "unipelt"), ("prefix_gates.it.weight", "'it'")),
    Try(DOOR, "a gated adapter", read("bert", "pfeiffer", use_gating=True), ("use_gating is True",)),
    Try(DOOR, "a scaled adapter", read("bert", "houlsby", scaling=2.0), ("scaling is 2.0", "1.0")),
    Try(DOOR, "an invertible adapter", read("bert", "houlsby", inv_adapter="nice"), ("inv_adapter is 'nice'",)),
    Try(DOOR, "an unknown activation", read("bert", "houlsby", non_linearity="tanh"), ("'tanh'", "relu, gelu")),
    Try(DOOR, "no place", read("bert", "houlsby", mh_adapter=False, output_adapter=False), ("at no place",)),
    Try(DOOR, "tensors of one place more", read("bert", "houlsby", output_adapter=False), ("output.dense", "adapted")),
    Try(
        DOOR, "a layer gone at one place", read("bert", "houlsby", _without_a_layer), ("attention.output.dense", "adapted")
    ),
    Try(DOOR, "parallel adapters of attention", read("bert", "parallel", mh_adapter=True), ("a parallel adapter at",)),
    Try(DOOR, "a scale for each channel", read("bert", "parallel", scaling="channel"), ("scale='channel'",)),
    Try(DOOR, "an n that does not divide", read("bert", "compacter", phm_dim=3), ("n=3 must divide both",)),
    Try(DOOR, "rules for each layer", read("bert", "compacter", shared_phm_rule=False), ("shared_phm_rule is False",)),
    Try(
        DOOR,
        "Compacter without its rule",
        read("t5", "compacter", rule=False),
        ("shared_parameters.phm_rule", "found none"),
    ),
    Try(DOOR, "a prefix of words", read("bert", "prefix", prefix_length="3"), ("length='3'",)),
    Try(DOOR, "a longer prefix", read("bert", "prefix", prefix_length=4), ("wte.weight", "does not fit")),
    Try(DOOR, "prefixes that differ by layer", read("bert", "prefix", _one_copy_other), ("another layer's copy",)),
    Try(DOOR, "an unknown architecture", read("bert", "prefix", architecture="reft"), ("'reft'", "prefix_tuning")),
    Try(DOOR, "a union of nothing", read("bert", "mam", configs=[]), ("configs is []", "a list")),
    Try(DOOR, "another adapter's tensors", read("bert", "houlsby", _renamed), (".other.", "'it'")),
    Try(DOOR, "half a configuration", file(adapterhub.CONFIG, b'{"config"'), (adapterhub.CONFIG, "cannot be read")),
    Try(
        DOOR, "a configuration by its name", file(adapterhub.CONFIG, b'{"config": "pfeiffer", "name": "it"}'), ("in full",)
    ),
    Try(DOOR, "a broken pickle", file(adapterhub.WEIGHTS, b"broken"), (adapterhub.WEIGHTS, "cannot be read")),
    Try(DOOR, "a pickle that runs", file(adapterhub.WEIGHTS, pickle.dumps(Runs())), (adapterhub.WEIGHTS, "cannot be read")),
]


def _folder(draw: random.Random, folder: Path) -> Callable[[], object]:
    case = draw.choice(["houlsby", "learned", "compacter", "prefix", "prefix_flat", "mam"])
    written.folder(folder, "bert", case, change=(lambda found: _retype(draw, found)) if draw.random() < 0.4 else None)
    path = folder / draw.choice([adapterhub.CONFIG, adapterhub.WEIGHTS])
    if path.name == adapterhub.CONFIG:
        found = json.loads(path.read_text())
        found["config"] |= {draw.choice(sorted(found["config"])): draw.choice(ODD)}
        path.write_text(json.dumps(_rewrite(draw, found)))
    elif draw.random() < 0.5:
        path.write_bytes(_flip(draw, path.read_bytes()))
    return lambda: from_adapters(folder, written.backbone("bert"), ["sst"])


GENERATORS: dict[str, Generator] = {"a folder of adapters": _folder}
