"""No process outlives the one that started it, not even when that one is killed with SIGKILL."""

from __future__ import annotations

import os
import threading
import time

import psutil


def kill_descendants() -> None:
    """Kill every process that this one started, directly or not."""
    for process in psutil.Process().children(recursive=True):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass


def exit_with(parent: int, interval: float = 0.5) -> None:
    """From now on, end this process and all that it started soon after `parent` (a process id) is no longer its parent.

    A thread that polls, because it works on every Unix: prctl(PR_SET_PDEATHSIG) is Linux alone. A parent that died
    before the call is noticed too. Jupyter kernels, which get a session of their own, end with their papermill.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(interval)
        kill_descendants()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="exit-with-parent").start()
