"""Every row of `tries`: what cannot be used is refused, in words that name it and say how to mend it."""

import importlib
import pkgutil

import pytest
import tries

from peftlib.errors import PeftlibError

ROWS = [
    row for module in pkgutil.iter_modules(tries.__path__) for row in importlib.import_module(f"tries.{module.name}").TRIES
]
LONGEST = 1500  # characters: a message is read, not scrolled


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_is_refused_in_words_that_help(row, tmp_path):
    with pytest.raises(PeftlibError) as found:
        row.go(tmp_path)
    said = str(found.value)
    assert [word for word in row.words if word not in said] == [], said
    assert "Traceback" not in said and len(said) <= LONGEST, said


def test_rows_have_names_of_their_own():
    names = [str(row) for row in ROWS]
    assert sorted(set(names)) == sorted(names)
