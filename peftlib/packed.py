"""Numbers, one a row of data, as a short text in a JSON file."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Literal, TypedDict

import numpy as np

from peftlib.errors import UsageError

Kind = Literal["class", "score", "label", "group"]
# Of classes a byte each (no task has more than 256). Of scores 16 bits between the lowest and the highest: half precision
# would not tell apart the answers of a run that hardly learned. Of scores that are labels single precision.
STORED: dict[Kind, str] = {"class": "u1", "score": "<u2", "label": "<f4", "group": "<u4"}
STEPS = 2**16 - 1


class Packed(TypedDict):
    """values: see `pack`."""

    kind: Kind
    values: str


def pack(values: Sequence[float] | np.ndarray, kind: Kind) -> Packed:
    """Finite numbers as a short text: their bytes, compressed, in base 64. Scores after their lowest and their highest."""
    numbers, before = np.asarray(values), b""
    if kind == "score":
        ends = np.array([numbers.min(), numbers.max()], "<f4")
        low, high = ends.astype(np.float64)
        numbers, before = np.clip((numbers - low) / (high - low or 1.0), 0, 1) * STEPS + 0.5, ends.tobytes()
    content = before + numbers.astype(STORED[kind]).tobytes()
    return {"kind": kind, "values": base64.b64encode(zlib.compress(content, 9)).decode()}


def unpack(packed: Packed) -> np.ndarray:
    """(rows,): whole numbers for classes and groups, else double precision.

    Raises:
        UsageError: nothing that `pack` makes.
    """
    kind = packed["kind"]
    try:
        content = zlib.decompress(base64.b64decode(packed["values"], validate=True))
        if kind == "score":
            low, high = np.frombuffer(content[:8], "<f4").astype(np.float64)
            scores: np.ndarray = low + np.frombuffer(content[8:], STORED[kind]) / STEPS * (high - low)
            return scores
        found = np.frombuffer(content, STORED[kind])
    except (ValueError, zlib.error) as error:
        raise UsageError(f"values: not what {kind} values are packed as ({error})") from error
    return found.astype(np.float64 if kind == "label" else np.int64)
