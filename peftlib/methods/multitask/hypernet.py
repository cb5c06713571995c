"""What methods have in common whose adapters a network writes: the adapter, the hypernetwork, and what becomes of a task.

    A(x) = LN_{gamma, beta}(U f(D x + b_D) + b_U) + x        x: (..., n)   D: (a, n)   U: (n, a)   gamma, beta: (n,)
    (D, b_D) = W^D I    (U, b_U) = W^U I    (gamma, beta) = W^LN I        I: (t,), made from a task's embedding z

W are linear layers with biases. Methods differ in what I is made of, in which adapters have one set of W, and in the places
that they adapt. A task is its z: all else is shared.
"""

from __future__ import annotations

import abc
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.anatomy import Shape
from peftlib.edits import Current, Edit
from peftlib.errors import UsageError
from peftlib.methods.adapters.bottleneck import ACTIVATIONS
from peftlib.methods.base import Attachment, Method, Ref, linear

SITES = ("attention.output", "ffn.down")  # of the two adapters of a block; T5's cross-attention has none


class Weights(NamedTuple):
    """Of one adapter."""

    D: Tensor
    b_D: Tensor
    U: Tensor
    b_U: Tensor
    gamma: Tensor
    beta: Tensor


class Normed(Edit, abc.ABC):
    """A(x) on what a site returns, or on what it is given. on_input: the latter."""

    def __init__(self, activation: str, on_input: bool = False):
        super().__init__()
        self.f, self.on_input = ACTIVATIONS[activation], on_input

    @abc.abstractmethod
    def weights(self) -> Weights:
        """For the task that is run."""

    def adapt(self, x: Tensor) -> Tensor:
        D, b_D, U, b_U, gamma, beta = self.weights()
        h = F.linear(self.f(F.linear(x, D, b_D)), U, b_U)
        return x + F.layer_norm(h.float(), h.shape[-1:], gamma.float(), beta.float()).to(x.dtype)

    def before(self, x: Tensor) -> Tensor:
        return self.adapt(x) if self.on_input else x

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return y if self.on_input else self.adapt(y)


class Generator(nn.Module):
    """One set of W, for adapters of width n: from I (rows, t) to the tensors of an adapter a row.

    norm_std: deviation of W^LN; None: there is none, and the adapters have layer norms that nobody writes.
    """

    def __init__(self, t: int, n: int, a: int, norm_std: float | None = 0.01):
        super().__init__()
        self.n, self.a = n, a
        self.W_D, self.W_U = linear(t, a * n + a), linear(t, n * a + n)
        self.W_LN = None if norm_std is None else linear(t, 2 * n, norm_std)

    def forward(self, I: Tensor) -> list[tuple[Tensor, ...]]:  # noqa: E741 (the papers' symbol)
        """For each row: D (a, n), b_D (a,), U (n, a), b_U (n,); with W^LN also gamma (n,), beta (n,)."""
        n, a = self.n, self.a
        D, b_D = self.W_D(I).split([a * n, a], dim=1)
        U, b_U = self.W_U(I).split([n * a, n], dim=1)
        norm = () if self.W_LN is None else self.W_LN(I).split([n, n], dim=1)
        tensors = (D.unflatten(1, (a, n)), b_D, U.unflatten(1, (n, a)), b_U, *norm)
        return list(zip(*(x.unbind() for x in tensors), strict=True))

    @staticmethod
    def size(t: int, n: int, a: int, norm: bool = True) -> int:
        """Its parameters."""
        return (t + 1) * (2 * n * a + a + n + 2 * n * norm)


class Embedding(nn.Module):
    """z of a task, from N(0, 1); a vector, so that no weight decay moves a task that is not trained."""

    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size))


class Hypernet(nn.Module, abc.ABC):
    """Embeddings of tasks, and sets of W.

    The adapters of a set are written together in a forward pass of the backbone and dropped when it ends: one matrix
    product, and one gradient as large as W, in place of one a layer (which a checkpointed block costs).
    """

    def __init__(self, tasks: tuple[str, ...], current: Current, features: int, generators: list[Generator]):
        super().__init__()
        self.current, self.features = current, features
        self.z = nn.ModuleDict({task: Embedding(features) for task in tasks})
        self.h = nn.ModuleList(generators)

    def task(self) -> Tensor:
        """z of the task that is run: (features,)."""
        return self.z[self.current.task].weight  # type: ignore[index, return-value]  # some task, its embedding

    @abc.abstractmethod
    def embed(self, which: int) -> Tensor:
        """For the task that is run, I of every adapter of a set: (rows, t)."""

    def adapter(self, which: int, row: int) -> tuple[Tensor, ...]:
        """Tensors of one adapter; in a pass of the whole backbone all of its set are written at the first look."""
        if not self.current.whole:
            return self.h[which](self.embed(which)[row : row + 1])[0]
        return self.current.once((id(self), which), lambda: self.h[which](self.embed(which)))[row]


def joined(z: Tensor, l: Tensor, p: Tensor) -> Tensor:  # noqa: E741 (the papers' symbol)
    """[z; l; p] for every layer and position: (layers, positions, 3t). z: (t,). l: (layers, t). p: (positions, t)."""
    sizes = (len(l), len(p), -1)
    return torch.cat([z.expand(*sizes), l[:, None].expand(*sizes), p.expand(*sizes)], dim=-1)


class Generated(Normed):
    """An adapter that a hypernetwork writes: row `row` of its set `which`. It owns nothing but a layer norm that nobody
    writes, where there is none that is written: the same for all tasks, at the start `gamma` and 0."""

    def __init__(
        self, hypernet: Hypernet, which: int, row: int, activation: str, on_input: bool = False, gamma: float = 1.0
    ):
        super().__init__(activation, on_input)
        self.hypernet, self.which, self.row = Ref(hypernet), which, row
        generator: Generator = hypernet.h[which]  # type: ignore[assignment]  # which it is a list of
        self.norm = own_norm(generator.n, gamma) if generator.W_LN is None else None

    def weights(self) -> Weights:
        norm = () if self.norm is None else (self.norm.weight, self.norm.bias)
        return Weights(*self.hypernet.module.adapter(self.which, self.row), *norm)


def own_norm(n: int, gamma: float) -> nn.LayerNorm:
    """An adapter's layer norm that nobody writes."""
    norm = nn.LayerNorm(n)
    nn.init.constant_(norm.weight, gamma)
    return norm


def gamma_at(at: Attachment) -> float:
    """What such a norm starts with: 1, as in the authors' code, where a sublayer's norm comes before it, as in T5; 0 where
    it comes after the residual, as in BERT. There 1 adds a vector as large as the states, and nothing is learnt."""
    return float(at.anatomy.table.norm_first)


def width_of_bottleneck(method: Method, bottleneck: int | None, reduction: int, shape: Shape) -> int:
    """a: what is given, or the backbone's width over the reduction, rounded down.

    Raises:
        UsageError: the reduction leaves nothing.
    """
    a = shape.width // reduction if bottleneck is None else bottleneck
    if a == 0:
        raise UsageError(
            f"{method}: a reduction of {reduction} leaves no bottleneck of the width {shape.width}: expected at most that"
        )
    return a


def numbers(at: Attachment) -> int:
    """All that a method has and its delta holds, also what is trained no more."""
    modules = [edit for _, edit in at.edits] + at.shared
    tensors = [*(p for m in modules for p in m.parameters()), *at.trained]
    return sum({id(p): p.numel() for p in tensors}.values())


class Writes(abc.ABC):
    """Part of a method whose adapters a `Hypernet` writes. See `peftlib.hypernets` for what can be done with its models."""

    @abc.abstractmethod
    def plain(self) -> Method:
        """The method of adapters at the same places that nobody writes.

        Raises:
            UsageError: it has no adapters.
        """

    def stored(self, at: Attachment) -> int:
        return numbers(at)

    @staticmethod
    def hypernet(at: Attachment) -> Hypernet:
        """What an attachment of the method shares."""
        (found,) = (m for m in at.shared if isinstance(m, Hypernet))
        return found
