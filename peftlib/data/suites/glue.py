"""GLUE (Wang et al. 2019) as Compacter uses it, section 5: eight tasks, WNLI left out.

Columns, label ids and answers are those of the hub's version; the order of the fields of the text-to-text form is that
of Raffel et al. 2020, appendix D (alphabetical).
"""

from peftlib.data.task import Task

# Rows 310121 and 362225 of QQP's train split, as github.com/huggingface/datasets/issues/277 has them.
QUESTIONS_WITHOUT_A_PAIR = (("How can I create an Android app?", ""), ("How can I develop android app?", ""))

TASKS = (
    Task(
        name="cola",
        kind="classes",
        texts=("sentence",),
        labels=("unacceptable", "acceptable"),
        metrics=("matthews",),
        title="Corpus of Linguistic Acceptability: is it a sentence of English?",
        citation="Warstadt, Singh and Bowman 2019, Neural Network Acceptability Judgments",
        suite="glue",
        splits="halves",
        hub="nyu-mll/glue,cola",
    ),
    Task(
        name="sst2",
        kind="classes",
        texts=("sentence",),
        labels=("negative", "positive"),
        title="Stanford Sentiment Treebank, two classes",
        citation="Socher et al. 2013, Recursive Deep Models for Semantic Compositionality",
        suite="glue",
        splits="held validation",
        hub="nyu-mll/glue,sst2",
    ),
    Task(
        name="mrpc",
        kind="classes",
        texts=("sentence1", "sentence2"),
        labels=("not_equivalent", "equivalent"),
        metrics=("accuracy", "f1"),
        title="Microsoft Research Paraphrase Corpus",
        citation="Dolan and Brockett 2005, Automatically Constructing a Corpus of Sentential Paraphrases",
        suite="glue",
        splits="halves",
        hub="nyu-mll/glue,mrpc",
    ),
    Task(
        name="qqp",
        kind="classes",
        texts=("question1", "question2"),
        labels=("not_duplicate", "duplicate"),
        metrics=("accuracy", "f1"),
        title="Quora question pairs, GLUE's files (for those of CS 224N see quora)",
        citation="Iyer, Dandekar and Csernai 2017, First Quora Dataset Release: Question Pairs",
        suite="glue",
        splits="held validation",
        hub="nyu-mll/glue,qqp",
        known_bad=QUESTIONS_WITHOUT_A_PAIR,
    ),
    Task(
        name="stsb",
        kind="score",
        texts=("sentence1", "sentence2"),
        low=0.0,
        high=5.0,
        metrics=("pearson", "spearman"),
        title="Semantic textual similarity benchmark, GLUE's files (for those of CS 224N see sts)",
        citation="Cer et al. 2017, SemEval-2017 Task 1: Semantic Textual Similarity",
        suite="glue",
        splits="halves",
        hub="nyu-mll/glue,stsb",
    ),
    Task(
        name="mnli",
        kind="classes",
        texts=("premise", "hypothesis"),
        labels=("entailment", "neutral", "contradiction"),
        title="Multi-genre natural language inference, matched validation set",
        citation="Williams, Nangia and Bowman 2018, A Broad-Coverage Challenge Corpus for Sentence Understanding",
        suite="glue",
        splits="held validation",
        validation="validation_matched",
        hub="nyu-mll/glue,mnli",
        fields=("hypothesis", "premise"),
    ),
    Task(
        name="qnli",
        kind="classes",
        texts=("question", "sentence"),
        labels=("entailment", "not_entailment"),
        title="Does the sentence answer the question? Pairs from SQuAD",
        citation="Rajpurkar et al. 2016, SQuAD; recast by Wang et al. 2019, GLUE",
        suite="glue",
        splits="held validation",
        hub="nyu-mll/glue,qnli",
    ),
    Task(
        name="rte",
        kind="classes",
        texts=("sentence1", "sentence2"),
        labels=("entailment", "not_entailment"),
        title="Recognising textual entailment, two classes",
        citation="Dagan, Glickman and Magnini 2005, The PASCAL Recognising Textual Entailment Challenge, and RTE2, 3, 5",
        suite="glue",
        splits="halves",
        hub="nyu-mll/glue,rte",
    ),
)
