"""What several test files ask for by name."""

import pytest
from browser import Browser, executable


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if executable() is None:
        pytest.skip("no Chromium: install the package chromium to have the book opened in a browser")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()
