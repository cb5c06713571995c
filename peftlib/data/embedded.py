"""The embedded suite: tasks as English sentences made by a grammar, a lexicon and a seed.

Nothing is stored and nothing is taken from anywhere; the same seed gives the same rows on every machine and Python
version. The suite lets everything run offline with the columns, labels and metrics of the real tasks. How labels follow
from the sentences, with samples and measured difficulty: ``data/README.md``. MultiRC and ReCoRD have no counterpart:
their point is long texts by people, which a grammar does not write.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pandas as pd

from peftlib.data.grammar import (
    acceptability,
    asked,
    causes,
    commitment,
    inference,
    nature,
    news,
    phenomena,
    pronouns,
    questions,
    reading,
    reviews,
    scenes,
    scrambled,
    senses,
    visits,
)
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError

SIZES = {  # rows of train, validation, test
    "sst": {"train": 4000, "validation": 600, "test": 600},
    "cfimdb": {"train": 1500, "validation": 300, "test": 300},
    "quora": {"train": 4000, "validation": 600, "test": 600},
    "sts": {"train": 3000, "validation": 600, "test": 600},
    "cola": {"train": 4000, "validation": 600, "test": 600},
    "sst2": {"train": 4000, "validation": 600, "test": 600},
    "mrpc": {"train": 3000, "validation": 600, "test": 600},
    "qqp": {"train": 4000, "validation": 600, "test": 600},
    "stsb": {"train": 3000, "validation": 600, "test": 600},
    "mnli": {"train": 6000, "validation": 600, "test": 600},
    "qnli": {"train": 4000, "validation": 600, "test": 600},
    "rte": {"train": 2500, "validation": 600, "test": 600},
    "boolq": {"train": 3000, "validation": 600, "test": 600},
    "cb": {"train": 1500, "validation": 300, "test": 300},
    "copa": {"train": 1000, "validation": 300, "test": 300},
    "wic": {"train": 4000, "validation": 600, "test": 600},
    "wnli": {"train": 1500, "validation": 300, "test": 300},
    "axb": {"test": 1000},
    "axg": {"test": 400},
    "scitail": {"train": 3000, "validation": 600, "test": 600},
    "trec": {"train": 4000, "validation": 600, "test": 600},
    "imdb": {"train": 3000, "validation": 600, "test": 600},
    "yelp_polarity": {"train": 4000, "validation": 600, "test": 600},
    "paws": {"train": 4000, "validation": 600, "test": 600},
    "authors": {"train": 2400, "validation": 400, "test": 400},  # together, and then divided by author
}
MORE_COLUMNS = {"authors": ("author_id",)}
GRAMMAR: dict[str, Callable[[random.Random], Any]] = {  # a row, or a list of rows that stand together
    "sst": reviews.draw_sentence,
    "cfimdb": reviews.draw_review,
    "quora": questions.draw_pair,
    "sts": scenes.draw_pair,
    "cola": acceptability.draw_sentence,
    "sst2": reviews.draw_polar,
    "mrpc": reading.draw_paraphrase,
    "qqp": questions.draw_pair,
    "stsb": scenes.draw_pair,
    "mnli": inference.draw_pair,
    "qnli": reading.draw_question,
    "rte": reading.draw_passage,
    "boolq": reading.draw_yes_no,
    "cb": commitment.draw_pair,
    "copa": causes.draw_choice,
    "wic": senses.draw_pair,
    "wnli": pronouns.draw_pair,
    "axb": phenomena.draw_pair,
    "axg": pronouns.draw_both,
    "scitail": nature.draw_pair,
    "trec": asked.draw_question,
    "imdb": reviews.draw_review,
    "yelp_polarity": visits.draw_review,
    "paws": scrambled.draw_pair,
    "authors": news.draw_article,
}


def generate(task_name: str, split: str, seed: int = 0, kinds: bool = False) -> pd.DataFrame:
    """One split of an embedded task, with the columns of the real one: id, text columns, label.

    No sentence occurs in two rows of a task, whatever their splits. ``kinds`` adds the column ``kind``: the
    construction that decided the label. Raises ``UsageError`` for an unknown task or split.
    """
    task = get_task(task_name)
    if task.name not in SIZES:
        raise UsageError(f"task {task.name!r} has no embedded data; those that have: {', '.join(SIZES)}")
    sizes = SIZES[task.name]
    if split not in sizes:
        raise UsageError(f"unknown split {split!r}; expected one of {', '.join(sizes)}")
    before = list(sizes)[: list(sizes).index(split)]
    start = sum(sizes[name] for name in before)
    rows = _rows(task.name, seed)[start : start + sizes[split]]
    frame = pd.DataFrame([texts for texts, _, _ in rows], columns=[*task.texts, *MORE_COLUMNS.get(task.name, ())])
    frame.insert(0, "id", [f"{task.name}-{split}-{i}" for i in range(len(rows))])
    frame[task.label] = [label for _, label, _ in rows]
    if kinds:
        frame["kind"] = [kind for _, _, kind in rows]
    return frame


@lru_cache(maxsize=len(SIZES))
def _rows(name: str, seed: int) -> list[tuple[tuple[str, ...], int | float, str]]:
    """All rows of a task; a row that repeats a sentence of an earlier row is drawn again.

    A text of one word is no sentence: COPA's question ("cause") and WiC's word come again and again. Rows that a grammar
    draws together are kept or drawn again together, and may share a sentence.
    """
    seen: set[str]
    rows: list[tuple[tuple[str, ...], int | float, str]]
    rng, seen, rows = random.Random(f"peftlib embedded {name} {seed}"), set(), []
    while len(rows) < sum(SIZES[name].values()):
        drawn = GRAMMAR[name](rng)
        together = drawn if isinstance(drawn, list) else [drawn]
        sentences = {text for texts, _, _ in together for text in texts if " " in text}
        if seen.isdisjoint(sentences) and all(len(set(texts)) == len(texts) for texts, _, _ in together):
            seen.update(sentences)
            rows += together
    return rows
