"""Tables of rows, the folder they lie in, tasks of one's own, and texts that do not fit."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import tiny

from peftlib.data import TASKS, Task, answer, as_text, embedded, get_task, load_split, members
from peftlib.model import Tuned
from peftlib.records import Recipe, Run
from peftlib.training.loop import Trainer
from tries import Try

SPLIT = "load a local split"
GOOD = {
    "sst": {"sentence": ["A fine film.", "A poor film."], "label": [4, 0]},
    "sts": {"sentence1": ["A cat sat.", "Rain."], "sentence2": ["A cat ran.", "Rain fell."], "similarity": [2.5, 4.8]},
    "copa": {
        "premise": ["It rained.", "He fell."],
        "question": ["cause", "effect"],
        "choice1": ["Clouds came.", "He rose."],
        "choice2": ["It was late.", "He sat."],
        "label": [0, 1],
    },
    "multirc": {
        "paragraph": ["A.", "B."],
        "question": ["Who?", "Why?"],
        "answer": ["Ada", "so"],
        "idx": [{"paragraph": 0, "question": 0}, {"paragraph": 1, "question": 1}],
        "label": [0, 1],
    },
    "record": {
        "passage": ["Ada saw Bob.", "Bob left."],
        "query": ["@placeholder was seen.", "@placeholder left."],
        "entities": [["Ada", "Bob"], ["Bob"]],
        "answers": [["Bob"], ["Bob"]],
        "idx": [{"passage": 0, "query": 0}, {"passage": 1, "query": 1}],
    },
}


def _file(folder: Path, name: str, split: str = "validation") -> Path:
    task = TASKS[name]
    path = folder / task.suite / name / f"{'train' if task.splits == 'held validation' else split}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _load(folder: Path | str, name: str | Task, **options) -> object:
    with mock.patch.dict(os.environ, {"PEFTLIB_DATA": str(folder)}):
        return load_split(name, **{"split": "validation", "source": "local"} | options)


def _table(name: str, **changes) -> Callable[[Path], object]:
    """Two good rows of a task with some columns put in place of its own (None: left out), read from a file."""

    def go(folder: Path):
        columns = {column: values for column, values in (GOOD[name] | changes).items() if values is not None}
        pq.write_table(pa.table(columns), _file(folder, name))
        return _load(folder, name)

    return go


def _bytes(content: bytes) -> Callable[[Path], object]:
    def go(folder: Path):
        _file(folder, "sst").write_bytes(content)
        return _load(folder, "sst")

    return go


def _twice(folder: Path):
    pq.write_table(pa.table(GOOD["sst"]).append_column("label", pa.array([1, 1])), _file(folder, "sst"))
    return _load(folder, "sst")


def _empty(folder: Path):
    pq.write_table(pa.table({}), _file(folder, "sst"))
    return _load(folder, "sst")


def _short(folder: Path):
    pq.write_table(pa.table(GOOD["sst"]), _file(folder, "sst"))
    return _bytes(_file(folder, "sst").read_bytes()[:-9])(folder)


def _an_author_of_two_articles(folder: Path):
    """LaMP's columns: one profile of ten articles, one of two; the second is trained on."""
    lamp = folder / "lamp" / "authors"
    lamp.mkdir(parents=True)
    articles = [{"text": f"News {i}.", "category": "sports"} for i in range(12)]
    for split, own in (("train", articles[:10]), ("validation", articles[10:]), ("test", articles[:3])):
        pq.write_table(pa.table({"id": [split], "profile": [own]}), lamp / f"{split}.parquet")
    with mock.patch.dict(os.environ, {"PEFTLIB_DATA": str(folder)}):
        return Trainer(_of_author("authors_1", "local"), progress=False)


def _of_author(author: str, source: str = "embedded") -> Run:
    recipe = Recipe(lr=1e-3, epochs=1, max_length=16, precision="fp32")
    return Run("PerTask(XPEFT(adapters=2, bottleneck=2))", ("authors_0", author), "minilm[:1]", source, recipe)


def _latin(*texts: str) -> pa.Array:
    """Texts as a file in another encoding has them."""
    return pa.array([text.encode("latin-1") for text in texts]).view(pa.string())


def _own(**fields) -> Callable[[Path], object]:
    """A user's own task with some of its fields changed."""
    good = {"name": "tweets", "kind": "classes", "texts": ("text",), "labels": ("calm", "angry")}
    return lambda _: Task(**good | fields)


def _score(**fields) -> Callable[[Path], object]:
    return _own(**{"kind": "score", "labels": (), "metrics": ("pearson",), "low": 0, "high": 5} | fields)


def _rows(folder: Path):
    pq.write_table(pa.table({"text": ["A."], "label": [0]}), _file(folder, "sst"))
    return _load(folder, _own(folder="sst", rows=lambda row: [row])(folder))


TRIES = [
    # Tables
    Try(
        SPLIT,
        "a text that is no UTF-8",
        _table("sst", sentence=_latin("Fine.", "Très fin.")),
        ("validation.parquet", "row 1", "column sentence", "UTF-8"),
    ),
    Try(
        SPLIT,
        "an entity that is no UTF-8",
        _table("record", entities=pa.ListArray.from_arrays([0, 2, 3], _latin("Ada", "Bob", "Zoé"))),
        ("train.parquet", "row 1", "column entities", "UTF-8"),
    ),
    Try(
        SPLIT,
        "half a character, as JSON may have it",
        _table("sst", sentence=pa.array([b"\xed\xa0\xbd", b"Fine."]).view(pa.string())),
        ("row 0", "column sentence", "UTF-8"),
    ),
    Try(SPLIT, "an empty text", _table("copa", choice2=["It was late.", ""]), ("row 1", "column choice2", "not empty")),
    Try(SPLIT, "a text of blanks", _table("copa", premise=[" \n\t", "He fell."]), ("row 0", "column premise", "not empty")),
    Try(SPLIT, "no text", _table("sst", sentence=["Fine.", None]), ("row 1", "column sentence", "None")),
    Try(SPLIT, "texts as bytes", _table("sst", sentence=[b"Fine.", b"Poor."]), ("row 0", "column sentence", "b'Fine.'")),
    Try(
        SPLIT, "texts as lists of words", _table("sst", sentence=[["A", "film"]] * 2), ("row 0", "column sentence", "['A'")
    ),
    Try(SPLIT, "texts as numbers", _table("sst", sentence=[1.5, 2.5]), ("row 0", "column sentence", "1.5")),
    Try(
        SPLIT, "a label that no class has", _table("sst", label=[4, 5]), ("row 1", "column label", "5", "0 (most negative)")
    ),
    Try(SPLIT, "the labels of a hidden test set", _table("sst", label=[-1, -1]), ("row 0", "label -1", "hidden test set")),
    Try(
        SPLIT,
        "labels as words",
        _table("sst", label=["positive", "negative"]),
        ("row 0", "'positive'", "4 (most positive)"),
    ),
    Try(SPLIT, "a label of a million characters", _table("sst", label=["x" * 10**6, "y"]), ("row 0", "'xxx", "...")),
    Try(SPLIT, "labels that are true or false", _table("sst", label=[True, False]), ("row 0", "label True")),
    Try(SPLIT, "half a class", _table("sst", label=[4.0, 0.5]), ("row 1", "label 0.5")),
    Try(SPLIT, "a label beyond every integer", _table("sst", label=[0, 2**63 - 1]), ("row 1", str(2**63 - 1))),
    Try(SPLIT, "a label in decimals", _table("sst", label=[Decimal("1"), Decimal("2")]), ("row 0", "Decimal('1')")),
    Try(SPLIT, "dates for labels", _table("sst", label=pa.array([1, 2], pa.date32())), ("row 0", "column label", "1970")),
    Try(
        SPLIT,
        "moments beyond the calendar",
        _table("sst", label=pa.array([2**62] * 2).view(pa.timestamp("us"))),
        ("row 0", "column label", "timestamp"),
    ),
    Try(SPLIT, "no labels at all", _table("sst", label=pa.nulls(2)), ("row 0", "label None")),
    Try(
        SPLIT, "a score that is no number", _table("sts", similarity=[1.0, float("nan")]), ("row 1", "score nan", "0 to 5")
    ),
    Try(SPLIT, "an infinite score", _table("sts", similarity=[float("inf"), 1.0]), ("row 0", "score inf", "0 to 5")),
    Try(SPLIT, "a score beyond the scale", _table("sts", similarity=[5.2, 1.0]), ("row 0", "score 5.2", "0 to 5")),
    Try(SPLIT, "a score that is true", _table("sts", similarity=[True, False]), ("row 0", "score True")),
    Try(SPLIT, "scores as text", _table("sts", similarity=["1.0", "2.0"]), ("row 0", "score '1.0'")),
    Try(
        SPLIT,
        "a column that is missing",
        _table("sts", sentence2=None),
        ("missing column sentence2", "the file has sentence1"),
    ),
    Try(SPLIT, "no columns", _empty, ("missing columns sentence, label", "the file has none")),
    Try(
        SPLIT,
        "a thousand other columns",
        _table("sst", label=None, **{f"feature_{i}": [0, 1] for i in range(1000)}),
        ("missing column label", "feature_0", "[...]"),
    ),
    Try(SPLIT, "a column twice", _twice, ("column label", "2 times")),
    Try(SPLIT, "no rows", _table("sst", sentence=pa.array([], pa.string()), label=pa.array([], pa.int64())), ("no rows",)),
    Try(
        SPLIT,
        "a question without a place",
        _table("multirc", idx=[{"paragraph": 0}, {"paragraph": 1}]),
        ("row 0", "column idx", "paragraph and question"),
    ),
    Try(SPLIT, "places as numbers", _table("multirc", idx=[0, 1]), ("row 0", "column idx", "got 0")),
    Try(SPLIT, "entities as one text", _table("record", entities=["Ada", "Bob"]), ("row 0", "column entities", "'Ada'")),
    Try(SPLIT, "an empty entity", _table("record", entities=[["Ada", "Bob"], ["Bob", " "]]), ("row 1", "column entities")),
    Try(SPLIT, "a query without entities", _table("record", entities=[["Ada"], []]), ("row 1", "column entities", "[]")),
    Try(SPLIT, "a query without answers", _table("record", answers=[["Bob"], []]), ("row 1", "column answers", "[]")),
    Try(
        SPLIT, "an empty passage before others", _table("record", passage=["Ada saw Bob.", ""]), ("row 1", "column passage")
    ),
    Try(SPLIT, "a file that is empty", _bytes(b""), ("validation.parquet", "cannot be read as parquet", "replace")),
    Try(SPLIT, "a file that was cut short", _short, ("validation.parquet", "cannot be read as parquet")),
    Try(
        SPLIT, "a table of commas", _bytes(b"sentence,label\nfine,4\n"), ("validation.parquet", "cannot be read as parquet")
    ),
    Try(
        SPLIT,
        "a folder in the place of the file",
        lambda folder: (_file(folder, "sst").mkdir(), _load(folder, "sst")),
        ("validation.parquet", "no such file"),
    ),
    # The folder
    Try("PEFTLIB_DATA", "nothing", lambda _: _load("", "sst"), ("PEFTLIB_DATA", "<suite>/<task>/<split>.parquet")),
    Try("PEFTLIB_DATA", "a home as the shell writes it", lambda _: _load("~/data", "sst"), ("'~/data'", "whole path")),
    Try("PEFTLIB_DATA", "a file", lambda folder: _load(Path(__file__), "sst"), ("data.py", "no folder")),
    Try("PEFTLIB_DATA", "a name of ten thousand characters", lambda _: _load("x" * 10_000, "sst"), ("'xxx", "no folder")),
    # Names and numbers
    Try("load a split", "a task that is no name", lambda _: load_split(["sst"], "train"), ("unknown task ['sst']", "sst")),
    Try("load a split", "a task of a million letters", lambda _: load_split("s" * 10**6, "train"), ("unknown task", "...")),
    Try("load a split", "a split that is no name", lambda _: load_split("sst", ["train"]), ("unknown split", "validation")),
    Try(
        "load a split",
        "a limit that is text",
        lambda _: load_split("sst", "train", limit="9"),
        ("limit", "'9'", "whole number"),
    ),
    Try(
        "load a split",
        "a task that no source generates",
        lambda folder: load_split(_own()(folder), "train"),
        ("unknown task 'tweets'",),
    ),
    Try(
        "generate a split",
        "a task that has none",
        lambda _: embedded.generate("record", "train"),
        ("record", "those that have"),
    ),
    Try("write an answer", "an infinite score", lambda _: answer(get_task("sts"), float("inf")), ("inf", "0 to 5")),
    Try("write an answer", "a score as text", lambda _: answer(get_task("sts"), "high"), ("'high'", "0 to 5")),
    Try(
        "write an input",
        "too few texts",
        lambda _: as_text(get_task("copa"), ("It rained.",)),
        ("copa", "premise", "1 texts"),
    ),
    # Tasks of one's own
    Try("a task", "a name with a dot", _own(name="my.tweets"), ("'my.tweets'", "letters, digits and _")),
    Try("a task", "a name that is a path", _own(name="../sst"), ("'../sst'", "letters, digits and _")),
    Try("a task", "the name of a column of scores", _own(name="mean"), ("'mean'", "neither mean nor unreadable")),
    Try("a task", "no name", _own(name=None), ("name=None", "letters")),
    Try("a task", "an unknown kind", _own(kind="regression"), ("kind='regression'", "'score'")),
    Try("a task", "texts as one text", _own(texts="text"), ("texts='text'", "tuple of strings")),
    Try("a task", "no texts", _own(texts=()), ("texts=()", "one text column or more")),
    Try("a task", "a text twice", _own(texts=("text", "text")), ("texts=('text', 'text')", "none twice")),
    Try("a task", "a label among the texts", _own(label="text"), ("label='text'", "no text")),
    Try("a task", "fields that are no texts", _own(fields=("body",)), ("fields=('body',)", "text in some order")),
    Try("a task", "one class", _own(labels=("calm",)), ("labels=('calm',)", "two classes")),
    Try("a task", "a class twice", _own(labels=("calm", "calm")), ("labels=", "none twice")),
    Try("a task", "classes as numbers", _own(labels=(0, 1)), ("labels=(0, 1)", "tuple of strings")),
    Try("a task", "a class with blanks around it", _own(labels=("calm ", "angry")), ("labels=", "'calm '", "blank")),
    Try("a task", "three classes for one logit", _own(kind="binary", labels=("a", "b", "c")), ("labels=", "two classes")),
    Try("a task", "classes of a score", _score(labels=("low", "high")), ("labels=('low', 'high')", "none for a score")),
    Try("a task", "a scale that ends before it begins", _score(low=5, high=1), ("high=1", "above low=5")),
    Try("a task", "a scale without an end", _score(high=float("inf")), ("high=inf", "finite")),
    Try("a task", "an unknown metric", _own(metrics=("bleu",)), ("metrics=('bleu',)", "accuracy", "macro_f1")),
    Try("a task", "no metrics", _own(metrics=()), ("metrics=()", "one or more of accuracy")),
    Try("a task", "a correlation of classes", _own(metrics=("pearson",)), ("metrics=('pearson',)", "accuracy")),
    Try("a task", "the accuracy of scores", _score(metrics=("accuracy",)), ("metrics=('accuracy',)", "pearson")),
    Try("a task", "F1 of three classes", _own(labels=("a", "b", "c"), metrics=("f1",)), ("metrics=('f1',)", "two classes")),
    Try(
        "a task", "exact match without groups", _own(metrics=("exact_match",)), ("metrics=('exact_match',)", "need groups")
    ),
    Try("a task", "an unknown way to split", _own(splits="thirds"), ("splits='thirds'", "as given, halves")),
    Try("a task", "a folder that is no text", _own(suite=Path("glue")), ("suite=", "a string")),
    Try(
        "a task",
        "columns for rows that it does not have",
        _own(source_columns=("text", "idx")),
        ("source_columns=", "rows"),
    ),
    Try("a task", "rows that miss a column", _rows, ("'tweets'", "'group'", "the source gives text, label")),
    Try("a task", "division by group without groups", _own(splits="by group"), ("splits=", "rows")),
    Try("a task", "parity without pairs", _own(metrics=("gender_parity",)), ("metrics=", "need groups")),
    Try(
        "a task", "no such author", lambda _: load_split("authors_60", "test"), ("group 60", "from authors_0 to authors_59")
    ),
    Try(
        "train",
        "an author who is not there",
        lambda _: Trainer(_of_author("authors_60"), progress=False),
        ("no rows of group 60 in train", "from authors_0 to authors_59"),
    ),
    Try(
        "train",
        "an author without training rows",
        _an_author_of_two_articles,
        ("group 1 has 2 rows, too few to leave any for train", "expected 3 at least"),
    ),
    Try("a task", "an author of a task that has none", lambda _: get_task("sst_3"), ("'sst_3'", "known tasks")),
    Try("a task", "authors of a task that has none", lambda _: members("sst"), ("'sst'", "authors, news_category")),
    Try("a task", "an author's name", lambda _: get_task("authors_ada"), ("'authors_ada'", "'authors'")),
    Try("a task", "a billion answers", lambda _: _score(high=1e9)(_).words, ("1e+09", "form 'text'", "another scale")),
    Try(
        "a model",
        "a task with a name of PyTorch's",
        lambda _: Tuned(tiny.backbone("bert"), "BitFit()", [_own(name="train")(_)]),
        ("'train'", "call the task otherwise"),
    ),
    Try("a task", "a known row of too few texts", _own(texts=("a", "b"), known_bad=(("",),)), ("known_bad=", "2 texts")),
]


# --- random tables and tasks ------------------------------------------------------------------------------------------
TYPES = (
    pa.bool_(),
    pa.int8(),
    pa.uint64(),
    pa.float16(),
    pa.float32(),
    pa.decimal128(20, 3),
    pa.date64(),
    pa.time64("us"),
    pa.timestamp("us"),
    pa.timestamp("s", "Europe/Paris"),
    pa.duration("us"),
    pa.binary(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(3),
    pa.list_(pa.string()),
    pa.list_(pa.int64(), 2),
    pa.map_(pa.string(), pa.int32()),
    pa.struct({"paragraph": pa.int64(), "question": pa.string()}),
    pa.null(),
    pa.dictionary(pa.int8(), pa.string()),
)
VALUES = (
    "A film.",
    "",
    " ",
    "\u200b",
    "é" * 300,
    "\x00",
    "1",
    -1,
    0,
    1,
    4,
    2**63 - 1,
    0.5,
    float("nan"),
    float("inf"),
    True,
    None,
    b"\xff\xfe",
    ["Ada", None],
    [],
    {"paragraph": 0, "question": 1},
    {"passage": None},
    [["Ada"]],
    Decimal("3.5"),
)


def _column(draw: random.Random, good: list, rows: int) -> pa.Array:
    """A good column, values of one kind that do not belong there, or anything of some type."""
    match draw.randrange(4):
        case 0:
            return pa.array([draw.choice(good) for _ in range(rows)])
        case 1:
            return pa.array([draw.choice([good[0], good[1], None]) for _ in range(rows)])
        case 2:
            values = [draw.choice(VALUES) for _ in range(2)]
            try:
                return pa.array([draw.choice(values) for _ in range(rows)])
            except (pa.ArrowException, OverflowError):  # values of two kinds are no column
                return pa.array([values[0]] * rows)
    kind = draw.choice(TYPES)
    if kind in (pa.large_string(), pa.binary()):
        return pa.array([draw.randbytes(3) for _ in range(rows)], pa.binary()).view(pa.string())
    if kind in (pa.timestamp("us"), pa.duration("us"), pa.time64("us")):
        return pa.array([draw.randrange(-(2**62), 2**62) for _ in range(rows)], pa.int64()).view(kind)
    return pa.nulls(rows, kind)


def _tables(draw: random.Random, folder: Path) -> Callable[[], object]:
    name = draw.choice(list(GOOD))
    rows = draw.choice([0, 1, 2, 5])
    columns = [
        (column, _column(draw, good, rows) if draw.random() < 0.4 else pa.array([good[i % 2] for i in range(rows)]))
        for column, good in GOOD[name].items()
        if draw.random() < 0.97
    ]
    columns += draw.sample(columns, draw.random() < 0.1 and len(columns) > 0)
    path = _file(folder, name)
    pq.write_table(pa.Table.from_arrays([values for _, values in columns], [column for column, _ in columns]), path)
    if draw.random() < 0.1:
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= draw.randrange(1, 256)
        path.write_bytes(content)
    limit, split = draw.choice([None, 1, 3]), draw.choice(["train", "validation", "test"])
    return lambda: _load(folder, name, split=split, limit=limit)


def _tasks(draw: random.Random, folder: Path) -> Callable[[], object]:
    good = draw.choice(list(TASKS.values()))
    changed = {field.name for field in dataclasses.fields(Task) if draw.random() < 0.15}
    odd = (
        None,
        "",
        "text",
        (),
        ("text",),
        ("text", "text"),
        0,
        -1.0,
        float("nan"),
        True,
        b"x",
        ["text"],
        {"text": 1},
        *(getattr(other, name) for other in draw.sample(list(TASKS.values()), 2) for name in sorted(changed)),
    )
    fields = {name: draw.choice(odd) for name in sorted(changed)}

    def use():
        task = dataclasses.replace(good, **fields)
        assert as_text(task, task.texts) and answer(task, task.low) in task.words
        return _load(folder, task)

    return use


GENERATORS = {"a local split": _tables, "a task": _tasks}
