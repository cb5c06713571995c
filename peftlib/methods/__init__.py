"""Every method of the study. The folders are the survey's taxonomy; one file is one method, or one and its variants.

A method is found by being here: all files of the folders are imported, and every method's class is a name of this package.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from peftlib.errors import UsageError
from peftlib.methods.base import METHODS, Expression, Layers, Method, PerTask, Sum, method_class, parse

_FOLDER = Path(__file__).parent

for _file in sorted(_FOLDER.rglob("*.py")):
    if _file.name != "__init__.py":
        importlib.import_module(".".join([__name__, *_file.relative_to(_FOLDER).with_suffix("").parts]))

_OWN = {name: cls for name, cls in METHODS.items() if cls.__module__.startswith(f"{__name__}.")}
for _name, _cls in _OWN.items():
    if "about" not in vars(_cls):
        raise UsageError(
            f"{_cls.__module__}: class {_name} does not say what it is: expected a line such as "
            f'about = {{"name": "...", "color": "...", "marker": "..."}} in its body, see CONTRIBUTING.md'
        )

__all__ = ["METHODS", "Expression", "Layers", "Method", "PerTask", "Sum", "method_class", "parse", *sorted(_OWN)]


def __getattr__(name: str) -> Any:
    if name in _OWN:
        return _OWN[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
