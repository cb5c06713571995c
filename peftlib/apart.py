"""What is measured in a process of its own: nothing that ran before it has left memory, kernels or threads behind."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def apart(threads: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function of the script that runs gives in a new process, a fork of one that has imported what the script
    imports and done nothing: it starts at once. threads: of OpenMP there. What it raises is raised here."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is loaded, by the process that is forked
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()
