"""The pages that are made from the code, so that they are true: commands, settings, Python.

`python -m docs.reference` writes them again; a test compares them with the code.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from distill.cli.main import app
from distill.params import Setting, setting
from distill.params.settings import read_yaml
from distill.storage.files import write_bytes
from docs.api_reference import api_markdown

ROOT = Path(__file__).parents[1]
MADE = "<!-- made from the code by `make reference`: change the code, or docs/reference.py -->"
COMMANDS_HEAD = f"""{MADE}
# What can each command do?

`distill COMMAND --help` says the same on the terminal.

- Exit status: 0 done; 2 wrong use or input, which one sentence on stderr explains; 129, 130 or 143 interrupted and
  saved; 1 a defect of Distill. `make` itself turns every other status than 0 into 2.
- `--json` prints one JSON document on stdout and nothing else. Progress goes to stderr.
- Device, precision and workers are environment variables: see [tuning](tuning.md#device-precision-and-workers).
"""
SETTINGS_HEAD = f"""{MADE}
# Which settings are there?

All keys of `params.yaml`, by section; `value` is what the file has. [Tuning](tuning.md) says what to change when.
"""
API_HEAD = f"""{MADE}
# What can I call from Python?

```python
import distill

model = distill.load("models/demo.distill")
made = model.generate(n=8, seconds=2, seed=0)  # made.sounds: float32 arrays at made.sample_rate
print(made.table())  # a data frame: length, verdict, nearest recording
scale = model.generate(note="C3:C4", seed=0)  # 13 sounds; see scale.pitches
codes = model.encode(made.sounds[0])  # [frames, levels]; back with model.decode
takes = model.vary("kick.wav", n=8, strength=0.3, seed=1)
print(model.kit("my-kit", seed=7).table())  # the sounds of a kit, with keys and verdicts
model.kit("my-bass", notes="C1:C4", every=3, labels=["bass"])  # all keys
print(model.history)  # the loss curves of its training as a pandas data frame
```

Shapes use one legend: `B` batch, `N` audio samples, `F` frames, `Q` levels (quantisers), `V` codebook size, `T` tokens
or positions, `D` model width, `H` heads. The fields of settings are [on their page](settings.md). Samples of a mono sound
are `[N]`, of a stereo one `[N, 2]`: see [`Model.samples`](#modelsamples).
"""
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
    return {flag for option in options for flag in (*option.opts, *option.secondary_opts)} | {
        "--help"
    }


def commands_markdown() -> str:
    """A section for every command: what it does, how it is called, its arguments and flags."""
    return "\n\n".join(_section(name, command) for name, command in commands().items())


def settings_markdown() -> str:
    """A table for every section of `params.yaml`: each key, its value there, what it may be and what it means."""
    values = read_yaml(ROOT / "params.yaml")
    sections: dict[str, list[str]] = {}
    for path in _paths(
        {key: value for key, value in values.items() if key not in ("qualities", "tiers")}
    ):
        about, (section, _, key) = setting(path), path.rpartition(".")
        cells = (f"`{key}`", f"`{_plain(about.default)}`", _allowed(about), about.help)
        sections.setdefault(section, []).append(_row(*cells))
    head = [_row("key", "value", "allowed", "meaning"), _row(*["---"] * 4)]
    return "\n\n".join(
        f"## {f'`{name}`' if name else 'Top level'}\n\n" + "\n".join([*head, *rows])
        for name, rows in sections.items()
    )


def targets_markdown() -> str:
    """A table of what `make` can do, from the comments of the Makefile."""
    found = re.findall(
        r"^([a-z-]+):.*?## (.+)$",
        (ROOT / "Makefile").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    rows = [
        _row(f"`make {name}`", re.sub(r'([A-Z]{2,}=("[^"]*"|\w+))', r"`\1`", text))
        for name, text in found
    ]
    return "\n".join([_row("target", "what it does"), _row("---", "---"), *rows])


def commands_page() -> str:
    """The page on commands."""
    return f"{COMMANDS_HEAD}\n{commands_markdown()}\n\n## `make`\n\n{targets_markdown()}\n"


def settings_page() -> str:
    """The page on settings."""
    return f"{SETTINGS_HEAD}\n{settings_markdown()}\n"


def api_page() -> str:
    """The page on Python."""
    return f"{API_HEAD}\n{api_markdown()}\n"


# Content of each page of this name in `docs/`.
PAGES: dict[str, Callable[[], str]] = {
    "commands": commands_page,
    "settings": settings_page,
    "api": api_page,
}


def write_pages() -> None:
    """Write all pages, but those that stand there as they are."""
    for name, page in PAGES.items():
        write_bytes(ROOT / "docs" / f"{name}.md", page().encode())


def _section(name: str, command: Any) -> str:
    arguments = [
        parameter for parameter in command.params if parameter.param_type_name == "argument"
    ]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    usage = " ".join(["distill", name, *map(_shown, arguments), "[options]"])
    rows = [
        _row(
            f"`{argument.metavar or argument.name.upper()}`",
            _needed(argument),
            argument.help or "",
        )
        for argument in arguments
    ]
    for option in options:
        value = "" if option.is_flag else f" {_value(option)}"
        shown = ", ".join(
            f"`{flag}{value}`" for flag in sorted([*option.opts, *option.secondary_opts], key=len)
        )
        rows.append(_row(shown, _default(option), _help(option)))
    table = "\n".join(
        [_row("argument or flag", "default", "meaning"), _row("---", "---", "---"), *rows]
    )
    return (
        f"## `distill {name}`\n\n{_literal(command.help.strip())}\n\n```sh\n{usage}\n```\n\n{table}"
    )


def _shown(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _value(option: Any) -> str:
    kind = option.type_descriptor.annotation
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    return str(option.metavar or {int: "N", float: "X"}.get(kind, "TEXT"))


def _needed(argument: Any) -> str:
    """The default of an argument; nothing where its brackets say that it may be left out."""
    return f"`{argument.default}`" if argument.default else "required" if argument.required else ""


def _default(option: Any) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    if option.required:
        return "required"
    return "" if option.default is None or option.is_flag else f"`{option.default}`"


def _help(option: Any) -> str:
    bounds = [
        f"{word} {bound}"
        for word, bound in (("from", option.min), ("to", option.max))
        if bound is not None
    ]
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
    bounds = [
        f"{word} {_plain(about.bounds[name])}"
        for name, word in BOUNDS.items()
        if name in about.bounds
    ]
    choices = [f"`{choice}`" for choice in (*about.choices, *(["auto"] if about.auto_by else []))]
    kind = [] if about.choices and about.type is str else [" ".join([TYPES[about.type], *bounds])]
    return " or ".join([*kind, ", ".join(choices)] if choices else kind)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    write_pages()
