"""Every method as a point: what it scores, with an interval, and what it costs. For home and for choosing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from peftlib.expressions import names, parse
from peftlib.methods import METHODS
from peftlib.report import commonest, pages, style
from peftlib.report.efficiency import benchmark
from peftlib.report.tables import by_label, scores

# What two libraries call the methods that they have: Hugging Face's peft and AdapterHub's adapters.
ELSEWHERE = {
    "peft": {
        "LoRA": "LoraConfig",
        "AdaLoRA": "AdaLoraConfig",
        "PrefixTuning": "PrefixTuningConfig",
        "PromptTuning": "PromptTuningConfig",
        "LayerNormTuning": "LNTuningConfig",
    },
    "adapters": {
        "Houlsby": "DoubleSeqBnConfig",
        "PfeifferFFN": "SeqBnConfig",
        "AdapterDrop": "leave_out",
        "Compacter": "CompacterConfig",
        "CompacterPlusPlus": "CompacterPlusPlusConfig",
        "LoRA": "LoRAConfig",
        "PrefixTuning": "PrefixTuningConfig",
        "PromptTuning": "PromptTuningConfig",
    },
}
COMBINED = "combined"
Z = 1.959964  # of a 95 % interval of a normal distribution


@dataclass(frozen=True)
class Score:
    """A test score with the ends of its 95 % interval, and its standard error. n: seeds."""

    mean: float
    low: float
    high: float
    error: float
    n: int


@dataclass(frozen=True)
class Point:
    """A method of experiment "methods/sst". stored: parameters a task keeps. memory, time: of a training step, as multiples
    of full fine-tuning's in the benchmark of one step (None: not measured there). merges: can it be folded into the
    backbone's weights? page: its page's address, if it has one."""

    label: str
    method: str
    name: str
    family: str
    score: Score
    stored: int
    memory: float | None
    time: float | None
    merges: bool
    page: str | None


def score(records: Sequence[dict], task: str) -> Score | None:
    """The mean test accuracy over seeds; None without records.

    Its error joins that of the test rows, binomial, with that of the seeds; a single seed has no spread, which its interval
    does not contain.
    """
    found = scores(records, task, "test")
    if found is None:
        return None
    run = records[0]["run"]
    rows = run["limits"][2] or 1000
    share = max(found.mean * (1 - found.mean), 1e-9)
    error = math.hypot(math.sqrt(share / rows), (found.sd or 0.0) / math.sqrt(found.n))
    return Score(found.mean, found.mean - Z * error, found.mean + Z * error, error, found.n)


def points(source: Sequence[dict], task: str) -> list[Point]:
    """A point for each row that has run, the highest score first."""
    found = []
    for label, records in by_label(source).items():
        reached = score(records, task)
        if reached is None:
            continue
        method = records[0]["run"]["method"]
        parts = names(method)
        step = cost(method)
        found.append(
            Point(
                label,
                method,
                style.of(method).name,
                METHODS[parts[0]].family if len(parts) == 1 else COMBINED,
                reached,
                records[0]["counts"]["stored"],
                step.get("memory"),
                step.get("time"),
                all(METHODS[part].mergeable for part in parts),
                pages.page_of(method),
            )
        )
    return sorted(found, key=lambda point: -point.score.mean)


def cost(method: str) -> dict[str, float]:
    """``time`` and ``memory`` of a training step relative to full fine-tuning, from ``benchmarks/results/step.json``: of
    this configuration if it was measured, else of the first one of the same methods; empty if there is none."""
    result = benchmark("step")
    if result is None or "Full()" not in result["methods"]:
        return {}
    measured = {str(parse(name)): found["ours"] for name, found in result["methods"].items()}
    alike = [found for name, found in measured.items() if names(name) == names(method)]
    step, full = measured.get(str(parse(method)), alike[0] if alike else None), measured["Full()"]
    if step is None:
        return {}
    return {"time": step["milliseconds"] / full["milliseconds"], "memory": step["peak_bytes"] / full["peak_bytes"]}


def commonest_score(source: Sequence[dict], task: str) -> float | None:
    """What the commonest label scores on the test rows of the runs that were asked for; None if that is not known."""
    run = next(iter(getattr(source, "wanted", ())), None)
    known = commonest.scores(run, task) if run else None
    return known["accuracy"] if known else None


def level_with_best(found: Sequence[Point]) -> list[Point]:
    """Those whose difference to the highest score has an interval that contains zero, the highest among them."""
    if not found:
        return []
    best = found[0].score
    return [point for point in found if best.mean - point.score.mean <= Z * math.hypot(best.error, point.score.error)]


def front(found: Sequence[Point]) -> list[Point]:
    """Those that no other beats in one of score, stored parameters, memory and time without losing in another. What was not
    measured of either is not compared."""

    def beats(other: Point, mine: Point) -> bool:
        pairs = [(-other.score.mean, -mine.score.mean), (other.stored, mine.stored)]
        measured = [(other.memory, mine.memory), (other.time, mine.time)]
        pairs += [(theirs, ours) for theirs, ours in measured if theirs is not None and ours is not None]
        return all(theirs <= ours for theirs, ours in pairs) and any(theirs < ours for theirs, ours in pairs)

    return [point for point in found if not any(beats(other, point) for other in found)]


def elsewhere(method: str, library: str) -> str | None:
    """What "peft" or "adapters" calls an expression's one method; None if it lacks it."""
    parts = names(method)
    return ELSEWHERE[library].get(parts[0]) if len(parts) == 1 else None
