"""The largest batch whose training step fits a memory budget, on shapes alone.

For a fixed length the peak is the highest of several sums, of which each grows in proportion to the batch: a line, or a few
lines one after the other. So a line through two estimates leads to the answer, or close to it; the answer itself is always
estimated, and so is the batch of one sequence more, which must not fit.
"""

from __future__ import annotations

import re

from peftlib.accounting.estimate import Estimate, estimate
from peftlib.errors import UsageError, short
from peftlib.methods.base import Expression

SECOND = 64  # sequences, beside 1, for the first line: enough for activations to outweigh what a batch does not change
GROWTH = 16  # times the largest batch so far that a line is followed: it may be flat where the optimizer's step is the peak
LARGEST = 100 * 10**12  # bytes of a budget
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def parse_bytes(text: str) -> int:
    """Bytes of a size such as ``24GB`` (24 * 10^9), ``24GiB`` (24 * 2^30) or ``500 MB``.

    Raises:
        UsageError: no number with a unit of bytes, or a size that no machine has.
    """
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([KMGT]i?|)B", text.strip())
    size = round(float(found[1]) * UNITS[found[2]]) if found else 0
    if not 0 < size <= LARGEST:
        raise UsageError(
            f"cannot read the size {short(text)}: expected a number and a unit, such as 24GB or 24GiB, above "
            "0 and up to 100TB"
        )
    return size


def largest_batch(
    method: str | Expression, backbone: str, budget: int, length: int, precision: str = "bf16", **options
) -> Estimate:
    """The step of the largest batch whose peak is within a budget, of which ``batch`` is that number of sequences.

    Args:
        budget: bytes, for tensors alone; what else a device holds (`estimate` leaves it out) must be taken off before.
        method, backbone, length, precision, options: of `estimate`.

    Raises:
        UsageError: not even one sequence fits, or what `estimate` refuses.
    """

    def at(batch: int) -> Estimate:
        return estimate(method, backbone, batch, length, precision, **options)

    tried = [at(1)]
    if tried[0].peak > budget:
        raise UsageError(
            f"a budget of {budget:,} bytes is too small for {method} on {backbone}: one sequence of {length} "
            f"tokens takes {tried[0].peak:,}"
        )
    tried.append(at(SECOND))
    while True:
        fit = sorted((e for e in tried if e.peak <= budget), key=lambda e: e.batch)
        fail = sorted((e for e in tried if e.peak > budget), key=lambda e: e.batch)
        if fail and fail[0].batch == fit[-1].batch + 1:
            return fit[-1]
        most = fail[0].batch - 1 if fail else GROWTH * fit[-1].batch
        tried.append(at(min(max(_guess(fit, fail, len(tried), budget), fit[-1].batch + 1), most)))  # type: ignore[arg-type]  # `most` is finite


def _guess(fit: list[Estimate], fail: list[Estimate], tries: int, budget: int) -> float | int:
    """The batch at which the budget is reached: by the line through the two largest that fit while all do, then through
    the two beside the budget. Where lines bend this creeps, so every other try from the fifth on is the line through the
    two smallest that fail, which lie beyond the bend, or the middle."""
    if not fail:
        return _on_line(*fit[-2:], budget)  # type: ignore[arg-type, call-arg]  # two of them
    if tries < 4 or tries % 2:
        return _on_line(fit[-1], fail[0], budget)
    return _on_line(*fail[:2], budget) if len(fail) > 1 else (fit[-1].batch + fail[0].batch) // 2  # type: ignore[arg-type, call-arg]  # as above


def _on_line(first: Estimate, second: Estimate, budget: int) -> float | int:
    """The batch at which a line through two estimates reaches the budget; without end if it does not rise."""
    rise = (second.peak - first.peak) / (second.batch - first.batch)
    return first.batch + int((budget - first.peak) // rise) if rise > 0 else float("inf")
