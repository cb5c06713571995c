"""Compacter's claims: the abstract, sections 1, 5.2 to 5.6 and 7, appendices B to E."""

from peftlib.papers.compacter.checks import cost, parameters, scores, settings  # noqa: F401 (fill CLAIMS)
from peftlib.papers.compacter.checks.claims import CLAIMS
from peftlib.papers.compacter.checks.evidence import from_paper, from_records

__all__ = ["CLAIMS", "from_paper", "from_records"]
