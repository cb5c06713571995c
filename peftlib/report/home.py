"""The book's first page: what was found, which method, where to go, what is still to come. All of it from records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from peftlib import markup, study
from peftlib.grids import Preset, experiments
from peftlib.papers import FOLDER, about, papers
from peftlib.report import choice, declared, verdicts
from peftlib.report.chart import chart, size
from peftlib.report.ledger import SIGNS
from peftlib.report.sentences import readable
from peftlib.report.tables import Html
from peftlib.report.verdicts import Judged, Verdict

TOLD = 3  # outcomes whose numbers are told, in the order of `verdicts.OUTCOMES`; the others are one number
DECIDED = ("reproduced", "contradicted")
LONGEST = 130  # characters of the numbers behind a finding, after which the other comparisons are a number
FINDINGS = 8  # of all papers together: so many fit on one screen
LEAST, MOST = 2, 3  # findings of a paper
LAST = re.compile(r" \([^()]*\)$")  # what a comparison ends with in brackets
PIECES = re.compile(r"; (?![^(]*\))")  # between the comparisons of a verdict; what is in brackets is one of them
WHERE = (
    ("Choose a method", "../survey/choosing.html", "for what must be small, and for how many tasks"),
    ("Check a claim", "../{paper}/claims.html", "each with its verdict, its numbers and its check"),
    ("What would it cost?", "../survey/calculator.html", "parameters, bytes, memory and time on your backbone"),
    ("Learn a method", "../survey/taxonomy.html", "the idea, the equation, the code, a run"),
    ("Run it again", "../../book/rerun.html", "one notebook, or all of it on a cluster"),
)


def judged() -> list[str]:
    """The papers with a ledger of claims."""
    return [paper for paper in papers() if (FOLDER / paper / "claims.toml").is_file()]


def sources(preset: Preset) -> dict[str, dict[str, Sequence[dict]]]:
    """By paper with a ledger, the records of all its experiments. Nothing is trained."""
    return {
        paper: {
            name: study.results(name, preset.name, train=False) for name in experiments() if name.split("/")[0] == paper
        }
        for paper in judged()
    }


def found(by_paper: Mapping[str, Mapping[str, Sequence[dict]]]) -> Html:
    """Per paper: how its claims fared, and what became of those that matter most."""
    parts, lines, each = [], [], min(MOST, max(LEAST, FINDINGS // max(1, len(by_paper))))
    for paper, records in by_paper.items():
        judged = verdicts.of(paper).judged(records)
        name, counts = declared.called(paper), verdicts.tally(verdicts.table(judged))
        outcomes = [(outcome, counts[outcome.replace(" ", "_")]) for outcome in verdicts.OUTCOMES]
        parts.append(
            Markup(
                '<section class="found"><h3><a href="../{0}/claims.html">{1}</a></h3>{2}<ul class="findings">{3}</ul>'
                "</section>"
            ).format(
                paper,
                name,
                _tally(outcomes),
                Markup().join(_finding(one, paper) for one in matters(judged, about(paper).headlines)[:each]),
            )
        )
        lines.append(f"{name}: " + ", ".join(f"{count} {outcome}" for outcome, count in outcomes))
    return Html(Markup('<div class="home-found">{}</div>').format(Markup().join(parts)), "\n".join(lines))


def _tally(outcomes: Sequence[tuple[str, int]]) -> Markup:
    told = Markup().join(
        Markup('<li class="outcome {}"><b>{}</b> <span>{} {}</span></li>').format(
            outcome.replace(" ", "-"), count, SIGNS.get(outcome, ""), outcome
        )
        for outcome, count in outcomes[:TOLD]
    )
    rest = [f"{count} {outcome}" for outcome, count in outcomes[TOLD:] if count]
    more = Markup('<li class="rest">{}</li>').format(", ".join(rest)) if rest else Markup()
    return Markup('<ul class="tally">{}{}</ul>').format(told, more)


def matters(judged: Sequence[Judged], headlines: Sequence[str]) -> list[Judged]:
    """Claims by how much they tell a reader: those that are decided first, among them the paper's headlines in their order,
    then the others in the paper's. What repeats another is left out."""
    once = [one for one in judged if not one.claim.repeats]
    rank = {name: place for place, name in enumerate(headlines)}
    order = sorted(once, key=lambda one: rank.get(one.claim.id, len(rank)))
    return sorted(order, key=lambda one: one.verdict.outcome not in DECIDED)


def _finding(one: Judged, paper: str) -> Markup:
    """A claim, what became of it, and the numbers."""
    outcome, address = one.verdict.outcome, f"../{paper}/claims.html#claim-{one.claim.id}"
    said, more = numbers(one.verdict)
    return Markup(
        '<li><b class="verdict {}">{} {}</b> “{}” <a class="why" href="{}">{}</a>: <small>{}{}</small></li>'
    ).format(
        outcome.replace(" ", "-"),
        SIGNS.get(outcome, ""),
        outcome,
        markup.line(one.claim.says),
        address,
        one.claim.id,
        markup.line(said),
        Markup('; <a href="{}">{} more</a>').format(address, more) if more else "",
    )


def numbers(verdict: Verdict) -> tuple[str, int]:
    """The comparisons behind a verdict, each in whole, and how many are left out.

    Of a claim that is reproduced, all comparisons hold, and the first of them are shown, about `LONGEST` characters; of any
    other all are, as it is not said which of them decides.
    """
    pieces = PIECES.split(readable(verdict.why))
    shown = len(pieces)
    if verdict.outcome == "reproduced":
        while shown > 1 and len("; ".join(pieces[:shown])) > LONGEST:
            shown -= 1
    return _joined(pieces[:shown]), len(pieces) - shown


def _joined(pieces: Sequence[str]) -> str:
    """Comparisons in one sentence, which says once what they begin or end with alike: "trained: A 1; trained: B 2" is
    "trained: A 1, B 2", "A 1 (printed 3); B 2 (printed 3)" is "A 1; B 2 (each: printed 3)"."""
    ends = {last[0] if (last := LAST.search(piece)) else "" for piece in pieces}
    end = ends.pop() if len(pieces) > 1 and len(ends) == 1 else ""
    said, before = "", ""
    for piece in pieces:
        lead, colon, rest = piece.removesuffix(end).partition(": ")
        said += f", {rest}" if colon and lead == before else f"{'; ' if said else ''}{lead}{colon}{rest}"
        before = lead
    return said + end.replace(" (", " (each: ", 1)


def which(records: Sequence[dict]) -> Html:
    """The answer to "which method?": a sentence, and every method as a point."""
    there = choice.points(records)
    if len(there) < 2:
        if not records:
            why = "the comparison of all methods has not been run under this preset"
        elif choice.asked(records):
            why = "fewer than two methods have run on all tasks of the comparison"
        else:
            why = "with so little data as this preset takes, no method can be told from always giving the commonest label"
        text = f"Which method? Nothing to show yet: {why}."
        return Html(Markup("<p><em>{}</em></p>").format(text), text)
    said = _answer(there)
    picture = chart(
        there,
        task=choice.said(records),
        baseline=choice.commonest_score(records),
        caption=f"Every method, one configuration each: {choice.said(records)}, over test rows. Bars are 95 % intervals; "
        "solid points are those that no other beats in score, storage, memory and time. Each leads to its method's page.",
        source=records,
    )
    return Html(said + picture.content, f"{said.striptags()}\n{picture.text}")


def _answer(there: Sequence[choice.Point]) -> Markup:
    """Who is level with the highest score, and who of them stores least; or that nobody can be told from it."""
    level, top, lowest = choice.level_with_best(there), there[0], there[-1]
    if len(level) == len(there):
        return Markup(
            "<p>None of the {} methods can be told from the highest score here, {}'s {:.3f}: it would take a difference of "
            "about {:.2f}, and the lowest, {}'s, is {:.3f} below.</p>"
        ).format(
            len(there), top.name, top.score.mean, choice.visible(there), lowest.name, top.score.mean - lowest.score.mean
        )
    least = min(level, key=lambda point: point.stored)
    return Markup(
        "<p>{} of {} methods are level with the highest score here, {}'s {:.3f}: a difference to it below about "
        '{:.2f} cannot be seen. Of these <a href="{}">{}</a> stores least, {}.</p>'
    ).format(
        len(level),
        len(there),
        top.name,
        top.score.mean,
        choice.visible(there),
        least.page or "#",
        least.name,
        f"{size(least.stored)} parameters a task{_share(least, there)}" if least.stored else "nothing but its head",
    )


def _share(point: choice.Point, there: Sequence[choice.Point]) -> str:
    full = next((other for other in there if other.method == "Full()"), None)
    return f", {point.stored / full.stored:.2%} of what full fine-tuning keeps" if full else ""


def front(by_paper: Mapping[str, Mapping[str, Sequence[dict]]], records: Sequence[dict]) -> Html:
    """All of the first screen."""
    left, right = found(by_paper), which(records)
    links = Markup().join(
        Markup('<li><a href="{}">{}</a> <span>{}</span></li>').format(
            address.format(paper=next(iter(by_paper), "")), name, what
        )
        for name, address, what in WHERE
        if by_paper or "{" not in address
    )
    shown = Markup(
        '<div class="home"><div><h2>What was found</h2>{}</div><div><h2>Which method</h2>{}<h2>Where to go</h2>'
        '<ul class="home-where">{}</ul></div></div><p class="home-coming">{}</p>'
    ).format(left.content, right.content, links, coming())
    return Html(shown, "\n\n".join([left.text, right.text, coming().striptags()]))


def coming() -> Markup:
    """Which papers have no verdicts yet; each leads to the page that recomputes its printed numbers, if it has one."""
    waiting = [paper for paper in papers() if paper not in judged()]
    if not waiting:
        return Markup("All papers have their verdicts.")
    names = [
        Markup('<a href="../{}/errata.html">{}</a>').format(paper, declared.called(paper))
        if (FOLDER / paper / "errata.toml").is_file()
        else Markup("<em>{}</em>").format(declared.called(paper))
        for paper in waiting
    ]
    said = (
        "Still to come: runs for, and verdicts on, the claims of {}. The links lead to their printed numbers, recomputed."
    )
    return Markup(said).format(_listed(names))


def _listed(parts: Sequence[Markup]) -> Markup:
    """ "a", "a and b", "a, b and c"."""
    return Markup(" and ").join([Markup(", ").join(parts[:-1]), parts[-1]] if parts[1:] else parts)
