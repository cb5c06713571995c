"""Opinions: single sentences with five grades, and reviews of several sentences with two.

The grade of a sentence (-2 .. 2) is *computed* from how it is built, so that words alone do not give it away:
negation, contrast, whose opinion it is, what was only hoped for, what it is compared with, and praise or blame
that belongs to the story and not to the work. See ``data/README.md`` for the rules.
"""

from __future__ import annotations

import random

from peftlib.data.grammar.draw import pick, sample, sentence, weighted

GRADED = {
    2: """superb brilliant outstanding magnificent dazzling exquisite masterful breathtaking phenomenal wonderful glorious
        sublime stunning extraordinary flawless terrific splendid marvellous exceptional spectacular unforgettable
        irresistible triumphant""".split(),
    1: """pleasant decent solid likeable enjoyable charming engaging warm amusing clever thoughtful tidy appealing
        agreeable inviting lively graceful satisfying fresh capable competent gentle sensible respectable neat""".split(),
    -1: """dull uneven flat thin clumsy bland tired forgettable predictable sluggish muddled stale weak awkward tepid
        shallow dated tiresome mediocre drab plodding patchy overlong careless timid""".split(),
    -2: """dreadful atrocious appalling abysmal horrendous unbearable disastrous awful hideous insufferable wretched
        excruciating terrible shameful ghastly catastrophic worthless repulsive dire pitiful disgraceful horrible""".split(),
}
PHRASES = {  # said of one aspect, in the past tense
    2: ["took my breath away", "was a pure joy", "swept the whole room away", "could hardly be improved",
        "stayed with me for weeks", "exceeded every hope", "was a triumph from start to finish"],
    1: ["won me over", "made me smile", "did its job nicely", "held my attention", "grew on me", "worked well enough",
        "had plenty of charm", "kept me interested"],
    -1: ["left me cold", "wore thin quickly", "tested my patience", "went nowhere", "lost my interest",
         "needed more work", "made me check my watch", "lacked spark"],
    -2: ["was an insult to the audience", "made me want to leave at once", "was a complete wreck", "ruined my evening",
         "was painful to sit through", "was a waste of everyone's money", "fell apart entirely"],
}
WORKS = {  # work: what it can be praised or blamed for, and who made it
    "film": ("plot acting script pacing camerawork dialogue ending soundtrack editing casting humour", "director"),
    "novel": ("prose plot opening dialogue ending structure premise style narration research", "author"),
    "play": ("staging acting dialogue lighting second act set design music timing", "playwright"),
    "album": ("singing production guitar work songwriting drumming title track mixing sequencing", "band"),
    "series": ("plot acting writing first episode premise finale pacing camerawork theme music", "writer"),
    "game": ("combat story artwork level design music difficulty interface tutorial voice acting", "studio"),
    "exhibition": ("lighting selection layout catalogue audio guide central room scope labelling", "curator"),
    "musical": ("choreography singing orchestra staging story costume work second act pacing", "composer"),
    "documentary": ("research narration editing camerawork argument structure soundtrack tone", "director"),
    "restaurant": ("service cooking dessert atmosphere wine list fish soup decoration music", "chef"),
}
TWO_WORDS = ("second act", "set design", "guitar work", "title track", "first episode", "theme music", "level design",
             "voice acting", "audio guide", "central room", "costume work", "wine list")
OTHERS = ["the critics", "my friends", "most people", "the papers", "my parents", "the judges", "the neighbours",
          "my colleagues", "the crowd", "the fans", "some visitors", "the reviewers", "my students", "the jury"]
HEROES = ["a {} thief", "a {} widow", "a {} detective", "a {} sailor", "two {} brothers", "a {} lawyer", "a {} painter",
          "three {} sisters", "a {} soldier", "a {} farmer", "a {} widower", "a {} surgeon", "a {} chess player"]
DEEDS = ["who inherits a {} house", "who plans a {} robbery", "who returns to a {} village", "who loses a {} job",
         "who writes a {} letter", "who survives a {} winter", "who meets a {} stranger", "who opens a {} shop",
         "on a {} journey across the sea", "caught in a {} marriage", "hunting for a {} treasure"]
SETTINGS = ["in Lisbon", "in the 1950s", "during the war", "in a mining town", "on a small island", "in northern Canada",
            "at the turn of the century", "in a crowded harbour", "near the border", "over a single weekend",
            "in postwar Vienna", "in a mountain village", "during a long drought", "in a boarding school"]
INTENSE = ["really", "truly", "remarkably", "extremely", "deeply", "exceptionally", "incredibly"]
MILD = ["fairly", "rather", "somewhat", "mostly", "reasonably", "quite"]
LOOKS = ["{a} {be} {x}", "I found {a} {x}", "{a} turned out to be {x}", "to me {a} seemed {x}", "{a} felt {x}",
         "I would call {a} {x}", "{a} proved {x}", "I have to say that {a} {be} {x}"]


def _aspects(work: str) -> list[str]:
    words = WORKS[work][0]
    joined = [w for w in TWO_WORDS if w in words]
    for pair in joined:
        words = words.replace(pair, "")
    return ["the " + w for w in [*words.split(), *joined]]


ASPECTS = {work: [*_aspects(work), f"the {work}", f"this {work}", "the whole thing"] for work in WORKS}


def _grade(rng: random.Random, sign: int = 0) -> int:
    return (sign or pick(rng, (-1, 1))) * pick(rng, (1, 2))


def _says(rng: random.Random, aspect: str, grade: int) -> str:
    """A clause in which the author gives ``aspect`` that grade."""
    if rng.random() < 0.3:
        return f"{aspect} {pick(rng, PHRASES[grade])}"
    if abs(grade) == 2 and rng.random() < 0.35:
        adjective = f"{pick(rng, INTENSE)} {pick(rng, GRADED[grade // 2])}"
    elif abs(grade) == 1 and rng.random() < 0.35:
        adjective = f"{pick(rng, MILD)} {pick(rng, GRADED[grade])}"
    else:
        adjective = pick(rng, GRADED[grade])
    return pick(rng, LOOKS).format(a=aspect, be=pick(rng, ("is", "was")), x=adjective)


def _plain(rng: random.Random, work: str) -> tuple[str, int]:
    grade = _grade(rng)
    text = _says(rng, pick(rng, ASPECTS[work]), grade)
    if rng.random() < 0.35:
        text = pick(rng, ["{} {}", "{}, {}"]).format(pick(rng, SETTINGS_OF_USE), text) if rng.random() < 0.5 else \
            f"{text} {pick(rng, SETTINGS_OF_USE)}"
    return text, grade


SETTINGS_OF_USE = ["on a second visit", "this time", "for the price", "even on a rainy Sunday", "from the first minute",
                   "in the end", "all things considered", "by any measure", "for once", "on a tired Friday night"]


def _negation(rng: random.Random, work: str) -> tuple[str, int]:
    """Denied strong praise is mild blame; denied strong blame commits to nothing; denied mild words turn round."""
    grade = _grade(rng)
    aspect, adjective = pick(rng, ASPECTS[work]), pick(rng, GRADED[grade])
    text = pick(rng, [
        "{a} {be} not {x}", "{a} {be} hardly {x}", "I would not call {a} {x}", "nobody could call {a} {x}",
        "{a} {be} anything but {x}", "I never found {a} {x}", "there {be} nothing {x} about {a}",
        "{a} {be} far from {x}", "I cannot say that {a} {be} {x}", "it is not true that {a} {be} {x}",
    ]).format(a=aspect, x=adjective, be=pick(rng, ("is", "was")))
    return text, {2: -1, 1: -1, -1: 1, -2: 0}[grade]


def _contrast(rng: random.Random, work: str) -> tuple[str, int]:
    """Two opposed clauses: the main one decides the sign, the other takes away its strength."""
    main = _grade(rng)
    first, second = sample(rng, ASPECTS[work], 2)
    lead, weak = _says(rng, first, main), _says(rng, second, _grade(rng, -1 if main > 0 else 1))
    text = pick(rng, [
        "although {w}, {m}", "{m}, although {w}", "{w}, but {m}", "even if {w}, {m}", "{m}, even though {w}",
        "{w}; still, {m}", "while {w}, {m}", "granted, {w}, yet {m}", "{m}, never mind that {w}",
        "it hardly matters that {w}, because {m}", "{w}, and that is a small thing beside the fact that {m}",
    ]).format(m=lead, w=weak)
    return text, 1 if main > 0 else -1


def _holder(rng: random.Random, work: str) -> tuple[str, int]:
    """Others say one thing, the author another; only the author's word counts."""
    grade = _grade(rng)
    other = _grade(rng, -1 if grade > 0 else 1)
    aspect, who = pick(rng, ASPECTS[work]), pick(rng, OTHERS)
    said, mine = pick(rng, GRADED[other]), pick(rng, GRADED[grade])
    if rng.random() < 0.4:  # no word of the author's own: agreement or dissent carries it
        agree, claim = rng.random() < 0.5, pick(rng, (-2, 2))
        verdict = pick(rng, ["and they are right", "and I agree", "and so do I", "and rightly so"] if agree else
                       ["and they are wrong", "and I disagree", "but I do not", "but I beg to differ"])
        # Agreement keeps the strength; dissent only says that the opposite is nearer the truth.
        return f"{who} find {aspect} {pick(rng, GRADED[claim])}, {verdict}", claim if agree else -claim // 2
    text = pick(rng, [
        "{w} called {a} {s}, but I found it {m}", "I found {a} {m}, whatever {w} may say about it being {s}",
        "{w} keep telling me that {a} is {s}; it is {m}", "{a} is {m}, though {w} insist that it is {s}",
        "unlike {w}, who thought {a} {s}, I thought it {m}", "what {w} describe as {s} struck me as {m}",
    ]).format(w=who, a=aspect, s=said, m=mine)
    return text, grade


def _hypothetical(rng: random.Random, work: str) -> tuple[str, int]:
    """What was hoped, feared or possible is not what was."""
    good, bad = pick(rng, GRADED[pick(rng, (1, 2))]), pick(rng, GRADED[pick(rng, (-1, -2))])
    aspect, maker = pick(rng, ASPECTS[work]), WORKS[work][1]
    text, grade = pick(rng, [
        ("with a better {k}, {a} could have been {g}", -1), ("I wish {a} had been as {g} as the trailer promised", -1),
        ("{a} should have been {g}", -1), ("if only {a} were half as {g} as I had hoped", -1),
        ("I was promised a {g} {o} and got none of it", -2), ("I expected a {g} {o} and sat through a {b} one", -2),
        ("I feared {a} would be {b}, and I was mistaken", 1), ("{a} could easily have been {b}, and yet it never was", 1),
        ("I was warned about a {b} {o} and was given a {g} one", 2), ("in other hands {a} would have been {b}", 1),
        ("one more rehearsal might have made {a} {g}", -1), ("had I not been told it was {g}, I would never have guessed", -2),
        ("anyone who expects a {b} {o} is in for a happy surprise", 2), ("without this {k}, {a} would be {b}", 1),
    ])
    return text.format(a=aspect, k=maker, g=good, b=bad, o=work), grade


def _comparison(rng: random.Random, work: str) -> tuple[str, int]:
    sign = pick(rng, (-1, 1))
    adjective, aspect = pick(rng, GRADED[sign]), pick(rng, ASPECTS[work])
    other = pick(rng, ["the {}'s earlier work", "anything else this year", "its many rivals", "the first version",
                       "what the {} did before"]).format(WORKS[work][1])
    text, grade = pick(rng, [
        ("{a} is more {x} than {o}", 2), ("{a} is less {x} than {o}", -1), ("{a} is every bit as {x} as {o}", 1),
        ("{o} could not be more {x} than {a}", 2), ("{a} is nowhere near as {x} as {o}", -1),
        ("next to {a}, {o} looks {x}", -1), ("I have never come across a more {x} {w} than this one", 2),
        ("{o} was {x}, and {a} is the very opposite", -2),
    ])
    return text.format(a=aspect, x=adjective, o=other, w=work), sign * grade


def _balance(rng: random.Random, work: str) -> tuple[str, int]:
    first, second = sample(rng, ASPECTS[work], 2)
    sign, size = pick(rng, (-1, 1)), pick(rng, (1, 2))
    text = pick(rng, [
        "{p} and {q}, so the two cancel out", "half of the time {p}, and the other half {q}",
        "{p} as often as {q}", "{p}, {q}, and I cannot decide which weighs more", "{p} and {q} in equal measure",
    ])
    return text.format(p=_says(rng, first, sign * size), q=_says(rng, second, -sign * size)), 0


def story(rng: random.Random, work: str) -> tuple[str, int]:
    """What the work is about: strong words that judge nothing."""
    hero = pick(rng, HEROES).format(pick(rng, GRADED[_grade(rng)]))
    deed = pick(rng, DEEDS).format(pick(rng, GRADED[_grade(rng)]))
    text = pick(rng, ["the {w} follows {h} {d} {s}", "this {w} is about {h} {d} {s}", "set {s}, the {w} tells of {h} {d}",
                      "it concerns {h} {d} {s}", "we are shown {h} {d} {s}"])
    if work in ("restaurant", "exhibition", "album", "game"):
        text = pick(rng, [f"the {work} takes its name from {{h}} {{d}} {{s}}", f"this {work} was inspired by {{h}} {{d}} {{s}}"])
    return text.format(w=work, h=hero, d=deed, s=pick(rng, SETTINGS)), 0


KINDS = (("plain", _plain, 22), ("negation", _negation, 16), ("contrast", _contrast, 20), ("holder", _holder, 14),
         ("hypothetical", _hypothetical, 11), ("comparison", _comparison, 9), ("balance", _balance, 6), ("story", story, 8))
GRADE_SHARE = ((0, 18), (1, 24), (2, 18), (3, 24), (4, 16))


def _opinion(rng: random.Random, work: str, wanted) -> tuple[str, str]:
    """Draw sentences until one has a grade that ``wanted`` accepts; returns its kind and text."""
    while True:
        kind, rule = weighted(rng, [((name, rule), weight) for name, rule, weight in KINDS])
        text, grade = rule(rng, work)
        if wanted(grade):
            return kind, sentence(text)


def draw_sentence(rng: random.Random) -> tuple[tuple[str], int, str]:
    """One ``sst`` row: ``((sentence,), label 0..4, kind)``."""
    label = weighted(rng, GRADE_SHARE)
    kind, text = _opinion(rng, pick(rng, tuple(WORKS)), lambda grade: grade == label - 2)
    return (text,), label, kind


def _aside(rng: random.Random, work: str, sign: int) -> str:
    """A sentence of the given sign that is not the author's verdict: hearsay, expectation or a trifle."""
    word, aspect = pick(rng, GRADED[_grade(rng, sign)]), pick(rng, ASPECTS[work])
    trifle = pick(rng, ["the poster", "the car park", "the ticket desk", "the cover", "the trailer", "the website",
                        "the queue outside", "the weather that day", "the seat", "the cloakroom"])
    return sentence(pick(rng, [
        f"{pick(rng, OTHERS)} had told me that {aspect} was {word}", f"I had read that {aspect} was {word}",
        f"{trifle} was {word}, which is beside the point", f"{pick(rng, OTHERS)} left saying it was {word}",
        f"I went in expecting something {word}", f"a stranger beside me muttered that {aspect} was {word}",
        f"I grant that {trifle} was {word}", f"the advertisement had made it sound {word}",
    ]))


def draw_review(rng: random.Random) -> tuple[tuple[str], int, str]:
    """One ``cfimdb`` row: a review of five to eight sentences and its polarity, ``((review,), 0 | 1, kind)``.

    Two to four sentences carry the author's view, one to three asides lean the other way.
    """
    work, label = pick(rng, tuple(WORKS)), pick(rng, (0, 1))
    sign = 2 * label - 1
    views = [_opinion(rng, work, lambda grade: grade * sign > 0)[1] for _ in range(pick(rng, (2, 3, 3, 4)))]
    asides = [_aside(rng, work, -sign) for _ in range(pick(rng, (1, 2, 2, 3)))]
    body = sample(rng, views + asides, len(views) + len(asides))
    return (" ".join([sentence(story(rng, work)[0]), *body]),), label, f"{len(views)} views, {len(asides)} asides"
