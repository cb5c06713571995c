"""Tasks, where their rows come from, and in which order they are seen."""

from peftlib.data.sampling import batches, probabilities, task_order
from peftlib.data.sources import Examples, load_split, members
from peftlib.data.tasks import TASKS, Task, get_task
from peftlib.data.text import answer, as_text, read_answer

__all__ = [
    "TASKS",
    "Examples",
    "Task",
    "answer",
    "as_text",
    "batches",
    "get_task",
    "load_split",
    "members",
    "probabilities",
    "read_answer",
    "task_order",
]
