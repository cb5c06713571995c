"""One folder a paper: its printed numbers, the runs behind its tables, what it counts, claims and prints twice.

``peftlib/papers/<paper>/`` and ``notebooks/<paper>/`` are all that a paper is. The rest of the library names no paper: it
finds what these folders hold. ``paper.toml`` says what it is (`About`); ``numbers/*.csv`` are its tables (columns: see
README.md beside this file); of the modules, each of which a paper may lack,

``experiments``   registers the runs behind its tables with `peftlib.grids.experiment`
``counts``        ``COUNTED``: tables that need no training, by name; ``of_method``: what it prints of one method's size
``errata``        ``errata()``: all that it prints and that can be recomputed, as `peftlib.report.arithmetic` has it
``checks``        ``CLAIMS``: what decides each of its claims, as `peftlib.report.verdicts` has it
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd

from peftlib.errors import DataError, UsageError

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class About:
    """What a paper is. backbone: the one that it trains, in words; backbones: how names of it begin here. suites: are its
    scores those of GLUE and SuperGLUE, on test splits?"""

    title: str
    backbone: str
    backbones: tuple[str, ...]
    suites: bool


def papers() -> list[str]:
    """Short names of the papers that have a folder."""
    return sorted(path.parent.name for path in FOLDER.glob("*/paper.toml"))


def about(paper: str) -> About:
    """What a paper's ``paper.toml`` says.

    Raises:
        UsageError: no such paper; names the known ones.
    """
    text = (FOLDER / _known(papers(), paper, "paper") / "paper.toml").read_text(encoding="utf-8")
    fields = tomllib.loads(text)
    return About(**fields | {"backbones": tuple(fields["backbones"])})


def part(paper: str, name: str) -> ModuleType | None:
    """A module of a paper, ``experiments`` or ``checks``; None where the paper has none.

    Raises:
        UsageError: no such paper; names the known ones.
    """
    module = f"{__name__}.{_known(papers(), paper, 'paper')}.{name}"
    return importlib.import_module(module) if importlib.util.find_spec(module) else None


def tables(paper: str) -> list[str]:
    """Names of a paper's files of numbers: ``table1`` ..., ``figures``, ``statements``, ``claims``, ``counts``."""
    return sorted(path.stem for path in (FOLDER / paper / "numbers").glob("*.csv"))


def _known(names: list[str], name: str, what: str) -> str:
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"no {what} {name!r}{hint} Known: {', '.join(names)}")


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
    home = FOLDER / _known(papers(), paper, "paper") / "numbers"
    path = home / f"{_known(tables(paper), table, f'table of {paper}')}.csv"
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


def rounds_to(value: float, printed: str) -> bool:
    """Does a number round to a printed one, at the digits that it is printed with? Halves may go either way."""
    number = printed.strip("%+")
    half = 0.5 * 10.0 ** -len(number.partition(".")[2])
    return abs(value - float(number)) <= half * (1 + 1e-9)
