"""What happened before, what came of it (``copa``).

A chain of three steps of which each leads to the next. A premise is one step, the right choice comes before it (cause)
or after it (effect); the wrong one comes from the other end of the same chain, or from another chain.
"""

from __future__ import annotations

import random

from peftlib.data.grammar.draw import pick, sentence
from peftlib.data.grammar.inference import mislabelled
from peftlib.data.grammar.lexicon import LOOKS, PEOPLE, TIMES
from peftlib.data.grammar.scenes import cell, word

# {p} is somebody; ";" separates the steps.
CHAINS = tuple(
    tuple(" ".join(step.split()) for step in chain.split(";"))
    for chain in """
    {p} forgot the umbrella; {p} got wet in the rain; {p} caught a cold
    {p} stayed up all night; {p} overslept; {p} missed the early train
    {p} left the tap running; water covered the floor around {p}; {p} had to dry the carpet
    {p} dropped a vase; {p} stood among broken glass; {p} fetched a broom
    {p} trained every day; {p} won the race; {p} was given a medal
    {p} lost the house key; {p} stood before a locked door; {p} climbed in through the window
    {p} left the oven on; smoke rose from the bread of {p}; {p} opened all the windows
    {p} told a good joke; the guests of {p} laughed; {p} was invited again
    {p} drove too fast; {p} was stopped by the police; {p} had to pay a fine
    {p} ran out of petrol; {p} was left standing with a silent engine; {p} pushed the car home
    {p} skipped lunch; {p} grew hungry; {p} ordered a large dinner
    {p} worked in the sun; {p} grew thirsty; {p} drank a jug of water
    {p} slipped on the ice; {p} broke an arm; {p} wore a plaster cast
    {p} forgot a birthday; a friend was angry with {p}; {p} bought flowers to say sorry
    {p} saved for years; {p} had enough money; {p} bought a small house
    {p} practised the violin; {p} played without a mistake; the audience clapped for {p}
    {p} ignored a toothache; the tooth of {p} went bad; {p} had the tooth pulled out
    {p} sowed seeds; flowers came up in the garden of {p}; {p} put a bunch of them on the table
    {p} ate spoilt fish; {p} felt sick; {p} went to bed with a bucket
    {p} left the gate open; the dog of {p} ran away; {p} put up notices in the street
    {p} read in poor light; the eyes of {p} began to hurt; {p} bought a stronger lamp
    {p} spilt ink on a shirt; the shirt of {p} was stained; {p} put the shirt in the wash
    {p} insulted the manager; {p} was dismissed; {p} looked for another job
    {p} heard a strange noise; {p} was frightened; {p} locked the bedroom door
    {p} walked through nettles; the legs of {p} itched; {p} put ointment on them
    {p} left the lights of the car on; the battery of {p} was flat; {p} asked a neighbour for a cable
    {p} shook the bottle of lemonade; the lemonade sprayed over {p}; {p} changed clothes
    {p} studied hard; {p} passed the examination; {p} received a certificate
    {p} gave away the secret; everybody talked about {p}; {p} moved to another town
    {p} found a purse in the street; {p} took the purse to its owner; {p} got a reward
    {p} cut down the old tree; {p} had plenty of logs; {p} lit the stove
    {p} lent a book to a stranger; {p} never saw the book again; {p} ordered a second copy
    {p} sat on a wet bench; the trousers of {p} were damp; {p} hung the trousers over a chair
    {p} took the wrong road; {p} was lost; {p} studied the map
    {p} carried heavy boxes; {p} had a sore back; {p} lay down on the sofa
    {p} fed the stray cat; the cat came back to {p} each evening; {p} gave the cat a name
    {p} forgot to charge the phone; the phone of {p} went dead; {p} used a call box
    {p} planted beans too early; frost killed the beans of {p}; {p} sowed the bed once more
    {p} shouted at the match; {p} became hoarse; {p} sucked a cough sweet
    {p} slept by an open window; mosquitoes bit {p}; {p} hung a net above the bed
    """.strip().splitlines()
)
OTHER_CHAIN = 0.4  # share of wrong choices of another chain where the same chain has one
NOISE = 0.03


def _tell(step: str, who: str) -> str:
    return sentence(step.format(p=who))


def draw_choice(rng: random.Random) -> tuple[tuple[str, str, str, str], int, str]:
    """One ``copa`` row: ``((premise, question, choice1, choice2), 0 | 1 the right choice, kind)``."""
    chain, question, label = pick(rng, CHAINS), pick(rng, ("cause", "effect")), pick(rng, (0, 1))
    at = pick(rng, (1, 1, 1, 2) if question == "cause" else (0, 1, 1, 1))
    right = chain[pick(rng, range(at) if question == "cause" else range(at + 1, 3))]
    same = at == 1 and rng.random() >= OTHER_CHAIN
    wrong = chain[2 if question == "cause" else 0] if same else pick(rng, pick(rng, [c for c in CHAINS if c is not chain]))
    look = word(rng, LOOKS, cell(rng, LOOKS)) + " " if rng.random() < 0.6 else ""
    who = f"the {look}{word(rng, PEOPLE, cell(rng, PEOPLE))}"
    premise = _tell(f"{word(rng, TIMES, cell(rng, TIMES))}, {chain[at]}", who)
    choices = [_tell(step, who) for step in ((right, wrong) if label == 0 else (wrong, right))]
    kind = f"{question}, {'same' if same else 'another'} chain"
    return (premise, question, *choices), mislabelled(rng, label, 2, NOISE), kind  # type: ignore[return-value]  # two choices
