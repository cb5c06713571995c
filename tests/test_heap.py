"""Memory stays with the process while it trains, and is given back on request."""

import os
import subprocess
import sys

import pytest

from peftlib import heap
from peftlib.accounting.memory import PeakMemory

pytestmark = pytest.mark.skipif(
    heap._libc() is None or not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux with glibc"
)
FAULTS = """
import resource, sys, torch
from peftlib import heap
if sys.argv[1] == "keep": heap.keep()
for _ in range(50): torch.ones(16 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_memory_that_is_kept_is_not_cleared_again():
    assert faults("keep") < faults("leave") / 2


def test_a_peak_is_measured_in_full_after_memory_was_kept():
    import torch

    heap.keep()
    torch.ones(64 << 20)  # 256 MiB, kept
    with PeakMemory() as peak:
        torch.ones(64 << 20)
    assert peak.bytes > 200 << 20
