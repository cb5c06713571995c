"""Pairs of described events with a graded similarity, 0 (unrelated) to 5 (same meaning).

An event is a set of slots (who, did what, to whom, how many, where, when, whether at all). The second sentence tells
the same event with some slots changed; the similarity is computed from the slots, never from the words. Active and
passive, word order and synonyms change words but not meaning; swapping the two roles changes meaning but not words.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from peftlib.data.grammar.draw import pick, sample, sentence, weighted
from peftlib.data.grammar.lexicon import COUNTS, KINDS, LOOKS, ON_PEOPLE, ON_THINGS, PEOPLE, PLACES, THINGS, TIMES

VERBS = {"thing": ON_THINGS, "person": ON_PEOPLE}

# What a slot counts for, and how much of that a sibling in its place keeps.
WEIGHT = {
    "verb": 0.34,
    "agent": 0.23,
    "target": 0.25,
    "place": 0.09,
    "time": 0.09,
    "look": 0.06,
    "kind": 0.08,
    "count": 0.1,
}
SIBLING = {"verb": 0.2, "agent": 0.35, "target": 0.35, "place": 0.3, "time": 0.3, "look": 0.1, "kind": 0.1, "count": 0.4}
NOISE = 0.3  # standard deviation of the annotator's error, in points of similarity

Cell = tuple[int, int]  # (family, entry) in one of the lists above


@dataclass(frozen=True)
class Event:
    """What is told. ``None`` for a slot that is not mentioned."""

    on: str  # "thing" or "person"
    verb: Cell
    agent: Cell
    target: Cell
    look: Cell | None
    kind: Cell | None
    count: int
    place: Cell | None
    time: Cell | None
    denied: bool


def cell(rng: random.Random, families: list[list[str]]) -> Cell:
    family = int(rng.random() * len(families))
    return family, int(rng.random() * len(families[family]))


def another(rng: random.Random, families: list[list[str]], known: Cell, near: bool) -> Cell:
    """A different entry: of the same family if ``near``, else of another family."""
    if near:
        return known[0], pick(rng, [i for i in range(len(families[known[0]])) if i != known[1]])
    return _cell_outside(rng, families, known[0])


def _cell_outside(rng: random.Random, families: list[list[str]], family: int) -> Cell:
    other = pick(rng, [i for i in range(len(families)) if i != family])
    return other, int(rng.random() * len(families[other]))


def draw_event(rng: random.Random) -> Event:
    on = pick(rng, ("thing", "person"))
    agent = cell(rng, PEOPLE)
    target = cell(rng, THINGS) if on == "thing" else _cell_outside(rng, PEOPLE, agent[0])
    described = rng.random()
    return Event(
        on=on,
        verb=cell(rng, VERBS[on]),
        agent=agent,
        target=target,
        look=cell(rng, LOOKS) if described < 0.45 else None,
        kind=cell(rng, KINDS) if on == "thing" and described > 0.4 else None,
        count=pick(rng, (1, 1, 1, 2, 3, 4, 5, 6)) if on == "thing" else 1,
        place=cell(rng, PLACES) if rng.random() < 0.6 else None,
        time=cell(rng, TIMES) if rng.random() < 0.5 else None,
        denied=rng.random() < 0.12,
    )


def entries_of(event: Event) -> dict[str, list[list[str]]]:
    """The list that each slot of an event is filled from."""
    target = THINGS if event.on == "thing" else PEOPLE
    people = {"verb": VERBS[event.on], "agent": PEOPLE, "target": target}
    return people | {"look": LOOKS, "kind": KINDS, "place": PLACES, "time": TIMES}


def slots(event: Event) -> list[str]:
    """The slots an event mentions."""
    mentioned = [slot for slot in entries_of(event) if getattr(event, slot) is not None]
    return mentioned + (["count"] if event.on == "thing" else [])


def with_other(rng: random.Random, event: Event, slot: str) -> Event:
    """The event with another filler of a slot that it mentions, more often than not a sibling."""
    if slot == "count":
        return replace(event, count=pick(rng, [c for c in range(1, 7) if c != event.count]))
    found = another(rng, entries_of(event)[slot], getattr(event, slot), rng.random() < 0.55)
    return replace(event, **{slot: found})  # type: ignore[arg-type]  # a slot is a field


def _changed(rng: random.Random, event: Event) -> tuple[Event, str]:
    """The same event with none, some or all of its slots changed, and a word for what was done."""
    act = weighted(rng, (("same", 20), ("slots", 40), ("swap", 11), ("denial", 9), ("unrelated", 20)))
    if act == "unrelated":
        return draw_event(rng), act
    if act == "swap" and event.on == "person":
        return replace(event, agent=event.target, target=event.agent, look=None), act
    if act == "denial":
        return replace(event, denied=not event.denied), act
    if act == "same":
        return event, act
    present = slots(event)
    for slot in sample(rng, present, min(len(present), pick(rng, (1, 1, 2, 2, 3)))):
        event = with_other(rng, event, slot)
    if event.agent == event.target and event.on == "person":  # nobody does it to himself
        event = replace(event, target=another(rng, PEOPLE, event.target, near=False))
    return event, "slots"


def similarity(a: Event, b: Event) -> float:
    """0 .. 5: the weighted share of slots that agree; a denied event is far from the event."""
    total = agree = 0.0
    for slot, weight in WEIGHT.items():
        x, y = getattr(a, slot), getattr(b, slot)
        if x is None and y is None or slot == "count" and "person" in (a.on, b.on):
            continue
        total += weight
        if x == y and (slot not in ("verb", "target") or a.on == b.on):
            agree += weight
        elif slot == "count":
            agree += weight * SIBLING[slot] / abs(x - y)
        elif x is not None and y is not None and x[0] == y[0] and (slot not in ("verb", "target") or a.on == b.on):
            agree += weight * SIBLING[slot]
    share = agree / total
    if a.verb != b.verb and a.agent != b.agent and a.target != b.target:
        share *= 0.4  # a shared place or time alone does not make two events alike
    if a.on == b.on == "person" and a.agent == b.target and a.target == b.agent:
        share = 0.3 + 0.3 * share  # the same people, the other way round
    return 5 * share * (0.45 if a.denied != b.denied else 1)


def word(rng: random.Random, families: list[list[str]], at: Cell) -> str:
    """One of the synonyms of an entry."""
    return pick(rng, families[at[0]][at[1]].split("/"))


def plural(noun: str) -> str:
    """The plural of a noun of the lexicon."""
    for ending, many in (("ch", "ches"), ("rry", "rries"), ("shelf", "shelves"), ("man", "men")):
        if noun.endswith(ending):
            return noun.removesuffix(ending) + many
    return noun + "s"


def noun_of(rng: random.Random, event: Event) -> str:
    if event.on == "person":
        return "the " + word(rng, PEOPLE, event.target)
    thing = word(rng, THINGS, event.target)
    kind = word(rng, KINDS, event.kind) + " " if event.kind else ""
    if event.count == 1:
        return f"the {kind}{thing}"
    return f"{word(rng, COUNTS, (1, event.count - 2))} {kind}{plural(thing)}"


def tell(rng: random.Random, event: Event) -> str:
    """One sentence for the event: active or passive, time first or last, any synonym."""
    past, _, participle = word(rng, VERBS[event.on], event.verb).partition("|")
    who = "the " + (word(rng, LOOKS, event.look) + " " if event.look else "") + word(rng, PEOPLE, event.agent)
    whom = noun_of(rng, event)
    where = word(rng, PLACES, event.place) if event.place else ""
    when = word(rng, TIMES, event.time) if event.time else ""
    if rng.random() < 0.45:
        be = "were" if event.count > 1 else "was"
        core = f"{whom} {be}{' never' if event.denied else ''} {participle or past} by {who}"
    elif event.denied:
        core = pick(
            rng,
            (
                f"{who} never {past} {whom}",
                f"it was not {who} who {past} {whom}",
                f"it is not true that {who} {past} {whom}",
            ),
        )
    else:
        core = pick(rng, (f"{who} {past} {whom}",) * 3 + (f"it was {who} who {past} {whom}",))
    if when and rng.random() < 0.4:
        return sentence(f"{when}, {core} {where}")
    return sentence(f"{core} {where} {when}")


def draw_pair(rng: random.Random) -> tuple[tuple[str, str], float, str]:
    """One ``sts`` row: ``((sentence1, sentence2), similarity 0..5 in steps of 0.2, kind)``."""
    first = draw_event(rng)
    second, kind = _changed(rng, first)
    texts = (tell(rng, first), tell(rng, second))
    # A sum of uniform draws stands in for a normal one: it needs nothing but random().
    error = NOISE * (sum(rng.random() for _ in range(12)) - 6)
    score = min(5.0, max(0.0, similarity(first, second) + error))
    return texts, round(round(score * 5) / 5, 1), kind
