"""What methods say of themselves, and pages of methods, that cannot be used."""

from __future__ import annotations

from pathlib import Path

from peftlib import catalogue, method_page
from tries import Try, command

GOOD = '{"name": "LoRA", "color": "blue", "marker": "o"}'


def read(folder: Path, **abouts: str) -> dict:
    """What `catalogue.read` makes of classes of these names, one a file."""
    for name, about in abouts.items():
        path = folder / "methods" / "adapters" / f"{name.lower()}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"class {name}:\n    about = {about}\n", encoding="utf-8")
    return catalogue.read(folder)


def page(**cells: str) -> dict:
    """A notebook with code under these ids."""
    made = [{"cell_type": "code", "id": name, "metadata": {}, "source": [code]} for name, code in cells.items()]
    return method_page.refreshed({"cells": made}, "lora")


ABOUTS = [  # what a method says, in words, words of the refusal
    ("3", "a number", ("a table of names and values", "got 3")),
    ("Look('blue')", "a call", ("Look('blue')", "read without being run", "table of plain values")),
    ("{'name': 'LoRA'}", "too little", ("lacks color, marker",)),
    (GOOD.replace("color", "colour"), "a name misspelt", ("lacks color",)),
    (GOOD[:-1] + ', "smal": ""}', "a name too many", ("'smal' is no field of it", "did you mean 'small'")),
    (GOOD.replace("blue", "yellow"), "a colour that one cannot see", ("about: color", "'yellow'", "'blue', 'orange'")),
    (GOOD.replace('"o"', '"circle"'), "a marker misspelt", ("about: marker", "'circle'", "'o', 'v'")),
    (GOOD[:-1] + ', "line": "dotted"}', "a line misspelt", ("about: line", "'dotted'")),
    (GOOD[:-1] + ', "row": "rnak=8"}', "a row with a field misspelt", ("about: row", "no field 'rnak'", "rank")),
    (GOOD[:-1] + ', "small": "rank=8)"}', "a size that is no expression", ("about: small", "cannot read")),
    (GOOD[:-1] + ', "example": "BitFit()"}', "another's example", ("about: example", "'BitFit()' has no LoRA")),
]
TRIES = [
    Try(
        "a method's about",
        given,
        lambda folder, about=about: read(folder, LoRA=about),
        ("adapters/lora.py: class LoRA", *words),
    )
    for about, given, words in ABOUTS
]
TRIES += [
    Try(
        "a method's about",
        "the looks of another",
        lambda folder: read(folder, LoRA=GOOD, BitFit=GOOD),
        ("adapters/lora.py: class LoRA", "'blue' with marker 'o'", "what BitFit looks like", "choose another"),
    ),
    Try("a method's page", "whose it is, it does not say", lambda _: page(model=""), ("lora.ipynb", 'label = "..."')),
    Try("a method's page", "whose it is, nobody knows", lambda _: page(begin='label = "Lora"'), ("'Lora'", "LoRA")),
    Try(
        "a method's page",
        "code of its own without a tag",
        lambda _: page(begin='label = "LoRA"', mine="1 + 1"),
        ("cell 'mine'", "is not the template's", "the tag 'own'"),
    ),
    Try(
        "python -m peftlib.method_page",
        "a method that has a page",
        lambda _: command("IntrinsicSAID", main=method_page.main),
        ("IntrinsicSAID has a page", "said.ipynb", "without a name"),
    ),
    Try(
        "python -m peftlib.method_page",
        "a method without a row",
        lambda _: command("OutputLayer", main=method_page.main),
        ("'OutputLayer'", "without a row in the comparison has no page"),
    ),
]
