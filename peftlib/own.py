"""Training on a table of one's own: texts, and a column that says of each what is to be learnt.

The table becomes a task, and the training loop of the study trains it as it trains the others: with a part of the rows held
out, the best epoch kept, and the method's own steps taken.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from peftlib import catalogue, deltas
from peftlib.catalogue import About
from peftlib.data.sources import FOLDER_VARIABLE, SPLITS, Examples, held_out
from peftlib.data.task import Task
from peftlib.data.tasks import TASKS
from peftlib.errors import UsageError, short
from peftlib.expressions import names
from peftlib.grids import DEFAULT_TASKS, get_preset, start_of
from peftlib.records import Recipe, Run, with_parents
from peftlib.training.encoding import Encoded
from peftlib.training.loop import EVAL_BATCH, Outcome, Trainer

if typing.TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from peftlib.model import Tuned

NAME = "own"  # of the task
FEWEST = 10  # rows: one each to choose the epoch by and to test on, and some to learn from
RATES = "published"  # the preset whose learning rates were searched


def train(
    table: pd.DataFrame,
    method: str,
    *,
    label: str = "label",
    backbone: str = "minilm",
    lr: float | None = None,
    seed: int = 0,
    start: Sequence[str | Path] = (),
    **recipe: typing.Any,
) -> Outcome:
    """Train a method on a table; its ``model`` is that of the best epoch, ``test`` its score on rows that it has not seen.

    A tenth of the rows, at most a thousand, chooses the epoch, and as many are tested on; which, the seed says.

    Args:
        table: a row each; every column but that of labels holds text, the first one or two of which an encoder reads as it
            reads a sentence or a pair.
        method: an expression.
        label: the column that is learnt: classes, or numbers with a fraction, which become a score.
        lr: by default the rate that the published runs of this method have.
        start: deltas to begin from, files that `peftlib.deltas.save` wrote of models on this backbone. For a method that
            begins from another training on the same table, such as LT-SFT, that is done first; for one that begins on
            other tasks see `sources`.
        recipe: other fields of `peftlib.records.Recipe`. In precision "fp32", which is the default here, frozen weights
            keep all their digits, so that the method can be merged into them.

    Raises:
        UsageError: no table, no such column, too few rows, labels that are missing or all the same, or what a run is
            refused for.
        DataError: a text is missing or none.
        DeltaError: a start cannot be read, or is of another backbone.
        Diverged: the loss is no finite number any more.
    """
    if not isinstance(table, pd.DataFrame):
        raise UsageError(f"{short(table)} is no table: expected a pandas.DataFrame, as pd.read_csv gives")
    if label not in table.columns:
        raise UsageError(f"the table has no column {short(label)}: label = one of {', '.join(map(str, table.columns))}")
    if len(table) < FEWEST:
        raise UsageError(f"a table of {len(table)} rows is too small to train and to test on: expected {FEWEST} or more")
    task, labels = _task(table, label)
    given: dict[str, typing.Any] = {
        "lr": get_preset(RATES).learning_rate(method) if lr is None else lr,
        "precision": "fp32",
    } | recipe
    with tempfile.TemporaryDirectory() as folder, _known(task, folder):
        _write(table[list(task.texts)].assign(**{label: labels}), Path(folder) / task.suite / task.name, seed)
        run = Run(method, (task.name,), backbone, "local", Recipe(**given), seed)
        if not start and any(about.start_on == "own" for about in _begins(method)):
            preset = dataclasses.replace(get_preset(RATES), backbone=backbone, source="local", precision="fp32")
            parents = start_of(preset, method, run.tasks, seed)
            rest = {name: value for name, value in given.items() if name != "lr"}
            parents = tuple(dataclasses.replace(p, recipe=Recipe(lr=p.recipe.lr, **rest)) for p in parents)
            start = _trained(parents, Path(folder))
        return Trainer(run, progress=False, given=start).fit()


def sources(method: str, folder: str | Path, *, backbone: str = "minilm", preset: str = "smoke") -> list[Path]:
    """Train what a method begins from that begins on other tasks than its own: on those of the embedded suite, as large as
    a preset says. Gives the deltas, files in the folder, as `train` takes them for a start.

    Raises:
        UsageError: no such preset, or the method begins by itself, or on its own task, where `train` sees to it.
    """
    if not any(about.start_on == "others" for about in _begins(method)):
        raise UsageError(f"{method} begins from no run on other tasks: train it without a start")
    sized = dataclasses.replace(get_preset(preset), backbone=backbone, source="embedded")
    return _trained(start_of(sized, method, DEFAULT_TASKS[:1]), Path(folder))


def _begins(method: str) -> list[About]:
    """What those methods of an expression say of themselves which cannot begin by themselves."""
    known = catalogue.methods()
    return [known[name].about for name in names(method) if name in known and known[name].about.start]


def _trained(runs: Sequence[Run], folder: Path) -> list[Path]:
    """The deltas of runs, which are trained, and before them what they begin from."""
    for run in with_parents(runs):
        outcome = Trainer(run, progress=False, given=[_file(folder, parent) for parent in run.start]).fit()
        deltas.save(outcome.model, _file(folder, run))
    return [_file(folder, run) for run in runs]


def _file(folder: Path, run: Run) -> Path:
    return folder / f"{run.digest}.safetensors"


def answers(
    model: Tuned, texts: Sequence[str | tuple[str, ...]], tokenizer: PreTrainedTokenizerBase, max_length: int = 128
) -> list[str | float]:
    """What a model of one task says of texts: the name of a class, or a score, each.

    texts: one string a row, or as many as the task has columns of text. max_length: tokens that are read of a row.

    Raises:
        UsageError: the model has several tasks or writes its answers, or a row has not as many texts.
    """
    if len(model.tasks) != 1 or model.form != "heads":
        raise UsageError(
            f"this model has the tasks {', '.join(model.tasks)} and form {model.form!r}: expected one with a head"
        )
    (task,) = model.task_table.values()
    rows = [(row,) if isinstance(row, str) else tuple(row) for row in texts]
    for row in rows:
        if len(row) != len(task.texts):
            raise UsageError(f"{short(row)}: expected a text each for {', '.join(task.texts)}")
    examples = Examples(rows, np.zeros(len(rows), np.int64), [""] * len(rows), task, "test", "local", "")
    data, found = Encoded(examples, tokenizer, max_length), np.empty(len(rows))
    model.eval()
    with torch.no_grad():
        for indices in data.in_order(EVAL_BATCH):
            inputs = data.batch(indices, next(model.parameters()).device)
            inputs.pop("labels")
            found[indices] = model.predict(task.name, model(task.name, inputs)).cpu().numpy()
    return [task.labels[int(value)] if task.labels else float(value) for value in found]


def _task(table: pd.DataFrame, label: str) -> tuple[Task, list]:
    """What the table asks, and its labels as the task has them: numbers of classes, or scores."""
    asked, texts = table[label], tuple(str(name) for name in table.columns if name != label)
    if asked.isna().any():
        raise UsageError(
            f"row {int(asked.isna().argmax())} of the table has no {short(label)}: fill it in, or drop the row"
        )
    if pd.api.types.is_float_dtype(asked):
        low, high = float(asked.min()), float(asked.max())
        task = Task(NAME, "score", texts, label, low=low, high=high, metrics=("pearson",), suite=NAME)
        return task, asked.tolist()
    names = [str(value) for value in asked]
    classes = tuple(sorted(set(names)))
    return Task(NAME, "classes", texts, label, classes, suite=NAME), [classes.index(name) for name in names]


@contextlib.contextmanager
def _known(task: Task, folder: str) -> Iterator[None]:
    """The task is one of the study's, its rows in a folder, for as long as it is trained."""
    before = os.environ.get(FOLDER_VARIABLE)
    TASKS[task.name], os.environ[FOLDER_VARIABLE] = task, folder
    try:
        yield
    finally:
        del TASKS[task.name], os.environ[FOLDER_VARIABLE]
        if before is not None:
            os.environ[FOLDER_VARIABLE] = before


def _write(table: pd.DataFrame, folder: Path, seed: int) -> None:
    """The three splits of a table as the loop reads them."""
    held = held_out(len(table))
    order = np.random.default_rng(seed).permutation(len(table))
    folder.mkdir(parents=True)
    for split, rows in zip(SPLITS, (order[2 * held :], order[:held], order[held : 2 * held]), strict=True):
        table.iloc[rows].to_parquet(folder / f"{split}.parquet", index=False)
