"""Texts that tell several events, and what is asked of them: ``mrpc``, ``rte``, ``qnli``, ``boolq``.

A wrong statement is put together from what the text does say (the agent of one event, the deed of another), so that it
shares its words with the text.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial

from peftlib.data.grammar.draw import pick, sample, sentence, weighted
from peftlib.data.grammar.inference import (
    CONTRADICTION,
    ENTAILMENT,
    clause,
    hypothesis_for,
    mislabelled,
    relation,
    swapped,
    with_more,
    without,
)
from peftlib.data.grammar.lexicon import LOOKS, PEOPLE, PLACES, TIMES
from peftlib.data.grammar.scenes import VERBS, Event, draw_event, noun_of, slots, tell, with_other, word

# Slots that a question about another slot does not name.
UNNAMED = {"agent": ("agent", "look"), "target": ("target", "kind", "count"), "place": ("place",), "time": ("time",)}


def _story(rng: random.Random, length: int) -> list[Event]:
    """Events of different agents and targets, one in six denied."""
    events: list[Event] = []
    while len(events) < length:
        new = replace(draw_event(rng), denied=rng.random() < 1 / 6)
        if all(new.agent != old.agent and new.target != old.target for old in events):
            events.append(new)
    return events


def _blend(rng: random.Random, story: list[Event], denied: float) -> Event:
    """A deed of the text with the agent, place or time of another one."""
    first, second = sample(rng, story, 2)
    slot = weighted(rng, (("agent", 3), ("place", 1), ("time", 1)))
    filler = getattr(second, slot) or getattr(first, slot)
    mixed = replace(first, **{slot: filler}, denied=rng.random() < denied)
    if mixed.on == "person" and mixed.agent == mixed.target:  # nobody does it to himself
        mixed = swapped(first)
    return without(rng, mixed) if rng.random() < 0.5 else mixed


def _said(story: list[Event], event: Event) -> bool:
    return any(relation(told, event) == ENTAILMENT for told in story)


def _fits(story: list[Event], told: Event, true: bool, closed: bool, event: Event) -> bool:
    found = relation(told, event)
    if true:
        return found == ENTAILMENT
    return not _said(story, event) and (found == CONTRADICTION or not closed)


def _statement(rng: random.Random, story: list[Event], true: bool, closed: bool) -> tuple[Event, str]:
    """An event that follows from the text (``true``), or does not.

    ``closed``: what the text does not tell did not happen. A false statement then contradicts the text, or affirms a
    mixture of its events; otherwise it may also be new.
    """
    while True:
        if not true and rng.random() < 0.45:
            event = _blend(rng, story, denied=0 if closed else 1 / 6)
            found = None if _said(story, event) else (event, "blend")
        else:
            told = pick(rng, story)
            found = hypothesis_for(rng, told, partial(_fits, story, told, true, closed), denied=1 / 6)
        if found:
            return found


def draw_passage(rng: random.Random) -> tuple[tuple[str, str], int, str]:
    """One ``rte`` row: three sentences and a statement, ``((sentence1, sentence2), 0 entailment | 1, kind)``."""
    label, story = pick(rng, (0, 1)), _story(rng, 3)
    event, kind = _statement(rng, story, true=label == 0, closed=False)
    text = " ".join(tell(rng, told) for told in story)
    return (text, tell(rng, event)), mislabelled(rng, label, 2), kind


def _yes_no(rng: random.Random, event: Event) -> str:
    past, participle, who, whom, rest, be = _parts(rng, event)
    if event.denied:
        return f"is it true that {who} never {past} {whom} {rest}"
    return pick(
        rng,
        (
            f"{be} {whom} {participle} by {who} {rest}",
            f"was it {who} who {past} {whom} {rest}",
            f"is it true that {who} {past} {whom} {rest}",
        ),
    )


def draw_yes_no(rng: random.Random) -> tuple[tuple[str, str], int, str]:
    """One ``boolq`` row: ``((question, passage of four sentences), 0 no | 1 yes, kind)``; what is not told did not
    happen."""
    label, story = pick(rng, (0, 1)), _story(rng, 4)
    event, kind = _statement(rng, story, true=label == 1, closed=True)
    text = " ".join(tell(rng, told) for told in story)
    return (sentence(_yes_no(rng, event), "?"), text), mislabelled(rng, label, 2), kind


def _parts(rng: random.Random, event: Event) -> tuple[str, str, str, str, str, str]:
    """Past tense, participle, agent, target, circumstances, and the form of "be" that the target takes."""
    past, _, participle = word(rng, VERBS[event.on], event.verb).partition("|")
    look = word(rng, LOOKS, event.look) + " " if event.look else ""
    where = word(rng, PLACES, event.place) if event.place else ""
    when = word(rng, TIMES, event.time) if event.time else ""
    who = f"the {look}{word(rng, PEOPLE, event.agent)}"
    return past, participle or past, who, noun_of(rng, event), f"{where} {when}", "were" if event.count > 1 else "was"


def _ask(rng: random.Random, event: Event, about: str) -> str:
    """A question for one slot of the event, which it does not name."""
    hidden = replace(event, **{about: None}) if about in ("place", "time") else event  # type: ignore[arg-type]  # a field
    past, participle, who, whom, rest, be = _parts(rng, hidden)
    if about == "agent":
        start = pick(rng, (f"who {past} {whom}", f"by whom {be} {whom} {participle}", f"who was it that {past} {whom}"))
        return f"{start} {rest}"
    if about == "target":
        return f"{'what' if event.on == 'thing' else 'who'} was {participle} by {who} {rest}"
    return f"{'where' if about == 'place' else 'when'} {be} {whom} {participle} by {who} {rest}"


def _unanswered(rng: random.Random, told: Event, asked: Event, about: str) -> tuple[Event, str]:
    """What the sentence tells instead, so that it does not answer the question."""
    act = weighted(rng, (("other", 45), ("silent", 30), ("swap", 15), ("denied", 10)))
    if act == "silent" and about in ("place", "time"):
        return replace(told, **{about: None}), act  # type: ignore[arg-type]  # as above
    if act == "swap" and told.on == "person":
        return swapped(told), act
    if act == "denied":
        return replace(told, denied=True), act
    other = with_other(rng, told, pick(rng, [slot for slot in slots(asked) if slot not in UNNAMED[about]]))
    return other if other.on == "thing" or other.agent != other.target else swapped(told), "other"


def draw_question(rng: random.Random) -> tuple[tuple[str, str], int, str]:
    """One ``qnli`` row: a question and a sentence of two events, ``((question, sentence), 0 answered | 1, kind)``."""
    label = pick(rng, (0, 1))
    first, second = _story(rng, 2)
    first = with_more(rng, replace(first, denied=False))
    about = pick(rng, [slot for slot in UNNAMED if getattr(first, slot) is not None])
    asked = without(rng, first) if rng.random() < 0.5 else first
    told, kind = (first, "answered") if label == 0 else _unanswered(rng, first, asked, about)
    clauses = [clause(rng, told), clause(rng, second)]
    joined = pick(rng, (", and ", ", while ", "; ")).join(clauses if rng.random() < 0.5 else clauses[::-1])
    question = sentence(_ask(rng, asked, about), "?")
    return (question, joined[0].upper() + joined[1:] + "."), mislabelled(rng, label, 2), kind


def _join(rng: random.Random, events: list[Event]) -> str:
    """Two events in one sentence: the first one happened first."""
    first, second = (clause(rng, event) for event in events)
    forms = (f"{first} before {second}", f"{second} after {first}", f"{first}, and afterwards {second}")
    text = pick(rng, forms)
    return text[0].upper() + text[1:] + "."


def _not_the_same(rng: random.Random, events: list[Event]) -> tuple[list[Event], str]:
    first, second = events
    act = weighted(rng, (("order", 15), ("agents", 20), ("swap", 15), ("denial", 15), ("slot", 35)))
    if act == "order":
        return [second, first], act
    if act == "agents":
        if first.on == "thing" and second.on == "thing":
            return [replace(first, agent=second.agent), replace(second, agent=first.agent)], act
        act = "swap"
    if act == "swap" and "person" in (first.on, second.on):
        return [swapped(first), swapped(second)], act
    at = pick(rng, (0, 1))
    if act == "denial":
        new = replace(events[at], denied=not events[at].denied)
    else:
        new = with_other(rng, events[at], pick(rng, slots(events[at])))
        if new.on == "person" and new.agent == new.target:
            new = swapped(events[at])
    return [new if i == at else event for i, event in enumerate(events)], act


def draw_paraphrase(rng: random.Random) -> tuple[tuple[str, str], int, str]:
    """One ``mrpc`` row: two events told twice, ``((sentence1, sentence2), 0 | 1 the same, kind)``."""
    label = pick(rng, (0, 1))
    story = [replace(event, time=None) for event in _story(rng, 2)]  # "before" and "after" say when
    again, kind = (story, "same") if label else _not_the_same(rng, story)
    return (_join(rng, story), _join(rng, again)), mislabelled(rng, label, 2), kind
