"""Projections of a small vector to every tensor of a backbone by Fastfood transforms (Le et al., 2013), never formed.

    theta_i = theta_i0 + lambda_i P_i z        for every tensor i of m, D_i entries each

P_i (D_i, len(z)) is fixed and random, never formed, and its product a Fastfood transform: z is padded with zeros to
L = 2^ceil(log2 len(z)), and each run of L entries of a tensor, the last one cut, is a block

    P_i = [V_i1; V_i2; ...]    V = H G Pi H B / (sqrt(D_i) |g|)       O(D_i log L) operations

H: the Walsh-Hadamard matrix, entries +-1. B: random signs. Pi: a random permutation. G: diagonal, g ~ N(0, 1). B, and so
u = H B z, is the same in all blocks: H B / sqrt(L) is a rotation of z, which G and Pi, drawn for every block by itself, do
not know. Given u, blocks are therefore independent, and their entries of mean zero and variance |z|^2 / D_i: on average
P_i preserves lengths, E P_i' P_i = 1, for a norm as for the vocabulary.

Time and memory: H is a few products with small Hadamard matrices, u is made once a step, and the backward pass is one
transposed transform of each tensor's gradient, which is then dropped. G (bf16) and Pi (int16 up to L = 2^15) are drawn on
the CPU once and kept, 4 bytes an entry: drawing them anew at every step would take longer than the transform. Of a table
that is only looked up, as BERT's vocabulary, a pass computes the blocks that hold the rows it reads.
"""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from peftlib.edits import Current
from peftlib.methods.base import Ref

if typing.TYPE_CHECKING:
    from typing import Any

T = TypeVar("T")
SMALL = 32  # largest Hadamard matrix to multiply with: fast on CPUs and GPUs alike


@cache
def walsh(n: int, device: torch.device) -> Tensor:
    """The n x n Walsh-Hadamard matrix in natural order, n a power of two, entries +-1."""
    h = torch.ones(1, 1, device=device)
    while len(h) < n:
        h = torch.cat([torch.cat([h, h], dim=1), torch.cat([h, -h], dim=1)])
    return h


def hadamard(x: Tensor) -> Tensor:
    """H x for every row of x: (rows, L), L a power of two; a Kronecker product of small ones, one axis after another."""
    rows, length = x.shape
    done = min(SMALL, length)
    y = x.reshape(-1, done) @ walsh(done, x.device)  # symmetric
    while done < length:
        n = min(SMALL, length // done)
        y = walsh(n, x.device) @ y.view(-1, n, done)
        done *= n
    return y.view(rows, length)


def product(G: Tensor, permutation: Tensor, v: Tensor) -> Tensor:
    """H G Pi v of blocks: (blocks, L). G, permutation: (blocks, L); v: (L,)."""
    return hadamard(v.expand(len(G), -1).gather(1, permutation.long()) * G)


def adjoint(G: Tensor, permutation: Tensor, y: Tensor) -> Tensor:
    """The sum of Pi' G H y over blocks: (L,). G, permutation, y: (blocks, L)."""
    piece = hadamard(y) * G
    return torch.empty_like(piece).scatter_(1, permutation.long(), piece).sum(0)


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Autocast off, where a device has it."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else contextlib.nullcontext()


class Subspace(nn.Module):
    """What is trained: z and lambda. What is made of them is computed once in a forward pass of the backbone."""

    def __init__(self, dimension: int, tensors: int, generator: torch.Generator, device: torch.device, current: Current):
        super().__init__()
        self.current = current
        self.z = nn.Parameter(torch.zeros(dimension - tensors, device=device))
        self.lambdas = nn.Parameter(torch.ones(tensors, device=device))
        self.length = 1 << (len(self.z) - 1).bit_length()
        signs = torch.randint(0, 2, (self.length,), generator=generator, dtype=torch.int8, device="cpu") * 2 - 1
        self.B: Tensor
        self.register_buffer("B", signs.to(device), persistent=False)
        self.hooks: list[torch.utils.hooks.RemovableHandle] = []
        self.single: list[Ref] = []  # projections that are computed together

    def once(self, key: str | int, compute: Callable[[], T]) -> T:
        """What `compute` gives, kept as long as `Current.once` keeps it."""
        return self.current.once((id(self), key), compute)

    def join(self, projection: Fastfood) -> None:
        """Compute a projection of one block together with the others."""
        if len(projection.G) == 1:
            projection.place = len(self.single)
            self.single.append(Ref(projection))

    def singles(self) -> tuple[Tensor, ...]:
        """H G Pi u of every projection that has joined, (L,) each: most of a backbone's tensors are that small."""
        u, _ = self.once("rotated", self.rotated)
        G, permutation = (torch.cat([getattr(f.module, name) for f in self.single]) for name in ("G", "permutation"))
        return Together.apply(u, G, permutation).unbind()  # type: ignore[no-untyped-call]  # so torch wants it

    def rotated(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """u = H B z, (L,), and each tensor's lambda."""
        padded = F.pad(self.z, (0, self.length - len(self.z)))
        with full_precision(padded.device):
            return hadamard((padded * self.B)[None])[0], self.lambdas.unbind()


class Fastfood(nn.Module):
    """One tensor's P but for the rotation H B: as a parametrization, theta0 -> theta."""

    def __init__(self, size: int, index: int, space: Subspace, generator: torch.Generator):
        super().__init__()
        self.size, self.index, self.space = size, index, Ref(space)
        self.looking_up = False
        self.G: Tensor
        self.permutation: Tensor
        blocks, length = -(-size // space.length), space.length
        small, device = torch.int16 if length <= 1 << 15 else torch.int32, space.z.device
        if device.type == "meta":
            G = torch.empty(blocks, length, dtype=torch.bfloat16, device=device)
            permutation = torch.empty(blocks, length, dtype=small, device=device)
        else:  # on the CPU, so that a seed means the same on every device
            g = torch.randn(blocks, length, generator=generator, device="cpu")
            G = (g / (size**0.5 * g.norm(dim=1, keepdim=True))).to(device, torch.bfloat16)
            permutation = torch.empty(blocks, length, dtype=small, device="cpu")
            for row in permutation:
                row.copy_(torch.randperm(length, generator=generator, device="cpu"))
            permutation = permutation.to(device)
        self.register_buffer("G", G, persistent=False)
        self.register_buffer("permutation", permutation, persistent=False)
        self.place: int | None = None  # among those that are computed together

    def follow(self, table: nn.Embedding) -> list[torch.utils.hooks.RemovableHandle]:
        """Compute what is looked up in the table and no more: only where nothing else reads the tensor. Returns hooks."""
        return [table.register_forward_pre_hook(self.begin), table.register_forward_hook(self.end, always_call=True)]

    def begin(self, *_: object) -> None:
        self.looking_up = True

    def end(self, table: nn.Embedding, inputs: tuple[Tensor, ...], found: Tensor | None) -> Tensor | None:
        space: Subspace
        self.looking_up, space = False, self.space.module
        if found is None:  # the look-up failed
            return None
        u, lambdas = space.once("rotated", space.rotated)
        return (found + LookUp.apply(inputs[0], u, lambdas[self.index], self, table)).to(found.dtype)  # type: ignore[no-untyped-call]  # as above

    def forward(self, original: Tensor) -> Tensor:
        if self.looking_up:  # `end` adds what has changed
            return original
        return self.space.module.once(self.index, lambda: self._add(original))

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The original whose changed form is `weight`: what an assignment to the tensor means (a LoRA being merged)."""
        return weight - self._add(torch.zeros_like(weight))

    def _add(self, original: Tensor) -> Tensor:
        space: Subspace = self.space.module
        u, lambdas = space.once("rotated", space.rotated)
        if self.place is None or not space.current.whole:
            return Project.apply(original, u, lambdas[self.index], self)  # type: ignore[no-untyped-call]  # as above
        change = lambdas[self.index] * space.once("singles", space.singles)[self.place][: self.size]
        return (original + change.view(original.shape)).to(original.dtype)

    def at_once(self) -> int:
        """Blocks to compute at a time: half a mebibyte of a CPU's cache; few kernels on a GPU."""
        return max(1, (1 << (17 if self.G.device.type == "cpu" else 22)) // self.G.shape[1])

    def _pieces(self) -> Iterator[tuple[slice, slice]]:
        """Slices of blocks, and of the flat tensor's entries they cover."""
        (blocks, length), step = self.G.shape, self.at_once()
        for i in range(0, blocks, step):
            yield slice(i, i + step), slice(i * length, min((i + step) * length, self.size))

    def product(self, blocks: slice | Tensor, v: Tensor) -> Tensor:
        """`product` of some of the blocks."""
        return product(self.G[blocks], self.permutation[blocks], v)

    def adjoint(self, blocks: slice | Tensor, y: Tensor) -> Tensor:
        """`adjoint` of some of the blocks."""
        return adjoint(self.G[blocks], self.permutation[blocks], y)

    def add_product(self, original: Tensor, v: Tensor) -> Tensor:
        """original + H G Pi v over all blocks, in the shape and type of `original`. v: (L,)."""
        theta = torch.empty_like(original, memory_format=torch.contiguous_format)
        before, after = original.reshape(-1), theta.view(-1)
        for blocks, entries in self._pieces():
            change = self.product(blocks, v).view(-1)
            torch.add(before[entries], change[: entries.stop - entries.start], out=after[entries])
        return theta

    def transposed(self, y: Tensor) -> Tensor:
        """The sum of Pi' G H y over all blocks: (L,). y: as large as the tensor."""
        total, y, length = self.G.new_zeros(self.G.shape[1], dtype=torch.float32), y.reshape(-1), self.G.shape[1]
        for blocks, entries in self._pieces():
            piece = y[entries].float()
            missing = -len(piece) % length
            total += self.adjoint(blocks, (F.pad(piece, (0, missing)) if missing else piece).view(-1, length))
        return total

    def holding(self, rows: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Where rows of a table of this width are: the numbers of the blocks that hold them, and the place of each entry
        in these blocks put one after the other, (rows, width). rows: sorted, each once."""
        length = self.G.shape[1]
        first, last = rows * width // length, ((rows + 1) * width - 1) // length
        reach = torch.arange((width - 1) // length + 2, device=rows.device)
        blocks = torch.minimum(first[:, None] + reach, last[:, None]).unique()  # blocks of one row follow each other
        starts = torch.searchsorted(blocks, first) * length + rows * width % length
        return blocks, starts[:, None] + torch.arange(width, device=rows.device)


class Project(Function):
    """theta0, u, lambda -> theta; backward is the adjoint, exact, and keeps nothing of the tensor's size."""

    @staticmethod
    def forward(ctx: Any, original: Tensor, u: Tensor, weight: Tensor, fastfood: Fastfood) -> Tensor:
        ctx.save_for_backward(u, weight)
        ctx.fastfood = fastfood
        with full_precision(u.device):
            return fastfood.add_product(original, weight * u)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        u, weight = ctx.saved_tensors
        with full_precision(u.device):
            back = ctx.fastfood.transposed(gradient)
        return gradient if ctx.needs_input_grad[0] else None, weight * back, (back * u).sum(), None


class Together(Function):
    """u -> H G Pi u of many blocks, (blocks, L), and its adjoint."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, G: Tensor, permutation: Tensor) -> Tensor:
        ctx.save_for_backward(G, permutation)
        with full_precision(u.device):
            return product(G, permutation, u)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with full_precision(gradient.device):
            return adjoint(*ctx.saved_tensors, gradient.float()), None, None  # type: ignore[call-arg]  # two saved


class LookUp(Function):
    """ids (...), u, lambda -> what has changed in the rows of these numbers (..., width); only blocks that hold them are
    computed, forwards and backwards. A padding row gets no gradient, as in torch."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, u: Tensor, weight: Tensor, fastfood: Fastfood, table: nn.Embedding) -> Tensor:
        ctx.fastfood, ctx.table, width = fastfood, table, table.embedding_dim
        if ids.is_meta:
            ctx.save_for_backward(ids, u, weight)
            return u.new_empty(*ids.shape, width)
        rows, inverse = ids.unique(return_inverse=True)
        blocks, places = fastfood.holding(rows, width)
        ctx.save_for_backward(ids, u, weight, inverse, blocks, places)
        with full_precision(u.device):
            change = torch.cat([fastfood.product(some, weight * u) for some in blocks.split(fastfood.at_once())])
        return F.embedding(inverse, change.view(-1)[places])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        ids, u, weight, *rest = ctx.saved_tensors
        if ids.is_meta:
            return None, torch.empty_like(u), torch.empty_like(weight), None, None
        inverse, blocks, places = rest
        gradient = gradient.float()
        if ctx.table.padding_idx is not None:
            gradient = gradient.masked_fill((ids == ctx.table.padding_idx)[..., None], 0)
        by_row = gradient.new_zeros(places.shape).index_add_(0, inverse.flatten(), gradient.flatten(0, -2))
        spread = gradient.new_zeros(len(blocks), ctx.fastfood.G.shape[1])
        spread.view(-1)[places.flatten()] = by_row.flatten()
        with full_precision(u.device):
            step = ctx.fastfood.at_once()
            pairs = zip(blocks.split(step), spread.split(step), strict=True)
            back: Tensor = sum(ctx.fastfood.adjoint(some, y) for some, y in pairs)
        return None, weight * back, (back * u).sum(), None, None
