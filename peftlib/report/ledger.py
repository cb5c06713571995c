"""The claim ledger as a page shows it: one row a claim, its verdict first, what it rests on folded below.

Each row has an address of its own (``#claim-A2``). Without scripts everything is there, folded; ``book/_static/ledger.js``
adds the filters, ``ledger.css`` the looks.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from peftlib import markup
from peftlib.report import verdicts
from peftlib.report.tables import Html, provenance
from peftlib.report.verdicts import OUTCOMES, Claims, Judged, Verdict

SIGNS = dict(zip(OUTCOMES, ("✓", "✗", "?", "–", "…"), strict=True))  # an outcome is told by a sign and a word
SAME = "↪"


def show(paper: str, judged: Sequence[Judged], source: Sequence[dict]) -> Html:
    """A ledger. judged: of `peftlib.report.verdicts.Claims.judged`. source: the records behind it.

    Raises:
        UsageError: a paper without a ledger.
    """
    claims, found = verdicts.of(paper), verdicts.table(judged)
    counted = verdicts.tally(found)
    rows = Markup("\n").join(_row(claims, one) for one in judged)
    foot = provenance(source)
    content = Markup('<div class="ledger">\n{}\n{}\n<p class="source"><small>{}</small></p></div>').format(
        _filters(judged, counted), rows, foot
    )
    text = "\n".join(f"{row['verdict']:>20}  {row['id']:<4} {row['claim']}" for row in found.to_dict("records"))
    return Html(content, f"{text}\n{foot}")


def _filters(judged: Sequence[Judged], counted: dict[str, int]) -> Markup:
    """Two lists to choose from, which the script shows and obeys."""
    outcomes = [(name, f"{name} ({counted[name.replace(' ', '_')]})") for name in OUTCOMES]
    sections = [(name, name) for name in dict.fromkeys(one.claim.section for one in judged)]
    both = Markup().join(
        Markup('<label>{} <select data-filter="{}"><option value="">all</option>{}</select></label> ').format(
            name, name, Markup().join(Markup('<option value="{}">{}</option>').format(*choice) for choice in choices)
        )
        for name, choices in (("verdict", outcomes), ("section", sections))
    )
    return Markup('<form class="ledger-filters" hidden>{}<output></output></form>').format(both)


def _row(claims: Claims, one: Judged) -> Markup:
    claim, outcome = one.claim, one.verdict.outcome
    if claim.repeats:
        sign, word = SAME, verdicts.shown(claim, one.verdict)
        below = Markup('<p>It says what <a href="#claim-{0}">{0}</a> says, {1}, and is not counted again.</p>').format(
            claim.repeats, outcome
        )
    else:
        sign, word = SIGNS[outcome], outcome
        own = [_evidence(claims, verdict) for verdict in one.printed]
        words = [verdicts.OWN[verdict.outcome] for verdict in one.printed]
        below = Markup("<dl><dt>Ours</dt><dd>{}</dd>").format(_evidence(claims, one.verdict))
        if own:
            below += Markup("<dt>The paper's own numbers {}</dt><dd>{}</dd>").format(words[0], own[0])
        if own[1:]:
            below += Markup("<dt>{} they {}</dt><dd>{}</dd>").format(claims.again[0], words[1], own[1])
        below += Markup("</dl>")
    return Markup(
        '<details class="claim" id="claim-{id}" data-verdict="{outcome}" data-section="{section}"{same}><summary>'
        '<span class="verdict" data-outcome="{outcome}"><span aria-hidden="true">{sign}</span> {word}</span> '
        '<span class="id">{id}</span> <span class="says">{says}</span> '
        '<a class="permalink" href="#claim-{id}" aria-label="link to claim {id}">#</a></summary>\n'
        "<p><small>Section: {section}</small></p>{below}</details>"
    ).format(
        id=claim.id,
        outcome=outcome,
        section=claim.section,
        same=Markup(" data-repeats") if claim.repeats else "",
        sign=sign,
        word=word,
        says=markup.line(claim.says),
        below=below,
    )


def _evidence(claims: Claims, verdict: Verdict) -> Markup:
    """The numbers, each part linked to the page of the table that they are from."""
    if not verdict.parts:
        return Markup("{}").format(markup.line(verdict.why))
    shown = []
    for said, tables in verdict.parts:
        pieces = said.split("; ") if len(tables) > 1 else [said]
        for piece in pieces:
            table = next((name for name in tables if piece.startswith(name)), tables[0] if tables else "")
            link = Markup('<a href="{}.html">{}</a>') if table and claims.page(table) else Markup("{1}")
            shown.append(link.format(claims.page(table) if table else "", markup.line(piece)))
    return Markup("; ").join(shown)
