"""Kernels forked for notebooks know the libraries, nothing of the project, and end when they are told."""

from __future__ import annotations

import os
import sys

import psutil
import pytest
import warm_kernels
from nbval.kernel import start_new_kernel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems' libraries do not survive a fork")


def said(client, code: str) -> str:
    outputs = []
    client.execute_interactive(code, output_hook=lambda message: outputs.append(message["content"]), timeout=60)
    return "".join(content.get("text") or content.get("evalue") or "" for content in outputs).strip()


def test_a_kernel_is_a_fork_of_its_own_and_ends_when_told(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", "")  # set by `start`, to be as it was afterwards
    server = warm_kernels.start(tmp_path)
    try:
        monkeypatch.setenv("SAID", "here")
        (first, one), (second, two) = (start_new_kernel(kernel_name="warm", cwd=str(tmp_path)) for _ in range(2))
        known = "import sys, os; print('torch' in sys.modules, 'peftlib' in sys.modules, os.getcwd(), os.environ['SAID'])"
        assert said(one, known) == f"True False {tmp_path} here"
        said(one, "left = 1")
        assert "'left' is not defined" in said(two, "left")
        assert "on purpose" in said(one, "raise ValueError('on purpose')")
        kernels = [psutil.Process(int(said(client, "import os; print(os.getpid())"))) for client in (one, two)]
        assert len({os.getpid(), server.pid, *(kernel.pid for kernel in kernels)}) == 4
        for manager, client, now in ((first, one, False), (second, two, True)):
            client.stop_channels()
            manager.shutdown_kernel(now=now)
        assert not psutil.wait_procs(kernels, timeout=30)[1], "a kernel goes on"
    finally:
        warm_kernels.stop(server)
