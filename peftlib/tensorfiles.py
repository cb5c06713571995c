"""Tensors on disk: safetensors, with truth values as bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from peftlib.errors import PeftlibError, short


class DeltaError(PeftlibError):
    """A delta cannot be read or written, or does not fit the backbone."""


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Raises:
    DeltaError: a number is not finite: what was trained has diverged, and would not be read back.
    """
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise DeltaError(f"{name} holds numbers that are not finite: training has diverged, nothing is written")
    save_file({n: packed(t.detach().cpu()).contiguous() for n, t in tensors.items()}, path, metadata=metadata)


def read_tensors(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """A safetensors file's metadata and tensors.

    Raises:
        DeltaError: no such file, or not whole.
    """
    if not Path(path).is_file():
        raise DeltaError(f"{path}: there is no such file")
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, UnicodeError, SafetensorError) as error:
        raise DeltaError(
            f"{path}: cannot be read as safetensors ({short(str(error))}): it is cut short, or no such file"
        ) from error


def packed(tensor: Tensor) -> Tensor:
    """Truth values (..., n) as bits, uint8 (..., ceil(n / 8)), the first value lowest; other tensors as they are."""
    return torch.from_numpy(np.packbits(tensor.numpy(), -1, "little")) if tensor.dtype == torch.bool else tensor


def unpacked(tensor: Tensor, like: Tensor | None) -> Tensor:
    """A tensor of a file as the one that it is read into has it: bits as truth values, if they are as many as there. Bits
    that are none of them must not be set."""
    if like is None or like.dtype != torch.bool or tensor.dtype != torch.uint8:
        return tensor
    if tensor.shape != (*like.shape[:-1], -(-like.shape[-1] // 8)):
        return tensor
    bits = (tensor[..., None] >> torch.arange(8, dtype=torch.uint8, device=tensor.device) & 1).flatten(-2).bool()
    return tensor if bits[..., like.shape[-1] :].any() else bits[..., : like.shape[-1]]
