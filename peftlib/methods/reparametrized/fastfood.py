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
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from peftlib.methods.base import Ref

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


def full_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """Autocast off, where a device has it."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else contextlib.nullcontext()


class Subspace(nn.Module):
    """What is trained: z and lambda. `held` keeps what one forward pass of the backbone has computed, until its end."""

    def __init__(self, dimension: int, tensors: int, generator: torch.Generator, device: torch.device):
        super().__init__()
        self.z = nn.Parameter(torch.zeros(dimension - tensors, device=device))
        self.lambdas = nn.Parameter(torch.ones(tensors, device=device))
        self.length = 1 << (len(self.z) - 1).bit_length()
        signs = torch.randint(0, 2, (self.length,), generator=generator, dtype=torch.int8, device="cpu") * 2 - 1
        self.register_buffer("B", signs.to(device), persistent=False)
        self.held: dict | None = None
        self.hooks: list = []

    def follow(self, backbone: nn.Module) -> None:
        """Hold what is computed in each forward pass of the backbone."""
        self.hooks += [backbone.register_forward_pre_hook(self.hold),
                       backbone.register_forward_hook(self.drop, always_call=True)]

    def hold(self, *_) -> None:
        self.held = {}

    def drop(self, *_) -> None:
        self.held = None

    def once(self, key, compute):
        """What `compute` gives, kept under `key` while a forward pass lasts."""
        if self.held is None:
            return compute()
        if key not in self.held:
            self.held[key] = compute()
        return self.held[key]

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
        self.asked: Tensor | None = None  # blocks that hold what a look-up reads, while it lasts
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

    def follow(self, table: nn.Embedding) -> list:
        """Compute what is looked up in the table and no more: only where nothing else reads the tensor. Returns hooks."""
        return [table.register_forward_pre_hook(self.ask), table.register_forward_hook(self.forget, always_call=True)]

    def ask(self, table: nn.Embedding, inputs: tuple[Tensor, ...]) -> None:
        (ids,), width, length = inputs, table.embedding_dim, self.G.shape[1]
        if not ids.is_meta:
            rows = ids.unique()[:, None]
            reach = torch.arange((width - 1) // length + 2, device=ids.device)
            self.asked = torch.minimum(rows * width // length + reach, ((rows + 1) * width - 1) // length).unique()

    def forget(self, *_) -> None:
        self.asked = None

    def forward(self, original: Tensor) -> Tensor:
        if self.asked is not None:
            return self._add(original, self.asked)
        return self.space.module.once(self.index, lambda: self._add(original))

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The original whose changed form is `weight`: what an assignment to the tensor means (a LoRA being merged)."""
        return weight - self._add(torch.zeros_like(weight))

    def _add(self, original: Tensor, blocks: Tensor | None = None) -> Tensor:
        space = self.space.module
        u, lambdas = space.once("rotated", space.rotated)
        return Project.apply(original, u, lambdas[self.index], self, blocks)

    def _step(self) -> int:
        """Blocks at a time: half a mebibyte of a CPU's cache; few kernels on a GPU."""
        return max(1, (1 << (17 if self.G.device.type == "cpu" else 22)) // self.G.shape[1])

    def _pieces(self) -> Iterator[tuple[slice, slice]]:
        """Slices of blocks, and of the flat tensor's entries they cover."""
        (blocks, length), step = self.G.shape, self._step()
        for i in range(0, blocks, step):
            yield slice(i, i + step), slice(i * length, min((i + step) * length, self.size))

    def _product(self, blocks: slice | Tensor, v: Tensor) -> Tensor:
        """H G Pi v of some blocks: (blocks, L). v: (L,)."""
        index = self.permutation[blocks].long()
        return hadamard(v.expand(len(index), -1).gather(1, index) * self.G[blocks])

    def _adjoint(self, blocks: slice | Tensor, y: Tensor) -> Tensor:
        """The sum of Pi' G H y over some blocks: (L,). y: (blocks, L)."""
        piece = hadamard(y) * self.G[blocks]
        return torch.empty_like(piece).scatter_(1, self.permutation[blocks].long(), piece).sum(0)

    def add_product(self, original: Tensor, v: Tensor, blocks: Tensor | None = None) -> Tensor:
        """original + H G Pi v, in the shape and type of `original`; only in the blocks of these numbers, if there are
        any given. v: (L,)."""
        before = original.reshape(-1)
        if blocks is not None:
            whole = before.new_empty(self.G.shape)  # as long as all blocks: the last one reaches beyond the tensor
            after = whole.view(-1)[: self.size]
            after.copy_(before)
            for some in blocks.split(self._step()):
                whole[some] = (whole[some] + self._product(some, v)).to(whole.dtype)
            return after.view(original.shape)
        theta = torch.empty_like(original, memory_format=torch.contiguous_format)
        after = theta.view(-1)
        for some, entries in self._pieces():
            change = self._product(some, v).view(-1)
            torch.add(before[entries], change[: entries.stop - entries.start], out=after[entries])
        return theta

    def transposed(self, y: Tensor, blocks: Tensor | None = None) -> Tensor:
        """The sum of Pi' G H y over all blocks, or those of these numbers: (L,). y: as large as the tensor."""
        total, y, length = self.G.new_zeros(self.G.shape[1], dtype=torch.float32), y.reshape(-1), self.G.shape[1]
        if blocks is not None:
            within = self.size // length  # whole blocks
            table = y[: within * length].view(within, length)
            for some in blocks[blocks < within].split(self._step()):
                total += self._adjoint(some, table[some].float())
            if blocks[-1] == within:
                rest = F.pad(y[within * length :].float(), (0, length - self.size % length))
                total += self._adjoint(blocks[-1:], rest[None])
            return total
        for some, entries in self._pieces():
            piece = y[entries].float()
            missing = -len(piece) % length
            total += self._adjoint(some, (F.pad(piece, (0, missing)) if missing else piece).view(-1, length))
        return total


class Project(Function):
    """theta0, u, lambda -> theta; backward is the adjoint, exact, and keeps nothing of the tensor's size."""

    @staticmethod
    def forward(ctx, original: Tensor, u: Tensor, weight: Tensor, fastfood: Fastfood, blocks: Tensor | None) -> Tensor:
        ctx.save_for_backward(u, weight)
        ctx.fastfood, ctx.blocks = fastfood, blocks
        with full_precision(u.device):
            return fastfood.add_product(original, weight * u, blocks)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        u, weight = ctx.saved_tensors
        with full_precision(u.device):
            back = ctx.fastfood.transposed(gradient, ctx.blocks)
        return gradient if ctx.needs_input_grad[0] else None, weight * back, (back * u).sum(), None, None
