"""Presets: presets.json, the general one and those of papers, as somebody edits them."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path

from peftlib import grids, papers
from tries import Try, command
from tries.records import GONE, JUNK, places, put

FILES = {"": papers.FOLDER.parent, **{paper: papers.FOLDER / paper for paper in papers.papers()}}
SOUND = {whose: json.loads(path.read_text()) for whose, home in FILES.items() if (path := home / "presets.json").is_file()}


def read(folder: Path, texts: dict[str, str]) -> dict:
    """texts: of the general file (""), and of papers'."""
    for whose, text in texts.items():
        (folder / whose).mkdir(exist_ok=True)
        (folder / whose / "presets.json").write_text(text, encoding="utf-8")
    own = {whose: folder / whose / "presets.json" for whose in texts if whose}
    return grids.read_presets(folder / "presets.json", own)


def edited(content: object, *place: str | int):
    """The files with something else at a place, whose first name says whose file it is, read."""

    def go(folder: Path) -> dict:
        found = copy.deepcopy(SOUND)
        put(content, *place)(found)
        return read(folder, {whose: json.dumps(inside) for whose, inside in found.items()})

    return go


def runs_of(experiment: str, **changes: object) -> Callable[[Path], list]:
    """Its runs by the smoke preset with something else for it."""

    def go(_: Path) -> list:
        preset = grids.get_preset("smoke")
        own = preset.changes.get(experiment, {}) | changes
        return grids.runs(experiment, dataclasses.replace(preset, changes=preset.changes | {experiment: own}))

    return go


def broken(text: str, whose: str = "") -> Callable[[Path], dict]:
    return lambda folder: read(folder, {name: json.dumps(inside) for name, inside in SOUND.items()} | {whose: text})


def _at(name: str, place: tuple, content: object, *words: str) -> Try:
    file = f"{place[0]}/presets.json" if place[0] else "presets.json"
    return Try("presets.json", name, edited(content, *place), (file, *words))


Q, CHANGES, T5 = ("", "quick"), ("compacter", "quick"), ("", "quick", "backbones", "t5-embedded")

TRIES = [
    Try("presets.json", "cut short", broken(json.dumps(SOUND[""])[:500]), ("presets.json", "cannot be read")),
    Try("presets.json", "a field twice", broken('{"a": {"rows": 1, "rows": 2}}'), ("'rows' stands there",)),
    Try("presets.json", "a list", broken("[]"), ("expected a table of names and values",)),
    _at("a name that is a path", ("", "../up"), SOUND[""]["quick"], "name: expected letters, digits", "'../up'"),
    _at("a preset that is empty", Q, {}, "preset 'quick': lacks about, backbone, batch_size"),
    _at("without a backbone", (*Q, "backbone"), GONE, "preset 'quick': lacks backbone"),
    _at("a field that there is not", (*Q, "epoch"), 3, "preset 'quick': 'epoch' is no field of it; did you mean 'epochs'?"),
    _at("epochs of 3.5", (*Q, "epochs"), 3.5, "preset 'quick': epochs: expected a whole number, got 3.5"),
    _at("no epochs", (*Q, "epochs"), 0, "preset 'quick': epochs: expected at least 1, got 0"),
    _at("seeds as a text", (*Q, "seeds"), "x", "seeds: expected a list, got 'x'"),
    _at("a seed twice", (*Q, "seeds"), [0, 0], "seeds: expected each once, from 0 to 2^32 - 1, got (0, 0)"),
    _at("a seed below 0", (*Q, "seeds"), [-1], "seeds: expected each once"),
    _at("no seeds", (*Q, "seeds"), [], "seeds: expected each once"),
    _at("limits of two splits", (*Q, "limits"), [90, 50], "limits: expected 3 values, got [90, 50]"),
    _at("a limit of 0", (*Q, "limits_single"), [90, 0, 50], "limits_single: expected at least 1"),
    _at("an unknown precision", (*Q, "precision"), "fp16", "precision: expected one of 'auto', 'bf16', 'fp32', got 'fp16'"),
    _at(
        "an unknown source", (*Q, "source"), "embeded", "source: expected one of 'embedded', 'local', 'hub', got 'embeded'"
    ),
    _at("an unknown form", (*Q, "form"), "txt", "form: expected one of 'heads', 'text', got 'txt'"),
    _at("an unknown sampling", (*Q, "sampling"), "random", "sampling: expected one of", "got 'random'"),
    _at("texts that are too long", (*Q, "max_length"), 4096, "max_length: expected 8 to 512, got 4096"),
    _at("rates without a default", (*Q, "lr"), {"LoRA": 1e-3}, "lr: expected a default, and rates from 0 to 10"),
    _at("a rate in words", (*Q, "lr", "Full"), "2e-4", "lr.Full: expected a number, got '2e-4'"),
    _at("a rate of a method that there is not", (*Q, "lr", "LoRa"), 1e-3, "'quick': lr: unknown method 'LoRa'", "LoRA"),
    _at("a rate of a field that there is not", (*Q, "lr", "LoRA(rnk=8)"), 1e-3, "'quick': lr: LoRA has no field 'rnk'"),
    _at("a suite that there is not", (*Q, "suites", "gleu"), ["cola"], "suites: expected of cs224n, glue", "gleu"),
    _at("a task that there is not", (*Q, "suites", "glue"), ["stbs"], "suites: expected tasks of glue", "stsb", "stbs"),
    _at("a task that the source has not", (*Q, "suites", "superglue"), ["record"], "that source 'embedded' has"),
    _at("a task twice", (*Q, "suites", "glue"), ["stsb", "stsb"], "suites: expected tasks of glue", "each once"),
    _at(
        "changes of an experiment that there is not",
        (*CHANGES, "compacter/tabel7"),
        {"rows": 5},
        "preset 'quick': changes: 'compacter/tabel7' is no experiment of compacter; did you mean 'compacter/table7'?",
    ),
    _at("changes of another paper", (*CHANGES, "adaptbert"), {}, "changes: 'adaptbert' is no experiment of compacter"),
    _at("a paper's changes", (*Q, "changes"), {"compacter": {}}, "changes: 'compacter' is no experiment outside papers"),
    _at("a paper's changes of a preset that there is not", ("survey", "qiuck"), {}, "'qiuck' is no preset", "'quick'?"),
    _at("a paper's changes of no preset", ("survey", "quick"), [], "quick: expected a table of names and values"),
    Try("presets.json", "a paper's, cut short", broken("{", "survey"), ("survey/presets.json", "cannot be read")),
    _at(
        "a backbone that nothing runs on",
        (*Q, "backbones", "t5-embeded"),
        {},
        "'t5-embeded' is that of no",
        "'t5-embedded'?",
    ),
    _at("a backbone that changes the backbone", (*T5, "backbone"), "minilm", "t5-embedded: 'backbone' cannot be changed"),
    _at("a backbone that changes epochs to 3.5", (*T5, "epochs"), 3.5, "backbones: t5-embedded: preset 'quick': epochs"),
    _at("a change to no backbone", (*CHANGES, "compacter", "backbone"), [], "changes: compacter: preset 'quick': backbone"),
    _at("changes of the backbones", (*CHANGES, "compacter", "backbones"), {}, "compacter: 'backbones' cannot be changed"),
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
    Try(
        "presets.json",
        "a paper's one task, where several are trained together",
        runs_of("hyperformer/table3", suites={"glue": ["sst2"]}),
        ("suites: glue", "expected two or more, got sst2"),
    ),
    Try(
        "presets.json",
        "a data set without the task that it begins with",
        runs_of("hyperformer/table2", suites={"glue": ["cola", "sst2"], "superglue": ["cb"], "transfer": ["trec"]}),
        ("suites: cb begins with 'mnli'", "glue must name, too; it names cola, sst2"),
    ),
    Try("a preset", "a name that there is not", lambda _: grids.get_preset("qiuck"), ("unknown preset 'qiuck'", "quick")),
    Try("peftlib status", "a preset that there is not", lambda _: command("status", "--preset", "qiuck"), ("'qiuck'",)),
]
FREE = {"about", "backbone"}


def _edit(draw: random.Random, folder: Path):
    """One edit of a presets.json: refused, or a value of the same type, an empty table or list, or something left out that
    has a default."""
    found = copy.deepcopy(SOUND)
    place = draw.choice([p for p in places(found) if len(p) > 1])
    inner, content = found, draw.choice(JUNK)
    for name in place:
        inner = inner[name]
    put(content, *place)(found)
    may = content is GONE or content in ([], {}) or {type(content), type(inner)} <= {int, float, type(None)}

    def go() -> None:
        read(folder, {whose: json.dumps(inside) for whose, inside in found.items()})
        assert may or type(content) is type(inner) or FREE & set(place), f"{content!r} at {place} was accepted"

    return go


def _misspelt(draw: random.Random, folder: Path):
    """A name in a presets.json with a letter too many: always refused."""
    found = copy.deepcopy(SOUND)
    inner, place = found, draw.choice([p for p in places(found) if isinstance(p[-1], str) and (p[0] or p[2:]) and p[1:]])
    for name in place[:-1]:
        inner = inner[name]
    inner[f"{place[-1]}x"] = inner.pop(place[-1])

    def go() -> None:
        read(folder, {whose: json.dumps(inside) for whose, inside in found.items()})
        raise AssertionError(f"{place} with an x was accepted")

    return go


GENERATORS = {"a value": _edit, "a name": _misspelt}
