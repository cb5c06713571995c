"""Adapters in Hugging Face `peft`'s own format: ``adapter_model.safetensors`` beside ``adapter_config.json``.

`peft` has no per-task heads: they go to ``peftlib_heads.safetensors`` in the same folder, which `peft` ignores, with what
else a delta says of itself (tasks, pooling, form, digest of the weights) and the digest of the two files beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from peftlib.anatomy import Anatomy
from peftlib.data.tasks import Task, get_task
from peftlib.deltas import Header, fill, outline, replacing_all
from peftlib.errors import UsageError, short
from peftlib.interop import formats
from peftlib.interop.formats import FORMATS, Config, Format
from peftlib.interop.places import FormatError, read_config
from peftlib.methods.base import Expression
from peftlib.methods.soft_prompts.prefix import PrefixTuning
from peftlib.model import Tuned
from peftlib.tensorfiles import read_tensors, write_tensors

CONFIG, WEIGHTS, HEADS = "adapter_config.json", "adapter_model.safetensors", "peftlib_heads.safetensors"
AS_A_CACHE = (
    "peft hands prefixes to the model as tokens already read, which moves the text's positions, and gives T5's encoder "
    "none: no outputs would be equal"
)


# --- writing ----------------------------------------------------------------------------------------------------------
def writes(method: Expression) -> bool:
    """Has an expression a counterpart in peft's format?"""
    return formats.of(method) is not None


def to_peft(model: Tuned, folder: str | Path, backbone: str = "") -> None:
    """Write a model's method so that ``peft.PeftModel.from_pretrained(backbone, folder)`` gives the same outputs.

    backbone: its name, for the reader of the configuration.

    Raises:
        UsageError: peft has no such method, or not with these hyperparameters; or the model was merged already.
        DeltaError: the folder cannot be written to, or a number is not finite; files that were there are as before.
    """
    made = formats.of(model.method)
    if made is None:
        raise UsageError(_not_written(model.method))
    header = Header.of(model)
    own, tensors = made.written(model)
    common = {
        "peft_type": made.kind,
        "task_type": None,
        "base_model_name_or_path": backbone or None,
        "inference_mode": True,
    }
    config = common | own
    with replacing_all(*(Path(folder) / name for name in (CONFIG, WEIGHTS, HEADS))) as (config_path, weights, heads):
        config_path.write_text(json.dumps(config, indent=2) + "\n")
        write_tensors(weights, {made.prefix + name: t for name, t in tensors.items()}, {"format": "pt"})
        beside = {"adapter": _digest(weights, config, made)}
        own = {name: tensor.clone() for name, tensor in model.heads.state_dict().items()}  # tasks may have one together
        write_tensors(heads, own, header.metadata() | beside)


def _not_written(method: Expression) -> str:
    if isinstance(method, PrefixTuning):
        return f"{method} cannot be written in peft's format: {AS_A_CACHE}"
    known = ", ".join(cls.__name__ for made in FORMATS.values() for cls in made.methods)
    return f"peft's format holds one method shared by all tasks, of {known}; this model's is {short(str(method))}"


def _digest(weights: Path, config: Config, made: Format) -> str:
    """Of what decides an adapter's outputs: the tensors' file, and what scales them."""
    return hashlib.sha256(weights.read_bytes() + made.scaled(config).encode()).hexdigest()


# --- reading ----------------------------------------------------------------------------------------------------------
def from_peft(
    folder: str | Path,
    backbone: nn.Module,
    tasks: Iterable[str | Task] | None = None,
    pooling: str | None = None,
    form: str | None = None,
    other_weights: bool = False,
) -> Tuned:
    """A model with the adapter of a `peft` folder on a backbone (edited in place), in evaluation mode.

    Its method is an expression that has the adapter's outputs: a LoRA with patterns of ranks is a sum, one in some layers
    is limited to them. Of hyperparameters that only training reads, those that peft does not write are at their defaults.
    Heads are read when `to_peft` wrote them, else they are new. What is refused leaves the backbone as it was.

    Args:
        tasks: by default those that the folder names; of these, some; of a folder of `peft`'s own, any.
        pooling, form: what the folder says; by default "mean" and "heads" where it says nothing, as `peft`'s own do.
        other_weights: as for `peftlib.deltas.load`.

    Raises:
        FormatError: no configuration, one without counterpart here, or heads that are not those asked for.
        DeltaError: other files are missing or broken, other weights, or tensors that do not fit.
        UsageError: an unknown task, or none for a folder that names none.
    """
    folder, source, anatomy = Path(folder), str(Path(folder) / WEIGHTS), Anatomy(outline(backbone))
    config, (_, found) = _read_config(folder / CONFIG), read_tensors(source)
    made = FORMATS[config["peft_type"]]
    tensors = {_inner(name, made, backbone): t for name, t in found.items()}
    if len(tensors) < len(found):
        raise FormatError(f"{source}: a tensor occurs twice, with and without the prefix of a model with a head")
    tensors = made.tidied(config, tensors)
    try:
        method = made.expression(config, tensors, anatomy, source)
    except UsageError as error:
        raise FormatError(f"{folder / CONFIG}: {error}") from error
    said, heads = _read_heads(folder, config, made, pooling, form)
    if tasks is None and not said.tasks:
        raise UsageError(f"{folder} names no tasks: pass tasks=[...], whose heads are then new")
    chosen = said.tasks if tasks is None else tuple(get_task(t) if isinstance(t, str) else t for t in tasks)
    header = replace(said, method=str(method), tasks=chosen)
    if heads is not None:
        heads = _heads_of(chosen, heads, folder) if header.form == "heads" else {}

    def fill_in(model: Tuned) -> None:
        made.make_room(model, tensors)
        fill(made.tensors(model), tensors, source)
        if heads is not None:
            fill(model.heads.state_dict(), heads, str(folder / HEADS))

    return header.rebuild(backbone, fill_in, str(folder), other_weights)


def _read_heads(
    folder: Path, config: Config, made: Format, pooling: str | None, form: str | None
) -> tuple[Header, dict | None]:
    """What the folder says of the model, method apart, and its heads; None where there are none."""
    path = folder / HEADS
    metadata, heads = read_tensors(path) if path.is_file() else ({}, None)
    if "format" not in metadata:  # of peft's own, or an older folder
        return Header("", (), pooling or "mean", form or "heads", None), heads
    header = Header.read(metadata, str(path))
    for name, asked in (("pooling", pooling), ("form", form)):
        if asked not in (None, getattr(header, name)):
            raise FormatError(
                f"{path}: its {name} is {short(getattr(header, name))}, not {short(asked)}: ask for that or for none"
            )
    if metadata.get("adapter") != _digest(folder / WEIGHTS, config, made):
        raise FormatError(
            f"{path}: was not written with the {CONFIG} and {WEIGHTS} that are there now; write all "
            "three again, or remove it to start new heads"
        )
    return header, heads


def _heads_of(tasks: tuple[Task, ...], heads: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """The heads of some tasks."""
    missing = [task.name for task in tasks if f"{task.name}.weight" not in heads]
    if missing:
        raise FormatError(
            f"{folder / HEADS} has no head for {short(missing)}: ask for tasks among "
            f"{short(sorted({n.split('.')[0] for n in heads}))}, or remove the file to start new heads"
        )
    return {f"{task.name}.{part}": heads.get(f"{task.name}.{part}") for task in tasks for part in ("weight", "bias")}  # type: ignore[misc]  # `fill` refuses None


def _read_config(path: Path) -> Config:
    config = read_config(path, "peft's")
    found = config.get("peft_type") if isinstance(config, dict) else config
    if not isinstance(config, dict) or not isinstance(found, str) or found not in FORMATS:
        reason = f": {AS_A_CACHE}" if found == "PREFIX_TUNING" else ""
        raise FormatError(f"{path}: peft_type is {short(found)}{reason}; what can be read is {', '.join(sorted(FORMATS))}")
    FORMATS[found].check(config, str(path))
    return config


def _inner(name: str, made: Format, backbone: nn.Module) -> str:
    """A tensor's name as the headless backbone has it: without peft's prefix, and that of a model with a head."""
    return name.removeprefix(made.prefix).removeprefix(f"{backbone.base_model_prefix}.")
