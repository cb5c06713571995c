"""Deltas on disk: only what differs from the backbone, in safetensors, with the method's expression inside.

The size of the file is what the study calls "stored". Heads are included.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from peftlib.data.tasks import get_task
from peftlib.errors import PeftlibError
from peftlib.model import Tuned

FORMAT = "peftlib-delta-1"


class DeltaError(PeftlibError):
    """A delta cannot be read, or does not fit the backbone."""


def save(model: Tuned, path: str | Path, backbone: str = "") -> int:
    """Write the delta of a model; returns the file's size in bytes.

    backbone: its name, kept in the file for the reader's sake.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = {"format": FORMAT, "method": str(model.method), "tasks": json.dumps(model.tasks), "backbone": backbone,
            "pooling": model.pooling, "form": model.form}
    temporary = path.with_name(f".{path.name}.part")
    save_file({n: t.detach().cpu().contiguous() for n, t in model.delta().items()}, temporary, metadata=meta)
    temporary.replace(path)
    return path.stat().st_size


def load(path: str | Path, backbone: nn.Module) -> Tuned:
    """Rebuild a model from its delta and the backbone it was made for (edited in place): same outputs as when saved.

    Raises:
        DeltaError: no delta, a broken file, or tensors that do not fit this backbone.
    """
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise DeltaError(f"{path}: cannot be read as a delta ({error})") from error
    if meta.get("format") != FORMAT:
        raise DeltaError(f"{path}: its format is {meta.get('format')!r}, expected {FORMAT!r}")
    tasks = [get_task(name) for name in json.loads(meta["tasks"])]
    model = Tuned(backbone, meta["method"], tasks, pooling=meta["pooling"], form=meta.get("form", "heads"))
    load_tensors(model, tensors, str(path))
    return model.eval()


def load_tensors(model: Tuned, tensors: dict[str, torch.Tensor], source: str = "the delta") -> None:
    """Put a delta's tensors into a model built by the same expression.

    Raises:
        DeltaError: names and shapes do not match.
    """
    for leaf, at in model.attachments:
        leaf.restore(at, tensors)
    expected = model.delta()
    for name in sorted(expected.keys() | tensors.keys()):
        ours, theirs = expected.get(name), tensors.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            shapes = [None if t is None else tuple(t.shape) for t in (ours, theirs)]
            raise DeltaError(f"{source}: {name!r} does not fit this backbone (expected {shapes[0]}, found {shapes[1]})")
    model.load_state_dict(tensors, strict=False)
