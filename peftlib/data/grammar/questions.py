"""Pairs of questions: do both ask for the same thing?

A question is an intent with its slots. Every intent has several wordings; some wordings name the slots in the
other order or the opposite word ("A better than B", "B worse than A"), so that shared words decide nothing. A pair
that is no duplicate differs in one slot, in the order of two, or in the intent, and often in hardly a word.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from peftlib.data.grammar.draw import pick, sentence, weighted
from peftlib.data.grammar.lexicon import (
    ABOUT_ME,
    ACTS,
    ANYWHERE,
    CAUSES,
    CITIES,
    COMPARED,
    GROUPS,
    HABITS,
    MODES,
    ROLES,
    SKILLS,
    STEPS,
    TASKS,
    TRAITS,
)

NO_TAIL = 0.4  # share of questions without one

# intent -> wordings. Upper-case names are slots; the same slots in another order are another question.
WORDINGS = {
    "learn": [
        "How can I learn SKILL#1?",
        "What is the best way to get good at SKILL#0?",
        "How should I go about learning SKILL#1?",
        "What do I need to do to master SKILL#0?",
        "Which steps help one learn SKILL#1?",
        "How does someone pick up SKILL#0?",
    ],
    "teach": [
        "How can I teach others SKILL#1?",
        "What is the best way to give lessons in SKILL#0?",
        "How should I instruct people in SKILL#0?",
        "What do I need to do to teach SKILL#0?",
        "How does someone train others in SKILL#0?",
    ],
    "stop": [
        "How do I stop HABIT?",
        "What helps one give up HABIT?",
        "How can I quit HABIT for good?",
        "What is a way to no longer be HABIT?",
        "How did you manage to break away from HABIT?",
    ],
    "start": [
        "How do I start HABIT?",
        "What helps one take up HABIT?",
        "How can I get into HABIT for good?",
        "What is a way to begin HABIT?",
        "How did you manage to get going with HABIT?",
    ],
    "route": [
        "How do I get from CITY to TOWN MODE#0?",
        "What is the way to TOWN from CITY MODE#1?",
        "Can one reach TOWN from CITY MODE#0?",
        "Is it possible to leave CITY and arrive in TOWN MODE#1?",
        "How would I travel MODE#0 to TOWN if I set out from CITY?",
    ],
    "better": [
        "Is LEFT better than RIGHT for WHOM?",
        "Is RIGHT worse than LEFT for WHOM?",
        "For WHOM, does LEFT beat RIGHT?",
        "Would WHOM be better served by LEFT than by RIGHT?",
        "For WHOM, is RIGHT inferior to LEFT?",
    ],
    "differ": [
        "What is the difference between LEFT and RIGHT for WHOM?",
        "For WHOM, how do RIGHT and LEFT differ?",
        "How is LEFT unlike RIGHT when it comes to WHOM?",
        "What sets RIGHT apart from LEFT for WHOM?",
    ],
    "price": [
        "How much does it cost to TASK#0 in CITY?",
        "What is the price of TASK#1 in CITY?",
        "What will I have to pay for TASK#1 in CITY?",
        "In CITY, is it expensive to TASK#0?",
    ],
    "duration": [
        "How long does it take to TASK#0 in CITY?",
        "How much time does TASK#1 in CITY need?",
        "In CITY, how many days does it take to TASK#0?",
        "How soon can one be done with TASK#1 in CITY?",
    ],
    "act": [
        "Can a ROLE ACT#0 a OTHER?",
        "Can a OTHER be ACT#1 by a ROLE?",
        "Is a ROLE allowed to ACT#0 a OTHER?",
        "Is it legal for a OTHER to be ACT#1 by a ROLE?",
        "Does the law let a ROLE ACT#0 a OTHER?",
    ],
    "cause": [
        "Does CAUSE lead to EFFECT?",
        "Can EFFECT be caused by CAUSE?",
        "Is CAUSE a reason for EFFECT?",
        "Does EFFECT come from CAUSE?",
        "Can CAUSE bring about EFFECT?",
        "Is EFFECT a result of CAUSE?",
    ],
    "order": [
        "Should I FIRST before I SECOND?",
        "Should I SECOND only after I FIRST?",
        "Is it best to FIRST first and SECOND later?",
        "Do I SECOND once I FIRST, and not sooner?",
        "Is it wise to FIRST and only then SECOND?",
    ],
    "why": [
        "Why do GROUP TRAIT?",
        "What is the reason that GROUP TRAIT?",
        "What makes GROUP TRAIT?",
        "How come GROUP TRAIT?",
        "Is it known why GROUP TRAIT?",
    ],
    "why_not": [
        "Why do GROUP not TRAIT?",
        "What is the reason that GROUP do not TRAIT?",
        "What keeps GROUP such that they never TRAIT?",
        "How come GROUP do not TRAIT?",
        "Is it known why GROUP never TRAIT?",
    ],
}
TWIN = {"learn": "teach", "stop": "start", "price": "duration", "why": "why_not", "better": "differ"}
TWIN |= {v: k for k, v in TWIN.items()}
SWAP = {
    "route": ("CITY", "TOWN"),
    "better": ("LEFT", "RIGHT"),
    "act": ("ROLE", "OTHER"),
    "cause": ("CAUSE", "EFFECT"),
    "order": ("FIRST", "SECOND"),
}
SLOTS = {
    "learn": ["SKILL"],
    "teach": ["SKILL"],
    "stop": ["HABIT"],
    "start": ["HABIT"],
    "route": ["CITY", "TOWN", "MODE"],
    "better": ["LEFT", "WHOM"],
    "differ": ["LEFT", "WHOM"],
    "price": ["TASK", "CITY"],
    "duration": ["TASK", "CITY"],
    "act": ["ROLE", "ACT", "OTHER"],
    "cause": ["CAUSE", "EFFECT"],
    "order": ["FIRST"],
    "why": ["GROUP", "TRAIT"],
    "why_not": ["GROUP", "TRAIT"],
}
FILLERS = {
    "SKILL": SKILLS,
    "HABIT": HABITS,
    "CITY": CITIES,
    "TOWN": CITIES,
    "MODE": MODES,
    "TASK": TASKS,
    "ROLE": ROLES,
    "OTHER": ROLES,
    "ACT": ACTS,
    "CAUSE": CAUSES,
    "EFFECT": CAUSES,
    "GROUP": GROUPS,
    "TRAIT": TRAITS,
}
PERSONAL = (
    "learn",
    "teach",
    "stop",
    "start",
    "route",
    "price",
    "duration",
    "order",
)  # intents of someone who asks for advice
DUPLICATES = 0.45
NOISE = 0.04  # share of flipped labels


@dataclass(frozen=True)
class Question:
    intent: str
    slots: tuple[tuple[str, str | tuple[str, str]], ...]
    tail: str


def _fill(rng: random.Random, slot: str, values: dict) -> None:
    """Give ``slot`` a value other than those that ``values`` holds; what is compared and for whom stay in one
    domain."""
    if slot == "FIRST":
        pair = pick(rng, [p for p in STEPS if values.get(slot) not in p])
        values["FIRST"], values["SECOND"] = pair if rng.random() < 0.5 else pair[::-1]
    elif slot == "LEFT":
        domains = [pairs for pairs, purposes in COMPARED if values.get("WHOM", purposes[0]) in purposes]
        pair = pick(rng, [p for p in pick(rng, domains) if values.get(slot) not in p])
        values["LEFT"], values["RIGHT"] = pair if rng.random() < 0.5 else pair[::-1]
    elif slot == "WHOM":
        purposes = next(known for pairs, known in COMPARED if any(values["LEFT"] in p for p in pairs))
        values["WHOM"] = pick(rng, [p for p in purposes if p != values.get("WHOM")])
    else:
        values[slot] = pick(rng, [v for v in FILLERS[slot] if v not in values.values()])  # type: ignore[attr-defined]  # texts


def _tail(rng: random.Random, intent: str, other_than: str | None = None) -> str:
    tails = ABOUT_ME if intent in PERSONAL else ANYWHERE
    bare = other_than != "" and rng.random() < NO_TAIL
    return "" if bare else pick(rng, [tail for tail in tails if tail != other_than])


def _question(rng: random.Random) -> Question:
    values: dict[str, str]
    intent, values = pick(rng, tuple(WORDINGS)), {}
    for slot in SLOTS[intent]:
        _fill(rng, slot, values)
    return Question(intent, tuple(values.items()), _tail(rng, intent))


def _near_miss(rng: random.Random, question: Question) -> tuple[Question, str]:
    """A different question that looks alike."""
    values, intent, tail = dict(question.slots), question.intent, question.tail
    ways = [("slot", 40), ("unrelated", 18), ("tail", 6)]
    ways += [("swap", 30)] if intent in SWAP else []
    ways += [("intent", 30)] if intent in TWIN else []
    way = weighted(rng, ways)
    if way == "unrelated":
        return _question(rng), way
    if way == "tail":
        tail = _tail(rng, intent, tail)
    elif way == "swap":
        a, b = SWAP[intent]
        values[a], values[b] = values[b], values[a]
    elif way == "intent":
        intent = TWIN[intent]
    else:
        _fill(rng, pick(rng, SLOTS[intent]), values)
    return Question(intent, tuple(values.items()), tail), way


def _ask(rng: random.Random, question: Question, wording: str) -> str:
    text = wording
    for slot, value in question.slots:
        for index in (0, 1):
            text = text.replace(f"{slot}#{index}", value[index])
        text = text.replace(slot, value) if isinstance(value, str) else text
    if question.tail and (question.intent == "order" or rng.random() < 0.4):
        text = f"{question.tail}, {text[0].lower()}{text[1:]}"
    else:
        text = text.replace("?", f" {question.tail}?" if question.tail else "?")
    return sentence(text, end="")


def draw_pair(rng: random.Random) -> tuple[tuple[str, str], int, str]:
    """One ``quora`` row: ``((sentence1, sentence2), is_duplicate 0 | 1, kind)``."""
    first = _question(rng)
    label = int(rng.random() < DUPLICATES)
    second, kind = (first, "duplicate") if label else _near_miss(rng, first)
    one = pick(rng, WORDINGS[first.intent])
    two = pick(rng, [w for w in WORDINGS[second.intent] if w != one])
    texts = (_ask(rng, first, one), _ask(rng, second, two))
    return texts, 1 - label if rng.random() < NOISE else label, kind
