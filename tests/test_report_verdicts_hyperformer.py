"""HyperFormer's claim ledger: the paper's own numbers against its sentences, made-up records, none."""

from __future__ import annotations

import pytest
from certain import make_certain
from test_report_verdicts_compacter import records

from peftlib.papers import about
from peftlib.papers.hyperformer import checks
from peftlib.report import arithmetic, verdicts

CLAIMS = checks.CLAIMS
BASE, SMALL = "hyperformer/table1", "hyperformer/table1_small"
OURS = {f"HyperFormer++-{size}": 0.6 for size in ("Base", "Small")}
# Claims that the paper's own numbers do not bear out, by an erratum that says so.
CONTRADICTED = {"G8": "rte of HyperFormer++-Base above multi-task T5-Base, which has no hypernetworks"}
DOUBTED = {"A1", "G4", "G6"}  # those that rest on RTE


@pytest.fixture(autouse=True)
def certain(monkeypatch):
    make_certain(monkeypatch)


def outcome(claim: str, given: dict[str, float], *names: str, other: float = 0.5, key: str = "") -> str:
    """The verdict on a claim when these rows have these scores, and all others the other one. key: of the only task of
    which that is so; on the others what is above the half is as far below."""

    def score(run):
        return given.get(run.label, other)

    preset = "paper" if checks.TRANSFER in names else "published"
    sources = {name: records(name, score, preset=preset) for name in names}
    for record in (record for source in sources.values() for record in source):
        if key:
            for split in ("validation", "test"):
                record[split] = {k: v if k.partition(".")[0] == key else 1 - v for k, v in record[split].items()}
    return CLAIMS.judge(claim, checks.from_records(sources)).outcome


# --- the list ---------------------------------------------------------------------------------------------------------
def test_every_claim_is_judged_and_the_headlines_are_claims():
    judged = CLAIMS.judged({})
    assert [one.claim.id for one in judged] == list(CLAIMS.claims)
    assert {one.verdict.outcome for one in judged} == {"reproduced", "contradicted", "not testable here", "not run"}
    assert set(about("hyperformer").headlines) <= set(CLAIMS.claims)
    assert set(CLAIMS.claims) - set(CLAIMS.decided()) == {"S1", "T2", "R1"}
    pages = {CLAIMS.page(table) for claim in CLAIMS.decided() for table in CLAIMS.tables(claim)}
    assert pages == {"table1", "table2", "table3", "table4", "table7", "figure2", "counts"}


def test_the_margin_lies_between_similar_and_substantially_better():
    found = verdicts.margin("hyperformer")["margin"]
    averages = checks.from_paper().rows(BASE).values
    assert found == checks.from_paper().rows(BASE).margin
    assert abs(averages["HyperFormer++-Base"]["average"] - averages["HyperFormer-Base"]["average"]) < found < 0.74


# --- the paper's own numbers ------------------------------------------------------------------------------------------
def test_the_papers_numbers_say_what_its_text_says_or_an_erratum_stands():
    errata, own = arithmetic.errata("hyperformer"), checks.from_paper()
    wrong = errata[~errata["agrees"].astype(bool)]["item"]
    for claim in CLAIMS.decided():
        found = CLAIMS.judge(claim, own)
        if claim in CLAIMS.counted() or found.outcome == "not run":
            continue
        assert found.outcome == ("contradicted" if claim in CONTRADICTED else "reproduced"), (claim, found.why)
        if claim in CONTRADICTED:
            assert wrong.eq(CONTRADICTED[claim]).any(), claim


def test_errata_and_claims_have_one_value_for_what_a_frozen_output_layer_saves():
    errata, counted = arithmetic.errata("hyperformer").set_index("item"), checks._counted()
    for size in ("Small", "Base"):
        row = errata.loc[f"times fewer parameters by a frozen output layer, T5-{size}"]
        said = f"{counted.values[f'Adapters-{size}']['with output']:.2f}"
        assert row["recomputed"] == said and f"trains {said} times" in row["consequence"]


def test_what_the_paper_shows_in_figures_is_not_decided_by_its_numbers():
    own = checks.from_paper()
    missing = {claim for claim in CLAIMS.decided() if CLAIMS.judge(claim, own).outcome == "not run"}
    assert missing - set(CLAIMS.counted()) == {"L1"}


def test_without_rte_three_claims_turn_round():
    own, again = checks.from_paper(), checks.from_paper(without=checks.DOUBTED)
    turned = {
        claim
        for claim in CLAIMS.decided()
        if not CLAIMS.claims[claim].repeats and CLAIMS.judge(claim, again).outcome != CLAIMS.judge(claim, own).outcome
    }
    assert turned == DOUBTED
    row = again.rows(BASE).values["HyperFormer++-Base"]
    numbers = [63.73, 94.03, 89.66, 92.63, 90.28, 87.20, 90.00, 89.66, 85.74, 93.02]
    assert row["average"] == pytest.approx(sum(numbers) / 10) and row["mrpc"] == pytest.approx((89.66 + 92.63) / 2)


def test_the_counted_claims():
    ours = checks.from_records({})
    found = {claim: CLAIMS.judge(claim, ours) for claim in CLAIMS.counted() if not CLAIMS.claims[claim].repeats}
    assert {claim for claim, verdict in found.items() if verdict.outcome == "contradicted"} == {"G10", "E1"}
    assert {verdict.outcome for verdict in found.values()} == {"reproduced", "contradicted"}
    assert "5,274,544" in found["E3"].why and "14,745,600 of 15,430,656" in found["E1"].why


# --- our records ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("claim", "holds", "fails"),
    [
        ("A1", OURS, OURS | {"Adapters†-Small": 0.7}),
        ("I1", OURS, {"HyperFormer++-Base": 0.504}),  # the margin is half a point
        ("G1", OURS, {"HyperFormer++-Base": 0.6}),
        ("G2", {"Adapters-Base": 0.4, "Adapters-Small": 0.4}, {"Adapters-Base": 0.4, "Adapters-Small": 0.6}),
        ("G3", {"HyperFormer-Base": 0.6, "HyperFormer-Small": 0.6}, {"HyperFormer-Base": 0.6, "HyperFormer-Small": 0.4}),
        ("G4", {"HyperFormer-Base": 0.504}, {"HyperFormer-Base": 0.506}),
        ("G6", OURS, OURS | {"T5-Small (single-task)": 0.7}),
    ],
)
def test_verdicts_on_table_1_flip_when_the_records_do(claim, holds, fails):
    assert outcome(claim, holds, BASE, SMALL) == "reproduced"
    assert outcome(claim, fails, BASE, SMALL) == "contradicted"
    assert CLAIMS.judge(claim, checks.from_records({})).outcome == "not run"


@pytest.mark.parametrize("key", ["cola", "rte"])
def test_gains_must_be_on_both_small_tasks(key):
    for claim in ("G7", "G8"):
        assert outcome(claim, OURS, BASE) == "reproduced"
        assert outcome(claim, OURS, BASE, key=key) == "contradicted", "the other one loses"


@pytest.mark.parametrize(
    ("claim", "names", "holds", "fails"),
    [
        (
            "X1",
            ("hyperformer/table3", "hyperformer/table3_small"),
            {"HyperFormer-Base": 0.6, "HyperFormer-Small": 0.6},
            {"HyperFormer-Base": 0.6, "HyperFormer-Small": 0.6, "Adapters†-Small (r=4)": 0.7},
        ),
        (
            "D1",
            ("hyperformer/table4",),
            {"HyperFormer-Small": 0.6},
            {"HyperFormer-Small": 0.6, "without T5 layer norm": 0.7},
        ),
        (
            "L1",
            ("hyperformer/figure2",),
            {f"HyperFormer++-Base, {n}": 0.6 for n in (100, 500, 1000)},
            {f"HyperFormer++-Base, {n}": 0.6 for n in (100, 500)},
        ),
    ],
)
def test_verdicts_on_other_tables_flip_when_the_records_do(claim, names, holds, fails):
    assert outcome(claim, holds, *names) == "reproduced"
    assert outcome(claim, fails, *names) == "contradicted"


def test_most_settings_are_more_than_half_of_those_that_there_are():
    sizes = (4, 16, 32, 100, 250, 500, 1000, 2000)
    count = {4: 7, 16: 7, 32: 7, 100: 7, 250: 1, 500: 6, 1000: 6, 2000: 6}
    assert sum(count.values()) == 47
    for upto, expected in ((3, "contradicted"), (4, "reproduced"), (8, "reproduced")):
        won = {f"HyperFormer++-Base, {n}": 0.6 if n in sizes[:upto] else 0.4 for n in sizes}
        assert outcome("A3", won, checks.TRANSFER) == expected, f"{sum(count[n] for n in sizes[:upto])} of 47"
    beaten = {f"HyperFormer++-Base, {n}": 0.6 for n in sizes} | {f"Adapters†-Base, {n}": 0.7 for n in sizes}
    assert outcome("A3", beaten, checks.TRANSFER) == "contradicted", "above one of two is not above both"


def test_settings_that_one_row_did_not_learn_decide_nothing():
    source = records(checks.TRANSFER, lambda run: 0.6 if run.label.startswith("Hyper") else 0.5, preset="paper")
    for record in source:
        if record["run"]["label"].startswith("T5"):
            record["test"] = dict.fromkeys(record["test"], 0.0)
    found = CLAIMS.judge("A3", checks.from_records({checks.TRANSFER: source}))
    assert found.outcome == "undecided" and "was learned by all three rows" in found.why


@pytest.mark.parametrize(
    ("small", "large", "expected"), [(1, 1, "reproduced"), (-1, 1, "contradicted"), (1, -1, "contradicted")]
)
def test_the_bottleneck_that_is_better_depends_on_the_size_of_the_task(small, large, expected):
    names = ("hyperformer/table7", "hyperformer/table7_small")
    sources = {name: records(name, lambda run: 0.5) for name in names}
    for record in (record for source in sources.values() for record in source):
        sign = {"(r=8)": -1, "(r=32)": 1}.get(record["run"]["label"].rpartition(" ")[2], 0)
        for split in ("validation", "test"):
            record[split] = {
                key: 0.5 + 0.1 * sign * (small if key.partition(".")[0] in checks.SMALL_TASKS else -large)
                for key in record[split]
            }
    assert CLAIMS.judge("B1", checks.from_records(sources)).outcome == expected
