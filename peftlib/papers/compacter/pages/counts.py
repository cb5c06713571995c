"""Tables of the Compacter chapter."""

from __future__ import annotations

from peftlib.papers.compacter import counts
from peftlib.report import recounted
from peftlib.report.tables import Html

TITLES = {
    "table1": "Table 1, GLUE",
    "table2": "Table 2, SuperGLUE",
    "table6": "Table 6, other sizes",
    "table7": "Table 7, output layer trained",
    "table8": "Table 8, SuperGLUE by n",
    "table9": "Table 9, T5-Small",
}


def parameters(name: str) -> Html:
    """The two parameter columns of ``table1``, 2, 6, 7, 8 or 9: ours and the paper's."""
    return recounted.parameters(counts.table(name), TITLES[name])


def agreement() -> dict[str, int]:
    """Over all tables, see `peftlib.report.recounted.agreement`."""
    return recounted.agreement(counts.table(name) for name in TITLES)
