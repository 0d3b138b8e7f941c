"""Base of settings classes: descriptions of fields, validation errors as sentences, and the file of defaults."""

import difflib
import re
from collections.abc import Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from distill.errors import ParamsError
from distill.text import one_line

PACKAGE = Path(__file__).parents[1]
BOUNDS = ("ge", "gt", "le", "lt")
Auto = Literal["auto"]
S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every settings class: frozen, strictly typed, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Some(Settings):
    """Base of classes from `some_of`."""

    @property
    def given(self) -> dict[str, Any]:
        """Explicit values, without each `auto` that is filled in."""
        fields, given = (
            type(self).model_fields,
            {name: getattr(self, name) for name in self.model_fields_set},
        )
        return {
            name: value
            for name, value in given.items()
            if value != "auto" or not fields[name].title
        }


def some_of(kind: type[Settings], *without: str) -> Any:
    """Class with the fields of `kind`, all optional; a field whose title says what fills it in can be `auto`."""
    fields: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        annotation: Any = field.rebuild_annotation()
        if field.title:
            annotation = Union[annotation, Auto]  # noqa: UP007 - not plain classes
        if name not in without:
            fields[name] = (
                annotation,
                Field(None, title=field.title, description=field.description),
            )
    return create_model(f"Some{kind.__name__}", __base__=Some, **fields)


class Setting(NamedTuple):
    """Description of a setting for flags, forms and tables."""

    type: type  # int, float, bool or str
    bounds: dict[str, float]  # by "ge", "gt", "le" and "lt"
    choices: tuple[str, ...]  # instead of, or in addition to, values of the type
    auto_by: str  # what fills in `auto`; "" if `auto` is not allowed, or is a choice
    help: str
    default: Any

    @property
    def shown(self) -> str:
        """Default, and what fills in `auto`."""
        return (
            f"auto, {self.auto_by}"
            if self.default == "auto" and self.auto_by
            else str(self.default)
        )


def setting_of(field: FieldInfo, comment: str = "", default: Any = None) -> Setting:
    """Describe a field, with its comment and its value in the file of defaults."""
    union, by = get_origin(field.annotation) in (Union, UnionType), field.title or ""
    parts = (
        [FieldInfo.from_annotation(part) for part in get_args(field.annotation)]
        if union
        else [field]
    )
    names = [
        name
        for part in parts
        if get_origin(part.annotation) is Literal
        for name in get_args(part.annotation)
    ]
    choices, metadata = (
        () if by else tuple(names),
        [limit for part in parts for limit in part.metadata],
    )
    return Setting(
        type=next((part.annotation for part in parts if isinstance(part.annotation, type)), str),
        bounds={
            name: getattr(limit, name)
            for limit in metadata
            for name in BOUNDS
            if hasattr(limit, name)
        },
        choices=choices,
        auto_by=by,
        help=field.description or comment.removeprefix(" | ".join(choices)).removeprefix(": "),
        default=default,
    )


def field_at(
    kind: type[Settings], keys: Sequence[Any]
) -> tuple[list[str], type[Settings], FieldInfo | None]:
    """Follow keys through nested sections: keys that name fields, class of the last field, and the field."""
    named: list[str] = []
    inner: list[type[Settings]] = [kind]
    owner, field, rest = kind, None, iter(keys)
    for key in rest:
        if not inner:
            break  # inside a setting: pydantic adds the type it tried
        owner = inner[0]
        named, field = [*named, one_line(key, 80)], owner.model_fields.get(key)
        annotation = None if field is None else field.annotation
        parts = (annotation, *get_args(annotation))
        inner = [part for part in parts if isinstance(part, type) and issubclass(part, Settings)]
        if get_origin(annotation) is dict:  # several sections by name
            named += [one_line(name, 80) for name in islice(rest, 1)]
    return named, owner, field


def validated(kind: type[S], values: dict[str, Any], before: str = "") -> S:
    """Build `kind` from `values`; scalars of NumPy and PyTorch become Python numbers.

    Raises ParamsError for the first invalid value, with `before` in front of its key.
    """
    plain = {
        key: value.item() if getattr(value, "shape", None) == () else value
        for key, value in values.items()
    }
    try:
        return kind.model_validate(plain)
    except ValidationError as error:
        raise ParamsError(before + _problem(kind, error)) from error


def first_problem(error: ValidationError) -> str:
    """First error of a validation, as `key: message`."""
    first = error.errors()[0]
    return one_line(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")


def expectation(message: str) -> str:
    """Rewrite a message of pydantic as the expected value."""
    own = {
        "Input should be a valid dictionary": "a section of `key: value` lines",
        "String should match pattern": (
            "up to 100 letters, digits, dots, dashes and underscores, a letter or digit first"
        ),
    }
    shortened = message.removeprefix("Input should be ").removeprefix("String should ")
    plain = shortened.partition(", unable to")[0].rstrip(".")
    return next((text for start, text in own.items() if message.startswith(start)), plain)


def _problem(kind: type[Settings], error: ValidationError) -> str:
    """Sentence for the first error. A union has an error for each type; the first reports the range."""
    first = error.errors()[0]
    keys, owner, field = field_at(kind, first["loc"])
    key = ".".join(keys)
    match first["type"]:
        case "value_error":  # from our own validators, which begin with the key
            return ".".join([*keys, first["msg"].removeprefix("Value error, ")])
        case "extra_forbidden":
            return f"{key}: expected a known key, found an unknown one; {_known_keys(keys, owner)}"
        case "missing":
            return f"{key}: expected a value, found none; add it"
    about = setting_of(field) if field else None
    takes_auto = about and (about.auto_by or about.choices == ("auto",))
    expected = expectation(first["msg"]).removeprefix("a valid ") + (
        " or auto" if takes_auto else ""
    )
    return f"{key}: expected {expected}, found {one_line(repr(first['input']), 80)}"


def _known_keys(keys: list[str], owner: type[Settings]) -> str:
    """Suggest the known key nearest to the last of `keys`, or list all keys of its section."""
    *section, last = keys
    nearest = difflib.get_close_matches(last, owner.model_fields, n=1, cutoff=0.5)
    if nearest:
        return f"did you mean {'.'.join([*section, *nearest])}?"
    return f"{'.'.join(section) or 'the file'} has {', '.join(owner.model_fields)}"


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the sections of a settings file. Raises ParamsError."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError as error:
        raise ParamsError(
            f"{path}: expected a settings file, found none; run from the repository's root"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(
            f"{path}: expected a UTF-8 settings file, found one that cannot be read ({error})"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(
            f"{path}: expected YAML, found a syntax error: {_of_yaml(error)}"
        ) from error
    if not isinstance(values, dict):
        text = one_line(repr(values), 80)
        raise ParamsError(f"{path}: expected sections such as `corpus:` and `prior:`, found {text}")
    return values


def _of_yaml(error: Exception) -> str:
    """Problem of a YAML file, with line and column if the parser reports them."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return one_line(error)
    return one_line(
        f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', '')}"
    )


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys (YAML would silently keep the last) and reads 1e-3 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [str(getattr(key, "value", key)) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(
                None, None, f"duplicate key {twice[0]!r}", node.start_mark
            )
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def default_file() -> Path:
    """Settings file that ships: the copy in a wheel, or `params.yaml` of the checkout."""
    copy = PACKAGE / "params.yaml"
    return copy if copy.is_file() else PACKAGE.parent / "params.yaml"


@cache
def default_values() -> dict[str, Any]:
    """Settings that ship. Raises ParamsError if the file of a checkout is broken."""
    return read_yaml(default_file())


@cache
def comments() -> dict[str, str]:
    """Comment of each key in the settings file that ships, by path, such as "vqvae.epochs"."""
    keys: list[str] = []
    texts: dict[str, str] = {}
    for line in default_file().read_text(encoding="utf-8").splitlines():
        if part := re.match(r"( *)(\w+):", line):
            keys = [*keys[: len(part[1]) // 2], part[2]]
            texts[".".join(keys)] = line.partition(" # ")[2]
    return texts
