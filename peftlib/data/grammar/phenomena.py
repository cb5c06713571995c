"""Pairs that each turn on one thing, as the diagnostic set AX-b has them (``axb``).

Every construction has pairs that follow and pairs that do not, made of the same words.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from peftlib.data.grammar.acceptability import SHORT
from peftlib.data.grammar.commitment import FRAMES
from peftlib.data.grammar.draw import pick, sample, sentence
from peftlib.data.grammar.inference import clause
from peftlib.data.grammar.lexicon import KINDS, ON_PEOPLE, PEOPLE, PLACES, THINGS, TIMES
from peftlib.data.grammar.scenes import cell, draw_event, plural, word

Pair = tuple[str, str]
QUANTIFIERS = ("all of", "most of", "some of", "not all of", "none of")
# What each says of a group that is there.
IMPLIED = {
    "all of": ("most of", "some of"),
    "most of": ("some of",),
    "some of": (),
    "not all of": (),
    "none of": ("not all of",),
}
OPPOSITE = {"taller": "shorter", "older": "younger", "richer": "poorer", "thinner": "plumper"}
OPPOSITE |= {small: large for large, small in OPPOSITE.items()}
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")


def _people(rng: random.Random, count: int) -> list[str]:
    """Different people of different families."""
    return [f"the {word(rng, PEOPLE, (family, cell(rng, [PEOPLE[family]])[1]))}" for family in _families(rng, count)]


def _families(rng: random.Random, count: int) -> list[int]:
    return sample(rng, range(len(PEOPLE)), count)


def _deed(rng: random.Random) -> tuple[str, str]:
    """A deed on a thing: its past tense and the thing."""
    verb = pick(rng, ("repaired", "sold", "bought", "found", "borrowed", "washed", "painted", "returned", "photographed"))
    return verb, word(rng, THINGS, cell(rng, THINGS))


def _quantifiers(rng: random.Random, follows: bool) -> Pair:
    """All is more than most, and most is more than some."""
    pairs = [(a, b) for a in QUANTIFIERS for b in QUANTIFIERS if a != b and (b in IMPLIED[a]) == follows]
    first, second = pick(rng, pairs)
    group, (verb, thing) = plural(word(rng, PEOPLE, cell(rng, PEOPLE))), _deed(rng)
    where = word(rng, PLACES, cell(rng, PLACES))
    return f"{first} the {group} {where} {verb} a {thing}", f"{second} the {group} {where} {verb} a {thing}"


def _monotone(rng: random.Random, follows: bool) -> Pair:
    """Somebody with a red car has a car; nobody with a car has no red one."""
    (verb, thing), who = _deed(rng), word(rng, PEOPLE, cell(rng, PEOPLE))
    where = word(rng, PLACES, cell(rng, PLACES))
    kind, denied = word(rng, KINDS, cell(rng, KINDS)), rng.random() < 0.5
    said = [f"{'no' if denied else 'some'} {who} {where} {verb} a {extra}{thing}" for extra in (f"{kind} ", "")]
    narrow, wide = said
    return (narrow, wide) if follows != denied else (wide, narrow)


def _coordination(rng: random.Random, follows: bool) -> Pair:
    """Of two joined by "and" both did it, of two joined by "or" perhaps one."""
    a, b = _people(rng, 2)
    verb, thing = _deed(rng)
    rest = f"{verb} the {thing} {word(rng, TIMES, cell(rng, TIMES))}"
    named, other = (a, b) if rng.random() < 0.5 else (b, a)
    if rng.random() < 0.5:
        return f"{a} {'and' if follows else 'or'} {b} {rest}", f"{named} {rest}"
    return f"{a} or {b} {rest}, and it was not {other if follows else named}", f"{named} {rest}"


def _negation(rng: random.Random, follows: bool) -> Pair:
    """Two denials are none."""
    (who,), (verb, thing) = _people(rng, 1), _deed(rng)
    rest = f"the {thing} {word(rng, PLACES, cell(rng, PLACES))}"
    affirmed, denied = f"{who} {verb} {rest}", f"{who} never {verb} {rest}"
    if rng.random() < 0.5:
        premise = f"{pick(rng, ('it is not true', 'it is wrong', 'it cannot be'))} that {denied}"
        true, false = affirmed, denied
    else:
        premise, true, false = denied, f"it is false that {affirmed}", f"it is false that {denied}"
    return premise, true if follows else false


def _conditional(rng: random.Random, follows: bool) -> Pair:
    """From "if p, q" and p follows q, from not q not p; from q nothing on p, from not p nothing on q."""
    a, b = _people(rng, 2)
    (verb1, thing1), (verb2, thing2) = _deed(rng), _deed(rng)
    p, not_p = f"{a} {verb1} the {thing1}", f"{a} never {verb1} the {thing1}"
    q, not_q = f"{b} {verb2} the {thing2}", f"{b} never {verb2} the {thing2}"
    known, hypothesis = pick(rng, ((p, q), (not_q, not_p)) if follows else ((q, p), (not_p, not_q)))
    rule = pick(rng, (f"if {p}, then {q}", f"{q} if {p}"))
    return f"{rule}; {known}", hypothesis


def _roles(rng: random.Random, follows: bool) -> Pair:
    """Who did it to whom, in either voice."""
    a, b = _people(rng, 2)
    entry = word(rng, ON_PEOPLE, cell(rng, ON_PEOPLE))
    past, _, participle = entry.partition("|")
    when = word(rng, TIMES, cell(rng, TIMES))
    active, passive = f"{a} {past} {b} {when}", f"{b} was {participle or past} by {a} {when}"
    wrong = (f"{b} {past} {a} {when}", f"{a} was {participle or past} by {b} {when}")
    first, second = (active, passive) if rng.random() < 0.5 else (passive, active)
    return first, second if follows else pick(rng, [text for text in wrong if ("was" in text) == ("was" in second)])


def _comparison(rng: random.Random, follows: bool) -> Pair:
    """Who is taller than whom, over three people or with the opposite word."""
    a, b, c = _people(rng, 3)
    more = pick(rng, tuple(OPPOSITE))
    less = OPPOSITE[more]
    if rng.random() < 0.5:
        second = (f"{a} is {more} than {c}", f"{c} is {less} than {a}")
        wrong = (f"{c} is {more} than {a}", f"{a} is {less} than {c}")
        return f"{a} is {more} than {b}, who is {more} than {c}", pick(rng, second if follows else wrong)
    second = (f"{b} is {less} than {a}", f"{b} is not as {_base(more)} as {a}")
    wrong = (f"{a} is {less} than {b}", f"{a} is not as {_base(more)} as {b}")
    return f"{a} is {more} than {b}", pick(rng, second if follows else wrong)


def _base(more: str) -> str:
    return next(base for base, comparative in SHORT.items() if comparative == more)


def _numbers(rng: random.Random, follows: bool) -> Pair:
    """Five are more than three and fewer than six."""
    (who,), (verb, thing) = _people(rng, 1), _deed(rng)
    count = pick(rng, range(2, len(NUMBERS) - 2))
    above = rng.random() < 0.5
    low = pick(rng, range(count))
    high = pick(rng, range(count + 1, len(NUMBERS)))
    bound = NUMBERS[low if above == follows else high]
    where = word(rng, PLACES, cell(rng, PLACES))
    things = plural(thing)
    return (
        f"{who} {verb} exactly {NUMBERS[count]} {things} {where}",
        f"{who} {verb} {'more' if above else 'fewer'} than {bound} {things} {where}",
    )


def _factive(rng: random.Random, follows: bool) -> Pair:
    """To regret something it has to be so, to hope for it does not."""
    event = clause(rng, draw_event(rng))
    (somebody,) = _people(rng, 1)
    return f"{pick(rng, FRAMES[1 if follows else 0]).format(s=somebody)} {event}", event


def _order(rng: random.Random, follows: bool) -> Pair:
    """What is before is not after."""
    a, b = _people(rng, 2)
    (verb1, thing1), (verb2, thing2) = _deed(rng), _deed(rng)
    first, second = f"{a} {verb1} the {thing1}", f"{b} {verb2} the {thing2}"
    right = (f"{second} after {first}", f"before {second}, {first}", f"{first} before {second}", f"after {first}, {second}")
    wrong = (f"{first} after {second}", f"before {first}, {second}", f"{second} before {first}", f"after {second}, {first}")
    premise = pick(rng, right)
    return premise, pick(rng, [text for text in (right if follows else wrong) if text != premise])


RULES: dict[str, Callable[[random.Random, bool], Pair]] = {
    "quantifiers": _quantifiers,
    "monotone": _monotone,
    "coordination": _coordination,
    "negation": _negation,
    "conditional": _conditional,
    "roles": _roles,
    "comparison": _comparison,
    "numbers": _numbers,
    "factive": _factive,
    "order": _order,
}


def draw_pair(rng: random.Random) -> tuple[tuple[str, str], int, str]:
    """One ``axb`` row: ``((sentence1, sentence2), 0 entailment | 1, kind)``, without noise: experts made the real set."""
    label, kind = pick(rng, (0, 1)), pick(rng, tuple(RULES))
    premise, hypothesis = RULES[kind](rng, label == 0)
    return (sentence(premise), sentence(hypothesis)), label, kind
