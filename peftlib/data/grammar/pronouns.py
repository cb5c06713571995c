"""Whom a pronoun stands for: pairs with one pronoun (``wnli``), and two of them that differ in the pronoun alone (``axg``).

Somebody does something to somebody else for a reason. Every deed has two reasons, one that can only be the first
person's and one that can only be the second's, and the order of the clauses changes; so neither the reason nor the place
of a name decides, but what the reason says about the deed.
"""

from __future__ import annotations

import random

from peftlib.data.grammar.draw import pick, sentence
from peftlib.data.grammar.inference import mislabelled
from peftlib.data.grammar.lexicon import LOOKS, PEOPLE, TIMES
from peftlib.data.grammar.scenes import another, cell, word

# what {a} does to {b}; a reason that is of {a}; a reason that is of {b}
DEEDS = tuple(
    tuple(part.strip() for part in line.split("|"))
    for line in """
    {a} asked {b} the way | was lost | knew the town well
    {a} thanked {b} | had received good advice | had given good advice
    {a} envied {b} | longed for a little success | was always successful
    {a} hired {b} | needed a capable assistant | had excellent references
    {a} dismissed {b} | wanted to save wages | came to work late every day
    {a} comforted {b} | hated to see anybody cry | was in tears
    {a} borrowed a pen from {b} | had forgotten to bring one | always carried several
    {a} paid {b} | had promised to settle the bill | had finished the work
    {a} apologised to {b} | had lost all self-control | had been insulted for no reason
    {a} lent money to {b} | had plenty to spare | was short of cash
    {a} visited {b} in hospital | wanted to bring flowers | was recovering from an operation
    {a} called {b} for help | could not lift the trunk alone | had the strongest arms in the street
    {a} lost the race to {b} | had slept badly | had trained harder
    {a} taught {b} French | spoke it without an accent | wanted to move to Paris
    {a} waited for {b} | had arrived too early | was delayed by the snow
    {a} followed {b} | could not find the way alone | had the only map
    {a} gave {b} a lift | had a car with an empty seat | had missed the last bus
    {a} forgave {b} | was not one to bear a grudge | had said sorry many times
    {a} interviewed {b} | was writing an article | had survived the accident
    {a} bought a bicycle from {b} | needed one for work | had two of them to sell
    {a} carried {b} home | was strong enough for the hill | had sprained an ankle
    {a} refused to believe {b} | had been deceived before | was known for telling lies
    {a} voted for {b} | hoped for lower taxes | had promised lower taxes
    {a} scolded {b} | had run out of patience | had broken a window
    {a} congratulated {b} | had heard the good news | had passed the examination
    {a} invited {b} to dinner | liked to cook for guests | was new in the town
    {a} reported {b} to the police | had noticed the theft | had stolen a wallet
    {a} failed to recognise {b} | had left the glasses at home | was wearing a mask
    {a} beat {b} at chess | had planned every move | had made a careless mistake
    {a} gave the keys to {b} | was leaving for a month | was going to water the plants
    {a} cooked for {b} | loved to stand in the kitchen | had a broken wrist
    {a} woke {b} | could not bear the snoring | was snoring loudly
    """.strip().splitlines()
)
PRONOUNS = ("he", "she")
GENDERED = ("mother", "mum", "father", "dad", "uncle", "grandmother", "grandma", "waiter", "actor")
# People by whose names nobody knows whether they are "he" or "she".
ANYBODY = [
    [
        "/".join(found)
        for entry in family
        if (found := [name for name in entry.split("/") if name not in GENDERED and not name.endswith("man")])
    ]
    for family in PEOPLE
    if "cousin" not in family
]
NOISE = 0.03


def _draw(rng: random.Random) -> tuple[list[str], str, int, str]:
    """The premise with each pronoun, the hypothesis, whether it follows, and the deed."""
    deed, *reasons = pick(rng, DEEDS)
    cells = [cell(rng, ANYBODY)]
    cells.append(another(rng, ANYBODY, cells[0], near=False))
    people = [f"the {word(rng, ANYBODY, at)}" for at in cells]
    meant, follows = pick(rng, (0, 1)), pick(rng, (0, 1))
    look = word(rng, LOOKS, cell(rng, LOOKS)) + " " if rng.random() < 0.4 else ""
    told = deed.format(a=people[0].replace("the ", f"the {look}", 1), b=people[1])
    form = pick(rng, ("{d} because {p} {r}", "{d} because {p} {r}", "{t}, {d} because {p} {r}", "because {p} {r}, {d}"))
    when = word(rng, TIMES, cell(rng, TIMES))
    premises = [sentence(form.format(d=told, p=pronoun, r=reasons[meant], t=when)) for pronoun in PRONOUNS]
    named = people[meant if follows else 1 - meant]
    return premises, sentence(f"{named} {reasons[meant]}"), follows, deed.format(a="somebody", b="somebody")


def draw_pair(rng: random.Random) -> tuple[tuple[str, str], int, str]:
    """One ``wnli`` row: ``((sentence1, sentence2), 0 | 1 entailment, kind)``."""
    premises, hypothesis, follows, kind = _draw(rng)
    return (pick(rng, premises), hypothesis), mislabelled(rng, follows, 2, NOISE), kind


def draw_both(rng: random.Random) -> list[tuple[tuple[str, str], int, str]]:
    """Two ``axg`` rows that differ in the pronoun alone: ``((premise, hypothesis), 0 entailment | 1, kind)`` each."""
    premises, hypothesis, follows, kind = _draw(rng)
    return [((premise, hypothesis), 1 - follows, kind) for premise in premises]
