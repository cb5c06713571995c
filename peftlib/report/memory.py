"""Peak memory: measured in a run, beside the estimate made without weights."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

MIB = 2**20


def memory_table(records: Iterable[dict]) -> pd.DataFrame:
    """One row a record that holds both figures: method, measured and estimated (MiB), error (percent of the measured).

    The measured peak of a process contains what its allocator keeps of freed tensors (glibc: blocks of up to 32 MB,
    unless MALLOC_MMAP_THRESHOLD_ is set), which can nearly double it, and lacks what a run finds left over by an earlier
    one of the same process; the estimate is of tensors alone. Records made where the peak cannot be measured, or before
    estimates were kept, are left out.
    """
    rows = []
    for r in records:
        measured, estimated = r.get("peak_bytes"), r.get("estimate_bytes")
        if measured and estimated:
            rows.append(
                {
                    "method": r["run"]["label"] or r["run"]["method"],
                    "measured": measured / MIB,
                    "estimated": estimated / MIB,
                    "error": 100 * (estimated - measured) / measured,
                }
            )
    return pd.DataFrame(rows, columns=["method", "measured", "estimated", "error"])
