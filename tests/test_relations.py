"""Each relation that claims are made of: when it holds, when it does not, and its words."""

from __future__ import annotations

import numpy as np
import pytest
from tries.claims import STATEMENTS, TOY, read

from peftlib.report.conditions import Case, Condition, Vocabulary, conclude, listed
from peftlib.report.evidence import Evidence, Rows, Unknown, Unlearned, Untestable
from peftlib.report.relations import AMOUNTS, RELATIONS, SCORES, decide
from peftlib.report.uncertainty import DRAWS, around, exact, settle
from peftlib.schema import conform

TABLE = Rows(
    "toy/table1",
    {
        "A": {"average": 80.0, "task": 75.0, "size": 10.0},
        "B": {"average": 79.0, "task": 76.0, "size": 20.0},
        "C (n=1)": {"average": 70.0, "task": 71.0, "size": 40.0},
        "C (n=2)": {"average": 72.0, "task": 70.0, "size": 41.0},
        "D (n=1)": {"average": 71.0, "task": 60.0, "size": 80.0},
        "D (n=2)": {"average": 71.0, "task": 60.0, "size": 80.0},
    },
    margin=2.0,
)
OTHER = Rows(
    "toy/table2",
    {label: row | {"average": row["average"] - 1} for label, row in TABLE.values.items()},
    ["E"],
    margin=0.5,
    setting="on another machine",
)
SPREAD = np.random.default_rng(0).standard_normal((3, DRAWS))
NOISY = Rows(  # B and C are 1 apart, give or take 0.3; A is lower, and nobody knows by how much; D did not learn
    "toy/noisy",
    {
        "A": {"average": around(70.0, 20 * SPREAD[0]), "size": 1.0},
        "B": {"average": around(80.0, SPREAD[1]), "size": 2.0},
        "C (n=1)": {"average": around(81.0, SPREAD[1] + 0.3 * SPREAD[2]), "size": 3.0},
        "D (n=1)": {"average": around(90.0, SPREAD[1]), "size": 4.0},
    },
    margin=2.0,
    chosen={"B": {"average": 79.0}, "C (n=1)": {"average": 78.0}},
    lost={"D (n=1)": {"average": "the task"}},
)
CHANCE = Rows(
    "toy/chance",
    {label: NOISY.values[label] for label in ("A", "B", "C (n=1)")},
    margin=2.0,
    by_chance={"A": "toy/search"},
    ran={"B": "minilm"},
)
NAMES = Vocabulary(
    rows={"all": ("*",), "C": ("C (*",), "not C": ("*", "!C"), "first": ("A", "B")},
    columns={"average": "{:.1f}", "task": "{:.1f}", "size": "{:.0f}%"},
    within={"narrow": 0.5, "tenth": "10%"},
    statements=STATEMENTS | {"size": (10.4, "10%"), "loss": (-8.0, "-8.0")},
    relations=RELATIONS,
)


def found(tables: str | tuple[str, ...] = "toy/table1", **asked) -> tuple[bool | None, str]:
    """Whether a condition holds, and its words."""
    there = {"toy/table1": TABLE, "toy/table2": lambda: OTHER, "toy/noisy": NOISY, "toy/chance": CHANCE}
    result = Case(conform(asked, Condition, "condition: "), listed(tables), Evidence(there), NAMES).found()
    return conclude([result]), result.said


def holds(**asked) -> bool:
    return found(**asked)[0]


# --- the decision -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("word", "yes", "no"),
    [
        ("better", [3, 0.1], [0, -0.1]),
        ("worse", [-0.1], [0, 0.1]),
        ("no worse", [-2, 0, 9], [-2.1]),
        ("no better", [2, -9], [2.1]),
        ("on par", [2, -2], [2.1, -2.1]),
        ("different", [2.1, -2.1], [2, -2]),
        ("far better", [2.1], [2, 0]),
        ("far worse", [-2.1], [-2, 0]),
        ("slightly worse", [-2, -0.1], [0, -2.1]),
        ("more", [0.1], [0]),
        ("less", [-0.1], [0]),
        ("at least", [-2, 9], [-2.1]),
        ("at most", [2, -9], [2.1]),
        ("near", [2, -2], [2.1, -2.1]),
    ],
)
def test_words_by_a_gap_and_a_margin_of_two(word, yes, no):
    assert settle([decide(word, exact(gap), 2.0) for gap in yes]) == [True] * len(yes)
    assert settle([decide(word, exact(gap), 2.0) for gap in no]) == [False] * len(no)


@pytest.mark.parametrize(
    ("word", "yes", "no", "open_"),
    [
        ("better", 1.1, -1.1, 0.9),
        ("worse", -1.1, 1.1, 0),
        ("no worse", -1.1, -3.1, -1.3),
        ("no better", 1.1, 3.1, 2.9),
        ("on par", 1.1, 3.1, 1.3),
        ("different", 3.1, 1.1, 1.3),
        ("far better", 3.1, 0.9, 2.9),
        ("far worse", -3.1, -0.9, -2.9),
        ("slightly worse", -1.05, 1.1, -0.2),
    ],
)
def test_words_by_an_interval_of_one_and_a_margin_of_two(word, yes, no, open_):
    noise = np.random.default_rng(0).standard_normal(DRAWS) / 1.96  # 95 % within 1, 90 % within 0.84
    noise *= 0.4 if word == "slightly worse" else 1
    assert [settle([decide(word, around(gap, noise), 2.0)]) for gap in (yes, no, open_)] == [[True], [False], [None]]


def test_every_word_that_compares_is_tried():
    (mark,) = test_words_by_a_gap_and_a_margin_of_two.pytestmark
    assert {word for word, *_ in mark.args[1]} == {*SCORES, *AMOUNTS}


# --- rows against a row or a number -----------------------------------------------------------------------------------
def test_scores_are_told_as_gaps_with_the_margin_that_decides():
    assert found(rows="A", relation="better", than="B") == (True, "average less B's 79.0: A 80.0, +1.0")
    assert found(rows="B", relation="no worse", than="A") == (True, "average less A's 80.0: B 79.0, -1.0 (margin 2.0)")
    assert not holds(rows="C (n=1)", relation="no worse", than="A")
    assert found(rows="B", relation="no worse", than="A", within="narrow")[1].endswith("B 79.0, -1.0 (margin 0.5)")
    assert not holds(rows="B", relation="no worse", than="A", within=0.5)
    assert found(rows="B", relation="no worse", than="A", show=["relative", "size", "average of toy/table2"])[1] == (
        "average less A's 80.0: B 79.0, -1.0 (-1.2%) at 20% size at 78.0 average (margin 2.0)"
    )


def test_all_rows_columns_and_tables_must_hold_or_some():
    rows = {"rows": "first", "relation": "better", "than": "B"}
    assert not holds(**rows) and holds(**rows, some=True)
    columns = {"rows": "A", "columns": ["average", "task"], "relation": "better", "than": "B"}
    assert found(**columns) == (False, "average less B's 79.0: A 80.0, +1.0; task less B's 76.0: A 75.0, -1.0")
    assert holds(**columns, some=True)
    assert found(("toy/table1", "toy/table2"), rows="A", relation="better", than="B") == (
        True,
        "toy/table1, average less B's 79.0: A 80.0, +1.0; "
        "toy/table2, average less B's 78.0: A 79.0, +1.0 (on another machine)",
    )


def test_a_row_of_another_table_the_same_row_and_the_row_that_ends_alike():
    assert found(rows="B", relation="better", than="B", other_table="toy/table2")[1] == (
        "average less B's 78.0: B 79.0, +1.0"
    )
    same = {"rows": "first", "than": "itself", "other_table": "toy/table2"}
    assert found(**same, relation="better")[1] == "average of toy/table1 less that of toy/table2: A +1.0, B +1.0"
    assert not holds(**same, relation="on par")  # by the other table's margin
    assert found(rows="C*", relation="worse", than="D*") == (
        False,
        "average: C (n=1) less D (n=1) -1.0, C (n=2) less D (n=2) +1.0",
    )


def test_rows_by_group_beginning_and_extreme():
    assert found(rows="C", relation="worse", than="best of not C")[1] == (
        "average less A's 80.0, the best of not C: C (n=1) -10.0, C (n=2) -8.0"
    )
    assert found(rows="worst of C*", relation="worse", than="lowest of D*") == (
        True,
        "average less D (n=1)'s 71.0, the lowest: C (n=1) 70.0, -1.0",
    )
    assert found(rows="best of all", chosen_by="task", relation="better", than="A")[1].endswith("B 79.0, -1.0")
    small = {"columns": "size", "relation": "at most", "value": 20}
    assert found(rows="*", where=[small], relation="better", than="C (n=1)")[1].endswith(": A +10.0, B +9.0")
    least = {"columns": "size", "relation": "less", "than": "A"}
    assert found(rows="*", where=[least], relation="better", than="A") == (
        True,
        "average, where size is less than A's: none",
    )
    assert not holds(rows="*", where=[least], relation="better", than="A", some=True)


def test_amounts_are_told_as_they_are():
    assert found(rows="first", columns="size", relation="less", than="lowest of C") == (
        True,
        "size: A 10%, B 20% against C (n=1)'s 40%, the lowest of C",
    )
    assert found(rows="first", columns="size", relation="at most", value=10) == (
        False,
        "size: A 10%, B 20% (claimed: at most 10)",
    )
    assert found(rows="A", columns="size", relation="near", value="size", within="tenth") == (
        True,
        "size: A 10% (printed 10%, margin 1%)",
    )
    assert not holds(rows="B", columns="size", relation="near", value="size", within="90%")
    assert holds(rows="B", columns="size", relation="near", value="size", within="size")  # 10.4 and half a digit more
    assert holds(rows="A", columns="size", relation="near", value=10) and not holds(
        rows="A", columns="size", relation="near", value=10.1
    )


@pytest.mark.parametrize(
    ("measure", "value", "words"),
    [
        ("factor", 4, "size over A's: C (n=1) 4"),
        ("percent", 400, "size in percent of A's: C (n=1) 400.0%"),
        ("change", 300, "change of size from A's: C (n=1) +300.0%"),
        ("above", 30, "size above A's: C (n=1) +30.00"),
        ("below", -30, "size below A's: C (n=1) -30.00"),
    ],
)
def test_measures(measure, value, words):
    asked = {"rows": "C (n=1)", "columns": "size", "measure": measure, "of": "A", "relation": "near"}
    assert found(**asked, value=value)[0] and found(**asked, value=value)[1].startswith(words)
    assert not holds(**asked, value=value + 1)


def test_a_loss_is_printed_with_or_without_its_sign():
    asked = {"rows": "C (n=2)", "measure": "below", "of": "A", "relation": "near", "value": "loss"}
    assert found(**asked) == (True, "average below A's: C (n=2) 8.00 (printed -8.0)")
    assert not holds(**asked | {"rows": "B"}) and not holds(**asked | {"rows": "B"}, within="margin")


def test_as_printed():
    assert found(rows="A", columns="size", relation="as printed", value="size") == (True, "size: A 10% (printed 10%)")
    assert not holds(rows="first", columns="size", relation="as printed", value="size")


# --- among rows -------------------------------------------------------------------------------------------------------
def test_the_highest_and_lowest():
    assert found(rows="A", relation="highest", among="first") == (True, "highest average: A 80.0, B 79.0")
    assert holds(rows="first", relation="highest") and not holds(rows=["A", "C (n=1)"], relation="highest")
    assert not holds(rows="B", relation="highest") and holds(rows="B", relation="highest", place=2)
    assert holds(rows="B", columns="task", relation="highest") and not holds(rows="A", columns="task", relation="highest")
    assert holds(rows="A", columns="size", relation="lowest") and not holds(rows="B", columns="size", relation="lowest")
    assert holds(rows="D (n=2)", relation="highest", among="D*")  # a tie
    assert holds(rows="best of C", relation="lowest", among=["best of C", "first"])
    assert found(rows="B", relation="lowest", among="first", measure="above", of="itself", other_table="toy/table2")[1] == (
        "lowest average of toy/table1 less that of toy/table2: A +1.00, B +1.00"
    )


def test_a_long_ranking_is_told_to_the_row_after():
    rows = Rows("long", {str(i): {"average": float(i)} for i in range(20)})
    result = Case(Condition("highest", rows="3"), ("long",), Evidence({"long": rows}), NAMES).found()
    assert (conclude([result]), result.said) == (False, "highest average: 19 19.0, 18 18.0, 3 3.0")


def test_grows_with():
    holds_, said = found(columns="size", relation="grows with", along="size")
    assert holds_ and said.startswith("size over size: Spearman's rho 1.00 [") and said.endswith("1.00], 6 rows")
    assert not holds(columns="average", relation="grows with", along="size")  # falls
    with pytest.raises(Untestable, match="2 rows"):
        found(rows="first", columns="size", relation="grows with", along="size")


def test_alike():
    assert found(rows="C", columns="size", relation="alike", within="tenth") == (
        True,
        "C (n=1), C (n=2): size varies by 2.5%",
    )
    assert not holds(rows="C", columns="size", relation="alike", within="2%")


# --- numbers that are not exact ---------------------------------------------------------------------------------------
def test_differences_are_paired_and_told_with_their_intervals():
    verdict, said = found("toy/noisy", rows="C (n=1)", relation="better", than="B")
    assert verdict and said.startswith("average less B's 80.0: C (n=1) 81.0, +1.0 [+0.4, +1.6]")
    assert found("toy/noisy", rows="C (n=1)", relation="on par", than="B")[0] is True
    assert found("toy/noisy", rows="B", relation="better", than="A")[0] is None


def test_the_best_of_several_is_chosen_on_validation():
    assert found("toy/noisy", rows="A", relation="worse", than="best of first")[1].startswith("average less B's 80.0")
    verdict, said = found("toy/noisy", rows="best of *", relation="worse", than="C (n=1)")
    assert verdict and "B 80.0, -1.0" in said  # 79 on validation, C 78


def test_a_rate_chosen_by_chance_neither_shows_nor_refutes_anything():
    with pytest.raises(
        Unlearned, match="A of toy/chance learned nothing at any rate of toy/search: the rate used was chosen"
    ):
        found("toy/chance", rows="A", relation="worse", than="C (n=1)")
    verdict, said = found("toy/chance", rows=["A", "B"], relation="worse", than="C (n=1)")
    assert verdict is None and "A learned nothing at any rate of toy/search" in said
    assert found("toy/noisy", rows=["B"], relation="worse", than="C (n=1)")[0] is True
    assert found("toy/chance", rows="C (n=1)", relation="better", than="best of first")[0] is None  # A might be better yet
    assert found("toy/chance", rows="B", relation="better", than="best of *")[0] is not True
    assert found("toy/chance", rows=["A", "C (n=1)"], relation="worse", than="B")[0] is False  # C is not


def test_a_row_is_named_with_the_backbone_that_ran():
    assert (
        "average less B (here minilm)'s 80.0: C (n=1)"
        in found("toy/chance", rows="C (n=1)", relation="better", than="B")[1]
    )
    assert (
        "highest average: C (n=1) 81.0 ["
        in found("toy/chance", rows="C (n=1)", relation="highest", among=["B", "C (n=1)"])[1]
    )
    assert "B (here minilm) 80.0 [" in found("toy/chance", rows="C (n=1)", relation="highest", among=["*"])[1]
    assert (
        "average above B (here minilm)'s: C (n=1)"
        in found("toy/chance", rows="C (n=1)", relation="more", value=0.5, measure="above", of="B")[1]
    )


def test_what_did_not_learn_is_named_and_leaves_open_what_the_others_do_not_decide():
    verdict, said = found("toy/noisy", rows="*", relation="better", than="A", some=True)
    assert verdict is None and said.endswith("; D (n=1) did not learn the task")
    assert found("toy/noisy", rows=["C (n=1)", "D (n=1)"], relation="better", than="B")[0] is None
    assert found("toy/noisy", rows=["B", "D (n=1)"], relation="better", than="C (n=1)")[0] is False  # B is not
    assert found("toy/noisy", rows="C (n=1)", relation="highest", among=["B", "C (n=1)", "D (n=1)"])[0] is None
    assert found("toy/noisy", rows="B", relation="highest", among=["B", "C (n=1)", "D (n=1)"])[0] is False
    for asked in ({"rows": "D*", "than": "B"}, {"rows": "B", "than": "D (n=1)"}):
        with pytest.raises(Unlearned, match="D .n=1. of toy/noisy did not learn the task"):
            found("toy/noisy", **asked, relation="better")


def test_the_smallest_difference_that_could_have_been_seen_is_told():
    case = Case(Condition("better", rows="B", than="A"), ("toy/noisy",), Evidence({"toy/noisy": NOISY}), NAMES)
    assert case.found().seen.endswith(" in average") and 37 < float(case.found().seen.split()[0]) < 42


# --- what is not there ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "asked",
    [
        {"rows": "E", "relation": "better", "than": "A"},
        {"rows": "A", "relation": "better", "than": "E"},
        {"rows": "*", "relation": "highest"},
        {"rows": "A", "relation": "better", "than": "best of all"},
        {"rows": "F*", "relation": "better", "than": "A"},
        {"rows": "A", "columns": "none", "relation": "better", "than": "B"},
        {"rows": "A", "relation": "better", "than": "A", "other_table": "toy/table3"},
    ],
)
def test_a_number_that_is_missing_is_unknown(asked):
    with pytest.raises(Unknown):
        found("toy/table2", **asked)


def test_a_margin_that_nothing_tells_is_unknown():
    rows = Rows("bare", {"A": {"average": 1.0}})
    case = Case(Condition("on par", rows="A", than="A"), ("bare",), Evidence({"bare": rows}), NAMES)
    with pytest.raises(Unknown, match="a margin for bare"):
        case.found()


# --- the file ---------------------------------------------------------------------------------------------------------
def test_a_sound_file(tmp_path):
    names, claims = read(tmp_path)
    assert list(claims) == ["C1", "C2", "C3"] and claims["C2"].repeats == "C1" and names.rows["others"] == ("*", "!small")
    assert claims["C1"].holds == (Condition("better", rows="A", than="C"),)


def test_a_claim_more_is_a_block_more(tmp_path):
    block = """
[[claim]]
id = "C4"
section = "3"
says = "Larger is worse."
tables = "toy/table1"
holds = [{ rows = "others", columns = "size", relation = "more", than = "highest of small" }]
"""
    assert list(read(tmp_path, TOY + block)[1]) == ["C1", "C2", "C3", "C4"]
