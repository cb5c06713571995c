"""What an errata table is made of."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

COLUMNS = ["item", "where", "printed", "recomputed", "agrees", "consequence"]


def row(item: str, where: str, printed: object, recomputed: object, agrees: bool, consequence: str = "") -> dict:
    """One printed number or comparison. A consequence is kept only where the numbers disagree."""
    return dict(zip(COLUMNS, (item, where, str(printed), str(recomputed), bool(agrees), "" if agrees else consequence),
                    strict=True))


def as_table(parts: Iterable[Iterable[dict]]) -> pd.DataFrame:
    """Rows of several parts as one table."""
    return pd.DataFrame([one for part in parts for one in part], columns=COLUMNS)
