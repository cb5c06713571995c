"""Kernels that start at once: forks of a process that has imported the libraries which notebooks use.

A kernel of its own spends most of a small notebook's time on importing torch and transformers. The project's own modules
are not imported here: each notebook imports those that it needs.

    python warm_kernels.py serve SOCKET                  imports and forks, until its standard input ends
    python warm_kernels.py ask SOCKET CONNECTION_FILE    what Jupyter starts as a kernel, and what ends with it
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path

LIBRARIES = (
    "accelerate",
    "ipykernel.kernelapp",
    "matplotlib.pyplot",
    "matplotlib_inline.backend_inline",
    "pandas",
    "safetensors.torch",
    "scipy.stats",
    "sklearn.metrics",
    "torch",
    "transformers.models.bert.modeling_bert",
    "transformers.models.t5.modeling_t5",
)
HARMLESS = {"jemalloc_bg_thd"}  # of pyarrow's allocator, which works without


# --- for the tests ----------------------------------------------------------------------------------------------------
def start(folder: Path) -> subprocess.Popen | None:
    """Start the process, and have Jupyter know the kernel "warm"; None, with a warning, if it refuses. folder: for its
    files."""
    there = folder / "socket"
    spec = folder / "kernels" / "warm" / "kernel.json"
    spec.parent.mkdir(parents=True)
    command = [sys.executable, "-I", "-S", __file__, "ask", str(there), "{connection_file}"]
    spec.write_text(json.dumps({"argv": command, "display_name": "warm", "language": "python"}))
    os.environ["JUPYTER_PATH"] = str(folder)
    server = subprocess.Popen(
        [sys.executable, __file__, "serve", str(there)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},  # what a kernel sets
    )
    if server.stdout.readline() == b"ready\n":
        return server
    warnings.warn(f"{command[3]} serve did not start: notebooks get fresh kernels, which takes longer", stacklevel=2)
    return None


def stop(server: subprocess.Popen) -> None:
    server.stdin.close()
    server.wait()


# --- the process ------------------------------------------------------------------------------------------------------
def serve(there: str) -> None:
    """Fork for each client; return once standard input ends. A fork becomes a kernel, and returns once that ends."""
    for name in LIBRARIES:
        importlib.import_module(name)
    threads = {
        (task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())
    }
    if threads - HARMLESS:
        sys.exit(f"threads run that a fork would lose: {', '.join(sorted(threads))}")
    gc.collect()
    gc.freeze()  # or each fork's first collection would copy all of it
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(there)
        listener.listen()
        print("ready", flush=True)
        while sys.stdin not in (ready := select.select([listener, sys.stdin], [], [], 1.0)[0]):
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass
            if ready:
                client, _ = listener.accept()
                if os.fork() == 0:
                    break
                client.close()
        else:
            return
    become_kernel(client)


def become_kernel(client: socket.socket) -> None:
    """Be the kernel of a client: when one of them ends, which ends the connection, so does the other."""
    import numpy
    from ipykernel.kernelapp import launch_new_instance

    with client.makefile("r", encoding="utf-8") as file:
        told = json.loads(file.readline())
    client.sendall(f"{os.getpid()}\n".encode())

    def watch() -> None:
        with contextlib.suppress(OSError):
            client.recv(1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    os.dup2(0, 2)
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["environment"])
    numpy.random.seed()  # as in a process of its own: Python's own generator does so by itself
    launch_new_instance(argv=["-f", told["connection"]], parent_handle=os.getppid())


def ask(there: str, connection: str) -> None:
    """Have a kernel forked, and end when it does; signals are the kernel's."""
    with socket.socket(socket.AF_UNIX) as server, server.makefile("rw", encoding="utf-8") as file:
        server.connect(there)
        told = {"connection": connection, "folder": os.getcwd(), "environment": dict(os.environ)}
        file.write(json.dumps(told) + "\n")
        file.flush()
        kernel = int(file.readline())
        signal.signal(signal.SIGINT, lambda *_: os.kill(kernel, signal.SIGINT))
        signal.signal(signal.SIGTERM, lambda *_: os.kill(kernel, signal.SIGKILL))
        file.read()


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
