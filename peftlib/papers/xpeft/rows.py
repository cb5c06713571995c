"""X-PEFT's rows: what its tables call them, and the methods that they are (section 4)."""

from __future__ import annotations

import re

from peftlib.errors import UsageError, short
from peftlib.papers import paper_table

BOTTLENECK, K = 48, 50  # of all adapters; adapters that a hard mask selects
FIRST = 150  # profiles that train an adapter each, which those after them choose from (section 4.1, Figure 1)
SINGLE, HEAD = "single_adapter", "head_only"
# AdapterHub's Pfeiffer configuration, of which the bank's adapters are, too.
ADAPTER = f"PfeifferFFN(bottleneck={BOTTLENECK}, activation='relu', init='bert')"
NAME = re.compile(r"x_peft \((\d+) (soft|hard)\)")


def label(adapters: int, mask: str) -> str:
    """The name of a row of X-PEFT in the tables of scores and hours."""
    return f"x_peft ({adapters} {mask})"


def masks(adapters: int, mask: str, k: int = K, **given: object) -> str:
    """The expression of X-PEFT with so many adapters and masks of this kind. given: fields that differ."""
    told = {"adapters": adapters, "bottleneck": BOTTLENECK, "mask": mask, "k": k} | given
    return f"XPEFT({', '.join(f'{name}={value!r}' for name, value in told.items())})"


def expression(printed: str) -> str:
    """The expression of a row by its printed name, ``x_peft (100 soft)``, ``head_only`` or ``single_adapter``.

    Raises:
        UsageError: there is no such row.
    """
    if found := NAME.fullmatch(printed):
        return masks(int(found[1]), found[2])
    if printed not in (SINGLE, HEAD):
        raise UsageError(f"no row {short(printed)} of X-PEFT: expected {SINGLE}, {HEAD} or x_peft (100 soft) and the like")
    return ADAPTER if printed == SINGLE else "HeadOnly()"


def rows() -> dict[str, str]:
    """The rows of Tables 2 and 3, 5 to 9: label -> expression, in the paper's order."""
    return {name: expression(name) for name in paper_table("xpeft", "table2")["method"]}
