"""The Python API in Markdown. Signatures are copied from the source, letter by letter: the same on every Python."""

import ast
import inspect
import re
import textwrap
from functools import cache, cached_property
from importlib import import_module
from types import NoneType
from typing import Any

from pydantic import BaseModel

# The public names of modules; without names all of `__all__`, functions first.
MODULES: dict[str, tuple[str, ...]] = {
    "distill": (),
    "distill.api": ("Model",),
    "distill.one_shot": ("ModelOfOne",),
    "distill.generate.presentation.results": ("Result", "Generated", "Varied", "Similarity"),
    "distill.kit.kit": ("Kit", "KitGroup", "KitSound"),
    "distill.params": (),
    "distill.errors": (
        "DistillError",
        "ParamsError",
        "AudioError",
        "ArtifactError",
        "AudioWarning",
    ),
}


def api_markdown() -> str:
    """A section for every module, and in it a part for each public name: signature, docstring, members."""
    return "\n\n".join(part for module, names in MODULES.items() for part in _module(module, names))


def _module(name: str, names: tuple[str, ...]) -> list[str]:
    module = import_module(name)
    public = [getattr(module, one) for one in names or sorted(module.__all__)]
    if not names:
        public.sort(key=inspect.isclass)
    parts = [part for value in public for part in [f"### `{value.__name__}`", *_described(value)]]
    return [f"## `{name}`", _text(inspect.getdoc(module)), *parts]


def _described(value: Any) -> list[str]:
    return (
        _class(value)
        if inspect.isclass(value)
        else [_code(_signature(value)), _text(inspect.getdoc(value))]
    )


def _class(kind: type) -> list[str]:
    """The fields and arguments of a class, its docstring, its properties as a list, its methods."""
    node = _node(kind)
    assert isinstance(node, ast.ClassDef)
    members = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
    defined = [part for part in node.body if isinstance(part, ast.FunctionDef)]
    listed = [
        part for part in defined if isinstance(members.get(part.name), property | cached_property)
    ]
    called = [members[part.name] for part in defined if part.name in members and part not in listed]
    called += [
        value for value in members.values() if "__signature__" in getattr(value, "__dict__", {})
    ]
    start = [part for part in defined if part.name == "__init__"]
    fields = [
        part
        for part in node.body
        if isinstance(part, ast.AnnAssign) and not issubclass(kind, BaseModel)
    ]
    head = [
        *(_source(kind, part.lineno, part.end_lineno) for part in fields),
        *(_header(kind, one) for one in start),
    ]
    bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
    lines = [f"class {kind.__name__}{bases}", *(textwrap.indent(one, "    ") for one in head)]
    docs = [_text(doc) for doc in (ast.get_docstring(node), *map(ast.get_docstring, start)) if doc]
    properties = [_property(part) for part in listed]
    methods = [
        part
        for value in called
        for part in [f"#### `{kind.__name__}.{value.__name__}`", *_described(value)]
    ]
    return [
        _code("\n".join(lines)),
        *docs,
        *(["\n".join(properties)] if properties else []),
        *methods,
    ]


def _property(node: ast.FunctionDef) -> str:
    kind = ast.unparse(node.returns).strip("'") if node.returns else ""
    return f"- `{node.name}: {kind}`: {' '.join(_text(ast.get_docstring(node)).split())}"


def _signature(function: Any) -> str:
    """The header of a function; of one whose arguments are made from a request, their names and defaults."""
    made = vars(function).get("__signature__")
    if made is None:
        return _header(function, _node(function))
    bare = [
        one.replace(annotation=inspect.Parameter.empty, default=_plain(one.default))
        for one in made.parameters.values()
    ]
    header = f"def {function.__name__}{inspect.Signature(bare)}"
    return "\n    ".join(textwrap.wrap(header, 100))


class _Name(str):
    """A default as the page names it."""

    __repr__ = str.__str__


def _plain(default: Any) -> Any:
    """Return a default whose representation is the same in each process: functions and objects by name."""
    if default is inspect.Parameter.empty or isinstance(
        default, NoneType | bool | int | float | str | tuple | dict
    ):
        return default
    return _Name(getattr(default, "__name__", f"{type(default).__name__}()"))


def _header(owner: Any, node: Any) -> str:
    return _source(owner, node.lineno, node.body[0].lineno - 1).rstrip(":")


def _source(owner: Any, first: int, last: int | None) -> str:
    lines, _ = _module_of(owner.__module__)
    return textwrap.dedent("\n".join(lines[first - 1 : last]))


def _node(value: Any) -> Any:
    """The definition of a class or function in its module."""
    _, found = _module_of(value.__module__)
    for name in value.__qualname__.split("."):
        found = next(part for part in found.body if getattr(part, "name", "") == name)
    return found


@cache
def _module_of(name: str) -> tuple[list[str], Any]:
    text = inspect.getsource(import_module(name))
    return text.splitlines(), ast.parse(text)


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _text(docstring: str | None) -> str:
    """A docstring is plain text with code in backticks: escape what Markdown would read otherwise."""
    parts = re.split(r"(``?[^`]+``?)", docstring or "")
    parts[::2] = [
        re.sub(r"([*<|\\]|(?<!\w)_|_(?!\w)|(?<=\])\()", r"\\\1", text) for text in parts[::2]
    ]
    return "".join(parts)
