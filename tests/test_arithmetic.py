"""Relations between printed numbers: one engine, tried on made tables of the kinds that the papers print."""

import json
import textwrap

import pytest

from peftlib import papers
from peftlib.errors import DataError, UsageError
from peftlib.papers import number, rounds_to
from peftlib.report import arithmetic, formulas

TABLES = {
    # scores of a suite and their average, as HyperFormer and Compacter print them
    "table1": """
        model,trained_printed,cola,mrpc_acc,mrpc_f1,rte,average
        T5,100%,50.00,88.24,91.60,71.94,75.45
        Adapters,0.74%,40.00,85.29,89.20,70.50,71.25
        Hyper,0.023%,45.00,85.29,89.20,71.00,72.25
        Hyper++,0.018%,50.00,90.20,92.00,72.66,76.22
        """,
    # a change relative to the first row, as HyperFormer's tables of memory and time
    "table5_memory": """
        model,memory_gb,delta_printed
        T5,7.76,
        Adapters,5.95,-23.32
        Hyper,7.60,-2.05
        """,
    # rows named by several columns, scores between 0 and 1, as X-PEFT
    "table2": """
        mode,n_adapters,mask,rte,cb
        x_peft,100,soft,0.58,.6429
        x_peft,100,hard,0.61,.6786
        x_peft,200,soft,0.60,.6786
        x_peft,200,hard,0.58,.6429
        """,
    "table7": """
        mode,n_adapters,mask,rte
        x_peft,100,soft,0.5776
        x_peft,100,hard,0.6101
        x_peft,200,soft,0.5957
        x_peft,200,hard,0.5704
        """,
    # a formula with its value, as X-PEFT's Table 1
    "table3": """
        n_adapters,printed
        100,3.5K
        200,5.9K
        400,10.8K
        """,
    # absolute numbers, shares of them and speeds, as the survey's Table 5; a mean with its spread
    "table4": """
        method,trainable_m,percent,ram_gb
        Full tuning,737.67,100,20.7
        Houlsby,12.69,1.720,12.1
        Pfeiffer,6.34,0.890,14.0
        """,
    "statements": """
        id,section,what,printed
        0.full,abstract,least of all,0.018%
        5.times,5,times fewer,41×
        5.worse,5,share of full memory,97%
        B.cut,B,share of full memory,76.6%
        5.words,5,a formula,2md + m
        """,
}


def checked(tmp_path, text: str, functions=None):
    """The rows of a file of relations, in double brackets or without a heading, over the tables above."""
    home = tmp_path / "numbers"
    home.mkdir(exist_ok=True)
    for name, table in TABLES.items():
        (home / f"{name}.csv").write_text(textwrap.dedent(table).lstrip())
    path = tmp_path / "errata.toml"
    heading = '[rows]\ntable2 = "{mode} {n_adapters} {mask}"\ntable7 = "{mode} {n_adapters} {mask}"\n'
    text = textwrap.dedent(text)
    path.write_text(heading + (text if "[[" in text else f"[[relation]]\n{text}"), encoding="utf-8")
    return arithmetic.recomputed(path, functions)


def one(tmp_path, text: str) -> dict:
    (row,) = checked(tmp_path, text).to_dict("records")
    return row


# --- printed numbers --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text, value, half",
    [
        ("-35.45%", -35.45, 0.005),
        ("+200%", 200, 0.5),
        ("8.0×1", 8, 0.05),
        ("3x", 3, 0.5),
        ("10,000", 10_000, 0.5),
        (".67", 0.67, 0.005),
        ("1e-5", 1e-5, 5e-6),
        ("88.5M", 88.5e6, 5e4),
        ("≈ 0%", 0, 0.5),
        ("−0.5", -0.5, 0.05),
    ],
)
def test_printed_numbers_have_a_value_and_a_last_digit(text, value, half):
    assert number(text) == pytest.approx((value, half))


@pytest.mark.parametrize("text", ["", "–", "2md + m", "1+8x0.01", "roughly half", "5.5 minutes", "0.1 - 6"])
def test_other_texts_are_no_numbers(text):
    assert number(text) is None
    with pytest.raises(DataError, match="no printed number"):
        rounds_to(1.0, text)


@pytest.mark.parametrize("value, text", [(0.125, "0.12"), (0.125, "0.13"), (4.64, "4.64×"), (884_736, "884.7K")])
def test_halves_round_up_or_to_even_and_units_count(value, text):
    assert rounds_to(value, text)


# --- tables of every kind ---------------------------------------------------------------------------------------------
def test_a_column_is_the_mean_of_others(tmp_path):
    found = checked(
        tmp_path,
        """
        each.row = "table1[*]"
        item = "average of {row}"
        printed = "table1[{row}].average"
        value = "mean(table1[{row}].cola:rte)"
        shown = "{value:.3f}"
        consequence = "The row's own numbers average {value:.2f}."
        """,
    )
    assert list(found["recomputed"]) == ["75.445", "71.248", "72.623", "76.215"]
    assert list(found["agrees"]) == [True, True, False, True]
    assert list(found["consequence"]) == ["", "", "The row's own numbers average 72.62.", ""]
    assert set(found["where"]) == {"Table 1"}


def test_a_change_is_a_difference_over_the_first_row(tmp_path):
    found = checked(
        tmp_path,
        """
        each.row = "table5_memory[!T5]"
        item = "change by {row}"
        printed = "table5_memory[{row}].delta_printed"
        value = "100 * (table5_memory[{row}].memory_gb / table5_memory[T5].memory_gb - 1)"
        shown = "{value:+.2f}%"
        consequence = "Off in its last digit."
        """,
    )
    assert list(zip(found["printed"], found["recomputed"], found["agrees"], strict=True)) == [
        ("-23.32", "-23.32%", True),
        ("-2.05", "-2.06%", False),
    ]
    assert set(found["where"]) == {"Table 5"}


def test_rows_of_two_tables_that_print_other_digits(tmp_path):
    found = checked(
        tmp_path,
        """
        each.row = "table2[*]"
        item = "rte of {row}"
        printed = "table2[{row}].rte"
        value = "table7[{row}].rte"
        consequence = "They are not of the same run."
        """,
    )
    assert list(found["item"][:2]) == ["rte of x_peft 100 soft", "rte of x_peft 100 hard"]
    assert list(found["recomputed"]) == ["0.5776", "0.6101", "0.5957", "0.5704"]
    assert list(found["agrees"]) == [True, True, True, False]


def test_a_count_follows_from_a_configuration(tmp_path):
    found = checked(
        tmp_path,
        """
        each.n = [100, 200, 400]
        item = "parameters with {n} adapters"
        printed = "table3[{n}].printed"
        value = "2 * (n + 48) * 12"
        consequence = "{value:,} are {printed} only if the digits are cut off the wrong way."
        """,
    )
    assert list(found["agrees"]) == [False, False, True] and found["consequence"][0].startswith("3,552 are 3.5K")
    (built,) = checked(
        tmp_path,
        """
        item = "a head alone trains nothing of the backbone"
        where = "section 2"
        printed = "0"
        value = "trained('HeadOnly()', 'bert-base-uncased')"
        """,
    ).to_dict("records")
    assert built["agrees"] and built["recomputed"] == "0"


def test_a_share_of_rounded_numbers_has_their_slack(tmp_path):
    """12.69 of 737.67 millions is 1.7203%; 6.34 is 0.8595%, in no way 0.890."""
    found = checked(
        tmp_path,
        """
        each.row = "table4[Houlsby|Pfeiffer]"
        item = "share of {row}"
        printed = "table4[{row}].percent"
        value = "100 * table4[{row}].trainable_m / table4[Full tuning].trainable_m"
        slack = true
        shown = "{value:.4f}"
        consequence = "Another model's."
        """,
    )
    assert list(found["agrees"]) == [True, False]
    strict = """
        item = "three times what is rounded"
        printed = "table1[Hyper].trained_printed"
        value = "{factor} * table1[Hyper++].trained_printed"
        shown = "{value:.4f}"
        slack = {slack}
        consequence = "No."
        """
    agree = {
        (factor, slack): one(tmp_path, strict.replace("{factor}", factor).replace("{slack}", slack))["agrees"]
        for factor in ("1.25", "1.22", "1.2")
        for slack in ("true", "false")
    }
    assert agree == {
        ("1.25", "true"): True,
        ("1.25", "false"): True,
        ("1.22", "true"): True,
        ("1.22", "false"): False,
        ("1.2", "true"): False,
        ("1.2", "false"): False,
    }


def test_sentences_quote_cells_and_know_their_place(tmp_path):
    found = checked(
        tmp_path,
        """
        each.said = [
            { key = "0.full", value = "min(table1.trained_printed)" },
            { key = "5.times", value = "table1[Adapters].trained_printed / table1[Hyper++].trained_printed" },
            { key = "5.worse", value = "share", with.ours = "table5_memory[Hyper].memory_gb" },
            { key = "B.cut", value = "share", with.ours = "table5_memory[Adapters].memory_gb" },
        ]
        with.share = "100 * ours / table5_memory[T5].memory_gb"
        explained = "cut(value, printed)"
        consequence = "Cut off."
        item = "{what}"
        with.what = "statements[{key}].what"
        printed = "statements[{key}].printed"
        shown = "{value:.2f}"
        """,
    )
    assert list(found["where"]) == ["abstract", "section 5", "section 5", "appendix B"]
    assert list(found["recomputed"]) == ["0.02", "41.11", "97.94", "76.68"]
    assert list(found["agrees"]) == [True, True, False, False] and list(found["consequence"][2:]) == ["Cut off."] * 2


def test_orders_and_names(tmp_path):
    found = checked(
        tmp_path,
        """
        [[relation]]
        item = "best"
        where = "abstract"
        printed = "Hyper++"
        value = "highest(table1.average)[0]"

        [[relation]]
        item = "two least"
        where = "abstract"
        printed = "Hyper, Adapters"
        value = "lowest(table1.average)[:2]"
        consequence = "They are {value}, the other way round."

        [[relation]]
        item = "above full fine-tuning"
        where = "abstract"
        printed = "all"
        value = "where(table1[!T5].average > table1[T5].average)"
        holds = "count(value) == 3"
        consequence = "Of {n} only {value}, by {gap:+.2f}."
        with.n = "count(where(table1[!T5].average > 0))"
        with.gap = "max(table1[!T5].average) - table1[T5].average"

        [[relation]]
        item = "tasks gained"
        where = "abstract"
        printed = "none"
        value = "where(table1[Hyper].cola:rte - table1[T5].cola:rte > 0)"

        [[relation]]
        item = "whose average Hyper's is"
        where = "Table 1"
        printed = "Adapters"
        value = "nearest(mean(table1[A*|T*].cola:rte), table1[Hyper].average)"
        """,
    )
    assert list(found["agrees"]) == [True, False, False, True, True]
    assert list(found["consequence"][1:3]) == [
        "They are Adapters, Hyper, the other way round.",
        "Of 3 only Hyper++, by +0.77.",
    ]


def test_numbers_that_no_fraction_rounds_to(tmp_path):
    """71.94 and 70.50 are 100 and 98 of 139, 71.00 is no k of it; .6429 and .6786 are 18 and 19 of 28."""
    text = """
        item = "no fractions of {n}"
        where = "Table"
        with.n = "N"
        printed = "none"
        value = "no_fraction(COLUMN, n, WHOLE)"
        consequence = "No one run."
        """
    given = [
        ("table1.rte", "139", "100"),
        ("table1.rte", "139 * 5", "100"),
        ("table2.cb", "28", "1"),
        ("table2.cb", "29", "1"),
    ]
    found = [
        one(tmp_path, text.replace("COLUMN", column).replace('"N"', f'"{n}"').replace("WHOLE", whole))
        for column, n, whole in given
    ]
    assert [row["recomputed"] for row in found[:3]] == ["Hyper 71.00", "Hyper 71.00", "none"]
    assert found[3]["recomputed"].count(",") == 3 and found[1]["item"] == "no fractions of 695"


def test_rows_that_repeat_others(tmp_path):
    text = """
        item = "repeated"
        where = "Table 1"
        printed = "none"
        value = "repeated(COLUMNS)"
        consequence = "Both answer always the same."
        """
    assert one(tmp_path, text.replace("COLUMNS", "table1.mrpc_acc:mrpc_f1"))["recomputed"] == "Hyper as Adapters"
    assert one(tmp_path, text.replace("COLUMNS", "table1.mrpc_acc:mrpc_f1, table1.rte"))["agrees"]


def test_the_same_row_in_two_tables(tmp_path):
    text = """
        item = "x_peft 200 hard"
        where = "Table 7"
        printed = "the same row"
        value = "same(table2[x_peft 200 ROW], table7[x_peft 200 hard])"
        consequence = "They differ in {value}."
        """
    assert one(tmp_path, text.replace("ROW", "hard"))["consequence"] == "They differ in rte."


def test_columns_are_compared_by_their_best(tmp_path):
    """Of all but T5: 50 on CoLA, 90.20 and 92.00 on MRPC, 72.66 on RTE."""
    row = one(
        tmp_path,
        """
        item = "columns in which the best is above T5"
        where = "Table 1"
        printed = "mrpc_acc, mrpc_f1, rte"
        value = "where(by_column('max', table1[!T5].cola:rte) > table1[T5].cola:rte)"
        shown = "{value}; {mean:.2f}"
        with.mean = "mean(by_column('mean', table1[!T5].cola:rte))"
        """,
    )
    assert row["agrees"] and row["recomputed"] == "mrpc_acc, mrpc_f1, rte; 73.36"


def test_a_deviation_is_that_of_a_sample(tmp_path):
    text = """
        item = "deviation"
        where = "Table 1"
        printed = "5.77"
        value = "deviation(table1.cola)"
        shown = "{value:.4f}"
        consequence = "No."
        """
    assert one(tmp_path, text.replace("table1.cola", "table1[!Adapters].cola"))["recomputed"] == "2.8868"
    assert one(tmp_path, text.replace("5.77", "4.79"))["agrees"]


def test_a_row_may_have_to_hold_twice(tmp_path):
    row = one(
        tmp_path,
        """
        item = "columns that grow and grow again"
        where = "Table 1"
        printed = "cola, rte"
        value = "where((middle > table1[Adapters].cola:rte) * (table1[Hyper++].cola:rte > middle))"
        with.middle = "table1[Hyper].cola:rte"
        shown = "{value}"
        consequence = "No."
        """,
    )
    assert row["agrees"]


def test_a_mean_counts_a_task_once(tmp_path):
    row = one(
        tmp_path,
        """
        item = "once"
        where = "Table 1"
        printed = "70.6"
        value = "mean_by_task(table1[T5].cola:rte)"
        """,
    )
    assert row["agrees"]  # (50 + 89.92 + 71.94) / 3


def test_what_repeats_is_ordered_and_filtered(tmp_path):
    found = checked(
        tmp_path,
        """
        [names]
        first = "Hyper"
        [with]
        lead = "{table}[{row}].average - {table}[T5].average"
        [[relation]]
        each.case = [{ t = "table1", sign = 1 }, { t = "table1", sign = -1 }]
        each.row = "{t}[{first}*]"
        when = "sign * lead > 0"
        item = "{row} of {title}"
        printed = "{lead:+.2f}"
        holds = "lead > 0"
        shown = "{sign}"
        consequence = "Below."
        """,
    )
    assert list(found["item"]) == ["Hyper++ of Table 1", "Hyper of Table 1"]
    assert list(found["printed"]) == ["+0.77", "-3.20"] and list(found["recomputed"]) == ["1", "-1"]
    assert list(found["consequence"]) == ["", "Below."]


def test_a_paper_may_bring_functions_of_its_own(tmp_path):
    text = """
        item = "twice"
        where = "here"
        printed = "4"
        value = "twice(2)"
        """
    assert checked(tmp_path, text, {"twice": lambda n: 2 * n})["agrees"].all()


# --- the grammar ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "formula, value",
    [
        ("1 + 2 * 3 - 4 / 2", 5),
        ("-2 ** 2", -4),
        ("7 % 4", 3),
        ("2 if 1 > 2 else 3", 3),
        ("not 1 > 2 and 2 >= 2", True),
        ("'a' in ['a', 'b']", True),
        ("'x[1].y' == 'x[1].y'", True),
        ("1.5 == 3/2", True),
        ("x", "x!"),
        ("t[a [b=1, c], d'].e", "cell"),
    ],
)
def test_formulas(formula, value):
    asked = []
    found = formulas.evaluate(formula, "{}!".format, lambda *where: asked.append(where) or "cell", formulas.FUNCTIONS)
    assert found == value
    assert asked == ([("t", "a [b=1, c], d'", "e", None)] if "t[" in formula else [])


@pytest.mark.parametrize(
    "formula",
    [
        "__import__('os')",
        "().__class__",
        "x.__class__.__bases__()",
        "lambda: 1",
        "[n for n in x]",
        "mean.__globals__",
        "f'{x}'",
        "mean(*x)",
        "max(x, key=x)",
        "(x := 1)",
        "x[y]",
        "b'1'",
        "{1: 2}",
        "1 if",
        "",
        "a\0",
        "(" * 300,
        "1 < 2 < 3",
    ],
)
def test_nothing_else_is_a_formula(formula):
    tables = formulas.Tables(papers.FOLDER / "adaptbert" / "numbers")
    with pytest.raises((DataError, UsageError)):
        formulas.evaluate(formula, "{}!".format, tables.cells, formulas.FUNCTIONS)


GOOD = {"item": "one", "where": "here", "printed": "table1[T5].average", "value": "table1[T5].average"}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"value": "tabel1[T5].average"}, ("no table 'tabel1'", "did you mean 'table1'")),
        ({"value": "table1[T6].average"}, ("no row of table1 'T6'", "Hyper++")),
        ({"value": "table1[T5].avrage"}, ("no column of table1 'avrage'", "'average'", "rte")),
        ({"value": "table1[Z*].average"}, ("like 'Z*'", "Adapters")),
        ({"value": "mean(table1[T5].rte:cola)"}, ("from rte to cola",)),
        ({"printed": "table1[T5].avrage"}, ("no column of table1 'avrage'",)),
        ({"value": "average(1)"}, ("no function 'average'", "mean")),
        ({"value": "table1[T5].average / 0"}, ("cannot be computed", "zero")),
        ({"value": "mean(table1[T5].average"}, ("cannot be read as a formula",)),
        ({"value": "table1[T5.average"}, ("bracket is not closed",)),
        ({"value": "other + 1"}, ("no name 'other'", "printed")),
        ({"value": "statements[5.words].printed + 1"}, ("cannot be computed",)),
        ({"printed": "statements[5.words].printed"}, ("'2md + m' is no printed number",)),
        ({"item": "{gap}"}, ("no name 'gap'", "value")),
        ({"item": "{value:+.4q}"}, ("placeholders", "'{value:+.4q}'")),
        ({"item": "{value.real}"}, ("no name 'value.real'",)),
        ({"with": {"a": "b", "b": "a"}, "item": "{a}"}, ("recursion",)),
        ({"each": {"a": [{"a": "{a}"}]}, "item": "{a}"}, ("recursion",)),
        ({"each": {"a": ["{b}"]}, "item": "{a}"}, ("no name 'b'",)),
        ({"each": {"row": "table9[*]"}}, ("no table 'table9'",)),
        ({"each": {"row": "table1[Z]"}}, ("no row of table1 'Z'",)),
        ({"values": "1"}, ("no key of a relation 'values'", "'value'")),
        ({"item": None}, ("has no 'item'",)),
        ({"value": None}, ("neither 'value' nor 'holds'",)),
        ({"printed": "1", "where": None, "value": "1"}, ("no name 'title'",)),
        ({"value": "1"}, ("does not agree", "no 'consequence'")),
        ({"value": "1", "explained": "2", "consequence": "Yes."}, ("'explained'", "does not give it")),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, change, words):
    relation = {key: value for key, value in (GOOD | change).items() if value is not None}
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in relation.items())
    with pytest.raises(DataError) as caught:
        checked(tmp_path, f"[[relation]]\n{_toml_lines(GOOD)}[[relation]]\n{text}")
    assert "errata.toml: relation 2 (" in str(caught.value) and len(str(caught.value).splitlines()) == 1
    for word in words:
        assert word in str(caught.value)


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


def _toml_lines(fields: dict) -> str:
    return "".join(f"{key} = {_toml(value)}\n" for key, value in fields.items())


@pytest.mark.parametrize(
    "text, words",
    [
        ("[relation]\nitem = 'one'\n[[x]]\n", "section 'x'"),
        ("[relation]\nitem = 'one'\n#[[\n", "double brackets"),
        ("[[relation]\n", "errata.toml"),
        ("[rows.table3]\n#[[", "errata.toml"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path, text, words):
    with pytest.raises(DataError, match="errata.toml") as caught:
        checked(tmp_path, text)
    assert words in str(caught.value)


def test_rows_must_be_told_apart(tmp_path):
    path = tmp_path / "errata.toml"
    checked(tmp_path, "item = 'x'\nwhere = 'y'\nprinted = '1'\nvalue = '1'\n")
    path.write_text("[[relation]]\nitem = 'x'\nprinted = 'table2[x_peft].rte'\nvalue = '1'\n")
    with pytest.raises(DataError, match="several rows are named 'x_peft'.*in \\[rows\\]"):
        arithmetic.recomputed(path)
    path.write_text("[rows]\ntable2 = '{mode} {adapters}'\n")
    with pytest.raises(DataError, match="no column of table2 'adapters'; did you mean 'n_adapters'"):
        arithmetic.recomputed(path)


def test_a_paper_without_python_has_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr(papers, "FOLDER", tmp_path)
    home = tmp_path / "survey"
    (home / "numbers").mkdir(parents=True)
    (home / "paper.toml").write_text("")
    (home / "numbers" / "table1.csv").write_text("a,b\nx,1\n")
    (home / "errata.toml").write_text('[[relation]]\nitem = "b"\nprinted = "table1[x].b"\nvalue = "1"\n')
    found = arithmetic.errata("survey")  # the package's own has no errata.py
    assert list(found["agrees"]) == [True] and list(found.columns) == arithmetic.COLUMNS
