"""The `distill` command line: the app that commands register with, and their shared arguments."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

ModelPath = Annotated[Path, typer.Argument(metavar="MODEL.distill", help="a model file", show_default=False)]
Replace = Annotated[bool, typer.Option("--replace", help="replace files of these names that Distill made")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout and nothing else")]


@app.callback()
def distill() -> None:
    """Learn a generative model of your own sounds, and make new ones from it."""


def limits(bounds: Any) -> dict[str, Any]:
    """`min` and `max` of an option, from the range of a setting in `distill.params`; `--help` shows them."""
    found: dict[str, Any] = {}
    for one in (part for field in bounds.__metadata__ for part in field.metadata):
        for name, key in (("ge", "min"), ("gt", "min"), ("le", "max"), ("lt", "max")):
            value = getattr(one, name, None)
            if value is not None:
                found[key] = value - 1 if name == "lt" and isinstance(value, int) else value
    return found


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    # A name that is not UTF-8 is escaped, since JSON is UTF-8.
    print(re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text))
