"""The papers' own numbers, for notebooks; read by `peftlib.papers`, which accounting uses without a notebook's packages."""

from peftlib.papers import paper_table, papers

__all__ = ["paper_table", "papers"]
