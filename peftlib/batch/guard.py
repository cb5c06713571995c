"""No process outlives the one that started it, not even when that one is killed with SIGKILL."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time

import psutil

ENDING = (signal.SIGINT, signal.SIGTERM)


def kill_descendants() -> None:
    """Kill every process that this one started, directly or not."""
    for process in psutil.Process().children(recursive=True):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass


def _end() -> None:
    """End this process and all that it started, now; whoever waits for it sees that it was killed."""
    kill_descendants()
    os.kill(os.getpid(), signal.SIGKILL)


def exit_with(parent: int, interval: float = 0.5, gently: bool = False) -> None:
    """From now on, end this process and all that it started soon after `parent` (a process id) is no longer its parent.

    A thread that polls, because it works on every Unix: prctl(PR_SET_PDEATHSIG) is Linux alone. A parent that died
    before the call is noticed too. Jupyter kernels, which get a session of their own, end with their papermill.
    gently: interrupt this process instead, which has work of its own to do first.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(interval)
        if gently:
            for output in (1, 2):  # a pipe that nobody reads any more would end it at its first word
                os.dup2(os.open(os.devnull, os.O_WRONLY), output)
            os.kill(os.getpid(), signal.SIGINT)
        else:
            _end()

    threading.Thread(target=watch, daemon=True, name="exit-with-parent").start()


def exit_at_end_of(connection: socket.socket) -> None:
    """From now on, end this process and all that it started once the other side of a connection has gone."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while connection.recv(1):
                pass
        _end()

    threading.Thread(target=watch, daemon=True, name="exit-at-end").start()


def exit_at_signals() -> None:
    """From now on, end this process and all that it started at SIGINT or SIGTERM, whatever handlers are set later.

    Snakemake's own wait for running jobs. The interpreter writes the number of a signal to the wakeup descriptor before
    any handler runs. To be called in the main thread.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for signum in ENDING:  # without a handler nothing is written; and a shell's background jobs ignore SIGINT
        signal.signal(signum, lambda *_: None)

    def watch() -> None:
        while os.read(reader, 1)[0] not in ENDING:
            pass
        _end()

    threading.Thread(target=watch, daemon=True, name="exit-at-signals").start()
