"""Parameters, memory and compute: counted, measured, and estimated without weights."""

from __future__ import annotations

BERT = "bert-base-uncased"
