"""What Compacter's claims are checked against, and the relations that they alone need."""

from peftlib.papers.compacter.checks.evidence import from_paper, from_records
from peftlib.papers.compacter.checks.own import CLAIMS

__all__ = ["CLAIMS", "from_paper", "from_records"]
