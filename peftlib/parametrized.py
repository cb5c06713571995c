"""Tensors of a backbone as functions of trained numbers, through `torch.nn.utils.parametrize`."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.utils import parametrize

from peftlib.edits import Edited, Inside, Replaced
from peftlib.errors import UsageError

Place = tuple[nn.Module, str]  # a module, and the name of its tensor


def carries_a_method(backbone: nn.Module) -> bool:
    """Has a method that is not merged put something into the backbone?"""
    return any(isinstance(m, Edited | Inside | Replaced | parametrize.ParametrizationList) for m in backbone.modules())


def own_parameters(backbone: nn.Module) -> list[nn.Parameter]:
    """The backbone's own parameters, without those of edits and of what its tensors are functions of."""
    added = {
        id(p)
        for m in backbone.modules()
        if isinstance(m, Edited | Inside | parametrize.ParametrizationList)
        for part in (m.edits if isinstance(m, Edited) else m).children()
        for p in part.parameters()
    }
    return [p for p in backbone.parameters() if id(p) not in added]


def own_tensors(backbone: nn.Module) -> list[tuple[Tensor, list[Place]]]:
    """The backbone's own parameters, each with every place that holds it (tied embeddings).

    Raises:
        UsageError: some are functions of another method's numbers already.
    """
    if any(isinstance(m, parametrize.ParametrizationList) for m in backbone.modules()):
        raise UsageError(
            "a method that reparametrises the backbone's own tensors (FishMask, IntrinsicSAID, DiffPruning) can be "
            "neither repeated nor combined with another one: write one of them, once"
        )
    found: dict[int, tuple[Tensor, list[Place]]] = {id(p): (p, []) for p in own_parameters(backbone)}
    for module in backbone.modules():
        for name, p in module._parameters.items():
            if id(p) in found:
                found[id(p)][1].append((module, name))
    return list(found.values())


def original(module: nn.Module, name: str) -> Tensor | None:
    """A module's own tensor of that name, if it has one, whatever a method makes of it."""
    if isinstance(module, Replaced) and name == "weight":
        return module.outline
    chains = getattr(module, "parametrizations", {})
    return chains[name].original if name in chains else getattr(module, name, None)


def register(places: Iterable[Place], change: nn.Module) -> None:
    """Let a tensor, at all its places, be what `change` makes of it: from now on ``change(original)`` at every look."""
    for module, name in places:
        # Unsafe: without a first try of the change at every place, to see that size and type stay what they are.
        parametrize.register_parametrization(module, name, change, unsafe=True)


def unregister(backbone: nn.Module, changes: list[nn.Module], fold: bool) -> None:
    """Take changes off, with what they make of the tensors or without it."""
    folded: list[nn.Module] = []
    for module in list(backbone.modules()):
        for name, chain in list(getattr(module, "parametrizations", {}).items()):
            change = chain[0]
            if any(change is ours for ours in changes):
                # Tied tensors share the original: it takes the change once.
                keep = fold and not any(change is done for done in folded)
                _separate(module)
                parametrize.remove_parametrizations(module, name, leave_parametrized=keep)
                folded.append(change)


def _separate(module: nn.Module) -> None:
    """Give a parametrized module a class of its own: torch takes a tensor's property off the class, which copies of a
    model share."""
    shared = type(module)
    own = {name: value for name, value in vars(shared).items() if name not in ("__dict__", "__weakref__")}
    module.__class__ = type(shared.__name__, shared.__bases__, own)
