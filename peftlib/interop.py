"""A LoRA in Hugging Face `peft`'s own format: ``adapter_model.safetensors`` beside ``adapter_config.json``.

`peft` has no per-task heads: they go to ``peftlib_heads.safetensors`` in the same folder, which `peft` ignores.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from peftlib.anatomy import Anatomy
from peftlib.data.tasks import Task, get_task
from peftlib.edits import Edited
from peftlib.errors import PeftlibError, UsageError
from peftlib.methods.reparametrized.lora import SITES, LoRA
from peftlib.model import Tuned

CONFIG, WEIGHTS, HEADS = "adapter_config.json", "adapter_model.safetensors", "peftlib_heads.safetensors"
PREFIX = "base_model.model."

# Fields of the configuration that are read, or that change nothing in the outputs of a saved adapter. Any other field
# must be off, whatever later versions of peft add.
UNDERSTOOD = {
    "peft_type", "r", "lora_alpha", "lora_dropout", "init_lora_weights", "target_modules", "exclude_modules",
    "layers_to_transform", "layers_pattern", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path",
    "revision", "inference_mode", "runtime_config", "megatron_core", "qalora_group_size", "loftq_config", "eva_config",
}
# Initialisations that leave the backbone as it was; the others (PiSSA, OLoRA, ...) need another backbone.
OWN_BACKBONE = (True, False, "gaussian", "orthogonal", "eva")


class PeftFormatError(PeftlibError):
    """A folder holds no adapter of `peft`, or one that has no counterpart here."""


def _paths(backbone: nn.Module) -> dict[int, str]:
    """id of a module -> its path in the untouched backbone."""
    return {id(m): name for name, m in backbone.named_modules()}


def to_peft(model: Tuned, folder: str | Path, backbone: str = "") -> None:
    """Write a model's LoRA so that ``peft.PeftModel.from_pretrained(backbone, folder)`` gives the same outputs.

    backbone: its name, for the reader of the configuration.

    Raises:
        UsageError: the model's method is not one LoRA shared by all tasks, or it was merged already.
    """
    method = model.method
    if not isinstance(method, LoRA):
        raise UsageError(f"peft's format holds one LoRA shared by all tasks; this model's method is {method}")
    (_, at), = model.attachments
    if not at.edits:
        raise UsageError(f"{method} is merged into its backbone: write it before merging")
    names, tensors = _paths(model.backbone), {}
    for site, edit in at.edits:
        path = PREFIX + names[id(site.module)]
        tensors |= {f"{path}.lora_A.weight": edit.A, f"{path}.lora_B.weight": edit.B}
    config = {
        "peft_type": "LORA", "task_type": None, "base_model_name_or_path": backbone or None, "inference_mode": True,
        "r": method.rank, "lora_alpha": method.alpha or method.rank, "lora_dropout": method.dropout, "bias": "none",
        "target_modules": sorted(names[id(site.module)] for site, _ in at.edits),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / WEIGHTS, tensors)
    _write(folder / HEADS, model.heads.state_dict())
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}, path, metadata={"format": "pt"})


def from_peft(folder: str | Path, backbone: nn.Module, tasks: Iterable[str | Task], pooling: str = "mean") -> Tuned:
    """A model with the LoRA of a `peft` folder on a backbone (edited in place), in evaluation mode.

    Heads are read when `to_peft` wrote them, for these tasks; else they are new.

    Raises:
        PeftFormatError: files missing or broken, a configuration without counterpart here, or tensors that do not fit.
    """
    folder = Path(folder)
    config, tensors = _read_config(folder), _read_tensors(folder / WEIGHTS)
    tensors = {_inner(name, backbone): t for name, t in tensors.items()}
    method = _method(config, {name.rsplit(".lora_", 1)[0] for name in tensors}, Anatomy(backbone), folder)
    tasks = [get_task(t) if isinstance(t, str) else t for t in tasks]
    model = Tuned(backbone, method, tasks, pooling=pooling)
    names, (_, at) = _paths(model.backbone), model.attachments[0]
    with torch.no_grad():
        for site, edit in at.edits:
            for letter, ours in (("A", edit.A), ("B", edit.B)):
                name = f"{names[id(site.module)]}.lora_{letter}.weight"
                theirs = tensors.get(name)
                if theirs is None or theirs.shape != ours.shape:
                    found = None if theirs is None else tuple(theirs.shape)
                    raise PeftFormatError(f"{folder / WEIGHTS}: {name!r} is {found}, expected {tuple(ours.shape)} on "
                                          "this backbone")
                ours.copy_(theirs)
    if (folder / HEADS).is_file():
        _load_heads(model, _read_tensors(folder / HEADS), folder)
    return model.eval()


def _load_heads(model: Tuned, tensors: dict[str, Tensor], folder: Path) -> None:
    missing = [task for task in model.tasks if f"{task}.weight" not in tensors]
    if missing:
        raise PeftFormatError(f"{folder / HEADS} has no head for {missing}: ask for tasks among "
                              f"{sorted({n.split('.')[0] for n in tensors})}, or remove the file to start new heads")
    try:
        model.heads.load_state_dict({n: t for n, t in tensors.items() if n.split(".")[0] in model.tasks})
    except RuntimeError as error:
        raise PeftFormatError(f"{folder / HEADS}: does not fit this backbone and these tasks ({error})") from error


def _read_config(folder: Path) -> dict:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PeftFormatError(f"{path}: cannot be read as peft's configuration ({error})") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        found = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise PeftFormatError(f"{path}: peft_type is {found!r}; only 'LORA' can be read")
    for key, value in config.items():
        if key not in UNDERSTOOD and value not in (None, False, "none", {}, []):
            raise PeftFormatError(f"{path}: {key}={value!r} has no counterpart in LoRA here; expected it to be off")
    for key in ("r", "lora_alpha"):
        if type(config.get(key)) not in (int, float) or config[key] <= 0:
            raise PeftFormatError(f"{path}: {key} is {config.get(key)!r}, expected a number above zero")
    if config.get("init_lora_weights", True) not in OWN_BACKBONE:
        raise PeftFormatError(f"{path}: init_lora_weights={config['init_lora_weights']!r} changed the backbone itself; "
                              "save with path_initial_model_for_weight_conversion, which makes it a plain LoRA")
    return config


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise PeftFormatError(f"{path}: cannot be read ({error}); save with safe_serialization=True") from error


def _inner(name: str, backbone: nn.Module) -> str:
    """A tensor's name as the headless backbone has it: without peft's prefix, and that of a model with a head."""
    return name.removeprefix(PREFIX).removeprefix(f"{backbone.base_model_prefix}.")


def _method(config: dict, adapted: set[str], anatomy: Anatomy, folder: Path) -> LoRA:
    """The LoRA that edits exactly the adapted modules."""
    names = _paths(anatomy.model)
    places = {}
    for short, pattern in SITES.items():
        sites = [s.module for s in anatomy.at(pattern)]
        places[short] = {names[id(m.base if isinstance(m, Edited) else m)] for m in sites}
    sites = tuple(short for short, paths in places.items() if paths <= adapted)
    stray = sorted(adapted - set().union(*(places[s] for s in sites)))
    if stray or not sites:
        raise PeftFormatError(f"{folder / WEIGHTS}: {stray[:3] or 'nothing'} adapted; LoRA here adapts all modules of "
                              f"a kind in a {anatomy.model.config.model_type} backbone: {', '.join(SITES)}")
    rank, alpha = config["r"], config["lora_alpha"]
    return LoRA(rank=rank, alpha=None if alpha == rank else float(alpha), sites=sites,
                dropout=float(config.get("lora_dropout", 0.0)))
