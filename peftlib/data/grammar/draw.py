"""Random choices that are the same on every Python version.

Only ``random.Random.random()`` is promised to stay the same for a seed; ``choice`` and ``shuffle`` are not.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def pick(rng: random.Random, items: Sequence[T]) -> T:
    """One item, uniformly."""
    return items[int(rng.random() * len(items))]


def weighted(rng: random.Random, items: Sequence[tuple[T, float]]) -> T:
    """One item of ``(item, weight)`` pairs, in proportion to the weights."""
    point = rng.random() * sum(weight for _, weight in items)
    for item, weight in items:
        point -= weight
        if point < 0:
            return item
    return items[-1][0]


def sample(rng: random.Random, items: Sequence[T], k: int) -> list[T]:
    """``k`` different items, in random order."""
    pool = list(items)
    return [pool.pop(int(rng.random() * len(pool))) for _ in range(k)]


def sentence(text: str, end: str = ".") -> str:
    """Capital at the start, one mark at the end, single spaces, "an" before a vowel (the lexicon has no "hour")."""
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", " ".join(text.split()))
    return text[0].upper() + text[1:] + end
