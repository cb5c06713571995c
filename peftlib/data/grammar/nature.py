"""Statements on nature, and whether a text supports them (``scitail``).

A text tells two or three facts. A statement that is one of them in other words, or without its circumstance, is supported;
one that swaps the parts of a fact, mixes two facts or adds a circumstance is not.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from peftlib.data.grammar.draw import pick, sample, sentence
from peftlib.data.grammar.inference import mislabelled
from peftlib.data.grammar.lexicon import entries, forms

LIVING = entries("""
    owls, beetles, foxes, frogs, sparrows, wasps, snails, hedgehogs, bats, spiders, ants, lizards, herons, trout, moles,
    rabbits, squirrels, dragonflies, toads, crows, otters, earthworms, caterpillars, salamanders, swallows, crickets
""")
MATTER = entries("""
    copper, iron, granite, chalk, glass, rubber, clay, sand, oil, salt water, ice, graphite, tin, limestone, quartz, wax,
    cork, lead, marble, paraffin, zinc, gravel, slate, charcoal, nickel, basalt
""")
PROCESSES = entries("""
    erosion, evaporation, friction, condensation, drought, flooding, photosynthesis, decay, oxidation, sedimentation,
    freezing, melting, fermentation, pollination, migration, combustion, weathering, respiration, digestion, cloud cover,
    soil loss, warming, acidity, plant growth, humidity, air pressure
""")
# What stands in relations to its like; each relation from either side; circumstances.
RELATIONS = [
    (
        LIVING,
        forms("""
            eat/are eaten by, hunt/are hunted by, protect/are protected by, outnumber/are outnumbered by, avoid/are avoided
            by, drive away/are driven away by, infect/are infected by, live longer than/die sooner than
        """),
        entries("""
            at night, in spring, in shallow water, on high ground, in dry summers, near farms, after heavy rain, in forests
        """),
    ),
    (
        MATTER,
        forms("""
            conducts heat better than/conducts heat worse than, is harder than/is softer than, is denser than/is less dense
            than, dissolves more slowly than/dissolves more quickly than, absorbs more light than/absorbs less light than,
            expands more than/expands less than, wears out sooner than/lasts longer than
        """),
        entries("""
            under high pressure, at room temperature, in strong acid, in a vacuum, below freezing, in bright sunlight, near
            the coast, at great depth
        """),
    ),
    (
        PROCESSES,
        forms("""
            leads to/results from, speeds up/is speeded up by, slows down/is slowed down by, prevents/is prevented by,
            increases/is increased by, comes before/comes after, depends on/enables
        """),
        entries("""
            in deserts, in mountain valleys, in the tropics, in closed containers, on clear nights, in shallow lakes, in
            large cities, during the winter
        """),
    ),
]
FRAMES = entries("""
    {f}, it is known that {f}, studies show that {f}, as a rule {f}, experiments confirm that {f}, teachers explain that {f}
""")
NOISE = 0.04


@dataclass(frozen=True)
class Fact:
    domain: int
    relation: int
    first: str
    second: str
    where: str


def _draw(rng: random.Random, domain: int, used: set[str]) -> Fact:
    names, relations, places = RELATIONS[domain]
    first, second = sample(rng, [name for name in names if name not in used], 2)
    where = pick(rng, places) if rng.random() < 0.5 else ""
    return Fact(domain, int(rng.random() * len(relations)), first, second, where)


def _clause(rng: random.Random, fact: Fact) -> str:
    """The fact from either side, its circumstance first or last."""
    straight, inverse = RELATIONS[fact.domain][1][fact.relation]
    text = pick(rng, (f"{fact.first} {straight} {fact.second}", f"{fact.second} {inverse} {fact.first}"))
    return text if not fact.where else pick(rng, (f"{text} {fact.where}", f"{fact.where} {text}"))


def supports(facts: list[Fact], statement: Fact) -> bool:
    """Whether one of the facts is the statement, perhaps with a circumstance that the statement leaves out."""
    return any(statement in (fact, replace(fact, where="")) for fact in facts)


def _unsupported(rng: random.Random, facts: list[Fact]) -> tuple[Fact, str]:
    fact, other = sample(rng, facts, 2)
    way = pick(rng, ("swap", "swap", "mixed", "mixed", "where"))
    if way == "swap":
        return replace(fact, first=fact.second, second=fact.first), way
    if way == "mixed":
        part = pick(rng, ("first", "second"))
        return replace(fact, **{part: getattr(other, part)}), way
    return replace(fact, where=pick(rng, [place for place in RELATIONS[fact.domain][2] if place != fact.where])), way


def draw_pair(rng: random.Random) -> tuple[tuple[str, str], int, str]:
    """One ``scitail`` row: ``((premise, hypothesis), 0 entailment | 1 neutral, kind)``."""
    domain, used = int(rng.random() * len(RELATIONS)), set[str]()
    facts: list[Fact] = []
    for _ in range(pick(rng, (2, 3))):
        facts.append(_draw(rng, domain, used))
        used |= {facts[-1].first, facts[-1].second}
    label = pick(rng, (0, 1))
    if label == 0:
        told = pick(rng, facts)
        statement, kind = (told, "same") if rng.random() < 0.5 else (replace(told, where=""), "less")
    else:
        statement, kind = _unsupported(rng, facts)
    clauses = [pick(rng, FRAMES[:1] * 4 + FRAMES).format(f=_clause(rng, fact)) for fact in facts]
    premise = sentence(pick(rng, (", and ", "; ", ", while ")[: 5 - len(clauses)]).join(clauses))
    return (premise, sentence(_clause(rng, statement))), mislabelled(rng, label, 2, NOISE), kind
