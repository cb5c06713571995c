"""Sentences that are English, and others that miss it by a word or two (``cola``).

Every construction draws its good and its bad sentences from the same words: what is wrong is how they agree, which of
them are there together, or their order.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from peftlib.data.grammar.draw import pick, sentence, weighted
from peftlib.data.grammar.inference import mislabelled
from peftlib.data.grammar.lexicon import COUNTS, KINDS, LOOKS, PEOPLE, PLACES, THINGS, TIMES, entries
from peftlib.data.grammar.scenes import cell, plural, word

TRANSITIVE = entries("""
    repaired, fixed, purchased, located, borrowed, displayed, hauled, misplaced, acquired, discovered, concealed, wrecked
""")
ON_SOMEBODY = entries("""
    praised, dismissed, thanked, insulted, rescued, greeted, snubbed, pursued, complimented, scolded, deserted, employed
""")
INTRANSITIVE = entries("""
    slept, arrived, sneezed, yawned, smiled, waited, laughed, fainted, hesitated, vanished, stumbled, sobbed
""")
WOMEN = entries("mother, mum, grandmother, grandma, aunt, sister, actress, queen")
MEN = entries("father, dad, grandfather, grandpa, uncle, brother, monk, king")
SHORT = {"tall": "taller", "short": "shorter", "old": "older", "young": "younger", "rich": "richer", "poor": "poorer",
         "thin": "thinner", "quiet": "quieter", "sad": "sadder", "plump": "plumper"}  # fmt: skip
NOISE = 0.03


def _person(rng: random.Random) -> str:
    return word(rng, PEOPLE, cell(rng, PEOPLE))


def _thing(rng: random.Random) -> str:
    return word(rng, THINGS, cell(rng, THINGS))


def _agreement(rng: random.Random, good: bool) -> str:
    """Verb and subject agree in number, whatever stands between them."""
    first, second = _person(rng), pick(rng, (_person, _thing))(rng)
    many = rng.random() < 0.5
    subject = plural(first) if many else first
    other = plural(second) if rng.random() < 0.5 else second
    verb = pick(rng, (("was", "were"), ("has been", "have been"), ("is", "are")))[many if good else not many]
    relation = pick(rng, ("near", "behind", "beside", "with"))
    return f"the {subject} {relation} the {other} {verb} {word(rng, LOOKS, cell(rng, LOOKS))}"


def _arguments(rng: random.Random, good: bool) -> str:
    """A transitive verb has an object, an intransitive one has none."""
    transitive = rng.random() < 0.5
    verb = pick(rng, TRANSITIVE if transitive else INTRANSITIVE)
    return f"the {_person(rng)} {verb} {f'the {_thing(rng)}' if transitive == good else ''}"


def _order(rng: random.Random, good: bool) -> str:
    """Article, adjective, noun, verb and preposition have their places."""
    phrase = ["the", word(rng, LOOKS, cell(rng, LOOKS)), _person(rng), pick(rng, TRANSITIVE), "the",
              word(rng, KINDS, cell(rng, KINDS)), _thing(rng)]  # fmt: skip
    if not good:
        at = pick(rng, (0, 1, 2, 3, 4, 5))
        phrase[at], phrase[at + 1] = phrase[at + 1], phrase[at]
    return " ".join(phrase)


def _reflexive(rng: random.Random, good: bool) -> str:
    """A reflexive pronoun agrees with the subject, not with somebody else in the sentence."""
    people, pronouns = (WOMEN, MEN), ("herself", "himself")
    gender = pick(rng, (0, 1))
    subject, other = pick(rng, people[gender]), pick(rng, people[1 - gender])
    pronoun = pronouns[gender if good else 1 - gender]
    relation = pick(rng, ("near", "behind", "beside", "with"))
    return f"the {subject} {relation} the {other} {pick(rng, ON_SOMEBODY)} {pronoun}"


def _polarity(rng: random.Random, good: bool) -> str:
    """The words ever, any and yet want a negation before them."""
    first = pick(rng, ("no", "not one") if good else ("the", "one", "some"))
    subject, verb, thing = f"{first} {_person(rng)}", pick(rng, TRANSITIVE), _thing(rng)
    forms = (f"{subject} ever {verb} the {thing}", f"{subject} {verb} any {thing}", f"{subject} had {verb} the {thing} yet")
    return pick(rng, forms)


def _negation(rng: random.Random, good: bool) -> str:
    """A negation stands in one place, and once."""
    verb, object_, who = pick(rng, TRANSITIVE), f"the {_thing(rng)}", _person(rng)
    right = (f"the {who} never {verb} {object_}", f"some {who} had {verb} {object_}", f"one {who} {verb} {object_}")
    wrong = (f"the {who} {verb} never {object_}", f"no {who} not {verb} {object_}", f"not the {who} {verb} {object_}")
    return pick(rng, right if good else wrong)


def _relative(rng: random.Random, good: bool) -> str:
    """A relative clause has exactly one gap."""
    who, other, thing, verb = _person(rng), _person(rng), _thing(rng), pick(rng, TRANSITIVE)
    look, kind = word(rng, LOOKS, cell(rng, LOOKS)), word(rng, KINDS, cell(rng, KINDS))
    right = (
        f"the {thing} that the {who} {verb} was {kind}",
        f"the {who} who {verb} the {thing} was {look}",
        f"the {who} {verb} the {thing} and it was {kind}",
        f"the {other} knew the {who} who {verb} it",
    )
    wrong = (
        f"the {thing} that the {who} {verb} it was {kind}",
        f"the {who} who {verb} was {look}",
        f"the {who} who the {other} {verb} the {thing} was {look}",
        f"the {other} knew that the {who} who {verb} it",
    )
    return pick(rng, right if good else wrong)


def _number(rng: random.Random, good: bool) -> str:
    """A number word and its noun agree."""
    count, thing = pick(rng, (0, 1, 2, 3, 4)), _thing(rng)
    first = pick(rng, ("one", "a", "another", "every")) if count == 0 else word(rng, COUNTS, (1, count))
    many = (count > 0) == good
    noun = f"{word(rng, KINDS, cell(rng, KINDS))} {plural(thing) if many else thing}"
    return f"the {_person(rng)} {pick(rng, TRANSITIVE)} {first} {noun}"


def _passive(rng: random.Random, good: bool) -> str:
    """A passive sentence has no object, and its agent comes with "by"."""
    who, thing, verb = _person(rng), _thing(rng), pick(rng, TRANSITIVE)
    right = (f"the {thing} was {verb} by the {who}", f"the {who} {verb} the {thing} by the door", f"the {thing} was {verb}")
    wrong = (f"the {thing} was {verb} the {who}", f"the {who} was {verb} the {thing} by the door", f"the {thing} {verb}")
    return pick(rng, right if good else wrong)


def _comparison(rng: random.Random, good: bool) -> str:
    """As tall as, taller than, and no mixture."""
    base, more = pick(rng, tuple(SHORT.items()))
    right = (f"as {base} as", f"{more} than", f"no {more} than")
    wrong = (f"as {more} as", f"{base} than", f"as {base} than", f"{more} as", f"no {base} than")
    return f"the {_person(rng)} was {pick(rng, right if good else wrong)} the {_person(rng)}"


RULES: dict[str, Callable[[random.Random, bool], str]] = {
    "agreement": _agreement,
    "arguments": _arguments,
    "order": _order,
    "reflexive": _reflexive,
    "polarity": _polarity,
    "negation": _negation,
    "relative": _relative,
    "number": _number,
    "passive": _passive,
    "comparison": _comparison,
}


def draw_sentence(rng: random.Random) -> tuple[tuple[str], int, str]:
    """One ``cola`` row: ``((sentence,), 0 unacceptable | 1 acceptable, kind)``."""
    label, kind = pick(rng, (0, 1)), pick(rng, tuple(RULES))
    text = RULES[kind](rng, label == 1)
    tail = weighted(rng, (("", 2), ("place", 3), ("time", 3)))
    if tail:
        known = PLACES if tail == "place" else TIMES
        entry = word(rng, known, cell(rng, known))
        text = f"{entry}, {text}" if rng.random() < 0.4 else f"{text} {entry}"
    return (sentence(text),), mislabelled(rng, label, 2, NOISE), kind
