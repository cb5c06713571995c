"""Claims about scores on GLUE and SuperGLUE: Tables 1 and 2."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Sequence

from peftlib.papers.compacter.checks.claims import CLAIMS, Found, as_printed, behind_full, points, statement
from peftlib.papers.compacter.checks.evidence import (
    COMPACTER,
    EARLIER,
    FULL,
    GLUE,
    PLUSPLUS,
    PROMPTS,
    SAID,
    SUPERGLUE,
    Evidence,
)
from peftlib.report.verdicts import Untestable, rises

FEWEST = ("cola", "mrpc", "stsb", "rte")  # GLUE's low-resource tasks, section 5


# --- GLUE --------------------------------------------------------------------------------------------------------------
@CLAIMS.check("A2", "G2")
def on_par_on_glue(evidence: Evidence) -> Found:
    rows = evidence.rows(GLUE)
    gaps = behind_full(rows, (COMPACTER, PLUSPLUS))
    percent = evidence.trained("table1", COMPACTER), evidence.trained("table1", PLUSPLUS)
    few = as_printed(percent[0], "5.3.compacter") and as_printed(percent[1], "5.3.plusplus")
    return min(gaps.values()) >= -rows.margin and few, (
        f"{points(gaps, rows.margin)} to full fine-tuning, training {percent[0]:.3f}% and {percent[1]:.3f}%")


@CLAIMS.check("A5")
def better_trade_off(evidence: Evidence) -> Found:
    rows = evidence.rows(GLUE)
    few = evidence.trained("table1", PLUSPLUS)
    leads = {label: rows.lead(label, PLUSPLUS) for label in EARLIER if evidence.trained("table1", label) >= few}
    return max(leads.values()) < 0, f"earlier methods that train more than Compacter++, and their lead: {points(leads)}"


@CLAIMS.check("A6")
def earlier_are_large_or_worse(evidence: Evidence) -> Found:
    rows, limit = evidence.rows(GLUE), evidence.trained("table1", COMPACTER)
    gaps = behind_full(rows, [label for label in EARLIER if evidence.trained("table1", label) <= limit])
    return max(gaps.values()) < 0, f"earlier methods that train at most {limit:.3f}%, to full fine-tuning: {points(gaps)}"


@CLAIMS.check("G1")
def best_efficient_on_glue(evidence: Evidence) -> Found:
    rows = evidence.rows(GLUE)
    earlier = rows.column(EARLIER, "average")
    best = max(earlier, key=earlier.get)
    gaps = {label: rows.lead(label, best) for label in (COMPACTER, PLUSPLUS)}
    return min(gaps.values()) > 0, f"to {best}, the best earlier method: {points(gaps)}"


@CLAIMS.check("G4")
def pfeiffer_beats_adapter(evidence: Evidence) -> Found:
    lead, (own, other) = evidence.rows(GLUE).lead("Pfeiffer-Adapter", "Adapter"), (
        evidence.trained("table1", label) for label in ("Pfeiffer-Adapter", "Adapter"))
    return lead > 0 and own < other, f"{lead:+.2f} with {own:.3f}% instead of {other:.3f}%"


@CLAIMS.check("G5")
def adapterdrop_is_lower(evidence: Evidence) -> Found:
    return _lower(evidence, "AdapterDrop", FULL)


@CLAIMS.check("G6")
def lower_blocks_matter(evidence: Evidence) -> Found:
    return _lower(evidence, "AdapterDrop", "Adapter")


@CLAIMS.check("G7")
def rank_one_is_too_little(evidence: Evidence) -> Found:
    return _lower(evidence, "Adapter-LowRank", "Adapter")


@CLAIMS.check("G13")
def bitfit_is_lower(evidence: Evidence) -> Found:
    return _lower(evidence, "BitFit", FULL)


def _lower(evidence: Evidence, label: str, than: str) -> Found:
    gap = evidence.rows(GLUE).lead(label, than)
    return gap < 0, f"{label} {gap:+.2f} to {than}"


@CLAIMS.check("G8")
def prompts_feel_their_start(evidence: Evidence) -> Found:
    rows = evidence.rows(GLUE)
    gap = rows.lead(*reversed(PROMPTS))
    return abs(gap) > rows.margin, f"{points({'from words instead of at random': gap}, rows.margin)}"


@CLAIMS.check("G10")
def prompts_lag_far(evidence: Evidence) -> Found:
    rows = evidence.rows(GLUE)
    gaps = behind_full(rows, PROMPTS)
    return max(gaps.values()) < -rows.margin, f"{points(gaps, rows.margin)} to full fine-tuning"


@CLAIMS.check("G12")
def prompts_lag_with_little_data(evidence: Evidence) -> Found:
    return _worse_on_small_tasks(evidence, PROMPTS)


@CLAIMS.check("G14")
def bitfit_lags_with_little_data(evidence: Evidence) -> Found:
    return _worse_on_small_tasks(evidence, ("BitFit",))


def _worse_on_small_tasks(evidence: Evidence, labels: Sequence[str]) -> Found:
    """Is a row further behind full fine-tuning on GLUE's low-resource tasks than on the others?"""
    rows = evidence.rows(GLUE)
    if rows.cut is not None:
        raise Untestable(f"training sets are cut to {rows.cut:,} examples: no task has less data than another")
    few, many = ([task for task in rows.test_rows if (task in FEWEST) is low] for low in (True, False))
    if not (few and many):
        raise Untestable("no small task of GLUE to compare with a large one")
    holds, said = True, []
    for label in labels:
        small, large = (statistics.fmean(rows.lead(label, FULL, task) for task in tasks) for tasks in (few, many))
        holds &= small < min(large, 0)
        said.append(f"{label} {small:+.2f} on the small tasks, {large:+.2f} on the others")
    return holds, "; ".join(said)


@CLAIMS.check("G15")
def said_is_close(evidence: Evidence) -> Found:
    rows, percent = evidence.rows(GLUE), evidence.trained("table1", SAID)
    gap = rows.lead(SAID, FULL)
    return gap >= -rows.margin and as_printed(percent, "5.3.said_trained"), (
        f"{points({SAID: gap}, rows.margin)} to full fine-tuning, training {percent:.4f}%")


@CLAIMS.check("G18")
def one_layer_a_block_is_enough(evidence: Evidence) -> Found:
    rows = evidence.rows(GLUE)
    gap, percent = rows.lead(PLUSPLUS, COMPACTER), [evidence.trained("table1", label) for label in (COMPACTER, PLUSPLUS)]
    return abs(gap) <= rows.margin and as_printed(percent[1], "5.3.plusplus"), (
        f"{points({'Compacter++ to Compacter': gap}, rows.margin)}, {percent[1]:.3f}% instead of {percent[0]:.3f}%")


# Claim: (row, statement) of the points that it is below full fine-tuning.
GAPS = {"M7": ("BitFit", "5.5.bitfit_average"), "M11": ("AdapterDrop", "5.5.drop_average"),
        "M16": ("Adapter-LowRank", "5.5.lowrank_average")}


def gap_is_as_printed(claim: str, evidence: Evidence) -> Found:
    """Is a row below full fine-tuning, by what is printed or as near to it as averages can be told apart?"""
    rows, (label, identifier) = evidence.rows(GLUE), GAPS[claim]
    gap, wanted = rows.lead(label, FULL), -abs(statement(identifier))
    return gap < 0 and abs(gap - wanted) <= rows.margin, (
        f"{points({label: gap}, rows.margin)} to full fine-tuning, printed {wanted:+g}")


for _claim in GAPS:
    CLAIMS.check(_claim)(functools.partial(gap_is_as_printed, _claim))


@CLAIMS.check("M1")
def best_two_with_few_parameters(evidence: Evidence) -> Found:
    rows = evidence.rows(GLUE)
    found = rows.column(rows.efficient(), "average")
    order = sorted(found, key=found.get, reverse=True)
    said = ", ".join(f"{label} {found[label]:.2f} at {evidence.trained('table1', label):.3f}%" for label in order[:3])
    return set(order[:2]) == {COMPACTER, PLUSPLUS}, f"best efficient methods: {said}"


@CLAIMS.check("M10")
def pfeiffer_is_on_par(evidence: Evidence) -> Found:
    rows = evidence.rows(GLUE)
    gap = rows.lead("Pfeiffer-Adapter", FULL)
    return -rows.margin <= gap < 0, f"{points({'Pfeiffer-Adapter': gap}, rows.margin)} to full fine-tuning"


@CLAIMS.check("M19")
def prompts_and_said_lag_far(evidence: Evidence) -> Found:
    rows = evidence.rows(GLUE)
    gaps = behind_full(rows, (*PROMPTS, SAID))
    return max(gaps.values()) < -rows.margin, f"{points(gaps, rows.margin)} to full fine-tuning"


# --- SuperGLUE --------------------------------------------------------------------------------------------------------
@CLAIMS.check("A3", "S2")
def better_than_full_on_superglue(evidence: Evidence) -> Found:
    rows = evidence.rows(SUPERGLUE)
    gaps = behind_full(rows, rows.ours())
    return min(gaps.values()) > 0, f"{points(gaps)} to full fine-tuning"


@CLAIMS.check("S1")
def far_better_than_efficient_on_superglue(evidence: Evidence) -> Found:
    rows = evidence.rows(SUPERGLUE)
    others = rows.column([label for label in rows.efficient() if label not in rows.ours()], "average")
    best = max(others, key=others.get)
    gaps = {label: rows.lead(label, best) for label in rows.ours()}
    return min(gaps.values()) > rows.margin, f"to {best}, the best other: {points(gaps, rows.margin)}"


@CLAIMS.check("S3")
def same_pattern_on_superglue(evidence: Evidence) -> Found:
    one, two = ({label.partition(" (")[0]: value for label, value in rows.column(rows.labels, "average").items()}
                for rows in (evidence.rows(GLUE), evidence.rows(SUPERGLUE)))
    return rises((one[name] for name in one), (two[name] for name in one))


@CLAIMS.check("I4")
def best_efficient_and_on_par(evidence: Evidence) -> Found:
    holds, said = True, []
    for experiment in (GLUE, SUPERGLUE):
        rows = evidence.rows(experiment)
        best = max(rows.column(EARLIER, "average").values())
        own = {label: (rows.of(label, "average") - best, rows.lead(label, FULL)) for label in rows.ours()}
        holds &= all(lead > 0 and gap >= -rows.margin for lead, gap in own.values())
        said += [f"{label} {lead:+.2f} to the best earlier method, {gap:+.2f} to full fine-tuning"
                 for label, (lead, gap) in own.items()]
    return holds, "; ".join(said)


@CLAIMS.check("C3")
def comparable_with_full_data(evidence: Evidence) -> Found:
    holds, said = True, []
    for experiment in (GLUE, SUPERGLUE):
        rows = evidence.rows(experiment)
        gaps = behind_full(rows, rows.ours())
        holds &= min(gaps.values()) >= -rows.margin
        said.append(points(gaps, rows.margin))
    return holds, "to full fine-tuning: " + "; ".join(said)
