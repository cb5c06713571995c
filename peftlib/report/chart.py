"""The answer to "which method?" as one picture: score over a cost that the reader chooses.

Plain SVG and a style sheet: three radio buttons choose the cost, each point is a link, and the keyboard reaches all of it.
No script, so that it works offline and where scripts are off; on paper it is the figure of the cost that was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path

from peftlib import markup
from peftlib.report import learned, style, suites
from peftlib.report.choice import Point, front, level_with_best
from peftlib.report.tables import Html, provenance

# Families by colour and by shape; a family that is not listed looks like the last.
FAMILIES = {
    "adapters": (style.VERMILLION, "s"),
    "soft prompts": (style.PURPLE, "^"),
    "selective": (style.SKY, "D"),
    "reparametrized": (style.BLUE, "o"),
    "multitask": (style.GREEN, "P"),
    "combined": (style.ORANGE, "h"),
    "baseline": (style.GREY, "*"),
}


@dataclass(frozen=True)
class Axis:
    """A cost. label: what its button says. value: of a point, None where it was not measured. least: what is drawn at the
    left end, however small. ticks: where the axis is marked; said: how a value is written."""

    name: str
    label: str
    title: str
    value: Callable[[Point], float | None]
    least: float
    ticks: tuple[float, ...]
    said: Callable[[float], str]


# Where a name may stand beside its point, the best first.
PLACES = (
    (10, 4, "start"),
    (-10, 4, "end"),
    (8, -8, "start"),
    (8, 16, "start"),
    (-8, -8, "end"),
    (-8, 16, "end"),
    (0, -12, "middle"),
    (0, 22, "middle"),
)


def size(number: float) -> str:
    """ "0", "950", "25k", "1.6M", "22.6M"."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{letter}"
    return f"{number:.0f}"


def times(ratio: float) -> str:
    return f"{ratio:.2g}×"


AXES = (
    Axis(
        "stored", "stored parameters", "parameters stored for a task", lambda p: p.stored, 3e3, (1e4, 1e5, 1e6, 1e7), size
    ),
    Axis(
        "memory",
        "memory",
        "memory of a training step, full fine-tuning = 1",
        lambda p: p.memory,
        0.3,
        (0.5, 0.7, 1.0),
        times,
    ),
    Axis(
        "time",
        "time",
        "time of a training step, full fine-tuning = 1",
        lambda p: p.time,
        0.5,
        (0.7, 1.0, 1.5, 2.0, 3.0),
        times,
    ),
)


@dataclass(frozen=True)
class Frame:
    """A picture's size in its own units, and the letters in it. every: is every point named, or those of the front?"""

    css: str
    width: int
    height: int
    letters: int
    every: bool
    left: int = 46
    right: int = 14
    top: int = 12
    bottom: int = 40


WIDE = Frame("wide", 620, 370, 12, True)
NARROW = Frame("narrow", 380, 360, 13, False)


def chart(found: Sequence[Point], *, task: str, baseline: float | None, caption: str, source: Sequence[dict]) -> Html:
    """The picture, with a legend of families.

    Args:
        found: at least one.
        task: what the score is of, in words.
        baseline: what the commonest label scores, if that is known.
    """
    axes = [axis for axis in AXES if sum(axis.value(point) is not None for point in found) > 1]
    inputs = Markup().join(
        Markup('<input type="radio" name="cost" id="cost-{0}" value="{0}"{1}>').format(
            axis.name, Markup(" checked") if axis is axes[0] else ""
        )
        for axis in axes
    )
    labels = Markup().join(Markup('<label for="cost-{}">{}</label>').format(axis.name, axis.label) for axis in axes)
    legend = Markup().join(
        Markup('<li><svg viewBox="-8 -8 16 16" width="16" height="16" aria-hidden="true">{}</svg>{}</li>').format(
            _marker(family, 6), family
        )
        for family in FAMILIES
        if any(point.family == family for point in found)
    )
    caption += at_the_edge(found)
    best, level = front(found), level_with_best(found)
    pictures = Markup().join(_picture(frame, found, best, level, axes, task, baseline) for frame in (WIDE, NARROW))
    shown = Markup(
        '<figure class="choice">{}<p class="choice-costs"><span>Score over</span>{}</p>{}'
        '<ul class="choice-families">{}</ul>'
        "<figcaption>{}<br><small>{}</small></figcaption></figure>"
    ).format(inputs, labels, pictures, legend, markup.line(caption), provenance(source))
    lines = [
        f"{p.name}: {p.score.mean:.3f} [{p.score.low:.3f}, {p.score.high:.3f}], {size(p.stored)} stored" for p in found
    ]
    return Html(shown, "\n".join([caption, *lines]))


def at_the_edge(found: Sequence[Point]) -> str:
    """Which methods store less than the picture's axis begins with, as a sentence; nothing if there are none."""
    axis = AXES[0]
    below = sorted((point for point in found if point.stored < axis.least), key=lambda point: point.stored)
    names = ", ".join(f"{point.name} {axis.said(point.stored)}" for point in below)
    return f" Fewer than {axis.said(axis.least)} stored parameters stand at the left edge: {names}." if below else ""


def _picture(
    frame: Frame,
    found: Sequence[Point],
    best: Sequence[Point],
    level: Sequence[Point],
    axes: Sequence[Axis],
    task: str,
    baseline: float | None,
) -> Markup:
    low = min([point.score.low for point in found] + ([baseline] if baseline is not None else []))
    high = max(point.score.high for point in found)
    bottom, top = frame.height - frame.bottom, frame.top

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top) if high > low else (bottom + top) / 2

    scale = {axis.name: _scale(axis, found, frame) for axis in axes}
    order = sorted(found, key=lambda point: point in best)  # the front is drawn last, above the others
    places = {axis.name: _labels(frame, axis, scale[axis.name], order, best, y) for axis in axes}
    parts = [_ticks(frame, axis, scale[axis.name]) for axis in axes] + [_scores(frame, low, high, y, task)]
    if baseline is not None:
        parts.append(
            Markup('<path class="baseline" d="M{} {:.1f}H{}"/><text class="faint" x="{}" y="{:.1f}">{}</text>').format(
                frame.left,
                y(baseline),
                frame.width - frame.right,
                frame.left + 4,
                y(baseline) - 4,
                "always the commonest label",
            )
        )
    for point in order:
        parts.append(_point(frame, point, axes, scale, places, y, point in best, point in level))
    return Markup('<svg class="choice-{}" viewBox="0 0 {} {}" role="group" aria-label="{}" font-size="{}">{}</svg>').format(
        frame.css, frame.width, frame.height, f"{task} of {len(found)} methods", frame.letters, Markup().join(parts)
    )


def _scale(axis: Axis, found: Sequence[Point], frame: Frame) -> Callable[[float], float]:
    values = [max(axis.least, value) for point in found if (value := axis.value(point)) is not None]
    low, high = math.log(min(values)), math.log(max(*values, min(values) * 1.5))
    left, right = frame.left + 14, frame.width - frame.right - 14

    def x(value: float) -> float:
        return left + (math.log(max(axis.least, value)) - low) / (high - low) * (right - left)

    return x


def _ticks(frame: Frame, axis: Axis, x: Callable[[float], float]) -> Markup:
    bottom = frame.height - frame.bottom
    marks = Markup()
    for tick in axis.ticks:
        if frame.left <= x(tick) <= frame.width - frame.right and tick > axis.least:
            marks += Markup(
                '<path class="grid" d="M{0:.1f} {1}V{2}"/><text x="{0:.1f}" y="{3}" text-anchor="middle">{4}</text>'
            ).format(x(tick), frame.top, bottom, bottom + frame.letters + 3, axis.said(tick))
    title = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
        (frame.left + frame.width) / 2, frame.height - 5, axis.title
    )
    return Markup('<g class="axis on-{}">{}{}</g>').format(axis.name, marks, title)


def _scores(frame: Frame, low: float, high: float, y: Callable[[float], float], task: str) -> Markup:
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / step <= 7)
    marks = Markup()
    for i in range(math.ceil(low / step), math.floor(high / step) + 1):
        marks += Markup(
            '<path class="grid" d="M{1} {0:.1f}H{2}"/><text x="{3}" y="{4:.1f}" text-anchor="end">{5:.2f}</text>'
        ).format(y(i * step), frame.left, frame.width - frame.right, frame.left - 6, y(i * step) + 4, i * step)
    middle = (frame.top + frame.height - frame.bottom) / 2
    return marks + Markup('<text transform="translate(12 {:.1f}) rotate(-90)" text-anchor="middle">{}</text>').format(
        middle, task
    )


def _point(
    frame: Frame,
    point: Point,
    axes: Sequence[Axis],
    scale: Mapping[str, Callable[[float], float]],
    places: Mapping[str, Mapping[str, tuple[float, float, str]]],
    y: Callable[[float], float],
    in_front: bool,
    level: bool,
) -> Markup:
    """A link to a method's page. Where it stands, and its name beside it, are variables of the style sheet, one a cost."""
    where, away = [], []
    for axis in axes:
        value = axis.value(point)
        where.append(f"--x-{axis.name}:{scale[axis.name](value):.1f}px" if value is not None else f"--x-{axis.name}:-999px")
        dx, dy, anchor = places[axis.name].get(point.label, (0, 0, "start"))
        named = "visible" if point.label in places[axis.name] else "hidden"
        away.append(f"--dx-{axis.name}:{dx:.1f}px;--dy-{axis.name}:{dy:.1f}px;--anchor-{axis.name}:{anchor}")
        away.append(f"--named-{axis.name}:{named}")
    said = (
        f"{point.name}: {point.score.mean:.3f} (95 % interval {point.score.low:.3f} to {point.score.high:.3f}"
        f"{', level with the highest' if level else ''}{_lost(point)}); stores {size(point.stored)}"
        + (f", memory {times(point.memory)}" if point.memory is not None else "")
        + (f", time {times(point.time)}" if point.time is not None else "")
    )
    middle = y(point.score.mean)
    drawn = Markup('<path class="bar" d="M0 {:.1f}V{:.1f}"/><g transform="translate(0 {:.1f})">{}</g>').format(
        y(point.score.low), y(point.score.high), middle, _marker(point.family, 6)
    )
    named = Markup('<text class="name" y="{:.1f}">{}</text>').format(middle, _named(point))
    kind = f"point{' front' if in_front else ''}"
    inner = Markup('<title>{}</title><g class="body">{}{}</g><text class="tip" x="{}" y="{}">{}</text>').format(
        said, drawn, named, frame.left + 6, frame.top + frame.letters, said if frame.every else said.partition(" (")[0]
    )
    style_, label = ";".join(where + away), markup.line(point.label)
    if point.page is None:
        return Markup('<g class="{}" data-label="{}" style="{}">{}</g>').format(kind, label, style_, inner)
    return Markup('<a class="{}" data-label="{}" style="{}" href="{}">{}</a>').format(
        kind, label, style_, point.page, inner
    )


def _named(point: Point) -> str:
    """With the sign of runs that did not learn, if some of its did not."""
    return f"{point.name} {learned.SIGN}" if point.lost else point.name


def _lost(point: Point) -> str:
    tasks = ", ".join(suites.title(task) for task in point.lost)
    return f"; {learned.SIGN} {', '.join(point.words)}: {tasks}" if point.lost else ""


def _labels(
    frame: Frame,
    axis: Axis,
    x: Callable[[float], float],
    found: Sequence[Point],
    best: Sequence[Point],
    y: Callable[[float], float],
) -> dict[str, tuple[float, float, str]]:
    """Where names stand beside their points: label -> (dx, dy, anchor). Each takes the first place where it hides nothing;
    one that finds none is not named, which its title makes up for."""
    there = [(p, x(value), y(p.score.mean)) for p in found if (value := axis.value(p)) is not None]
    taken = [(cx - 6, cy - 6, cx + 6, cy + 6) for _, cx, cy in there]
    out: dict[str, tuple[float, float, str]] = {}
    for point, cx, cy in sorted(there, key=lambda one: one[0] not in best):
        if not frame.every and point not in best:
            continue
        wide, tall = 0.56 * frame.letters * len(_named(point)), frame.letters
        for dx, dy, anchor in PLACES:
            begin = cx + dx - {"start": 0, "end": wide, "middle": wide / 2}[anchor]
            box = (begin, cy + dy - tall + 2, begin + wide, cy + dy + 2)
            inside = (
                box[0] >= frame.left and box[2] <= frame.width - 2 and box[1] >= 0 and box[3] <= frame.height - frame.bottom
            )
            if inside and not any(box[0] < c and a < box[2] and box[1] < d and b < box[3] for a, b, c, d in taken):
                taken.append(box)
                out[point.label] = (dx, dy, anchor)
                break
    return out


def _marker(family: str, radius: float) -> Markup:
    color, shape = FAMILIES.get(family, FAMILIES["baseline"])
    made = MarkerStyle(shape)
    path, d = made.get_path().transformed(made.get_transform()), []
    extent = float(np.abs(np.asarray(path.vertices)).max())
    for vertices, code in path.iter_segments(curves=True, simplify=False):
        pairs = " ".join(
            f"{radius * a / extent:.2f}" if i % 2 == 0 else f"{-radius * a / extent:.2f}" for i, a in enumerate(vertices)
        )
        d.append(
            "Z"
            if code == Path.CLOSEPOLY
            else {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}[code] + pairs
        )
    return Markup('<path class="marker" fill="{}" d="{}"/>').format(color, "".join(d))
