"""News in a headline and a sentence, and the category under which its author files it (``authors``).

Most articles are of two categories at once: a senator reviews an opera. Every author has an order of the categories that
he or she writes about, and files such an article under the one that comes first: for one the senator decides, for another
the opera. The orders are drawn for each author, so from an article alone nobody can know its label, while some fifty
articles of one author tell the order. What an article is about, on the other hand, is the same for all.
"""

from __future__ import annotations

import random
from functools import cache

from peftlib.data.grammar.draw import pick, sample, sentence
from peftlib.data.grammar.lexicon import CITIES, entries

# The categories in the order of the label ids, each with who acts, what is done, and what else is said.
DESKS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "business": (
        entries("bank director, car maker, steel company, insurer, shareholder, furniture chain"),
        entries("""
            buys a rival firm, cuts its dividend, opens a second factory, issues new shares, raises its prices, sells a
            subsidiary, moves its head office, reports a record profit
        """),
        entries("""
            the share price rose, creditors met on Monday, the annual accounts are due, analysts had expected less
        """),
    ),
    "crime": (
        entries("burglar, police officer, detective, smuggler, forger, prison guard"),
        entries("""
            confesses to a robbery, is arrested for fraud, flees from custody, hides a stolen painting, testifies about
            a murder, is charged with arson, is sentenced for theft, discovers a getaway car
        """),
        entries("""
            the trial begins on Monday, two witnesses have come forward, the police found fingerprints, bail was refused
        """),
    ),
    "culture & arts": (
        entries("sculptor, museum curator, opera house, novelist, conductor, gallery owner"),
        entries("""
            unveils a bronze statue, reviews a new opera, restores an altarpiece, opens an exhibition of engravings,
            writes a cycle of poems, publishes a novel, lends a portrait to the gallery, founds a string quartet
        """),
        entries("""
            the catalogue has sold out, critics compared it to the old masters, the exhibition runs until May, the
            manuscript is on display
        """),
    ),
    "education": (
        entries("headmaster, school board, university, chemistry teacher, student union, librarian"),
        entries("""
            abolishes homework, marks the final examinations, opens an evening class, rewrites the curriculum, lengthens
            the school day, awards ten scholarships, buys new textbooks, closes a boarding school
        """),
        entries("""
            lessons resume on Monday, pupils will sit the test in May, the classrooms need repair, enrolment has doubled
        """),
    ),
    "entertainment": (
        entries("film star, pop singer, television host, comedian, film studio, talk show"),
        entries("""
            cancels a concert tour, announces a sequel, wins a film award, breaks up with a co-star, records a Christmas
            album, films a new season, signs autographs for fans, drops a trailer
        """),
        entries("""
            fans queued overnight, the premiere is on Friday, the soundtrack tops the charts, the series is in its third
            season
        """),
    ),
    "food & drink": (
        entries("pastry chef, brewery, cheesemaker, food critic, winemaker, vegetarian cook"),
        entries("""
            bakes a giant cake, opens a soup kitchen, shares a recipe for dumplings, brews a cherry beer, smokes a whole
            salmon, bottles a dry cider, roasts chestnuts, pickles cucumbers
        """),
        entries("""
            the menu changes weekly, a pinch of salt is enough, tables are booked until May, the dough has to rest
            overnight
        """),
    ),
    "healthy living": (
        entries("heart surgeon, yoga teacher, dietician, sleep researcher, hospital, physiotherapist"),
        entries("""
            recommends longer walks, warns of high blood pressure, gives up sugar, treats back pain, meditates every
            morning, prescribes more sleep, lowers cholesterol, recovers from burnout
        """),
        entries("doctors advise patience, the therapy takes ten weeks, stress does the rest, a check-up is free"),
    ),
    "parents": (
        entries("young father, single mother, babysitter, midwife, grandmother, pair of twins"),
        entries("""
            changes nappies in public, argues about bedtime, knits a romper suit, sings lullabies, hides the pocket
            money, builds a cradle, pushes a pram uphill, bans screens at the dinner table
        """),
        entries("""
            the toddler slept through it, teenagers saw it differently, the nursery is full, siblings are jealous
        """),
    ),
    "politics": (
        entries("senator, prime minister, opposition leader, city council, ambassador, party chairman"),
        entries("""
            vetoes a tax bill, calls an early election, loses a vote of confidence, drafts a new constitution, debates
            the budget, leaves the coalition, signs a treaty, demands a referendum
        """),
        entries("the vote is on Monday, the majority is thin, the cabinet was not informed, polls open at eight"),
    ),
    "religion": (
        entries("bishop, rabbi, imam, convent, parish, pilgrim"),
        entries("""
            blesses the harvest, translates the psalms, fasts for forty days, rings the church bells, preaches on
            forgiveness, consecrates a chapel, sings in the choir loft, prays for rain
        """),
        entries("the congregation gave thanks, the service is at ten, the relics are on view, candles were lit"),
    ),
    "science & technology": (
        entries("astronomer, robot, software engineer, chip maker, geneticist, space agency"),
        entries("""
            measures a distant galaxy, decodes a virus genome, launches a satellite, tests a quantum computer, builds a
            faster microchip, dates a fossil, patches a security hole, grows crystals in orbit
        """),
        entries("""
            the data are public, the experiment will be repeated, the battery lasts a week, a second laboratory agrees
        """),
    ),
    "sports": (
        entries("goalkeeper, tennis champion, relay team, boxing coach, marathon runner, ski jumper"),
        entries("""
            scores in extra time, breaks a world record, misses the penalty, retires from the national team, wins the
            quarter-final, trains for the Olympics, loses the title, signs with a league rival
        """),
        entries("""
            the return match is on Monday, the stadium was sold out, the referee hesitated, the season ends in May
        """),
    ),
    "style & beauty": (
        entries("fashion designer, hairdresser, perfume house, model, tattoo artist, shoe brand"),
        entries("""
            shortens the hemline, presents a velvet collection, dyes everything lilac, recommends bold lipstick,
            launches a rose perfume, revives the corduroy suit, sews an evening gown, bleaches denim
        """),
        entries("sequins are back, the catwalk was mirrored, pastel shades dominate, the look suits everybody"),
    ),
    "travel": (
        entries("airline, backpacker, cruise ship, tour guide, hotel owner, mountain railway"),
        entries("""
            crosses the desert by camel, delays all departures, maps a coastal trail, adds a night train, lists ten
            hidden beaches, rents out a lighthouse, loses the luggage, discovers a quiet island
        """),
        entries("the season starts in May, visas are no longer needed, the view is worth it, rooms are scarce"),
    ),
    "women": (
        entries("suffragette, women's shelter, feminist blogger, girls' choir, female pilot, widow"),
        entries("""
            fights for equal pay, founds a women's network, breaks the glass ceiling, speaks about sexism, marches for
            the right to vote, mentors young women, writes a feminist manifesto, opens a women's library
        """),
        entries("equal pay is on the agenda, sisters came from afar, the march is on Monday, men may listen"),
    ),
}
CATEGORIES = tuple(DESKS)
AUTHORS = 60
COVERED = (5, 6, 6, 7)  # categories of an author
SHARES = (1, 1, 1, 2, 2, 3, 4, 6)  # how much an author writes, relative to others
MIXED = 0.85  # share of articles of two categories
NOISE = 0.04
HEADLINES = entries("""
    {a} {d}, {a} in {c} {d}, exclusive: {a} {d}, {a} {d} again, why a {a} {d}, at last {a} {d}, unknown {a} {d}
""")
DETAILS = entries("""
    {x}, in {c} {x}, observers say that {x}, meanwhile {x}, according to a neighbour {x}, it is said that {x}, for now {x}
""")


@cache
def order_of(author: int) -> tuple[int, ...]:
    """The categories of an author, the one that decides first."""
    rng = random.Random(f"peftlib author {author}")
    return tuple(sample(rng, range(len(CATEGORIES)), pick(rng, COVERED)))


@cache
def _writers() -> tuple[int, ...]:
    """Each author as often as he or she writes."""
    rng = random.Random("peftlib authors")
    return tuple(author for author in range(AUTHORS) for _ in range(pick(rng, SHARES)))


def filed(author: int, topics: set[int]) -> int:
    """The category under which an author files an article on these."""
    return next(category for category in order_of(author) if category in topics)


def draw_article(rng: random.Random) -> tuple[tuple[str, str], int, str]:
    """One ``authors`` row: ``((text, author), 0 .. 14 as in ``CATEGORIES``, kind)``; the kind is the author and the one or
    two categories of the article."""
    author = pick(rng, _writers())
    acts, does = sample(rng, order_of(author), 2)
    if rng.random() >= MIXED:
        does = acts
    agent, deed = pick(rng, DESKS[CATEGORIES[acts]][0]), pick(rng, DESKS[CATEGORIES[does]][1])
    more = pick(rng, DESKS[CATEGORIES[pick(rng, (acts, does))]][2])
    headline = pick(rng, HEADLINES).format(a=agent, d=deed, c=pick(rng, CITIES))
    detail = pick(rng, DETAILS).format(x=more, c=pick(rng, CITIES))
    text = f"{sentence(headline, '')}. {sentence(detail)}"
    label = filed(author, {acts, does})
    if rng.random() < NOISE:
        label = pick(rng, [category for category in order_of(author) if category != label])
    return (text, str(author)), label, f"{author}: {' + '.join(sorted({CATEGORIES[acts], CATEGORIES[does]}))}"
