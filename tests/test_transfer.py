"""Tasks to which models are carried over with few examples: SciTail, TREC, IMDB, Yelp, PAWS and their stand-ins."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import words
from real import needs_real_data, real_data

from peftlib.data import TASKS, embedded, load_split
from peftlib.data.grammar import asked, nature, scrambled, visits
from peftlib.data.sources import available
from peftlib.errors import DataError

NAMES = ["scitail", "trec", "imdb", "yelp_polarity", "paws"]
DIGESTS = {
    "scitail": "adc95fc80176dab8",
    "trec": "e70ddc78a1ad56f8",
    "imdb": "f08c4db74afa92e5",
    "yelp_polarity": "98c6c2cb5b46c546",
    "paws": "7ee0c5965a67b22f",
}
# Above what a bag of words of 1,500 rows must not come; reviews of several sentences say a little by their words.
WORDS = {"scitail": 0.68, "trec": 0.65, "imdb": 0.75, "yelp_polarity": 0.68, "paws": 0.58}


@pytest.mark.parametrize("name", NAMES)
def test_suite_has_not_changed(name):
    assert load_split(name, "train").digest[:16] == DIGESTS[name]


@pytest.mark.parametrize("name", NAMES)
def test_embedded_rows(name):
    seen: set[str] = set()
    for split, size in embedded.SIZES[name].items():
        frame, found = embedded.generate(name, split), load_split(name, split)
        assert list(frame.columns) == ["id", *TASKS[name].texts, TASKS[name].label] and len(found) == size
        texts = [text for row in found.texts for text in row]
        assert seen.isdisjoint(texts) and len(set(texts)) == len(texts)
        seen.update(texts)
        assert all(text[0].isupper() and text[-1] in ".?" and text == " ".join(text.split()) for text in texts)
        assert not any(set(text) & set("{}#|/_") or re.search(r"\ba [aeiou]|\bthe the\b", text) for text in texts)
        shares = np.bincount(found.labels, minlength=len(TASKS[name].labels)) / size
        assert np.abs(shares - 1 / len(shares)).max() < 0.08


@pytest.mark.parametrize("name", NAMES)
def test_words_alone_do_not_solve_it(name):
    assert words.accuracy(load_split(name, "train", limit=1500), load_split(name, "validation")) < WORDS[name]


# Readers that know the grammar's rules and not the labels -------------------------------------------------------------


def facts(text: str) -> list[tuple]:
    """The facts of a text: (domain, relation, first, second, circumstance)."""
    found = []
    for domain, (names, relations, places) in enumerate(nature.RELATIONS):
        who = "|".join(sorted(names, key=len, reverse=True))
        for clause in re.split(r", and |; |, while ", text.rstrip(".")):
            clause = f" {clause.lower()} "
            where = next((place for place in places if f" {place} " in clause), "")
            for number, (straight, inverse) in enumerate(relations):
                for relation, turned in ((straight, False), (inverse, True)):
                    if pair := re.search(rf" ({who}) {relation} ({who}) ", clause):
                        one, two = pair.groups()[::-1] if turned else pair.groups()
                        found.append((domain, number, one, two, where))
    return found


def test_a_reader_of_facts():
    test = load_split("scitail", "test")
    right = 0
    for (premise, hypothesis), label in zip(test.texts, test.labels, strict=True):
        told, (statement,) = facts(premise), facts(hypothesis)
        assert 2 <= len(told) <= 3
        right += label == int(not any(statement in (fact, (*fact[:4], "")) for fact in told))
    assert right / len(test) > 0.93


def test_a_reader_of_questions():
    """The first noun decides, unless the question has a form that one kind has to itself."""
    own = {
        "why": "description", "how does one make": "description", "how did": "description", "who": "human",
        "where": "location", "how old": "number", "how many": "number", "how much": "number", "how far": "number",
        "when": "number", "how is": "abbreviation", "what are the letters": "abbreviation",
        "what did": "entity", "what does": "entity",
    }  # fmt: skip
    test = load_split("trec", "test")
    right = 0
    for (text,), label in zip(test.texts, test.labels, strict=True):
        text = text.lower()
        kind = next((kind for start, kind in own.items() if text.startswith(start)), None)
        if kind == "entity" and "have to do with" in text:
            kind = "description"
        if kind is None:
            places = {
                text.find(f" {noun}"): kind for kind, nouns in asked.NOUNS.items() for noun in nouns if f" {noun}" in text
            }
            kind = places[min(places)]
        right += asked.KINDS[label] == kind
    assert right / len(test) > 0.94


def deeds(text: str) -> tuple:
    """What is told, the same for all ways to tell it."""
    text = text[0].lower() + text[1:-1]
    joined = next(word for word in ("while", "before", "after") if re.search(rf"\b{word}\b", text))
    if text.startswith(joined):
        second, first = text.removeprefix(f"{joined} ").split(", ")
    else:
        first, second = text.split(f" {joined} ")
    clauses = [deed(first), deed(second)]
    return joined, tuple(sorted(clauses) if joined == "while" else clauses)


def deed(text: str) -> tuple:
    if journey := re.search(r"^(the .+) (\w+) (?:from (\w+) to (\w+)|to (\w+) from (\w+))$", text):
        who, verb, start, end, other_end, other_start = journey.groups()
        return who, verb, start or other_start, end or other_end
    if passive := re.search(r"^(the .+?) (?:was|were) (.+) by (the .+)$", text):
        whom, verb, who = passive.groups()
    else:
        who, verb, whom = next(match.groups() for v in PAST if (match := re.search(rf"^(the .+?) ({v}) (the .+)$", text)))
    return who, PAST.get(verb, verb), tuple(sorted(whom.split(" and ")))


PAST = {  # past tense -> participle
    past: participle or past
    for families in (scrambled.ON_THINGS, scrambled.ON_PEOPLE)
    for family in families
    for entry in family
    for past, _, participle in (form.partition("|") for form in entry.split("/"))
}


def test_a_reader_of_scrambled_sentences():
    test = load_split("paws", "test")
    read = np.array([deeds(one) == deeds(two) for one, two in test.texts])
    assert (read == test.labels).mean() > 0.94


def test_scrambled_pairs_have_almost_the_same_words():
    common = []
    for one, two in load_split("paws", "test").texts:
        first, second = (set(re.findall(r"\w+", text.lower())) for text in (one, two))
        common.append(len(first & second) / len(first | second))
    assert np.mean(common) > 0.85


def test_a_reader_of_reviews():
    """Facts of the visit count, denied ones the other way round; those of elsewhere do not."""
    signs = {clause: sign for fact in visits.FACTS for clause, sign in zip(fact, (1, -1), strict=True)}
    elsewhere = [frame.split("{")[0].strip().split(" {")[0].lower() for frame in visits.ELSEWHERE]
    denied = [frame.split(" {f}")[0].lower() for frame in visits.DENIED]
    test = load_split("yelp_polarity", "test")
    right = 0
    for (text,), label in zip(test.texts, test.labels, strict=True):
        total = 0
        for part in re.split(r"(?<=\.) ", text)[1:]:
            clause = next(c for c in sorted(signs, key=len, reverse=True) if c.lower() in part.lower())
            if not part.lower().startswith(tuple(elsewhere)):
                total += signs[clause] * (-1 if part.lower().startswith(tuple(denied)) else 1)
        right += (total > 0) == label
    assert right / len(test) > 0.94


# Sources --------------------------------------------------------------------------------------------------------------


def test_what_is_where():
    assert available("transfer", "hub") == {name: name for name in [*NAMES, "imdb_10k", "yelp_sentences"]}
    local = available("transfer", "local")
    assert local["imdb"] == "imdb_10k" and local["yelp_polarity"] == "yelp_sentences" and local["paws"] == "pawsx_resplit"
    assert local["trec"] == "trec" and local["scitail"] is None
    assert [TASKS[name].hub for name in NAMES] == [
        "allenai/scitail,snli_format", "CogComp/trec", "stanfordnlp/imdb", "fancyzhx/yelp_polarity",
        "google-research-datasets/paws,labeled_final",
    ]  # fmt: skip
    for name in ("imdb_10k", "yelp_sentences"):
        assert TASKS[name].hub is None and TASKS[name].title.startswith("Stand-in")


def hub(tmp_path: Path, monkeypatch, name: str, splits: dict) -> None:
    """A folder laid out as the hub does it."""
    (tmp_path / "data").mkdir()
    for split, columns in splits.items():
        pd.DataFrame(columns).to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(TASKS, name, dataclasses.replace(TASKS[name], hub=str(tmp_path)))


@pytest.mark.parametrize("name", ["trec", "imdb", "yelp_polarity"])
def test_half_of_test_is_validation_where_there_is_none(name, tmp_path, monkeypatch):
    columns = {"text": [f"Text {i}." for i in range(30)], TASKS[name].label: [i % 2 for i in range(30)]}
    hub(tmp_path, monkeypatch, name, {"train": columns, "test": {k: v[:21] for k, v in columns.items()}})
    train, validation, test = (load_split(name, split, "hub") for split in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (30, 10, 11)
    assert {*validation.texts} | {*test.texts} == {(text,) for text in columns["text"][:21]}
    assert len(load_split(name, "train", "hub", limit=4, seed=3)) == 4  # few shots


def test_scitail_has_its_three_splits_and_labels_as_words(tmp_path, monkeypatch):
    def made(rows: int, label: str = "neutral") -> dict:
        return {
            "sentence1": [f"Told {i}." for i in range(rows)],
            "sentence2": [f"So {i}." for i in range(rows)],
            "gold_label": ["entailment"] * (rows - 1) + [label],
            "annotator_labels": [["neutral"]] * rows,
        }

    hub(tmp_path, monkeypatch, "scitail", {"train": made(9), "validation": made(5), "test": made(7)})
    found = [load_split("scitail", split, "hub") for split in ("train", "validation", "test")]
    assert [len(split) for split in found] == [9, 5, 7] and found[1].labels.tolist() == [0, 0, 0, 0, 1]
    assert set(found[2].texts) == {(f"Told {i}.", f"So {i}.") for i in range(7)}


def test_an_unknown_word_is_no_label(tmp_path, monkeypatch):
    columns = {"sentence1": ["A."], "sentence2": ["B."], "gold_label": ["entails"]}
    hub(tmp_path, monkeypatch, "scitail", {"test": columns})
    with pytest.raises(DataError, match=r"column gold_label: label 'entails' is unknown; expected 0 \(entailment\), 1"):
        load_split("scitail", "test", "hub")


@needs_real_data("transfer")
@pytest.mark.parametrize(
    ("name", "sizes"),
    {"trec": [5452, 250, 250], "imdb_10k": [10_000, 5_000, 5_000], "yelp_sentences": [20_000, 1_000, 1_000]}.items(),
)
def test_real_data(name, sizes, monkeypatch):
    monkeypatch.setenv("PEFTLIB_DATA", str(real_data("transfer")))
    found = [load_split(name, split, "local") for split in ("train", "validation", "test")]
    assert [len(split) for split in found] == pytest.approx(sizes, abs=5)  # equal texts go the same way
    assert len(found[1]) + len(found[2]) == sizes[1] + sizes[2]
    assert set(found[1].texts).isdisjoint(found[2].texts)
