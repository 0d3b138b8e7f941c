"""The `distill` command line: registers the commands and turns errors into exit statuses."""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from distill import __version__
from distill.cli import files, generate, train, ui
from distill.errors import ParamsError, for_the_user
from distill.execution import check_environment
from distill.params.settings import expectation
from distill.process import print_any_text, say
from distill.text import shown
from distill.training.interruption import raise_on_signals

INTERRUPTED = 130  # exit status

# Help without boxes: in a narrow terminal they leave columns of one letter.
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def distill(
    version: Annotated[
        bool, typer.Option("--version", help="print the version of Distill", is_eager=True)
    ] = False,
) -> None:
    """Learn a generative model of your own sounds, and make new ones from it."""
    if version:
        print(f"distill {__version__}")
        raise typer.Exit
    check_environment()


# In the order of `--help`.
COMMANDS: tuple[Callable[..., Any], ...] = (
    *(
        train.demo,
        train.train,
        train.train_prior,
        files.encode,
        files.decode,
        files.inspect,
        files.verify,
    ),
    files.list_folder,
    *generate.commands(),
    *(files.export, files.push, files.pull, ui.ui),
)
for command in COMMANDS:
    name = command.__name__.removesuffix("_folder").replace("_", "-")
    # Without it the first line would be cut to the width of the terminal.
    app.command(name, short_help=" ".join((command.__doc__ or "").partition("\n\n")[0].split()))(
        command
    )


def main() -> None:
    """Run the command and exit: 0 done, 2 usage or input error (one sentence on stderr), 129, 130 or 143 interrupted.

    Any other exception keeps its traceback.
    """
    raise_on_signals()
    print_any_text()
    try:
        if not all(
            sys.argv
        ):  # such as a shell's variable that is not set: as a path it is the current folder
            raise ParamsError(
                "expected a value for each argument, found an empty one; check the command's variables"
            )
        status = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:
        if known := for_the_user(error):
            say(f"distill: {shown(str(known))}")
            sys.exit(known.exit_code)
        if not hasattr(error, "format_message"):  # typer's usage errors
            raise
        say(f"distill: {shown(_wrong_use(error))}; see distill {_command_of(error)}--help")
        sys.exit(2)
    if status == INTERRUPTED:  # typer returns it for Ctrl-C, too
        say("distill: interrupted; nothing half-written was kept")
    sys.exit(status if isinstance(status, int) else 0)


def _command_of(error: Any) -> str:
    """Name of the command that was used wrongly; "" outside a command."""
    return (
        f"{error.ctx.info_name} " if error.ctx is not None and error.ctx.parent is not None else ""
    )


def _wrong_use(error: Any) -> str:
    """The message for a usage error of typer; for a value out of range, expected and found."""
    if not isinstance(error.__cause__, ValidationError):
        return str(error.format_message()).rstrip(".")
    first = error.__cause__.errors()[0]
    message, is_choice, choices = first["msg"].rstrip(".").partition(" is not one of ")
    expected = "one of " + choices.replace("'", "") if is_choice else expectation(message)
    if str(first["input"]) == "nan":  # outside of every range
        expected = "a finite number"
    return f"{max(error.param.opts, key=len)}: expected {expected}, found {first['input']}"
