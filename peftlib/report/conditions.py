"""What a claim compares: conditions over rows and columns of tables, and the numbers that they mean.

README.md of `peftlib.papers` shows how a paper's ``claims.toml`` declares them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from peftlib.report.evidence import Evidence, Unknown, Unlearned
from peftlib.report.uncertainty import Number, Odds, exact, interval, is_exact, settle, together

Names = str | tuple[str, ...]
EXTREMES: dict[str, Callable] = {"best": max, "highest": max, "worst": min, "lowest": min}
# Measure: the number from a row's own and the other's, how the words begin, and how it is written.
MEASURES: dict[str, tuple[Callable[[Number, Number], Number], str, str]] = {
    "factor": (lambda own, other: own / other, "{column} over {of}'s", "{:.4g}"),
    "percent": (lambda own, other: 100 * own / other, "{column} in percent of {of}'s", "{:.1f}%"),
    "change": (lambda own, other: 100 * (own / other - 1), "change of {column} from {of}'s", "{:+.1f}%"),
    "above": (lambda own, other: own - other, "{column} above {of}'s", "{:+.2f}"),
    "below": (lambda own, other: other - own, "{column} below {of}'s", "{:.2f}"),
}


def listed(names: Names) -> tuple[str, ...]:
    """One name or several, as several."""
    return (names,) if isinstance(names, str) else tuple(names)


def extreme_of(name: str) -> str:
    """ "earlier methods" of "best of earlier methods", nothing of another name."""
    word, _, group = name.partition(" of ")
    return group if word in EXTREMES else ""


@dataclass(frozen=True)
class Found:
    """What was found of a condition. odds: of its comparisons, all of which must hold, or `some`. said: the numbers that
    say so. seen: the smallest difference that these numbers could have shown, in words; nothing where they are exact."""

    odds: tuple[Odds, ...]
    said: str
    some: bool = False
    seen: str = ""


def conclude(found: Sequence[Found]) -> bool | None:
    """Does all hold that a claim consists of? None: it is neither shown to hold nor shown to fail."""
    settled = iter(settle([one for part in found for one in part.odds]))
    return together([together([next(settled) for _ in part.odds], part.some) for part in found])


# --- a condition, and what it is looked up in -------------------------------------------------------------------------
@dataclass(frozen=True)
class Condition:
    """What is compared, by which relation.

    relation: one of `peftlib.report.relations`, or a function of the paper's own.
    rows: as `Case.labels` reads them. columns: a number a row, each. tables: experiments, or other tables of the evidence;
    the claim's, if none are named here.
    than: the row to compare with; "itself", the same row of `other_table`; "Adapter*" with rows "Hypernet*", the row that
    ends alike. value: the number to compare with instead, or the id of the statement that prints it.
    within: how far off still counts: a number, a share ("1%"), a tolerance of the file, a statement's id. Without it, words
    about scores take the paper's margin, words about amounts nothing.
    measure, of: a number is told as what it is to that of the row `of` (in `other_table`, if there is one).
    among: the rows that a highest or lowest one is looked for in. place: 2 for the second.
    along: the column that something grows with. chosen_by: the column by which "best of" chooses its row.
    where: which of the rows are meant: those for which all this holds. some: does one row or column suffice?
    show: what is told beside: a column, "trained of counts/table1", or "relative": how far off a score is as a share.
    """

    relation: str
    rows: Names = "*"
    columns: Names = "average"
    tables: Names = ()
    than: str = ""
    other_table: str = ""
    value: float | str | None = None
    within: float | str | None = None
    measure: Literal["", "factor", "percent", "change", "above", "below"] = ""
    of: str = ""
    among: Names = "*"
    place: int = 1
    along: str = ""
    chosen_by: str = ""
    where: tuple[Condition, ...] = ()
    some: bool = False
    show: Names = ()

    def said(self) -> str:
        """The relation, in a sentence."""
        return {"more": "more than", "less": "less than"}.get(self.relation, self.relation)


@dataclass(frozen=True)
class Vocabulary:
    """What the conditions of a paper may name. rows: groups of labels; columns: how their numbers are written; within:
    tolerances; statements: (number, text) of what the paper prints in sentences, by id; relations: all, by name, those of
    its own included."""

    rows: Mapping[str, tuple[str, ...]]
    columns: Mapping[str, str]
    within: Mapping[str, float | str]
    statements: Mapping[str, tuple[float, str]]
    relations: Mapping[str, Callable[[Case], Found]]


@dataclass(frozen=True)
class Case:
    """A condition before the evidence."""

    condition: Condition
    tables: tuple[str, ...]
    evidence: Evidence
    names: Vocabulary

    def labels(self, table: str, rows: Names, column: str) -> list[str]:
        """Rows of a table: labels, names of groups, "Compacter*" for all that begin so, "!Adapter" to leave out again what
        stands before, "best of earlier methods" (or worst, highest, lowest) for one of several."""
        there, found = self.evidence.rows(table), []
        for name in listed(rows):
            if name in self.names.rows:
                found += self.labels(table, self.names.rows[name], column)
            elif group := extreme_of(name):
                by = self.condition.chosen_by or column
                numbers = {label: there.choice(label, by) for label in there.column(self.labels(table, group, by), by)}
                found.append(EXTREMES[name.split()[0]](numbers, key=numbers.__getitem__))
            elif name.startswith("!"):
                left_out = self.labels(table, name[1:], column)
                found = [label for label in found if label not in left_out]
            elif name.endswith("*"):
                found += [label for label in there.labels if label.startswith(name[:-1])]
            else:
                found.append(name)
        return list(dict.fromkeys(found))

    def value(self, table: str, label: str, column: str) -> Number:
        """A row's number, measured as the condition says."""
        own, ask = self.evidence.rows(table).of(label, column), self.condition
        if not ask.measure:
            return own
        of = label if ask.of == "itself" else ask.of
        return MEASURES[ask.measure][0](own, self.evidence.rows(ask.other_table or table).of(of, column))

    def values(self, table: str, rows: Names, column: str) -> dict[str, Number]:
        """Such numbers by label, those of rows apart that did not learn (`lost`). Raises `Unknown` if one is not there, or
        no row at all; `Unlearned` if no row learned."""
        labels = self.labels(table, rows, column)
        if not labels:
            raise Unknown(table)
        lost = self.lost(table, rows, column)
        found = {
            label: self.value(table, label, column) for label in labels if label not in lost and self.meant(table, label)
        }
        if lost and not found:
            first = next(iter(lost))
            raise Unlearned(f"{self.called(table, first)} of {self.evidence.rows(table).name} {lost[first]}")
        return found

    def lost(self, table: str, rows: Names, column: str) -> dict[str, str]:
        """The rows meant whose numbers decide nothing, and why (`peftlib.report.evidence.Rows.gone`)."""
        there = self.evidence.rows(table)
        gone = {label: there.gone(label, column) for label in self.labels(table, rows, column)}
        return {label: reason for label, reason in gone.items() if reason and self.meant(table, label)}

    def without(self, table: str, rows: Names, column: str) -> str:
        """Words for them; nothing if there are none."""
        return self.told_of(table, self.lost(table, rows, column))

    def told_of(self, table: str, lost: Mapping[str, str]) -> str:
        """Words for rows that decide nothing, of `lost`; nothing if there are none."""
        by_reason: dict[str, list[str]] = {}
        for label, reason in lost.items():
            by_reason.setdefault(reason, []).append(self.called(table, label))
        return "".join(f"; {', '.join(labels)} {reason}" for reason, labels in by_reason.items())

    def left_open(self, table: str, column: str) -> dict[str, str]:
        """Of the rows that "best of" looks for the best in: those whose rate was chosen by chance, which at another rate
        might be better than the best of the others."""
        there, group = self.evidence.rows(table), extreme_of(self.condition.than)
        lost = self.lost(table, group, column) if group else {}
        return {label: reason for label, reason in lost.items() if label in there.by_chance}

    def called(self, table: str, label: str) -> str:
        """A row as tables name it."""
        return self.evidence.rows(table).called(label)

    def meant(self, table: str, label: str) -> bool:
        """Does what is asked under ``where`` hold for a row?"""
        return all(
            conclude([replace(self, condition=replace(only, rows=label), tables=listed(only.tables) or (table,)).found()])
            for only in self.condition.where
        )

    def looks(self) -> list[tuple[str, str]]:
        """Tables and columns that are looked at."""
        return [(table, column) for table in self.tables for column in listed(self.condition.columns)]

    def other(self, table: str, label: str, column: str) -> tuple[str, Number]:
        """The row that a row is compared with, and its number; or the words for a number, and that."""
        ask = self.condition
        if isinstance(ask.value, str):
            number, printed = self.names.statements[ask.value]
            return f"printed {printed}", exact(abs(number) if ask.measure == "below" else number)
        if ask.value is not None:
            return f"claimed: {ask.said()} {ask.value:g}", exact(ask.value)
        there, than = ask.other_table or table, ask.than
        if than == "itself":
            than = label
        elif than.endswith("*") and not extreme_of(than):
            than = than[:-1] + label[len(str(ask.rows)) - 1 :]
        (found,) = self.labels(there, than, column)
        return found, self.value(there, found, column)

    def written(self, column: str, value: float, sign: bool = False) -> str:
        """A number as its column or measure writes it."""
        form = MEASURES[self.condition.measure][2] if self.condition.measure else self.names.columns[column]
        if form.endswith("g}") and abs(value) >= 1e4:
            form = "{:,.0f}"  # and no exponent
        return form.replace("{:", "{:+").replace("++", "+").format(value) if sign else form.format(value)

    def ends(self, column: str, value: Number, sign: bool = False) -> str:
        """A number's interval, nothing of one that is exact."""
        if is_exact(value):
            return ""
        low, high = (self.written(column, end, sign) for end in interval(value))
        return f" [{low}, {high}]"

    def what(self, table: str, column: str) -> str:
        """What is told of rows."""
        ask = self.condition
        if "itself" in (ask.than, ask.of):
            return f"{column} of {self.evidence.rows(table).name} less that of {self.evidence.rows(ask.other_table).name}"
        said = column.replace("_", " ")
        of = self.called(self.condition.other_table or table, ask.of)
        return MEASURES[ask.measure][1].format(column=said, of=of) if ask.measure else said

    def beside(self, table: str, label: str) -> str:
        """What is told beside a row's number."""
        asked = [name.partition(" of ") for name in listed(self.condition.show) if name != "relative"]
        numbers = [(name, float(self.evidence.rows(other or table).of(label, name)[0])) for name, _, other in asked]
        return "".join(f" at {self.names.columns[name].format(number)} {name}" for name, number in numbers)

    def tell(self, table: str, text: str) -> str:
        """A sentence about a table, with what must be said of the table."""
        rows = self.evidence.rows(table)
        text = f"{rows.name}, {text}" if len(self.tables) > 1 else text
        if not rows.setting:
            return text
        return f"{text[:-1]}; {rows.setting})" if text.endswith(")") else f"{text} ({rows.setting})"

    def found(self) -> Found:
        """Does it hold, and the numbers that say so."""
        return self.names.relations[self.condition.relation](self)
