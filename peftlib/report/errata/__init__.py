"""What the papers print twice, or print and let one recompute: averages, percentages, differences, ratios.

Every row is one printed number (or comparison) of a paper beside the same recomputed from the paper's own CSV files, with
what follows for its conclusions where the two disagree. Nothing here uses a run of ours.
"""

from peftlib.report.errata.adaptbert import adaptbert_errata
from peftlib.report.errata.compacter import compacter_errata

__all__ = ["adaptbert_errata", "compacter_errata"]
