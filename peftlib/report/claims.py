"""The file of a paper's claims, ``peftlib/papers/<paper>/claims.toml``, read and checked."""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from peftlib import grids
from peftlib.errors import UsageError, short
from peftlib.report.conditions import Case, Condition, Found, Names, Vocabulary, extreme_of, listed
from peftlib.report.evidence import Rows
from peftlib.report.relations import RELATIONS, alike, as_printed, compare, grows
from peftlib.schema import conform, near

SHARE = re.compile(r"\d+(\.\d+)?%")


@dataclass(frozen=True)
class Claim:
    """One block of a file: says is the sentence in our words.

    tables: what its conditions look at, where they do not say so themselves. holds: the conditions, all of which must hold.
    repeats: the claim whose verdict is this one's, too. untestable: why nothing here decides it. counted: do our counts
    decide it, whatever was printed or trained?
    """

    id: str
    section: str
    says: str
    tables: str | tuple[str, ...] = ()
    holds: tuple[Condition, ...] = ()
    repeats: str = ""
    untestable: str = ""
    counted: bool = False


@dataclass(frozen=True)
class File:
    """A file of claims. rows, columns, within: as `Vocabulary` has them."""

    claim: tuple[Claim, ...]
    columns: dict[str, str]
    rows: dict[str, str | tuple[str, ...]] = field(default_factory=dict)
    within: dict[str, float | str] = field(default_factory=dict)


def read(
    path: Path,
    statements: Mapping[str, tuple[float, str]],
    relations: Mapping[str, Callable[[Case], Found]],
    tables: Mapping[str, Rows],
) -> tuple[Vocabulary, dict[str, Claim]]:
    """A file of claims, each of them checked: what they may name, and the claims by id.

    Args:
        statements: (number, text) by id. relations: by name. tables: those whose rows are known, by name.

    Raises:
        UsageError: it is no such file, or names what is not there; says the file, the claim, the name, what there is.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as TOML ({error})") from error
    blocks = content.get("claim")
    for block in blocks if isinstance(blocks, list) else ():
        if isinstance(block, dict):
            conform(block, Claim, f"{path}, claim {short(block.get('id'))}: ")
    file = conform(content, File, f"{path}: ")
    names = Vocabulary(
        {name: listed(rows) for name, rows in file.rows.items()}, file.columns, file.within, statements, relations
    )
    _vocabulary_is_sound(names, tables, f"{path}")
    for claim in file.claim:
        where, others = f"{path}, claim {claim.id!r}", [other for other in file.claim if other is not claim]
        if claim.id in [other.id for other in others]:
            raise UsageError(f"{where}: stands there twice")
        if [bool(claim.holds), bool(claim.repeats), bool(claim.untestable)].count(True) != 1:
            raise UsageError(f"{where}: needs one of holds (conditions), repeats (another claim), untestable (the reason)")
        _known(where, "claim to repeat", claim.repeats, [other.id for other in others if other.holds])
        for condition in claim.holds:
            used = listed(condition.tables) or listed(claim.tables)
            for one in (condition, *condition.where):
                _condition_is_sound(one, listed(one.tables) or used, names, tables, where)
    return names, {claim.id: claim for claim in file.claim}


def _vocabulary_is_sound(names: Vocabulary, tables: Mapping[str, Rows], where: str) -> None:
    """Can columns be written, are tolerances numbers, and are the rows of groups rows of a table?"""
    for column, form in names.columns.items():
        try:
            form.format(1.0)
        except (ValueError, LookupError) as error:
            raise UsageError(f"{where}: columns.{column}: expected '{{:.2f}}' or the like, got {short(form)}") from error
    for name, within in names.within.items():
        if isinstance(within, str) and not SHARE.fullmatch(within):
            raise UsageError(f"{where}: within.{name}: expected a number or a share such as '1%', got {short(within)}")
    every = [label for rows in tables.values() for label in rows.labels]
    before: dict[str, tuple[str, ...]] = {}
    for group, rows in names.rows.items():
        for name in strangers(rows, every, before):
            _known(f"{where}: rows.{group}", "row of any table, and no group before this one,", name, every)
        before[group] = rows


def _condition_is_sound(
    one: Condition, used: tuple[str, ...], names: Vocabulary, tables: Mapping[str, Rows], where: str
) -> None:
    """Is all there that a condition needs and names?"""
    _known(where, "relation", one.relation, names.relations)
    if wrong := next(_lacks(one, used, names), None):
        raise UsageError(f"{where}: {one.relation!r} {wrong}")
    for column in (*listed(one.columns), one.along, one.chosen_by):
        _known(where, "column", column, names.columns)
    for told in listed(one.show):
        _known(where, "column to show", told.partition(" of ")[0], ["relative", *names.columns])
    if isinstance(one.value, str):
        _known(where, "statement", one.value, names.statements)
    if isinstance(one.within, str) and not SHARE.fullmatch(one.within):
        _known(where, "tolerance", one.within, ["margin", *names.within, *names.statements])
    for table in (*used, one.other_table, *(told.partition(" of ")[2] for told in listed(one.show))):
        _known(where, "table or experiment", table, [*tables, *grids.experiments()])
    other = (one.other_table,) if one.other_table else used
    for table, rows in [
        *((name, spec) for name in used for spec in (one.rows, one.among)),
        *((name, spec) for name in other for spec in (one.than, one.of)),
    ]:
        labels = tables[table].labels if table in tables else [run.label for run in grids.runs(table, "published")]
        for name in strangers(rows, labels, names.rows):
            _known(where, f"row of {table}", name, [*names.rows, *dict.fromkeys(labels)])


def _lacks(one: Condition, used: tuple[str, ...], names: Vocabulary) -> Iterator[str]:
    """What is wrong with a condition whose names may all be right."""
    general, itself = RELATIONS.get(one.relation), "itself" in (one.than, one.of)
    alike_ends = one.than.endswith("*") and not extreme_of(one.than)
    if general and not used:
        yield "needs tables"
    if general is compare and bool(one.than) == (one.value is not None):
        yield "needs one of than (a row) and value (a number, or a statement's id)"
    if one.than in names.rows:
        yield f"is about one row: than = 'best of {one.than}', or worst, highest, lowest"
    if alike_ends and not (isinstance(one.rows, str) and one.rows.endswith("*")):
        yield f"needs rows that end in *, as {one.than!r} does"
    if itself and not one.other_table:
        yield "of a row with itself needs other_table"
    if general is as_printed and not isinstance(one.value, str):
        yield "needs value, the id of a statement"
    if general is grows and not one.along:
        yield "needs along, a column"
    if general in (grows, alike) and len(used) * len(listed(one.columns)) != 1:
        yield "is about one table and one column"
    if bool(one.measure) != bool(one.of):
        yield "needs both of measure and of, or none"
    if one.place < 1:
        yield "has a place below 1"


def _known(where: str, what: str, name: str, there: Collection[str]) -> None:
    if name and name not in there:
        known = textwrap.shorten(", ".join(there), 400, placeholder=" ...")
        raise UsageError(f"{where}: no {what} {short(name)}{near(name, there)}; there is {known}")


def strangers(rows: Names, labels: Collection[str], groups: Collection[str]) -> list[str]:
    """Names in a specification of rows that are neither groups nor rows of a table."""
    found = []
    for name in filter(None, listed(rows)):
        plain = extreme_of(name) or name.removeprefix("!")
        begins = plain.endswith("*") and any(label.startswith(plain[:-1]) for label in labels)
        if not (plain in groups or plain in labels or begins or plain == "itself"):
            found.append(plain)
    return found
