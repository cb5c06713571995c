"""What every method says of itself: a class's ``about``. It is read from the sources, for importing them would bring torch.

``about`` is a table of plain values in the body of the class, with the names of `About`. It is no part of what a run rests
on (`peftlib.closure`): a figure's colour makes no record stale.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peftlib import expressions
from peftlib.errors import UsageError
from peftlib.schema import conform

PACKAGE = Path(__file__).parent
# The survey's order of its branches, sections 5 to 10; what belongs to none, the two ends of the scale, comes first.
BRANCHES = ("methods", "adapters", "soft_prompts", "additive", "selective", "reparametrized", "hybrid", "multitask")

Color = Literal["grey", "blue", "orange", "green", "vermillion", "purple", "sky"]
Marker = Literal[
    ".", "o", "v", "^", "<", ">", "8", "s", "p", "P", "*", "h", "H", "+", "x", "X", "D", "d", "1", "2", "3", "4"
]


@dataclass(frozen=True)
class About:
    """The names of ``about``.

    name: what figures call the method. color, marker: in all figures, no two methods have the same pair. line: matplotlib's
    style, or lengths of dashes and gaps in points. row: hyperparameters of its row in the comparison of all methods and of
    its page's run; None if it has none. example: the expression that its page shows how to use, if not that of its row.
    small: hyperparameters that suit a backbone of width 32 and two blocks, for tests. drawn: does the seed decide where it
    starts? rates: times the grid on which learning rates are searched; what trains every weight takes smaller steps, a
    prompt larger ones. start: the method of the run that it begins from, if it cannot begin by itself; start_on: that run
    is on the "own" tasks or on all "others" of their suite, or there is one on "each" of them. peft, adapters: what the two
    libraries call it, empty if they lack it.
    """

    name: str
    color: Color
    marker: Marker
    line: Literal["-", "--", "-.", ":"] | tuple[int, ...] = "-"
    row: str | None = ""
    example: str | None = None
    small: str = ""
    drawn: bool = True
    rates: float = 1.0
    start: str = ""
    start_on: Literal["own", "each", "others"] = "own"
    peft: str = ""
    adapters: str = ""


@dataclass(frozen=True)
class Entry:
    """A method as it stands in the sources. file: from the package's folder."""

    method: str
    file: str
    about: About

    @property
    def row(self) -> str | None:
        """The expression that the comparison trains."""
        return None if self.about.row is None else f"{self.method}({self.about.row})"

    @property
    def small(self) -> str:
        """The expression that tests build."""
        return f"{self.method}({self.about.small})"

    @property
    def example(self) -> str | None:
        """The expression that its page shows how to use."""
        return self.about.example or self.row


@functools.cache
def methods() -> dict[str, Entry]:
    """Every method by its class's name, branch by branch in the survey's order, in a branch by file.

    Raises:
        UsageError: of `read`.
    """
    return read(PACKAGE)


def read(package: Path) -> dict[str, Entry]:
    """The methods of a folder that holds the package's sources, see `methods`.

    Raises:
        UsageError: an ``about`` that is no table of plain values, lacks a name, has one too many or a value of the wrong
            kind; an expression that cannot be read, or is of another method; a colour and marker that two methods have.
            Names the file and the class.
    """
    found: dict[str, Entry] = {}
    owners: dict[tuple[str, str], str] = {}
    for path in sorted((package / "methods").rglob("*.py"), key=_place):
        file = path.relative_to(package).as_posix()
        for name, node in _abouts(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"peftlib/{file}: class {name}: about"
            entry = Entry(name, file, conform(_plain(node, where), About, f"{where}: "))
            _check(entry, where)
            look = (entry.about.color, entry.about.marker)
            if look in owners:
                raise UsageError(
                    f"{where}: color {look[0]!r} with marker {look[1]!r} is what {owners[look]} looks like already: "
                    "choose another pair"
                )
            owners[look] = name
            found[name] = entry
    return found


def _place(path: Path) -> tuple[int, str]:
    branch = path.parent.name
    return BRANCHES.index(branch) if branch in BRANCHES else len(BRANCHES), path.as_posix()


def _abouts(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """(class, value) of every ``about = ...`` in the body of a class."""
    for owner in tree.body:
        for line in owner.body if isinstance(owner, ast.ClassDef) else []:
            if isinstance(line, ast.Assign) and [ast.unparse(target) for target in line.targets] == ["about"]:
                yield owner.name, line.value  # type: ignore[attr-defined]  # of a class


def _plain(node: ast.expr, where: str) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        raise UsageError(
            f"{where}: {ast.unparse(node)[:80]!r} is read without being run: expected a table of plain values, "
            '{"name": "...", "color": "...", "marker": "..."}'
        ) from None


def _check(entry: Entry, where: str) -> None:
    """Refuse expressions that cannot be read."""
    for field in ("row", "example", "small"):
        expression = getattr(entry, field)
        try:
            known = expression is None or entry.method in expressions.names(expression)
        except UsageError as error:
            raise UsageError(f"{where}: {field}: {error}") from error
        if not known:
            raise UsageError(f"{where}: {field}: {expression!r} has no {entry.method}: expected an expression that uses it")
