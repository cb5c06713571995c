"""Expressions of methods: as text, from Python, and at the command line."""

from __future__ import annotations

import random
from pathlib import Path

from peftlib import expressions
from peftlib.comparison import METHOD_RUNS
from peftlib.methods import parse
from tries import Try, command

DEEP = "brackets or signs inside one another too often"
WRITTEN = [  # what is given, how it is written, words of the refusal
    ("no text", None, ("None", "expected text such as 'LoRA(rank=8) + BitFit()'")),
    ("a number", 8, ("cannot read the method 8", "expected text")),
    ("bytes", b"LoRA()", ("b'LoRA()'", "expected text")),
    ("nothing", "", ("cannot read the method ''", "expected")),
    ("an unknown method", "Lora()", ("unknown method 'Lora'", "did you mean LoRA?")),
    ("a method's name of a thousand letters", "L" * 1000 + "()", ("unknown method 'LLL", "Known: AdaLoRA")),
    ("an unknown field", "LoRA(rnk=8)", ("LoRA has no field 'rnk'", "its fields are rank, alpha, sites, dropout")),
    ("a field of a method that has none", "BitFit(rank=8)", ("BitFit has no field 'rank'", "its fields are none")),
    ("a field twice", "LoRA(rank=8, rank=16)", ("LoRA is given rank twice, as 8 and 16", "keep one")),
    ("a field twice, the same", "LoRA(rank=8, rank=8)", ("rank twice",)),
    ("a field twice in a sum", "BitFit() + PerTask(LoRA(alpha=1, rank=2, alpha=1))", ("alpha twice",)),
    ("a value without its field", "LoRA(8)", ("'LoRA(8)'", "expected Name(field=value, ...)")),
    ("starred fields", "LoRA(**{'rank': 8})", ("expected Name(field=value, ...)",)),
    ("starred values", "LoRA(*(8,))", ("expected Name(field=value, ...)",)),
    ("a bracket that is not closed", "LoRA(rank=", ("cannot read the method 'LoRA(rank='", "was never closed")),
    ("two methods without a sign", "LoRA() BitFit()", ("invalid syntax",)),
    ("another sign", "LoRA() * 2", ("'LoRA() * 2'", "'+' between methods")),
    ("a sign before", "+LoRA()", ("'+LoRA()'", "expected Name(field=value, ...)")),
    ("a number as a term", "LoRA() + 1", ("cannot read '1'",)),
    ("two expressions", "LoRA(); BitFit()", ("invalid syntax",)),
    ("an attribute", "peftlib.LoRA()", ("'peftlib.LoRA()'",)),
    ("a call of a call", "LoRA()()", ("'LoRA()()'",)),
    ("a walrus", "(a := LoRA())", ("'a := LoRA()'",)),
    ("a lambda", "(lambda: LoRA())()", ("'(lambda: LoRA())()'",)),
    ("an f-string", "LoRA(sites=(f'query',))", ("is not a number, text, None or a tuple",)),
    ("a name as a value", "LoRA(rank=r)", ("'r'", "is not a number, text, None or a tuple")),
    ("a sum as a value", "LoRA(rank=4+4)", ("'4+4'", "is not a number")),
    ("two signs", "LoRA(alpha=--1)", ("'--1'", "is not a number")),
    ("a list", "LoRA(sites=['query'])", ("\"['query']\"", "is not a number, text, None or a tuple")),
    ("a dictionary", "LoRA(sites={'query': 1})", ("is not a number, text, None or a tuple",)),
    ("a set of lists", "LoRA(sites={[]})", ("is not a number, text, None or a tuple",)),
    ("bytes as a value", "PromptTuning(init=b'random')", ("\"b'random'\"", "is not a number, text")),
    ("a complex number", "LoRA(alpha=1j)", ("'1j'", "is not a number")),
    ("three dots", "LoRA(rank=...)", ("'...'", "is not a number")),
    ("not a number", "LoRA(alpha=nan)", ("'nan'", "is not a number")),
    ("a float for a whole number", "LoRA(rank=8.0)", ("LoRA(rank=8.0)", "expected int, got float")),
    ("a truth for a number", "LoRA(rank=True)", ("expected int, got bool",)),
    ("a number for a truth", "Houlsby(train_norms=1)", ("expected bool, got int",)),
    ("text for a number", "LoRA(rank='8')", ("expected int, got str",)),
    ("text for a tuple", "LoRA(sites='query')", ("LoRA(sites='query')", "expected tuple[str, ...], got str")),
    ("numbers in a tuple of texts", "LoRA(sites=('query', 1))", ("('query', 1)", "expected tuple[str, ...]")),
    ("tuples inside a tuple", "LoRA(sites=(('query',),))", ("expected tuple[str, ...]",)),
    ("nothing where something must be", "LoRA(rank=None)", ("expected int, got NoneType",)),
    ("a float that overflows", "LoRA(alpha=1e999)", ("LoRA(alpha=inf)", "expected a finite number")),
    ("a float that overflows downwards", "LoRA(alpha=-1e999)", ("LoRA(alpha=-inf)", "expected a finite number")),
    ("a whole number that no size can be", f"LoRA(rank={10**19})", ("LoRA(rank=1000", "below 2^63")),
    ("a whole number that no float holds", f"LoRA(alpha={10**400})", ("<a number of 1,329 bits>", "below 2^63")),
    ("a number of 5,000 digits", f"LoRA(rank={'9' * 5000})", ("5,011 characters, more than 4,000", "LoRA(rank=999")),
    ("a hexadecimal number of 3,900 digits", f"LoRA(rank=0x{'f' * 3900})", ("a number of 15,600 bits", "below 2^63")),
    ("a number that runs into a word", "LoRA(rank=1if 1 else 2)", ("cannot read the method",)),
    ("brackets inside one another", "(" * 1000 + "LoRA()" + ")" * 1000, ("too many nested parentheses",)),
    ("ten thousand brackets", "(" * 10_000, ("'((((", "10,000 characters, more than 4,000")),
    ("signs inside one another", "LoRA(alpha=" + "-" * 3900 + "1)", (DEEP,)),
    ("conditions inside one another", "1 if " * 700 + "1", ("cannot read the method",)),
    ("tuples inside one another", "LoRA(sites=" + "(" * 150 + ",)" * 150 + ")", ("cannot read the method",)),
    ("thousands of methods", "+".join(["BitFit()"] * 3000), ("characters, more than 4,000",)),
    ("hundreds of methods", "+".join(["Full"] * 700), ("700 methods", "at most 64")),
    ("a null byte", "LoRA(\0)", ("the character '\\x00' has no place",)),
    ("a lone surrogate", "LoRA(\udcff)", ("the character '\\udcff' has no place",)),
    ("a lone surrogate, escaped", "PromptTuning(init='\\ud800')", ("the character '\\\\' has no place",)),
    ("letters that look like others", "L\uff4fRA()", ("the character '\\uff4f' has no place",)),
    ("a field in letters that look like others", "LoRA(\u1d63ank=8)", ("the character '\\u1d63' has no place",)),
    ("digits of another script", "LoRA(rank=\u0668)", ("the character '\\u0668' has no place",)),
    ("a space that is none", "LoRA()\u00a0+ BitFit()", ("the character '\\xa0' has no place",)),
    ("two lines", "LoRA(\nrank=8)", ("the character '\\n' has no place",)),
    ("a comment, which would hide a method", "LoRA() # + BitFit()", ("the character '#' has no place",)),
    ("a colour of the terminal", "\x1b[31mLoRA()", ("the character '\\x1b' has no place",)),
    ("copies of nothing", "PerTask()", ("'PerTask()'", "PerTask(method)")),
    ("copies without brackets", "PerTask", ("'PerTask'", "PerTask(method)")),
    ("copies of two methods", "PerTask(LoRA(), BitFit())", ("PerTask(method)",)),
    ("copies with a field", "PerTask(method=LoRA())", ("PerTask(method)",)),
    ("copies of a text", "PerTask('LoRA()')", ("cannot read \"'LoRA()'\"",)),
    ("copies of copies", "PerTask(PerTask(LoRA()))", ("PerTask inside PerTask", "one copy a task")),
    ("copies of copies in a sum", "PerTask(BitFit() + PerTask(LoRA()))", ("PerTask inside PerTask",)),
    ("copies of copies of nothing", "PerTask(PerTask())", ("PerTask inside PerTask",)),
    ("layers of nothing", "Layers()", ("'Layers()'", "Layers(method, start=0, stop=4)")),
    ("layers without brackets", "Layers", ("'Layers'", "Layers(method, start=0, stop=4)")),
    ("layers by position", "Layers(LoRA(), 0, 4)", ("'Layers(LoRA(), 0, 4)'", "Layers(method, start=0, stop=4)")),
    ("an unknown field of layers", "Layers(LoRA(), end=4)", ("Layers has no field 'end'", "start, stop, stack")),
    ("layers up to a half", "Layers(LoRA(), stop=1.5)", ("Layers(stop=1.5)", "expected int | None, got float")),
    ("layers twice", "Layers(LoRA(), stop=1, stop=2)", ("Layers is given stop twice", "keep one")),
    (
        "layers that end before they start",
        "Layers(LoRA(), start=2, stop=2)",
        ("Layers(stop=2) is impossible", "above start"),
    ),
    ("layers counted from the end", "Layers(LoRA(), start=-1)", ("Layers(start=-1) is impossible", "from 0")),
    ("layers of an unknown stack", "Layers(LoRA(), stack='middle')", ("Layers(stack='middle')", "'encoder', 'decoder'")),
    ("layers of layers", "Layers(Layers(LoRA()), stop=2)", ("Layers inside Layers", "name the blocks once")),
    ("layers of copies", "Layers(PerTask(LoRA()), stop=2)", ("PerTask inside Layers", "write PerTask(Layers(...))")),
    ("layers of copies in a sum", "Layers(BitFit() + PerTask(LoRA()))", ("PerTask inside Layers",)),
    ("layers of the whole", "Layers(Full(), stop=2)", ("Full() acts on the whole backbone", "take it out of Layers")),
    ("layers of a prompt", "Layers(LoRA() + PromptTuning())", ("PromptTuning() acts on the whole backbone",)),
    ("copies a hundred times", "PerTask(" * 100 + "LoRA()" + ")" * 100, ("PerTask inside PerTask",)),
]
TRIES = [Try("an expression", given, lambda _, text=text: parse(text), words) for given, text, words in WRITTEN]
TRIES += [
    Try("an expression without torch", given, lambda _, text=text: expressions.canonical(text), words)
    for given, text, words in WRITTEN[:10]
]
TRIES += [
    Try("peftlib count", "a bracket that is not closed", lambda _: command("count", "LoRA("), ("LoRA(", "expected")),
    Try("peftlib count", "a lone surrogate in an expression", lambda _: command("count", "LoRA(\udcff)"), ("\\udcff",)),
    Try("peftlib count", "copies of copies", lambda _: command("count", "PerTask(PerTask(LoRA()))"), ("PerTask inside",)),
    Try("peftlib methods", "another's letters", lambda _: command("methods", "Lora"), ("'Lora'", "did you mean LoRA?")),
    Try("peftlib methods", "a long name", lambda _: command("methods", "x" * 10**5), ("unknown method 'xxx", "Known: ")),
]

WORDS = "LoRA PerTask PerTask( Layers Layers( stop= rank rank= sites alpha 8 0 1e9 1e999 1j 0x 'query' ('query',) None True"
TOKENS = [
    *METHOD_RUNS,
    *METHOD_RUNS.values(),
    *WORDS.split(),
    *"... if for := **".split(),
    "9" * 40,
    "9" * 4400,
    "b''",
    "f'{x}'",
    "not ",
    "await ",
    "lambda:",
    "+ ",
    " ",
    *"()[]{}=-+*,.'\"_@;#\\\n\t\0\ud800\u1d63\u0668\u202e\U0001f600",
]


def soup(draw: random.Random) -> str:
    """Tokens in any order, now and then one many times."""
    times = [1] * 50 + [2500]
    return "".join(draw.choice(TOKENS) * draw.choice(times) for _ in range(draw.randrange(1, 12)))


def changed(draw: random.Random) -> str:
    """Expressions of the study, added up or copied, and a few of their characters removed, doubled or replaced."""
    text = " + ".join(
        draw.choice(["{}", "PerTask({})", "Layers({}, start=1)", "PerTask(Layers({}, stop=2))"]).format(
            draw.choice(list(METHOD_RUNS.values()))
        )
        for _ in range(draw.randrange(1, 4))
    )
    for _ in range(draw.randrange(0, 4)):
        at, length = draw.randrange(len(text) + 1), draw.randrange(0, 6)
        put = draw.choice(["", text[at : at + length] * 2, draw.choice(TOKENS)])
        text = text[:at] + put + text[at + length :]
    return text


def drawn(draw: random.Random) -> str:
    return draw.choice([soup, changed])(draw)


def _expression(draw: random.Random, _: Path):
    text = drawn(draw)

    def read():
        built = parse(text)
        assert str(built) == expressions.canonical(text) and str(parse(str(built))) == str(built)

    return read


GENERATORS = {"an expression": _expression}
