"""Reference tables made from the code, so that they are true: commands with their flags, settings with their ranges."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from distill.cli.main import app
from distill.params import Setting, setting
from distill.params.settings import read_yaml

ROOT = Path(__file__).parents[1]
BOUNDS = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
TYPES = {int: "whole number", float: "number", bool: "true or false", str: "text"}


def commands() -> dict[str, Any]:
    """The subcommands of `distill` by name."""
    group: Any = typer.main.get_command(app)
    subcommands: dict[str, Any] = group.commands
    return subcommands


def flags(command: Any) -> set[str]:
    """All flags of a command."""
    options = (option for option in command.params if option.param_type_name == "option")
    return {flag for option in options for flag in (*option.opts, *option.secondary_opts)} | {"--help"}


def commands_markdown() -> str:
    """A section for every command: what it does, how it is called, its arguments and flags."""
    return "\n\n".join(_section(name, command) for name, command in commands().items())


def settings_markdown() -> str:
    """A table for every section of `params.yaml`: each key, its value there, what it may be and what it means."""
    values = read_yaml(ROOT / "params.yaml")
    sections: dict[str, list[str]] = {}
    for path in _paths({key: value for key, value in values.items() if key not in ("qualities", "tiers")}):
        about, (section, _, key) = setting(path), path.rpartition(".")
        cells = (f"`{key}`", f"`{_plain(about.default)}`", _allowed(about), about.help)
        sections.setdefault(section, []).append(_row(*cells))
    head = [_row("key", "value", "allowed", "meaning"), _row(*["---"] * 4)]
    return "\n\n".join(
        f"### {f'`{name}`' if name else 'Top level'}\n\n" + "\n".join([*head, *rows]) for name, rows in sections.items()
    )


GENERATED: dict[str, Callable[[], str]] = {"commands": commands_markdown, "settings": settings_markdown}


def _section(name: str, command: Any) -> str:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    usage = " ".join(
        ["distill", name, *(parameter.metavar or parameter.name.upper() for parameter in arguments), "[options]"]
    )
    rows = [
        _row(
            f"`{argument.metavar or argument.name.upper()}`",
            "required" if argument.required else "",
            argument.help or "",
        )
        for argument in arguments
    ]
    for option in options:
        value = "" if option.is_flag else f" {_value(option)}"
        shown = ", ".join(f"`{flag}{value}`" for flag in sorted([*option.opts, *option.secondary_opts], key=len))
        rows.append(_row(shown, _default(option), _help(option)))
    table = "\n".join([_row("argument or flag", "default", "meaning"), _row("---", "---", "---"), *rows])
    return f"## `distill {name}`\n\n{_literal(command.help.strip())}\n\n```sh\n{usage}\n```\n\n{table}"


def _value(option: Any) -> str:
    kind = option.type_descriptor.annotation
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    return str(option.metavar or {int: "N", float: "X"}.get(kind, "TEXT"))


def _default(option: Any) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    if option.required:
        return "required"
    return "" if option.default is None or option.is_flag else f"`{option.default}`"


def _help(option: Any) -> str:
    bounds = [f"{word} {bound}" for word, bound in (("from", option.min), ("to", option.max)) if bound is not None]
    within = f" ({' '.join(bounds)})" if bounds else ""
    return f"{_literal(option.help or '')}{within}"


def _literal(text: str) -> str:
    """Flags and variables in running text as code."""
    return re.sub(r"(?<![`\w])(--[a-z-]+|[A-Z]+_[A-Z_]+)", r"`\1`", text)


def _paths(values: Any, before: str = "") -> Iterator[str]:
    """Every key of a tree of settings, such as "prior.memory.key_size"."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{before}{key}.")
        else:
            yield f"{before}{key}"


def _allowed(about: Setting) -> str:
    bounds = [f"{word} {_plain(about.bounds[name])}" for name, word in BOUNDS.items() if name in about.bounds]
    choices = [f"`{choice}`" for choice in (*about.choices, *(["auto"] if about.auto_by else []))]
    kind = [] if about.choices and about.type is str else [" ".join([TYPES[about.type], *bounds])]
    return " or ".join([*kind, ", ".join(choices)] if choices else kind)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
