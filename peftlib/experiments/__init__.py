"""The grids of runs behind the book's tables and figures, a module a paper; rows have the papers' names.

Importing it fills `peftlib.study.EXPERIMENTS`: the methods' own page first, then paper by paper. A run that several
experiments share is trained by the first.
"""

from peftlib.experiments import adaptbert, compacter, methods, survey

__all__ = ["adaptbert", "compacter", "methods", "survey"]
