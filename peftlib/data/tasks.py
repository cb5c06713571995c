"""The tasks of the study by name."""

from __future__ import annotations

import difflib

from peftlib.data.suites import cs224n, glue, resplit, superglue
from peftlib.data.task import Task
from peftlib.errors import UsageError, short

SUITES = {"cs224n": cs224n.TASKS, "glue": glue.TASKS, "superglue": superglue.TASKS, "resplit": resplit.TASKS}
TASKS: dict[str, Task] = {task.name: task for tasks in SUITES.values() for task in tasks}

__all__ = ["SUITES", "TASKS", "Task", "get_task"]


def get_task(name: str) -> Task:
    """The task of that name. Raises ``UsageError`` with the known names and the closest one."""
    if isinstance(name, str) and name in TASKS:
        return TASKS[name]
    close = difflib.get_close_matches(short(name).strip("'").lower(), TASKS, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise UsageError(f"unknown task {short(name)}; known tasks: {', '.join(TASKS)}{hint}")
