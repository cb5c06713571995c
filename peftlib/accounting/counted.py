"""`peftlib.accounting.counting` for pages: what has been counted is kept, and needs no torch.

A count is kept under its method, backbone and tasks until the code of that method, of the counting, or of the backbones
changes, or the versions of the libraries that build a model.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from peftlib import provenance
from peftlib.errors import UsageError
from peftlib.expressions import names
from peftlib.kept import kept
from peftlib.names import split_name

if TYPE_CHECKING:
    from peftlib.anatomy import Shape

Figures = dict[str, str | int | float | bool]
T5_WORDS = 32_100  # published checkpoints of T5 are padded to 32,128


@functools.cache
def count(method: str, backbone: str, tasks: int | tuple[str, ...] = 1) -> SimpleNamespace:
    """What `peftlib.accounting.counting.count` gives: the fields of its ``as_dict``."""

    def compute() -> Figures:
        from peftlib.accounting.counting import count

        return count(method, backbone, tasks).as_dict()

    return SimpleNamespace(**figures("accounting/counting.py", compute, method, backbone, tasks))


@functools.cache
def shape(backbone: str) -> Shape:
    """The sizes of a backbone, as `peftlib.anatomy.Anatomy.shape` gives them."""
    from peftlib.anatomy import Shape

    def compute() -> Figures:
        from peftlib.backbones import anatomy_of

        return dataclasses.asdict(anatomy_of(backbone).shape)

    sizes: dict[str, Any] = figures("backbones.py", compute, "HeadOnly()", backbone)
    return Shape(**sizes)


def unpadded(sizes: Shape) -> int:
    """Parameters of a T5 without what its vocabulary is padded with."""
    return sizes.total - (sizes.vocabulary - T5_WORDS) * sizes.width


_versions = functools.cache(provenance.versions)


def figures(source: str, compute: Callable[[], Figures], method: str, backbone: str, *given: Any) -> Figures:
    """What a function of a file of the package computes for a method on a backbone.

    It is not kept where the sources do not say what decides it: methods that are no part of the package, and backbones in
    folders.
    """
    try:
        sources = provenance.sources_of_methods(names(method), source)
    except UsageError:
        return compute()
    if sources is None or os.path.exists(split_name(backbone)[0]):
        return compute()
    name = json.dumps([source, method, backbone, *given])
    stamp = json.dumps([provenance.code_digest(sources), _versions()])
    return kept(name, stamp, compute, Figures)
