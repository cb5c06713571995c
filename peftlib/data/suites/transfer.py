"""Tasks beyond GLUE and SuperGLUE to which models of those are carried over with few examples: entailment, question types,
sentiment, paraphrase. How few is a limit of a run.

Where a data set has no validation split, the half of its test split serves, as in the paper that the splits are from
(see ``data/README.md``). Stand-ins are what a local folder may hold instead, under names of their own.
"""

from __future__ import annotations

from dataclasses import replace

from peftlib.data.task import Task

IMDB = Task(
    name="imdb",
    kind="classes",
    texts=("text",),
    labels=("negative", "positive"),
    title="Film reviews, two classes",
    citation="Maas et al. 2011, Learning Word Vectors for Sentiment Analysis",
    suite="transfer",
    splits="halves",
    validation="test",
    hub="stanfordnlp/imdb",
)
YELP = replace(
    IMDB,
    name="yelp_polarity",
    title="Yelp reviews, one or two stars against three or four",
    citation="Zhang, Zhao and LeCun 2015, Character-level Convolutional Networks for Text Classification",
    hub="fancyzhx/yelp_polarity",
)
STAND_INS = {"imdb": "imdb_10k", "yelp_polarity": "yelp_sentences", "paws": "pawsx_resplit", "scitail": None}

TASKS = (
    Task(
        name="scitail",
        kind="classes",
        texts=("sentence1", "sentence2"),
        label="gold_label",
        labels=("entailment", "neutral"),
        title="SciTail: does a sentence from the web support the answer to a science question?",
        citation="Khot, Sabharwal and Clark 2018, SciTail: A Textual Entailment Dataset from Science Question Answering",
        suite="transfer",
        hub="allenai/scitail,snli_format",
        named_labels=True,
        hub_test=True,
    ),
    Task(
        name="trec",
        kind="classes",
        texts=("text",),
        label="coarse_label",
        labels=("abbreviation", "entity", "description", "human", "location", "number"),
        title="TREC: what kind of answer a question asks for, six classes",
        citation="Li and Roth 2002, Learning Question Classifiers",
        suite="transfer",
        splits="halves",
        validation="test",
        hub="CogComp/trec",
    ),
    IMDB,
    YELP,
    Task(
        name="paws",
        kind="classes",
        texts=("sentence1", "sentence2"),
        labels=("different", "paraphrase"),
        title="PAWS: paraphrases among pairs of almost the same words",
        citation="Zhang, Baldridge and He 2019, PAWS: Paraphrase Adversaries from Word Scrambling",
        suite="transfer",
        hub="google-research-datasets/paws,labeled_final",
        hub_test=True,
    ),
    replace(
        IMDB,
        name="imdb_10k",
        folder="imdb",
        text_name="imdb",
        hub=None,
        title="Stand-in: 10,000 rows of IMDB's train split and 10,000 of its test split, drawn at random",
    ),
    replace(
        YELP,
        name="yelp_sentences",
        text_name="yelp_polarity",
        validation="validation",
        hub=None,
        title="Stand-in for Yelp polarity: single sentences of reviews, labelled by the stars of the whole",
        citation="Shen et al. 2017, Style Transfer from Non-Parallel Text by Cross-Alignment",
    ),
)
