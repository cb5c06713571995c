"""Embedded clauses, and whether the text stands by them (``cb``).

"She realised that p" says that p, and so does "she never realised that p"; "it was not false that p" says p, "it was
not true that p" its denial; "she hoped that p" says neither.
"""

from __future__ import annotations

import random
from dataclasses import replace

from peftlib.data.grammar.draw import pick, sentence
from peftlib.data.grammar.inference import CONTRADICTION, ENTAILMENT, NEUTRAL, clause, hypothesis_for, mislabelled, relation
from peftlib.data.grammar.lexicon import PEOPLE, entries
from peftlib.data.grammar.scenes import cell, draw_event, tell, word

LABELS = {ENTAILMENT: 0, CONTRADICTION: 1, NEUTRAL: 2}  # the order of the real task
# What frames say of the clause: 1 that it is true, -1 that it is false, 0 neither. {s} is somebody.
FRAMES = {
    1: entries("""
        {s} realised that, {s} never realised that, {s} found out that, {s} never found out that, {s} was sorry that,
        {s} was not sorry that, {s} had forgotten that, {s} had not forgotten that, {s} was aware that, {s} was not
        aware that, {s} was glad that, {s} never learnt that, it was true that, it was not false that, {s} was right
        in thinking that, {s} was not mistaken in thinking that, {s} regretted that,
        {s} never regretted that
    """),
    -1: entries("""
        it was false that, it was not true that, {s} was mistaken in thinking that, {s} was not right in thinking that,
        {s} pretended that, {s} dreamt that, {s} wrongly believed that, {s} told the lie that, {s} was under the
        illusion that, {s} invented the tale that, {s} acted as if it were so that
    """),
    0: entries("""
        {s} believed that, {s} never believed that, {s} hoped that, {s} was sure that, {s} was not sure that, {s}
        claimed that, {s} never claimed that, {s} feared that, {s} suspected that, {s} had not said that, {s} thought
        it likely that, {s} never proved that, {s} doubted that, {s} wondered whether, {s} did not know whether, {s}
        asked whether, it was not certain that
    """),
}


def draw_pair(rng: random.Random) -> tuple[tuple[str, str], int, str]:
    """One ``cb`` row: ``((premise of two sentences, hypothesis), 0 entailment | 1 contradiction | 2 neutral, kind)``."""
    label, found, value = pick(rng, (ENTAILMENT, CONTRADICTION, NEUTRAL)), None, 0
    while found is None:
        value = pick(rng, (1, -1)) if label != NEUTRAL else pick(rng, (1, -1, 0))
        event = replace(draw_event(rng), denied=rng.random() < 0.3)
        fact = replace(event, denied=event.denied != (value == -1))

        def wanted(hypothesis, fact=fact, value=value):
            return (relation(fact, hypothesis) if value else NEUTRAL) == label

        found = hypothesis_for(rng, event, wanted, denied=0.4)
    somebody = "the " + word(rng, PEOPLE, cell(rng, PEOPLE))
    frame = pick(rng, FRAMES[value]).format(s=somebody)
    premise = f"{tell(rng, draw_event(rng))} {sentence(f'{frame} {clause(rng, event)}')}"
    return (premise, tell(rng, found[0])), mislabelled(rng, LABELS[label], 3), frame.replace(somebody, "...")
