"""Claims about numbers of parameters: printed percentages, or counts on the paper's own T5."""

from __future__ import annotations

import functools

from peftlib.papers import paper_table
from peftlib.papers.compacter.checks.claims import CLAIMS, Found, as_printed, statement
from peftlib.papers.compacter.checks.evidence import ADAPTERS, COMPACTER, FULL, PLUSPLUS, PROMPTS, SAID, Evidence

CLOSE = 0.01  # of a ratio of parameters: two percentages rounded to three digits leave that open


@CLAIMS.check("A1", "I5")
def trains_so_few(evidence: Evidence) -> Found:
    own, plus = (evidence.trained("table1", label) for label in (COMPACTER, PLUSPLUS))
    return as_printed(own, "abstract.trained"), f"Compacter trains {own:.3f}%, Compacter++ {plus:.3f}%"


# Claim: (table and row that trains more, table and row that trains less, statement) of each ratio that it names.
RATIOS = {
    "G17": [(("table1", "Adapter"), ("table1", "PHM-Adapter (n=12)"), "5.3.phm_ratio")],
    "M9": [(("table1", "Pfeiffer-Adapter"), ("table1", PLUSPLUS), "5.5.pfeiffer_ratio"),
           (("table1", "AdapterDrop"), ("table1", PLUSPLUS), "5.5.drop_ratio")],
    "C2": [(("table1", FULL), ("table1", PLUSPLUS), "7.ratio")],
    "B3": [(("table1", "Adapter"), ("table6", "PHM-Adapter (n=8)"), "B.phm_ratio")],
    "B10": [(("table1", "Adapter"), ("table1", COMPACTER), "B.compacter_ratio"),
            (("table1", "Adapter"), ("table1", PLUSPLUS), "B.plusplus_ratio")],
}


def ratios_are_as_printed(claim: str, evidence: Evidence) -> Found:
    close, said = True, []
    for more, fewer, identifier in RATIOS[claim]:
        found, wanted = evidence.trained(*more) / evidence.trained(*fewer), statement(identifier)
        close &= abs(found / wanted - 1) <= CLOSE
        said.append(f"{more[1]} over {fewer[1]} {found:.4g}, printed {wanted:g}")
    return close, "; ".join(said)


for _claim in RATIOS:
    CLAIMS.check(_claim)(functools.partial(ratios_are_as_printed, _claim))


@CLAIMS.check("I7")
def far_fewer_than_adapters(evidence: Evidence) -> Found:
    adapter, own, full = (evidence.trained("table1", label) for label in ("Adapter", COMPACTER, FULL))
    return 10 * own < adapter and 1000 * own < full, (
        f"Adapter trains {adapter / own:.1f} times as much, full fine-tuning {full / own:,.0f} times")


@CLAIMS.check("I3", "C1")
def complexity_is_k_plus_d(evidence: Evidence) -> Found:
    from peftlib.backbones import anatomy_of
    from peftlib.papers.compacter.counts import section4

    shape, d = anatomy_of("t5-base").shape, 24
    tables = [section4(shape, width, 4).set_index("method") for width in (d, 2 * d)]
    built = [table["built"] - table["biases"] - table["norms"] for table in tables]
    grown = built[1] / built[0]
    exact = all((mine == table["paper"]).all() for mine, table in zip(built, tables, strict=True))
    return exact and grown["Adapter"] == 2 and grown["Compacter"] <= (shape.width + 2 * d) / (shape.width + d), (
        f"weights built on T5-Base as the formulae say; with twice the bottleneck Adapter has {grown['Adapter']:.2f} times "
        f"as many, Compacter {grown['Compacter']:.3f} times (counted)")


@CLAIMS.check("B4")
def condition_on_t5_base(evidence: Evidence) -> Found:
    k, expected = 768, {(d, n): (d, n) != (24, 12) for d in (24, 48, 96) for n in (4, 8, 12)}
    fails = [f"d = {d}, n = {n}" for d, n in expected if k * d <= n**4]
    return all((k * d > n**4) == holds for (d, n), holds in expected.items()), (
        f"kd > n^4 fails for {', '.join(fails)} (counted)")


@CLAIMS.check("B5")
def condition_on_larger_t5(evidence: Evidence) -> Found:
    k, ns = 1024, (2, 4, 8, 12)
    met, cannot = k * 24 > max(ns) ** 4, [n for n in ns if k % n]
    return met and not cannot, (f"kd > n^4 {'holds' if met else 'fails'} at the smallest d; "
                                f"n = {', '.join(map(str, cannot))} does not divide {k}, no layer can be built (counted)")


@CLAIMS.check("B6")
def n_changes_little(evidence: Evidence) -> Found:
    found = {name: [evidence.trained("table6", f"{name} (n={n})") for n in (4, 8, 12)] for name in
             ("Compacter", "Compacter++")}
    spread = {name: max(values) / min(values) - 1 for name, values in found.items()}
    return max(spread.values()) <= 0.05, ", ".join(f"{name} varies by {100 * x:.1f}%" for name, x in spread.items())


@CLAIMS.check("B7")
def norms_and_biases_weigh(evidence: Evidence) -> Found:
    from peftlib.papers.compacter.errata import METHODS, PARTS, share  # brings torch

    both = {method: sum(share(method, part) for part in PARTS) for method in METHODS}
    return min(both["compacter"], both["plusplus"]) > 50 > both["phm"], (
        f"norms and biases: {both['compacter']:.1f}% of Compacter, {both['plusplus']:.1f}% of Compacter++, "
        f"{both['phm']:.1f}% of PHM-Adapter, all with n = 4 (counted)")


@CLAIMS.check("B8")
def their_shares_are_as_printed(evidence: Evidence) -> Found:
    from peftlib.papers.compacter.errata import METHODS, PARTS, share

    shares = {f"{method}_{part}": share(method, part) for method in METHODS for part in PARTS}
    said = ", ".join(f"{key.replace('_', ' ')} {right:.2f}%" for key, right in shares.items())
    return all(as_printed(right, f"B.{key}") for key, right in shares.items()), f"{said} (counted)"


@CLAIMS.check("M13")
def prompts_and_said_train_least(evidence: Evidence) -> Found:
    least = [evidence.trained("table1", label) for label in (*PROMPTS, SAID)]
    others = [evidence.trained("table1", label) for label in (*ADAPTERS, "BitFit", COMPACTER, PLUSPLUS)]
    return max(least) < min(others), f"at most {max(least):.3f}%, all others at least {min(others):.3f}%"


@CLAIMS.check("O1")
def output_layer_dominates(evidence: Evidence) -> Found:
    labels = paper_table("compacter", "table7")["method"]
    with_it = {label: evidence.trained("table7", label) for label in labels}
    most = max(with_it, key=with_it.get)
    return min(with_it.values()) > statement("5.output") - 0.05 and with_it[most] < 2 * statement("5.output"), (
        f"{min(with_it.values()):.2f}% to {with_it[most]:.2f}% trained with it, {statement('5.output'):g}% is the layer")
