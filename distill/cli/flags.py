"""Shared parts of commands: flags, also from settings, checks of paths before any work, and JSON output."""

import inspect
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic.fields import FieldInfo
from typer import Argument, CallbackParam, Option

from distill.audio.source import is_url
from distill.errors import AudioWarning, ParamsError
from distill.generate import settings as verb_settings
from distill.params import Setting, setting
from distill.params.settings import Settings, setting_of
from distill.process import drop, say
from distill.storage.files import as_on_disk
from distill.text import shown

KEYWORD = inspect.Parameter.KEYWORD_ONLY


def limits(kind: Any) -> dict[str, float]:
    """`min` and `max` of an option, from a range in `distill.params` or the bounds of a setting; `--help` shows them."""
    within = kind if isinstance(kind, dict) else setting_of(FieldInfo.from_annotation(kind)).bounds
    last = {
        name: value - (name == "lt" and isinstance(value, int)) for name, value in within.items()
    }
    ends = {"ge": "min", "gt": "min", "le": "max", "lt": "max"}
    return {ends[name]: value for name, value in last.items()}


def spelt(given: Any) -> Any:
    """A path, or several, as their names are spelt on disk; an address as it is.

    A leading ~ is the home folder: shells leave it as it is in `--out=~/sounds` and in quotes.
    """
    if isinstance(given, list):
        return [spelt(path) for path in given]
    if given is None or is_url(given):
        return given
    on_disk = as_on_disk(Path(os.path.expanduser(given)))  # noqa: PTH111 - pathlib fails where there is no such home
    return given if on_disk == Path(given) else type(given)(on_disk)


def existing(expected: str, is_folder: bool = False) -> Callable[[Any], Any]:
    """A check of the path of a file or folder to read, or of several, before any library is loaded; gives them as `spelt`."""

    def checked(given: Any) -> Any:
        paths = spelt(given)
        for path in paths if isinstance(paths, list) else [paths]:
            if path is None or is_url(path):
                continue
            wrong = {
                "nothing there; check the path": not os.path.lexists(path),
                "a folder; name a file in it": not is_folder and path.is_dir(),
                "a file; name the folder that holds it": is_folder and path.is_file(),
            }
            for found in filter(wrong.get, wrong):
                raise ParamsError(f"{path}: expected {expected}, found {found}")
        return paths

    return checked


def writable(parameter: CallbackParam, given: Path) -> Path:
    """A folder to write to, as `spelt`, checked before any library is loaded; it is made with its first file."""
    folder: Path = spelt(given)
    check_folder(max(parameter.opts, key=len), folder)
    return folder


MODEL, RECORDING = "a Distill model", "a recording"
# Checks of path fields of requests, by the metavar of the flag.
CHECKS = {
    "AUDIO": existing(RECORDING),
    "AUDIO|MIDI": existing("a recording or a MIDI file"),
    "DIR": writable,
}
ModelPath = Annotated[
    Path,
    Argument(
        callback=existing(MODEL), metavar="MODEL.distill", help="a model file", show_default=False
    ),
]
Replace = Annotated[
    bool, Option("--replace", help="replace files of these names that Distill made")
]
Json = Annotated[bool, Option("--json", help="print one JSON document on stdout and nothing else")]
Given = dict[str, Any]
"""Values of the flags that were used, by setting: {"vqvae.epochs": 3}, or by field of a request: {"seconds": 2.0}."""


def flag_of(path: str) -> str:
    """The flag of a setting, such as "--rvq-levels" of "vqvae.num_quantizers"."""
    key = path.rpartition(".")[2].replace("num_quantizers", "rvq_levels")
    return "--" + key.removeprefix("num_").replace("_", "-")


def takes_settings(*paths: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, in place of its argument `given`, a flag for each of these settings of `params.yaml`.

    The setting gives type, range, help and default.
    """
    return _takes({path: _of_setting(path) for path in paths})


def takes_request(kind: type[Settings]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, in place of its argument `given`, a flag for each field of a request's class that has help."""
    return _takes(
        {name: _of_field(name, field) for name, field in verb_settings.fields_of(kind).items()}
    )


def _takes(
    flags: dict[str, inspect.Parameter],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command flags, by the keys of their values in its argument `given`, which has those that are not None."""

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            given = {key: values.pop(flag.name) for key, flag in flags.items()}
            command(
                **values, given={key: value for key, value in given.items() if value is not None}
            )

        own = inspect.signature(command, eval_str=True).parameters.values()
        others = [argument.replace(kind=KEYWORD) for argument in own if argument.name != "given"]
        run.__signature__ = inspect.Signature([*flags.values(), *others])  # type: ignore[attr-defined]
        return run

    return decorated


def _of_setting(path: str) -> inspect.Parameter:
    """The flag of a setting; what fills in `auto` is the default, and no value of the flag."""
    about, flag = setting(path), flag_of(path)
    kind: Any = (
        Literal[about.choices] if about.choices and about.choices != ("auto",) else about.type
    )
    names = f"{flag}/--no{flag[1:]}" if kind is bool else flag
    return _flag(path.replace(".", "_"), kind | None, None, about, names, show_default=about.shown)


def _of_field(name: str, field: FieldInfo) -> inspect.Parameter:
    """The flag of a request's field."""
    about, flag = setting_of(field), verb_settings.flag_of(name, field)
    kind, default = flag.type, field.default
    if field.is_required():
        default = inspect.Parameter.empty
    elif default is None or kind not in (int, float, bool):
        kind, default = kind | None, None
    shown = {"metavar": flag.metavar, "show_default": flag.otherwise or True}
    names = filter(None, (flag.name, flag.short))
    return _flag(
        name, kind, default, about, *names, callback=CHECKS.get(flag.metavar or ""), **shown
    )


def _flag(
    name: str, kind: Any, default: Any, about: Setting, *names: str, **shown: Any
) -> inspect.Parameter:
    option = Option(*names, **{"help": about.help, **limits(about.bounds), **shown})
    return inspect.Parameter(name, KEYWORD, default=default, annotation=Annotated[kind, option])


def check_output(output: Path, inputs: Sequence[Path]) -> None:
    """Refuse an output that cannot be written or would replace an input. Raises ParamsError."""
    if not output.parent.is_dir():
        raise ParamsError(
            f"-o {output}: expected a path in an existing folder, found no {output.parent}; create it"
        )
    make_folder("-o", output.parent)
    if output.exists() and not output.is_file() and not output.is_dir():
        raise ParamsError(
            f"-o {output}: expected a file, found something else, such as a device; choose another name"
        )
    if any(output.exists() and path.exists() and output.samefile(path) for path in inputs):
        raise ParamsError(
            f"-o {output}: expected a file other than the input, found the same; choose another name"
        )


def check_folder(flag: str, folder: Path, make: bool = False) -> None:
    """Check that a folder can be written to, or made. Raises ParamsError."""
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(
            dir=next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        ).close()
    except OSError as error:
        reason = "a file" if folder.is_file() else error.strerror or error
        raise ParamsError(
            f"{flag} {folder}: expected a folder to write to, found {reason}; choose another folder"
        ) from error


def make_folder(flag: str, folder: Path) -> None:
    """Make a folder and check that it can be written to. Raises ParamsError."""
    check_folder(flag, folder, make=True)


@contextmanager
def remarks_said() -> Iterator[list[str]]:
    """Say remarks on recordings on stderr, and give them for `--json`."""
    said, others = list[str](), warnings.showwarning

    def warn(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if category is AudioWarning:
            said.append(str(message))
            say(f"distill: warning: {shown(said[-1])}")
        else:
            others(message, category, *place)

    with warnings.catch_warnings():
        warnings.simplefilter("always", AudioWarning)
        warnings.showwarning = warn  # type: ignore[assignment]
        yield said


def answer(as_json: bool, document: Any, *lines: str) -> None:
    """Say what a command did on stdout: one JSON document, or lines."""
    if not as_json:
        _print(shown("\n".join(lines)))
        return
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")  # stdout may be closed
    except UnicodeEncodeError:
        text = json.dumps(document, indent=2, sort_keys=True)  # with escapes
    _print(text)


def _print(text: str) -> None:
    """Print a text at once. Who reads it may have enough, as `head` has: the command has done its work nevertheless."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        drop(sys.stdout)  # else Python fails as it ends
