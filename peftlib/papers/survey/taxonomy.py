"""The survey's taxonomy and what of it is here, and the choice of a method from records."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pandas as pd
from IPython.display import Markdown

from peftlib.expressions import names
from peftlib.methods import METHODS
from peftlib.papers import paper_table
from peftlib.report.methods import CRITERIA, TASK, standard_error
from peftlib.report.sentences import fill, say
from peftlib.report.tables import Html, by_label, field, presence, scores, table

NOT_YET = "to come"


def taxonomy() -> Html:
    """Every method of the survey's taxonomy, and the class that implements it here, if any."""
    rows = paper_table("survey", "methods")
    shown = pd.DataFrame(
        {
            "family": rows["family"],
            "method": rows["method"],
            "section": rows["section"],
            "types": rows["types_printed"].replace("", "–"),
            "at inference": rows["overhead_printed"].replace("", "–"),
            "here": rows["ours"].replace("", NOT_YET),
        }
    )
    return table(
        shown,
        caption="The survey's methods, and those done so far",
        missing=NOT_YET,
        note="Types as printed in the survey's Table 1: A additive, S selective, R reparametrization-based; – "
        "where the table has no row for the method.",
    )


def progress() -> Markdown:
    """How much of the taxonomy is here, by family."""
    rows = paper_table("survey", "methods")
    done = rows["ours"] != ""
    families = rows.groupby("family", sort=False)
    parts = [f"{family} {int(done[group.index].sum())} of {len(group)}" for family, group in families]
    return say(
        "Of the {n} methods that the survey names, {here} are here: {parts}.",
        n=len(rows),
        here=int(done.sum()),
        parts="; ".join(parts),
    )


def ours() -> Html:
    """Every method of this project, from its class: family, paper, hyperparameters, and whether it can be merged."""
    rows = [
        {
            "method": cls.title,
            "class": name,
            "family": cls.family,
            "paper": cls.paper,
            "hyperparameters": ", ".join(f"{f.name}={f.default!r}" for f in dataclasses.fields(cls)) or "–",
            "mergeable": "yes" if cls.mergeable else "no",
            "start": "anywhere" if cls.near_identity is None else "exact" if cls.near_identity == 0 else "near",
        }
        for name, cls in sorted(METHODS.items(), key=lambda item: (item[1].family, item[0]))
    ]
    return table(
        pd.DataFrame(rows),
        caption="The methods that can be run",
        note="Start: does the model begin exactly where the pretrained one was, near it, or anywhere? "
        "Mergeable: can the change be folded into the weights, so that inference costs nothing more?",
    )


# --- choosing ---------------------------------------------------------------------------------------------------------
def choices(records: Sequence[dict]) -> Html:
    """All methods by score, storage, training time and memory; which of them no other beats in all four."""
    groups = {label: mine for label, mine in by_label(records).items()}
    best = undominated(groups)
    rows = [
        {
            "method": label,
            f"{TASK}, validation": scores(mine, TASK),
            f"{TASK}, test": scores(mine, TASK, "test"),
            "stored": field(mine, "counts", "stored"),
            "training, s": field(mine, "seconds"),
            "peak memory, MiB": _mebibytes(mine),
            "unbeaten": ("yes" if label in best else "no") if mine else None,
        }
        for label, mine in groups.items()
    ]
    return table(
        pd.DataFrame(rows),
        caption="What each method gave and cost, one configuration each",
        source=records,
        formats={"stored": ",.0f", "training, s": ".1f", "peak memory, MiB": ".0f"},
        note="Unbeaten: no other is at least as good in accuracy, storage, time and memory and better in one.",
    )


def _mebibytes(records: Sequence[dict]) -> float | None:
    found = field(records, "peak_bytes") if records and records[0]["peak_bytes"] is not None else None
    return found.mean / 2**20 if found else None


def undominated(groups: dict[str, list[dict]]) -> list[str]:
    """Labels that no other method matches or beats in all of `CRITERIA` and beats in one."""
    points = {label: [key(mine) for key in CRITERIA.values()] for label, mine in groups.items() if mine}

    def beaten(mine: list[float], other: list[float]) -> bool:
        return other != mine and all(o <= m for o, m in zip(other, mine, strict=True))

    return [label for label, mine in points.items() if not any(beaten(mine, other) for other in points.values())]


def advice(records: Sequence[dict]) -> Markdown:
    """Which methods the records cannot tell from the best, and which of those stores least, trains fastest, needs least
    memory."""
    groups = {label: mine for label, mine in by_label(records).items() if mine}
    if len(groups) < 4:
        return say("*{there}: too few to advise anyone. Train the others first.*", there=presence(records))
    top = max(groups, key=lambda label: scores(groups[label], TASK).mean)  # type: ignore[union-attr]  # each has scores
    close = {
        label: mine
        for label, mine in groups.items()
        if scores(groups[top], TASK).mean - scores(mine, TASK).mean <= 2 * standard_error(groups[top])  # type: ignore[union-attr]  # as above
    }
    lines = [
        fill(
            "Highest on {task} is **{top}** with {score:.3f}; within two standard errors of it ({errors:.3f}) lie "
            "{close}. Among these",
            task=TASK,
            top=top,
            score=scores(groups[top], TASK),
            errors=2 * standard_error(groups[top]),
            close=", ".join(close),
        )
    ]
    for name in ("small storage", "short training", "low memory"):
        best = min(close, key=lambda label: CRITERIA[name](close[label]))
        lines.append(fill("- for {name}: **{best}**", name=name, best=best))
    merges = [label for label, mine in close.items() if _mergeable(mine[0]["run"]["method"])]
    lines.append(fill("- without any cost at inference: {merges}", merges=", ".join(merges) or "none"))
    return Markdown(lines[0] + "\n\n" + "\n".join(lines[1:]))


def _mergeable(method: str) -> bool:
    return all(METHODS[name].mergeable for name in names(method))
