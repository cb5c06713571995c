"""How figures look: one colour, marker and line for a method in the whole book, legible in grey and on a dark page.

Colours are Okabe and Ito's (colour-blind-safe); black and yellow, which vanish on a dark or a light page, are left out.
Which of them is a method's, its class says (`peftlib.catalogue`). Text is mid-grey on a transparent ground: about 4 to 1
against white and against the book's dark theme.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import matplotlib

from peftlib import catalogue, markup
from peftlib.catalogue import About
from peftlib.comparison import COMPOSITIONS, MADE
from peftlib.expressions import names

GREY = "#7f7f7f"
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY = "#CC79A7", "#56B4E9"


@dataclass(frozen=True)
class Style:
    """What a method looks like. name: what a figure calls it."""

    name: str
    color: str
    marker: str
    line: str | tuple = "-"


COLORS = {
    "grey": GREY,
    "blue": BLUE,
    "orange": ORANGE,
    "green": GREEN,
    "vermillion": VERMILLION,
    "purple": PURPLE,
    "sky": SKY,
}


def _style(about: About) -> Style:
    line = about.line if isinstance(about.line, str) else (0, about.line)
    return Style(about.name, COLORS[about.color], about.marker, line)


# By the names of the methods of an expression. Methods of one branch of the taxonomy share a colour where they must.
STYLES = {name: _style(entry.about) for name, entry in catalogue.methods().items()} | {
    " + ".join(names(expression)): _style(about) for expression, about in COMPOSITIONS.values()
}
STYLES |= {name: _style(about) for name, about in MADE.items()}
SPARE = [(color, marker) for marker in "d1234+" for color in (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY)]


def of(method: str) -> Style:
    """The style of a method expression, whatever its hyperparameters; a copy per task looks as the method itself.

    What does not say how it looks (a user's own method, a sum of several) gets a style that its name decides, the same on
    every page.
    """
    name = " + ".join(names(method))
    for known in (name, " + ".join(dict.fromkeys(names(method)))):
        if known in STYLES:
            return STYLES[known]
    color, marker = SPARE[int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(SPARE)]
    return Style(name, color, marker, ":")


def plain(text: object) -> str:
    """Text for a figure, without formulas: matplotlib sets what stands between two dollars as one, or fails to."""
    return markup.line(text).replace("$", r"\$")


def use() -> None:
    """Set matplotlib's defaults for all figures of a notebook."""
    matplotlib.rcParams.update(
        {
            "figure.figsize": (7.0, 4.2),
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "savefig.transparent": True,
            "text.color": GREY,
            "axes.labelcolor": GREY,
            "axes.edgecolor": GREY,
            "axes.titlecolor": GREY,
            "xtick.color": GREY,
            "ytick.color": GREY,
            "grid.color": GREY,
            "grid.alpha": 0.25,
            "axes.grid": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "font.size": 10.5,
            "lines.linewidth": 1.8,
            "lines.markersize": 7,
            "legend.frameon": False,
            "svg.fonttype": "path",
            "svg.hashsalt": "peftlib",  # the same picture everywhere, and the same bytes
        }
    )
