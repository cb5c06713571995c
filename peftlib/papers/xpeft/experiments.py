"""X-PEFT: the runs behind its figures, and what goes beyond them."""

from __future__ import annotations

from peftlib.papers.xpeft import users  # noqa: F401  (registers)
