"""Validation of settings from a file or from values, with one-sentence errors."""

import difflib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from distill.errors import ParamsError
from distill.params.bounds import Settings
from distill.params.sections import Params, indivisible
from distill.params.yaml_file import read_yaml
from distill.text import one_line

S = TypeVar("S", bound=Settings)


def load_params(path: Path) -> Params:
    """Read and validate `params.yaml`. Raises ParamsError that names the file, the key and the nearest known key."""
    params = validated(Params, read_yaml(path), str(path))
    try:
        params.vqvae.check_batch()
    except ParamsError as error:
        raise ParamsError(f"{path}: {error}") from error
    prior = params.prior
    if isinstance(prior.hidden_size, int) and isinstance(prior.num_heads, int) and prior.hidden_size % prior.num_heads:
        raise ParamsError(f"{path}: {indivisible(prior.hidden_size, prior.num_heads)}")
    return params


def validated(kind: type[S], values: dict[str, Any], where: str) -> S:
    """Build `kind` from `values`. Raises ParamsError for the first invalid value; its message starts with `where`."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ParamsError(f"{where}: {_problem(kind, error)}") from error


def _problem(kind: type[Settings], error: ValidationError) -> str:
    # An `X | "auto"` value has one error per branch; the first is that of the number's range.
    first = error.errors()[0]
    keys = [one_line(part, 80) for part in first["loc"] if not _is_branch(str(part))]
    key = ".".join(keys)
    if first["type"] == "extra_forbidden":
        return f"{key}: expected a known key, found an unknown one{_nearest(kind, keys)}"
    if first["type"] == "missing":
        return f"{key}: expected a value, found none; add it"
    takes_auto = any(part["loc"][:-1] == first["loc"][:-1] and "auto" in str(part["msg"]) for part in error.errors())
    expected = _expectation(first["msg"]) + (" or auto" if takes_auto else "")
    return f"{key}: expected {expected}, found {one_line(repr(first['input']), 80)}"


def _is_branch(part: str) -> bool:
    return part in {"int", "float", "str"} or part.startswith(("literal[", "constrained-", "function-"))


def _expectation(message: str) -> str:
    if message.startswith("Input should be a valid dictionary"):
        return "a section of `key: value` lines"
    return message.removeprefix("Input should be ").removeprefix("String should ").removeprefix("a valid ").rstrip(".")


def _nearest(kind: type[Settings], keys: list[str]) -> str:
    section = kind
    for key in keys[:-1]:
        section = section.model_fields[key].annotation  # type: ignore[assignment]
    names = list(section.model_fields)
    match = difflib.get_close_matches(keys[-1], names, n=1, cutoff=0.5)
    prefix = ".".join(keys[:-1])
    if match:
        return f"; did you mean {'.'.join([*keys[:-1], match[0]])}?"
    return f"; {prefix or 'the file'} has {', '.join(names)}"
