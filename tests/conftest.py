"""What several test files ask for by name, and how a session runs: its order, and what kernels notebooks get."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import warm_kernels
from browser import Browser, executable


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if executable() is None:
        pytest.skip("no Chromium: install the package chromium to have the book opened in a browser")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Files with slow tests first, then those with many: of several workers none is left with a long file at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    sizes = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in slow, -sizes[item.path], item.path))


def pytest_collection_finish(session):
    """Notebooks get warm kernels if there are several."""
    notebooks = {item.path for item in session.items if item.path.suffix == ".ipynb"}
    if len(notebooks) > 2 and sys.platform == "linux" and not session.config.option.collectonly:
        folder = tempfile.TemporaryDirectory(prefix="kernels-")
        session.config.add_cleanup(folder.cleanup)
        if server := warm_kernels.start(Path(folder.name)):
            session.config.add_cleanup(lambda: warm_kernels.stop(server))
            session.config.option.nbval_current_env, session.config.option.nbval_kernel_name = False, "warm"
