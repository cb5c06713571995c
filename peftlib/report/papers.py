"""The papers' own numbers, for notebooks; `peftlib.papers` reads them, so that accounting needs no notebook packages."""

from peftlib.papers import paper_table, papers

__all__ = ["paper_table", "papers"]
