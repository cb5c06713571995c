"""Adapters in the formats of other libraries: Hugging Face `peft`'s is read and written, AdapterHub's `adapters`' read."""

from peftlib.interop.adapterhub import from_adapters
from peftlib.interop.folders import CONFIG, HEADS, WEIGHTS, from_peft, to_peft, writes
from peftlib.interop.places import FormatError

__all__ = ["CONFIG", "HEADS", "WEIGHTS", "FormatError", "from_adapters", "from_peft", "to_peft", "writes"]
