"""One folder a paper: its printed numbers, the runs behind its tables, what it counts, claims and prints twice.

``peftlib/papers/<paper>/`` and ``notebooks/<paper>/`` are all that a paper is. The rest of the library names no paper: it
finds what these folders hold. ``paper.toml`` says what it is (`About`); ``numbers/*.csv`` are its tables (columns: see
README.md beside this file); ``tables.toml`` says what those of scores are (`peftlib.report.declared`); ``presets.json`` is
what the presets change for it (`peftlib.grids.presets`); ``claims.toml`` is what it concludes (`peftlib.report.claims`); of
the modules, each of which a paper may lack,

``experiments``   registers the runs behind its tables with `peftlib.grids.experiment`
``counts``        ``COUNTED``: tables that need no training, by name; ``of_method``: what it prints of one method's size
``errata``        ``FUNCTIONS``: what formulas of ``errata.toml`` may call
``checks``        ``CLAIMS``: what its claims are checked against, as `peftlib.report.verdicts` has it

``errata.toml``, if it has one, recomputes what it prints from what else it prints (`peftlib.report.arithmetic`);
``claims.toml`` lists what it claims, and what decides it (`peftlib.report.relations`).
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd

from peftlib.errors import DataError, UsageError, short

FOLDER = Path(__file__).resolve().parent
_NUMBER = re.compile(r"≈?\s*([-−+]?(?:\d[\d,]*)?\.?\d+)(?:e([-+]?\d{1,2}))?\s*(%|×1|×|x|K|M|B)?")
_POWERS = {"K": 3, "M": 6, "B": 9}


@dataclass(frozen=True)
class About:
    """What a paper is. backbone: the one that it trains, in words; backbones: how names of it begin here. suites: are its
    scores those of GLUE and SuperGLUE, on test splits? margin: how far apart two scores of its tables may be, in the
    tables' unit, and still be on par, declared before ours were looked at; margin_from: why so much. headlines: ids of the
    claims that matter most, in order; the book's first page tells the first of them that are decided."""

    title: str
    backbone: str
    backbones: tuple[str, ...]
    suites: bool
    margin: float | None = None
    margin_from: str = ""
    headlines: tuple[str, ...] = ()


def papers() -> list[str]:
    """Short names of the papers that have a folder."""
    return sorted(path.parent.name for path in FOLDER.glob("*/paper.toml"))


def about(paper: str) -> About:
    """What a paper's ``paper.toml`` says.

    Raises:
        UsageError: no such paper; names the known ones.
    """
    text = (FOLDER / known(papers(), paper, "paper") / "paper.toml").read_text(encoding="utf-8")
    fields = tomllib.loads(text)
    # No other lines for the sake of a hint: all counts that are kept rest on this file's code.
    return About(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})  # type: ignore[arg-type]  # as its file says


def part(paper: str, name: str) -> ModuleType | None:
    """A module of a paper, ``experiments`` or ``checks``; None where the paper has none.

    Raises:
        UsageError: no such paper; names the known ones.
    """
    module = f"{__name__}.{known(papers(), paper, 'paper')}.{name}"
    return importlib.import_module(module) if importlib.util.find_spec(module) else None


def tables(paper: str) -> list[str]:
    """Names of a paper's files of numbers: ``table1`` ..., ``figures``, ``statements``, ``counts``."""
    return sorted(path.stem for path in (FOLDER / paper / "numbers").glob("*.csv"))


def known(names: Collection[str], name: str, what: str) -> str:
    """The name, if it is one of these.

    Raises:
        UsageError: it is none; names the nearest and all.
    """
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"no {what} {short(name)}{hint or '.'} Known: {', '.join(names)}")


def paper_table(paper: str, table: str) -> pd.DataFrame:
    """One file of a paper's numbers, rows in the paper's order.

    Columns that end in ``printed`` are text, just as printed; so are names and sections. The others are numbers.

    Args:
        paper: short name, ``adaptbert``.
        table: ``table1`` ..., ``figures`` or ``statements``.

    Raises:
        UsageError: no such paper or table; names the known ones.
        DataError: a file that is no such table.
    """
    home = FOLDER / known(papers(), paper, "paper") / "numbers"
    return _numbers(home / f"{known(tables(paper), table, f'table of {paper}')}.csv").copy()  # for whoever changes it


@functools.cache
def _numbers(path: Path) -> pd.DataFrame:
    frame = read_table(path)
    for name in frame.columns:
        if not name.endswith("printed") and name != "section":
            values = pd.to_numeric(frame[name].replace("", None), errors="coerce")
            if values.notna().sum() == (frame[name] != "").sum() > 0:
                frame[name] = values
    return frame


def read_table(path: Path) -> pd.DataFrame:
    """One file of numbers, every cell as the text that it is.

    Raises:
        DataError: a file that is no such table.
    """
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error


def number(printed: str) -> tuple[float, float] | None:
    """A printed number, and half a unit of its last digit: ``-35.45%``, ``8.0×1``, ``10,000``, ``+200%``, ``3x``, ``1e-5``,
    ``88.5M``. None for any other text.
    """
    found = _NUMBER.fullmatch(printed.strip())
    if not found:
        return None
    digits, power, unit = found.groups()
    scale = 10.0 ** (int(power or 0) + _POWERS.get(unit, 0))
    digits = digits.replace(",", "").replace("−", "-")
    return float(digits) * scale if scale != 1 else float(digits), 0.5 * 10.0 ** -len(digits.partition(".")[2]) * scale


def rounds_to(value: float, printed: str) -> bool:
    """Does a number round to a printed one, at the digits that it is printed with? Halves may go either way.

    Raises:
        DataError: what is printed is no number.
    """
    read = number(printed)
    if read is None:
        raise DataError(f"{short(printed)} is no printed number such as '-35.45%', '8.0×1' or '10,000'")
    return abs(value - read[0]) <= read[1] * (1 + 1e-9)
