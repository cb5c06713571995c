"""The data layer: tasks, the embedded suite, the three sources and their errors, sampling."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from real import needs_real_data, real_data

from peftlib.data import TASKS, Task, batches, embedded, get_task, load_split, probabilities, task_order
from peftlib.data.grammar import scenes
from peftlib.errors import DataError, PeftlibError, UsageError

NAMES = ["sst", "cfimdb", "quora", "sts"]  # CS 224N; GLUE and SuperGLUE: test_glue.py
# The suite is part of the study: whoever changes a grammar changes every record made with it, and must say so here.
DIGESTS = {
    "sst": "460f5a9e7f2154301119b5e66676a95551d93897384ed7334b4c4b60175d33b0",
    "cfimdb": "e3a3b352b6ed71ce13d3aac4e476102d7a95160095cda289a53d478398efdea0",
    "quora": "651883861b32ede35f0d9b1476a8152e0127bf3a3ab3d3c9f6b32b3d0b216fef",
    "sts": "19525b2d05d5d59f03759eb3b4c82a66a8ac38f787b6fdf44b02a0b5b1f25530",
}
GOOD = {
    "sst": {"sentence": ["A fine film.", "A poor film.", "A film."], "label": [4, 0, 2]},
    "cfimdb": {"sentence": ["Fine. Very fine.", "Poor. Very poor."], "label": [1, 0]},
    "quora": {"sentence1": ["Is it so?", "Why?"], "sentence2": ["Is it?", "When?"], "is_duplicate": [1, 0]},
    "sts": {"sentence1": ["A cat sat.", "Rain fell."], "sentence2": ["A cat ran.", "It rained."], "similarity": [2.5, 4.8]},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A function that writes one local parquet file and returns its path; PEFTLIB_DATA names the folder."""
    monkeypatch.setenv("PEFTLIB_DATA", str(tmp_path))

    def write(task: str, split: str, columns: dict) -> Path:
        path = tmp_path / "cs224n" / task / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(columns).to_parquet(path)
        return path

    return write


def many(rows: int) -> dict:
    return {"sentence": [f"Film number {i} was fine." for i in range(rows)], "label": [i % 5 for i in range(rows)]}


# Tasks ----------------------------------------------------------------------------------------------------------------


def test_outputs_follow_the_loss():
    assert [TASKS[name].outputs for name in NAMES] == [5, 2, 1, 1]
    assert [TASKS[name].kind for name in NAMES] == ["classes", "classes", "binary", "score"]


def test_unknown_task_names_the_closest():
    with pytest.raises(UsageError, match=r"unknown task 'qoura'; known tasks: sst, .*did you mean 'quora'"):
        get_task("qoura")
    with pytest.raises(UsageError, match="unknown task 'zzzzzz'; known tasks: [^?]*$"):
        get_task("zzzzzz")
    assert issubclass(UsageError, ValueError) and issubclass(DataError, PeftlibError)


def test_a_task_of_ones_own(folder, monkeypatch):
    own = Task("tweets", "score", ("text",), "heat", low=-1, high=1, metrics=("spearman",), suite="cs224n")
    path = folder("sst", "validation", {"text": ["Cold.", "Hot."], "heat": [-0.5, 1]})
    (path.parents[1] / "tweets").mkdir()
    path.rename(path.parents[1] / "tweets" / "validation.parquet")
    assert load_split(own, "validation", "local").labels.tolist() == [-0.5, 1]


# The embedded suite ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_suite_has_not_changed(name):
    assert load_split(name, "train").digest == DIGESTS[name]


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_columns(name):
    for split, size in embedded.SIZES[name].items():
        frame = embedded.generate(name, split)
        assert len(frame) == len(load_split(name, split)) == size
        assert list(frame.columns) == ["id", *TASKS[name].texts, TASKS[name].label]
        assert frame["id"].is_unique


@pytest.mark.parametrize("name", NAMES)
def test_no_sentence_occurs_twice(name):
    seen = Counter(text for split in embedded.SIZES[name] for row in load_split(name, split).texts for text in row)
    assert max(seen.values()) == 1


@pytest.mark.parametrize("name", NAMES)
def test_seed_decides_the_suite(name):
    first = embedded.generate(name, "validation", seed=1)
    embedded._rows.cache_clear()
    assert first.equals(embedded.generate(name, "validation", seed=1))
    assert not first.equals(embedded.generate(name, "validation", seed=2))


def test_labels_are_balanced():
    for split in ("train", "validation", "test"):
        shares = {name: np.bincount(load_split(name, split).labels) for name in ("sst", "cfimdb", "quora")}
        shares = {name: counts / counts.sum() for name, counts in shares.items()}
        assert len(shares["sst"]) == 5 and 0.09 < shares["sst"].min() and shares["sst"].max() < 0.32
        assert abs(shares["cfimdb"][1] - 0.5) < 0.08
        assert 0.4 < shares["quora"][1] < 0.55
        scores = load_split("sts", split).labels
        assert scores.min() == 0 and scores.max() == 5 and 1.4 < scores.std() < 2.2
        assert np.allclose(scores * 5, np.round(scores * 5), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_text_is_well_formed(name):
    for row in load_split(name, "validation").texts:
        for text in row:
            assert text[0].isupper() and text[-1] in ".?" and text == " ".join(text.split())
            assert not set(text) & set("{}#|/_") and "None" not in text
            assert not any(f" a {vowel}" in text for vowel in "aeiou")


def test_lexicon_is_varied():
    texts = [text for name in NAMES for row in load_split(name, "train").texts for text in row]
    words = {word.strip(".,;?").lower() for text in texts for word in text.split()}
    assert len(words) > 1000


def event(**changes) -> scenes.Event:
    base = scenes.Event("person", (0, 0), (0, 0), (1, 0), None, None, 1, (0, 0), (0, 0), False)
    return dataclasses.replace(base, **changes)


def test_similarity_follows_the_slots():
    base = event()
    score = {
        "same": scenes.similarity(base, base),
        "sibling place": scenes.similarity(base, event(place=(0, 1))),
        "other place": scenes.similarity(base, event(place=(3, 1))),
        "other agent": scenes.similarity(base, event(agent=(5, 1))),
        "swapped": scenes.similarity(base, event(agent=(1, 0), target=(0, 0))),
        "denied": scenes.similarity(base, event(denied=True)),
        "unrelated": scenes.similarity(base, event(verb=(2, 0), agent=(4, 0), target=(6, 0), place=(3, 0), time=(2, 0))),
    }
    assert score["same"] == 5 and score["unrelated"] == 0
    assert score["same"] > score["sibling place"] > score["other place"] > score["other agent"] > score["denied"]
    assert 1 < score["swapped"] < 4
    assert scenes.similarity(base, event(denied=True)) == scenes.similarity(event(denied=True), base)


def test_embedded_refuses_unknown_split():
    with pytest.raises(UsageError, match="unknown split 'dev'; expected one of train, validation, test"):
        embedded.generate("sst", "dev")


# Sources --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_local_rows_come_as_written(folder, name):
    folder(name, "validation", GOOD[name])
    got, task = load_split(name, "validation", "local"), TASKS[name]
    assert got.texts == list(zip(*(GOOD[name][column] for column in task.texts), strict=True))
    assert got.labels.dtype == (np.float32 if task.kind == "score" else np.int64)
    assert np.allclose(got.labels, GOOD[name][task.label])
    assert got.ids == [str(i) for i in range(len(got))] and got.source == "local"


def test_digest_names_the_content(folder):
    folder("sst", "validation", GOOD["sst"])
    one = load_split("sst", "validation", "local").digest
    assert load_split("sst", "validation", "local").digest == one
    folder("sst", "validation", GOOD["sst"] | {"label": [4, 1, 2]})
    assert load_split("sst", "validation", "local").digest != one
    folder("quora", "validation", {"sentence1": ["ab"], "sentence2": ["c"], "is_duplicate": [0]})
    two = load_split("quora", "validation", "local").digest
    folder("quora", "validation", {"sentence1": ["a"], "sentence2": ["bc"], "is_duplicate": [0]})
    assert load_split("quora", "validation", "local").digest != two


def test_hub_layout(tmp_path, monkeypatch):
    """A data set repository as the hub lays it out, with the hub's own column names."""
    (tmp_path / "data").mkdir()
    rows = {
        "text": [f"Film {i} was fine." for i in range(20)],
        "label": [i % 5 for i in range(20)],
        "label_text": ["x"] * 20,
    }
    pd.DataFrame(rows).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    pd.DataFrame(rows).head(5).to_parquet(tmp_path / "data" / "validation-00000-of-00001.parquet")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(TASKS, "sst", dataclasses.replace(TASKS["sst"], hub=str(tmp_path), hub_test=False))
    assert load_split("sst", "validation", "hub").texts == [(text,) for text in rows["text"][:5]]
    train, test = load_split("sst", "train", "hub"), load_split("sst", "test", "hub")
    assert (len(train), len(test)) == (18, 2) and {*train.texts, *test.texts} == {(text,) for text in rows["text"]}
    broken = dataclasses.replace(TASKS["sst"], hub_columns=())
    with pytest.raises(DataError, match="hub .*missing column sentence; .*the file has text, label, label_text"):
        load_split(broken, "validation", "hub")
    with pytest.raises(DataError, match="hub .*cannot be loaded"):
        load_split(dataclasses.replace(TASKS["sst"], hub=str(tmp_path / "absent")), "validation", "hub")


def test_task_without_hub_says_where_else():
    with pytest.raises(DataError, match="'cfimdb' is not on the hub; use source 'local' or 'embedded'"):
        load_split("cfimdb", "train", "hub")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, "unknown split 'dev'; expected one of train, validation, test"),
        ({"source": "disk"}, "unknown source 'disk'; expected one of embedded, local, hub"),
        ({"limit": 0}, "limit must be a whole number of at least 1.*got 0"),
        ({"limit": 2.5}, "limit must be .*got 2.5"),
        ({"limit": True}, "limit must be .*got True"),
        ({"task": "ssst"}, "unknown task 'ssst'"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(UsageError, match=message):
        load_split(**{"task": "sst", "split": "train", **arguments})


BROKEN = [
    ("sst", {"sentence": ["x"]}, "missing column label; task 'sst' needs sentence, label, and the file has sentence"),
    ("quora", {"id": [1]}, "missing columns sentence1, sentence2, is_duplicate; .* the file has id"),
    ("sst", {"sentence": [], "label": []}, "no rows; expected at least one example"),
    ("sst", {"sentence": ["x", "y"], "label": [0, 5]}, r"row 1, column label: label 5 is unknown; expected 0 \(most neg"),
    ("sst", {"sentence": ["x"], "label": [-1]}, "row 0, column label: label -1 is unknown"),
    ("sst", {"sentence": ["x", "y"], "label": [1.0, 1.5]}, "row 1, column label: label 1.5 is unknown"),
    ("sst", {"sentence": ["x", "y"], "label": [1.0, None]}, "row 1, column label: label None is unknown"),
    ("sst", {"sentence": ["x"], "label": ["good"]}, "row 0, column label: label 'good' is unknown"),
    (
        "quora",
        {"sentence1": ["x"], "sentence2": ["y"], "is_duplicate": [True]},
        "row 0, column is_duplicate: label True is unk",
    ),
    ("sst", {"sentence": ["x", None], "label": [0, 1]}, "row 1, column sentence: expected a text that is not empty, got"),
    ("sst", {"sentence": [3], "label": [0]}, "row 0, column sentence: expected a text that is not empty, got 3"),
    ("sts", {"sentence1": ["x"], "sentence2": [" \n"], "similarity": [1.0]}, "row 0, column sentence2: expected a text"),
    (
        "sts",
        {"sentence1": ["x"], "sentence2": ["y"], "similarity": [5.2]},
        "row 0, .*: score 5.2; expected a number from 0 to 5",
    ),
    ("sts", {"sentence1": ["x"], "sentence2": ["y"], "similarity": [float("nan")]}, "row 0, column similarity: score None"),
    ("sts", {"sentence1": ["x"], "sentence2": ["y"], "similarity": ["3"]}, "row 0, column similarity: score '3'"),
]


@pytest.mark.parametrize(("task", "columns", "message"), BROKEN)
def test_broken_rows_name_file_row_and_expectation(folder, task, columns, message):
    path = folder(task, "validation", columns)
    with pytest.raises(DataError, match=message) as caught:
        load_split(task, "validation", "local")
    assert str(path) in str(caught.value)


def written(folder, table: pa.Table) -> Path:
    """A table of sst's validation rows as a file, with types that pandas would not write."""
    path = folder("sst", "validation", GOOD["sst"])
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize(
    ("labels", "texts"),
    [
        (pa.array([4, 0, 2], pa.uint8()), pa.array(GOOD["sst"]["sentence"], pa.large_string())),
        (pa.array([4.0, 0.0, 2.0], pa.float32()), pa.array(GOOD["sst"]["sentence"]).dictionary_encode()),
        (pa.array([4, 0, 2], pa.int64()).dictionary_encode(), pa.array(GOOD["sst"]["sentence"], pa.string_view())),
    ],
    ids=["small numbers", "categories of text", "categories of numbers"],
)
def test_a_column_may_have_any_type_that_holds_the_values(folder, labels, texts):
    folder("sst", "validation", GOOD["sst"])
    expected = load_split("sst", "validation", "local")
    written(folder, pa.table({"label": labels, "sentence": texts}))
    assert load_split("sst", "validation", "local").digest == expected.digest


def test_only_the_columns_of_the_task_are_read(folder):
    table = pa.table(GOOD["sst"] | {"note": pa.array([b"\xff"] * 3).view(pa.string())})
    table = table.append_column("note", pa.array([1, 2, 3]))
    written(folder, table)
    assert len(load_split("sst", "validation", "local")) == 3


def test_half_a_character_is_named_before_a_tokenizer_sees_it(monkeypatch):
    frame = pd.DataFrame({"id": [0, 1], "sentence": ["Fine.", "Fine \ud83d."], "label": [1, 0]}, dtype=object)
    monkeypatch.setattr(embedded, "generate", lambda *_: frame)
    with pytest.raises(DataError, match=r"row 1, column sentence: '\\ud83d' stands alone, half a character; expected"):
        load_split("sst", "train")


PAIRLESS = ("How can I create an Android app?", "")


@pytest.mark.parametrize("name", ["qqp", "quora"])
def test_rows_that_the_official_files_are_known_to_have_are_dropped_and_counted(name, tmp_path, monkeypatch):
    task = TASKS[name]
    monkeypatch.setenv("PEFTLIB_DATA", str(tmp_path))
    path = tmp_path / task.suite / name / f"{'train' if name == 'qqp' else 'validation'}.parquet"
    path.parent.mkdir(parents=True)

    def read(*pairs):
        rows = [(f"Is {i} odd?", f"Is {i} even?", 0) for i in range(20)] + [(*pair, 0) for pair in pairs]
        pd.DataFrame(rows, columns=[*task.texts, task.label]).to_parquet(path)
        return load_split(name, "train" if name == "qqp" else "validation", "local")

    clean = read()
    found = read(PAIRLESS, ("How can I develop android app?", None))
    assert (clean.dropped, found.dropped) == (0, 2) and found.digest == clean.digest and found.ids == clean.ids
    for other in (("Why?", ""), ("", PAIRLESS[0]), (None, None)):
        with pytest.raises(DataError, match="row 21, column .*: expected a text that is not empty"):
            read(PAIRLESS, other)


def test_missing_and_unreadable_files(folder, tmp_path, monkeypatch):
    path = folder("sst", "validation", GOOD["sst"])
    with pytest.raises(DataError, match="train.parquet: no such file; expected parquet with the columns sentence, label"):
        load_split("sst", "train", "local")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="validation.parquet: cannot be read as parquet"):
        load_split("sst", "validation", "local")
    monkeypatch.setenv("PEFTLIB_DATA", str(tmp_path / "absent"))
    with pytest.raises(DataError, match="PEFTLIB_DATA names '.*absent', which is no folder"):
        load_split("sst", "train", "local")
    monkeypatch.delenv("PEFTLIB_DATA")
    with pytest.raises(DataError, match="needs the environment variable PEFTLIB_DATA"):
        load_split("sst", "train", "local")


def test_hold_out(folder):
    folder("sst", "train", many(300))
    train, test = load_split("sst", "train", "local"), load_split("sst", "test", "local")
    assert (len(train), len(test)) == (270, 30)
    assert sorted(train.texts + test.texts) == sorted((text,) for text in many(300)["sentence"])
    folder("sst", "train", {column: values[::-1] for column, values in many(300).items()})
    assert set(load_split("sst", "test", "local").texts) == set(test.texts)  # whatever the order of the file
    assert set(load_split("sst", "test", "local", seed=9).texts) == set(test.texts)  # and the seed of the run
    folder("sst", "test", GOOD["sst"])  # a real test file: train keeps all its rows
    assert len(load_split("sst", "test", "local")) == 3 and len(load_split("sst", "train", "local")) == 300


def test_hold_out_keeps_equal_texts_together(folder):
    one, two = [f"Question {i % 100}?" for i in range(400)], [f"Other {i % 100}?" for i in range(400)]
    pairs = {"sentence1": one[:200] + two[200:], "sentence2": two[:200] + one[200:], "is_duplicate": [0] * 400}
    folder("quora", "train", pairs)
    train, test = ({frozenset(row) for row in load_split("quora", s, "local").texts} for s in ("train", "test"))
    assert train.isdisjoint(test) and len(test) == 10 and len(train) == 90


def test_hold_out_is_at_most_a_thousand(folder):
    folder("sst", "train", many(11_000))
    assert len(load_split("sst", "test", "local")) == 1000 and len(load_split("sst", "train", "local")) == 10_000


def test_hold_out_needs_ten_rows(folder):
    folder("sst", "train", many(5))
    assert len(load_split("sst", "train", "local")) == 5
    with pytest.raises(DataError, match=r"too few rows \(5\)"):
        load_split("sst", "test", "local")


@pytest.mark.parametrize("name", NAMES)
def test_limit_is_a_stable_random_prefix(name):
    small, large = load_split(name, "train", limit=20, seed=3), load_split(name, "train", limit=60, seed=3)
    assert len(small) == 20 and large.texts[:20] == small.texts and large.ids[:20] == small.ids
    assert (large.labels[:20] == small.labels).all() and small.digest != large.digest
    assert load_split(name, "train", limit=20, seed=4).ids != small.ids
    whole = load_split(name, "train")
    assert load_split(name, "train", limit=10**6, seed=3).ids[:60] == large.ids
    assert small.ids != whole.ids[:20] and dict(zip(whole.ids, whole.texts, strict=True))[small.ids[0]] == small.texts[0]


@needs_real_data()
def test_real_data(monkeypatch):
    monkeypatch.setenv("PEFTLIB_DATA", str(real_data()))
    sizes = {name: [len(load_split(name, s, "local")) for s in ("train", "validation", "test")] for name in NAMES}
    assert sizes["sst"] == [7690, 1101, 854] and sizes["quora"][1:] == [20212, 1000]
    assert sum(sizes["sts"]) == 6903 and sum(sizes["cfimdb"]) == 1952
    for name in ("sst", "sts"):
        train, test = (set(load_split(name, split, "local").texts) for split in ("train", "test"))
        assert train.isdisjoint(test)


# Sampling -------------------------------------------------------------------------------------------------------------

SIZES = {"small": 10, "middle": 100, "large": 1000}


@pytest.mark.parametrize("temperature", [1, 10])
def test_probabilities_are_the_formula(temperature):
    weights = {name: size ** (1 / temperature) for name, size in SIZES.items()}
    expected = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    assert probabilities(SIZES, temperature) == pytest.approx(expected)


def test_probabilities_at_the_ends():
    assert probabilities(SIZES, 1e9) == pytest.approx(dict.fromkeys(SIZES, 1 / 3))
    assert probabilities(SIZES, 1e-6) == pytest.approx({"small": 0, "middle": 0, "large": 1})


@pytest.mark.parametrize("temperature", [1, 10])
def test_draws_follow_the_probabilities(temperature):
    order = task_order(SIZES, "temperature", 20_000, temperature, seed=0)
    expected = probabilities(SIZES, temperature)
    for name, share in Counter(order).items():
        assert share / 20_000 == pytest.approx(expected[name], abs=0.012)  # more than three standard deviations


def test_proportional_goes_through_all_batches_before_it_begins_again():
    sizes = {"a": 100, "b": 10, "c": 1}
    orders = [task_order(sizes, "proportional", 111, seed=seed) for seed in range(3)]
    assert all(Counter(order) == sizes for order in orders) and len(set(map(tuple, orders))) == 3
    assert task_order(sizes, "proportional", 250, 9, seed=1)[:111] == orders[1]
    assert Counter(task_order(sizes, "proportional", 250, seed=1)[111:222]) == sizes
    assert task_order(sizes, "proportional", 0) == []


def test_task_order_is_seeded():
    long = task_order(SIZES, "temperature", 50, 10, seed=0)
    assert long[:20] == task_order(SIZES, "temperature", 20, 10, seed=0)
    assert long != task_order(SIZES, "temperature", 50, 10, seed=1)
    assert "".join(task_order({"a": 3, "b": 1}, "temperature", 24, 10, seed=0)) == SEQUENCE


SEQUENCE = "aabaabababbabbabaaaaaaba"


def test_round_robin():
    assert task_order(SIZES, "round_robin", 7) == ["small", "middle", "large"] * 2 + ["small"]
    assert task_order(SIZES, "round_robin", 0) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"strategy": "random"},
            "unknown sampling strategy 'random'; expected one of temperature, proportional, round_robin",
        ),
        ({"temperature": 0}, "temperature must be above 0"),
        ({"temperature": float("nan")}, "temperature must be above 0"),
        ({"sizes": {}}, "no tasks"),
        ({"sizes": {"a": 0}}, "task 'a' has 0 batches"),
        ({"steps": -1}, "steps must be"),
    ],
)
def test_bad_sampling_parameters(arguments, message):
    with pytest.raises(UsageError, match=message):
        task_order(**{"sizes": SIZES, "strategy": "temperature", "steps": 5, **arguments})


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 31, 32, 2000])
def test_batches_take_every_row_once(rows, sort):
    lengths = [5 + 7 * i % 90 for i in range(rows)]
    first = batches(lengths, 32, seed=0, epoch=0, sort=sort)
    assert sorted(row for batch in first for row in batch) == list(range(rows))
    assert sorted(map(len, first), reverse=True)[: rows // 32] == [32] * (rows // 32)
    assert first == batches(lengths, 32, seed=0, epoch=0, sort=sort)
    if rows > 32:  # one sorted batch has one order
        assert first != batches(lengths, 32, seed=0, epoch=1, sort=sort)
        assert first != batches(lengths, 32, seed=1, epoch=0, sort=sort)


def test_sorted_batches_waste_little_and_still_mix():
    lengths = [5 + 7 * i % 90 for i in range(4000)]

    def waste(parts: list[list[int]]) -> float:
        padded = sum(max(lengths[row] for row in part) * len(part) for part in parts)
        return padded / sum(lengths) - 1

    sorted_, plain = batches(lengths, 32, 0, 0), batches(lengths, 32, 0, 0, sort=False)
    assert waste(sorted_) < 0.05 < 0.5 < waste(plain)
    means = [np.mean([lengths[row] for row in part]) for part in sorted_]
    assert abs(np.corrcoef(range(len(means)), means)[0, 1]) < 0.3  # batches do not come in order of length
    company = [{frozenset(part) for part in batches(lengths, 32, 0, epoch)} for epoch in (0, 1)]
    assert company[0].isdisjoint(company[1])


def test_bad_batch_size():
    with pytest.raises(UsageError, match="batch_size must be a whole number of at least 1; got 0"):
        batches([1, 2], 0, 0, 0)
