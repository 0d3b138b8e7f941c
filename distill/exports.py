"""Load public names of a package on first use, so that importing the package is fast."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_exports(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Make `__getattr__` of `package` (PEP 562); `names` lists the public names of each module."""
    homes = {name: module for module, names_of_module in names.items() for name in names_of_module}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return load
