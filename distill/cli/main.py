"""Entry point of the `distill` command: registers the commands and turns errors into exit statuses."""

import sys
from io import TextIOWrapper

import typer

from distill.cli import codes, demo, generate, inspect, kit, share, train, ui
from distill.cli.app import app
from distill.errors import ParamsError, for_the_user
from distill.text import shown
from distill.training.interruption import raise_on_signals

# Modules that register commands, in the order of `--help`.
COMMANDS = (demo, train, codes, inspect, generate, kit, share, ui)
INTERRUPTED = 130  # exit status


WITH_OWN_SENTENCE = ("--format", "--host")  # where their value is empty


def main() -> None:
    """Run the command and exit: 0 done, 2 usage or input error (one sentence on stderr), 129, 130 or 143 interrupted.

    Any other exception keeps its traceback.
    """
    raise_on_signals()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names that are not UTF-8 are printed as they are
    try:
        _refuse_nothing(sys.argv[1:])
        status = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:
        if known := for_the_user(error):
            print(f"distill: {shown(str(known))}", file=sys.stderr)
            sys.exit(known.exit_code)
        if not hasattr(error, "format_message"):  # typer's usage errors
            raise
        from distill.cli.flags import wrong_use

        print(f"distill: {shown(wrong_use(error))}; see distill --help", file=sys.stderr)
        sys.exit(2)
    if status == INTERRUPTED:  # typer returns it for Ctrl-C, too
        print("distill: interrupted; nothing half-written was kept", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _refuse_nothing(arguments: list[str]) -> None:
    """Refuse an empty argument, such as a shell's variable that is not set: as a path it is the current folder."""
    before = ("", *arguments)
    if any(not value and flag not in WITH_OWN_SENTENCE for flag, value in zip(before, arguments, strict=False)):
        raise ParamsError("expected a value for each argument, found an empty one; check the variables of the command")
