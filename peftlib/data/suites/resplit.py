"""Stand-ins where an official training set is not at hand: an official validation set cut into train and validation.

Their scores compare with nothing published, so they have names of their own; labels and fields are those of the tasks
they stand in for. They are read from a local folder only.
"""

from dataclasses import replace

from peftlib.data.suites import glue, superglue
from peftlib.data.task import Task

MNLI, QNLI = (next(task for task in glue.TASKS if task.name == name) for name in ("mnli", "qnli"))
BOOLQ = next(task for task in superglue.TASKS if task.name == "boolq")
# What a local folder has in the place of a task; None: nothing.
STAND_INS = {
    "qqp": "quora",
    "mnli": "xnli_resplit",
    "qnli": "qnli_resplit",
    "boolq": "boolq_resplit",
    "multirc": None,
    "record": None,
}
HERE: dict = {"suite": "resplit", "splits": "halves", "hub": None}

TASKS = (
    replace(
        QNLI,
        **HERE,
        name="qnli_resplit",
        folder="qnli",
        text_name="qnli",
        title="Stand-in: QNLI's validation set, cut anew by question",
    ),
    replace(
        BOOLQ,
        **HERE,
        name="boolq_resplit",
        folder="boolq",
        text_name="boolq",
        title="Stand-in: BoolQ's validation set, cut anew by passage",
    ),
    replace(
        MNLI,
        **HERE,
        name="xnli_resplit",
        folder="xnli_en",
        text_name="mnli",
        validation="validation",
        title="Stand-in for MNLI: the English development set of XNLI, cut anew by premise",
        citation="Conneau et al. 2018, XNLI: Evaluating Cross-lingual Sentence Representations",
    ),
    Task(
        name="pawsx_resplit",
        kind="classes",
        texts=("sentence1", "sentence2"),
        labels=("different", "paraphrase"),
        title="Stand-in for PAWS: the English development set of PAWS-X, cut anew by sentence",
        citation="Yang et al. 2019, PAWS-X: A Cross-lingual Adversarial Dataset for Paraphrase Identification",
        suite="resplit",
        folder="pawsx_en",
        text_name="paws",
        splits="halves",
    ),
)
