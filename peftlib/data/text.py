"""The text-to-text form of a task (Raffel et al. 2020, section 2.4 and appendix D): every input and label a string.

mrpc sentence1: The nurse sold the piano. sentence2: The piano was sold.    ->    equivalent
"""

from __future__ import annotations

import math
from numbers import Real

from peftlib.data.task import Task
from peftlib.errors import UsageError, short


def as_text(task: Task, texts: tuple[str, ...], prefix: bool = True) -> str:
    """The input of one example: the task's name, then each field's name and text.

    ``texts``: one row of ``Examples.texts``. ``prefix=False`` leaves out the task's name: Compacter's adapters read
    their input so, its prompt tuning keeps the name. Raises ``UsageError`` for another number of texts than the task has.
    """
    if len(texts) != len(task.texts):
        raise UsageError(f"task {task.name!r} has the texts {', '.join(task.texts)}; got {len(texts)} texts")
    named = dict(zip(task.texts, texts, strict=True))
    parts = [f"{field}: {named[field]}" for field in task.fields or task.texts]
    return " ".join([task.text_name or task.name, *parts] if prefix else parts)


def answer(task: Task, label: int | float) -> str:
    """The string a model has to write for a label; a score is rounded to the nearest 0.2, a tie to an even fifth.

    Raises ``UsageError`` for a label that the task does not have.
    """
    number = isinstance(label, Real) and math.isfinite(label)
    place = round(5 * (float(label) - task.low)) if task.kind == "score" and number else label
    if not number or place not in range(len(task.words)):
        known = f"a number from {task.low:g} to {task.high:g}" if task.kind == "score" else f"0 to {len(task.words) - 1}"
        raise UsageError(f"task {task.name!r} has no label {short(label)}; expected {known}")
    return task.words[int(place)]


def read_answer(task: Task, text: str) -> int | float | None:
    """The label a written answer stands for, or ``None`` for anything but one of ``task.words`` (outer blanks aside).

    ``None`` counts as wrong: ``peftlib.training.metrics.from_answers`` puts a wrong label in its place.
    """
    text = text.strip()
    if text not in task.words:
        return None
    return float(text) if task.kind == "score" else task.words.index(text)
