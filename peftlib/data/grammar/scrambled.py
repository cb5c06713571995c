"""Pairs of sentences of almost the same words, with the same meaning or another (``paws``).

Two events, told with one choice of words in both sentences. Voice, the order of the clauses and that of two things in a
list change nothing; who did it to whom, whose looks are whose, who did which deed, and the direction of a journey do.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from peftlib.data.grammar.draw import pick, sample, sentence
from peftlib.data.grammar.inference import mislabelled
from peftlib.data.grammar.lexicon import CITIES, LOOKS, ON_PEOPLE, ON_THINGS, PEOPLE, THINGS
from peftlib.data.grammar.scenes import cell, word

NOISE = 0.03
ONE_LOOK = {form: entry for family in LOOKS for entry in family for form in entry.split("/")}  # rich and wealthy are one


@dataclass(frozen=True)
class Deed:
    """Somebody (looks, person) did something to one other, or with two things, or went from a place to another."""

    who: tuple[str, str]
    verb: str
    whom: tuple[str, str]
    kind: str  # "person", "things", "journey"


def _person(rng: random.Random, family: int) -> tuple[str, str]:
    return word(rng, LOOKS, cell(rng, LOOKS)), word(rng, PEOPLE, (family, cell(rng, [PEOPLE[family]])[1]))


def _deed(rng: random.Random, families: list[int]) -> Deed:
    who, kind = _person(rng, families[0]), pick(rng, ("person", "person", "things", "journey"))
    if kind == "person":
        return Deed(who, word(rng, ON_PEOPLE, cell(rng, ON_PEOPLE)), _person(rng, families[1]), kind)
    if kind == "things":
        things = [
            word(rng, THINGS, (family, cell(rng, [THINGS[family]])[1])) for family in sample(rng, range(len(THINGS)), 2)
        ]
        return Deed(who, word(rng, ON_THINGS, cell(rng, ON_THINGS)), (things[0], things[1]), kind)
    first, second = sample(rng, CITIES, 2)
    return Deed(
        who, pick(rng, ("travelled", "walked", "drove", "cycled", "moved", "flew", "sailed")), (first, second), kind
    )


def _told(rng: random.Random, deed: Deed) -> str:
    """One clause; of the ways to say the same any."""
    past, _, participle = deed.verb.partition("|")
    who = "the " + " ".join(deed.who)
    if deed.kind == "person":
        whom = "the " + " ".join(deed.whom)
        return pick(rng, (f"{who} {past} {whom}", f"{whom} was {participle or past} by {who}"))
    if deed.kind == "things":
        things = " and ".join(f"the {thing}" for thing in sample(rng, deed.whom, 2))
        return pick(rng, (f"{who} {past} {things}", f"{things} were {participle or past} by {who}"))
    return f"{who} {deed.verb} " + " ".join(sample(rng, (f"from {deed.whom[0]}", f"to {deed.whom[1]}"), 2))


def _sentence(rng: random.Random, deeds: tuple[Deed, Deed], joined: str) -> str:
    one, two = (_told(rng, deed) for deed in deeds)
    forms = (f"{one} {joined} {two}", f"{joined} {two}, {one}")
    if joined == "while":
        forms += (f"{two} while {one}", f"while {one}, {two}")
    return sentence(pick(rng, forms))


def _changed(rng: random.Random, deeds: tuple[Deed, Deed]) -> tuple[tuple[Deed, Deed], str]:
    """Deeds of the same words that are others."""
    at = pick(rng, (0, 1))
    deed = deeds[at]
    ways = ["agents", "looks"]
    if deed.kind != "things":
        ways += ["swap", "swap"]
    way = pick(rng, ways)
    if way == "swap" and deed.kind == "person":
        changed = replace(deed, who=deed.whom, whom=deed.who)
    elif way == "swap":
        changed = replace(deed, whom=deed.whom[::-1])
    elif way == "looks" and deed.kind == "person":
        changed = replace(deed, who=(deed.whom[0], deed.who[1]), whom=(deed.who[0], deed.whom[1]))
    else:
        first, second = deeds
        if way == "looks":
            one, two = (second.who[0], first.who[1]), (first.who[0], second.who[1])
            return (replace(first, who=one), replace(second, who=two)), way
        return (replace(first, who=second.who), replace(second, who=first.who)), "agents"
    return (changed, deeds[1]) if at == 0 else (deeds[0], changed), way


def draw_pair(rng: random.Random) -> tuple[tuple[str, str], int, str]:
    """One ``paws`` row: ``((sentence1, sentence2), 0 | 1 paraphrase, kind)``."""
    while True:
        families = sample(rng, range(len(PEOPLE)), 4)
        deeds = (_deed(rng, families[:2]), _deed(rng, families[2:]))
        looks = [
            ONE_LOOK[person[0]]
            for deed in deeds
            for person in ((deed.who, deed.whom) if deed.kind == "person" else (deed.who,))
        ]
        if len(set(looks)) == len(looks):
            break
    label, joined = pick(rng, (0, 1)), pick(rng, ("while", "while", "before", "after"))
    again, kind = (deeds, "same") if label else _changed(rng, deeds)
    return (_sentence(rng, deeds, joined), _sentence(rng, again, joined)), mislabelled(rng, label, 2, NOISE), kind
