"""Opinions: single sentences with five grades, and reviews of several sentences with two.

The grade of a sentence (-2 .. 2) is *computed* from how it is built, so that words alone do not give it away:
negation, contrast, whose opinion it is, what was only hoped for, what it is compared with, and praise or blame
that belongs to the story and not to the work. See ``data/README.md`` for the rules.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from peftlib.data.grammar.draw import pick, sample, sentence, weighted
from peftlib.data.grammar.lexicon import DEEDS, GRADED, HEROES, INTENSE, MILD, OCCASIONS, OTHERS, PHRASES, SETTINGS, WORKS

LOOKS = [
    "{a} {be} {x}",
    "I found {a} {x}",
    "{a} turned out to be {x}",
    "to me {a} seemed {x}",
    "{a} felt {x}",
    "I would call {a} {x}",
    "{a} proved {x}",
    "I have to say that {a} {be} {x}",
]
ASPECTS = {
    work: [*(f"the {part}" for part in parts), f"the {work}", f"this {work}", "the whole thing"]
    for work, (parts, _) in WORKS.items()
}


def _grade(rng: random.Random, sign: int = 0) -> int:
    return (sign or pick(rng, (-1, 1))) * pick(rng, (1, 2))


def _says(rng: random.Random, aspect: str, grade: int) -> str:
    """A clause in which the author gives ``aspect`` that grade."""
    if rng.random() < 0.3:
        return f"{aspect} {pick(rng, PHRASES[grade])}"
    if abs(grade) == 2 and rng.random() < 0.35:
        adjective = f"{pick(rng, INTENSE)} {pick(rng, GRADED[grade // 2])}"
    elif abs(grade) == 1 and rng.random() < 0.35:
        adjective = f"{pick(rng, MILD)} {pick(rng, GRADED[grade])}"
    else:
        adjective = pick(rng, GRADED[grade])
    return pick(rng, LOOKS).format(a=aspect, be=pick(rng, ("is", "was")), x=adjective)


def _plain(rng: random.Random, work: str) -> tuple[str, int]:
    grade = _grade(rng)
    text = _says(rng, pick(rng, ASPECTS[work]), grade)
    if rng.random() < 0.35:
        occasion = pick(rng, OCCASIONS)
        text = f"{occasion}, {text}" if rng.random() < 0.5 else f"{text} {occasion}"
    return text, grade


def _negation(rng: random.Random, work: str) -> tuple[str, int]:
    """Denied strong praise is mild blame; denied strong blame commits to nothing; denied mild words turn round."""
    grade = _grade(rng)
    aspect, adjective = pick(rng, ASPECTS[work]), pick(rng, GRADED[grade])
    text = pick(
        rng,
        [
            "{a} {be} not {x}",
            "{a} {be} hardly {x}",
            "I would not call {a} {x}",
            "nobody could call {a} {x}",
            "{a} {be} anything but {x}",
            "I never found {a} {x}",
            "there {be} nothing {x} about {a}",
            "{a} {be} far from {x}",
            "I cannot say that {a} {be} {x}",
            "it is not true that {a} {be} {x}",
        ],
    ).format(a=aspect, x=adjective, be=pick(rng, ("is", "was")))
    return text, {2: -1, 1: -1, -1: 1, -2: 0}[grade]


def _contrast(rng: random.Random, work: str) -> tuple[str, int]:
    """Two opposed clauses: the main one decides the sign, the other takes away its strength."""
    main = _grade(rng)
    first, second = sample(rng, ASPECTS[work], 2)
    lead, weak = _says(rng, first, main), _says(rng, second, _grade(rng, -1 if main > 0 else 1))
    text = pick(
        rng,
        [
            "although {w}, {m}",
            "{m}, although {w}",
            "{w}, but {m}",
            "even if {w}, {m}",
            "{m}, even though {w}",
            "{w}; still, {m}",
            "while {w}, {m}",
            "granted, {w}, yet {m}",
            "{m}, never mind that {w}",
            "it hardly matters that {w}, because {m}",
            "{w}, and that is a small thing beside the fact that {m}",
        ],
    ).format(m=lead, w=weak)
    return text, 1 if main > 0 else -1


def _holder(rng: random.Random, work: str) -> tuple[str, int]:
    """Others say one thing, the author another; only the author's word counts."""
    grade = _grade(rng)
    other = _grade(rng, -1 if grade > 0 else 1)
    aspect, who = pick(rng, ASPECTS[work]), pick(rng, OTHERS)
    said, mine = pick(rng, GRADED[other]), pick(rng, GRADED[grade])
    if rng.random() < 0.4:  # no word of the author's own: agreement or dissent carries it
        agree, claim = rng.random() < 0.5, pick(rng, (-2, 2))
        verdict = pick(
            rng,
            ["and they are right", "and I agree", "and so do I", "and rightly so"]
            if agree
            else ["and they are wrong", "and I disagree", "but I do not", "but I beg to differ"],
        )
        # Agreement keeps the strength; dissent only says that the opposite is nearer the truth.
        return f"{who} find {aspect} {pick(rng, GRADED[claim])}, {verdict}", claim if agree else -claim // 2
    text = pick(
        rng,
        [
            "{w} called {a} {s}, but I found it {m}",
            "I found {a} {m}, whatever {w} may say about it being {s}",
            "{w} keep telling me that {a} is {s}; it is {m}",
            "{a} is {m}, though {w} insist that it is {s}",
            "unlike {w}, who thought {a} {s}, I thought it {m}",
            "what {w} describe as {s} struck me as {m}",
        ],
    ).format(w=who, a=aspect, s=said, m=mine)
    return text, grade


def _hypothetical(rng: random.Random, work: str) -> tuple[str, int]:
    """What was hoped, feared or possible is not what was: it says the opposite, if mildly, where nothing else is
    said."""
    grade = _grade(rng)
    unreal = _grade(rng, -1 if grade > 0 else 1)
    aspect, maker = pick(rng, ASPECTS[work]), WORKS[work][1]
    text, told = pick(
        rng,
        [
            ("I expected a {u} {o} and was given a {r} one", True),
            ("I was given a {r} {o} where I had expected a {u} one", True),
            ("{a} could have been {u}, but it is {r}", True),
            ("{a} is {r}; in other hands it might have been {u}", True),
            ("{a} was {r}, and I had been told to expect something {u}", True),
            ("it sounded {u} on paper and proved {r}", True),
            ("what should have been {u} turned out {r}", True),
            ("had it not been for the {k}, {a} would be {u}", False),
            ("{a} would have been {u} with any other {k}", False),
            ("at no point did {a} become {u}, as I had thought it would", False),
            ("if I had not seen it myself, I would have believed that {a} was {u}", False),
        ],
    )
    text = text.format(a=aspect, k=maker, o=work, r=pick(rng, GRADED[grade]), u=pick(rng, GRADED[unreal]))
    return text, grade if told else (1 if grade > 0 else -1)


def _comparison(rng: random.Random, work: str) -> tuple[str, int]:
    sign = pick(rng, (-1, 1))
    adjective, aspect = pick(rng, GRADED[sign]), pick(rng, ASPECTS[work])
    other = pick(
        rng,
        [
            "the {}'s earlier work",
            "anything else this year",
            "its many rivals",
            "the first version",
            "what the {} did before",
        ],
    ).format(WORKS[work][1])
    text, grade = pick(
        rng,
        [
            ("{a} is more {x} than {o}", 2),
            ("{a} is less {x} than {o}", -1),
            ("{a} is every bit as {x} as {o}", 1),
            ("{a} could hardly be more {x}", 2),
            ("{a} is nowhere near as {x} as {o}", -1),
            ("next to {a}, {o} looks {x}", -1),
            ("I have never come across a more {x} {w} than this one", 2),
            ("{o} was {x}, and {a} is the very opposite", -2),
        ],
    )
    return text.format(a=aspect, x=adjective, o=other, w=work), sign * grade


def _balance(rng: random.Random, work: str) -> tuple[str, int]:
    first, second = sample(rng, ASPECTS[work], 2)
    sign, size = pick(rng, (-1, 1)), pick(rng, (1, 2))
    text = pick(
        rng,
        [
            "{p} and {q}, so the two cancel out",
            "half of the time {p}, and the other half {q}",
            "{p} as often as {q}",
            "{p}, {q}, and I cannot decide which weighs more",
            "{p} and {q} in equal measure",
        ],
    )
    return text.format(p=_says(rng, first, sign * size), q=_says(rng, second, -sign * size)), 0


def story(rng: random.Random, work: str) -> tuple[str, int]:
    """What the work is about: strong words that judge nothing."""
    hero = pick(rng, HEROES).format(pick(rng, GRADED[_grade(rng)]))
    deed = pick(rng, DEEDS).format(pick(rng, GRADED[_grade(rng)]))
    text = pick(
        rng,
        [
            "the {w} follows {h} {d} {s}",
            "this {w} is about {h} {d} {s}",
            "set {s}, the {w} tells of {h} {d}",
            "it concerns {h} {d} {s}",
            "we are shown {h} {d} {s}",
        ],
    )
    if work in ("restaurant", "exhibition", "album", "game"):
        text = pick(
            rng, [f"the {work} takes its name from {{h}} {{d}} {{s}}", f"this {work} was inspired by {{h}} {{d}} {{s}}"]
        )
    return text.format(w=work, h=hero, d=deed, s=pick(rng, SETTINGS)), 0


def _framed(rng: random.Random, work: str) -> tuple[str, int]:
    """An opinion with the story tucked into it."""
    grade = _grade(rng)
    hero = pick(rng, HEROES).format(pick(rng, GRADED[_grade(rng)]))
    deed = pick(rng, DEEDS).format(pick(rng, GRADED[_grade(rng)]))
    adjective, part = pick(rng, GRADED[grade]), pick(rng, ASPECTS[work])
    text = pick(
        rng,
        [
            "{p}, which brings to mind {h} {d}, is {x}",
            "it has {h} {d} in it, and {p} is {x}",
            "{p} is {x}, and there is something about {h} {d}",
            "a {x} piece of work about {h} {d}",
        ],
    )
    return text.format(p=part, h=hero, d=deed, x=adjective), grade


RULES = {
    "plain": _plain,
    "negation": _negation,
    "contrast": _contrast,
    "holder": _holder,
    "hypothetical": _hypothetical,
    "comparison": _comparison,
    "framed": _framed,
    "balance": _balance,
    "story": story,
}
# How often each is tried: in single sentences, and for the views of a review, which are plainer.
SENTENCE_MIX = tuple(zip(RULES, (15, 16, 24, 18, 16, 9, 8, 5, 6), strict=True))
REVIEW_MIX = tuple(zip(RULES, (40, 12, 14, 12, 12, 6, 4, 0, 0), strict=True))
Mix = tuple[tuple[str, int], ...]

# Share of labels moved to a neighbouring grade (sst) or flipped (the others): annotators err.
NOISE = {"sst": 0.05, "sst2": 0.03, "cfimdb": 0.03}
GRADE_SHARE = ((0, 19), (1, 26), (2, 13), (3, 25), (4, 17))


def _opinion(rng: random.Random, work: str, mix: Mix, wanted: Callable[[int], bool]) -> tuple[str, str]:
    """Draw sentences until one has a grade that ``wanted`` accepts; returns its kind and text."""
    while True:
        kind = weighted(rng, mix)
        text, grade = RULES[kind](rng, work)
        if wanted(grade):
            return kind, sentence(text)


def draw_sentence(rng: random.Random) -> tuple[tuple[str], int, str]:
    """One ``sst`` row: ``((sentence,), label 0..4, kind)``."""
    label = weighted(rng, GRADE_SHARE)
    kind, text = _opinion(rng, pick(rng, tuple(WORKS)), SENTENCE_MIX, lambda grade: grade == label - 2)
    if rng.random() < NOISE["sst"]:
        label = pick(rng, [grade for grade in (label - 1, label + 1) if 0 <= grade <= 4])
    return (text,), label, kind


def draw_polar(rng: random.Random) -> tuple[tuple[str], int, str]:
    """One ``sst2`` row: a sentence that is not neutral, ``((sentence,), 0 | 1, kind)``."""
    label = pick(rng, (0, 1))
    kind, text = _opinion(rng, pick(rng, tuple(WORKS)), SENTENCE_MIX, lambda grade: grade * (2 * label - 1) > 0)
    return (text,), 1 - label if rng.random() < NOISE["sst2"] else label, kind


def _aside(rng: random.Random, work: str, sign: int) -> str:
    """A sentence of the given sign that is not the author's verdict: hearsay, expectation or a trifle."""
    word, aspect = pick(rng, GRADED[_grade(rng, sign)]), pick(rng, ASPECTS[work])
    trifle = pick(
        rng,
        [
            "the poster",
            "the car park",
            "the ticket desk",
            "the cover",
            "the trailer",
            "the website",
            "the queue outside",
            "the weather that day",
            "the seat",
            "the cloakroom",
        ],
    )
    return sentence(
        pick(
            rng,
            [
                f"{pick(rng, OTHERS)} had told me that {aspect} was {word}",
                f"I had read that {aspect} was {word}",
                f"{trifle} was {word}, which is beside the point",
                f"{pick(rng, OTHERS)} left saying it was {word}",
                f"I went in expecting something {word}",
                f"a stranger beside me muttered that {aspect} was {word}",
                f"I grant that {trifle} was {word}",
                f"the advertisement had made it sound {word}",
            ],
        )
    )


def draw_review(rng: random.Random) -> tuple[tuple[str], int, str]:
    """One ``cfimdb`` row: a review of three to seven sentences and its polarity, ``((review,), 0 | 1, kind)``.

    Two to four sentences carry the author's view; one or two asides lean either way, whatever the label; half of the
    reviews begin with the story.
    """
    work, label = pick(rng, tuple(WORKS)), pick(rng, (0, 1))
    sign = 2 * label - 1
    views = [_opinion(rng, work, REVIEW_MIX, lambda grade: grade * sign > 0)[1] for _ in range(pick(rng, (2, 3, 3, 4)))]
    asides = [_aside(rng, work, pick(rng, (-1, 1))) for _ in range(pick(rng, (1, 2, 2)))]
    lead = [sentence(story(rng, work)[0])] if rng.random() < 0.5 else []
    body = sample(rng, views + asides, len(views) + len(asides))
    label = 1 - label if rng.random() < NOISE["cfimdb"] else label
    return (" ".join([*lead, *body]),), label, f"{len(views)} views, {len(asides)} asides"
