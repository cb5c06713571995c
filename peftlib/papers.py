"""The papers' own numbers: data/papers/<paper>/<table>.csv (see data/papers/README.md for the columns)."""

from __future__ import annotations

import difflib
from pathlib import Path

import pandas as pd

from peftlib import records
from peftlib.errors import DataError, UsageError

BESIDE_THE_PACKAGE = Path(__file__).resolve().parents[1]


def folder() -> Path:
    """The folder with one folder a paper: in the project's root, else beside the package."""
    for root in (records.root(), BESIDE_THE_PACKAGE):
        if (root / "data" / "papers").is_dir():
            return root / "data" / "papers"
    raise DataError(f"no data/papers in {records.root()}: work in a clone of the project, or set PEFTLIB_ROOT")


def _known(names: list[str], name: str, what: str) -> str:
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"no {what} {name!r}{hint} Known: {', '.join(names)}")


def papers() -> list[str]:
    """Short names of the papers whose numbers are here."""
    return sorted(p.name for p in folder().iterdir() if p.is_dir())


def paper_table(paper: str, table: str) -> pd.DataFrame:
    """One file of a paper's numbers, rows in the paper's order.

    Columns that end in ``printed`` are text, just as printed; so are names and sections. The others are numbers.

    Args:
        paper: short name, ``adaptbert``.
        table: ``table1`` ..., ``figures``, ``statements`` or ``claims``.

    Raises:
        UsageError: no such paper or table; names the known ones.
        DataError: a file that is no such table.
    """
    home = folder() / _known(papers(), paper, "paper")
    path = home / f"{_known(sorted(p.stem for p in home.glob('*.csv')), table, f'table of {paper}')}.csv"
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error
    for name in frame.columns:
        if not name.endswith("printed") and name != "section":
            values = pd.to_numeric(frame[name].replace("", None), errors="coerce")
            if values.notna().sum() == (frame[name] != "").sum() > 0:
                frame[name] = values
    return frame
