"""What X-PEFT counts, recounted on a BERT-base without weights: Table 1, Figure 1, Table 4 and appendix F.

    trained for a profile   2(N + b)L           bytes of its masks   hard 2 ceil(N/8) L   soft 4 * 2NL

N: adapters, b: their bottleneck, L: blocks. The b is that of the norms in the bottlenecks, which a profile trains and has
to keep beside its masks; the paper's bytes leave them out. Its head is AdapterHub's of two layers, (d d + d) + c(d + 1)
for c labels, which the paper's "with head" confirms to the last digit; the heads of this library have one layer.
"""

from __future__ import annotations

import functools

import pandas as pd

from peftlib.accounting import BERT
from peftlib.accounting.counted import count, shape
from peftlib.papers import paper_table, rounds_to
from peftlib.papers.xpeft.rows import ADAPTER, BOTTLENECK, FIRST, SINGLE, label, masks

FLOAT = 4  # bytes
PROFILES = (150, 151, 323, 1_000, 10_000, 100_000, 1_000_000)
LABELS = (2, 3, 15)
CUT = "cut off, not rounded"
ROUNDED = "rounded to one digit"
BIASES = "the paper leaves the biases out: 2dbL"
NOTES = {  # why a cell of Table 1 disagrees
    **{(mode, "parameters", n): CUT for mode in ("x_peft (hard)", "x_peft (soft)") for n in (100, 200, 400)},
    **{("x_peft (soft)", "bytes", n): ROUNDED for n in (200, 400)},
    **{(SINGLE, quantity, 1): BIASES for quantity in ("parameters", "bytes")},
}


# --- one profile ------------------------------------------------------------------------------------------------------
def trained(adapters: int) -> int:
    """Parameters that a profile trains beside its head, whatever its masks."""
    return count(masks(adapters, "soft"), BERT).trainable


def norm_bytes() -> int:
    """Of the layer norms in all bottlenecks."""
    sizes = shape(BERT)
    return FLOAT * (trained(1) - 2 * sizes.layers)


def stored_bytes(adapters: int, mask: str) -> int:
    """What a profile keeps beside its head: masks and norms."""
    return FLOAT * count(masks(adapters, mask), BERT).stored


def mask_bytes(adapters: int, mask: str) -> int:
    """Of a profile's masks."""
    return stored_bytes(adapters, mask) - norm_bytes()


def head(labels: int) -> int:
    """Parameters of the paper's head."""
    d = shape(BERT).width
    return d * d + d + labels * (d + 1)


def adapter() -> int:
    """Parameters of one adapter in every block, biases included."""
    return count(ADAPTER, BERT).trainable


def matrices() -> int:
    """Those of its two matrices, as Table 1 counts an adapter."""
    sizes = shape(BERT)
    return adapter() - sizes.layers * (sizes.width + BOTTLENECK)


# --- tables -----------------------------------------------------------------------------------------------------------
def table1() -> pd.DataFrame:
    """The rows of Table 1. Columns: mode, quantity (parameters or bytes), adapters, formula (the paper's), ours, printed,
    whether ours agrees, that is rounds to it, and note, why not."""
    rows = []
    for printed in paper_table("xpeft", "table1").to_dict("records"):
        mode, quantity, n = (printed[name] for name in ("mode", "quantity", "adapters"))
        if mode == SINGLE:
            ours = adapter() * (FLOAT if quantity == "bytes" else 1)
        else:
            ours = mask_bytes(n, mode.partition("(")[2][:-1]) if quantity == "bytes" else trained(n)
        agrees = rounds_to(ours, printed["printed"])
        rows.append(
            {
                "mode": mode,
                "quantity": quantity,
                "adapters": n,
                "formula": printed["formula_printed"],
                "ours": ours,
                "printed": printed["printed"],
                "agrees": agrees,
                "note": "" if agrees else NOTES.get((mode, quantity, n), ""),
            }
        )
    return pd.DataFrame(rows)


def profile() -> pd.DataFrame:
    """What one profile keeps, by bytes. Columns: method; masks, norms, head (of two labels, one linear layer), all of them;
    times less than an adapter, by masks alone and by masks and norms."""
    d, rows = shape(BERT).width, []
    whole, linear = FLOAT * adapter(), FLOAT * 2 * (d + 1)
    for mask in ("hard", "soft"):
        for n in (100, FIRST, 200, 400):
            own, kept = mask_bytes(n, mask), stored_bytes(n, mask)
            rows.append(
                {
                    "method": label(n, mask),
                    "masks": own,
                    "norms": norm_bytes(),
                    "head": linear,
                    "in all": kept + linear,
                    "less than an adapter, masks alone": whole / own,
                    "with norms": whole / kept,
                    "with norms and heads": (whole + linear) / (kept + linear),
                }
            )
    return pd.DataFrame(rows)


def profile_rows() -> dict[str, str]:
    """The rows of `profile`, with an expression."""
    return {label(n, mask): masks(n, mask) for mask in ("hard", "soft") for n in (100, FIRST, 200, 400)}


def figure1() -> pd.DataFrame:
    """Bytes of all profiles together, by their number, as Figure 1 compares them: the first 150 have an adapter each.
    Columns: profiles; adapters (one each); masks (the bank, and hard masks over it as the paper counts them); masks and
    norms; and how many times less a profile after the first 150 takes, both ways."""
    one, own, kept = FLOAT * adapter(), mask_bytes(FIRST, "hard"), stored_bytes(FIRST, "hard")
    return pd.DataFrame(
        {
            "profiles": n,
            "adapters": n * one,
            "masks": FIRST * one + (n - FIRST) * own,
            "masks_and_norms": FIRST * one + (n - FIRST) * kept,
            "factor": one / own,
            "factor_with_norms": one / kept,
        }
        for n in PROFILES
    )


def table4() -> pd.DataFrame:
    """The cells of Table 4. Columns: adapters, labels (of the head; 0 without it), ours, printed (millions), agrees."""
    rows = []
    for n, line in zip(paper_table("xpeft", "table4")["adapters"], _texts("table4"), strict=True):
        for labels in (*LABELS, 0):
            printed = line[f"labels{labels}" if labels else "without_head"]
            ours = trained(n) + (head(labels) if labels else 0)
            agrees = rounds_to(ours / 1e6, printed)
            rows.append({"adapters": n, "labels": labels, "ours": ours, "printed": printed, "agrees": agrees})
    return pd.DataFrame(rows)


def appendix_f() -> pd.DataFrame:
    """All parameters of a model with its bank. Columns: adapters; ours (with a head of three labels); as_added, with the
    paper's round 110M for the backbone; printed; whether each agrees."""
    (backbone,) = paper_table("xpeft", "statements").set_index("id").loc[["2.backbone"], "value"]
    rows = []
    for row in paper_table("xpeft", "appendixF").to_dict("records"):
        beside = row["adapters"] * adapter() + trained(row["adapters"]) + head(3)
        ours, added = shape(BERT).total + beside, round(backbone) + beside
        printed = row["total_printed"]
        rows.append(
            {
                "adapters": row["adapters"],
                "ours": ours,
                "as_added": added,
                "printed": printed,
                "agrees": rounds_to(ours, printed),
                "as_added_agrees": rounds_to(added, printed),
            }
        )
    return pd.DataFrame(rows)


@functools.cache
def _texts(name: str) -> list[dict[str, str]]:
    """A table's cells as printed."""
    from peftlib.papers import FOLDER, read_table

    return read_table(FOLDER / "xpeft" / "numbers" / f"{name}.csv").to_dict("records")


COUNTED = {"table1": table1, "figure1": figure1, "table4": table4, "appendixF": appendix_f}
