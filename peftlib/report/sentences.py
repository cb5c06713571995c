"""Sentences whose numbers and names come from records, as Markdown. What a name holds is text, never markup."""

from __future__ import annotations

import numbers
import string

from IPython.display import Markdown

from peftlib import markup
from peftlib.report.tables import Spread


class _Filling(string.Formatter):
    """Formats numbers as usual, and text so that Markdown shows it as it is."""

    def format_field(self, value: object, spec: str) -> str:
        if spec == "code":
            return markup.code(value)
        said = super().format_field(value, spec)
        return said if isinstance(value, numbers.Number | Spread) else markup.markdown(said)


def fill(template: str, **values: object) -> str:
    """Markdown, the template's own, with values in its fields: ``fill("**{name}** has {n:,}", name=..., n=...)``. A field
    ``{name:code}`` is shown as code."""
    return _Filling().format(template, **values)


def say(template: str, **values: object) -> Markdown:
    """A sentence whose numbers come from records: ``say("LoRA reaches {x:.3f}.", x=...)``, see `fill`. If a value is None,
    it says instead that the runs it rests on are missing."""
    lacking = [name.replace("_", " ") for name, value in values.items() if value is None]
    if lacking:
        return Markdown(f"*Not run: the sentence that stands here needs {', '.join(lacking)}.*")
    return Markdown(fill(template, **values))
