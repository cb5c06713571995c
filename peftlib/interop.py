"""A LoRA in Hugging Face `peft`'s own format: ``adapter_model.safetensors`` beside ``adapter_config.json``.

`peft` has no per-task heads: they go to ``peftlib_heads.safetensors`` in the same folder, which `peft` ignores, with what
else a delta says of itself (tasks, pooling, form, digest of the weights) and the digest of the two files beside it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

from torch import Tensor, nn

from peftlib.anatomy import Anatomy
from peftlib.data.tasks import Task, get_task
from peftlib.deltas import Header, fill, outline, replacing_all
from peftlib.errors import UsageError, short
from peftlib.methods.reparametrized.lora import SITES, LoRA
from peftlib.model import Tuned
from peftlib.tensorfiles import DeltaError, read_tensors, write_tensors

CONFIG, WEIGHTS, HEADS = "adapter_config.json", "adapter_model.safetensors", "peftlib_heads.safetensors"
PREFIX = "base_model.model."
LARGEST_CONFIG = 1 << 20  # bytes; peft writes about a thousand

# Fields of the configuration that are read, or that change nothing in the outputs of a saved adapter. Any other field
# must be off, whatever later versions of peft add.
UNDERSTOOD = {
    "peft_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "init_lora_weights",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "task_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "runtime_config",
    "megatron_core",
    "qalora_group_size",
    "loftq_config",
    "eva_config",
}
# Initialisations that leave the backbone as it was; the others (PiSSA, OLoRA, ...) need another backbone.
OWN_BACKBONE = (True, False, "gaussian", "orthogonal", "eva")


class PeftFormatError(DeltaError):
    """A folder holds no adapter of `peft`, or one that has no counterpart here."""


def _paths(backbone: nn.Module) -> dict[int, str]:
    """id of a module -> its path in the untouched backbone."""
    return {id(m): name for name, m in backbone.named_modules()}


def _tensors(model: Tuned) -> dict[str, Tensor]:
    """A model's LoRA under the names of the headless backbone."""
    (_, at), names = *model.attachments, _paths(model.backbone)
    return {
        f"{names[id(site.module)]}.lora_{letter}.weight": tensor
        for site, edit in at.edits
        for letter, tensor in (("A", edit.A), ("B", edit.B))
    }


# --- writing ----------------------------------------------------------------------------------------------------------
def to_peft(model: Tuned, folder: str | Path, backbone: str = "") -> None:
    """Write a model's LoRA so that ``peft.PeftModel.from_pretrained(backbone, folder)`` gives the same outputs.

    backbone: its name, for the reader of the configuration.

    Raises:
        UsageError: the model's method is not one LoRA shared by all tasks, or it was merged already.
        DeltaError: the folder cannot be written to, or a number is not finite; files that were there are as before.
    """
    method = model.method
    if type(method) is not LoRA:
        raise UsageError(f"peft's format holds one LoRA shared by all tasks; this model's method is {short(str(method))}")
    header, tensors = Header.of(model), _tensors(model)
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": backbone or None,
        "inference_mode": True,
        "r": method.rank,
        "lora_alpha": method.alpha or method.rank,
        "lora_dropout": method.dropout,
        **({"use_rslora": True} if method.stabilised else {}),
        "bias": "none",
        "target_modules": sorted({name.rsplit(".lora_", 1)[0] for name in tensors}),
    }
    with replacing_all(*(Path(folder) / name for name in (CONFIG, WEIGHTS, HEADS))) as (config_path, weights, heads):
        config_path.write_text(json.dumps(config, indent=2) + "\n")
        write_tensors(weights, {PREFIX + name: t for name, t in tensors.items()}, {"format": "pt"})
        beside = {"adapter": _digest(weights, config)}
        own = {name: tensor.clone() for name, tensor in model.heads.state_dict().items()}  # tasks may have one together
        write_tensors(heads, own, header.metadata() | beside)


def _digest(weights: Path, config: dict) -> str:
    """Of what decides an adapter's outputs: the tensors' file, which holds the rank too, and what scales them."""
    scaled = str(float(config["lora_alpha"])) + " stabilised" * bool(config.get("use_rslora"))
    return hashlib.sha256(weights.read_bytes() + scaled.encode()).hexdigest()


# --- reading ----------------------------------------------------------------------------------------------------------
def from_peft(
    folder: str | Path,
    backbone: nn.Module,
    tasks: Iterable[str | Task] | None = None,
    pooling: str | None = None,
    form: str | None = None,
    other_weights: bool = False,
) -> Tuned:
    """A model with the LoRA of a `peft` folder on a backbone (edited in place), in evaluation mode.

    Heads are read when `to_peft` wrote them, else they are new. What is refused leaves the backbone as it was.

    Args:
        tasks: by default those that the folder names; of these, some; of a folder of `peft`'s own, any.
        pooling, form: what the folder says; by default "mean" and "heads" where it says nothing, as `peft`'s own do.
        other_weights: as for `peftlib.deltas.load`.

    Raises:
        PeftFormatError: no configuration, one without counterpart here, or heads that are not those asked for.
        DeltaError: other files are missing or broken, other weights, or tensors that do not fit.
        UsageError: an unknown task, or none for a folder that names none.
    """
    folder, source, anatomy = Path(folder), str(Path(folder) / WEIGHTS), Anatomy(outline(backbone))
    config, (_, found) = _read_config(folder / CONFIG), read_tensors(source)
    tensors = {_inner(name, backbone): t for name, t in found.items()}
    if len(tensors) < len(found):
        raise PeftFormatError(f"{source}: a tensor occurs twice, with and without the prefix of a model with a head")
    method = _method(config, {name.rsplit(".lora_", 1)[0] for name in tensors}, anatomy, source)
    said, heads = _read_heads(folder, config, pooling, form)
    if tasks is None and not said.tasks:
        raise UsageError(f"{folder} names no tasks: pass tasks=[...], whose heads are then new")
    chosen = said.tasks if tasks is None else tuple(get_task(t) if isinstance(t, str) else t for t in tasks)
    header = replace(said, method=str(method), tasks=chosen)
    if heads is not None:
        heads = _heads_of(chosen, heads, folder) if header.form == "heads" else {}

    def fill_in(model: Tuned) -> None:
        fill(_tensors(model), tensors, source)
        if heads is not None:
            fill(model.heads.state_dict(), heads, str(folder / HEADS))

    return header.rebuild(backbone, fill_in, str(folder), other_weights)


def _read_heads(folder: Path, config: dict, pooling: str | None, form: str | None) -> tuple[Header, dict | None]:
    """What the folder says of the model, method apart, and its heads; None where there are none."""
    path = folder / HEADS
    metadata, heads = read_tensors(path) if path.is_file() else ({}, None)
    if "format" not in metadata:  # of peft's own, or an older folder
        return Header("", (), pooling or "mean", form or "heads", None), heads
    header = Header.read(metadata, str(path))
    for name, asked in (("pooling", pooling), ("form", form)):
        if asked not in (None, getattr(header, name)):
            raise PeftFormatError(
                f"{path}: its {name} is {short(getattr(header, name))}, not {short(asked)}: ask for that or for none"
            )
    if metadata.get("adapter") != _digest(folder / WEIGHTS, config):
        raise PeftFormatError(
            f"{path}: was not written with the {CONFIG} and {WEIGHTS} that are there now; write all "
            "three again, or remove it to start new heads"
        )
    return header, heads


def _heads_of(tasks: tuple[Task, ...], heads: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """The heads of some tasks."""
    missing = [task.name for task in tasks if f"{task.name}.weight" not in heads]
    if missing:
        raise PeftFormatError(
            f"{folder / HEADS} has no head for {short(missing)}: ask for tasks among "
            f"{short(sorted({n.split('.')[0] for n in heads}))}, or remove the file to start new heads"
        )
    return {f"{task.name}.{part}": heads.get(f"{task.name}.{part}") for task in tasks for part in ("weight", "bias")}  # type: ignore[misc]  # `fill` refuses None


def _read_config(path: Path) -> dict:
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise ValueError(f"larger than {LARGEST_CONFIG:,} bytes")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PeftFormatError(f"{path}: cannot be read as peft's configuration ({short(str(error))})") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        found = config.get("peft_type") if isinstance(config, dict) else config
        raise PeftFormatError(f"{path}: peft_type is {short(found)}; only 'LORA' can be read")
    for key, value in config.items():
        if key not in UNDERSTOOD and value not in (None, False, "none", {}, []):
            raise PeftFormatError(
                f"{path}: {short(key)} is {short(value)}, which has no counterpart in LoRA here; expected it to be off"
            )
    config.setdefault("lora_dropout", 0.0)
    rank, alpha, dropout = (config.get(key) for key in ("r", "lora_alpha", "lora_dropout"))
    for key, holds, expected in (
        ("r", type(rank) is int and _number(rank) and rank > 0, "a whole number above zero"),
        ("lora_alpha", _number(alpha) and alpha > 0, "a number above zero"),
        ("lora_dropout", _number(dropout) and 0 <= dropout < 1, "a number from 0 to below 1"),
        ("use_rslora", config.get("use_rslora") in (None, False, True), "true or false"),
    ):
        if not holds:
            raise PeftFormatError(f"{path}: {key} is {short(config.get(key))}, expected {expected}")
    if config.get("init_lora_weights", True) not in OWN_BACKBONE:
        raise PeftFormatError(
            f"{path}: init_lora_weights={short(config['init_lora_weights'])} changed the backbone "
            "itself; save with path_initial_model_for_weight_conversion, which makes it a plain LoRA"
        )
    return config


def _number(value: object) -> TypeGuard[float]:
    return type(value) is float and math.isfinite(value) or type(value) is int and abs(value) < 1 << 53


def _inner(name: str, backbone: nn.Module) -> str:
    """A tensor's name as the headless backbone has it: without peft's prefix, and that of a model with a head."""
    return name.removeprefix(PREFIX).removeprefix(f"{backbone.base_model_prefix}.")


def _method(config: dict, adapted: set[str], anatomy: Anatomy, source: str) -> LoRA:
    """The LoRA that edits exactly the adapted modules."""
    names = _paths(anatomy.model)
    places = {site: {names[id(s.module)] for s in anatomy.at(pattern)} for site, pattern in SITES.items()}
    sites = tuple(site for site, paths in places.items() if paths <= adapted)
    stray = sorted(adapted - set().union(*(places[s] for s in sites)))
    if stray or not sites:
        raise PeftFormatError(
            f"{source}: {short(stray[:3]) if stray else 'nothing'} adapted; LoRA here adapts all modules "
            f"of a kind in a {anatomy.model.config.model_type} backbone: {', '.join(SITES)}"
        )
    rank, alpha, dropout = (config[key] for key in ("r", "lora_alpha", "lora_dropout"))
    alpha, stabilised = None if alpha == rank else float(alpha), bool(config.get("use_rslora"))
    return LoRA(rank=rank, alpha=alpha, sites=sites, dropout=float(dropout), stabilised=stabilised)
