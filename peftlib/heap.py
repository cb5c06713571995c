"""What glibc's allocator does with memory that tensors leave: kept for the next ones, or given back to the system.

A training step frees and asks for the same large blocks again and again. Given back each time, they come as new pages
that the system has to clear: up to a fifth of a step on a CPU. Peak use is the same either way. Elsewhere than on Linux
with glibc nothing happens here.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


def _libc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def keep() -> None:
    """From now on keep what is freed, for this process."""
    if libc := _libc():
        libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def give_back() -> None:
    """Give back what is kept now, so that the process's size is what it uses."""
    if libc := _libc():
        libc.malloc_trim(0)
