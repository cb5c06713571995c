"""The words of the embedded suite.

An entry is a word or phrase; "/" joins forms of one entry (synonyms, or two grammatical forms), "|" a past tense
and its participle; "," separates entries, ";" separates families of entries. ``{}`` takes an adjective.
"""

from __future__ import annotations


def entries(text: str) -> list[str]:
    """The entries of a comma-separated list, however its lines are broken."""
    return [" ".join(entry.split()) for entry in text.split(",")]


def families(text: str) -> list[list[str]]:
    """The families of a list, each a list of entries."""
    return [entries(family) for family in text.split(";")]


def forms(text: str) -> list[tuple[str, ...]]:
    """The entries of a list, each as the tuple of its forms."""
    return [tuple(entry.split("/")) for entry in entries(text)]


# Reviews: adjectives and phrases by grade, -2 .. 2
GRADED = {
    2: entries("""
        superb, brilliant, outstanding, magnificent, dazzling, exquisite, masterful, breathtaking, phenomenal,
        wonderful, glorious, sublime, stunning, extraordinary, flawless, terrific, splendid, marvellous,
        exceptional, spectacular, unforgettable, irresistible, triumphant
    """),
    1: entries("""
        pleasant, decent, solid, likeable, enjoyable, charming, engaging, warm, amusing, clever, thoughtful,
        tidy, appealing, agreeable, inviting, lively, graceful, satisfying, fresh, capable, competent, gentle,
        sensible, respectable, neat
    """),
    -1: entries("""
        dull, uneven, flat, thin, clumsy, bland, tired, forgettable, predictable, sluggish, muddled, stale,
        weak, awkward, tepid, shallow, dated, tiresome, mediocre, drab, plodding, patchy, overlong, careless,
        timid
    """),
    -2: entries("""
        dreadful, atrocious, appalling, abysmal, horrendous, unbearable, disastrous, awful, hideous,
        insufferable, wretched, excruciating, terrible, shameful, ghastly, catastrophic, worthless, repulsive,
        dire, pitiful, disgraceful, horrible
    """),
}
# Said of one aspect, in the past tense.
PHRASES = {
    2: entries("""
        took my breath away, was a pure joy, swept the whole room away, could hardly be improved, stayed with
        me for weeks, exceeded every hope, was a triumph from start to finish
    """),
    1: entries("""
        won me over, made me smile, did its job nicely, held my attention, grew on me, worked well enough, had
        plenty of charm, kept me interested
    """),
    -1: entries("""
        left me cold, wore thin quickly, tested my patience, went nowhere, lost my interest, needed more work,
        made me check my watch, lacked spark
    """),
    -2: entries("""
        was an insult to the audience, made me want to leave at once, was a complete wreck, ruined my evening,
        was painful to sit through, was a waste of everyone's money, fell apart entirely
    """),
}
# A work: what it can be praised or blamed for, and who made it.
WORKS = {
    "film": (
        entries("plot, acting, script, pacing, camerawork, dialogue, ending, soundtrack, editing, casting, humour"),
        "director",
    ),
    "novel": (entries("prose, plot, opening, dialogue, ending, structure, premise, style, narration, research"), "author"),
    "play": (entries("staging, acting, dialogue, lighting, music, timing, second act, set design"), "playwright"),
    "album": (entries("singing, production, songwriting, drumming, mixing, sequencing, guitar work, title track"), "band"),
    "series": (entries("plot, acting, writing, premise, finale, pacing, camerawork, first episode, theme music"), "writer"),
    "game": (
        entries("combat, story, artwork, music, difficulty, interface, tutorial, level design, voice acting"),
        "studio",
    ),
    "exhibition": (
        entries("lighting, selection, layout, catalogue, scope, labelling, audio guide, central room"),
        "curator",
    ),
    "musical": (entries("choreography, singing, orchestra, staging, story, pacing, second act, costume work"), "composer"),
    "documentary": (entries("research, narration, editing, camerawork, argument, structure, soundtrack, tone"), "director"),
    "restaurant": (entries("service, cooking, dessert, atmosphere, fish, soup, decoration, music, wine list"), "chef"),
}
OTHERS = entries("""
    the critics, my friends, most people, the papers, my parents, the judges, the neighbours, my colleagues, the
    crowd, the fans, some visitors, the reviewers, my students, the jury
""")
HEROES = entries("""
    a {} thief, a {} widow, a {} detective, a {} sailor, a {} elder brother, a {} lawyer, a {} painter, a {}
    younger sister, a {} soldier, a {} farmer, a {} widower, a {} surgeon, a {} chess player
""")
DEEDS = entries("""
    who inherits a {} house, who plans a {} robbery, who returns to a {} village, who loses a {} job, who writes a
    {} letter, who survives a {} winter, who meets a {} stranger, who opens a {} shop, on a {} journey across the
    sea, caught in a {} marriage, hunting for a {} treasure
""")
SETTINGS = entries("""
    in Lisbon, in the 1950s, during the war, in a mining town, on a small island, in northern Canada, at the turn
    of the century, in a crowded harbour, near the border, over a single weekend, in postwar Vienna, in a mountain
    village, during a long drought, in a boarding school
""")
OCCASIONS = entries("""
    on a second visit, this time, for the price, even on a rainy Sunday, from the first minute, in the end, all
    things considered, by any measure, for once, on a tired Friday night
""")
INTENSE = entries("""
    really, truly, remarkably, extremely, deeply, exceptionally, incredibly
""")
MILD = entries("""
    fairly, rather, somewhat, mostly, reasonably, quite
""")
# Scenes: entries of a family are siblings
PEOPLE = families("""
    doctor/physician, nurse, surgeon, dentist, pharmacist/chemist; lawyer/attorney, judge, police officer/cop,
    detective/investigator, guard/watchman; teacher/schoolteacher, professor, student/pupil, librarian,
    coach/trainer; cook/chef, waiter, baker, butcher, grocer; farmer, gardener, fisherman, shepherd, beekeeper;
    singer/vocalist, painter, actor/performer, dancer, pianist; mother/mum, father/dad, uncle,
    grandmother/grandma, cousin; plumber, electrician, carpenter/joiner, mechanic, bricklayer; pilot/aviator, bus
    driver, sailor/seaman, cyclist, postman/mail carrier; mayor, minister, ambassador, journalist/reporter, banker
""")
THINGS = families("""
    car/automobile, bicycle/bike, lorry/truck, motorbike/motorcycle, boat/vessel; guitar, piano, violin/fiddle,
    drum, trumpet; sofa/couch, table, wardrobe/closet, chair, bookshelf/bookcase; coat/overcoat, jumper/sweater,
    hat, scarf, jacket; phone/telephone, laptop, camera, radio, television/TV; painting, photograph/photo,
    statue/sculpture, poster, map; hammer, saw, ladder, shovel/spade, drill; ring, necklace, watch/wristwatch,
    bracelet, brooch
""")
# Past tense and participle where they differ; siblings are related acts, often opposites.
ON_THINGS = families("""
    repaired/fixed/mended, broke|broken/damaged/wrecked; bought/purchased/acquired, sold;
    found/discovered/located, lost/misplaced; borrowed, lent out/loaned out; cleaned/washed, painted, polished;
    hid|hidden/concealed, displayed/exhibited; stole|stolen/pinched, returned/gave back|given back;
    drew|drawn/sketched, photographed; carried/hauled, dropped, pushed/shoved; wrapped/packed up,
    unwrapped/unpacked
""")
ON_PEOPLE = families("""
    praised/applauded/complimented, criticised/scolded/rebuked; hired/employed/recruited, fired/dismissed/sacked;
    helped/assisted/aided, hindered/obstructed; chased/pursued, avoided/evaded; phoned/called/rang|rung, wrote
    to|written to; taught/instructed, examined/tested; thanked, insulted/offended; rescued/saved,
    abandoned/deserted; trusted/believed, doubted/suspected; visited, invited; greeted/welcomed, ignored/snubbed
""")
PLACES = families("""
    in the kitchen, in the living room/in the lounge, in the cellar/in the basement, in the attic/in the loft; at
    the market, in the shop/in the store, outside the bank, at the bakery; in the park, on the beach/at the
    seaside, in the forest/in the woods, by the river, on the hill; at the station/at the railway station, at the
    airport, in the harbour/in the port, at the bus stop; in the library, at school, in the museum, at the theatre
""")
TIMES = families("""
    yesterday/the day before today, last week/a week ago, last month/a month ago, last year/a year ago; in the
    morning, at noon/at midday, in the evening, at midnight; on Monday, on Tuesday, on Thursday, on Saturday; in
    spring/in springtime, in summer/in summertime, in autumn, in winter/in wintertime
""")
LOOKS = families("""
    old/elderly, young/youthful; tall, short; rich/wealthy, poor/penniless; cheerful/happy, sad/unhappy,
    angry/furious; thin/slim, stout/plump; quiet/silent, talkative/chatty
""")
KINDS = families("""
    red/scarlet, blue, green, black, white; old/ancient, new/brand-new; small/little, large/big, huge/enormous;
    expensive/costly, cheap/inexpensive; heavy, light/lightweight
""")
COUNTS = families("""
    one; two/a pair of, three, four, five, six/half a dozen
""")
# Questions
# As a noun, and after a verb.
SKILLS = forms("""
    chess/to play chess, the guitar/to play the guitar, watercolour painting/to paint watercolours, Spanish/to
    speak Spanish, Japanese/to speak Japanese, juggling/to juggle, swimming/to swim, bread baking/to bake bread,
    touch typing/to touch type, statistics/to do statistics, sewing/to sew, public speaking/to speak in public,
    rock climbing/to climb rocks, knitting/to knit, car maintenance/to maintain a car, sign language/to use sign
    language, the violin/to play the violin, skiing/to ski, calligraphy/to write calligraphy, pottery/to make
    pottery, web design/to design websites, photography/to take photographs
""")
HABITS = entries("""
    biting my nails, skipping breakfast, drinking coffee, running at dawn, eating meat, playing video games,
    smoking, writing a diary, sleeping late, meditating, buying lottery tickets, cycling to work, reading at
    night, chewing gum, lifting weights, collecting stamps, watching the news, taking cold showers, betting on
    horses, keeping bees
""")
CITIES = entries("""
    Lyon, Hamburg, Porto, Krakow, Bologna, Seville, Ghent, Aarhus, Turin, Leeds, Basel, Gdansk, Malmo, Utrecht,
    Graz, Brno, Nantes, Bilbao
""")
MODES = forms("""
    by train/on the railway, by bus/on a coach, by bike/on a bicycle, by car/driving, by boat/on a ferry, on
    foot/walking
""")
# Things to choose between, and what or whom the choice is for.
COMPARED = [
    (
        forms("""
            wood/steel, brick/concrete, gas heating/electric heating, a lawn/a gravel yard, carpet/tiles
        """),
        entries("""
            a small house, a cold climate, a first home, a large office, a damp cellar, a family of five,
            a tight budget
        """),
    ),
    (
        forms("""
            tea/coffee, butter/olive oil, honey/sugar, rice/pasta, fish/chicken, oats/toast
        """),
        entries("""
            a student, a busy week, an old person, a picnic, an athlete, a weak stomach, a small child
        """),
    ),
    (
        forms("""
            cotton/linen, leather/canvas, a backpack/a suitcase, a raincoat/an umbrella, wool/fleece
        """),
        entries("""
            a long journey, hot weather, everyday use, a mountain hike, a business trip, a wet spring, a
            teenager
        """),
    ),
    (
        forms("""
            a laptop/a tablet, radio/television, oil paint/acrylic paint, film/digital photography
        """),
        entries("""
            a beginner, a nervous person, a small flat, an evening class, a school project, a retired
            couple, a slow learner
        """),
    ),
    (
        forms("""
            a cat/a dog, yoga/running, a mortgage/a personal loan, a savings account/a pension fund, a bus
            pass/a car
        """),
        entries("""
            a single parent, a shift worker, a freelancer, someone over seventy, a young couple, someone
            who lives alone, a newcomer
        """),
    ),
]
TASKS = forms("""
    renew a passport/renewing a passport, rent a van/renting a van, fix a leaking roof/fixing a leaking roof,
    adopt a child/adopting a child, open a bakery/opening a bakery, get divorced/getting divorced, train a
    puppy/training a puppy, build a garage/building a garage, print a book/printing a book, register a
    company/registering a company, repaint a car/repainting a car, learn to fly/learning to fly, straighten
    teeth/straightening teeth, install solar panels/installing solar panels, ship a piano/shipping a piano, hire a
    private tutor/hiring a private tutor
""")
ROLES = entries("""
    tenant, landlord, teacher, parent, doctor, patient, manager, worker, customer, shopkeeper, driver, cyclist,
    neighbour, builder, journalist, politician
""")
ACTS = forms("""
    sue/sued, fine/fined, film/filmed, report/reported, blackmail/blackmailed, insure/insured, search/searched,
    represent/represented, evict/evicted, overcharge/overcharged
""")
CAUSES = entries("""
    stress, poor sleep, back pain, weight gain, headaches, low mood, high blood pressure, hair loss, tooth decay,
    lack of exercise, memory loss, skin rashes, hearing loss, loneliness, poor eyesight, stomach ulcers
""")
# Two steps that may come in either order.
STEPS = forms("""
    paint the walls/lay the floor, wash the rice/soak the rice, sell my house/buy a new one, stretch/go for a run,
    peel the potatoes/boil the potatoes, quit my job/look for another, see a lawyer/sign the contract, prune the
    roses/feed the roses, eat/take the tablets, finish my degree/get married, pay off my loan/start saving, wash
    my hair/cut my hair, update the software/copy my files, salt the meat/fry the meat, water the lawn/mow the
    lawn, learn Latin/learn Italian, visit the museum/walk round the old town, polish the shoes/brush the shoes
""")
GROUPS = entries("""
    cats, teenagers, old people, bees, engineers, judges, babies, sailors, bankers, actors, crows, nurses
""")
TRAITS = entries("""
    like boxes, sleep so little, wear uniforms, fear water, trust strangers, change jobs, sing at night, live in
    groups, avoid the cold, remember faces, drink so much milk, dislike loud music, keep secrets, walk in circles
""")
ABOUT_ME = entries("""
    in my twenties, after an injury, on a small income, at short notice, with two children, during the holidays,
    without speaking the language, at the age of sixty, in winter, these days, without a computer
""")
ANYWHERE = entries("""
    in winter, these days, during the holidays, in the countryside, in a small town, in Scotland, in hot weather,
    at night, in wartime, in northern Europe, in a big city
""")
