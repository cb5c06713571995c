"""A bank of frozen adapters, drawn or trained by others, and the adapters that are averages of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from peftlib import expressions
from peftlib.errors import UsageError, short
from peftlib.methods.base import normal
from peftlib.methods.reparametrized.fastfood import full_precision
from peftlib.tensorfiles import read_tensors

TRAINED_BY = "PfeifferFFN"


class Adapter(NamedTuple):
    """A, a: (..., b, d) and (..., b); B, c: (..., d, b) and (..., d); norms: (..., b) each. With one dimension more each
    row of a batch has its own."""

    A: Tensor
    a: Tensor
    gamma: Tensor
    beta: Tensor
    B: Tensor
    c: Tensor


class Bank(nn.Module):
    """N adapters in each of L blocks. A: (L, N, b(d + 1)) and B: (L, N, d(b + 1)), in a row an adapter's matrix and bias.

    mixed: gives the adapters of a block's rows while a batch of many profiles passes, see `peftlib.serving`. empty: it
    waits for the adapters of the runs that a run begins from.
    """

    def __init__(self, A: Tensor, B: Tensor, empty: bool = False):
        super().__init__()
        self.A, self.B = nn.Parameter(A, requires_grad=False), nn.Parameter(B, requires_grad=False)
        self.mixed: Callable[[int], Adapter] | None = None
        self.empty = empty

    def average(self, layer: int, masks: Tensor, gamma: Tensor, beta: Tensor) -> Adapter:
        """The adapter that masks (..., 1 or 2, N) make in a block; norms: (..., b)."""
        b = gamma.shape[-1]
        with full_precision(masks.device):  # in the bank's own type: no cast of it is made
            masks = masks.to(self.A.dtype)
            A, B = masks[..., 0, :] @ self.A[layer], masks[..., -1, :] @ self.B[layer]
        d = A.shape[-1] // b - 1
        A, a = A.split([b * d, b], -1)
        B, c = B.split([d * b, d], -1)
        return Adapter(A.unflatten(-1, (b, d)), a, gamma, beta, B.unflatten(-1, (d, b)), c)


def without(layers: int, adapters: int, bottleneck: int, width: int) -> Bank:
    """Room for a bank, all zeros."""
    A = torch.zeros(layers, adapters, bottleneck * (width + 1))
    B = torch.zeros(layers, adapters, width * (bottleneck + 1))
    return Bank(A, B, empty=True)


def drawn(layers: int, adapters: int, bottleneck: int, width: int) -> Bank:
    """Weights N(0, 0.02), biases 0."""
    bank = without(layers, adapters, bottleneck, width)
    for rows in (bank.A, bank.B):
        normal(rows[..., : width * bottleneck], std=0.02)
    bank.empty = False
    return bank


def trained(path: str, adapters: int, bottleneck: int, width: int, places: Sequence[str], weights: str | None) -> Bank:
    """Adapters that other profiles have trained: of a delta, or of all in a folder, in the order of files and their tasks.

    places: names of the sites in the model, block by block. weights: the backbone's digest, if it is known.

    Raises:
        DeltaError: a file cannot be read.
        UsageError: no deltas of `PfeifferFFN`, another number or size of adapters, or other weights.
    """
    files = sorted(Path(path).glob("*.safetensors")) if Path(path).is_dir() else [Path(path)]
    return Bank(
        *_stacked((row for file in files for row in _of_file(file, bottleneck, width, places, weights)), adapters, path)
    )


@torch.no_grad()
def fill(bank: Bank, given: Sequence[Mapping[str, Tensor]], bottleneck: int, width: int, places: Sequence[str]) -> None:
    """Put the adapters into an empty bank that runs have trained: in the order of runs, of one by the names of tasks.

    given: a run's delta each. places: see `trained`.

    Raises:
        UsageError: a run without adapters of `PfeifferFFN`, another number or size of adapters.
    """
    edit = f"{places[0]}.edits.{TRAINED_BY.lower()}."
    found = []
    for number, tensors in enumerate(given, 1):
        source = f"run {number} of the start"
        named = {name.removeprefix(edit) for name in tensors if name.startswith(edit)}
        if not named:
            raise UsageError(
                f"{source} has trained no {TRAINED_BY} at {short(places[0])}, and a bank is made of its adapters"
            )
        copies = sorted({f"by_task.{at[1]}." for name in named if (at := re.match(r"by_task\.(\w+)\.", name))})
        found += list(_rows(tensors, copies or [""], bottleneck, width, places, source))
    A, B = _stacked(found, bank.A.shape[1], "the start")
    bank.A.copy_(A)
    bank.B.copy_(B)
    bank.empty = False


def _stacked(rows: Iterable[tuple[Tensor, Tensor]], adapters: int, source: str) -> tuple[Tensor, Tensor]:
    rows = list(rows)
    if len(rows) != adapters:
        raise UsageError(f"{source} has {len(rows)} adapters, expected {adapters}: name as many as there are")
    A, B = (torch.stack([row[i] for row in rows], 1) for i in (0, 1))
    return A, B


def _of_file(
    file: Path, bottleneck: int, width: int, places: Sequence[str], weights: str | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The adapters of a file, see `_rows`."""
    metadata, tensors = read_tensors(file)
    tree = expressions.parse(metadata.get("method", "HeadOnly()"))
    if [leaf.name for leaf, _ in tree.leaves()].count(TRAINED_BY) != 1:
        raise UsageError(f"{file} holds {short(str(tree))}, and a bank is made of adapters of {TRAINED_BY}")
    if torch.get_default_device().type == "meta":
        tensors = {name: t.to("meta") for name, t in tensors.items()}
    tasks = json.loads(metadata["tasks"])
    copies = [f"by_task.{task if isinstance(task, str) else task['name']}." for task in tasks]
    copies = copies if any(f".edits.{TRAINED_BY.lower()}.by_task." in name for name in tensors) else [""]
    yield from _rows(tensors, copies, bottleneck, width, places, str(file))
    if weights is not None and metadata.get("weights") not in (None, weights):
        raise UsageError(f"{file}: trained on weights of digest {short(metadata['weights'])}, and here it is {weights!r}")


def _rows(
    tensors: Mapping[str, Tensor], copies: Sequence[str], bottleneck: int, width: int, places: Sequence[str], source: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """A (L, b(d + 1)) and B (L, d(b + 1)) of each adapter of a delta. copies: what stands before the names of each one's
    tensors, at each place."""
    edit = f".edits.{TRAINED_BY.lower()}."

    def rows(copy: str, part: str, shape: tuple[int, int]) -> Tensor:
        found = []
        for place in places:
            weight, bias = (tensors.get(f"{place}{edit}{copy}{part}.{kind}") for kind in ("weight", "bias"))
            if weight is None or bias is None or weight.shape != shape:
                was = "missing" if weight is None else tuple(weight.shape)
                raise UsageError(
                    f"{source}: {part!r} of the adapter at {short(place)} is {was}, expected {shape}: "
                    "its bottleneck, or the backbone's width or depth, is another one"
                )
            found.append(torch.cat([weight.flatten(), bias]).float())
        return torch.stack(found)

    for copy in copies:
        yield rows(copy, "down", (bottleneck, width)), rows(copy, "up", (width, bottleneck))
