"""HyperFormer's rows: what its tables call them, and the methods that they are (sections 3 and 4)."""

from __future__ import annotations

import re
from typing import NamedTuple

from peftlib.errors import UsageError, short
from peftlib.papers import paper_table

REDUCTION = 32  # of all numbers in Table 1
METHODS = {
    "T5": "Full()",
    "Adapters": "TaskAdapters(reduction={r}, shared_norms=False)",
    "Adapters†": "TaskAdapters(reduction={r})",
    "HyperFormer": "HyperFormer(reduction={r})",
    "HyperFormer++": "HyperFormerPlusPlus(reduction={r})",
}
# On a backbone whose norms come after the residual: `peftlib.methods.multitask.hypernet.gamma_at`.
AS_RELEASED = {"Adapters†-Base, gamma = 1": f"TaskAdapters(reduction={REDUCTION}, gamma=1.0)"}
# Table 4: HyperFormer with less, by what it leaves out.
VARIANTS = {
    "HyperFormer-Small": METHODS["HyperFormer"].format(r=REDUCTION),
    "without adapter blocks": f"HyperFormer(reduction={REDUCTION}, blocks=False)",
    "without conditional layer norm": f"HyperFormer(reduction={REDUCTION}, conditional_norm=False)",
    "without task projector": f"HyperFormer(reduction={REDUCTION}, projector=False)",
    "without T5 layer norm": f"HyperFormer(reduction={REDUCTION}, train_norms=False)",
    "without conditional layer norm and T5 layer norm": (
        f"HyperFormer(reduction={REDUCTION}, conditional_norm=False, train_norms=False)"
    ),
}
# Section 3.2: the task of GLUE whose adapters or embedding a data set of Table 2 begins with.
NEAREST = {
    "scitail": "mnli",
    "cb": "mnli",
    "trec": "mnli",
    "boolq": "qnli",
    "imdb": "sst2",
    "yelp_polarity": "sst2",
    "paws": "qqp",
}
SMALL_TASKS = ("cola", "mrpc", "stsb", "rte")  # fewer than 10,000 training rows (section 3)
TRANSFERRED = ("T5-Base (multi-task)", "Adapters†-Base", "HyperFormer++-Base")  # rows of Table 1 that Table 2 begins with
NAME = re.compile(r"(.*)-(Small|Base)(?: \((single|multi)-task\))?")


class Row(NamedTuple):
    """A row of Tables 1 and 3. method: of `METHODS`. size: of T5. together: is it trained on all tasks in one run?"""

    method: str
    size: str
    together: bool


def called() -> dict[str, str]:
    """What its tables call methods, whatever the size of T5, with an expression."""
    return {name: method.format(r=REDUCTION) for name, method in METHODS.items()}


def read(printed: str) -> Row:
    """A row by its printed name, ``HyperFormer++-Base`` or ``T5-Small (single-task)``.

    Raises:
        UsageError: no row of these tables.
    """
    found = NAME.fullmatch(printed)
    if found is None or found[1] not in METHODS:
        raise UsageError(f"{short(printed)} is no row of hyperformer/table1 or hyperformer/table3")
    return Row(found[1], found[2], found[3] == "multi" if found[3] else found[1] != "Adapters")


def expression(printed: str, reduction: int = REDUCTION) -> str:
    """The expression of a row by its printed name. Raises as `read` does."""
    return METHODS[read(printed).method].format(r=reduction)


def rows_of(size: str) -> list[str]:
    """The rows of Table 1 on one size of T5, in the paper's order."""
    return [name for name in paper_table("hyperformer", "table1")["method"] if read(name).size == size]


def at_reduction(printed: str, reduction: int) -> str:
    """The name of a row's run with that reduction factor."""
    return f"{printed} (r={reduction})"


def at_size(printed: str, examples: int) -> str:
    """The name of a row's run on so many examples a task."""
    return f"{printed.partition(' (')[0]}, {examples}"
