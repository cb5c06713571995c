"""The real datasets, where a machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def real_data(part: str = "cs224n/sst/train.parquet") -> Path | None:
    """The folder that PEFTLIB_DATA names, else the one beside the project; None if neither has that part of it."""
    places = (os.environ.get("PEFTLIB_DATA"), Path(__file__).parents[2] / "shared" / "data")
    return next((Path(place) for place in places if place and (Path(place) / part).exists()), None)


def needs_real_data(part: str = "cs224n/sst/train.parquet") -> pytest.MarkDecorator:
    return pytest.mark.skipif(real_data(part) is None, reason="PEFTLIB_DATA names no folder with the real data")
