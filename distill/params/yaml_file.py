"""YAML settings files with unique keys and exponents as numbers, and the packaged defaults."""

import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from distill.errors import ParamsError
from distill.text import one_line

DEFAULTS = "default_params.yaml"  # params.yaml as packaged, for use without DVC


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a settings file. Raises ParamsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: expected a settings file, found none; run from the repository's root") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: expected a UTF-8 settings file, found one that cannot be read ({error})") from error
    try:
        values = _parsed(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{path}: expected YAML, found a syntax error: {one_line(error)}") from error
    if not isinstance(values, dict):
        found = one_line(repr(values), 80)
        raise ParamsError(f"{path}: expected sections such as `corpus:` and `prior:`, found {found}")
    return values


@cache
def default_values() -> dict[str, Any]:
    """The packaged defaults of all settings."""
    values: dict[str, Any] = _parsed(files("distill").joinpath(DEFAULTS).read_text(encoding="utf-8"))
    return values


def _parsed(text: str) -> Any:
    return yaml.load(text, Loader=_UniqueKeyLoader)


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys (YAML would silently keep the last) and reads 1e-3 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(getattr(key_node, "value", key_node))
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
