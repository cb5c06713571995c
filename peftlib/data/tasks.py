"""The tasks of the study by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace

from peftlib.data.suites import authors, cs224n, diagnostics, glue, resplit, superglue, transfer
from peftlib.data.task import Task
from peftlib.errors import UsageError, short

SUITES = {  # by the file in suites/
    "cs224n": cs224n.TASKS,
    "glue": glue.TASKS,
    "superglue": superglue.TASKS,
    "resplit": resplit.TASKS,
    "diagnostics": diagnostics.TASKS,
    "transfer": transfer.TASKS,
    "authors": authors.TASKS,
}
TASKS: dict[str, Task] = {task.name: task for tasks in SUITES.values() for task in tasks}

# What a local folder has in the place of a task; None: nothing.
STAND_INS = resplit.STAND_INS | transfer.STAND_INS | authors.STAND_INS

__all__ = ["STAND_INS", "SUITES", "TASKS", "Task", "get_task", "made_from"]


def get_task(name: str) -> Task:
    """The task of that name; "authors_17" is that of author 17 alone, and so for every task that is divided by group.

    Which groups there are only the data knows: see `peftlib.data.members`. Raises ``UsageError`` with the known names and
    the closest one.
    """
    if isinstance(name, str) and name in TASKS:
        return TASKS[name]
    base, _, group = name.rpartition("_") if isinstance(name, str) else ("", "", "")
    if base in TASKS and TASKS[base].splits == "by group" and group.isascii() and group.isdigit():
        return replace(TASKS[base], name=name, part_of=(base, group), text_name=TASKS[base].text_name or base)
    close = difflib.get_close_matches(short(name).strip("'").lower(), TASKS, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise UsageError(f"unknown task {short(name)}; known tasks: {', '.join(TASKS)}{hint}")


def made_from(names: Iterable[str]) -> set[str]:
    """The tasks whose rows tasks have: themselves, the task of which they are one group, and the task they train on."""
    tasks = [get_task(name) for name in names]
    return {found for task in tasks for found in ((task.part_of or (task.name,))[0], task.trained_on) if found}
