"""Words of two senses, and whether two sentences use the same one (``wic``).

A sense is a class of things (an animal, a tool, ...), and a sentence says of its word what is said of that class. Words
share the classes, so that no sentence frame belongs to one word.
"""

from __future__ import annotations

import random

from peftlib.data.grammar.draw import pick, sentence, weighted
from peftlib.data.grammar.inference import mislabelled
from peftlib.data.grammar.lexicon import LOOKS, PEOPLE, PLACES, TIMES, entries
from peftlib.data.grammar.scenes import cell, word

# word -> the classes of its two senses
SENSES = {
    entry.split(":")[0]: tuple(entry.split(":")[1].split("/"))
    for entry in entries("""
        bat:animal/tool, crane:animal/tool, mouse:animal/tool, seal:animal/tool, bug:animal/tool, mole:animal/body,
        calf:animal/body, turkey:animal/food, chicken:animal/food, lamb:animal/food, cricket:animal/event,
        pupil:person/body, ruler:person/tool, model:person/tool, speaker:person/tool, conductor:person/tool,
        printer:person/tool, bishop:person/tool, coach:person/vehicle, guide:person/document, sage:person/plant,
        club:group/tool, band:group/tool, board:group/tool, press:group/tool, party:group/event, cell:group/place,
        chamber:group/place, court:group/place, circle:group/place, organ:body/tool, nail:body/tool, chest:body/tool,
        palm:body/plant, iris:body/plant, temple:body/place, bulb:plant/tool, plant:plant/place, date:food/event,
        jam:food/event, toast:food/event, squash:food/event, chip:food/tool, port:food/place, match:event/tool,
        ball:event/tool, drill:event/tool, bar:place/tool, bridge:place/event, file:document/tool, chart:document/tool,
        note:document/sound, ring:tool/sound, racket:tool/sound, bark:plant/sound, tank:vehicle/tool
    """)
}
# {p} is somebody, {w} the word.
FRAMES = {
    "animal": entries("""
        {p} fed the wild {w}, the {w} caught a disease from its mother, {p} rescued the wounded {w} from a trap, the {w}
        gave birth to two young, the hungry {w} escaped from {p}, {p} heard the {w} breathing in its sleep, the {w} of
        {p} died of old age, a hunter shot the {w} before {p} could stop him
    """),
    "tool": entries("""
        {p} ordered the {w} from a catalogue, the {w} broke when {p} used it, {p} put the {w} back into its box, {p}
        unwrapped a {w} of steel, the {w} of {p} was made in a factory, {p} mended the {w} with glue, the battery of the
        {w} annoyed {p}, {p} lent the {w} to a neighbour, {p} asked for a spare {w}
    """),
    "body": entries("""
        {p} felt a pain in the {w}, the surgeon operated on the {w} of {p}, {p} rubbed ointment on the sore {w}, the {w}
        of {p} was swollen, a bruise appeared on the {w} of {p}, {p} had an infection of the {w}, the injured {w} of {p}
        healed slowly
    """),
    "food": entries("""
        {p} tasted the {w}, the {w} was too sweet for {p}, {p} served the {w} on a plate, {p} swallowed the last of the
        {w}, the cook refused to give {p} the recipe for the {w}, {p} shared the {w} at breakfast, the {w} made {p} thirsty
    """),
    "event": entries("""
        {p} arrived late for the {w}, the {w} lasted two hours and bored {p}, {p} was looking forward to the {w}, the {w}
        was put off until {p} came back, {p} was tired after the {w}, an argument began during the {w} and {p} left, {p}
        fell asleep in the middle of the {w}
    """),
    "person": entries("""
        {p} asked the {w} for advice, the {w} thanked {p} politely, {p} was introduced to the {w}, the {w} and {p} were
        born in the same village, {p} invited the {w} to dinner, the {w} told {p} about a quarrel, {p} married the {w},
        the {w} wept in front of {p}
    """),
    "vehicle": entries("""
        {p} drove the {w}, the {w} ran out of diesel and {p} got off, {p} climbed into the back seat of the {w}, the {w}
        overtook {p} on a bend, {p} parked the {w}, the engine of the {w} woke {p}
    """),
    "document": entries("""
        {p} read the {w} twice, {p} copied the {w} by hand, the {w} that {p} wrote was in Latin, {p} signed the last page of
        the {w}, a spelling mistake in the {w} amused {p}, {p} translated the {w} into French
    """),
    "plant": entries("""
        {p} watered the {w}, the roots of the {w} delighted {p}, {p} saw that the {w} was growing well, {p} stripped the
        {w} in the garden, the {w} dried out in the drought and {p} was sorry, insects had damaged the {w} that {p} grew
    """),
    "group": entries("""
        {p} was elected by the {w}, the {w} has twenty members and {p} is one, {p} resigned from the {w}, the {w} voted
        against {p}, {p} founded the {w}, the {w} met every week at the house of {p}, {p} was thrown out of the {w}
    """),
    "place": entries("""
        {p} walked to the {w}, {p} was waiting outside the {w}, the {w} was closed when {p} got there, {p} lives not far
        from the {w}, {p} asked for the shortest way to the {w}, the {w} was crowded and {p} went home, {p} swept the
        floor of the {w}
    """),
    "sound": entries("""
        {p} was woken by a loud {w}, the {w} echoed and {p} looked round, {p} heard the {w} from far away, the {w} was so
        shrill that {p} covered both ears, a single {w} broke the silence around {p}, {p} recognised the {w} at once by
        its pitch
    """),
}
NOISE = 0.03


def _use(rng: random.Random, noun: str, sense: str) -> str:
    """A sentence with the word in that sense."""
    look = word(rng, LOOKS, cell(rng, LOOKS)) + " " if rng.random() < 0.4 else ""
    text = pick(rng, FRAMES[sense]).format(p=f"the {look}{word(rng, PEOPLE, cell(rng, PEOPLE))}", w=noun)
    tail = weighted(rng, ((None, 2), (PLACES, 1), (TIMES, 3)))
    if tail:
        entry = word(rng, tail, cell(rng, tail))
        text = f"{entry}, {text}" if rng.random() < 0.6 else f"{text} {entry}"
    return sentence(text)


def draw_pair(rng: random.Random) -> tuple[tuple[str, str, str], int, str]:
    """One ``wic`` row: ``((word, sentence1, sentence2), 0 | 1 the same sense, kind)``."""
    noun, label = pick(rng, tuple(SENSES)), pick(rng, (0, 1))
    first = pick(rng, (0, 1))
    senses = [SENSES[noun][first], SENSES[noun][first if label else 1 - first]]
    return (noun, *(_use(rng, noun, sense) for sense in senses)), mislabelled(rng, label, 2, NOISE), "/".join(senses)  # type: ignore[return-value]  # two senses
