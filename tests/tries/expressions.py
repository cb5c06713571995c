"""Expressions of methods: as text, from Python, and at the command line."""

from __future__ import annotations

import random
from pathlib import Path

from peftlib.methods import parse
from tries import Try, command

TRIES = [
    Try("an expression", "an unknown field", lambda _: parse("LoRA(rnk=8)"), ("rnk", "rank")),
    Try("peftlib count", "a bracket that is not closed", lambda _: command("count", "LoRA("), ("LoRA(", "expected")),
]


def _expression(draw: random.Random, _: Path):
    text = "".join(draw.choice(["LoRA", "BitFit", "PerTask", "(", ")", "rank", "=", "8", "+", ",", " ", "'", "1e9"])
                   for _ in range(draw.randrange(1, 12)))
    return lambda: parse(text)


GENERATORS = {"an expression": _expression}
