"""Base of settings classes: what a field says of itself, the sentence for what it refuses, and the file of defaults."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypedDict

from distill.errors import ParamsError
from distill.text import one_line

PACKAGE = Path(__file__).parents[1]
S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every settings class: frozen, strict about types, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Section(Settings):
    """Base of the sections of `params.yaml`. The docstring of a field is its help, wherever it is shown."""

    model_config = ConfigDict(use_attribute_docstrings=True)


@dataclass(frozen=True)
class AutoBy:
    """Marks a field that may be `auto` in its section, and says what fills it in."""

    source: str


@dataclass(frozen=True)
class SomeOf:
    """Annotates a dict of some values of `kind`, each checked as `kind` checks it; what is `auto` is left out."""

    kind: type[Settings]
    without: Sequence[str] = ()  # fields that have no place here

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        fields = {name: field for name, field in self.kind.model_fields.items() if name not in self.without}
        types: dict[str, Any] = {name: field.rebuild_annotation() for name, field in fields.items()}
        make: Any = TypedDict
        some = make("some", types, total=False)
        some.__pydantic_config__ = self.kind.model_config

        def without_auto(values: Any) -> Any:
            if not isinstance(values, dict):
                return values
            takes_auto = {name for name, field in fields.items() if auto_by(field)}
            return {key: value for key, value in values.items() if key not in takes_auto or value != "auto"}

        return core_schema.no_info_before_validator_function(without_auto, handler.generate_schema(some))


class Setting(NamedTuple):
    """What a flag, a form or a table shows of a setting."""

    type: type  # int, float, bool or str
    bounds: dict[str, float]  # by "ge", "gt", "le" and "lt"
    choices: tuple[str, ...]  # in place of a value of the type, or beside it
    auto_by: str  # what fills in `auto`; "" where it is none of the values, or a choice
    help: str
    default: Any

    @property
    def shown(self) -> str:
        """The default, and what `auto` comes from."""
        return f"auto, {self.auto_by}" if self.default == "auto" and self.auto_by else str(self.default)


def setting(kind: type[Settings], path: str, defaults: Any) -> Setting:
    """The setting `path`, such as "vqvae.epochs", in a class and in a tree of defaults."""
    for key in path.split("."):
        field, defaults = kind.model_fields[key], defaults.get(key) if isinstance(defaults, dict) else None
        kind = class_of(field)
    union = get_origin(field.annotation) in (Union, UnionType)
    parts = [FieldInfo.from_annotation(one) for one in get_args(field.annotation)] if union else [field]
    types = [part.annotation for part in parts if isinstance(part.annotation, type)]
    choices = [name for part in parts if get_origin(part.annotation) is Literal for name in get_args(part.annotation)]
    return Setting(
        type=types[0] if types else str,
        bounds={name: value for part in parts for name, value in bounds(part).items()},
        choices=tuple(choices),
        auto_by=auto_by(field),
        help=field.description or "",
        default=defaults,
    )


def bounds(field: FieldInfo) -> dict[str, float]:
    """Bounds of a number, by "ge", "gt", "le" and "lt"."""
    names = ("ge", "gt", "le", "lt")
    return {name: getattr(one, name) for one in field.metadata for name in names if hasattr(one, name)}


def auto_by(field: FieldInfo) -> str:
    """What fills in a field that is `auto`; "" for others."""
    return next((one.source for one in field.metadata if isinstance(one, AutoBy)), "")


def class_of(field: FieldInfo) -> Any:
    """The class of a section, or the type of a field that is none."""
    for one in (*field.metadata, *get_args(field.annotation), field.annotation):
        if isinstance(one, SomeOf):
            return one.kind
        if isinstance(one, type) and issubclass(one, Settings):
            return one
    return field.annotation


def validated(kind: type[S], values: dict[str, Any], where: str = "", within: str = "", source: str = "") -> S:
    """Build `kind` from `values`. Raises ParamsError for the first invalid value.

    Its message starts with `where`, the name of a file, and then the key below `within`, a section. `source` may give a
    value that is missing there.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problem = f"{within}.{_problem(kind, error)}" if within else _problem(kind, error)
        if source and error.errors()[0]["type"] == "missing":
            problem = problem.replace("; add it", f"; add it there or to {source}")
        raise ParamsError(f"{where}: {problem}" if where else problem) from error


def first_problem(error: ValidationError) -> str:
    """The first error of a validation, as `key: message`."""
    first = error.errors()[0]
    return one_line(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")


def expectation(message: str) -> str:
    """What was expected, by a message of pydantic."""
    if message.startswith("Input should be a valid dictionary"):
        return "a section of `key: value` lines"
    if message.startswith("String should match pattern"):
        return "up to 100 letters, digits, dots, dashes and underscores, a letter or digit first"
    shortened = message.removeprefix("Input should be ").removeprefix("String should ")
    return shortened.partition(", unable to")[0].rstrip(".")


def _problem(kind: type[Settings], error: ValidationError) -> str:
    # An `X | "auto"` value has one error per branch; the first is that of the number's range.
    first, *others = error.errors()
    keys = [one_line(part, 80) for part in first["loc"] if not _is_branch(str(part))]
    key = ".".join(keys)
    if first["type"] == "value_error":  # of a check of ours, which begins with the key
        return ".".join([*keys, first["msg"].removeprefix("Value error, ")])
    owner = kind
    for section in keys[:-1]:
        owner = class_of(owner.model_fields[section])
    if first["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(keys[-1], owner.model_fields, n=1, cutoff=0.5)
        whole = ".".join(keys[:-1]) or "the file"
        other = (
            f"did you mean {'.'.join([*keys[:-1], *nearest])}?"
            if nearest
            else f"{whole} has {', '.join(owner.model_fields)}"
        )
        return f"{key}: expected a known key, found an unknown one; {other}"
    if first["type"] == "missing":
        return f"{key}: expected a value, found none; add it"
    takes_auto = any(other["loc"][:-1] == first["loc"][:-1] and "auto" in str(other["msg"]) for other in others)
    takes_auto = takes_auto or (keys[-1] in owner.model_fields and bool(auto_by(owner.model_fields[keys[-1]])))
    expected = expectation(first["msg"]).removeprefix("a valid ") + (" or auto" if takes_auto else "")
    return f"{key}: expected {expected}, found {one_line(repr(first['input']), 80)}"


def _is_branch(part: str) -> bool:
    return part in {"int", "float", "str"} or part.startswith(("literal[", "constrained-", "function-"))


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a settings file. Raises ParamsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: expected a settings file, found none; run from the repository's root") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: expected a UTF-8 settings file, found one that cannot be read ({error})") from error
    try:
        values = yaml.load(text, Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{path}: expected YAML, found a syntax error: {one_line(error)}") from error
    if not isinstance(values, dict):
        found = one_line(repr(values), 80)
        raise ParamsError(f"{path}: expected sections such as `corpus:` and `prior:`, found {found}")
    return values


@cache
def default_values() -> dict[str, Any]:
    """The settings that ship: the copy of `params.yaml` in a wheel, or the file of the checkout itself."""
    copy = PACKAGE / "params.yaml"
    return read_yaml(copy if copy.is_file() else PACKAGE.parent / "params.yaml")


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
