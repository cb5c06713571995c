"""GLUE and SuperGLUE: tasks, splits, text-to-text form and metrics; their embedded counterparts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import words
from real import needs_real_data, real_data
from sklearn.linear_model import Ridge

from peftlib.data import TASKS, answer, as_text, embedded, get_task, load_split, read_answer
from peftlib.data.grammar import acceptability, causes, commitment, inference, scenes, senses
from peftlib.data.tasks import SUITES
from peftlib.errors import DataError, UsageError
from peftlib.records import Recipe, Run
from peftlib.training import metrics
from peftlib.training.encoding import Encoded
from peftlib.training.loop import Trainer

GLUE = ["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte"]
SUPERGLUE = ["boolq", "cb", "copa", "multirc", "record", "wic"]
RESPLIT = ["qnli_resplit", "boolq_resplit", "xnli_resplit", "pawsx_resplit"]
ALL = GLUE + SUPERGLUE + RESPLIT
EMBEDDED = [name for name in GLUE + SUPERGLUE if name in embedded.SIZES]
# Whoever changes a grammar changes every record made with it, and must say so here.
DIGESTS = {
    "cola": "8ded2245dfe11e26",
    "sst2": "0726f9957805798a",
    "mrpc": "587ab3cfbfedc8b4",
    "qqp": "205c7f86eff28a87",
    "stsb": "5bbabcc504aef3c3",
    "mnli": "ba882a31867bb764",
    "qnli": "a70cc04a680b8fde",
    "rte": "686448304a8333fb",
    "boolq": "4076c3f78d215684",
    "cb": "4f9d23917dc42d3c",
    "copa": "3030a81552d14e7a",
    "wic": "601b70f24e02a99a",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A function that writes one local split of a task; PEFTLIB_DATA names the folder."""
    monkeypatch.setenv("PEFTLIB_DATA", str(tmp_path))

    def write(name: str, split: str, columns: dict) -> Path:
        task = TASKS[name]
        path = tmp_path / task.suite / (task.folder or task.name) / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(columns).to_parquet(path)
        return path

    return write


def rows(name: str, count: int) -> dict:
    """Rows with the columns of a task whose texts all differ."""
    task = TASKS[name]
    columns = {column: [f"{column} {i} is here" for i in range(count)] for column in task.texts}
    labels = [i % 6 for i in range(count)] if task.kind == "score" else [i % len(task.labels) for i in range(count)]
    return columns | {task.label: labels}


# Tasks ----------------------------------------------------------------------------------------------------------------


def test_suites_are_those_of_the_paper():
    suites = {"glue": GLUE, "superglue": SUPERGLUE, "resplit": RESPLIT}
    assert {name: [task.name for task in SUITES[name]] for name in suites} == suites
    assert all(task.suite == name for name in suites for task in SUITES[name])


def test_splits_follow_the_size_as_in_section_5():
    small = {"rte", "mrpc", "stsb", "cola", "copa", "wic", "cb", "boolq", "multirc"}
    assert {name for name in GLUE + SUPERGLUE if TASKS[name].splits == "halves"} == small
    assert {TASKS[name].splits for name in set(GLUE + SUPERGLUE) - small} == {"held validation"}


def test_two_metrics_where_the_paper_has_two():
    two = {name: TASKS[name].metrics for name in GLUE + SUPERGLUE if len(TASKS[name].metrics) == 2}
    assert two == {
        "mrpc": ("accuracy", "f1"), "qqp": ("accuracy", "f1"), "stsb": ("pearson", "spearman"),
        "cb": ("accuracy", "macro_f1"), "multirc": ("f1", "exact_match"), "record": ("entity_f1", "entity_em"),
    }  # fmt: skip
    assert TASKS["cola"].metrics == ("matthews",)


def test_stand_ins_are_on_no_hub_and_say_what_they_are():
    assert all(TASKS[name].hub is None and TASKS[name].title.startswith("Stand-in") for name in RESPLIT)
    assert all(TASKS[name].hub.startswith("nyu-mll/glue,") for name in GLUE)
    assert all(TASKS[name].hub == f"aps/super_glue,{name}" for name in SUPERGLUE)


# Sources and splits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in ALL if TASKS[n].splits == "halves" and not TASKS[n].rows])
def test_halves(folder, name):
    folder(name, "train", rows(name, 30))
    original = rows(name, 21)
    folder(name, TASKS[name].validation, original)
    folder(name, "test", rows(name, 5))  # what the paper does not use
    validation, test = (load_split(name, split, "local") for split in ("validation", "test"))
    assert (len(validation), len(test)) == (10, 11) and set(validation.texts).isdisjoint(test.texts)
    assert sorted(validation.texts + test.texts) == sorted(zip(*(original[c] for c in TASKS[name].texts), strict=True))
    assert len(load_split(name, "train", "local")) == 30
    folder(name, TASKS[name].validation, {column: values[::-1] for column, values in original.items()})
    assert set(load_split(name, "validation", "local", seed=5).texts) == set(validation.texts)


@pytest.mark.parametrize("name", [n for n in ALL if TASKS[n].splits == "held validation" and not TASKS[n].rows])
def test_held_validation(folder, name):
    folder(name, "train", rows(name, 12_000))
    folder(name, TASKS[name].validation, rows(name, 7))
    train, validation, test = (load_split(name, split, "local") for split in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (11_000, 1_000, 7)
    assert set(train.texts).isdisjoint(validation.texts) and test.texts[0][0].endswith("0 is here")


def test_halves_need_two_rows(folder):
    folder("cb", "validation", rows("cb", 1))
    with pytest.raises(DataError, match=r"too few rows \(1\) to make validation one half of validation"):
        load_split("cb", "validation", "local")


def multirc(paragraphs: int = 6) -> dict:
    place = [(p, q, a) for p in range(paragraphs) for q in range(2) for a in range(3)]
    return {
        "paragraph": [f"Paragraph {p}." for p, _, _ in place],
        "question": [f"Question {q}?" for _, q, _ in place],
        "answer": [f"answer {a}" for _, _, a in place],
        "idx": [{"paragraph": p, "question": q, "answer": a} for p, q, a in place],
        "label": [int(a == 0) for _, _, a in place],
    }


def record(passages: int = 4) -> dict:
    return {
        "passage": [f"Passage {p} on Ada, Bob and Cy." for p in range(passages)],
        "query": ["Then @placeholder left."] * passages,
        "entities": [["Ada", "Bob", "Cy"]] * passages,
        "answers": [["Bob"], ["Ada", "Cy"]] * (passages // 2),
        "idx": [{"passage": p, "query": 10 * p} for p in range(passages)],
    }


def test_multirc_keeps_questions_whole(folder):
    folder("multirc", "validation", multirc())
    validation, test = (load_split("multirc", split, "local") for split in ("validation", "test"))
    assert len(validation) == len(test) == 18 and set(validation.groups).isdisjoint(test.groups)
    assert all(validation.groups.count(group) == 3 for group in validation.groups)
    assert validation.segments[0][1].startswith("Question") and validation.segments[0][1].endswith("answer 0")


@pytest.mark.parametrize("name", ["multirc", "record"])
def test_a_limit_counts_questions_and_cuts_none_in_two(folder, name):
    folder(name, TASKS[name].validation, {"multirc": multirc, "record": lambda: record(12)}[name]())
    whole = load_split(name, "test", "local")
    small, large = (load_split(name, "test", "local", limit=limit, seed=1) for limit in (2, 4))
    assert [len(set(found.groups)) for found in (small, large)] == [2, 4] and large.groups[:6] == small.groups
    for found in (small, large):
        assert {group: found.groups.count(group) for group in found.groups} == dict.fromkeys(found.groups, 3)
        perfect = metrics.scores(TASKS[name], found.labels, found.labels, found.groups, found.texts, found.labels)
        assert set(perfect.values()) == {1.0}
    assert load_split(name, "test", "local", limit=2, seed=2).groups != small.groups
    assert sorted(load_split(name, "test", "local", limit=999).texts) == sorted(whole.texts)


def test_record_is_one_example_per_entity(folder):
    folder("record", "validation", record())
    test = load_split("record", "test", "local")
    assert len(test) == 12 and test.groups[:3] == ["0-0"] * 3 and test.labels[:6].tolist() == [0, 1, 0, 1, 0, 1]
    assert test.segments[1] == ("Passage 0 on Ada, Bob and Cy.", "Then Bob left.")


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("record", {"passage": ["x"]}, "missing columns query, entities, answers, idx; task 'record' needs"),
        ("multirc", multirc() | {"idx": 1}, "row 0, column idx: expected numbers under paragraph and question, got 1"),
        (
            "multirc",
            multirc() | {"idx": [{"paragraph": 0, "question": 0}] * 35 + [{"paragraph": 0, "question": None}]},
            "row 35, column idx: expected numbers under",
        ),
        ("record", record() | {"entities": 3}, "row 0, column entities: expected a list of one text or more, .* got 3"),
        ("record", record() | {"entities": [["Ada"], ["Bob"], ["Cy", " "], ["Di"]]}, "row 2, column entities: expected"),
        ("record", record() | {"entities": "Ada"}, "row 0, column entities: expected a list of .*, got 'Ada'"),
        ("record", record() | {"answers": "Ada"}, "row 0, column answers: expected a list of .*, got 'Ada'"),
        ("record", record() | {"answers": [["Ada"], [], [], []]}, r"row 1, column answers: expected a list .*, got \[\]"),
        ("record", record() | {"query": ["?", "?", "", "?"]}, "row 2, column query: expected a text that is not empty"),
        ("copa", rows("copa", 4) | {"choice2": ["x", "", "y", "z"]}, "row 1, column choice2: expected a text"),
        ("cola", rows("cola", 2) | {"label": [0, -1]}, "row 1, column label: label -1 is unknown; expected 0 .unaccept"),
        ("stsb", rows("stsb", 2) | {"label": [0.0, 5.1]}, "score 5.1; expected a number from 0 to 5"),
    ],
)
def test_broken_rows(folder, name, columns, message):
    path = folder(name, "validation", columns)
    with pytest.raises(DataError, match=message) as caught:
        load_split(name, "test", "local")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["mnli", "copa", "multirc", "record"])
def test_hub_layout(name, tmp_path, monkeypatch):
    """A folder laid out as the hub does it, with the hub's own columns and names of splits."""
    made = {"multirc": multirc, "record": lambda: record(40)}.get(name, lambda: rows(name, 40))()
    (tmp_path / "data").mkdir()
    for split in ("train", TASKS[name].validation):
        pd.DataFrame(made).to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    task = dataclasses.replace(TASKS[name], hub=str(tmp_path))
    found = {split: load_split(task, split, "hub") for split in ("train", "validation", "test")}
    total = {"multirc": 36, "record": 120}.get(name, 40)
    kept, divided = ("test", "train") if task.splits == "held validation" else ("train", "test")
    assert len(found[kept]) == total and len(found[divided]) + len(found["validation"]) == total

    def part(examples):
        return set(examples.groups if task.rows else examples.texts)

    assert part(found["validation"]).isdisjoint(part(found[divided]))
    assert name != "record" or len(found["validation"]) == 12  # four of forty queries, with three entities each


@needs_real_data("glue")
@pytest.mark.parametrize(
    ("name", "sizes"),
    {
        "cola": [8551, 521, 522], "sst2": [66349, 1000, 872], "mrpc": [3668, 204, 204], "stsb": [5749, 750, 750],
        "rte": [2490, 138, 139], "cb": [250, 28, 28], "copa": [400, 50, 50], "wic": [5428, 319, 319],
        "qnli_resplit": [4463, 500, 500], "boolq_resplit": [2470, 400, 400], "xnli_resplit": [1890, 300, 300],
        "pawsx_resplit": [1499, 250, 251],
    }.items(),
)  # fmt: skip
def test_real_data(name, sizes, monkeypatch):
    monkeypatch.setenv("PEFTLIB_DATA", str(real_data("glue")))
    found = [load_split(name, split, "local") for split in ("train", "validation", "test")]
    assert [len(split) for split in found] == sizes
    assert set(found[1].texts).isdisjoint(found[2].texts)


# The embedded counterparts -------------------------------------------------------------------------------------------


def test_which_tasks_are_embedded():
    assert EMBEDDED == [*GLUE, "boolq", "cb", "copa", "wic"]
    for name in ("multirc", "record", "xnli_resplit"):
        with pytest.raises(UsageError, match=f"task '{name}' has no embedded data; those that have: sst, .*, cola, .*wic"):
            load_split(name, "train", "embedded")


@pytest.mark.parametrize("name", EMBEDDED)
def test_suite_has_not_changed(name):
    assert load_split(name, "train").digest[:16] == DIGESTS[name]


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_rows_have_the_official_columns(name):
    seen = set()
    for split, size in embedded.SIZES[name].items():
        frame = embedded.generate(name, split)
        assert list(frame.columns) == ["id", *TASKS[name].texts, TASKS[name].label] and frame["id"].is_unique
        found = load_split(name, split)
        assert len(found) == size == len(frame)
        sentences = [text for row in found.texts for text in row if " " in text]
        assert seen.isdisjoint(sentences) and len(set(sentences)) == len(sentences)
        seen.update(sentences)
        assert all(text[0].isupper() and text[-1] in ".?" and text == " ".join(text.split()) for text in sentences)
        assert not any(set(text) & set("{}#|/_") or " the the " in text for text in sentences)


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_labels_are_balanced(name):
    for split in ("train", "validation", "test"):
        labels = load_split(name, split).labels
        if TASKS[name].kind == "score":
            assert labels.min() == 0 and labels.max() == 5 and 1.4 < labels.std() < 2.2
        else:
            shares = np.bincount(labels, minlength=len(TASKS[name].labels)) / len(labels)
            assert np.abs(shares - 1 / len(shares)).max() < 0.1


@pytest.mark.parametrize("name", EMBEDDED)
def test_words_alone_do_not_solve_it(name):
    """A bag of words is far from the ceiling, and hardly better than chance where two texts must be compared."""
    train, other = load_split(name, "train", limit=1500), load_split(name, "validation")
    if TASKS[name].kind == "score":
        bag = words.Words(train)
        found = Ridge(10.0).fit(bag(train), train.labels).predict(bag(other))
        assert metrics.score("pearson", found, other.labels) < 0.5
    else:
        assert words.accuracy(train, other) < 1 / len(TASKS[name].labels) + 0.15


def event(**changes) -> scenes.Event:
    base = scenes.Event("person", (0, 0), (0, 0), (1, 0), (0, 0), None, 1, (0, 0), None, False)
    return dataclasses.replace(base, **changes)


def test_what_follows_from_an_event():
    told, (entailment, neutral, contradiction) = event(), range(3)
    assert inference.relation(told, told) == entailment
    assert inference.relation(told, event(place=None, look=None)) == entailment
    assert inference.relation(told, event(time=(0, 0))) == neutral
    assert inference.relation(told, event(look=(1, 0))) == neutral  # tall and old go together
    assert inference.relation(told, event(look=(0, 1))) == contradiction  # young and old do not
    assert inference.relation(told, event(place=(3, 1))) == contradiction
    assert inference.relation(told, event(agent=(5, 0))) == contradiction
    assert inference.relation(told, event(verb=(2, 0))) == neutral
    assert inference.relation(told, inference.swapped(told)) == neutral
    assert inference.relation(told, event(denied=True)) == contradiction
    assert inference.relation(told, event(place=(3, 1), denied=True)) == entailment
    denied = event(denied=True)
    assert inference.relation(denied, event(time=(0, 0), denied=True)) == entailment  # what never was, was not on Monday
    assert inference.relation(denied, event(place=None, denied=True)) == neutral
    assert inference.relation(denied, event(time=(0, 0))) == contradiction
    assert inference.relation(denied, event(place=None)) == neutral


def test_the_pieces_of_the_grammars():
    assert all(len(chain) == 3 and all("{p}" in step for step in chain) for chain in causes.CHAINS)
    assert len({step for chain in causes.CHAINS for step in chain}) == 3 * len(causes.CHAINS)
    assert all(len(set(classes)) == 2 and set(classes) <= set(senses.FRAMES) for classes in senses.SENSES.values())
    assert all("{w}" in frame for frames in senses.FRAMES.values() for frame in frames)
    frames = [frame for found in commitment.FRAMES.values() for frame in found]
    assert len(set(frames)) == len(frames) and all(frame.endswith(("that", "whether")) for frame in frames)


def test_every_construction_makes_both_kinds_of_sentences():
    frame = embedded.generate("cola", "train", kinds=True)
    shares = frame.groupby("kind")["label"].mean()
    assert set(shares.index) == set(acceptability.RULES) and shares.between(0.35, 0.65).all()


# Text-to-text form ----------------------------------------------------------------------------------------------------


def test_inputs_read_like_those_of_t5():
    assert as_text(TASKS["mrpc"], ("A b.", "B a.")) == "mrpc sentence1: A b. sentence2: B a."
    assert as_text(TASKS["mnli"], ("P.", "H."), prefix=False) == "hypothesis: H. premise: P."
    assert as_text(TASKS["copa"], ("P.", "cause", "A.", "B.")) == "copa choice1: A. choice2: B. premise: P. question: cause"
    assert as_text(TASKS["xnli_resplit"], ("P.", "H.")) == "mnli hypothesis: H. premise: P."
    with pytest.raises(UsageError, match="'mrpc' has the texts sentence1, sentence2; got 1 texts"):
        as_text(TASKS["mrpc"], ("A b.",))


@pytest.mark.parametrize("name", TASKS)
def test_words_round_trip(name):
    task = TASKS[name]
    assert len(set(task.words)) == len(task.words) and sorted(task.fields or task.texts) == sorted(task.texts)
    labels = [i / 5 for i in range(26)] if task.kind == "score" else range(len(task.labels))
    assert [read_answer(task, f" {answer(task, label)}\n") for label in labels] == list(labels)
    assert read_answer(task, "") is None and read_answer(task, "no such answer") is None


def test_scores_become_the_nearest_fifth():
    task = TASKS["stsb"]
    assert task.words[:2] == ("0.0", "0.2") and task.words[-1] == "5.0" and len(task.words) == 26
    assert [answer(task, label) for label in (np.float32(3.8), 2.89, 4.99, 0.05)] == ["3.8", "2.8", "5.0", "0.0"]
    for wrong in (5.2, -1, float("nan")):
        with pytest.raises(UsageError, match="'stsb' has no label .*; expected a number from 0 to 5"):
            answer(task, wrong)
    with pytest.raises(UsageError, match="'cb' has no label 3; expected 0 to 2"):
        answer(TASKS["cb"], 3)


# What an encoder reads ------------------------------------------------------------------------------------------------


def test_at_most_two_segments(folder):
    for name in ALL:
        folder(name, TASKS[name].validation, {"multirc": multirc, "record": record}.get(name, lambda n=name: rows(n, 8))())
        assert {len(row) for row in load_split(name, "test", "local").segments} <= {1, 2}


def test_copa_is_encoded_as_one_pair(folder):
    folder("copa", "validation", rows("copa", 8) | {"question": ["cause", "effect"] * 4})
    seen = []

    def tokenizer(*columns, **options):
        seen.extend(columns)
        return {"input_ids": [[1, 2]] * len(columns[0])}

    tokenizer.pad_token_id = 0
    examples = load_split("copa", "validation", "local")
    assert len(Encoded(examples, tokenizer, 16)) == 4
    assert seen[0][0].endswith(f"What was the {examples.texts[0][1]}?") and " Second: choice2" in seen[1][0]


# Metrics --------------------------------------------------------------------------------------------------------------


def test_metrics_against_values_by_hand():
    labels, found = np.array([1, 1, 1, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 0])
    assert metrics.score("accuracy", found, labels) == pytest.approx(4 / 6)
    assert metrics.score("f1", found, labels) == pytest.approx(2 * 2 / (3 + 3))
    assert metrics.score("matthews", found, labels) == pytest.approx((2 * 2 - 1 * 1) / (3 * 3))
    assert metrics.score("f1", np.zeros(6, int), labels) == 0 == metrics.score("matthews", np.zeros(6, int), labels)
    three = metrics.score("macro_f1", np.array([0, 1, 1, 2]), np.array([0, 0, 1, 2]))
    assert three == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert metrics.score("spearman", np.array([1.0, 2, 3, 9]), np.array([0.0, 1, 4, 5])) == pytest.approx(1)
    assert metrics.score("pearson", np.array([1.0, 2, 3]), np.array([1.0, 2, 4])) == pytest.approx(1.5 / (7 / 3) ** 0.5 / 1)
    assert metrics.score("spearman", np.ones(3), np.array([0.0, 1, 4])) == 0


def test_exact_match_is_per_question():
    labels, found = np.array([1, 0, 1, 0, 1]), np.array([1, 0, 0, 0, 1])
    assert metrics.score("exact_match", found, labels, groups=["a", "a", "b", "b", "c"]) == pytest.approx(2 / 3)
    assert metrics.scores(TASKS["multirc"], found, labels, groups=list("aabbc")) == {
        "f1": pytest.approx(4 / 5), "exact_match": pytest.approx(2 / 3)
    }  # fmt: skip
    with pytest.raises(UsageError, match="metric 'exact_match' needs groups"):
        metrics.score("exact_match", found, labels)


def test_record_compares_the_likeliest_entity_with_the_answers():
    texts = [("p", "q", entity) for entity in ("Ada Ng", "the Ng", "Bob", "Cy")]
    labels, groups = np.array([0, 1, 1, 0]), ["a", "a", "b", "b"]

    def scores(*margins):
        return metrics.scores(TASKS["record"], np.array(margins) > 0, labels, groups, texts, np.array(margins))

    assert scores(0.9, 0.1, 0.4, 0.3) == {"entity_f1": pytest.approx((2 / 3 + 1) / 2), "entity_em": 0.5}
    assert scores(0.1, 0.9, 0.4, 0.3)["entity_em"] == 1  # whatever else is above one half, too
    assert scores(-9, -8, -7, -8)["entity_em"] == 1  # or nothing is
    assert scores(0, 0, 1, 1)["entity_em"] == 0.5  # of equals the first
    with pytest.raises(UsageError, match="needs entities"):
        metrics.score("entity_em", np.array([1]), np.array([1]), groups=["a"])
    with pytest.raises(UsageError, match="needs margins"):
        metrics.scores(TASKS["record"], labels, labels, groups, texts)


def test_training_hands_on_how_likely_each_entity_is(folder, monkeypatch):
    for split in ("train", "validation"):
        folder("record", split, record(40))
    trainer = Trainer(Run("HeadOnly()", ("record",), "minilm", "local", Recipe(lr=1e-3), limits=(8, 4, 4)), progress=False)
    data = trainer.data["test"]["record"]
    assert len(data) == 12
    right = torch.stack([torch.zeros(12), 1 + data.labels + torch.rand(12)], 1)  # every entity is above one half
    monkeypatch.setattr(trainer, "_outputs", lambda split, name, rows: right[rows])
    found = trainer.evaluate("test")
    assert found["record.entity_em"] == found["record.entity_f1"] == 1
    monkeypatch.setattr(trainer, "_outputs", lambda split, name, rows: right.flip(1)[rows])
    assert trainer.evaluate("test")["record.entity_em"] == 0


def test_unknown_metric():
    with pytest.raises(UsageError, match="unknown metric 'bleu'"):
        metrics.score("bleu", np.array([1]), np.array([1]))


def test_average_is_that_of_the_papers_tables():
    t5_base = [[61.76], [94.61], [90.20, 93.06], [91.63, 88.84], [89.68, 89.97], [86.78], [93.01], [71.94]]
    table1 = {i: dict(enumerate(values)) for i, values in enumerate(t5_base)}
    assert round(metrics.average(table1), 2) == 86.50
    compacter = [[78.59], [96.43, 87.44], [48.0], [70.80, 49.67], [74.49, 73.54], [65.20]]
    assert round(metrics.average({i: dict(enumerate(values)) for i, values in enumerate(compacter)}), 2) == 71.57


def test_an_answer_that_is_no_label_counts_as_wrong():
    found, lost = metrics.from_answers(TASKS["mrpc"], [1, None, None], np.array([1, 1, 0]))
    assert found.tolist() == [1, 0, 1] and lost == 2
    found, lost = metrics.from_answers(TASKS["cb"], [None, 2], np.array([2, 2]))
    assert found.tolist() == [0, 2] and lost == 1
    found, lost = metrics.from_answers(TASKS["stsb"], [None, None, 3.2], np.array([0.4, 4.0, 3.0], dtype=np.float32))
    assert found.tolist() == pytest.approx([5, 0, 3.2]) and lost == 2


def test_get_task_knows_them():
    assert get_task("rte") is TASKS["rte"]
    with pytest.raises(UsageError, match="did you mean 'mnli'"):
        get_task("mnlii")
