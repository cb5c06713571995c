"""Intrinsic prompt tuning (Qin et al., 2021; survey, section 6.4): prompts of many tasks lie in a small space; tune there.

    p_t        (l d,)   prompts of several tasks, each from a run of `PromptTuning`
    z   = W1 p + b1                 W1: (k, l d)
    p'  = W3 tanh(W2 z + b2) + b3   W2: (d, k)   W3: (l d, d)

First `PromptAutoencoder` is trained on these tasks together, with their loss through p' and with alpha mean((p' - p)^2).
Then `IPT` keeps W2 and W3 as they are and trains for a task, one that the autoencoder has seen or a new one, z alone: k
numbers from N(0, 0.02). No nonlinearity follows W1, as in the released code.

At a width of 768 and a length of 100 the autoencoder has 77,569 k + 59,059,968 numbers; at k = 250 that is 78,452,218,
56.27% of BART-base. A finished `IPT` is its prompt, l d numbers, and needs no decoder; where the 59,251,968 of a decoder
are kept once for many tasks, each stores k.

What differs: no label smoothing, which belongs to a recipe; tasks take turns as the recipe's sampling says; the optional
second stage, prompt tuning from the decoded prompt, is a run of `SPoT`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib.anatomy import Shape
from peftlib.edits import Current, Edit
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method, Ref, affordable, normal, require
from peftlib.methods.soft_prompts.prompt import leaves_room
from peftlib.methods.soft_prompts.spot import prompts


class Decoder(nn.Module):
    """From the small space to a prompt: z (k,) -> (l, d)."""

    def __init__(self, length: int, width: int, k: int):
        super().__init__()
        self.length = length
        self.W2, self.W3 = nn.Linear(k, width), nn.Linear(width, length * width)

    def forward(self, z: Tensor) -> Tensor:
        return self.W3(torch.tanh(self.W2(z))).unflatten(-1, (self.length, -1))


class Autoencoder(nn.Module):
    """The prompts of the tasks, (tasks, l, d), and what is made of them."""

    def __init__(self, tasks: tuple[str, ...], length: int, width: int, k: int):
        super().__init__()
        self.tasks = tasks
        self.W1, self.decoder = nn.Linear(length * width, k), Decoder(length, width, k)
        self.p: Tensor
        self.register_buffer("p", torch.zeros(len(tasks), length, width))

    def forward(self, task: str) -> tuple[Tensor, Tensor]:
        """A task's prompt, and as it is decoded: (l, d) each."""
        p = self.p[self.tasks.index(task)]
        return p, self.decoder(self.W1(p.flatten()))


class Decoded(Edit):
    """The decoded prompt of the task that is run."""

    def __init__(self, autoencoder: Autoencoder, current: Current):
        super().__init__()
        self.autoencoder, self.current = Ref(autoencoder), current

    def ahead(self, embedded: Tensor) -> Tensor:
        return self.autoencoder.module(self.current.task)[1].expand(len(embedded), -1, -1)


class Intrinsic(Edit):
    """The prompt that a trained z stands for; once finished, the prompt itself."""

    def __init__(self, decoder: Decoder, k: int):
        super().__init__()
        self.decoder: Ref | None = Ref(decoder)
        self.z: nn.Parameter | None = nn.Parameter(normal(torch.empty(k), std=0.02))
        self.P: nn.Parameter | None
        self.register_parameter("P", None)

    def ahead(self, embedded: Tensor) -> Tensor:
        return self.prompt().expand(len(embedded), -1, -1)

    def prompt(self) -> Tensor:
        """(l, d)."""
        return self.decoder.module(self.z) if self.decoder is not None else self.P  # type: ignore[return-value]  # one of them

    @torch.no_grad()
    def flatten(self) -> None:
        """Keep the prompt and forget what it came from."""
        self.P = nn.Parameter(self.prompt().clone())
        self.decoder = self.z = None


@dataclass(frozen=True)
class PromptAutoencoder(Method):
    """The autoencoder of intrinsic prompt tuning, over the prompts of several tasks.

    length: vectors > 0 of each prompt. dimension: k > 0 (the paper: 5 to 250). alpha: weight of the reconstruction, 0 or
    more.
    """

    length: int = 100
    dimension: int = 250
    alpha: float = 200.0

    title = "Intrinsic prompt tuning, the autoencoder"
    family = "soft prompts"
    paper = "ipt"
    near_identity = None
    by_layer = False
    begins_from = "a run of PromptTuning() of the same length on each of its tasks"
    about = {
        "name": "prompt autoencoder",
        "color": "purple",
        "marker": "1",
        "row": None,
        "small": "length=4, dimension=3",
        "start": "PromptTuning",
        "start_on": "each",
    }

    def check(self) -> None:
        require(self, length=self.length > 0, dimension=self.dimension > 0, alpha=self.alpha >= 0)

    def attach(self, at: Attachment) -> None:
        """Raises:
        UsageError: no position left for the text; under `PerTask`, for it is one of all tasks.
        """
        leaves_room(self, at, self.length)
        if at.task is not None:
            raise UsageError(f"{self} is one of all tasks: take it out of PerTask")
        made = Autoencoder(at.tasks, self.length, at.shape.width, self.dimension)
        at.prepend(Decoded(at.share("autoencoder", made), at.current))

    def begin(self, at: Attachment, given: Sequence[dict[str, Tensor]]) -> None:
        """Take the prompts of the runs, one for each task, in the order of the tasks.

        Raises:
            UsageError: there is one task alone; other than one run a task, or one without a prompt of this size.
        """
        if len(at.tasks) < 2:
            raise UsageError(f"{self} finds what prompts of several tasks share, and {at.tasks[0]!r} is one: add tasks")
        (made,) = at.shared
        with torch.no_grad():
            made.p.copy_(torch.stack(prompts(self, at, given, len(at.tasks))))  # type: ignore[operator]  # an Autoencoder

    def penalty(self, at: Attachment, *_: object) -> Tensor:
        p, decoded = at.shared[0](at.current.task)
        return self.alpha * (decoded - p).square().mean()

    def formula(self, shape: Shape) -> int:
        return (self.length * shape.width + 1) * self.dimension + decoder_size(shape, self.length, self.dimension)

    def stored(self, at: Attachment) -> int:
        """With the prompts."""
        return self.trainable(at) + len(at.tasks) * self.length * at.shape.width

    def changed(self, at: Attachment) -> dict[Hashable, int]:
        return {(at.slot, at.task): self.stored(at)}


@dataclass(frozen=True)
class IPT(Method):
    """Intrinsic prompt tuning: the vector of one task, or one vector for several.

    length: vectors > 0 of the prompt. dimension: k > 0 (the paper: 5 to 250). Both are those of the autoencoder.
    """

    length: int = 100
    dimension: int = 250

    title = "Intrinsic prompt tuning"
    family = "soft prompts"
    paper = "ipt"
    near_identity = None
    by_layer = False
    begins_from = "a run of PromptAutoencoder() of the same sizes on several tasks"
    about = {
        "name": "IPT",
        "color": "purple",
        "marker": "2",
        "line": "--",
        "row": "length=100, dimension=50",
        "small": "length=4, dimension=3",
        "rates": 10.0,
        "start": "PromptAutoencoder",
        "start_on": "others",
    }

    def check(self) -> None:
        require(self, length=self.length > 0, dimension=self.dimension > 0)

    def attach(self, at: Attachment) -> None:
        """Raises:
        UsageError: no position left for the text; sizes out of proportion to the backbone.
        """
        leaves_room(self, at, self.length)
        affordable(self, decoder_size(at.shape, self.length, self.dimension), at.shape)
        decoder = Decoder(self.length, at.shape.width, self.dimension).requires_grad_(False)
        at.prepend(Intrinsic(at.share("decoder", decoder), self.dimension))

    def begin(self, at: Attachment, given: Sequence[dict[str, Tensor]]) -> None:
        """Take the decoder of the autoencoder that is given.

        Raises:
            UsageError: several runs are given, or one without a decoder of these sizes.
        """
        if len(given) != 1:
            raise UsageError(f"{self} begins from {self.begins_from}, and its start names {len(given)} runs")
        ours = at.shared[0].state_dict()
        theirs = {name.rpartition(".decoder.")[2]: t for name, t in given[0].items() if ".decoder." in name}
        for name, tensor in ours.items():
            there = tuple(theirs[name].shape) if name in theirs else "none"
            if there != tuple(tensor.shape):
                raise UsageError(
                    f"{self} begins from {self.begins_from}: {name} is {tuple(tensor.shape)} here, {there} there"
                )
            tensor.copy_(theirs[name])

    def finish(self, at: Attachment) -> None:
        """Replace the vector and the decoder by the prompt."""
        for _, edit in at.edits if at.shared else ():
            edit.flatten()
        for name in [name for name, module in at.model.shared.items() if any(module is m for m in at.shared)]:
            del at.model.shared[name]
        at.shared = []

    def restore(self, at: Attachment, tensors: dict[str, Tensor]) -> None:
        """A delta saved after `finish` holds a prompt: give up the decoder to make room for it."""
        kept = at.kept()
        if not any(name in tensors for name in kept if name.endswith(".z")):
            self.finish(at)

    def formula(self, shape: Shape) -> int:
        return self.dimension

    def trainable(self, at: Attachment) -> int:
        """k, also when asked after `finish`."""
        return self.dimension

    def stored(self, at: Attachment) -> int:
        """The prompt."""
        return self.length * at.shape.width

    def changed(self, at: Attachment) -> dict[Hashable, int]:
        return {(at.slot, at.task): self.stored(at)}


def decoder_size(shape: Shape, length: int, dimension: int) -> int:
    """Numbers of W2 and W3 with their biases."""
    return shape.width * (dimension + 1) + length * shape.width * (shape.width + 1)
