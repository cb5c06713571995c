"""AdaptBert's claims: the abstract, sections 6 and 7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from peftlib.papers import paper_table
from peftlib.report import shares, verdicts
from peftlib.report.tables import by_label, epoch_seconds, scores
from peftlib.report.verdicts import Claims, Evidence, Unknown, rises

SIMILAR = 0.02  # averages closer than this are "similar": about two standard errors over three tasks of 1,000 examples
TABLE2, TABLE3 = "adaptbert/table2", "adaptbert/table3"
FIGURE4, SEARCH = "adaptbert/figure4", "adaptbert/section62"
KINDS, TRIPLE = ("single-task", "multi-task"), ("sst", "quora", "sts")
COMBINED, ADAPTER, FULL = "LoRA+Adapter [r=128, a=128]", "Adapter[a=256]", "Finetune"


# --- what a claim is checked against ----------------------------------------------------------------------------------
class Rows(verdicts.Rows):
    """A table's numbers by row label: sst, quora, sts, average, updated and stored (percent), seconds (an epoch), lr,
    dropout, weight_decay."""

    def group(self, name: str) -> list[str]:
        """Labels of Table 3's LoRA, Adapter, LoRA+Adapter or Hypernet."""
        return [label for label in self.labels if label.split("[")[0].strip() == name]

    def efficient(self) -> list[str]:
        return [label for label in self.labels if label != FULL]

    def best(self, group: str, key: str = "average") -> float:
        return max(self.column(self.group(group), key).values())


def paper_rows(table: str) -> pd.DataFrame:
    """A table of AdaptBert by the labels that its experiment gives the runs."""
    frame = paper_table("adaptbert", table)
    if table == "table2":
        frame["method"] = frame["method"] + ", " + frame["type"].str.lower()
    return frame.set_index("method")


def from_paper(recomputed: bool = False) -> Evidence:
    """The paper's own printed numbers. recomputed: averages are the means of the three scores beside them, which some
    of the printed ones are not (see the errata)."""
    tables = {name: paper_rows(name.split("/")[1]) for name in (TABLE2, TABLE3)}
    if recomputed:
        tables = {name: frame.assign(average=frame[list(TRIPLE)].mean(axis=1)) for name, frame in tables.items()}
    return Evidence({name: Rows("the paper's table", frame.to_dict("index")) for name, frame in tables.items()})


def from_records(sources: Mapping[str, Sequence[dict]]) -> Evidence:
    """Our records, by experiment (`peftlib.study.results`); means over seeds."""
    tables = {}
    for name, source in sources.items():
        paper = list(paper_rows(name.split("/")[1]).index) if name in (TABLE2, TABLE3) else []
        values = {label: _measured(records) for label, records in by_label(source).items() if records}
        tables[name] = Rows(name, values, [*paper, *by_label(source)])
    return Evidence(tables)


def _measured(records: Sequence[dict]) -> dict[str, float | None]:
    """The numbers of one row, from its records of all seeds."""
    first = [r for r in records if r["run"]["seed"] == records[0]["run"]["seed"]]
    row = {name: scores(records, name) for name in ("sst", "quora", "sts", "cfimdb", "average")}
    row |= {name: float(spread) if spread else None for name, spread in row.items()}
    row |= {name: records[0]["run"]["recipe"][name] for name in ("lr", "dropout", "weight_decay")}
    return row | {"seconds": float(epoch_seconds(records)), "updated": shares.updated(records[0]),
                  "stored": shares.stored(first)}


def printed(statement: str) -> float:
    """A number that the paper prints in a sentence, by its id in statements.csv."""
    return verdicts.printed("adaptbert", statement)


# --- the checks -------------------------------------------------------------------------------------------------------
CLAIMS = Claims(
    "adaptbert", from_paper, from_records, again=("With averages recomputed", lambda: from_paper(recomputed=True)),
    counted=frozenset({"S8"}),
    untestable={"S7": "no run of this study adds CFIMDB to the three tasks",
                "S9": "the study has four datasets: scores for many tasks cannot be had from them"})
check = CLAIMS.check


def _gap(evidence: Evidence, label: str, allowed: float) -> tuple[bool, str]:
    rows = evidence.rows(TABLE3)
    full, own = rows.of(FULL, "average"), rows.of(label, "average")
    return full - own <= allowed, (f"{label} {own:.3f} at {rows.of(label, 'updated'):.2f}% updated, "
                                   f"Finetune {full:.3f}: {own - full:+.3f} ({100 * (own - full) / full:+.1f}%)")


@check("A1")
def each_method_comes_close(evidence: Evidence) -> tuple[bool, str]:
    rows = evidence.rows(TABLE3)
    full, best = rows.of(FULL, "average"), {name: rows.best(name) for name in ("LoRA", "Adapter", "Hypernet")}
    said = ", ".join(f"{name} {value - full:+.3f}" for name, value in best.items())
    return all(full - value <= SIMILAR for value in best.values()), f"best of each less Finetune ({full:.3f}): {said}"


@check("A2")
def combination_matches_overall(evidence: Evidence) -> tuple[bool, str]:
    return _gap(evidence, COMBINED, SIMILAR)


@check("A3")
def combination_wins_somewhere(evidence: Evidence) -> tuple[bool, str]:
    rows = evidence.rows(TABLE3)
    ahead = {task: rows.best("LoRA+Adapter", task) - rows.of(FULL, task) for task in TRIPLE}
    said = ", ".join(f"{task} {value:+.3f}" for task, value in ahead.items())
    return max(ahead.values()) > 0, f"best LoRA+Adapter less Finetune: {said}"


@check("P1")
def heads_cost_nothing(evidence: Evidence) -> tuple[bool, str]:
    rows = evidence.rows(TABLE2)
    cost = [rows.of(f"Pretrain, {kind}", key) for kind in KINDS for key in ("updated", "stored")]
    return max(cost) == 0, f"at most {max(cost):g}% updated or stored, heads apart"


@check("P2")
def heads_are_least_accurate(evidence: Evidence) -> tuple[bool, str]:
    two, three = evidence.rows(TABLE2), evidence.rows(TABLE3)
    heads = [two.of(f"Pretrain, {kind}", "average") for kind in KINDS]
    others = [two.of(f"Finetune, {kind}", "average") for kind in KINDS]
    others += three.column(three.labels, "average").values()
    said = " and ".join(f"{value:.3f}" for value in heads)
    return max(heads) < min(others), f"heads {said}, the worst other {min(others):.3f}"


@check("P3")
def full_is_most_accurate(evidence: Evidence) -> tuple[bool, str]:
    rows = evidence.rows(TABLE3)
    efficient = rows.column(rows.efficient(), "average")
    best, full = max(efficient, key=efficient.get), rows.of(FULL, "average")
    return full >= efficient[best], f"Finetune {full:.3f}, the best other is {best} with {efficient[best]:.3f}"


@check("P4")
def one_model_a_task_triples(evidence: Evidence) -> tuple[bool, str]:
    rows = evidence.rows(TABLE2)
    single, multi = (rows.of(f"Finetune, {kind}", "stored") for kind in KINDS)
    wanted = printed("6.1.finetune_stored_single"), printed("6.1.finetune_stored_multi")
    said = f"stored beside one model: {single:+.0f}% single-task, {multi:+.0f}% multi-task"
    return (round(single), round(multi)) == wanted, said


def _rank_correlation(rows: Rows, key: str) -> tuple[bool, str]:
    return rises(*(rows.column(rows.labels, name).values() for name in ("updated", key)))


@check("P5")
def accuracy_rises_with_parameters(evidence: Evidence) -> tuple[bool, str]:
    return _rank_correlation(evidence.rows(TABLE3), "average")


@check("P6")
def time_rises_with_parameters(evidence: Evidence) -> tuple[bool, str]:
    return _rank_correlation(evidence.rows(TABLE3), "seconds")


@check("P7")
def time_has_a_floor(evidence: Evidence) -> tuple[bool, str]:
    rows = evidence.rows(TABLE3)
    fastest, floor = min(rows.column(rows.efficient(), "seconds").values()), printed("6.1.floor_ratio")
    ratio = fastest / rows.of(FULL, "seconds")
    return abs(ratio - floor) <= 0.1, f"the fastest epoch takes {ratio:.2f} of full fine-tuning's; the paper: {floor:g}"


@check("P8")
def middle_combination_is_close(evidence: Evidence) -> tuple[bool, str]:
    return _gap(evidence, "LoRA+Adapter [r=16, a=128]", SIMILAR)


@check("P9")
def wide_adapters_win_on_sst(evidence: Evidence) -> tuple[bool, str]:
    rows = evidence.rows(TABLE3)
    own, full = rows.of(ADAPTER, "sst"), rows.of(FULL, "sst")
    return own > full, f"SST: {ADAPTER} {own:.3f}, Finetune {full:.3f}"


@check("P10")
def adapters_gain_most_steadily(evidence: Evidence) -> tuple[bool, str]:
    rows, fits = evidence.rows(TABLE3), {}
    for name in ("Adapter", "LoRA", "Hypernet"):
        x = np.log10(list(rows.column(rows.group(name), "updated").values()))
        y = np.array(list(rows.column(rows.group(name), "average").values()))
        slope = np.polyfit(x, y, 1)[0]
        r = np.corrcoef(x, y)[0, 1] if y.std() > 0 else 0.0
        fits[name] = (slope, r * r)
    steady = max(fits, key=lambda name: fits[name][1]) == "Adapter" and fits["Adapter"][0] > 0
    said = "; ".join(f"{name} {slope:+.3f}, r² {r2:.2f}" for name, (slope, r2) in fits.items())
    return steady, f"gain with ten times the parameters: {said}"


@check("P11")
def shared_lora_is_poor_on_sst(evidence: Evidence) -> tuple[bool, str]:
    rows = evidence.rows(TABLE3)
    best = {name: rows.best(name, "sst") for name in ("LoRA", "Adapter", "Hypernet", FULL)}
    return best["LoRA"] == min(best.values()), "best SST: " + ", ".join(f"{k} {v:.3f}" for k, v in best.items())


@check("P12")
def lora_keeps_most(evidence: Evidence) -> tuple[bool, str]:
    rows, label = evidence.rows(TABLE3), "LoRA[r=16]-20 epochs"
    percent, wanted = 100 * rows.of(label, "average") / rows.of(FULL, "average"), printed("6.1.lora_ratio")
    return round(percent) >= wanted, f"{percent:.1f}% of Finetune's average at {rows.of(label, 'updated'):.2f}% updated"


@check("P13")
def combination_is_best(evidence: Evidence) -> tuple[bool, str]:
    rows = evidence.rows(TABLE3)
    averages = rows.column(rows.efficient(), "average")
    best, fewer = max(averages, key=averages.get), rows.of(COMBINED, "updated") < rows.of(ADAPTER, "updated")
    return averages[COMBINED] == averages[best] and fewer, (
        f"{COMBINED} {averages[COMBINED]:.3f} at {rows.of(COMBINED, 'updated'):.2f}%; best efficient row: {best} "
        f"{averages[best]:.3f} at {rows.of(best, 'updated'):.2f}%")


def _by_rate(evidence: Evidence) -> dict[float, float]:
    """SST by learning rate, relative to the preset's own."""
    rows = evidence.rows(FIGURE4)
    own = rows.of("lr x 1", "lr")
    return {round(rows.of(label, "lr") / own, 6): rows.of(label, "sst") for label in rows.labels}


@check("H1")
def own_rate_is_about_best(evidence: Evidence) -> tuple[bool, str]:
    by_rate = _by_rate(evidence)
    best = max(by_rate, key=by_rate.get)
    wanted = printed("6.2.lr_better") / printed("6.2.lr")
    if wanted not in by_rate:
        raise Unknown(f"'lr x {wanted:g}' of {FIGURE4}")
    more = by_rate[wanted] - by_rate[1.0]
    return best in (1.0, wanted) and more <= SIMILAR, (
        f"best at {best:g} times the recipe's rate; {wanted:g} times it gives {more:+.3f}")


@check("H2")
def far_rates_fail(evidence: Evidence) -> tuple[bool, str]:
    by_rate = _by_rate(evidence)
    best, ends = max(by_rate.values()), {rate: by_rate[rate] for rate in (min(by_rate), max(by_rate))}
    said = ", ".join(f"{value:.3f} at {rate:g} times" for rate, value in ends.items())
    return all(best - value > SIMILAR for value in ends.values()), f"best {best:.3f}, {said}"


def _best_trial(evidence: Evidence) -> tuple[Rows, str]:
    rows = evidence.rows(SEARCH)
    found = rows.column(rows.labels, "sst")
    return rows, max(found, key=found.get)


@check("H3")
def search_ends_there(evidence: Evidence) -> tuple[bool, str]:
    rows, best = _best_trial(evidence)
    dropout, decay = rows.of(best, "dropout"), rows.of(best, "weight_decay")
    near = abs(dropout - printed("6.2.dropout")) <= 0.05 and 2 / 3 <= decay / printed("6.2.weight_decay") <= 3 / 2
    return near, f"best of {len(rows.labels)} trials: dropout {dropout:.3g}, weight decay {decay:.3g}"


@check("H4")
def search_gains_little(evidence: Evidence) -> tuple[bool, str]:
    rows, best = _best_trial(evidence)
    tuned, plain = rows.of(best, "sst"), evidence.rows(FIGURE4).of("lr x 1", "sst")
    return tuned - plain <= SIMILAR, f"SST {tuned:.3f} at best, {plain:.3f} with the recipe's own: {tuned - plain:+.3f}"


@check("S1")
def efficient_is_similar(evidence: Evidence) -> tuple[bool, str]:
    rows = evidence.rows(TABLE3)
    gap = max(rows.column(rows.efficient(), "average").values()) - rows.of(FULL, "average")
    ahead = {task: max(rows.column(rows.efficient(), task).values()) - rows.of(FULL, task) for task in TRIPLE}
    said = ", ".join(f"{task} {value:+.3f}" for task, value in ahead.items())
    return gap >= -SIMILAR and max(ahead.values()) > 0, f"best efficient less Finetune: average {gap:+.3f}, {said}"


@check("S2")
def combination_is_that_close(evidence: Evidence) -> tuple[bool, str]:
    return _no_further(evidence, COMBINED, "7.combination_difference")


@check("S3")
def adapters_are_that_close(evidence: Evidence) -> tuple[bool, str]:
    return _no_further(evidence, ADAPTER, "7.adapter_difference")


def _no_further(evidence: Evidence, label: str, statement: str) -> tuple[bool, str]:
    """Is a row no further below full fine-tuning than the paper says, to its three digits?"""
    return _gap(evidence, label, abs(printed(statement)) + 0.0005)


@check("S4")
def adapters_beat_hypernets(evidence: Evidence) -> tuple[bool, str]:
    rows = evidence.rows(TABLE3)
    ahead = {label: rows.of(label.replace("Hypernet", "Adapter"), "average") - rows.of(label, "average")
             for label in rows.group("Hypernet")}
    said = ", ".join(f"{label.removeprefix('Hypernet')} {value:+.3f}" for label, value in ahead.items())
    return min(ahead.values()) > 0, f"Adapter less Hypernet: {said}"


@check("S5")
def combination_needs_fewer(evidence: Evidence) -> tuple[bool, str]:
    rows, goal = evidence.rows(TABLE3), evidence.rows(TABLE3).of(ADAPTER, "average")
    enough = [label for label in rows.group("LoRA+Adapter") if rows.of(label, "average") >= goal
              and rows.of(label, "updated") < rows.of(ADAPTER, "updated")]
    best = max(rows.group("LoRA+Adapter"), key=lambda label: rows.of(label, "average"))
    return bool(enough), (f"{best} {rows.of(best, 'average'):.3f} at {rows.of(best, 'updated'):.2f}%, "
                          f"{ADAPTER} {goal:.3f} at {rows.of(ADAPTER, 'updated'):.2f}%")


@check("S6")
def sst_gains_least(evidence: Evidence) -> tuple[bool, str]:
    rows = evidence.rows(TABLE2)
    gain = {task: rows.of("Finetune, multi-task", task) - rows.of("Pretrain, multi-task", task)
            for task in TRIPLE}
    said = ", ".join(f"{task} {value:+.3f}" for task, value in gain.items())
    return min(gain, key=gain.get) == "sst", f"multi-task Finetune less Pretrain: {said}"


@check("S8")
def hypernet_saves_with_many_tasks(evidence: Evidence) -> tuple[bool, str]:
    from peftlib.papers.adaptbert.growth import crossings

    table, most = crossings(), printed("7.future_tasks_low")
    said = ", ".join(f"a={row.bottleneck}: from {row.tasks} tasks on" for row in table.itertuples())
    return bool((table["tasks"] <= most).all()), f"stores less than one adapter a task on BERT-base, {said} (counted)"


def sampling_error(source: Sequence[dict]) -> float | None:
    """The largest standard error that a record's accuracy has because the validation split is finite; None if its size
    is not in the record (all examples)."""
    sizes = [r["run"]["limits"][1] for r in source]
    return 0.5 / min(sizes) ** 0.5 if sizes and None not in sizes else None
