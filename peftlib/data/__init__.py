"""Tasks, where their rows come from, and in which order they are seen."""

from peftlib.data.sampling import batches, probabilities, task_order
from peftlib.data.sources import Examples, load_split
from peftlib.data.tasks import TASKS, Task, get_task

__all__ = ["TASKS", "Examples", "Task", "batches", "get_task", "load_split", "probabilities", "task_order"]
