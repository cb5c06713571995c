"""Warm kernels: a process that has imported what pages use, and forks for each page instead of starting Python anew.

Nothing else is shared. A page is run by papermill in a fork of its own, its kernel is another, which was forked before
papermill began: both know what was imported, and nothing of other pages. Where there is no such process (another system
than Linux, a node of a cluster, or it refuses because a thread runs in it that a fork would lose), kernels are fresh.

    front  ->  forks (listens at a socket in the build's folder)
    Snakemake  ->  worker (a client, which waits)  ~>  a fork of `forks`: papermill  ->  its fork: the kernel

Each ends with the one to its left, whatever ended that.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

SOCKET = "warm"  # in the build's folder; by its name alone, since the path of a socket has 107 bytes at most
BEGUN, GOOD, BAD = b"+", b"0", b"1"  # what a client is told
OF_FORKS = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # as a kernel sets it before matplotlib is imported
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # whoever asks for a GPU otherwise leaves none to the forks
}


# --- for the front door -----------------------------------------------------------------------------------------------
@contextlib.contextmanager
def kernels(build: Path, environment: dict[str, str]) -> Iterator[None]:
    """While it lasts, workers in `build` find warm kernels there. environment: what jobs see."""
    if sys.platform != "linux":  # macOS's own libraries do not survive a fork
        yield
        return
    (build / SOCKET).unlink(missing_ok=True)
    log = build / "logs" / "warm.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as said:
        server = subprocess.Popen(
            [sys.executable, "-Xfrozen_modules=off", "-m", "peftlib.batch.forks", "--parent", str(os.getpid())],
            cwd=build,
            env=environment | OF_FORKS,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        yield
    finally:
        server.kill()
        server.wait()
        (build / SOCKET).unlink(missing_ok=True)


# --- for a worker -----------------------------------------------------------------------------------------------------
def ask(arguments: Sequence[str]) -> int | None:
    """Have this worker's job done by warm kernels; its exit status, or None where there are none in this folder."""
    with socket.socket(socket.AF_UNIX) as there:
        try:
            there.connect(SOCKET)
            request = {"arguments": list(arguments), "environment": dict(os.environ)}
            socket.send_fds(there, [b"\n"], [1, 2])  # what is said there lands where it would if it were said here
            there.sendall(json.dumps(request).encode() + b"\n")
            if there.recv(1) != BEGUN:
                return None
        except OSError:
            return None
        with contextlib.suppress(OSError):
            return 0 if there.recv(1) == GOOD else 1  # nothing: it was killed
        return 1


class Spare:
    """A fork that waits to become a kernel; afterwards what jupyter_client expects of a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, ear: socket.socket):
        self.pid, self._ear = pid, ear
        self._status: int | None = None

    def start(self, command: Sequence[str], environment: dict[str, str], folder: str) -> None:
        """Become the kernel that this command would start."""
        environment = environment | {"JPY_PARENT_PID": str(os.getpid())}  # as jupyter_client's launcher does
        told = {"command": list(command), "environment": environment, "folder": folder}
        with self._ear as ear:
            ear.sendall(json.dumps(told).encode())

    def poll(self) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("a warm kernel", timeout or 0)
            time.sleep(0.01)
        return status

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
