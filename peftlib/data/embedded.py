"""The embedded suite: tasks as English sentences made by a grammar, a lexicon and a seed.

Nothing is stored and nothing is taken from anywhere; the same seed gives the same rows on every machine and Python
version. The suite lets everything run offline with the columns, labels and metrics of the real tasks. How labels follow
from the sentences, with samples and measured difficulty: ``data/README.md``. MultiRC and ReCoRD have no counterpart:
their point is long texts by people, which a grammar does not write.
"""

from __future__ import annotations

import random
from functools import lru_cache

import pandas as pd

from peftlib.data.grammar import acceptability, causes, commitment, inference, questions, reading, reviews, scenes, senses
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
}
GRAMMAR = {
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
    frame = pd.DataFrame([texts for texts, _, _ in rows], columns=list(task.texts))
    frame.insert(0, "id", [f"{task.name}-{split}-{i}" for i in range(len(rows))])
    frame[task.label] = [label for _, label, _ in rows]
    if kinds:
        frame["kind"] = [kind for _, _, kind in rows]
    return frame


@lru_cache(maxsize=len(SIZES))
def _rows(name: str, seed: int) -> list[tuple[tuple[str, ...], int | float, str]]:
    """All rows of a task; a row that repeats a sentence of an earlier row is drawn again.

    A text of one word is no sentence: COPA's question ("cause") and WiC's word come again and again.
    """
    seen: set[str]
    rows: list[tuple[tuple[str, ...], int | float, str]]
    rng, seen, rows = random.Random(f"peftlib embedded {name} {seed}"), set(), []
    while len(rows) < sum(SIZES[name].values()):
        texts, label, kind = GRAMMAR[name](rng)
        sentences = {text for text in texts if " " in text}
        if seen.isdisjoint(sentences) and len(set(texts)) == len(texts):
            seen.update(sentences)
            rows.append((texts, label, kind))
    return rows
