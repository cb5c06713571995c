"""Compacter's claims: the abstract, sections 1, 5.2 to 5.6 and 7, appendices B to E."""

from peftlib.report.verdicts.compacter import cost, parameters, scores, settings  # noqa: F401 (fill CLAIMS)
from peftlib.report.verdicts.compacter.claims import CLAIMS
from peftlib.report.verdicts.compacter.evidence import from_paper, from_records

__all__ = ["CLAIMS", "from_paper", "from_records"]
