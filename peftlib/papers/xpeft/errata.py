"""What X-PEFT's errata page says of its relations (errata.toml)."""

from __future__ import annotations

import pandas as pd

FUNCTIONS: dict = {}  # its relations need none of their own


def headline(errata: pd.DataFrame) -> dict[str, object]:
    """For the page's summary, of the rows of `peftlib.report.arithmetic.errata`: factors with 150 adapters, as in the
    paper's Figure 1, or else 200; on how many GLUE scores hard masks are ahead; how far settings are from one adapter."""
    rows = errata.set_index("item")
    with_norms = "times less memory than an adapter, hard masks over 150 adapters and the norms that are trained with them"
    hard = [
        rows.loc[f"scores of GLUE on which hard masks are above soft ones, {n} adapters", "recomputed"].split(" of ")
        for n in (100, 200, 400)
    ]
    behind = errata[errata["item"].str.endswith("against single_adapter, mean of the nine tasks")]["recomputed"].astype(
        float
    )
    return {
        "masks": rows.loc["times less memory than an adapter, hard masks over 150 adapters", "recomputed"],
        "norms": rows.loc[with_norms, "recomputed"],
        "heads": rows.loc[
            "times fewer parameters than an adapter, heads counted on both sides, 200 adapters", "recomputed"
        ],
        "hard": sum(int(won) for won, _ in hard),
        "scores": sum(int(all_) for _, all_ in hard),
        "least": -behind.max(),
        "most": -behind.min(),
    }
