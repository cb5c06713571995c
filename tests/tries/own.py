"""A table of one's own, and texts for a model that was trained on one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import tiny

from peftlib import backbones, deltas, own
from peftlib.data.task import Task
from peftlib.data.tasks import get_task
from peftlib.model import Tuned
from tries import Try

TABLE, ANSWERS = "train on a table", "ask a model"


def _table(**changes):
    """Training on a table of twelve rows with other columns, or another method."""

    def go(_: Path):
        method, start = changes.pop("method", "BitFit()"), changes.pop("start", ())
        columns = {"text": ["fine", "dull"] * 6, "label": ["good", "bad"] * 6} | changes
        return own.train(pd.DataFrame(columns), method, backbone="t5-embedded", epochs=1, start=start)

    return go


def _ask(tasks: list[Task], text):
    def go(_: Path):
        model = Tuned(backbones.from_config(tiny.CONFIGS["bert"]()), "BitFit()", tasks)
        return own.answers(model, [text], None)  # refused before anything is tokenised

    return go


def _start(expression: str, kind: str):
    """A table, and a start that is on another backbone, or no delta."""

    def go(folder: Path):
        path = folder / "delta.safetensors"
        if expression:
            deltas.save(tiny.build(expression, kind), path)
        return _table(start=[path])(folder)

    return go


PAIRS = Task("pairs", "classes", ("one", "two"), labels=("no", "yes"))


def _one_task(_: Path):
    Tuned(tiny.backbone("bert"), "PromptAutoencoder(length=4)", [get_task("sst")]).begin([{}])


TRIES = [
    Try(TABLE, "SPoT without a source", _table(method="SPoT(length=4)"), ("begins from a run of PromptTuning", "no start")),
    Try(
        TABLE, "IPT without an autoencoder", _table(method="IPT(length=4)"), ("begins from a run of PromptAuto", "no start")
    ),
    Try(
        "intrinsic prompt tuning",
        "on one task",
        _one_task,
        ("prompts of several tasks share, and 'sst' is one: add tasks",),
    ),
    Try(TABLE, "a start that is not there", _start("", ""), ("delta.safetensors: there is no such file",)),
    Try(
        TABLE, "a start on another backbone", _start("BitFit()", "bert"), ("it was trained on weights of digest", "fits no")
    ),
    Try(TABLE, "a list", lambda _: own.train(["a", "b"], "BitFit()"), ("'a'", "pandas.DataFrame")),
    Try(
        TABLE,
        "no column of labels",
        lambda _: own.train(pd.DataFrame({"text": ["a"] * 12}), "BitFit()"),
        ("'label'", "text"),
    ),
    Try(
        TABLE,
        "four rows",
        lambda _: own.train(pd.DataFrame({"text": ["a"] * 4, "label": ["b"] * 4}), "BitFit()"),
        ("4", "10"),
    ),
    Try(TABLE, "a label that is missing", _table(label=["good", None] * 6), ("row 1", "'label'", "drop")),
    Try(TABLE, "labels that are all the same", _table(label=["good"] * 12), ("labels", "two classes")),
    Try(TABLE, "scores that are all the same", _table(label=[0.5] * 12), ("high", "above low=0.5")),
    Try(TABLE, "a label with blanks around it", _table(label=["good ", "bad"] * 6), ("labels", "'good '")),
    Try(TABLE, "no text", _table(text=["fine", ""] * 6), ("column text", "not empty")),
    Try(TABLE, "numbers where texts should be", _table(text=[1, 2] * 6), ("column text", "expected a text")),
    Try(
        TABLE,
        "no texts at all",
        lambda _: own.train(pd.DataFrame({"label": ["a", "b"] * 6}), "BitFit()"),
        ("texts", "one text"),
    ),
    Try(TABLE, "an unknown method", _table(method="Lora()"), ("'Lora'", "LoRA")),
    Try(ANSWERS, "of two tasks", _ask([get_task("sst"), get_task("sts")], "fine"), ("sst, sts", "expected one")),
    Try(ANSWERS, "about one text of a pair", _ask([PAIRS], "fine"), ("'fine'", "one, two")),
]
