"""How a backbone is named. Without torch: records are named after runs, and runs after their backbones."""

from __future__ import annotations

import re
from pathlib import PurePath


def canonical_name(name: str) -> str:
    """The one spelling of a backbone's name: a folder without trailing or doubled slashes or steps to itself.

    A folder of which a single step is left keeps ``./`` before it: ``minilm/`` is not the name ``minilm``.
    """
    if "/" not in name:
        return name
    path = str(PurePath(name))
    return path if "/" in path else f"./{path}"


def split_name(name: str) -> tuple[str, int | None]:
    """A canonical name and how many layers of each stack are kept: ``minilm[:2]`` -> ("minilm", 2); None for all."""
    whole = re.fullmatch(r"(.*?)(?:\[:([0-9]{1,9})\])?", canonical_name(name), re.DOTALL)
    return whole[1], None if whole[2] is None else int(whole[2])  # type: ignore[index]  # any text matches
