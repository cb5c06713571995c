"""Random input at every door that `tries` has a generator for: accepted, or refused by an error raised on purpose."""

import importlib
import pkgutil
import random
import time

import pytest
import tries

from peftlib.errors import PeftlibError

SECONDS = 6.0  # a generator: all of them stay within a minute
AT_LEAST = 12  # inputs of each generator, on a busy machine too
GENERATORS = {
    f"{module.name}: {name}": draw
    for module in pkgutil.iter_modules(tries.__path__)
    for name, draw in getattr(importlib.import_module(f"tries.{module.name}"), "GENERATORS", {}).items()
}


@pytest.mark.parametrize("name", GENERATORS)
def test_random_input_ends_in_no_traceback(name, tmp_path):
    until, seed = time.monotonic() + SECONDS, 0
    while seed < AT_LEAST or time.monotonic() < until:
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            GENERATORS[name](random.Random(f"{name} {seed}"), folder)()
        except PeftlibError:
            pass
        except BaseException as error:
            pytest.fail(f"{name}, seed {seed}: {type(error).__name__}: {error}")
        seed += 1
