"""Backbones: folders, names, weights, tokenizers, and models that are no backbones."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import numpy as np
import peft
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM, BertForSequenceClassification, T5EncoderModel

from peftlib import backbones
from peftlib.data.sources import Examples
from peftlib.data.tasks import get_task
from peftlib.model import Tuned
from peftlib.training import fits
from peftlib.training.encoding import Encoded
from tries import Try, command

WEIGHTS = "model.safetensors"


def edit_json(file: Path, **changes) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | changes))


def with_config(kind: str = "bert", **changes):
    """Count on a folder whose config.json has other values."""

    def go(path: Path):
        path.joinpath("config.json").write_text(json.dumps(tiny.CONFIGS[kind]().to_dict() | changes))
        return command("count", "LoRA()", "--backbone", str(path))

    return go


def family(name: str):
    return Try(
        "peftlib count",
        f"a folder of the {name} family",
        lambda path: (
            edit_json(path / "config.json", model_type=name),
            command("count", "LoRA()", "--backbone", str(path)),
        ),
        (name, "is not supported; supported are bert", "mt5", "config.json"),
    )


def broken(change):
    """Load a folder after a change to its files."""

    def go(path: Path):
        change(tiny.folder(path))
        return backbones.load(str(path))

    return go


def tensors(change):
    """Load a folder after a change to the dictionary of its weights."""

    def edit(path: Path):
        held = load_file(path / WEIGHTS)
        save_file(change(held), path / WEIGHTS, metadata={"format": "pt"})

    return broken(edit)


def cut(path: Path, to: int) -> None:
    file = path / WEIGHTS
    file.write_bytes(file.read_bytes()[:to])


def pickled(path: Path) -> None:
    torch.save({}, path / "pytorch_model.bin")
    (path / WEIGHTS).unlink()


def index(**parts: str):
    def change(path: Path):
        (path / WEIGHTS).unlink()
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))

    return change


def without_tokenizer(path: Path) -> None:
    for file in path.glob("*token*"):
        file.unlink()


def saved(model):
    """Load what transformers saved of another class."""

    def go(path: Path):
        model().save_pretrained(path)
        tiny.tokenizer().save_pretrained(path)
        return backbones.load(str(path))

    return go


def tuned(model, **options) -> Tuned:
    return Tuned(model, "LoRA(rank=2)", [get_task("sst")], **options)


def fitted(texts: str, max_length: int = 16, method: str = "LoRA(rank=2)"):
    model, tokenizer = Tuned(tiny.backbone("bert"), method, [get_task("sst")]), tiny.tokenizer()
    rows = Examples([(texts,)], np.zeros(1, dtype=np.int64), ["1"], get_task("sst"), "train", "local", "digest")
    fits.check(model, tokenizer, {"sst": Encoded(rows, tokenizer, max_length)}, max_length)


TRIES = [
    # Code of its own
    Try(
        "peftlib count",
        "a folder that asks for its own code",
        with_config(auto_map={"AutoConfig": "planted.Config"}),
        ("auto_map", "never run"),
    ),
    Try(
        "load a backbone",
        "a tokenizer that asks for its own code",
        broken(lambda path: edit_json(path / "tokenizer_config.json", auto_map={"AutoTokenizer": ["planted.T", None]})),
        ("tokenizer_config.json", "auto_map", "never run"),
    ),
    Try(
        "load a backbone",
        "weights that are pickled",
        broken(pickled),
        ("pytorch_model.bin", "can run code", "save_pretrained"),
    ),
    Try(
        "load a backbone",
        "an adapter beside the weights",
        broken(lambda path: edit_json(path / "adapter_config.json", peft_type="LORA")),
        ("adapter of peft", "from_peft"),
    ),
    # What it is
    *map(family, ("electra", "albert", "deberta-v2", "mpnet", "modernbert", "bart", "gpt2", "made-up")),
    Try("peftlib count", "a configuration without a type", with_config(model_type=None), ("None", "supported are")),
    Try(
        "peftlib count",
        "a configuration that is a list",
        lambda path: ((path / "config.json").write_text("[1]"), command("count", "LoRA()", "--backbone", str(path))),
        ("config.json", "expected an object", "[1]"),
    ),
    Try(
        "peftlib count",
        "a folder with nothing in it",
        lambda path: command("count", "LoRA()", "--backbone", str(path)),
        ("config.json is missing", "save_pretrained"),
    ),
    Try(
        "peftlib count",
        "a quantised checkpoint",
        with_config(quantization_config={"quant_method": "bitsandbytes"}),
        ("quantization_config", "quantised", "expected a plain checkpoint"),
    ),
    Try("peftlib count", "a width of 10^18", with_config(hidden_size=10**18), ("hidden_size", "1000000000000000000")),
    Try("peftlib count", "a negative width", with_config(hidden_size=-32), ("hidden_size is -32", "expected")),
    Try("peftlib count", "a width that is text", with_config(hidden_size="32"), ("hidden_size", "config.json")),
    Try("peftlib count", "no layers", with_config(num_hidden_layers=0), ("num_hidden_layers is 0", "from 1 to 1000")),
    Try("peftlib count", "a million layers", with_config(num_hidden_layers=10**6), ("num_hidden_layers", "from 1 to 1000")),
    Try("peftlib count", "heads that do not divide the width", with_config(num_attention_heads=5), ("5", "bert")),
    Try("peftlib count", "an unknown activation", with_config(hidden_act="zz"), ("'zz'", "cannot be built")),
    Try("peftlib count", "an unknown pooling", with_config(pooling="max"), ("'max'", "'mean' or 'cls'")),
    Try(
        "peftlib count",
        "a shape that nobody knows",
        lambda _: command("count", "LoRA()", "--backbone", "bert-huge"),
        ("'bert-huge'", "neither", "shapes known", "bert-base-uncased"),
    ),
    Try(
        "peftlib count",
        "more layers than MiniLM has",
        lambda _: command("count", "Full()", "--backbone", "minilm[:9]"),
        ("minilm[:9]", "expected 1 to 6"),
    ),
    Try(
        "peftlib count",
        "no layer",
        lambda _: command("count", "Full()", "--backbone", "t5-base[:0]"),
        ("expected 1 to 12",),
    ),
    Try(
        "peftlib estimate",
        "more layers than there are",
        lambda _: command("estimate", "Full()", "--backbone", "minilm[:7]"),
        ("expected 1 to 6",),
    ),
    Try(
        "load a backbone",
        "more layers than the decoder has",
        lambda _: backbones.load("t5-embedded[:3]"),
        ("t5-embedded[:3]", "expected 1 to 2"),
    ),
    # Weights
    Try(
        "load a backbone",
        "BERT saved as a masked language model",
        saved(lambda: BertForMaskedLM(tiny.CONFIGS["bert"]())),
        ("pooler.dense.bias, pooler.dense.weight", "drawn at random", '"pooling": "mean"', "draw_missing=True"),
    ),
    Try(
        "load a backbone",
        "T5's encoder alone",
        saved(lambda: T5EncoderModel(tiny.CONFIGS["t5"]())),
        ("decoder.block.0", "more, which would be drawn at random"),
    ),
    Try(
        "load a backbone",
        "names under a prefix that nothing has",
        tensors(lambda held: {f"student.{name}": t for name, t in held.items()}),
        ("embeddings.LayerNorm.bias", "drawn at random"),
    ),
    Try(
        "load a backbone",
        "one tensor less",
        tensors(lambda held: held if held.pop("pooler.dense.bias") is None else held),
        ("pooler.dense.bias", "drawn at random"),
    ),
    Try(
        "load a backbone",
        "NaN in the weights",
        tensors(lambda held: held | {"pooler.dense.bias": held["pooler.dense.bias"] * torch.nan}),
        ("pooler.dense.bias", "not finite"),
    ),
    Try(
        "load a backbone",
        "whole numbers as weights",
        tensors(lambda held: held | {"pooler.dense.bias": held["pooler.dense.bias"].int()}),
        ("pooler.dense.bias", "I32", "expected one of F64"),
    ),
    Try(
        "load a backbone",
        "complex numbers as weights",
        tensors(lambda held: held | {"pooler.dense.bias": held["pooler.dense.bias"] + 0j}),
        ("pooler.dense.bias", "C64"),
    ),
    Try(
        "load a backbone",
        "a tensor of another shape",
        tensors(lambda held: held | {"pooler.dense.bias": torch.zeros(31)}),
        ("pooler.dense.bias", "(31,)", "(32,)"),
    ),
    Try(
        "load a backbone",
        "a configuration of a far larger model",
        broken(lambda path: edit_json(path / "config.json", vocab_size=10**7)),
        ("320,", "do not belong together"),
    ),
    Try("load a backbone", "weights cut short", broken(lambda path: cut(path, 5000)), (WEIGHTS, "safetensors", "again")),
    Try("load a backbone", "empty weights", broken(lambda path: cut(path, 0)), (WEIGHTS, "safetensors")),
    Try(
        "load a backbone",
        "weights of another format",
        broken(lambda path: (path / WEIGHTS).write_bytes(b"PK\3\4" * 99)),
        (WEIGHTS, "cannot be read as safetensors"),
    ),
    Try(
        "load a backbone",
        "a header of 10^18 bytes",
        broken(lambda path: (path / WEIGHTS).write_bytes(struct.pack("<Q", 10**18) + b"{}")),
        (WEIGHTS, "safetensors"),
    ),
    Try(
        "load a backbone",
        "a link to nothing",
        broken(lambda path: ((path / WEIGHTS).unlink(), (path / WEIGHTS).symlink_to(path / "gone"))),
        (WEIGHTS, "cannot be read"),
    ),
    Try(
        "load a backbone",
        "a folder in the weights' place",
        broken(lambda path: ((path / WEIGHTS).unlink(), (path / WEIGHTS).mkdir())),
        (WEIGHTS, "cannot be read"),
    ),
    Try(
        "load a backbone",
        "an index to a part that is not there",
        broken(index(a="model-00001-of-00001.safetensors")),
        ("model-00001-of-00001.safetensors", "cannot be read"),
    ),
    Try(
        "load a backbone",
        "an index that points out of the folder",
        broken(index(a="../model.safetensors")),
        ("index.json", "of this folder"),
    ),
    Try("load a backbone", "an index without parts", broken(index()), ("index.json", "weight_map")),
    Try(
        "load a backbone",
        "text from an encoder",
        lambda path: backbones.load(str(tiny.folder(path)), "text"),
        ("bert", "cannot write text"),
    ),
    Try("load a backbone", "a file", lambda path: backbones.load(str(tiny.folder(path) / WEIGHTS)), ("neither",)),
    # Tokenizers
    Try("load a backbone", "no tokenizer files", broken(without_tokenizer), ("knows 5 of", "100", "tokenizer.json")),
    Try(
        "load a backbone",
        "a tokenizer of half the vocabulary",
        lambda path: backbones.load(str(tiny.folder(path, words=50))),
        ("knows 50", "100", "does not belong"),
    ),
    Try(
        "load a backbone",
        "tokens added to the tokenizer",
        lambda path: backbones.load(str(tiny.folder(path, words=101))),
        ("ids up to 100", "100 rows", "Resize"),
    ),
    Try(
        "load a backbone",
        "a broken tokenizer",
        broken(lambda path: (path / "tokenizer.json").write_text("{")),
        ("no tokenizer can be read",),
    ),
    # Before training
    Try(
        "train",
        "texts in words that nobody taught the tokenizer",
        lambda _: fitted("good film"),
        ("'sst'", "100% of the training texts' tokens are unknown", "at most 20%"),
    ),
    Try(
        "train",
        "longer texts than there are positions",
        lambda _: fitted("w1 w2", max_length=64),
        ("max_length=64", "32 positions", "use max_length=32"),
    ),
    Try(
        "train",
        "a soft prompt that leaves no room",
        lambda _: fitted("w1 w2", max_length=30, method="PromptTuning(length=4)"),
        ("4 vectors of a soft prompt", "use max_length=28"),
    ),
    # Models from elsewhere
    Try(
        "tune a model",
        "one with a classification head",
        lambda _: tuned(BertForSequenceClassification(tiny.CONFIGS["bert"]())),
        ("BertForSequenceClassification", "encoder.layer", "base_model", "peftlib.backbones.load"),
    ),
    Try(
        "tune a model",
        "an encoder without its decoder",
        lambda _: tuned(T5EncoderModel(tiny.CONFIGS["t5"]())),
        ("T5EncoderModel", "decoder.block"),
    ),
    Try(
        "tune a model",
        "one that peft has wrapped",
        lambda _: tuned(peft.get_peft_model(tiny.backbone("bert"), peft.LoraConfig(target_modules=["query"]))),
        ("PeftModel", "from_peft"),
    ),
    Try(
        "tune a model",
        "one that peft has put an adapter into",
        lambda _: tuned(peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["query"]), tiny.backbone("bert"))),
        ("BertModel", "from_peft"),
    ),
    Try("tune a model", "a plain module", lambda _: tuned(torch.nn.Linear(2, 2)), ("Linear", "is no backbone")),
    Try(
        "tune a model",
        "a pooler that is not there",
        lambda _: tuned(_without_pooler(), pooling="cls"),
        ("pooling 'cls'", "BertModel", "'mean'"),
    ),
    Try(
        "tune a model",
        "a task twice",
        lambda _: Tuned(tiny.backbone("bert"), "LoRA(rank=2)", [get_task("sst"), get_task("rte"), get_task("sst")]),
        ("sst, rte, sst", "twice"),
    ),
]


def _without_pooler():
    model = tiny.backbone("bert")
    model.pooler = None
    return model


# --- random folders ---------------------------------------------------------------------------------------------------
VALUES = [None, True, 0, -1, 1, 3, 2**31, 10**18, 10**400, 1.5, 1e308, "", "x", "32", [], [1], {}, {"a": 1}, "\ud800"]


def _damage_json(draw: random.Random, file: Path) -> None:
    content = json.loads(file.read_text())
    for _ in range(draw.randint(1, 3)):
        key = draw.choice([*content, "auto_map", "quantization_config", "num_labels", "pooling", "dtype"])
        content[key] = draw.choice([*VALUES, draw.choice(list(content.values()))])
    text = json.dumps(content)
    file.write_text(text if draw.random() < 0.9 else text[: draw.randrange(len(text))])


def _damage_bytes(draw: random.Random, file: Path) -> None:
    held = bytearray(file.read_bytes())
    if draw.random() < 0.3:
        del held[draw.randrange(len(held)) :]
    for _ in range(draw.randint(1, 4)):
        if held:
            at = draw.randrange(min(len(held), draw.choice([12, 3000, len(held)])))
            held[at] = draw.randrange(256)
    file.write_bytes(held)


def _folder(draw: random.Random, path: Path):
    kind = draw.choice(["bert", "t5", "distilbert", "xlm-roberta"])
    tiny.folder(path, kind)
    for file in draw.sample(sorted(path.iterdir()), draw.randint(1, 2)):
        if draw.random() < 0.15:
            file.unlink()
        elif file.suffix == ".json" and draw.random() < 0.7:
            _damage_json(draw, file)
        else:
            _damage_bytes(draw, file)
    return lambda: backbones.load(str(path), draw.choice(["heads", "text"]))


def _config(draw: random.Random, path: Path):
    kind = draw.choice(sorted(tiny.CONFIGS))
    file = path / "config.json"
    file.write_text(json.dumps(tiny.CONFIGS[kind]().to_dict()))
    _damage_json(draw, file)
    return lambda: backbones.anatomy_of(str(path) + draw.choice(["", "/", "[:1]"]), draw.choice(["heads", "text"]))


def _name(draw: random.Random, _: Path):
    parts = ["minilm", "t5-small", "[", ":", "]", "2", "9", "/", ".", "..", "-", " ", "\0", "é", "a" * 300]
    text = "".join(draw.choice(parts) for _ in range(draw.randint(0, 6)))
    return lambda: backbones.anatomy_of(text)


GENERATORS = {"a damaged folder": _folder, "a damaged configuration": _config, "a name": _name}
