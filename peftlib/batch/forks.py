"""The process behind `peftlib.batch.warm`: imports what pages use, and forks for each page that is to be made."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import importlib.util
import json
import os
import pkgutil
import select
import signal
import socket
import sys
from pathlib import Path

from peftlib import closure
from peftlib.batch import guard, worker
from peftlib.batch.warm import BAD, BEGUN, GOOD, SOCKET, Spare

ROOMS = ("report", "accounting", "methods")  # of the package: what pages import, with all that these import
HARMLESS = {"jemalloc_bg_thd"}  # threads that a fork may lose: the allocator of pyarrow starts its own again


def main(argv: list[str] | None = None) -> int:
    """Listen, import, and fork until the parent ends. Each fork comes back from `serve`, too, with its client."""
    parser = argparse.ArgumentParser(prog="python -m peftlib.batch.forks", description=__doc__)
    parser.add_argument("--parent", type=int, required=True, help="end when this process is no longer the parent")
    parent = parser.parse_args(argv).parent
    for signum in guard.ENDING:
        signal.signal(signum, signal.SIG_DFL)
    if Path(sys.path[0]) == Path.cwd():  # of `python -m`; kernels have their own
        del sys.path[0]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(SOCKET)
        listener.listen(100)  # clients wait until all is imported
        added = warm_up()
        if threads := running_threads() - HARMLESS:
            print(f"threads run that a fork would lose: {', '.join(sorted(threads))}", file=sys.stderr)
            return 1
        client = serve(listener, parent)
    return 0 if client is None else work(client, added)


def warm_up() -> dict[str, str]:
    """Import what pages use, and read what tells their sources from others; the variables of the environment that a kernel
    sets by its own imports."""
    before = dict(os.environ)
    import ipykernel.debugger  # noqa: F401
    import ipykernel.kernelapp  # noqa: F401

    added = {name: value for name, value in os.environ.items() if name not in before}
    import nbformat
    import papermill  # noqa: F401

    from peftlib import grids
    from peftlib.report import pages

    for room in ROOMS:
        package = importlib.import_module(f"peftlib.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    nbformat.validate(nbformat.v4.new_notebook())  # the schema is compiled once
    for name in grids.experiments():  # and with them all presets
        grids.runs(name, pages.EVERY_ROW)
    pages.rows()
    closure.digests(path.relative_to(closure.PACKAGE).as_posix() for path in closure.PACKAGE.rglob("*.py"))
    gc.collect()
    gc.freeze()  # or each fork's first collection would copy all of it
    return added


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


def work(client: socket.socket, added: dict[str, str]) -> int:
    """One client's job, with a kernel forked for it; the exit status of this fork, whichever it has become.

    added: of `warm_up`.
    """
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
        return become_kernel(mouth, added)
    mouth.close()
    client.sendall(BEGUN)
    guard.exit_with(server)
    guard.exit_at_end_of(client)
    status = worker.main(request["arguments"], Spare(pid, ear))
    client.sendall(BAD if status else GOOD)
    return status


def become_kernel(mouth: socket.socket, added: dict[str, str]) -> int:
    """Wait for the command that would start a kernel, and be that kernel; returns only if none is wanted."""
    with mouth, mouth.makefile("r", encoding="utf-8") as file:
        told = file.read()
    if not told:  # none is wanted
        return 0
    import numpy
    import torch
    from ipykernel.kernelapp import launch_new_instance

    given = json.loads(told)
    os.setsid()
    os.chdir(given["folder"])
    os.environ.clear()
    os.environ.update(added | given["environment"])
    module, *rest = given["command"][given["command"].index("-m") + 1 :]
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None  # it is what Jupyter starts
    sys.argv = [spec.origin, *rest]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    numpy.random.seed()  # each its own numbers, as fresh kernels have; Python's own generator does so by itself
    torch.default_generator.seed()
    launch_new_instance(parent_handle=os.getppid())
    atexit._run_exitfuncs()
    os._exit(0)  # taking down one by one what was imported takes longer than many a page


if __name__ == "__main__":
    sys.exit(main())
