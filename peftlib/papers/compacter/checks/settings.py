"""Claims about what is varied: examples, learning rate, n and d', the output layer, the size of the model."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from peftlib.papers import paper_table
from peftlib.papers.compacter.checks.claims import CLAIMS, Found, behind_full, points
from peftlib.papers.compacter.checks.evidence import (
    BY_N,
    COMPACTER,
    FEW,
    FROZEN,
    FULL,
    GLUE,
    PLUSPLUS,
    PROMPTS,
    RATES,
    SAID,
    SIZES,
    SMALL_FULL,
    SMALLER,
    TUNED,
    Evidence,
    Suite,
)
from peftlib.papers.compacter.pages import lowdata
from peftlib.report import verdicts
from peftlib.report.verdicts import Unknown, Untestable


# --- few examples -----------------------------------------------------------------------------------------------------
def _by_size(evidence: Evidence, key: str = "average") -> dict[int, tuple[float, float]]:
    """A number of full fine-tuning and of Compacter++, by examples a task."""
    rows = evidence.rows(FEW)
    sizes = lowdata.sizes(rows.labels)
    if not sizes:
        raise Unknown(FEW)
    return {size: (rows.of(f"{FULL}, {size}", key), rows.of(f"{PLUSPLUS}, {size}", key)) for size in sizes}


def _leads(evidence: Evidence) -> tuple[list[float], str]:
    found = {size: own - full for size, (full, own) in _by_size(evidence).items()}
    return list(found.values()), points({f"{size:,} examples": lead for size, lead in found.items()},
                                        evidence.rows(FEW).margin)


@CLAIMS.check("A4", "I6", "C4")
def better_with_little_data(evidence: Evidence) -> Found:
    leads, said = _leads(evidence)
    return statistics.fmean(leads) > 0 and leads[0] > 0, f"Compacter++ to full fine-tuning: {said}"


@CLAIMS.check("L1")
def far_better_with_little_data(evidence: Evidence) -> Found:
    leads, said = _leads(evidence)
    return leads[0] > evidence.rows(FEW).margin, f"Compacter++ to full fine-tuning: {said}"


@CLAIMS.check("A7")
def full_tuning_is_unstable(evidence: Evidence) -> Found:
    spreads = _by_size(evidence, "spread")
    full, own = (statistics.fmean(pair) for pair in zip(*spreads.values(), strict=True))
    return full > own, (f"standard deviation over seeds, mean of {len(spreads)} sizes: full fine-tuning {full:.2f}, "
                        f"Compacter++ {own:.2f}")


# --- the learning rate -------------------------------------------------------------------------------------------------
@CLAIMS.check("G9")
def prompts_feel_their_rate(evidence: Evidence) -> Found:
    rows = evidence.rows(RATES)
    lost = {label: _lost_beside_the_best(rows, label) for label in rows.labels}
    prompts = statistics.fmean(lost[label] for label in PROMPTS)
    others = statistics.fmean(lost[label] for label in rows.labels if label not in PROMPTS)
    return prompts > others, (f"one step of the grid away from the best learning rate costs prompt tuning {prompts:.2f} "
                              f"points, the other methods {others:.2f} on average")


def _lost_beside_the_best(rows: verdicts.Rows, label: str) -> float:
    """Points lost, on average, one step of the grid away from the best learning rate."""
    found = list(rows.values.get(label, {}).values())
    if len(found) < 2:
        raise Unknown(f"several rates for {label!r} of {rows.name}")
    best = found.index(max(found))
    beside = [found[i] for i in (best - 1, best + 1) if 0 <= i < len(found)]
    return found[best] - statistics.fmean(beside)


# --- sizes and the output layer ---------------------------------------------------------------------------------------
@CLAIMS.check("B1")
def larger_dimension_often_helps(evidence: Evidence) -> Found:
    rows = evidence.rows(SIZES)
    found = list(rows.column(rows.named(SAID), "average").values())
    up = [b > a for a, b in zip(found, found[1:], strict=False)]
    return sum(up) > len(up) / 2, f"{sum(up)} of {len(up)} steps go up: {', '.join(f'{x:.2f}' for x in found)}"


@CLAIMS.check("B2")
def best_dimension_depends_on_task(evidence: Evidence) -> Found:
    rows = evidence.rows(SIZES)
    if len(rows.test_rows) < 2:
        raise Untestable(f"{len(rows.test_rows)} task of GLUE: nothing to differ from")
    found = {task: rows.column(rows.named(SAID), task) for task in rows.test_rows}
    best = {task: max(column, key=column.get).partition("d'=")[2].rstrip(")") for task, column in found.items()}
    return len(set(best.values())) > 1, "best d': " + ", ".join(f"{task} {d}" for task, d in best.items())


@CLAIMS.check("B11")
def best_n_on_glue(evidence: Evidence) -> Found:
    return _best_n(evidence.rows(SIZES), ("PHM-Adapter (n=12)", COMPACTER, PLUSPLUS))


@CLAIMS.check("D1")
def best_n_on_superglue(evidence: Evidence) -> Found:
    return _best_n(evidence.rows(BY_N), ("PHM-Adapter (n=4)", "Compacter (n=12)", "Compacter++ (n=12)"))


def _best_n(rows: Suite, expected: Sequence[str]) -> Found:
    holds, said = True, []
    for label in expected:
        found = rows.column(rows.named(label.partition(" (")[0]), "average")
        best = max(found, key=found.get)
        holds &= best == label
        said.append(f"{best} {found[best]:.2f}, {max(found.values()) - min(found.values()):.2f} above the worst n")
    return holds, "; ".join(said)


def _gains(evidence: Evidence, labels: Iterable[str]) -> dict[str, float]:
    """Points that training the output layer adds, by row."""
    tuned, frozen = evidence.rows(TUNED), evidence.rows(FROZEN)
    return {label: tuned.of(label, "average") - frozen.of(label, "average") for label in labels}


def _gains_are_small(evidence: Evidence, names: Sequence[str]) -> Found:
    rows = evidence.rows(FROZEN)
    gains = _gains(evidence, [label for name in names for label in rows.named(name)])
    if not gains:
        raise Unknown(FROZEN)
    return max(map(abs, gains.values())) <= rows.margin, f"with the output layer trained: {points(gains, rows.margin)}"


@CLAIMS.check("O2")
def adapter_gains_most(evidence: Evidence) -> Found:
    shown = paper_table("compacter", "table1")["method"]
    gains = _gains(evidence, [label for label in evidence.rows(TUNED).labels if label in set(shown)])
    return max(gains, key=gains.get) == "Adapter", f"with the output layer trained: {points(gains)}"


@CLAIMS.check("O3")
def ours_need_no_output_layer(evidence: Evidence) -> Found:
    return _gains_are_small(evidence, ("PHM-Adapter", "Compacter", "Compacter++"))


@CLAIMS.check("G3")
def frozen_output_hurts_adapters(evidence: Evidence) -> Found:
    gain, rows = _gains(evidence, ["Adapter"])["Adapter"], evidence.rows(FROZEN)
    return gain > rows.margin, f"{points({'Adapter with its output layer trained': gain}, rows.margin)}"


@CLAIMS.check("G16")
def output_layer_gives_little(evidence: Evidence) -> Found:
    return _gains_are_small(evidence, ("PHM-Adapter", "Compacter++"))


# --- a smaller model --------------------------------------------------------------------------------------------------
@CLAIMS.check("E1")
def all_lag_on_small(evidence: Evidence) -> Found:
    rows = evidence.rows(SMALLER)
    gaps = behind_full(rows, rows.efficient(), SMALL_FULL)
    best = max(gaps, key=gaps.get)
    return gaps[best] < 0, f"the best, {best}, is {gaps[best]:+.2f} to full fine-tuning"


@CLAIMS.check("E2")
def larger_model_closes_the_gap(evidence: Evidence) -> Found:
    best = []
    for experiment, full in ((SMALLER, SMALL_FULL), (GLUE, FULL)):
        rows = evidence.rows(experiment)
        best.append((max(behind_full(rows, rows.efficient(), full).values()), rows.margin))
    (small, close_small), (base, close) = best
    return small < -close_small and base >= -close, (
        f"best efficient method to full fine-tuning: {small:+.2f} on the smaller model (margin {close_small:.2f}), "
        f"{base:+.2f} on the larger (margin {close:.2f})")


@CLAIMS.check("E3")
def adapters_and_ours_lead_on_small(evidence: Evidence) -> Found:
    rows = evidence.rows(SMALLER)
    others = rows.column([*PROMPTS, SAID, "BitFit"], "average")
    first = rows.column([label for label in rows.efficient() if label not in others], "average")
    worst, best = min(first, key=first.get), max(others, key=others.get)
    return first[worst] > others[best], (
        f"their lowest is {worst} with {first[worst]:.2f}, the best other {best} with {others[best]:.2f}")
