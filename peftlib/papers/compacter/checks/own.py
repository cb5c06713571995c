"""Relations of Compacter's claims that no other paper needs: few examples, learning rates, tasks, sizes of matrices."""

from __future__ import annotations

import numpy as np

from peftlib.papers.compacter.checks.evidence import COUNTED, FROZEN, RATES, STEP, from_paper, from_records
from peftlib.papers.compacter.experiments import table3_row
from peftlib.papers.compacter.pages import lowdata
from peftlib.report.averages import TINY
from peftlib.report.conditions import Case, Found
from peftlib.report.evidence import WHATEVER, Rows, Unknown, Unlearned, Untestable
from peftlib.report.relations import FEWEST as FEWEST_ROWS
from peftlib.report.relations import decide, order, seen
from peftlib.report.uncertainty import NOTHING, Number, Odds, Region, exact, interval, odds, ratio_of_deviations
from peftlib.report.verdicts import Claims

FEWEST = ("cola", "mrpc", "stsb", "rte")  # GLUE's low-resource tasks, section 5
SMALLEST = 2_490  # examples of RTE, the smallest training set of GLUE
SEARCHES = (RATES, *(f"compacter/{name}" for name in ("table5", "table10", "table11", "rates_near")))


# --- few examples -----------------------------------------------------------------------------------------------------
def _by_size(case: Case) -> tuple[Rows, list[int]]:
    """The table, and the sizes of its training sets."""
    (table,) = case.tables
    rows = case.evidence.rows(table)
    sizes = lowdata.sizes(rows.labels)
    if not sizes:
        raise Unknown(table)
    return rows, sizes


def better_with_few_examples(case: Case) -> Found:
    """With the fewest, and on average over all sizes."""
    rows, sizes = _by_size(case)
    leads = {
        size: rows.of(f"{lowdata.SMALL}, {size}", "average") - rows.of(f"{lowdata.FULL}, {size}", "average")
        for size in sizes
    }
    asked = [leads[sizes[0]], sum(leads.values()) / len(leads)]
    said = ", ".join(f"{size:,} examples {lead[0]:+.2f}{case.ends('average', lead, True)}" for size, lead in leads.items())
    said += f", on average {asked[1][0]:+.2f}{case.ends('average', asked[1], True)}"
    return Found(
        tuple(decide("better", lead, 0) for lead in asked),
        f"Compacter++ to full fine-tuning: {said}",
        seen=seen(case, "average", asked),
    )


def less_stable_with_few_examples(case: Case) -> Found:
    """Does full fine-tuning spread more over seeds than Compacter++, with the fewest examples and over all sizes? A run
    that never leaves the commonest label stays where it is, which is no steadiness: of a size only the seeds count that
    learned every task, and only if both methods have two of them."""
    rows, sizes = _by_size(case)
    spreads = {
        size: [rows.seeds.get(f"{label}, {size}", {}).get("average", ()) for label in (lowdata.FULL, lowdata.SMALL)]
        for size in sizes
    }
    there = [rows.seeds.get(f"{label}, {size}", {}) for size in sizes for label in (lowdata.FULL, lowdata.SMALL)]
    if any(len(found.get(WHATEVER, ())) < 2 for found in there):
        raise Unknown(f"several seeds of {rows.name}")
    left = [size for size in sizes if min(map(len, spreads[size])) > 1]
    gone = [
        f"{size:,} ({' and '.join(str(len(scores)) for scores in spreads[size])})" for size in sizes if size not in left
    ]
    without = "; too few seeds learned every task at "
    without = f"{without}{', '.join(gone)} examples (of full fine-tuning and of Compacter++)" if gone else ""
    asked = {f"{sizes[0]:,} examples": left[:1], "all sizes": left} if sizes[0] in left else {"the sizes left": left}
    ratios = {
        name: ratio_of_deviations(f"{rows.name} {name}", *zip(*(spreads[size] for size in chosen), strict=True))
        for name, chosen in asked.items()
        if chosen
    }
    said, smallest = [], []
    for name, ratio in ratios.items():
        low, high = interval(ratio)
        said.append(f"{name} {ratio[0]:.2f} [{low:.2f}, {high:.2f}]")
        smallest.append(f"a ratio of {ratio[0] / low:.2f} over {name}")
    lost = (NOTHING,) if sizes[0] not in left else ()
    told = f"standard deviation over seeds of full fine-tuning to Compacter++'s: {', '.join(said) or 'not known'}{without}"
    return Found((*(Region(low=0).odds(ratio - 1, 0) for ratio in ratios.values()), *lost), told, seen=", ".join(smallest))


# --- tasks and tables -------------------------------------------------------------------------------------------------
def worse_on_small_tasks(case: Case) -> Found:
    """Are rows further behind another on GLUE's low-resource tasks than on the others?"""
    ask, (table,) = case.condition, case.tables
    rows = case.evidence.rows(table)
    if rows.cut is not None and rows.cut <= SMALLEST:
        raise Untestable(f"training sets are cut to {rows.cut:,} examples: no task has less data than another")
    few, many = ([task for task in rows.tasks if (task in FEWEST) is low] for low in (True, False))
    if not (few and many):
        raise Untestable("no small task of GLUE to compare with a large one")
    found, said, gaps = [], [], []
    for label in case.labels(table, ask.rows, "average"):
        small, large = (
            sum(rows.of(label, task) - rows.of(ask.than, task) for task in tasks) / len(tasks) for tasks in (few, many)
        )
        found += [decide("worse", small - large, 0), decide("worse", small, 0)]
        gaps += [small - large, small]
        told = [f"{gap[0]:+.2f}{case.ends('average', gap, True)}" for gap in (small, large)]
        said.append(f"{case.called(table, label)} {told[0]} on the small tasks, {told[1]} on the others")
    return Found(tuple(found), "; ".join(said), seen=seen(case, "average", gaps))


def rank_alike(case: Case) -> Found:
    """Do methods, whatever their n, rank in one table much as they do in the other?"""
    one, two = (
        {label.partition(" (")[0]: value for label, value in rows.column(rows.labels, "average").items()}
        for rows in map(case.evidence.rows, case.tables)
    )
    both = [name for name in one if name in two]
    if len(both) < FEWEST_ROWS and any(case.lost(table, "*", "average") for table in case.tables):
        raise Unlearned(f"{len(both)} rows learned all tasks of both tables; the others did not learn")
    return order(" ".join(case.tables), [one[name] for name in both], [two[name] for name in both])


def mostly_rises(case: Case) -> Found:
    """From row to row."""
    (table,), rows = case.tables, case.condition.rows
    found = list(case.values(table, rows, "average").values())
    if len(found) < 2:
        raise Untestable("one dimension alone does not rise")
    up = np.stack([b > a for a, b in zip(found, found[1:], strict=False)]).sum(axis=0)
    said = ", ".join(f"{x[0]:.2f}{case.ends('average', x)}" for x in found)
    return Found(
        (odds(up > (len(found) - 1) / 2), *[NOTHING] * len(case.lost(table, rows, "average"))),
        f"{up[0]} of {len(found) - 1} steps go up: {said}{case.without(table, rows, 'average')}",
        seen=seen(case, "average", [b - a for a, b in zip(found, found[1:], strict=False)]),
    )


def best_row_depends_on_task(case: Case) -> Found:
    """Is there no row that is the best on every task? Shown by a better one for each, on some task; that there is, by one
    that is the best on all of them."""
    (table,) = case.tables
    tasks = case.evidence.rows(table).tasks
    if len(tasks) < 2:
        raise Untestable(f"{len(tasks)} task of GLUE: nothing to differ from")
    found = {task: case.values(table, case.condition.rows, task) for task in tasks}
    names = [label for label in found[tasks[0]] if all(label in column for column in found.values())]
    if len(names) < 2:
        raise Unlearned(f"fewer than two rows of {case.evidence.rows(table).name} learned every task")
    said = {task: max(names, key=lambda label, task=task: found[task][label][0]) for task in tasks}  # type: ignore[misc]  # a default is no second argument
    told = ", ".join(f"{task} {label.partition(chr(39) + '=')[2].rstrip(')')}" for task, label in said.items())
    beaten, gaps = [], []
    for label in names:
        rivals = [found[task][other] - found[task][label] for task in tasks for other in names if other != label]
        gaps += rivals
        better = [decide("better", gap, 0) for gap in rivals]
        tried = 1 if better[0].sure else len(better)  # one of so many
        best = np.all([gap <= 0 for gap in rivals], axis=0)
        beaten.append(Odds(min(1.0, tried * min(one.holds for one in better)), odds(best).holds, better[0].sure))
    return Found(
        tuple(beaten), f"best d': {told}", seen=seen(case, "average", gaps).replace("average", "the score of a task")
    )


def no_rival(case: Case) -> Found:
    """Is no row at least as good as another in score, parameters and memory together? Those that are in parameters and
    memory must be worse in score."""
    ask, own, (table,) = case.condition, case.condition.than, case.tables
    scores, trained, costs = map(case.evidence.rows, (table, "counts/table1", STEP))

    def lean(label: str) -> bool:
        return (
            trained.of(label, "trained")[0] <= trained.of(own, "trained")[0]
            and costs.of(table3_row(label), "memory")[0] <= costs.of(table3_row(own), "memory")[0]
        )

    rivals = [label for label in case.labels(table, ask.rows, "average") if lean(label)]
    gaps = {label: scores.of(label, "average") - scores.of(own, "average") for label in rivals}
    told = ", ".join(f"{label} {gap[0]:+.2f}{case.ends('average', gap, True)}" for label, gap in gaps.items())
    return Found(
        tuple(decide("worse", gap, 0) for gap in gaps.values()),
        f"{ask.rows} with no more parameters and memory than {own}, by score: {told or 'none'} ({costs.setting})",
        seen=seen(case, "average", list(gaps.values())),
    )


# --- the learning rate -------------------------------------------------------------------------------------------------
def lose_most_beside_the_best_rate(case: Case) -> Found:
    (table,) = case.tables
    rows, prompts = case.evidence.rows(table), case.labels(table, case.condition.rows, "average")
    lost = {label: _lost_beside_the_best(rows, label) for label in rows.labels}
    ours, others = (
        sum((lost[label] for label in rows.labels if (label in prompts) is asked), exact(0))
        / sum((label in prompts) is asked for label in rows.labels)
        for asked in (True, False)
    )
    return Found(
        (decide("better", ours - others, 0),),
        "one step of the grid away from the best learning rate costs prompt tuning "
        f"{ours[0]:.2f}{case.ends('average', ours)} points, the other methods "
        f"{others[0]:.2f}{case.ends('average', others)} on average",
        seen=seen(case, "average", [ours - others]),
    )


def _lost_beside_the_best(rows: Rows, label: str) -> Number:
    """Points lost, on average, one step of the grid away from the best learning rate."""
    found = [rows.of(label, rate) for rate in rows.values.get(label, {})]
    if len(found) < 2:
        raise Unknown(f"several rates for {label!r} of {rows.name}")
    best = max(range(len(found)), key=lambda i: found[i][0])
    beside = [found[i] for i in (best - 1, best + 1) if 0 <= i < len(found)]
    return found[best] - sum(beside) / len(beside)


# --- sizes ------------------------------------------------------------------------------------------------------------
def _counted(holds: bool, said: str) -> Found:
    return Found((odds(np.array([holds])),), said)


def size_is_k_plus_d(case: Case) -> Found:
    from peftlib.backbones import anatomy_of
    from peftlib.papers.compacter.counts import section4

    shape, d = anatomy_of("t5-base").shape, 24
    tables = [section4(shape, width, 4).set_index("method") for width in (d, 2 * d)]
    built = [table["built"] - table["biases"] - table["norms"] for table in tables]
    grown = built[1] / built[0]
    exact = all((mine == table["paper"]).all() for mine, table in zip(built, tables, strict=True))
    holds = exact and grown["Adapter"] == 2 and grown["Compacter"] <= (shape.width + 2 * d) / (shape.width + d)
    return _counted(
        holds,
        f"weights built on T5-Base as the formulae say; with twice the bottleneck Adapter has {grown['Adapter']:.2f} times "
        f"as many, Compacter {grown['Compacter']:.3f} times (counted)",
    )


def condition_on_t5_base(case: Case) -> Found:
    """Does kd > n^4 fail for d = 24 with n = 12 alone?"""
    fails = [(d, n) for d in (24, 48, 96) for n in (4, 8, 12) if 768 * d <= n**4]
    said = ", ".join(f"d = {d}, n = {n}" for d, n in fails)
    return _counted(fails == [(24, 12)], f"kd > n^4 fails for {said} (counted)")


def condition_on_larger_t5(case: Case) -> Found:
    """Does kd > n^4 hold for all n, and can layers be built with them?"""
    k, ns = 1024, (2, 4, 8, 12)
    met, cannot = k * 24 > max(ns) ** 4, [n for n in ns if k % n]
    return _counted(
        met and not cannot,
        f"kd > n^4 {'holds' if met else 'fails'} at the smallest d; "
        f"n = {', '.join(map(str, cannot))} does not divide {k}, no layer can be built (counted)",
    )


CLAIMS = Claims(
    "compacter",
    from_paper,
    from_records,
    again=("Without CB and COPA", lambda: from_paper(without=TINY)),
    relations=(
        better_with_few_examples,
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
    ),
    pages={
        FROZEN: "table7",
        **dict.fromkeys(SEARCHES, "learning_rates"),
        STEP: "table3",
        **{f"counts/{name}": name for name in COUNTED},
        "counts/shares": "counts",
    },
)
