"""Files of a paper's claims that cannot be used."""

from __future__ import annotations

from pathlib import Path

from peftlib.report import claims
from peftlib.report.evidence import Rows
from peftlib.report.relations import RELATIONS
from tries import Try

TOY = """
[columns]
average = "{:.1f}"
size = "{:.0f}"

[within]
narrow = 0.5

[rows]
small = ["A", "B"]
others = ["*", "!small"]

[[claim]]
id = "C1"
section = "1"
says = "A is better than C."
tables = "toy/table1"
holds = [
    { rows = "A", relation = "better", than = "C" },
]

[[claim]]
id = "C2"
section = "2"
says = "As I said."
repeats = "C1"

[[claim]]
id = "C3"
section = "2"
says = "It will be so for ever."
untestable = "no run takes that long"
"""
TABLE = Rows(
    "toy/table1",
    {"A": {"average": 3.0, "size": 10.0}, "B": {"average": 2.0, "size": 20.0}, "C": {"average": 1.0, "size": 40.0}},
    margin=1.5,
)
STATEMENTS = {"gap": (2.0, "2.0")}


def read(folder: Path, text: str = TOY):
    """What `claims.read` makes of a file."""
    (folder / "claims.toml").write_text(text, encoding="utf-8")
    return claims.read(folder / "claims.toml", STATEMENTS, RELATIONS, {TABLE.name: TABLE})


def broken(given: str, old: str, new: str, *words: str) -> Try:
    """A try with one place of the toy changed."""
    assert TOY.count(old) == 1, old
    return Try("read claims", given, lambda folder: read(folder, TOY.replace(old, new)), ("claims.toml", *words))


TRIES = [
    broken("no TOML", "[columns]", "[columns", "TOML"),
    broken("no columns at all", '[columns]\naverage = "{:.1f}"\nsize = "{:.0f}"\n', "", "lacks columns"),
    broken("claims that are no blocks", "[columns]", "claim = 3\n[columns]", "TOML"),
    broken("a form that writes no number", '"{:.0f}"', '"{:.0q}"', "columns.size", "{:.0q}", "{:.2f}"),
    broken("a group of a row that no table has", '["A", "B"]', '["A", "Bb"]', "rows.small", "'Bb'", "A, B, C"),
    broken("a group that needs itself", '["A", "B"]', '["A", "small"]', "rows.small", "'small'"),
    broken("a claim that stands there twice", 'id = "C2"', 'id = "C1"', "'C1'", "twice"),
    broken("a claim without a sentence", 'says = "As I said."\n', "", "'C2'", "lacks says"),
    broken("a field that no claim has", 'untestable = "no', 'unstable = "no', "'C3'", "'unstable'", "'untestable'"),
    broken("a claim that nothing decides", 'repeats = "C1"', "", "'C2'", "holds", "repeats", "untestable"),
    broken("a claim decided twice", 'repeats = "C1"', 'repeats = "C1"\nuntestable = "no"', "'C2'", "one of"),
    broken("a claim that repeats one that is not there", 'repeats = "C1"', 'repeats = "C7"', "'C2'", "'C7'", "there is C1"),
    broken("a claim that repeats itself", 'repeats = "C1"', 'repeats = "C2"', "'C2'", "claim to repeat", "there is C1"),
    broken("a claim that repeats an untestable one", 'repeats = "C1"', 'repeats = "C3"', "'C3'", "there is C1"),
    broken("an unknown relation", '"better"', '"bettr"', "'C1'", "relation 'bettr'", "did you mean 'better'", "on par"),
    broken("an unknown row", 'rows = "A"', 'rows = "Aa"', "'C1'", "row of toy/table1", "'Aa'", "small, others, A, B, C"),
    broken("an unknown row to compare with", 'than = "C"', 'than = "best of big"', "'C1'", "'big'", "small"),
    broken("a beginning that no row has", 'rows = "A"', 'rows = "D*"', "'C1'", "'D*'"),
    broken("a group to compare with", 'than = "C"', 'than = "small"', "'C1'", "one row", "best of small"),
    broken("nothing to compare with", ', than = "C"', "", "'C1'", "'better'", "than", "value"),
    broken("two things to compare with", 'than = "C"', 'than = "C", value = 1', "'C1'", "one of than"),
    broken("an unknown table", '"toy/table1"', '"toy/tabel1"', "'C1'", "'toy/tabel1'", "did you mean 'toy/table1'"),
    broken("an unknown experiment", '"toy/table1"', '"adaptbert/table33"', "'C1'", "experiment", "adaptbert/table3"),
    broken("an unknown table of the other row", 'than = "C"', 'than = "C", other_table = "t"', "'C1'", "'t'"),
    broken("an unknown column", 'rows = "A"', 'rows = "A", columns = "avarage"', "'C1'", "'avarage'", "average, size"),
    broken("an unknown column to show", 'than = "C"', 'than = "C", show = "sice"', "'C1'", "'sice'", "size"),
    broken("an unknown statement", 'than = "C"', 'value = "gab"', "'C1'", "statement 'gab'", "gap"),
    broken("an unknown tolerance", 'than = "C"', 'than = "C", within = "wide"', "'C1'", "'wide'", "margin, narrow, gap"),
    broken("a measure of no row", 'than = "C"', 'than = "C", measure = "factor"', "'C1'", "measure and of"),
    broken("an unknown measure", 'than = "C"', 'than = "C", measure = "times", of = "A"', "'C1'", "'times'", "'factor'"),
    broken("as printed where nothing is printed", '"better", than = "C"', '"as printed", value = 2.0', "'C1'", "statement"),
    broken("grows with nothing", '"better", than = "C"', '"grows with"', "'C1'", "along"),
    broken("no table", 'tables = "toy/table1"\n', "", "'C1'", "'better' needs tables"),
    broken("a table to show from that is not there", 'than = "C"', 'than = "C", show = "size of t"', "'C1'", "'t'"),
    broken("pairs with a single row", 'than = "C"', 'than = "C*"', "'C1'", "rows that end in *", "'C*'"),
    broken("a row with itself", 'than = "C"', 'than = "itself"', "'C1'", "itself", "other_table"),
    broken(
        "two columns that grow",
        '"better", than = "C"',
        '"grows with", along = "size", columns = ["size", "average"]',
        "'C1'",
        "one table and one column",
    ),
    broken("the zeroth of an order", '"better", than = "C"', '"highest", place = 0', "'C1'", "place below 1"),
    broken("a share that is no number", 'than = "C"', 'than = "C", within = "few%"', "'C1'", "'few%'", "narrow"),
    broken("a tolerance that is no share", "narrow = 0.5", 'narrow = "half"', "within.narrow", "'half'", "1%"),
    broken("a field that no condition has", 'than = "C"', 'then = "C"', "'C1'", "'then'", "did you mean 'than'"),
    broken("a row that is no text", 'rows = "A"', "rows = 3", "'C1'", "rows", "3"),
    broken("an unknown relation under where", 'than = "C"', 'than = "C", where = [{ relation = "so" }]', "'C1'", "'so'"),
    Try(
        "read claims",
        "a file that is not there",
        lambda folder: claims.read(folder / "claims.toml", {}, {}, {}),
        ("claims.toml", "cannot be read"),
    ),
]
