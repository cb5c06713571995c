"""Warm kernels: a process that has imported what pages use, and forks for each page instead of starting Python anew.

Nothing else is shared. A page is run by papermill in a fork of its own, its kernel is another, which was forked before
papermill began: both know what was imported, and nothing of other pages. Where there is no such process (another system
than Linux, a node of a cluster, or it refuses because a thread runs in it that a fork would lose), kernels are fresh.

    front  ->  warm (listens at a socket in the build's folder)
    Snakemake  ->  worker (a client, which waits)  ~>  warm's fork: papermill  ->  its fork: the kernel

Each ends with the one to its left, whatever ended that.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from peftlib.batch import guard

SOCKET = "warm"  # in the build's folder; by its name alone, since the path of a socket has 107 bytes at most
BEGUN, GOOD, BAD = b"+", b"0", b"1"  # what a client is told
ROOMS = ("report", "accounting", "methods")  # of the package: what pages import, with all that these import
HARMLESS = {"jemalloc_bg_thd"}  # threads that a fork may lose: the allocator of pyarrow starts its own again
FIGURES = "module://matplotlib_inline.backend_inline"  # what a kernel sets before it imports matplotlib


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
            [sys.executable, "-m", "peftlib.batch.warm", "--parent", str(os.getpid())],
            cwd=build,
            env=environment | {"MPLBACKEND": FIGURES},
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
        self.pid, self._ear, self._status = pid, ear, None

    def start(self, command: Sequence[str], environment: dict[str, str], folder: str) -> None:
        """Become the kernel that this command would start."""
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
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("a warm kernel", timeout or 0)
            time.sleep(0.01)
        return self._status

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# --- the process itself -----------------------------------------------------------------------------------------------
def main(argv: list[str] | None = None) -> int:
    """Listen, import, and fork until the parent ends. Each fork comes back from `serve`, too, with its client."""
    parser = argparse.ArgumentParser(prog="python -m peftlib.batch.warm", description=__doc__)
    parser.add_argument("--parent", type=int, required=True, help="end when this process is no longer the parent")
    parent = parser.parse_args(argv).parent
    for signum in guard.ENDING:
        signal.signal(signum, signal.SIG_DFL)
    if Path(sys.path[0]) == Path.cwd():  # of `python -m`; kernels have their own
        del sys.path[0]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(SOCKET)
        listener.listen(100)  # clients wait until all is imported
        warm_up()
        if threads := running_threads() - HARMLESS:
            print(f"threads run that a fork would lose: {', '.join(sorted(threads))}", file=sys.stderr)
            return 1
        client = serve(listener, parent)
    return 0 if client is None else work(client)


def warm_up() -> None:
    """Import what pages use, and read what tells their sources from others."""
    import gc

    import ipykernel.kernelapp  # noqa: F401
    import papermill  # noqa: F401

    from peftlib import closure, grids

    for room in ROOMS:
        package = importlib.import_module(f"peftlib.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    grids.presets()
    closure.digests(path.relative_to(closure.PACKAGE).as_posix() for path in closure.PACKAGE.rglob("*.py"))
    gc.collect()
    gc.freeze()  # or each fork's first collection would copy all of it


def running_threads() -> set[str]:
    """Names of this process's threads beside the one that asks."""
    tasks = [task for task in Path("/proc/self/task").iterdir() if int(task.name) != os.getpid()]
    return {(task / "comm").read_text().strip() for task in tasks}


def serve(listener: socket.socket, parent: int) -> socket.socket | None:
    """Fork for each client; None once the parent has ended, and in a fork its client."""
    while os.getppid() == parent:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        if select.select([listener], [], [], 0.5)[0]:
            client, _ = listener.accept()
            if os.fork() == 0:
                return client
            client.close()
    return None


def work(client: socket.socket) -> int:
    """One client's job, with a kernel forked for it; the exit status of this fork, whichever it has become."""
    from peftlib.batch import worker

    server, outputs = os.getppid(), socket.recv_fds(client, 1, 2)[1]
    with client.makefile("r", encoding="utf-8") as file:
        request = json.loads(file.readline())
    for there, here in zip(outputs, (1, 2), strict=True):
        os.dup2(there, here)
        os.close(there)
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    mouth, ear = socket.socketpair()
    if (pid := os.fork()) == 0:
        client.close()
        ear.close()
        return become_kernel(mouth)
    mouth.close()
    client.sendall(BEGUN)
    guard.exit_with(server)
    guard.exit_at_end_of(client)
    status = worker.main(request["arguments"], Spare(pid, ear))
    client.sendall(BAD if status else GOOD)
    return status


def become_kernel(mouth: socket.socket) -> int:
    """Wait for the command that would start a kernel, and be that kernel."""
    with mouth, mouth.makefile("r", encoding="utf-8") as file:
        told = file.read()
    if not told:  # none is wanted
        return 0
    import numpy
    from ipykernel.kernelapp import launch_new_instance

    given = json.loads(told)
    os.setsid()
    os.chdir(given["folder"])
    os.environ.clear()
    os.environ.update(given["environment"])
    sys.argv = given["command"][given["command"].index("-m") + 1 :]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    numpy.random.seed()  # as in a process of its own: Python's own generator does so by itself
    launch_new_instance(parent_handle=os.getppid())
    return 0


if __name__ == "__main__":
    sys.exit(main())
