"""Does one described event follow from another? (``mnli``)

Premise and hypothesis are taken to speak of the same occasion, as in the real task. What follows is computed from the
slots of the two events (``peftlib.data.grammar.scenes``), never from their words: a detail left out follows, a detail
added does not, another place or number contradicts; under a denial it is the other way round.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from peftlib.data.grammar.draw import pick, weighted
from peftlib.data.grammar.scenes import Event, cell, draw_event, entries_of, slots, tell, with_other

ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)
OPPOSITE = {ENTAILMENT: CONTRADICTION, CONTRADICTION: ENTAILMENT, NEUTRAL: NEUTRAL}
CORE = ("on", "verb", "agent", "target", "count")
DETAILS = ("look", "kind", "place", "time")
NOISE = 0.04  # share of labels replaced by another
TRIES = 12  # edits of one premise before another premise is drawn


def tells(a: Event, b: Event) -> bool:
    """Whether ``a`` says all that ``b`` says, denials aside."""
    same = all(getattr(a, slot) == getattr(b, slot) for slot in CORE)
    return same and all(getattr(b, slot) in (None, getattr(a, slot)) for slot in DETAILS)


def excludes(a: Event, b: Event) -> bool:
    """Whether both cannot be true of one occasion, denials aside: the same deed by another agent, elsewhere, of another
    number, or with a detail of the same family (a Monday is no Tuesday, but may be in spring)."""
    if (a.on, a.verb, a.target) != (b.on, b.verb, b.target):
        return False
    if a.agent != b.agent or a.count != b.count or (a.place and b.place and a.place != b.place):
        return True
    pairs = [(getattr(a, slot), getattr(b, slot)) for slot in ("look", "kind", "time")]
    return any(x and y and x != y and x[0] == y[0] for x, y in pairs)


def relation(premise: Event, hypothesis: Event) -> int:
    """ENTAILMENT, NEUTRAL or CONTRADICTION."""
    if premise.denied:
        found = CONTRADICTION if tells(hypothesis, premise) else NEUTRAL
    elif tells(premise, hypothesis):
        found = ENTAILMENT
    else:
        found = CONTRADICTION if excludes(premise, hypothesis) else NEUTRAL
    return OPPOSITE[found] if hypothesis.denied else found


def without(rng: random.Random, event: Event) -> Event:
    """The event with one detail less, if it has any."""
    mentioned = [slot for slot in DETAILS if getattr(event, slot) is not None]
    return replace(event, **{pick(rng, mentioned): None}) if mentioned else event  # type: ignore[arg-type]  # a slot is a field


def with_more(rng: random.Random, event: Event) -> Event:
    """The event with one detail more, if there is room."""
    free = [slot for slot in DETAILS if getattr(event, slot) is None and (slot != "kind" or event.on == "thing")]
    if not free:
        return event
    slot = pick(rng, free)
    return replace(event, **{slot: cell(rng, entries_of(event)[slot])})  # type: ignore[arg-type]  # as above


def swapped(event: Event) -> Event:
    """Agent and target the other way round; a thing does nothing, so an event on things stays as it is."""
    return event if event.on == "thing" else replace(event, agent=event.target, target=event.agent, look=None)


def edited(rng: random.Random, event: Event) -> tuple[Event, str]:
    """The event after one or two edits, and what they were."""
    done = []
    for _ in range(pick(rng, (1, 1, 2))):
        act = weighted(rng, (("same", 10), ("less", 25), ("more", 22), ("other", 30), ("swap", 8)))
        if act == "less":
            event = without(rng, event)
        elif act == "more":
            event = with_more(rng, event)
        elif act == "other":
            event = with_other(rng, event, pick(rng, slots(event)))
        elif act == "swap":
            event = swapped(event)
        done.append(act)
    if event.on == "person" and event.agent == event.target:  # nobody does it to himself
        return edited(rng, replace(event, target=with_other(rng, event, "target").target))
    return event, "+".join(done)


def hypothesis_for(
    rng: random.Random, premise: Event, wanted: Callable[[Event], bool], denied: float = 0.3
) -> tuple[Event, str] | None:
    """An edit of the premise that ``wanted`` accepts; ``None`` if none is found in a few tries."""
    for _ in range(TRIES):
        event, kind = edited(rng, premise)
        event = replace(event, denied=rng.random() < denied)
        if wanted(event):
            return event, kind
    return None


def clause(rng: random.Random, event: Event) -> str:
    """The event without capital and full stop, for use inside a sentence."""
    text = tell(rng, event)
    return text[0].lower() + text[1:-1]


def mislabelled(rng: random.Random, label: int, count: int, noise: float = NOISE) -> int:
    """The label, or now and then another of ``count``."""
    return pick(rng, [other for other in range(count) if other != label]) if rng.random() < noise else label


def draw_pair(rng: random.Random) -> tuple[tuple[str, str], int, str]:
    """One ``mnli`` row: ``((premise, hypothesis), 0 | 1 | 2, kind)``. Every other premise tells a second event."""
    label, found = pick(rng, (ENTAILMENT, NEUTRAL, CONTRADICTION)), None
    while found is None:
        event = replace(draw_event(rng), denied=rng.random() < 0.25)
        found = hypothesis_for(rng, event, lambda hypothesis, told=event: relation(told, hypothesis) == label)  # type: ignore[misc]  # as `wanted` is
    hypothesis, kind = found
    told = [clause(rng, event)]
    if rng.random() < 0.5:
        told.insert(pick(rng, (0, 1)), clause(rng, draw_event(rng)))
    premise = pick(rng, (", and ", ", while ", "; ")).join(told)
    return (premise[0].upper() + premise[1:] + ".", tell(rng, hypothesis)), mislabelled(rng, label, 3), kind
