"""Many profiles of `XPEFT` at once: one forward pass over a batch whose rows are of different profiles.

The backbone and the bank are in memory once. A profile is its masks, as bits where they are hard, its norms and its head,
as its delta has them. In each block the adapters of the profiles in a batch are made, used and dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from peftlib.deltas import Header, fill
from peftlib.errors import UsageError, short
from peftlib.methods.adapters.bank import Bank
from peftlib.methods.adapters.xpeft import XPEFT, Mixed, Profile, profile_of
from peftlib.methods.base import Expression, parse
from peftlib.methods.baselines import HeadOnly
from peftlib.model import Tuned
from peftlib.tensorfiles import DeltaError, packed, read_tensors, unpacked


@dataclass(frozen=True)
class Held:
    """A profile. masks: (1 or 2, L, N), or of bits (1 or 2, L, ceil(N / 8)). gamma, beta: (L, b). weight, bias: a head."""

    masks: Tensor
    gamma: Tensor
    beta: Tensor
    weight: Tensor
    bias: Tensor

    @property
    def nbytes(self) -> int:
        """A head that several profiles have counts for each."""
        return sum(t.nbytes for t in vars(self).values())


Head = tuple[Tensor, Tensor]  # weight and bias


class Profiles:
    """Answers for every profile that it holds.

    Args:
        model: of `XPEFT`, alone or under PerTask, with at most `HeadOnly` beside it. Its tasks are the first profiles. It
            is put into evaluation mode, and its hard masks are chosen.

    Attributes:
        held: the profiles by name.

    Raises:
        UsageError: another method, or answers that are written.
    """

    def __init__(self, model: Tuned):
        self.method = _one(model.method, model.tasks)
        if model.form != "heads":
            raise UsageError(f"form {model.form!r} has no heads, which profiles are read by: use form 'heads'")
        self.model = model.eval()
        model.finish()
        (self.bank,) = (module for module in model.fixed.values() if isinstance(module, Bank))
        self.held: dict[str, Held] = {}
        heads = {id(head): _copied(head) for head in model.heads.values()}
        self._head = next(iter(heads.values()))  # of all tasks, where they have one
        for leaf, at in model.attachments:
            if isinstance(leaf, XPEFT):
                for task in model.tasks if at.task is None else [at.task]:
                    self.held[task] = _held(profile_of(at), heads[id(model.heads[task])])

    @property
    def nbytes(self) -> int:
        """Bytes of all profiles. A head that several have counts once."""
        return sum({t.data_ptr(): t.nbytes for held in self.held.values() for t in vars(held).values()}.values())

    def add(self, path: str | Path, names: Sequence[str] | None = None) -> list[str]:
        """Take up the profiles of a delta, one for each of its tasks; returns their names, by default those of the tasks.

        Raises:
            DeltaError: no delta, one of another bank, backbone or method, or tensors that do not fit.
            UsageError: other names than there are profiles.
        """
        source, (metadata, tensors) = str(path), read_tensors(path)
        header = Header.read(metadata, source)
        self._fits(header, source)
        tasks = [task.name for task in header.tasks]
        names = tasks if names is None else list(names)
        if len(names) != len(tasks):
            raise UsageError(f"{source} holds {len(tasks)} profiles, and {len(names)} names are given: expected one each")
        copies = any(leaf.task for leaf in parse(header.method).leaves(("task",)) if isinstance(leaf.method, XPEFT))
        profiles = {
            task: Profile(self.method, len(self.bank.A), self.model.current) for task in (tasks if copies else [""])
        }
        for task, profile in profiles.items():
            if self.method.mask == "hard":
                bits = tensors.get(f"{_place(task)}.mask", torch.empty(0))
                self.method.look_at(bits, profile.every_mask().bool())
                profile.settle(torch.zeros_like(profile.every_mask(), dtype=torch.bool))
        width = self.model.anatomy.shape.width
        heads = {
            f"heads.{t.name}": torch.nn.Linear(width, t.outputs)
            for t in header.tasks
            if f"heads.{t.name}.weight" in tensors
        }
        modules = {_place(task): profile for task, profile in profiles.items()} | heads
        ours = {f"{at}.{n}": t for at, module in modules.items() for n, t in module.state_dict().items()}
        fill(ours, tensors, source)
        copied = {name: _copied(head) for name, head in heads.items()}
        one = next(iter(copied.values()), self._head)  # that all tasks have, where they have one
        for task, name in zip(tasks, names, strict=True):
            self.held[name] = _held(profiles[task if copies else ""], copied.get(f"heads.{task}", one))
        return names

    def _fits(self, header: Header, source: str) -> None:
        model = self.model
        if (theirs := _one(parse(header.method), ("task",))) != self.method:
            raise DeltaError(f"{source}: a profile of {theirs}, and these are of {self.method}: serve it beside its like")
        for said, theirs, ours in [
            ("pooling", header.pooling, model.pooling),
            ("weights of digest", header.weights, model.weights_digest),
            *((f"{key!r} of digest", header.parts.get(key), part.digest) for key, part in model.parts.items()),
        ]:
            if theirs != ours:
                raise DeltaError(
                    f"{source}: a profile of {said} {short(theirs)}, and here it is {ours!r}: serve it beside its like"
                )

    @torch.no_grad()
    def __call__(self, names: Sequence[str], inputs: dict[str, Tensor]) -> list[Tensor]:
        """What the head of each row's profile says: (outputs,) for each row, with the same numbers as alone.

        names: the profile of each row of `inputs`.

        Raises:
            UsageError: a profile that is not held, or another number of names than of rows.
        """
        rows = len(inputs["input_ids"])
        if unknown := [name for name in names if name not in self.held]:
            raise UsageError(f"there is no profile {short(unknown[0])} among {len(self.held)}: add its delta first")
        if len(names) != rows:
            raise UsageError(f"{len(names)} profiles are named for {rows} rows: expected one for each row")
        found = {name: self.held[name] for name in names}
        place = {name: i for i, name in enumerate(found)}
        masks, gamma, beta = (
            torch.stack(t) for t in zip(*((self._weights(h), h.gamma, h.beta) for h in found.values()), strict=True)
        )
        row = torch.tensor([place[name] for name in names], device=masks.device)
        self.bank.mixed = Mixed(self.bank, masks, gamma, beta, row)
        try:
            features = self.model.features(inputs)
        finally:
            self.bank.mixed = None
        return [F.linear(x, found[name].weight, found[name].bias) for x, name in zip(features, names, strict=True)]

    def _weights(self, held: Held) -> Tensor:
        """What a profile's masks weigh: (1 or 2, L, N)."""
        if self.method.mask == "soft":
            return held.masks
        like = torch.empty(*held.masks.shape[:-1], self.method.adapters, dtype=torch.bool)
        return unpacked(held.masks, like).to(held.gamma) / self.method.k


def _one(method: Expression, tasks: tuple[str, ...]) -> XPEFT:
    """The X-PEFT of an expression that has nothing else."""
    leaves = {leaf.method for leaf in method.leaves(tasks) if not isinstance(leaf.method, HeadOnly)}
    (one,) = leaves if len(leaves) == 1 else (None,)
    if not isinstance(one, XPEFT):
        raise UsageError(f"{method} is not XPEFT(...) or PerTask(XPEFT(...)): such profiles alone can be mixed in a batch")
    return one


def _place(task: str) -> str:
    """Where a profile lies in a delta."""
    return f"shared.xpeft__{task}__profile" if task else "shared.xpeft__profile"


def _copied(head: torch.nn.Module) -> Head:
    weight, bias = (t.detach().clone() for t in head.parameters())
    return weight, bias


def _held(profile: Profile, head: Head) -> Held:
    masks = packed(profile.every_mask().detach().cpu())
    gamma, beta = (t.detach().clone() for t in profile.norms())
    return Held(masks.to(gamma.device).clone(), gamma, beta, *head)
