"""Peak memory of a stretch of code, measured: of the GPU's allocator if there is one, else of the process."""

from __future__ import annotations

from pathlib import Path

import torch

from peftlib import heap

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """``with PeakMemory() as peak: ...`` then ``peak.bytes``: the highest use inside, less what was used on entry.

    ``peak.bytes`` is None where neither a GPU nor Linux's /proc can tell.
    """

    bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self._start: int | None = torch.cuda.memory_allocated()
        else:
            try:
                heap.give_back()  # or the peak would seem to be less by what was kept
                _RESET.write_text("5")  # sets VmHWM, the high-water mark, to the present use
                self._start = _resident("VmRSS")
            except OSError:
                self._start = None
        return self

    def __exit__(self, *_) -> None:
        if torch.cuda.is_available():
            self.bytes = torch.cuda.max_memory_allocated() - self._start  # type: ignore[operator]  # set where there is CUDA
        elif self._start is not None:
            self.bytes = max(0, _resident("VmHWM") - self._start)


def _resident(field: str) -> int:
    line = next(row for row in _STATUS.read_text().splitlines() if row.startswith(field + ":"))
    return int(line.split()[1]) * 1024
