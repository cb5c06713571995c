"""Relations of Compacter's claims that no other paper needs: few examples, learning rates, tasks, sizes of matrices."""

from __future__ import annotations

import statistics

from peftlib.papers.compacter.checks.evidence import STEP, from_paper, from_records
from peftlib.papers.compacter.experiments import table3_row
from peftlib.papers.compacter.pages import lowdata
from peftlib.report.averages import TINY
from peftlib.report.conditions import Case, Found
from peftlib.report.evidence import Rows, Unknown, Untestable, rises
from peftlib.report.verdicts import Claims

FEWEST = ("cola", "mrpc", "stsb", "rte")  # GLUE's low-resource tasks, section 5


# --- few examples -----------------------------------------------------------------------------------------------------
def _by_size(case: Case, key: str = "average") -> dict[int, tuple[float, float]]:
    """A number of full fine-tuning and of Compacter++, by examples a task."""
    (table,) = case.tables
    rows = case.evidence.rows(table)
    sizes = lowdata.sizes(rows.labels)
    if not sizes:
        raise Unknown(table)
    return {size: (rows.of(f"{lowdata.FULL}, {size}", key), rows.of(f"{lowdata.SMALL}, {size}", key)) for size in sizes}


def _leads(case: Case) -> tuple[list[float], float, str]:
    leads = {size: own - full for size, (full, own) in _by_size(case).items()}
    margin = case.evidence.rows(case.tables[0]).margin
    said = ", ".join(f"{size:,} examples {lead:+.2f}" for size, lead in leads.items())
    return list(leads.values()), margin, f"Compacter++ to full fine-tuning: {said} (margin {margin:.2f})"


def better_with_few_examples(case: Case) -> Found:
    """With the fewest, and on average over all sizes."""
    leads, _, said = _leads(case)
    return statistics.fmean(leads) > 0 and leads[0] > 0, said


def far_better_with_few_examples(case: Case) -> Found:
    leads, margin, said = _leads(case)
    return leads[0] > margin, said


def less_stable_with_few_examples(case: Case) -> Found:
    spreads = _by_size(case, "spread")
    full, own = (statistics.fmean(pair) for pair in zip(*spreads.values(), strict=True))
    return full > own, (
        f"standard deviation over seeds, mean of {len(spreads)} sizes: full fine-tuning {full:.2f}, Compacter++ {own:.2f}"
    )


# --- tasks and tables -------------------------------------------------------------------------------------------------
def worse_on_small_tasks(case: Case) -> Found:
    """Are rows further behind another on GLUE's low-resource tasks than on the others?"""
    ask, (table,) = case.condition, case.tables
    rows = case.evidence.rows(table)
    if rows.cut is not None:
        raise Untestable(f"training sets are cut to {rows.cut:,} examples: no task has less data than another")
    few, many = ([task for task in rows.test_rows if (task in FEWEST) is low] for low in (True, False))
    if not (few and many):
        raise Untestable("no small task of GLUE to compare with a large one")
    holds, said = True, []
    for label in case.labels(table, ask.rows, "average"):
        small, large = (
            statistics.fmean(rows.of(label, task) - rows.of(ask.than, task) for task in tasks) for tasks in (few, many)
        )
        holds &= small < min(large, 0)
        said.append(f"{label} {small:+.2f} on the small tasks, {large:+.2f} on the others")
    return holds, "; ".join(said)


def rank_alike(case: Case) -> Found:
    """Do methods, whatever their n, rank in one table much as they do in the other?"""
    one, two = (
        {label.partition(" (")[0]: value for label, value in rows.column(rows.labels, "average").items()}
        for rows in map(case.evidence.rows, case.tables)
    )
    return rises((one[name] for name in one), (two[name] for name in one))


def mostly_rises(case: Case) -> Found:
    """From row to row."""
    found = list(case.values(case.tables[0], case.condition.rows, "average").values())
    up = [b > a for a, b in zip(found, found[1:], strict=False)]
    return sum(up) > len(up) / 2, f"{sum(up)} of {len(up)} steps go up: {', '.join(f'{x:.2f}' for x in found)}"


def best_row_depends_on_task(case: Case) -> Found:
    (table,) = case.tables
    tasks = case.evidence.rows(table).test_rows
    if len(tasks) < 2:
        raise Untestable(f"{len(tasks)} task of GLUE: nothing to differ from")
    found = {task: case.values(table, case.condition.rows, task) for task in tasks}
    best = {task: max(column, key=column.get).partition("d'=")[2].rstrip(")") for task, column in found.items()}
    return len(set(best.values())) > 1, "best d': " + ", ".join(f"{task} {d}" for task, d in best.items())


def no_rival(case: Case) -> Found:
    """Is no row at least as good as another in score, parameters and memory together?"""
    ask, own = case.condition, case.condition.than
    scores, trained, costs = map(case.evidence.rows, (*case.tables, "counts/table1", STEP))

    def rivals(label: str) -> bool:
        return (
            scores.of(label, "average") >= scores.of(own, "average")
            and trained.of(label, "trained") <= trained.of(own, "trained")
            and costs.of(table3_row(label), "memory") <= costs.of(table3_row(own), "memory")
        )

    found = [label for label in case.labels(case.tables[0], ask.rows, "average") if rivals(label)]
    return not found, (
        f"{ask.rows} at least as good as {own} in score, parameters and memory: "
        f"{', '.join(found) or 'none'} ({costs.setting})"
    )


# --- the learning rate -------------------------------------------------------------------------------------------------
def lose_most_beside_the_best_rate(case: Case) -> Found:
    (table,) = case.tables
    rows, prompts = case.evidence.rows(table), case.labels(table, case.condition.rows, "average")
    lost = {label: _lost_beside_the_best(rows, label) for label in rows.labels}
    ours, others = (
        statistics.fmean(lost[label] for label in rows.labels if (label in prompts) is asked) for asked in (True, False)
    )
    return ours > others, (
        f"one step of the grid away from the best learning rate costs prompt tuning {ours:.2f} points, "
        f"the other methods {others:.2f} on average"
    )


def _lost_beside_the_best(rows: Rows, label: str) -> float:
    """Points lost, on average, one step of the grid away from the best learning rate."""
    found = list(rows.values.get(label, {}).values())
    if len(found) < 2:
        raise Unknown(f"several rates for {label!r} of {rows.name}")
    best = found.index(max(found))
    beside = [found[i] for i in (best - 1, best + 1) if 0 <= i < len(found)]
    return found[best] - statistics.fmean(beside)


# --- sizes ------------------------------------------------------------------------------------------------------------
def size_is_k_plus_d(case: Case) -> Found:
    from peftlib.backbones import anatomy_of
    from peftlib.papers.compacter.counts import section4

    shape, d = anatomy_of("t5-base").shape, 24
    tables = [section4(shape, width, 4).set_index("method") for width in (d, 2 * d)]
    built = [table["built"] - table["biases"] - table["norms"] for table in tables]
    grown = built[1] / built[0]
    exact = all((mine == table["paper"]).all() for mine, table in zip(built, tables, strict=True))
    return exact and grown["Adapter"] == 2 and grown["Compacter"] <= (shape.width + 2 * d) / (shape.width + d), (
        f"weights built on T5-Base as the formulae say; with twice the bottleneck Adapter has {grown['Adapter']:.2f} times "
        f"as many, Compacter {grown['Compacter']:.3f} times (counted)"
    )


def condition_on_t5_base(case: Case) -> Found:
    """Does kd > n^4 fail for d = 24 with n = 12 alone?"""
    fails = [(d, n) for d in (24, 48, 96) for n in (4, 8, 12) if 768 * d <= n**4]
    said = ", ".join(f"d = {d}, n = {n}" for d, n in fails)
    return fails == [(24, 12)], f"kd > n^4 fails for {said} (counted)"


def condition_on_larger_t5(case: Case) -> Found:
    """Does kd > n^4 hold for all n, and can layers be built with them?"""
    k, ns = 1024, (2, 4, 8, 12)
    met, cannot = k * 24 > max(ns) ** 4, [n for n in ns if k % n]
    return met and not cannot, (
        f"kd > n^4 {'holds' if met else 'fails'} at the smallest d; "
        f"n = {', '.join(map(str, cannot))} does not divide {k}, no layer can be built (counted)"
    )


CLAIMS = Claims(
    "compacter",
    from_paper,
    from_records,
    again=("Without CB and COPA", lambda: from_paper(without=TINY)),
    relations={
        function.__name__.replace("_", " "): function
        for function in (
            better_with_few_examples,
            far_better_with_few_examples,
            less_stable_with_few_examples,
            worse_on_small_tasks,
            rank_alike,
            mostly_rises,
            best_row_depends_on_task,
            no_rival,
            lose_most_beside_the_best_rate,
            size_is_k_plus_d,
            condition_on_t5_base,
            condition_on_larger_t5,
        )
    },
)
