"""Text from records, logs, presets and files as part of a page: each of its characters stands for itself.

HTML is escaped by `markupsafe`; what it calls `Markup` is the only thing that `peftlib.report.tables.Html` shows as HTML.
This is what Markdown needs beside it.
"""

from __future__ import annotations

import re
import string

# CommonMark 0.31, section 2.4: a backslash takes its meaning from any of these, and from nothing else.
PUNCTUATION = re.compile(f"([{re.escape(string.punctuation)}])")


def line(text: object) -> str:
    """One line of characters that can be seen: white space as single blanks, others (control characters, halves of
    surrogate pairs, marks that turn the direction of writing) as their escapes in Python."""
    words = " ".join(str(text).split())
    return words if words.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)


def markdown(text: object) -> str:
    """Text for a sentence in Markdown or MyST: no punctuation means anything."""
    return PUNCTUATION.sub(r"\\\1", line(text))


def code(text: object) -> str:
    """Text as code inside a sentence, in more backticks than it has in a row; blanks keep it from touching them."""
    shown = line(text)
    ticks = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{ticks} {shown} {ticks}" if "`" in shown or not shown else f"{ticks}{shown}{ticks}"
