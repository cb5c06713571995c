"""Adapters in the formats of other libraries: Hugging Face `peft`'s is read and written."""

from peftlib.interop.folders import CONFIG, HEADS, WEIGHTS, PeftFormatError, from_peft, to_peft, writes

__all__ = ["CONFIG", "HEADS", "WEIGHTS", "PeftFormatError", "from_peft", "to_peft", "writes"]
