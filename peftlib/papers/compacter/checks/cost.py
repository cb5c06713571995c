"""Claims about memory and time, alone and together with scores: section 5.5."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from peftlib.papers.compacter.checks.claims import CLAIMS, Found, behind_full, points, statement
from peftlib.papers.compacter.checks.evidence import (
    COMPACTER,
    EARLIER,
    FULL,
    GLUE,
    PLUSPLUS,
    PROMPTS,
    SAID,
    STEP,
    Evidence,
)
from peftlib.papers.compacter.experiments import table3_row
from peftlib.report import verdicts

NEAR = 5.0  # percentage points of a change in memory or time: another machine, backbone and batch than the paper's


def change(rows: verdicts.Rows, label: str, key: str) -> float:
    """Percent by which memory or time differs from full fine-tuning's."""
    return 100 * (rows.of(label, key) / rows.of(FULL, key) - 1)


# Claim: (row, quantity, statement) of each change that it names.
CHANGES = {
    "M3": [("Compacter++", "memory", "5.5.plusplus_memory")],
    "M4": [("Compacter", "time", "5.5.compacter_time"), ("Compacter++", "time", "5.5.plusplus_time")],
    "M6": [("BitFit", "memory", "5.5.bitfit_memory"), ("BitFit", "time", "5.5.bitfit_time")],
    "M14": [(SAID, "memory", "5.5.said_memory"), ("Prompt Tuning", "memory", "5.5.prompt_memory")],
}


def changes_are_as_printed(claim: str, evidence: Evidence) -> Found:
    rows, near, said = evidence.rows(STEP), True, []
    for label, key, identifier in CHANGES[claim]:
        found, wanted = change(rows, label, key), statement(identifier)
        near &= abs(found - wanted) <= NEAR
        said.append(f"{key} of {label} {found:+.1f}%, printed {wanted:+g}%")
    return near, f"{'; '.join(said)} ({rows.name})"


for _claim in CHANGES:
    CLAIMS.check(_claim)(functools.partial(changes_are_as_printed, _claim))


def _order(rows: verdicts.Rows, key: str) -> list[str]:
    """Rows from the least memory or time to the most."""
    found = rows.column(rows.labels, key)
    return sorted(found, key=found.get)


@CLAIMS.check("M2")
def memory_is_second_best(evidence: Evidence) -> Found:
    rows = evidence.rows(STEP)
    order = _order(rows, "memory")
    return order[1] == "Compacter++" and change(rows, "Compacter++", "memory") < 0, (
        f"least memory: {', '.join(order[:3])} ({rows.name})")


@CLAIMS.check("M5")
def bitfit_is_leanest(evidence: Evidence) -> Found:
    rows = evidence.rows(STEP)
    least, fastest = _order(rows, "memory")[0], _order(rows, "time")[0]
    return least == fastest == "BitFit", f"least memory {least}, least time {fastest} ({rows.name})"


@CLAIMS.check("M8")
def fewer_adapters_are_cheaper(evidence: Evidence) -> Found:
    return _cheaper(evidence, ("Pfeiffer-Adapter", "AdapterDrop"), "Adapter")


@CLAIMS.check("M12")
def lowrank_is_cheaper(evidence: Evidence) -> Found:
    return _cheaper(evidence, ("Adapter-LowRank",), FULL)


def _cheaper(evidence: Evidence, labels: Iterable[str], than: str) -> Found:
    rows = evidence.rows(STEP)
    ratios = {(label, key): rows.of(label, key) / rows.of(than, key) for label in labels for key in ("memory", "time")}
    said = ", ".join(f"{key} of {label} {ratio:.2f}" for (label, key), ratio in ratios.items())
    return max(ratios.values()) < 1, f"of {than}'s: {said} ({rows.name})"


@CLAIMS.check("M15")
def prompts_and_said_are_slowest(evidence: Evidence) -> Found:
    rows = evidence.rows(STEP)
    slowest = _order(rows, "time")[-2:]
    return set(slowest) == {SAID, "Prompt Tuning"}, f"slowest: {', '.join(reversed(slowest))} ({rows.name})"


@CLAIMS.check("M20")
def good_in_all_three(evidence: Evidence) -> Found:
    rows, step = evidence.rows(GLUE), evidence.rows(STEP)
    gaps = behind_full(rows, (COMPACTER, PLUSPLUS))
    costs = {f"{key} of {label}": change(step, label, key) for label in ("Compacter", "Compacter++")
             for key in ("memory", "time")}
    said = ", ".join(f"{name} {value:+.1f}%" for name, value in costs.items())
    return min(gaps.values()) >= -rows.margin and max(costs.values()) < 0, (
        f"to full fine-tuning: {points(gaps, rows.margin)}; {said} ({step.name})")


@CLAIMS.check("I1")
def adapters_use_parameters_not_memory(evidence: Evidence) -> Found:
    rows, step = evidence.rows(GLUE), evidence.rows(STEP)
    pair, light = ("Adapter", "Pfeiffer-Adapter"), ("Prompt Tuning", SAID)
    gaps = behind_full(rows, pair)
    more = min(evidence.trained("table1", label) for label in pair) > max(
        evidence.trained("table1", label) for label in (*PROMPTS, SAID))
    lean = max(step.of(label, "memory") for label in pair) < min(step.of(label, "memory") for label in light)
    said = ", ".join(f"memory of {label} {change(step, label, 'memory'):+.1f}%" for label in (*pair, *light))
    return min(gaps.values()) >= -rows.margin and more and lean, (
        f"to full fine-tuning: {points(gaps, rows.margin)}; {said} ({step.name})")


@CLAIMS.check("I2")
def nothing_earlier_is_as_good_in_all(evidence: Evidence) -> Found:
    rows, step = evidence.rows(GLUE), evidence.rows(STEP)
    few, lean = evidence.trained("table1", PLUSPLUS), step.of("Compacter++", "memory")
    rivals = [label for label in EARLIER if rows.lead(label, PLUSPLUS) >= 0 and evidence.trained("table1", label) <= few
              and step.of(table3_row(label), "memory") <= lean]
    return not rivals, (f"earlier methods at least as good as Compacter++ in score, parameters and memory: "
                        f"{', '.join(rivals) or 'none'} ({step.name})")
