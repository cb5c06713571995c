"""The page on S4: what its groups are made of, and its runs."""

from __future__ import annotations

import pandas as pd

from peftlib import comparison, study
from peftlib.accounting.counted import count, shape
from peftlib.grids import Preset
from peftlib.papers.survey import spindle as s4
from peftlib.report.tables import Html, table, union
from peftlib.study import Results

LABEL = "S4"  # of its row in the comparison


def groups(backbone: str) -> Html:
    """What each group is made of, and what a block of it trains."""
    sizes, rows = shape(backbone), []
    for group, letters in zip(s4.groups(sizes), 2 * s4.GROUPS, strict=False):
        start, stop, stack = group.blocks
        each = sum(leaf.formula(sizes) for leaf in group.leaves(("task",))) // ((stop or 0) - start)
        rows.append(
            {
                "stack": stack or "encoder",
                "blocks": f"{start} to {(stop or 0) - 1}",
                "parts": " + ".join(letters),
                "methods": str(group.method),
                "parameters of a block": each,
            }
        )
    found = count(s4.expression(sizes), backbone)
    said = (
        f"Together {found.trainable:,}, {100 * found.trainable / found.total:.3f} % of {backbone}; the survey prints "
        f"{100 * s4.SHARE:g} %. A block should have {s4.SHARE * found.total / sizes.layers:,.0f}."
    )
    return table(pd.DataFrame(rows), caption=f"S4 on {backbone}", note=said, formats={"parameters of a block": ","})


def trained(preset: Preset, train: bool) -> tuple[Results, Results]:
    """S4's runs in the comparison, none where the preset's backbone has too few blocks for it; and all that are there, with
    them."""
    labels = [LABEL] if LABEL in comparison.rows(preset.at("methods/compared")) else []
    own = study.results("methods/compared", preset, train=train and bool(labels), labels=labels)
    return own, union(study.results("methods/compared", preset, train=False), own)
