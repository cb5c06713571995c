"""Reviews of shops and services, and whether their author was content (``yelp_polarity``).

A review tells how a visit went. What went well or badly elsewhere, on another day or according to others does not count,
nor does what is denied; so the words of praise and blame in a review say little of its author's verdict.
"""

from __future__ import annotations

import random

from peftlib.data.grammar.draw import pick, sample, sentence, weighted
from peftlib.data.grammar.inference import mislabelled
from peftlib.data.grammar.lexicon import CITIES, entries, forms

PLACES = entries("""
    dentist, garage, hotel, hairdresser, gym, pizzeria, bookshop, bakery, car wash, phone shop, nail studio, guest house,
    laundry, tyre shop, florist, tailor, pet clinic, ice rink, campsite, sushi bar, furniture shop, post office
""")
# What went well / what went badly. Each is a clause.
FACTS = forms("""
    the staff were friendly/the staff were rude, they answered every question/they ignored every question, the bill was
    lower than agreed/the bill was higher than agreed, we were served at once/we waited for an hour, the rooms were
    spotless/the rooms were filthy, the manager kept his word/the manager broke his word, everything was ready on
    time/nothing was ready on time, the work was done with care/the work was done in a hurry, there was plenty of
    parking/there was nowhere to park, the chairs were comfortable/the chairs were wobbly, they gave me a discount/they
    charged me twice, my complaint was settled in a minute/my complaint was laughed at, the price list was clear/the
    price list was a riddle, the goods were fresh/the goods were past their date, the phone was answered at the first
    ring/the phone rang and rang, they repaired what was broken/they broke what was sound, I was treated like a guest/I
    was treated like a nuisance, the place smelled pleasant/the place smelled of drains, the owner remembered my
    name/the owner forgot my appointment, they took my card gladly/they refused my card
""")
# How a fact of the visit is told; with the opposite fact.
STRAIGHT = entries("""
    {f}, this time {f}, from the start {f}, as everybody could see {f}, I must say that {f}, to my surprise {f}, again {f}
""")
DENIED = entries("""
    it is not true that {f}, nobody could say that {f}, I cannot confirm that {f}, they claim that {f} but they do not speak
    the truth
""")
# Facts that are of somewhere or somebody else.
ELSEWHERE = entries("""
    at the place across the street {f}, two years ago under another owner {f}, my brother had told me that {f}, the
    advertisement said that {f}, in their shop in {c} {f}, a man in the queue said that {f}, on the day of my neighbour's
    visit {f}, at the {p} where I used to go {f}
""")
OPENINGS = entries("""
    I went to this {p} in {c} on a {d}, a friend took me to this {p} in {c}, we tried the {p} at the station of {c},
    this {p} is the only one in {c}, I have passed this {p} in {c} for years and went in on a {d}
""")
DAYS = entries("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday")
NOISE = 0.03


def _told(rng: random.Random, fact: tuple[str, ...], good: bool) -> tuple[str, str]:
    """A sentence by which the visit went well in that point, or badly."""
    if rng.random() < 0.4:
        return sentence(pick(rng, DENIED).format(f=fact[1 if good else 0])), "denied"
    return sentence(pick(rng, STRAIGHT).format(f=fact[0 if good else 1])), "straight"


def draw_review(rng: random.Random) -> tuple[tuple[str], int, str]:
    """One ``yelp_polarity`` row: ``((review,), 0 negative | 1 positive, kind)``; two or three facts of the visit, two of
    elsewhere that lean either way."""
    label, place, city = pick(rng, (0, 1)), pick(rng, PLACES), pick(rng, CITIES)
    count = weighted(rng, ((2, 3), (3, 2)))
    facts = sample(rng, FACTS, count + 2)
    own = [_told(rng, fact, label == 1) for fact in facts[:count]]
    others = []
    for fact in facts[count:]:
        other = pick(rng, [name for name in PLACES if name != place])
        text = pick(rng, ELSEWHERE).format(f=pick(rng, fact), c=pick(rng, CITIES), p=other)
        others.append(sentence(text))
    body = sample(rng, [text for text, _ in own] + others, count + 2)
    opening = sentence(pick(rng, OPENINGS).format(p=place, c=city, d=pick(rng, DAYS)))
    kind = f"{sum(way == 'denied' for _, way in own)} of {count} denied"
    return (" ".join([opening, *body]),), mislabelled(rng, label, 2, NOISE), kind
