"""A model's folder, read with suspicion: configuration, weights and tokenizer are data, and nothing in it is ever run.

Whatever is broken is said with the file's name, before a tensor is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import typing
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import CONFIG_MAPPING, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from peftlib.anatomy import table_of
from peftlib.errors import UsageError, short

if typing.TYPE_CHECKING:
    from typing import Any

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
FILES = [
    CONFIG,
    "*token*.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "generation_config.json",
    WEIGHTS,
    INDEX,
    "model-*.safetensors",
]  # of a folder on the hub: no code among them
# A configuration that asks for code, for other files, or for weights that are no plain numbers.
FOREIGN = {
    "auto_map": "it comes with code of its own, which is never run",
    "quantization_config": "its weights are quantised",
    "transformers_weights": "it names a weights file of its own",
    "fusion_config": "it asks for another model than its type's",
}
LABELS = ("id2label", "label2id", "num_labels")  # of a task's head; transformers makes as many names as a number says
LARGEST, MOST_LAYERS = 2**24, 1000  # of any number in a configuration (vocabularies reach 2**18), and of layers
FLOATS = ("F64", "F32", "F16", "BF16")
OUTGROWN = 4  # times as many numbers as the files hold: an encoder with no decoder has 2.4 times less
COVERED = 0.9  # of the embedding: T5 leaves 28 of 32,128 rows to no token, other models up to a hundredth


class BackboneError(UsageError):
    """No backbone of that name is known, or its files are missing or not what they should be."""


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


def _json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BackboneError(f"{path} is missing: expected a backbone's folder, as save_pretrained writes it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(f"{path}: cannot be read as JSON ({_first_line(error)})") from error
    if not isinstance(content, dict):
        raise BackboneError(f"{path}: expected an object of names and values, found {short(content)}")
    return content


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a supported family. ``pooling`` in it ("mean" or "cls") says how a text is represented.

    Raises:
        BackboneError: no configuration, a family that is not supported, code, quantised weights, or impossible numbers.
    """
    path = folder / CONFIG
    content = _json(path)
    for key, why in FOREIGN.items():
        if content.get(key):
            raise BackboneError(f"{path}: has {key}, so {why}: expected a plain checkpoint in safetensors")
    if content.get("pooling") not in (None, "mean", "cls"):
        raise BackboneError(f"{path}: pooling is {short(content['pooling'])}, expected 'mean' or 'cls'")
    try:
        table = table_of(content.get("model_type"))  # type: ignore[arg-type]  # which looks at its type
    except UsageError as error:
        raise BackboneError(f"{path}: {error}") from None
    _check_numbers(content, path)
    try:
        config = CONFIG_MAPPING[content["model_type"]].from_dict({k: v for k, v in content.items() if k not in LABELS})
    except Exception as error:  # whatever strange values make transformers raise
        raise BackboneError(f"{path}: cannot be read as a {content['model_type']} ({_first_line(error)})") from error
    # transformers calls every T5 tied and looks at its weights; without weights the file's word is all there is.
    config.untied_head = content.get("untied_head") is True or (
        config.is_encoder_decoder and content.get("tie_word_embeddings") is False
    )
    for name in (
        *table.config.values(),
        "vocab_size",
        "num_hidden_layers",
        "num_decoder_layers",
        "type_vocab_size",
        "max_position_embeddings",
    ):
        value = getattr(config, name, 1)
        if type(value) is not int or value < 1 or ("layers" in name and value > MOST_LAYERS):
            raise BackboneError(
                f"{path}: {name} is {short(value)}, expected a whole number from 1"
                + (f" to {MOST_LAYERS}" if "layers" in name else "")
            )
    return config


def _check_numbers(content: dict, path: Path) -> None:
    for name, value in content.items():
        if isinstance(value, int | float) and not abs(value) <= LARGEST:
            raise BackboneError(f"{path}: {short(name)} is {short(value)}, expected at most {LARGEST:,}")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: one, or the parts that an index names.

    Raises:
        BackboneError: there are none, or the index is broken or points out of the folder.
    """
    if os.path.lexists(folder / WEIGHTS):
        return [folder / WEIGHTS]
    if os.path.lexists(folder / INDEX):
        parts = _json(folder / INDEX).get("weight_map")
        names = set(parts.values()) if isinstance(parts, dict) and all(map(_is_part, parts.values())) else None
        if not names:
            raise BackboneError(f"{folder / INDEX}: expected weight_map to name safetensors files of this folder")
        return [folder / name for name in sorted(names)]
    pickled = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.glob(pattern))
    mend = (
        (
            f", and {pickled[0]} is not read, for such a file can run code: where you trust it, load it with transformers "
            "and save_pretrained writes safetensors"
        )
        if pickled
        else ""
    )
    raise BackboneError(f"{folder} has no {WEIGHTS}{mend}")


def _is_part(name: object) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name


def digest_of_files(files: list[Path]) -> str:
    """Sha256 of a file, or over those of its parts.

    Raises:
        BackboneError: a file cannot be read.
    """
    try:
        digests = []
        for path in files:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise BackboneError(f"{path}: cannot be read ({_first_line(error)})") from error
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def check_tensors(files: list[Path], described: int) -> set[str]:
    """The names of the tensors in weights' files, of which only the headers are read.

    described: parameters of the model that the configuration describes; far more than the files hold would fill memory
        with random numbers before anything is seen to be missing.

    Raises:
        BackboneError: no safetensors, a tensor of whole or complex numbers, or far fewer numbers than described.
    """
    held, names = 0, set()
    for path in files:
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118 (no mapping)
                    part = file.get_slice(name)
                    if part.get_dtype() not in FLOATS and not name.endswith("position_ids"):
                        raise BackboneError(
                            f"{path}: {short(name)} is of type {part.get_dtype()}, expected one of {', '.join(FLOATS)}"
                        )
                    names.add(name)
                    held += torch.Size(part.get_shape()).numel()
        except (OSError, SafetensorError) as error:
            raise BackboneError(
                f"{path}: cannot be read as safetensors ({_first_line(error)}): broken or cut short? Fetch or save it again"
            ) from error
    if described > OUTGROWN * held:
        raise BackboneError(
            f"{files[0].parent}: {CONFIG} describes {described:,} parameters and the weights hold "
            f"{held:,}: they do not belong together"
        )
    return names


def read_weights(kind: type[Any], folder: Path, config: PreTrainedConfig) -> tuple[nn.Module, set[str], set[str]]:
    """A model with a folder's weights in fp32; names of the tensors that were not there and are drawn at random; names of
    those that it has no use for.

    Raises:
        BackboneError: the weights have other shapes than the configuration says, or are no finite numbers.
    """
    if (folder / "adapter_config.json").exists():
        raise BackboneError(
            f"{folder} holds an adapter of peft, which transformers would put on unasked: expected a plain "
            "backbone; peftlib.interop.from_peft reads adapters"
        )
    try:
        model, found = kind.from_pretrained(
            folder,
            config=config,
            attn_implementation="sdpa",
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # whatever damaged files make transformers raise
        raise BackboneError(f"{folder}: the weights cannot be loaded ({_first_line(error)})") from error
    for name, theirs, ours in sorted(found["mismatched_keys"]):
        raise BackboneError(
            f"{folder}: {name} has shape {tuple(theirs)} where {CONFIG} says {tuple(ours)}: they do not belong together"
        )
    for name, p in model.named_parameters():
        if not torch.isfinite(p).all():
            raise BackboneError(f"{folder}: {name} holds numbers that are not finite: expected trained weights")
    return model, set(found["missing_keys"]), set(found["unexpected_keys"])


def read_tokenizer(folder: Path, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder. It gives token types only where the backbone tells two of them apart.

    Raises:
        BackboneError: broken files, code, or a vocabulary that does not belong to the weights.
    """
    path = folder / "tokenizer_config.json"
    if path.exists() and _json(path).get("auto_map"):
        raise BackboneError(f"{path}: has auto_map, so {FOREIGN['auto_map']}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=False)
        known = max(tokenizer.get_vocab().values(), default=-1) + 1
    except Exception as error:  # whatever damaged files make transformers raise
        raise BackboneError(
            f"{folder}: no tokenizer can be read ({_first_line(error)}): expected the files that its save_pretrained writes"
        ) from error
    rows = config.vocab_size
    if known > rows:
        raise BackboneError(
            f"{folder}: the tokenizer has ids up to {known - 1} and the embedding {rows} rows: were tokens "
            "added? Resize the embedding, train it and save both together"
        )
    if known < COVERED * rows:
        raise BackboneError(
            f"{folder}: the tokenizer knows {known} of the embedding's {rows} tokens, so it does not "
            "belong to these weights: put the model's own tokenizer files there (tokenizer.json ...)"
        )
    if getattr(config, "type_vocab_size", 0) < 2:
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    return tokenizer
