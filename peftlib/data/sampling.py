"""In which order tasks and examples are seen.

Multi-task training takes one batch of one task at a time: every batch of every task once an epoch, in random order
("proportional"); the tasks in turn ("round_robin"); or drawn with replacement ("temperature"), so that by chance a task
may be seen more or less often than it has batches. With temperature T the task i of n_i batches is drawn with

    p_i = n_i^(1/T) / sum_j n_j^(1/T)

(HyperFormer, "Sampling tasks", which uses T = 10): T = 1 is proportional to size, T to infinity is uniform.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Literal

import numpy as np

from peftlib.errors import UsageError

STRATEGIES = ("temperature", "proportional", "round_robin")
BUCKET = 50  # batches that are sorted by length together


def probabilities(sizes: Mapping[str, int], temperature: float) -> dict[str, float]:
    """The share of draws of each task. Raises ``UsageError`` for no tasks, a size below 1 or a temperature not above
    0."""
    if not sizes:
        raise UsageError("no tasks to sample from; expected at least one name with its number of batches")
    for name, size in sizes.items():
        if not size >= 1:
            raise UsageError(f"task {name!r} has {size!r} batches; expected at least 1")
    if not temperature > 0:
        raise UsageError(f"temperature must be above 0 (1 is proportional, larger is more even); got {temperature!r}")
    largest = max(sizes.values())
    # Relative to the largest, so that a small temperature does not overflow.
    weights = {name: math.exp(math.log(size / largest) / temperature) for name, size in sizes.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def task_order(
    sizes: Mapping[str, int],
    strategy: Literal["temperature", "proportional", "round_robin"],
    steps: int,
    temperature: float = 10.0,
    seed: int = 0,
) -> list[str]:
    """The task of each of ``steps`` training steps.

    ``sizes``: batches of each task. "temperature" draws with replacement by ``probabilities``; "proportional" goes through
    all batches once, in random order, before it goes through them again; "round_robin" takes the tasks in turn, in the
    order of ``sizes``.
    """
    if strategy not in STRATEGIES:
        raise UsageError(f"unknown sampling strategy {strategy!r}; expected one of {', '.join(STRATEGIES)}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise UsageError(f"steps must be a whole number of at least 0; got {steps!r}")
    shares = probabilities(sizes, temperature)
    names, rng = list(shares), _generator("tasks", seed)
    if strategy == "round_robin":
        return list(islice(cycle(names), steps))
    if strategy == "proportional":
        every = np.repeat(np.arange(len(names)), list(sizes.values()))
        passes = [every[np.argsort(rng.random(len(every)), kind="stable")] for _ in range(-(-steps // len(every)))]
        return [names[i] for i in np.concatenate([every[:0], *passes])[:steps]]
    points = rng.random(steps)
    # The last bound may fall short of 1 by rounding: whatever lies above it belongs to the last task.
    drawn = np.searchsorted(np.cumsum(list(shares.values()))[:-1], points, side="right")
    return [names[i] for i in drawn]


def batches(
    lengths: Sequence[int] | np.ndarray, batch_size: int, seed: int, epoch: int, sort: bool = True, passes: int = 0
) -> list[list[int]]:
    """The rows of each batch of one epoch: every row exactly once, the same for the same seed, epoch and pass. passes: over
    all rows that came before in the same epoch.

    Rows are shuffled; with ``sort`` they are then sorted by length inside buckets of 50 batches, so that a batch wastes
    little padding while its company still changes from epoch to epoch; the batches are shuffled again. The batch that is
    not full, if any, is among them.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise UsageError(f"batch_size must be a whole number of at least 1; got {batch_size!r}")
    rng = _generator("batches", seed, epoch, *([passes] if passes else []))
    rows = np.argsort(rng.random(len(lengths)), kind="stable")
    if sort:
        sizes, bucket = np.asarray(lengths), BUCKET * batch_size
        parts = [rows[start : start + bucket] for start in range(0, len(rows), bucket)]
        # The sort is stable: rows of one length stay in their shuffled order.
        rows = np.concatenate([part[np.argsort(sizes[part], kind="stable")] for part in parts]) if parts else rows
    cut = [rows[start : start + batch_size].tolist() for start in range(0, len(rows), batch_size)]
    return [cut[i] for i in np.argsort(rng.random(len(cut)), kind="stable")]


def _generator(*key: str | int) -> np.random.Generator:
    """A stream of its own for each use, seed and epoch. PCG64's ``random`` is the same on every numpy version."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
