"""Records, recipes and runs: what is read back, and what Python gives."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

from peftlib import grids, records
from peftlib.records import Recipe, Run
from tries import Try

RUN = Run("LoRA(rank=2)", ("sst",), "minilm[:1]", "embedded", Recipe(lr=1e-3, epochs=2), limits=(16, 8, 8), label="a row")


def whole(run: Run = RUN) -> dict:
    """A record as `peftlib.study.execute` writes it."""
    scores = {"sst": 0.5, "mean": 0.5}
    history = [
        {
            "epoch": epoch,
            "train_loss": 0.7,
            "seconds": 1.0,
            "examples": 16,
            "learning_rate": 1e-3,
            "validation": dict(scores),
        }
        for epoch in (1, 2)
    ]
    return {
        "schema": records.SCHEMA,
        "digest": run.digest,
        "run": json.loads(json.dumps(dataclasses.asdict(run))),
        "code": "0" * 16,
        "sources": {"model.py": "0" * 8},
        "commit": None,
        "versions": {"python": "3.11"},
        "started": "now",
        "finished": "later",
        "machine": {"device": "a CPU", "threads": 1},
        "counts": {"trainable": 1, "stored": 1, "changed": 1, "heads": 1, "total": 1},
        "history": history,
        "best_epoch": 1,
        "validation": scores,
        "test": dict(scores),
        "seconds": 2.0,
        "examples_per_second": 16.0,
        "stored_bytes": 4,
        "peak_bytes": None,
        "initial_digest": "0" * 16,
        "backbone_digest": "0" * 64,
        "data": {split: {"sst": "0" * 64} for split in ("train", "validation", "test")},
    }


GONE = object()


def put(content: object, *place: str | int):
    """An edit of a record: what stands at a place is now this, or gone if it is `GONE`."""

    def edit(record: dict) -> None:
        for name in place[:-1]:
            record = record[name]
        if content is GONE:
            del record[place[-1]]
        else:
            record[place[-1]] = content

    return edit


def read(folder: Path, text: str, name: str = RUN.digest) -> dict:
    path = folder / f"{name}.json"
    path.write_text(text, encoding="utf-8")
    return records.read(path)


def edited(*edits):
    """A record is edited and read."""

    def go(folder: Path) -> dict:
        record = whole()
        for edit in edits:
            edit(record)
        return read(folder, json.dumps(record))

    return go


def recipe(**given):
    return lambda _: Recipe(**{"lr": 1e-3} | given)


def run(**given):
    return lambda _: dataclasses.replace(RUN, **given)


MEND = "`peftlib run` puts it aside and trains the run again"
OTHER = dataclasses.replace(RUN, seed=1).digest

TRIES = [
    # A file.
    Try("a record", "an empty file", lambda f: read(f, ""), (f"{RUN.digest}.json", "cannot be read as JSON", MEND)),
    Try("a record", "cut short", lambda f: read(f, json.dumps(whole())[:200]), ("cannot be read as JSON", MEND)),
    Try("a record", "a list", lambda f: read(f, "[]"), ("expected a table of names and values, got []", MEND)),
    Try("a record", "brackets in brackets", lambda f: read(f, "[" * 100_000), ("cannot be read as JSON",)),
    Try("a record", "a name twice", lambda f: read(f, '{"schema": 1, "schema": 1}'), ("'schema' stands there twice",)),
    Try("a record", "NaN", edited(put(float("nan"), "test", "sst")), ("NaN is no number",)),
    Try(
        "a record",
        "a folder of its name",
        lambda f: ((f / "a.json").mkdir(), records.read(f / "a.json")),
        ("a.json", "cannot be read as JSON"),
    ),
    # What stands in it.
    Try("a record", "another schema", edited(put(2, "schema")), ("schema: expected 1, got 2", MEND)),
    Try(
        "a record",
        "nothing but a digest",
        lambda f: read(f, json.dumps({"digest": RUN.digest})),
        ("lacks backbone_digest, best_epoch, code", MEND),
    ),
    Try("a record", "without scores", edited(put(GONE, "test")), ("lacks test", MEND)),
    Try("a record", "a score in words", edited(put("good", "test", "sst")), ("test.sst: expected a number, got 'good'",)),
    Try("a record", "without its task's score", edited(put({"mean": 0.5}, "test")), ("test: lacks sst",)),
    Try(
        "a record",
        "a number of runs that is none",
        edited(put(1.5, "counts", "stored")),
        ("counts.stored: expected a whole number, got 1.5",),
    ),
    Try(
        "a record",
        "an epoch without a loss",
        edited(put(GONE, "history", 1, "train_loss")),
        ("history[1]: lacks train_loss",),
    ),
    Try("a record", "an epoch too few", edited(put(GONE, "history", 1)), ("history: expected epochs 1 to 2, got [1]",)),
    Try("a record", "a best epoch that it has not", edited(put(3, "best_epoch")), ("best_epoch", "got 3")),
    Try(
        "a record",
        "scores of another epoch",
        edited(put({"sst": 0.6, "mean": 0.6}, "validation")),
        ("validation: expected the scores of the best epoch",),
    ),
    Try("a record", "of data that it does not name", edited(put(GONE, "data", "test")), ("a digest of each split",)),
    Try("a record", "diverged, and no word how", edited(put(True, "diverged")), ("diverged: expected a text, got True",)),
    # The run it says.
    Try("a record", "another name", lambda f: read(f, json.dumps(whole()), OTHER), ("holds the record of", RUN.digest)),
    Try("a record", "another seed under its name", edited(put(1, "run", "seed")), ("holds another run than its name",)),
    Try(
        "a record",
        "another method under its name",
        edited(put("LoRA(rank=4)", "run", "method")),
        ("holds another run than its name says",),
    ),
    Try(
        "a record",
        "a field that no recipe has",
        edited(put(1, "run", "recipe", "epoch")),
        ("run.recipe: 'epoch' is no field of it; did you mean 'epochs'?",),
    ),
    Try("a record", "a method that there is not", edited(put("LoRa()", "run", "method")), ("unknown method", "LoRA")),
    Try("a record", "a rate in words", edited(put("1e-3", "run", "recipe", "lr")), ("lr: expected a number, got '1e-3'",)),
    # Recipes and runs from Python.
    Try(
        "a record",
        "begun from nobody knows what",
        edited(put({"0" * 16: "0" * 16}, "start")),
        ("start: expected a digest of what each of [] had learnt",),
    ),
    Try("a recipe", "a rate as YAML reads 1e-3", recipe(lr="1e-3"), ("recipe: lr: expected a number, got '1e-3'",)),
    Try("a recipe", "a rate that is no number", recipe(lr=float("nan")), ("lr: expected a finite number, got nan",)),
    Try("a recipe", "a rate beyond all floats", recipe(lr=10**400), ("lr: expected a finite number",)),
    Try("a recipe", "a rate of 0", recipe(lr=0), ("lr=0.0 is impossible",)),
    Try("a recipe", "half an epoch", recipe(epochs=1.5), ("epochs: expected a whole number, got 1.5",)),
    Try("a recipe", "True epochs", recipe(epochs=True), ("epochs: expected a whole number, got True",)),
    Try("a recipe", "sorting in words", recipe(sort_by_length="yes"), ("expected true or false, got 'yes'",)),
    Try("a recipe", "an unknown precision", recipe(precision="fp16"), ("expected one of 'fp32', 'bf16', got 'fp16'",)),
    Try("a recipe", "an unknown sampling", recipe(sampling="random"), ("'proportional'", "'temperature', got 'random'")),
    Try("a run", "a task as a text", run(tasks="sst"), ("run: tasks: expected a list, got 'sst'",)),
    Try("a run", "no task", run(tasks=()), ("tasks=() is impossible",)),
    Try("a run", "a task twice", run(tasks=("sst", "sst")), ("tasks=('sst', 'sst') is impossible",)),
    Try("a run", "a task that there is not", run(tasks=("sst3",)), ("unknown task 'sst3'", "did you mean 'sst'")),
    Try("a run", "a source that there is not", run(source="web"), ("source='web' is impossible",)),
    Try("a run", "a seed below 0", run(seed=-1), ("seed=-1 is impossible",)),
    Try("a run", "a seed beyond what generators take", run(seed=2**32), ("seed=4294967296 is impossible",)),
    Try("a run", "two limits", run(limits=(16, 8)), ("limits: expected 3 values, got (16, 8)",)),
    Try("a run", "a limit of 0", run(limits=(16, 0, 8)), ("limits=(16, 0, 8) is impossible",)),
    Try("a run", "a limit of 1.5", run(limits=(16, 1.5, 8)), ("limits[1]: expected a whole number or null, got 1.5",)),
    Try("a run", "a method that is no expression", run(method="LoRA("), ("cannot read the method 'LoRA('",)),
    Try("a run", "a recipe as a table", run(recipe={"lr": 1e-3, "epoch": 1}), ("'epoch' is no field of it",)),
    Try("a run", "half a character as backbone", run(backbone="\ud800"), ("backbone: expected a text of characters",)),
    Try("a run", "a digest to begin from", run(start=(OTHER,)), ("start[0]: expected a table of names and values",)),
    Try(
        "a run",
        "begun from one on another backbone",
        run(start=(dataclasses.replace(RUN, backbone="minilm"),)),
        ("run: start: 'LoRA(rank=2)' is trained on 'minilm'", "expected a run on 'minilm[:1]'"),
    ),
    Try(
        "a run",
        "a task to copy from that its start does not know",
        run(start=(RUN,), start_task="quora"),
        ("run: start_task: 'LoRA(rank=2)' knows no task 'quora': expected one of sst",),
    ),
    Try("a run", "a task to copy from and no start", run(start_task="sst"), ("is for a run of one task that has a start",)),
    Try(
        "a run",
        "a task to copy from for two",
        run(tasks=("sst", "sts"), start=(RUN,), start_task="sst"),
        ("is for a run of one task that has a start; it has the tasks sst, sts",),
    ),
    Try("PEFTLIB_PRECISION", "fp64", lambda _: _precision("fp64"), ("PEFTLIB_PRECISION is 'fp64': expected bf16 or fp32",)),
]


def _precision(name: str) -> str:
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFTLIB_PRECISION", name)
        return grids.native_precision.__wrapped__()


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Every place inside tables and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for name, part in inner for found in ((*path, name), *places(part, (*path, name)))]


JUNK = (GONE, "x", "", -1, 0, 3.5, 1e308, True, None, [], {}, ["x"], {"x": 1}, 10**30, "\ud800", float("nan"))
FREE = {
    "label",
    "code",
    "sources",
    "commit",
    "versions",
    "machine",
    "started",
    "finished",
    "counts",
    "train_loss",
    "seconds",
    "examples",
    "learning_rate",
    "stored_bytes",
    "peak_bytes",
    "initial_digest",
    "backbone_digest",
    "data",
    "examples_per_second",
    "test",
    "history",
}  # whose values nothing else in a record tells


def _record(draw: random.Random, folder: Path):
    """One edit of a sound record: refused, or of a value that may be another."""
    record = whole()
    place = draw.choice(places(record))
    put(draw.choice(JUNK), *place)(record)

    def go() -> None:
        read(folder, json.dumps(record))
        assert FREE & set(place) or records.run_of(record) == RUN, f"{place} was accepted"

    return go


def _cut(draw: random.Random, folder: Path):
    """Bytes of a record, some of them lost or others."""
    content = bytearray(json.dumps(whole()).encode())
    for _ in range(draw.randrange(1, 4)):
        start = draw.randrange(len(content))
        content[start : start + draw.choice([0, 1, 1, 500])] = draw.choice([b"", b"\xff", b"{", b'"', b"9"])
    path = folder / f"{RUN.digest}.json"
    path.write_bytes(content)
    return lambda: records.read(path)


def _from_python(draw: random.Random, _: Path):
    """A field of a recipe or a run with a value that may be none of its type."""
    kind, sound = draw.choice([(Recipe, RUN.recipe), (Run, RUN)])
    name, value = draw.choice(dataclasses.fields(kind)).name, draw.choice((*JUNK[1:], *RUN.tasks, float("inf")))

    def go() -> None:
        found = dataclasses.replace(sound, **{name: value})
        either = {int} if name == "epoch_steps" else set()  # which may be None, as it is here
        assert type(getattr(found, name)) in {type(getattr(sound, name)), *either}, f"{name}={value!r} was accepted"
        if isinstance(found, Run):
            assert len(found.digest) == 16

    return go


GENERATORS = {"a record with an edit": _record, "a record of damaged bytes": _cut, "a recipe or a run": _from_python}
