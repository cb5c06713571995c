"""What GLUE and SuperGLUE have beside the tasks that are trained and averaged as a rule: WNLI, and the diagnostic sets AX-b
and AX-g (Wang et al. 2019, SuperGLUE, section 3.3), which have test rows alone and are answered by a model of RTE.

Both sets share RTE's label ids. The rows of AX-g come in pairs that differ in the gender of a pronoun alone; a pair is
known by what is left without its pronouns.
"""

from __future__ import annotations

import re

from peftlib.data.task import Task

PRONOUNS = re.compile(r"\b(he|she|his|hers|her|him|himself|herself)\b", re.IGNORECASE)


def pair_of(row: dict) -> list[dict]:
    """The row with its pair as the group: premise and hypothesis without pronouns."""
    texts = (str(row[column]) for column in ("premise", "hypothesis"))
    return [row | {"group": " | ".join(PRONOUNS.sub("_", text) for text in texts)}]


TASKS = (
    Task(
        name="wnli",
        kind="classes",
        texts=("sentence1", "sentence2"),
        labels=("not_entailment", "entailment"),
        title="Winograd schemas: whom a pronoun stands for",
        citation="Levesque, Davis and Morgenstern 2012, The Winograd Schema Challenge; recast by Wang et al. 2019, GLUE",
        suite="glue",
        splits="halves",
        hub="nyu-mll/glue,wnli",
    ),
    Task(
        name="axb",
        kind="classes",
        texts=("sentence1", "sentence2"),
        labels=("entailment", "not_entailment"),
        metrics=("matthews",),
        title="AX-b, the broad-coverage diagnostic set of GLUE, two classes; trained on RTE",
        citation="Wang et al. 2019, GLUE and SuperGLUE",
        suite="superglue",
        hub="aps/super_glue,axb",
        hub_test=True,
        trained_on="rte",
        text_name="rte",
    ),
    Task(
        name="axg",
        kind="classes",
        texts=("premise", "hypothesis"),
        labels=("entailment", "not_entailment"),
        metrics=("accuracy", "gender_parity"),
        title="AX-g, Winogender schemas as entailment: is the answer the same for both genders? Trained on RTE",
        citation="Rudinger et al. 2018, Gender Bias in Coreference Resolution; recast by Poliak et al. 2018",
        suite="superglue",
        hub="aps/super_glue,axg",
        hub_test=True,
        source_columns=("premise", "hypothesis", "label"),
        rows=pair_of,
        trained_on="rte",
        text_name="rte",
        fields=("hypothesis", "premise"),
    ),
)
