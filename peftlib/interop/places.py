"""From the modules that a file changes to an expression that changes exactly these."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from peftlib.anatomy import Anatomy, Site
from peftlib.errors import short
from peftlib.methods.base import Expression, Layers, Method, Sum
from peftlib.methods.reparametrized.lora import SITES
from peftlib.tensorfiles import DeltaError


class FormatError(DeltaError):
    """A folder holds no adapter of the library that it is read as, or one that has no counterpart here."""


LARGEST_CONFIG = 1 << 20  # bytes; these libraries write about a thousand
Block = tuple[str, int]  # stack and layer; layer -1 is what is outside the blocks


def read_config(path: Path, whose: str) -> Any:
    """What a configuration's file holds.

    Raises:
        FormatError: it cannot be read.
    """
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise ValueError(f"larger than {LARGEST_CONFIG:,} bytes")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"{path}: cannot be read as {whose} configuration ({short(str(error))})") from error


def paths(backbone: nn.Module) -> dict[int, str]:
    """id of a module -> its path in the untouched backbone."""
    return {id(m): name for name, m in backbone.named_modules()}


def kind(site: Site) -> str:
    """What a method's field `sites` calls a site: the last part of its name, alike in self- and cross-attention."""
    return site.name.split(".")[-1]


def by_path(anatomy: Anatomy) -> dict[str, Site]:
    """The sites of a backbone by the paths of their modules."""
    names = paths(anatomy.model)
    return {names[id(site.module)]: site for site in anatomy.sites}


def expression(
    anatomy: Anatomy, found: dict[str, Method], wanted: tuple[str, ...], source: str, named: Callable[[Site], str] = kind
) -> Expression:
    """The methods that change exactly the modules found, each in the blocks where it is.

    Args:
        found: path of a module -> the method that changes it; a method that has `sites` with one of them.
        wanted: the kinds of sites that the method always changes together, where it has no such field.
        named: what `wanted` calls a site.

    Raises:
        FormatError: modules that no expression changes without changing others.
    """
    sites = by_path(anatomy)
    stray = sorted(found.keys() - sites.keys())
    at: dict[Block, dict[str, list[Method | None]]] = {}
    for path, site in sites.items():
        at.setdefault((site.stack, site.layer), {}).setdefault(named(site), []).append(found.get(path))
    where: dict[Method, list[Block]] = {}
    for block, kinds in at.items():
        here = {name: set(methods) for name, methods in kinds.items() if any(methods)}
        whole = all(len(methods) == 1 and _has(methods, name, wanted) for name, methods in here.items())
        whole = whole and (not wanted or not here or here.keys() == kinds.keys() & set(wanted))
        if not whole:
            stray += [path for path in found if path in sites and (sites[path].stack, sites[path].layer) == block]
        elif here:
            for method in _grouped({name: methods.pop() for name, methods in here.items()}):  # type: ignore[misc]  # None is in none
                where.setdefault(method, []).append(block)
    outside = [block for block, kinds in at.items() if block[1] < 0 and kinds.keys() & set(wanted)]
    terms = [term for method, blocks in where.items() for term in _limited(method, blocks, outside, anatomy)]
    if not stray and terms:
        changed = [blocks for blocks in where.values() if any(layer < 0 for _, layer in blocks)]
        if all(len(blocks) == len(outside) + anatomy.shape.layers for blocks in changed):
            return terms[0] if len(terms) == 1 else Sum(tuple(terms))
        stray = sorted(found)
    name = next((type(method).__name__ for method in found.values()), "a method")
    raise FormatError(
        f"{source}: {short(stray[:3]) if stray else 'nothing'} adapted; {name} here adapts all modules of a kind in a "
        f"block of a {anatomy.model.config.model_type} backbone: {', '.join(wanted or SITES)}"
        + ", always together"
        * bool(wanted)
    )


def _has(methods: set[Method | None], name: str, wanted: tuple[str, ...]) -> bool:
    """Is a kind of site one that these can change?"""
    return all(name in (wanted or getattr(method, "sites", ())) for method in methods)


def _grouped(kinds: dict[str, Method]) -> list[Method]:
    """The methods of one block: those that differ in their sites alone as one."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, method in kinds.items():
        fields = {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}
        groups.setdefault((type(method), *(v for f, v in fields.items() if f != "sites")), []).append(name)
    found = []
    for names in groups.values():
        method = kinds[names[0]]
        chosen = any(f.name == "sites" for f in dataclasses.fields(method))
        ordered = {"sites": tuple(name for name in SITES if name in names)} if chosen else {}
        found.append(dataclasses.replace(method, **ordered))
    return found


def _limited(method: Method, blocks: list[Block], outside: list[Block], anatomy: Anatomy) -> Iterator[Expression]:
    """A method in some blocks; a term for each run of them."""
    if {block for block in blocks if block[1] >= 0} >= set(_all(anatomy)):
        yield method if {*outside} <= {*blocks} else Layers(method)
        return
    for stack in ("encoder", "decoder"):
        layers = sorted(layer for s, layer in blocks if s == stack and layer >= 0)
        depth, both = getattr(anatomy.shape, f"{stack}_layers"), anatomy.shape.decoder_layers > 0
        for start in [layer for layer in layers if layer - 1 not in layers]:
            stop = next(layer for layer in range(start, depth + 1) if layer not in layers)
            yield Layers(method, start, None if stop == depth else stop, stack if both else None)


def _all(anatomy: Anatomy) -> Iterator[Block]:
    for stack in ("encoder", "decoder"):
        yield from ((stack, layer) for layer in range(getattr(anatomy.shape, f"{stack}_layers")))
