"""Presets: presets.json as somebody edits it."""

from __future__ import annotations

import copy
import json
import random
from importlib import resources
from pathlib import Path

from peftlib import grids
from tries import Try, command
from tries.records import GONE, JUNK, places, put

SOUND = json.loads(resources.files("peftlib").joinpath("presets.json").read_text())


def read(folder: Path, text: str) -> dict:
    path = folder / "presets.json"
    path.write_text(text, encoding="utf-8")
    return grids.read_presets(path)


def edited(content: object, *place: str | int):
    """presets.json with something else at a place, read."""

    def go(folder: Path) -> dict:
        found = copy.deepcopy(SOUND)
        put(content, *place)(found)
        return read(folder, json.dumps(found))

    return go


def _at(name: str, place: tuple, content: object, *words: str) -> Try:
    return Try("presets.json", name, edited(content, *place), ("presets.json", *words))


Q, CHANGES = "quick", ("quick", "changes")

TRIES = [
    Try("presets.json", "cut short", lambda f: read(f, json.dumps(SOUND)[:500]), ("presets.json", "cannot be read")),
    Try("presets.json", "a field twice", lambda f: read(f, '{"a": {"rows": 1, "rows": 2}}'), ("'rows' stands there",)),
    Try("presets.json", "a list", lambda f: read(f, "[]"), ("expected a table of names and values",)),
    _at("a name that is a path", ("../up",), SOUND[Q], "name: expected letters, digits", "'../up'"),
    _at("a preset that is empty", (Q,), {}, "preset 'quick': lacks about, backbone, batch_size"),
    _at("without a backbone", (Q, "backbone"), GONE, "preset 'quick': lacks backbone"),
    _at("a field that there is not", (Q, "epoch"), 3, "preset 'quick': 'epoch' is no field of it; did you mean 'epochs'?"),
    _at("epochs of 3.5", (Q, "epochs"), 3.5, "preset 'quick': epochs: expected a whole number, got 3.5"),
    _at("no epochs", (Q, "epochs"), 0, "preset 'quick': epochs: expected at least 1, got 0"),
    _at("seeds as a text", (Q, "seeds"), "x", "seeds: expected a list, got 'x'"),
    _at("a seed twice", (Q, "seeds"), [0, 0], "seeds: expected each once, from 0 to 2^32 - 1, got (0, 0)"),
    _at("a seed below 0", (Q, "seeds"), [-1], "seeds: expected each once"),
    _at("no seeds", (Q, "seeds"), [], "seeds: expected each once"),
    _at("limits of two splits", (Q, "limits"), [90, 50], "limits: expected 3 values, got [90, 50]"),
    _at("a limit of 0", (Q, "limits_single"), [90, 0, 50], "limits_single: expected at least 1"),
    _at("an unknown precision", (Q, "precision"), "fp16", "precision: expected one of 'auto', 'bf16', 'fp32', got 'fp16'"),
    _at("an unknown source", (Q, "source"), "embeded", "source: expected one of 'embedded', 'local', 'hub', got 'embeded'"),
    _at("an unknown form", (Q, "form"), "txt", "form: expected one of 'heads', 'text', got 'txt'"),
    _at("an unknown sampling", (Q, "sampling"), "random", "sampling: expected one of", "got 'random'"),
    _at("texts that are too long", (Q, "max_length"), 4096, "max_length: expected 8 to 512, got 4096"),
    _at("rates without a default", (Q, "lr"), {"LoRA": 1e-3}, "lr: expected a default, and rates from 0 to 10"),
    _at("a rate in words", (Q, "lr", "Full"), "2e-4", "lr.Full: expected a number, got '2e-4'"),
    _at("a rate of a method that there is not", (Q, "lr", "LoRa"), 1e-3, "'quick': lr: unknown method 'LoRa'", "LoRA"),
    _at("a rate of a field that there is not", (Q, "lr", "LoRA(rnk=8)"), 1e-3, "'quick': lr: LoRA has no field 'rnk'"),
    _at("a suite that there is not", (Q, "suites", "gleu"), ["cola"], "suites: expected of cs224n, glue", "gleu"),
    _at("a task that there is not", (Q, "suites", "glue"), ["stbs"], "suites: expected tasks of glue", "stsb", "stbs"),
    _at("a task that the source has not", (Q, "suites", "superglue"), ["record"], "that source 'embedded' has"),
    _at("a task twice", (Q, "suites", "glue"), ["stsb", "stsb"], "suites: expected tasks of glue", "each once"),
    _at(
        "changes of an experiment that there is not",
        (*CHANGES, "compacter/tabel7"),
        {"rows": 5},
        "preset 'quick': changes: 'compacter/tabel7' is no paper and no experiment; did you mean 'compacter/table7'?",
    ),
    _at("changes of a paper that there is not", (*CHANGES, "compactor"), {}, "changes: 'compactor' is no paper"),
    _at(
        "a change of a field that there is not",
        (*CHANGES, "compacter", "epoch"),
        3,
        "preset 'quick': changes: compacter: 'epoch' cannot be changed; did you mean 'epochs'?",
    ),
    _at("a change of the name", (*CHANGES, "compacter", "name"), "x", "changes: compacter: 'name' cannot be changed"),
    _at("a change to epochs of 3.5", (*CHANGES, "compacter", "epochs"), 3.5, "changes: compacter: preset 'quick': epochs"),
    _at(
        "a change to rates of a method that there is not",
        (*CHANGES, "compacter", "lr", "PromptTunning"),
        1.0,
        "changes: compacter: preset 'quick': lr: unknown method 'PromptTunning'",
        "did you mean PromptTuning",
    ),
    _at("a change to rates as a list", (*CHANGES, "compacter", "lr"), [1e-3], "changes: compacter: lr: expected a table"),
    Try("a preset", "a name that there is not", lambda _: grids.get_preset("qiuck"), ("unknown preset 'qiuck'", "quick")),
    Try("peftlib status", "a preset that there is not", lambda _: command("status", "--preset", "qiuck"), ("'qiuck'",)),
]
FREE = {"about", "backbone"}


def _edit(draw: random.Random, folder: Path):
    """One edit of presets.json: refused, or a value of the same type, an empty table or list, or something left out that
    has a default."""
    found = copy.deepcopy(SOUND)
    place = draw.choice(places(found))
    inner, content = found, draw.choice(JUNK)
    for name in place:
        inner = inner[name]
    put(content, *place)(found)
    may = content is GONE or content in ([], {}) or {type(content), type(inner)} <= {int, float, type(None)}

    def go() -> None:
        read(folder, json.dumps(found))
        assert may or type(content) is type(inner) or FREE & set(place), f"{content!r} at {place} was accepted"

    return go


def _misspelt(draw: random.Random, folder: Path):
    """A name in presets.json with a letter too many: always refused."""
    found = copy.deepcopy(SOUND)
    inner, place = found, draw.choice([p for p in places(found) if isinstance(p[-1], str) and len(p) > 1])
    for name in place[:-1]:
        inner = inner[name]
    inner[f"{place[-1]}x"] = inner.pop(place[-1])

    def go() -> None:
        read(folder, json.dumps(found))
        raise AssertionError(f"{place} with an x was accepted")

    return go


GENERATORS = {"a value": _edit, "a name": _misspelt}
