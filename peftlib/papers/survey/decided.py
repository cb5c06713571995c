"""What is decided by what a method is, whatever it scores: which methods suit a wish, found out from the methods."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from markupsafe import Markup

from peftlib import catalogue
from peftlib.accounting.counted import count
from peftlib.accounting.estimated import effects
from peftlib.errors import UsageError
from peftlib.methods import METHODS, Method, parse
from peftlib.papers import paper_table
from peftlib.papers.survey.properties import implemented
from peftlib.report.pages import page_of
from peftlib.report.tables import Html

SHAPE, WITH_DECODER = "bert-base-uncased", "t5-base"  # of counts; the second for what has no place in an encoder
BLOCKS = "minilm[:3]", "t5-small"  # where it is tried whether tasks can have copies, likewise
STEP = (BLOCKS[0], 2, 16)  # backbone, sequences and tokens of a step that shows where gradients go
KILOBYTES, BYTES = 500, 4  # that a task may take; of a number
FURTHER = 0.01  # of what one task stores: so much at most does another one add


class Candidate(NamedTuple):
    """A method that one may choose. row: as the comparison trains it, or as it is by default."""

    name: str
    row: str
    made: Method

    @property
    def backbone(self) -> str:
        """A shape that has its places."""
        return WITH_DECODER if self.made.needs_decoder else SHAPE

    @property
    def stored(self) -> int:
        """Numbers for one task."""
        return int(count(self.row, self.backbone).stored)


class Wish(NamedTuple):
    """What a reader may want, why some methods give it, and which."""

    wanted: str
    because: str
    has: Callable[[Candidate], bool]


def candidates() -> Iterator[Candidate]:
    """All methods that the comparison has or the survey names, but for the two ends that belong to no branch."""
    named = {implemented(method) for method in paper_table("survey", "methods")["method"]}
    for name, entry in catalogue.methods().items():
        in_branch = entry.file.count("/") == 2  # methods/<branch>/<file>
        if in_branch and (entry.row is not None or name in named):
            row = entry.row or f"{name}()"
            yield Candidate(name, row, parse(row))  # type: ignore[arg-type]  # of one method


def merges(one: Candidate) -> bool:
    return one.made.mergeable


def keeps_out(one: Candidate) -> bool:
    """Does the backward pass go through none of the backbone's blocks? Asked of what reads their states; all else stands in
    them."""
    return one.made.reads_states and effects(one.row, *STEP).passed == 0


def trains_all_in_little(one: Candidate) -> bool:
    """Is every weight trained, by an optimizer of the method's own?"""
    counts = count(one.row, one.backbone)
    return counts.trainable == counts.total and type(one.made).optimizer is not Method.optimizer


def has_copies(one: Candidate) -> bool:
    """Can every task have a copy beside the one backbone?"""
    try:
        return count(f"PerTask({one.row})", BLOCKS[one.made.needs_decoder]).stored > 0
    except UsageError:
        return False


def grows_slowly(one: Candidate) -> bool:
    """Is something that tasks share nearly all of it? What belongs to no task does not grow: every task keeps its own."""
    more = count(one.row, one.backbone, 2).stored - one.stored
    return 0 < more <= FURTHER * one.stored


def is_small(one: Candidate) -> bool:
    return BYTES * one.stored <= 1000 * KILOBYTES


def adds_positions(one: Candidate) -> bool:
    """Is it, or a part of it, one of the soft prompts?"""
    parts = [leaf.method for leaf in parse(one.row).leaves(("task",))] + [one.made]
    return any(".soft_prompts." in base.__module__ for part in parts for base in type(part).__mro__)


WISHES = (
    Wish(
        "inference must not cost more",
        "they fold into the weights (QLoRA's are in full precision then), or are weights",
        merges,
    ),
    Wish(
        "the memory of training is the limit", "no gradient enters the backbone, whose activations are not kept", keeps_out
    ),
    Wish(
        "the optimizer's memory is the limit, storage is not",
        "all weights are trained, their moments in little room",
        trains_all_in_little,
    ),
    Wish(
        "many tasks share one server, and must not disturb each other",
        "every task can have a copy, at its price in storage, that is switched while the backbone stays; all others train "
        "the backbone's own tensors, which exist once, or have parts that tasks share",
        has_copies,
    ),
    Wish(
        "there are a hundred tasks", f"another task adds {FURTHER:.0%} of what the first one stores, or less", grows_slowly
    ),
    Wish(
        f"a task may take {KILOBYTES} kB",
        f"they store no more, {BYTES} bytes a number, on BERT-base, or where they need a decoder on T5-base",
        is_small,
    ),
    Wish(
        "texts are short and time counts: leave out",
        "further positions in every attention weigh most where there are few",
        adds_positions,
    ),
)


@functools.cache
def suited() -> dict[str, list[str]]:
    """The methods that suit each wish."""
    every = list(candidates())
    return {wish.wanted: [one.name for one in every if wish.has(one)] for wish in WISHES}


def wishes() -> Html:
    """Each wish with its methods, which lead to their pages, and the reason."""
    items, lines = Markup(), []
    for wish in WISHES:
        said = f"{wish.wanted[0].upper()}{wish.wanted[1:]}"
        names = suited()[wish.wanted]
        links = Markup(", ").join(_link(name) for name in names)
        items += Markup("<li><b>{}</b>: {}. <i>{}.</i></li>").format(said, links, _sentence(wish.because))
        lines.append(f"{said}: {', '.join(METHODS[name].title for name in names)}. {_sentence(wish.because)}.")
    return Html(Markup("<ul>{}</ul>").format(items), "\n".join(lines))


def _link(name: str) -> Markup:
    title, page = METHODS[name].title, page_of(f"{name}()")
    return Markup('<a href="{}">{}</a>').format(page, title) if page else Markup("{}").format(title)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
