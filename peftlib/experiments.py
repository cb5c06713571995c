"""The grids of runs behind the book's tables and figures. Importing it fills `peftlib.study.EXPERIMENTS`: the comparison
of all methods first, then paper by paper. A run that several experiments share is trained by the first.
"""

from peftlib import comparison, papers

for _paper in papers.papers():
    papers.part(_paper, "experiments")

__all__ = ["comparison"]
