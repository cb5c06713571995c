"""Many profiles of `XPEFT` at once: one forward pass over a batch whose rows are of different profiles.

The backbone and the bank are in memory once. A profile is its masks, as bits where they are hard, its norms and its head,
as its delta has them. In each block the adapters of the profiles in a batch are made, used and dropped.

    server = Profiles(deltas.load("ann.safetensors", backbone))  # holds the profiles of this delta, by its tasks' names
    server.add("bob.safetensors", ["bob"])                       # of the same bank
    server(["own", "bob"], inputs)                               # answers, a row each

A profile is taken up where it answers as it does alone: with the same bank, weights and places. How it was trained may
differ.
"""

from __future__ import annotations

import dataclasses
import typing
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.deltas import Header, fill
from peftlib.errors import UsageError, short
from peftlib.methods.adapters.bank import Bank
from peftlib.methods.adapters.xpeft import SITE, XPEFT, Mixed, Profile, profile_of
from peftlib.methods.base import HEAD, Expression, Leaf, parse
from peftlib.methods.baselines import HeadOnly
from peftlib.model import Tuned
from peftlib.tensorfiles import DeltaError, packed, read_tensors, unpacked

if typing.TYPE_CHECKING:
    from typing import Any

    from peftlib.data.tasks import Task

# Fields of `XPEFT`, by the kind of its masks, that a trained profile's outputs do not depend on, but by its own numbers and
# by those of the bank, whose digest is compared. A field that is not named here decides.
TRAINING = ("tau", "nu", "start", "fixed", "seed", "bank")
IDLE = {"soft": (*TRAINING, "k"), "hard": TRAINING}


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
        model: of `XPEFT`, alone or under PerTask, with at most `HeadOnly` beside it, on the device where it is to stay. Its
            tasks are the first profiles. It is put into evaluation mode, and its hard masks are chosen.

    Attributes:
        held: the profiles by name; `del` takes one out.

    Raises:
        UsageError: another method, or answers that are written.
    """

    def __init__(self, model: Tuned):
        self.leaf = _one(model.method)
        if model.form != "heads":
            raise UsageError(f"form {model.form!r} has no heads, which profiles are read by: use form 'heads'")
        self.model = model.eval()
        model.finish()
        ((self._key, self.bank),) = ((key, module) for key, module in model.fixed.items() if isinstance(module, Bank))
        self.held: dict[str, Held] = {}
        heads = {id(head): _copied(head) for head in model.heads.values()}
        self._head = next(iter(heads.values()))  # of all tasks, where they have one
        for leaf, at in model.attachments:
            if isinstance(leaf, XPEFT):
                self._own = profile_of(at)  # the others are of its type and on its device
                for task in model.tasks if at.task is None else [at.task]:
                    self.held[task] = _held(self._own, heads[id(model.heads[task])])

    @property
    def method(self) -> XPEFT:
        """What all profiles have in common; fields that they may differ in are at their defaults."""
        return self.leaf.method  # type: ignore[return-value]  # as `_one` has found it

    @property
    def nbytes(self) -> int:
        """Bytes of all profiles. A head that several have counts once."""
        return sum({t.data_ptr(): t.nbytes for held in self.held.values() for t in vars(held).values()}.values())

    def add(self, path: str | Path, names: Sequence[str] | None = None, replace: bool = False) -> list[str]:
        """Take up the profiles of a delta, one for each of its tasks, all or none; returns their names.

        They lie on the model's device, in the types of its own profiles and heads. Their heads are in the delta, or, where
        its expression has a head that is given, the one that the model is given, too.

        names: by default those of the tasks. replace: profiles of these names that are held are given up.

        Raises:
            DeltaError: no delta, one of another bank, head that is given, backbone, method or place, or tensors that do not
                fit.
            UsageError: other names than there are profiles, one twice, or, without `replace`, one that is held.
        """
        source, (metadata, tensors) = str(path), read_tensors(path)
        header = Header.read(metadata, source)
        try:
            self._fits(header, source)
            found = self._read(header, tensors, source)
        except UsageError as error:
            raise DeltaError(f"{source}: {error}") from error
        names = self._named([task.name for task in header.tasks], names, replace, source)
        self.held |= zip(names, found, strict=True)
        return names

    def _fits(self, header: Header, source: str) -> None:
        """Is a profile of this file served as it answers alone?"""
        model, theirs = self.model, _one(parse(header.method))
        self._same(f"{self._key!r} of digest", header.parts.get(self._key), model.parts[self._key].digest, source)
        for key, digest in header.parts.items():
            if key not in model.parts:
                raise DeltaError(
                    f"{source}: its profiles need a frozen part {short(key)} of digest {short(digest)}, and the model here "
                    f"has {', '.join(map(repr, model.parts))}: expected a head in the file, or a model with this part"
                )
            self._same(f"{key!r} of digest", digest, model.parts[key].digest, source)
        self._same("weights of digest", header.weights, model.weights_digest, source)
        self._same("pooling", header.pooling, model.pooling, source)
        self._same("form", header.form, model.form, source)
        same = theirs == self.leaf or (theirs.method == self.method and self._places(theirs) == self._places(self.leaf))
        if not same:
            raise DeltaError(
                f"{source}: a profile of {_text(theirs)}, and these are of {_text(self.leaf)}: serve it beside its like"
            )

    def _same(self, said: str, theirs: str | None, ours: str | None, source: str) -> None:
        if theirs != ours:
            raise DeltaError(
                f"{source}: a profile of {said} {short(theirs)}, and here it is {ours!r}: serve it beside its like"
            )

    def _places(self, leaf: Leaf) -> list[int]:
        """The modules that a leaf's adapters stand behind."""
        anatomy = self.model.anatomy if leaf.layers is None else self.model.anatomy.only(*leaf.layers.blocks)
        return [id(site.module) for site in anatomy.at(SITE)]

    def _read(self, header: Header, tensors: dict[str, Tensor], source: str) -> list[Held]:
        """The profiles of a file that fits, for each of its tasks."""
        leaves = list(parse(header.method).leaves(tuple(task.name for task in header.tasks)))
        profiles = {leaf.task: self._room(_place(leaf.task), tensors) for leaf in leaves if isinstance(leaf.method, XPEFT)}
        weight, width = self._head[0], self.model.anatomy.shape.width
        heads = {
            task.name: nn.Linear(width, task.outputs, device=weight.device, dtype=weight.dtype)
            for task in _with_heads(header, leaves)
        }
        modules: dict[str, nn.Module] = {_place(task): profile for task, profile in profiles.items()}
        modules |= {f"heads.{task}": head for task, head in heads.items()}
        fill({f"{at}.{n}": t for at, module in modules.items() for n, t in module.state_dict().items()}, tensors, source)
        copied = {task: _copied(head) for task, head in heads.items()}
        one = next(iter(copied.values()), self._head)  # that all tasks have, where they have one
        profiles |= {task.name: profiles[None] for task in header.tasks if None in profiles}
        return [_held(profiles[task.name], copied.get(task.name, one)) for task in header.tasks]

    def _room(self, place: str, tensors: dict[str, Tensor]) -> Profile:
        """A profile for the numbers of a file, whose mask is looked at."""
        like = self._own.gamma
        with like.device:
            profile = Profile(self.method, len(self.bank.A), self.model.current).to(like.dtype)
        if self.method.mask == "hard":
            mask = torch.zeros_like(profile.every_mask(), dtype=torch.bool)
            self.method.look_at(tensors.get(f"{place}.mask", torch.empty(0)), mask)
            profile.settle(mask)
        return profile

    def _named(self, tasks: list[str], names: Sequence[str] | None, replace: bool, source: str) -> list[str]:
        names = tasks if names is None else list(names)
        if len(names) != len(tasks):
            raise UsageError(f"{source} holds {len(tasks)} profiles, and {len(names)} names are given: expected one each")
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise UsageError(f"{source}: several profiles are to be {short(twice[0])}: give each a name of its own")
        if not replace and (there := [name for name in names if name in self.held]):
            raise UsageError(
                f"{source}: there is a profile {short(there[0])} already: give another name, add(path, names=[...]), or "
                "pass replace=True to give up the one that is held"
            )
        return names

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


def _one(method: Expression) -> Leaf:
    """The X-PEFT of an expression that has nothing else, and the blocks that it is limited to. Fields that its outputs do
    not depend on are at their defaults."""
    leaves = [leaf for leaf in method.leaves(("task",)) if not isinstance(leaf.method, HeadOnly)]
    xpeft = leaves[0].method if len(leaves) == 1 else None
    if not isinstance(xpeft, XPEFT):
        raise UsageError(f"{method} is not XPEFT(...) or PerTask(XPEFT(...)): such profiles alone can be mixed in a batch")
    idle: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(xpeft) if f.name in IDLE[xpeft.mask]}
    served, layers = dataclasses.replace(xpeft, **idle), leaves[0].layers
    return Leaf(served, layers=layers and dataclasses.replace(layers, method=served))


def _text(leaf: Leaf) -> str:
    return str(leaf.layers or leaf.method)


def _with_heads(header: Header, leaves: list[Leaf]) -> tuple[Task, ...]:
    """The tasks whose heads a file holds: each, the first where they have one, none where that is given."""
    if any(key.endswith(f"__{HEAD}") for key in header.parts):
        return ()
    shared = any(isinstance(leaf.method, HeadOnly) and leaf.method.shared for leaf in leaves)
    return header.tasks[:1] if shared else header.tasks


def _place(task: str | None) -> str:
    """Where a profile lies in a delta."""
    return f"shared.xpeft__{task}__profile" if task else "shared.xpeft__profile"


def _copied(head: nn.Module) -> Head:
    weight, bias = (t.detach().clone() for t in head.parameters())
    return weight, bias


def _held(profile: Profile, head: Head) -> Held:
    masks = packed(profile.every_mask().detach().cpu())
    gamma, beta = (t.detach().clone() for t in profile.norms())
    return Held(masks.to(gamma.device).clone(), gamma, beta, *head)
