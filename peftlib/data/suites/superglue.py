"""SuperGLUE (Wang et al. 2019) as Compacter uses it, section 5: BoolQ, CB, COPA, MultiRC, ReCoRD and WiC.

An encoder reads at most two texts, so the tasks of more than two columns say how theirs are put together. MultiRC and
ReCoRD become one example per answer or entity, with a group that names the question. For MultiRC this is also the form
of Raffel et al. 2020; for ReCoRD they let the model write the entity instead, which an encoder cannot.
"""

from __future__ import annotations

from peftlib.data.task import Task
from peftlib.errors import DataError, short

PLACEHOLDER = "@placeholder"  # the gap in a query of ReCoRD


def copa_segments(texts: tuple[str, ...]) -> tuple[str, str]:
    """The premise with its question, and both choices: one pair and two classes.

    A head that scores each choice on its own and compares would need a forward pass per choice and a loss of its own.
    """
    premise, question, choice1, choice2 = texts
    return f"{premise} What was the {question}?", f"First: {choice1} Second: {choice2}"


def wic_segments(texts: tuple[str, ...]) -> tuple[str, str]:
    """The word before the first sentence, then the second one."""
    word, sentence1, sentence2 = texts
    return f"{word}: {sentence1}", sentence2


def multirc_segments(texts: tuple[str, ...]) -> tuple[str, str]:
    """The paragraph, and the question with one answer."""
    paragraph, question, answer = texts
    return paragraph, f"{question} {answer}"


def record_segments(texts: tuple[str, ...]) -> tuple[str, str]:
    """The passage, and the query with the entity in its gap."""
    passage, query, entity = texts
    return passage, query.replace(PLACEHOLDER, entity)


def multirc_rows(row: dict) -> list[dict]:
    """A row is one answer already; the group is its question."""
    return [row | {"group": _place(row, "paragraph", "question")}]


def record_rows(row: dict) -> list[dict]:
    """One example per entity of a query, 1 for those among the answers; the group is the query."""
    group, answers = _place(row, "passage", "query"), set(_listed(row, "answers"))
    return [row | {"entity": text, "label": int(text in answers), "group": group} for text in _listed(row, "entities")]


def _place(row: dict, *parts: str) -> str:
    """Where a question stands, as the numbers in ``idx`` say: "3-17"."""
    idx = row["idx"]
    if not isinstance(idx, dict) or not all(isinstance(idx.get(part), int) for part in parts):
        raise DataError(f"column idx: expected numbers under {' and '.join(parts)}, got {short(idx)}")
    return "-".join(str(idx[part]) for part in parts)


def _listed(row: dict, column: str) -> list[str]:
    """The texts in a column of lists, one or more: a query without answers is of a hidden test set."""
    found = row[column]
    if not isinstance(found, list) or not found or not all(isinstance(text, str) and text.strip() for text in found):
        raise DataError(f"column {column}: expected a list of one text or more, none empty, got {short(found)}")
    return found


TASKS = (
    Task(
        name="boolq",
        kind="classes",
        texts=("question", "passage"),
        labels=("False", "True"),
        title="Yes or no questions on a passage",
        citation="Clark et al. 2019, BoolQ: Exploring the Surprising Difficulty of Natural Yes/No Questions",
        suite="superglue",
        splits="halves",
        hub="aps/super_glue,boolq",
        fields=("passage", "question"),
    ),
    Task(
        name="cb",
        kind="classes",
        texts=("premise", "hypothesis"),
        labels=("entailment", "contradiction", "neutral"),
        metrics=("accuracy", "macro_f1"),
        title="CommitmentBank: does the author stand by an embedded clause?",
        citation="de Marneffe, Simons and Tonhauser 2019, The CommitmentBank",
        suite="superglue",
        splits="halves",
        hub="aps/super_glue,cb",
        fields=("hypothesis", "premise"),
    ),
    Task(
        name="copa",
        kind="classes",
        texts=("premise", "question", "choice1", "choice2"),
        labels=("choice1", "choice2"),
        title="Choice of plausible alternatives: cause or effect",
        citation="Roemmele, Bejan and Gordon 2011, Choice of Plausible Alternatives",
        suite="superglue",
        splits="halves",
        hub="aps/super_glue,copa",
        segments=copa_segments,
        fields=("choice1", "choice2", "premise", "question"),
    ),
    Task(
        name="multirc",
        kind="classes",
        texts=("paragraph", "question", "answer"),
        labels=("False", "True"),
        metrics=("f1", "exact_match"),
        title="Multi-sentence reading comprehension, one example per answer",
        citation="Khashabi et al. 2018, Looking Beyond the Surface",
        suite="superglue",
        splits="halves",
        hub="aps/super_glue,multirc",
        source_columns=("paragraph", "question", "answer", "idx", "label"),
        rows=multirc_rows,
        segments=multirc_segments,
        fields=("question", "answer", "paragraph"),
    ),
    Task(
        name="record",
        kind="classes",
        texts=("passage", "query", "entity"),
        labels=("False", "True"),
        metrics=("entity_f1", "entity_em"),
        title="Reading comprehension with commonsense reasoning, one example per entity",
        citation="Zhang et al. 2018, ReCoRD: Bridging the Gap between Human and Machine Commonsense Reading Comprehension",
        suite="superglue",
        splits="held validation",
        hub="aps/super_glue,record",
        source_columns=("passage", "query", "entities", "answers", "idx"),
        rows=record_rows,
        segments=record_segments,
        fields=("query", "entity", "passage"),
    ),
    Task(
        name="wic",
        kind="classes",
        texts=("word", "sentence1", "sentence2"),
        labels=("False", "True"),
        title="Words in context: does a word have the same sense in both sentences?",
        citation="Pilehvar and Camacho-Collados 2019, WiC: the Word-in-Context Dataset",
        suite="superglue",
        splits="halves",
        hub="aps/super_glue,wic",
        segments=wic_segments,
        fields=("sentence1", "sentence2", "word"),
    ),
)
