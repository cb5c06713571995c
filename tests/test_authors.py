"""News by their authors: how rows find their author, how each author is divided, and what there is to learn of one."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pytest
import words
from real import needs_real_data, real_data
from sklearn.linear_model import LogisticRegression

from peftlib import provenance
from peftlib.data import TASKS, embedded, get_task, load_split, members
from peftlib.data.grammar import news
from peftlib.data.sources import available
from peftlib.data.suites import authors
from peftlib.errors import DataError, UsageError
from peftlib.records import Recipe, Run
from peftlib.training.loop import Trainer

SPLITS = ("train", "validation", "test")
DIGEST = "64f21ab5848307dc"


def test_suite_has_not_changed():
    assert load_split("authors", "train").digest[:16] == DIGEST


def test_texts_and_columns():
    frame = embedded.generate("authors", "train")
    assert list(frame.columns) == ["id", "text", "author_id", "category"] and news.CATEGORIES == TASKS["authors"].labels
    for text in frame["text"]:
        assert text[0].isupper() and text[-1] == "." and text == " ".join(text.split()) and text.count(". ") == 1
        assert not set(text) & set("{}#|/_")
    assert frame["text"].is_unique


# Division by author ---------------------------------------------------------------------------------------------------


def test_each_author_is_divided():
    found = {split: load_split("authors", split) for split in SPLITS}
    assert sum(map(len, found.values())) == sum(embedded.SIZES["authors"].values())
    texts = [set(split.texts) for split in found.values()]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    counts = {split: Counter(examples.groups) for split, examples in found.items()}
    assert {*counts["train"]} == {*counts["validation"]} == {*counts["test"]} == {str(i) for i in range(news.AUTHORS)}
    for author in counts["train"]:
        train, validation, test = (counts[split][author] for split in SPLITS)
        assert test == round(0.3 * (train + validation + test))
        assert validation == max(1, int(0.1 * (train + validation)))


def test_an_author_is_a_task():
    task = get_task("authors_17")
    assert task.name == "authors_17" and task.labels == TASKS["authors"].labels and task.text_name == "authors"
    for split in SPLITS:
        own, whole = load_split("authors_17", split), load_split("authors", split)
        assert own.texts == [row for row, author in zip(whole.texts, whole.groups, strict=True) if author == "17"]
        assert own.groups is None
    assert members("authors")["authors_17"] == len(load_split("authors_17", "train"))
    assert list(members("authors")) == [f"authors_{i}" for i in range(60)]
    assert len(load_split("authors_17", "train", limit=4)) == 4  # rows; of all authors a limit counts authors
    assert len(set(load_split("authors", "train", limit=4).groups)) == 4


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: load_split("authors_60", "test"),
            DataError,
            "no rows of group 60 in test; .* 60 tasks, from authors_0 to au",
        ),
        (lambda: get_task("authors_x"), UsageError, "unknown task 'authors_x'; .*did you mean 'authors'"),
        (lambda: get_task("sst_3"), UsageError, "unknown task 'sst_3'"),
        (lambda: members("sst"), UsageError, "task 'sst' is not divided by group; those that are: authors, news_category"),
        (lambda: members("authors_3"), UsageError, "task 'authors_3' is not divided by group"),
        (lambda: members("authors", "disk"), UsageError, "unknown source 'disk'"),
        (lambda: load_split("authors", "train", "hub"), DataError, "'authors' is not on the hub; use source 'local'"),
    ],
)
def test_bad_authors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_several_authors_train_together():
    run = Run("HeadOnly()", ("authors_1", "authors_2"), "minilm", "embedded", Recipe(lr=1e-3, epochs=1), limits=(16, 4, 8))
    assert {"data/grammar/news.py", "data/suites/authors.py"} <= provenance.sources_of(run).keys()
    found = Trainer(run, progress=False).fit().test
    assert {f"authors_{author}.{metric}" for author in (1, 2) for metric in ("accuracy", "macro_f1")} <= set(found)


# What one author has to say that all together do not ------------------------------------------------------------------


def topics(text: str) -> frozenset[str]:
    """The categories of the agent and of the deed in a headline."""
    headline = f" {text.split('. ')[0].lower()} "
    return frozenset(
        category
        for category, (agents, done, _) in news.DESKS.items()
        if any(f" {phrase.lower()} " in headline for phrase in (*agents, *done))
    )


def test_a_reader_who_learns_an_authors_order_beats_any_that_does_not():
    train, test = load_split("authors", "train"), load_split("authors", "test")
    named = TASKS["authors"].labels
    shared, own = defaultdict(Counter), defaultdict(Counter)
    for (text,), label, author in zip(train.texts, train.labels, train.groups, strict=True):
        about = topics(text)
        assert 1 <= len(about) <= 2
        shared[about][named[label]] += 1
        own[author].update((named[label], other) for other in about if other != named[label] and named[label] in about)
    right = Counter()
    for (text,), label, author in zip(test.texts, test.labels, test.groups, strict=True):
        about, wins = topics(text), own[author]
        right["shared"] += shared[about].most_common(1)[0][0] == named[label] if shared[about] else 0
        best = max(
            sorted(about), key=lambda category: sum(wins[category, other] - wins[other, category] for other in about)
        )
        right["own"] += best == named[label]
    assert right["shared"] / len(test) < 0.70 and right["own"] / len(test) > 0.82


def ceilings() -> tuple[float, float]:
    """What the best of all models scores that does not know the author, and that of one who knows each author's order:
    summed over authors, topics and noise."""
    weights = Counter(news._writers())
    total, by_topics = sum(weights.values()), defaultdict(Counter)
    for author, weight in weights.items():
        order = news.order_of(author)
        for one in order:
            for two in order:
                share = (1 - news.MIXED) / len(order) if one == two else news.MIXED / (len(order) * (len(order) - 1))
                label = news.filed(author, {one, two})
                for other in order:
                    noise = 1 - news.NOISE if other == label else news.NOISE / (len(order) - 1)
                    by_topics[frozenset((one, two))][other] += weight / total * share * noise
    assert sum(map(Counter.total, by_topics.values())) == pytest.approx(1)
    return sum(max(found.values()) for found in by_topics.values()), 1 - news.NOISE


def test_the_exact_ceilings():
    shared, own = ceilings()
    assert shared == pytest.approx(0.699, abs=0.001) and own == 0.96  # as data/README.md says


def test_a_head_an_author_beats_one_for_all():
    """A bag of words with one classifier for all, with one an author, and with a head an author on the shared one's
    outputs: what an article is about is common to all, under what it is filed is not."""
    train, test = load_split("authors", "train"), load_split("authors", "test")
    bag = words.Words(train)
    model = LogisticRegression(C=3.0, max_iter=500).fit(bag(train), train.labels)
    shared = (model.predict(bag(test)) == test.labels).mean()
    seen, there = model.predict_log_proba(bag(train)), model.predict_log_proba(bag(test))
    own, of = np.zeros(len(test)), (np.array(train.groups), np.array(test.groups))
    for author in set(train.groups):
        rows, tested = of[0] == author, of[1] == author
        head = LogisticRegression(C=0.3, max_iter=500).fit(seen[rows], train.labels[rows])
        own[tested] = head.predict(there[tested]) == test.labels[tested]
    assert shared < 0.65 and own.mean() > shared + 0.1


# LaMP's profiles, and the local stand-in ------------------------------------------------------------------------------


def profile(*articles: int) -> list[dict]:
    return [{"id": str(i), "text": f"News {i}.", "category": authors.CATEGORIES[i % 15], "title": ""} for i in articles]


def test_profiles_that_share_an_article_are_of_one_author(tmp_path, monkeypatch):
    """LaMP's own columns: a question has the profile of its author, who may have several questions."""
    monkeypatch.setenv("PEFTLIB_DATA", str(tmp_path))
    questions = {
        "train": [("100", profile(*range(10))), ("110", profile(*range(5, 12))), ("120", profile(*range(20, 26)))],
        "validation": [("200", profile(*range(9, 14))), ("210", profile(*range(40, 50)))],
        "test": [("300", profile(*range(45, 52)))],
    }
    folder = tmp_path / "lamp" / "authors"
    folder.mkdir(parents=True)
    for split, rows in questions.items():
        pd.DataFrame({"id": [i for i, _ in rows], "input": "?", "profile": [p for _, p in rows]}).to_parquet(
            folder / f"{split}.parquet"
        )
    found = {split: load_split("authors", split, "local") for split in SPLITS}
    by_author = defaultdict(set)
    for examples in found.values():
        for (text,), author in zip(examples.texts, examples.groups, strict=True):
            by_author[author].add(int(text.split()[1].rstrip(".")))
    assert by_author == {"0": {*range(14)}, "1": {*range(20, 26)}, "2": {*range(40, 52)}}
    assert sum(map(len, found.values())) == 14 + 6 + 12  # every article once
    assert [len(load_split("authors_1", split, "local")) for split in SPLITS] == [3, 1, 2]
    assert members("authors", "local") == {"authors_0": 9, "authors_1": 3, "authors_2": 7}
    bad = pd.DataFrame({"id": ["1"], "profile": [[{"text": "x", "category": "weather"}]]})
    bad.to_parquet(folder / "test.parquet")
    with pytest.raises(
        DataError, match=r"test.parquet, row 0, column category: label 'weather' is unknown; expected 0 .bus"
    ):
        load_split("authors", "train", "local")
    pd.DataFrame({"id": ["1"], "profile": ["x"]}).to_parquet(folder / "test.parquet")
    with pytest.raises(DataError, match="row 0, column profile: expected a list of articles, each with a text and a"):
        load_split("authors", "train", "local")


def news_category(rows: dict[int, int]) -> dict:
    ids = [author for author, count in rows.items() for _ in range(count)]
    return {"text": [f"Article {i} by {a}." for i, a in enumerate(ids)], "label": [a % 29 for a in ids], "author_id": ids}


def test_small_authors_of_the_stand_in_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_DATA", str(tmp_path))
    folder = tmp_path / "lamp" / "news_category"
    folder.mkdir(parents=True)
    for split, rows in zip(SPLITS, ({5: 16, 7: 8, 9: 6}, {5: 2, 7: 1}, {5: 2, 9: 4}), strict=True):
        made = news_category(rows)
        pd.DataFrame(made | {"text": [f"{split}: {text}" for text in made["text"]]}).to_parquet(folder / f"{split}.parquet")
    assert members("news_category", "local") == {"news_category_5": 13, "news_category_9": 6}  # 20 and 10 articles
    assert [len(load_split("news_category_5", split, "local")) for split in SPLITS] == [13, 1, 6]
    with pytest.raises(DataError, match="no rows of group 7 in train"):
        load_split("news_category_7", "train", "local")
    assert available("authors", "local")["authors"] == "news_category"
    stamp = provenance.data_digest("news_category_5", "train", "local", None)
    assert stamp == load_split("news_category_5", "train", "local").digest


def test_an_author_who_is_no_number(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_DATA", str(tmp_path))
    folder = tmp_path / "lamp" / "news_category"
    folder.mkdir(parents=True)
    for split in SPLITS:
        pd.DataFrame({"text": ["x"], "label": [0], "author_id": ["Ada"]}).to_parquet(folder / f"{split}.parquet")
    with pytest.raises(DataError, match="train.parquet, row 0, column author_id: expected a whole number, got 'Ada'"):
        load_split("news_category", "test", "local")


def test_groups_need_rows():
    with pytest.raises(UsageError, match="splits='by group'; expected another one without rows, which name the groups"):
        dataclasses.replace(TASKS["sst"], splits="by group")


@needs_real_data("lamp")
def test_real_data(monkeypatch):
    monkeypatch.setenv("PEFTLIB_DATA", str(real_data("lamp")))
    found = [load_split("news_category", split, "local") for split in SPLITS]
    assert sum(map(len, found)) == 6_859 and len(set(found[0].groups)) == len(set(found[2].groups)) == 92
    assert min(members("news_category", "local").values()) >= 6
