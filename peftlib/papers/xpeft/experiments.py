"""X-PEFT: the runs behind its tables, each row on each task by itself.

A row keeps its printed name as label, whatever the task; what the presets change for this paper is in presets.json.
"""

from __future__ import annotations

from collections.abc import Iterable

from peftlib.data.sources import available
from peftlib.grids import Preset, experiment, make_run, tasks_of
from peftlib.papers import paper_table
from peftlib.papers.xpeft import users  # noqa: F401  (registers the runs of its many users)
from peftlib.papers.xpeft.rows import rows
from peftlib.records import Run

SUITES = ("glue", "superglue", "diagnostics")


def _each_on_each(preset: Preset, names: Iterable[str]) -> list[Run]:
    """Every row on every task of these names, or its stand-in, that the preset takes."""
    there = {
        name: found
        for suite in SUITES
        for name, found in available(suite, preset.source).items()
        if found in tasks_of(preset, suite)
    }
    tasks = [there[name] for name in names if name in there]
    return [make_run(preset, method, (task,), label=label) for label, method in rows().items() for task in tasks]


@experiment("xpeft/table2")
def table2(preset: Preset) -> list[Run]:
    """GLUE with WNLI; Tables 5 and 6 have its single metrics."""
    return _each_on_each(preset, paper_table("xpeft", "table8").columns[1:])


@experiment("xpeft/table3")
def table3(preset: Preset) -> list[Run]:
    """Two tasks of SuperGLUE, and its two diagnostic sets by models of RTE; Table 7 has more digits."""
    return _each_on_each(preset, paper_table("xpeft", "table9").columns[1:])
