"""AdaptBert's tasks: those of the default final project of Stanford's CS 224N."""

from peftlib.data.suites.glue import QUESTIONS_WITHOUT_A_PAIR
from peftlib.data.task import Task

TASKS = (
    Task(
        name="sst",
        kind="classes",
        texts=("sentence",),
        labels=("most negative", "negative", "neutral", "positive", "most positive"),
        title="Stanford Sentiment Treebank, five grades",
        citation="Socher et al. 2013, Recursive Deep Models for Semantic Compositionality",
        hub="SetFit/sst5",
        hub_columns=(("text", "sentence"),),
        hub_test=True,
    ),
    Task(
        name="cfimdb",
        kind="classes",
        texts=("sentence",),
        labels=("negative", "positive"),
        title="CFIMDB, highly polar film reviews",
        citation="CS 224N default final project, Stanford; reviews after Maas et al. 2011",
    ),
    Task(
        name="quora",
        kind="binary",
        texts=("sentence1", "sentence2"),
        label="is_duplicate",
        labels=("different", "paraphrase"),
        title="Quora question pairs, paraphrase detection",
        citation="Iyer, Dandekar and Csernai 2017, First Quora Dataset Release: Question Pairs",
        hub="nyu-mll/glue,qqp",
        hub_columns=(("question1", "sentence1"), ("question2", "sentence2"), ("label", "is_duplicate")),
        known_bad=QUESTIONS_WITHOUT_A_PAIR,
    ),
    Task(
        name="sts",
        kind="score",
        texts=("sentence1", "sentence2"),
        label="similarity",
        low=0.0,
        high=5.0,
        metrics=("pearson",),
        title="Semantic textual similarity, 0 (unrelated) to 5 (same meaning)",
        citation="Cer et al. 2017, SemEval-2017 Task 1: Semantic Textual Similarity",
        hub="nyu-mll/glue,stsb",
        hub_columns=(("label", "similarity"),),
    ),
)
