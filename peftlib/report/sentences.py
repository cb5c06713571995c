"""Sentences whose numbers and names come from records, as Markdown. What a name holds is text, never markup."""

from __future__ import annotations

import numbers
import re
import string

from IPython.display import Markdown

from peftlib import markup
from peftlib.papers import papers
from peftlib.report.tables import Spread

NAMED = re.compile(rf"\b(?:{'|'.join(papers())})/(table|figure|section)(\d+)(?:_([a-z]+))?\b")

IN_TICKS = re.compile(r"`\{(\w+)\}`")  # in code a backslash is shown, not obeyed


class _Filling(string.Formatter):
    """Formats numbers as usual, and text so that Markdown shows it as it is."""

    def format_field(self, value: object, spec: str) -> str:
        if spec == "code":
            return markup.code(value)
        said = super().format_field(value, spec)
        return said if isinstance(value, numbers.Number | Spread) else markup.markdown(said)


def readable(text: str) -> str:
    """A text in which tables of papers are called as a reader calls them: "compacter/table7_frozen" is "Table 7 (frozen)",
    "adaptbert/section62" is "section 6.2"."""
    return NAMED.sub(_named, text)


def _named(found: re.Match[str]) -> str:
    kind, number, more = found.groups()
    name = f"section {'.'.join(number)}" if kind == "section" else f"{kind.capitalize()} {number}"
    return f"{name} ({more})" if more else name


def fill(template: str, **values: object) -> str:
    """Markdown, the template's own, with values in its fields: ``fill("**{name}** has {n:,}", name=..., n=...)``. A field
    ``{name:code}``, or one between backticks, is shown as code."""
    return _Filling().format(IN_TICKS.sub(r"{\1:code}", template), **values)


def say(template: str, **values: object) -> Markdown:
    """A sentence whose numbers come from records: ``say("LoRA reaches {x:.3f}.", x=...)``, see `fill`. If a value is None,
    it says instead that the runs it rests on are missing."""
    if any(value is None for value in values.values()):
        return Markdown("*Not run yet: the sentence that stands here needs runs of this page that have no record.*")
    return Markdown(fill(template, **values))
