"""The `distill` command line: the app that commands register with, and the arguments and flags that they share."""

import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic.fields import FieldInfo

from distill import __version__
from distill.params import SamplingSeed, Temperature, setting
from distill.params.settings import bounds

if TYPE_CHECKING:
    from distill.api import Model

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def limits(kind: Any) -> dict[str, float]:
    """`min` and `max` of an option, from a range in `distill.params`; `--help` shows them."""
    return _minimum_and_maximum(bounds(FieldInfo.from_annotation(kind)))


def _minimum_and_maximum(within: Mapping[str, float]) -> dict[str, float]:
    found = {{"ge": "min", "gt": "min", "le": "max", "lt": "max"}[name]: value for name, value in within.items()}
    if isinstance(within.get("lt"), int):
        found["max"] -= 1
    return found


ModelPath = Annotated[Path, typer.Argument(metavar="MODEL.distill", help="a model file", show_default=False)]
SeedOrAny = Annotated[
    int | None, typer.Option(help="equal seeds give equal files; without it a random one", **limits(SamplingSeed))
]
SamplingTemperature = Annotated[
    float, typer.Option(help="sampling temperature: below 1 less random, above 1 more", **limits(Temperature))
]
Replace = Annotated[bool, typer.Option("--replace", help="replace files of these names that Distill made")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout and nothing else")]
Given = dict[str, Any]
"""Values of the flags of settings that were used, by setting: {"vqvae.epochs": 3}."""


@app.callback(invoke_without_command=True)
def distill(
    version: Annotated[bool, typer.Option("--version", help="print the version of Distill", is_eager=True)] = False,
) -> None:
    """Learn a generative model of your own sounds, and make new ones from it."""
    if version:
        print(f"distill {__version__}")
        raise typer.Exit


def takes_settings(flags: Mapping[str, str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, in place of its argument `given`, a flag for each of these settings of `params.yaml`.

    Type, range, help and default are those of the setting.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        names = {setting.replace(".", "_"): setting for setting in flags}

        @wraps(command)
        def run(**values: Any) -> None:
            given = {setting: values.pop(name) for name, setting in names.items()}
            command(**values, given={setting: value for setting, value in given.items() if value is not None})

        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
            added = [_flag(name, path, flags[path]) for name, path in names.items()]
            parameters += added if parameter.name == "given" else own
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorated


def _flag(name: str, path: str, flag: str) -> inspect.Parameter:
    about = setting(path)
    kind: Any = Literal[about.choices] if about.choices else about.type
    help_and_default: dict[str, Any] = {"help": about.help, "show_default": about.shown}
    if about.choices == ("auto",):
        kind = str
        within = "{min} to {max}".format(**_minimum_and_maximum(about.bounds))
        help_and_default |= {"metavar": "N|auto", "help": f"{about.help} ({within})"}
    else:
        help_and_default |= _minimum_and_maximum(about.bounds)
    annotation = Annotated[kind | None, typer.Option(flag, **help_and_default)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def print_note(model: "Model") -> None:
    """Print what sounds are made with, where that is not a prior of the file."""
    if model.note:
        print(f"distill: note: {model.note}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    # A name that is not UTF-8 is escaped, since JSON is UTF-8.
    print(re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text))
