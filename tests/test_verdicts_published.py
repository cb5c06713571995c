"""What the committed records decide: verdicts that can be signed."""

from __future__ import annotations

import re

import pytest
from test_report import made

from peftlib import study
from peftlib.grids import experiments
from peftlib.papers.adaptbert import checks as adaptbert
from peftlib.report import verdicts
from peftlib.report.evidence import BY_CHANCE


@pytest.fixture(scope="module")
def judged():
    found = {}
    for paper in verdicts.with_ledger():
        names = [name for name in experiments() if name.startswith(f"{paper}/")]
        sources = {name: study.results(name, "published", train=False) for name in names}
        found[paper] = {one.claim.id: one for one in verdicts.of(paper).judged(sources)}
    return found


def test_what_is_undecided_says_what_could_have_been_seen_or_why_nothing_could(judged):
    reasons = (verdicts.SMALLEST, verdicts.NO_RESULT, verdicts.NO_CHOICE, verdicts.AGAINST)
    undecided = [
        (paper, name, one.verdict.why)
        for paper, claims in judged.items()
        for name, one in claims.items()
        if one.verdict.outcome == "undecided"
    ]
    assert undecided
    assert [found for found in undecided if not any(reason in found[2] for reason in reasons)] == []


def test_a_row_that_is_named_after_a_backbone_is_named_with_the_one_that_ran(judged):
    """Counts are of the backbone that the name says; whatever was trained or timed was so on another."""
    for one in judged["compacter"].values():
        scores = [said for said, _ in one.verdict.parts if re.search(r"\b(average|memory|time)\b", said)]
        for said in scores:
            assert not re.search(r"T5-(Base|Small)(?! \(here )(?!, \d+ \(here )", said), said


def test_no_claim_is_reproduced_by_a_row_whose_rate_was_chosen_by_chance(judged):
    by_chance = {name for name, one in judged["compacter"].items() if BY_CHANCE in one.verdict.why}
    assert "G10" in by_chance
    assert all(judged["compacter"][name].verdict.outcome != "reproduced" for name in by_chance)


# --- the search of section 6.2 ----------------------------------------------------------------------------------------
def search_ends(best: str, score: float) -> verdicts.Verdict:
    """AdaptBert's H3, where one trial is better than all others."""
    source = made("adaptbert/section62", lambda run: score if run.label == best else 0.4)
    return adaptbert.CLAIMS.judge("H3", adaptbert.from_records({"adaptbert/section62": source}))


def test_the_best_of_a_few_trials_on_a_few_rows_is_not_where_a_search_ends(monkeypatch):
    """A thousandth more on validation makes another trial the best in nearly every other draw."""
    labels = [run.label for run in made("adaptbert/section62").wanted]
    for best in labels:
        assert search_ends(best, 0.401).outcome == "undecided"


def test_a_search_without_a_trial_near_the_printed_place_could_not_have_ended_there(monkeypatch):
    said = search_ends("trial 5", 0.9)
    assert "none could have ended there" in said.why and said.outcome in ("undecided", "contradicted")
