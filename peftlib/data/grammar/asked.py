"""Questions and the kind of answer that they ask for (``trec``).

A question is built around one noun phrase, and that has others inside it. What two of them have to do with each other can
be said from either side ("the painter that measured the tower", "the tower that the painter measured"), so the words of a
question do not tell its kind: which of its nouns is asked for does.
"""

from __future__ import annotations

import random

from peftlib.data.grammar.draw import pick, sentence, weighted
from peftlib.data.grammar.inference import mislabelled
from peftlib.data.grammar.lexicon import CITIES, entries

KINDS = ("abbreviation", "entity", "description", "human", "location", "number")  # in the order of the label ids
NOUNS = {
    "abbreviation": entries("abbreviation, acronym, short form, set of initials"),
    "entity": entries("""
        animal, instrument, metal, flower, dish, colour, language, painting, bird, ship, song, fruit, tool, game, gemstone
    """),
    "description": entries("reason, purpose, meaning, origin, cause, explanation, history, theory"),
    "human": entries("""
        painter, captain, inventor, composer, queen, surgeon, explorer, astronomer, poet, engineer, pilot, mayor, novelist,
        chemist, singer
    """),
    "location": entries("""
        city, river, island, mountain, country, harbour, lake, valley, bridge, desert, village, province, museum, castle
    """),
    "number": entries("number, height, age, weight, price, length, population, distance, speed, date, depth"),
}
# What the nouns of one kind do with those of another, in the past tense.
RELATIONS = {
    ("human", "entity"): entries("discovered, drew, lost, praised, studied, inherited"),
    ("human", "number"): entries("measured, wrote down, guessed, announced, remembered"),
    ("human", "description"): entries("explained, doubted, repeated, published, understood"),
    ("human", "abbreviation"): entries("coined, chose, misread, introduced"),
    ("human", "location"): entries("visited, left, mapped, ruled, defended, loved"),
    ("location", "entity"): entries("exported, protected, prized, banned"),
    ("location", "number"): entries("reached, published, exceeded"),
    ("location", "abbreviation"): entries("used, adopted"),
    ("entity", "description"): entries("illustrated, inspired, confirmed"),
    ("entity", "number"): entries("reached, displayed, exceeded"),
    ("abbreviation", "entity"): entries("stood for, concealed, described"),
    ("abbreviation", "human"): entries("puzzled, stood for"),
    ("description", "location"): entries("made famous, divided, concerned"),
    ("description", "human"): entries("puzzled, angered, convinced"),
    ("number", "human"): entries("surprised, convinced, worried"),
    ("number", "description"): entries("proved, contradicted, confirmed"),
    ("abbreviation", "number"): entries("replaced, stood for"),
    ("description", "abbreviation"): entries("mentioned, contained"),
}
# Questions of any kind; {x} is the phrase, {n} its noun and {c} its clause.
PLAIN = entries("""
    what is {x}, what was {x}, name {x}, can you tell me {x}, which {n} is it {c}, do you know {x}, I am looking for {x},
    what would you say is {x}
""")
# Questions that a kind has to itself.
OWN = {
    "abbreviation": entries("""
        how is {entity} abbreviated, what are the letters for {entity}, how is {location} written for short
    """),
    "entity": entries("""
        what did {human} bring from {location}, what did {human} call {entity}, what does {human} play in {location}
    """),
    "description": entries("""
        why did {human} leave {location}, how does one make {entity}, why is {entity} named after {human}, how did {human}
        find {number}, what does {abbreviation} have to do with {entity}
    """),
    "human": entries("""
        who discovered {entity}, who found {number}, who was the first to explain {description}, who lived in {location},
        whom did {human} admire
    """),
    "location": entries("""
        where did {human} find {entity}, where is {entity} found, where was {human} born, where does one use {abbreviation}
    """),
    "number": entries("""
        how old was {human}, how many people live in {location}, how much does {entity} weigh, when did {human} discover
        {entity}, how far is it from {location} to {location2}
    """),
}
OWN_SHARE, NOISE = 0.2, 0.03
DEEP = 0.6  # share of inner phrases that have a clause of their own


def _phrase(rng: random.Random, kind: str, depth: int) -> str:
    """A noun of the kind, perhaps with a clause as long as there is depth."""
    noun = pick(rng, NOUNS[kind])
    if depth > 0 and rng.random() < DEEP:
        return f"the {noun} {_clause(rng, kind, depth)}"
    return f"the {noun} of {pick(rng, CITIES)}" if rng.random() < 0.25 else f"the {noun}"


def _clause(rng: random.Random, kind: str, depth: int) -> str:
    """A relative clause to a noun of the kind, which does something in it or has it done to it."""
    first, second = pick(rng, [pair for pair in RELATIONS if kind in pair])
    verb = pick(rng, RELATIONS[first, second])
    other = _phrase(rng, second if kind == first else first, depth - 1)
    if kind == first:
        return f"that {verb} {other}" if verb != "made famous" else f"that made {other} famous"
    return f"that {other} {verb}"


def draw_question(rng: random.Random) -> tuple[tuple[str], int, str]:
    """One ``trec`` row: ``((question,), 0 .. 5 as in ``KINDS``, kind)``."""
    kind = pick(rng, KINDS)
    if rng.random() < OWN_SHARE:
        parts = {f"{other}{i}": _phrase(rng, other, 1) for other in KINDS for i in ("", 2)}
        text, form = pick(rng, OWN[kind]).format(**parts), "own"
    else:
        noun, clause = pick(rng, NOUNS[kind]), _clause(rng, kind, weighted(rng, ((1, 1), (2, 3))))
        text, form = pick(rng, PLAIN).format(x=f"the {noun} {clause}", n=noun, c=clause), "plain"
    end = "." if text.startswith(("name", "I am")) else "?"
    return (sentence(text, end),), mislabelled(rng, KINDS.index(kind), len(KINDS), NOISE), f"{kind}, {form}"
