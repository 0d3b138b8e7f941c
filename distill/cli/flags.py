"""Validation of flags before any work, and of paths to read and write."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import typer
from pydantic import ValidationError

from distill.audio.write import AudioFormat
from distill.errors import ParamsError
from distill.params.settings import expectation
from distill.storage.made import check_replaceable
from distill.text import is_utf8


def wrong_use(error: Any) -> str:
    """The message for a usage error of typer; for a value out of range, expected and found."""
    if not isinstance(error.__cause__, ValidationError):
        return str(error.format_message()).rstrip(".")
    first = error.__cause__.errors()[0]
    message, is_choice, choices = first["msg"].rstrip(".").partition(" is not one of ")
    expected = "one of " + choices.replace("'", "") if is_choice else expectation(message)
    if str(first["input"]) == "nan":  # outside of every range
        expected = "a finite number"
    return f"{max(error.param.opts, key=len)}: expected {expected}, found {first['input']}"


def check_utf8(path: Path) -> None:
    """Refuse a path for a model that no model can be read from. Raises ParamsError."""
    if not is_utf8(str(path)):
        raise ParamsError(f"{path}: expected a path in UTF-8, found other bytes in it; choose another name")


def refuse_existing(model: Path) -> None:
    """Refuse the name of an existing model file. Raises ParamsError."""
    from distill.model_file.card import card_path

    check_utf8(model)
    if model.exists() or model.is_symlink():
        raise ParamsError(f"--name {model.stem}: expected a new name, found {model} there; choose another name")
    check_replaceable("--name", [card_path(model)], replace=True)


def may_replace(model: Path, has_prior: bool, output: Path | None, replace: bool) -> None:
    """Require --replace, or a yes on a terminal, before an existing prior or file is replaced. Raises ParamsError."""
    from distill.model_file.card import card_path

    target = model if output is None else output
    if output is not None:
        check_utf8(output)
        check_output(output, [])
        check_replaceable("--output", [output], replace=True)
    check_replaceable("--output", [card_path(target)], replace=True)
    there = has_prior if output is None or (output.exists() and output.samefile(model)) else target.exists()
    if not there or replace:
        return
    what = f"its prior in {target}" if target == model else f"{target}"
    if sys.stdin.isatty() and typer.confirm(f"Replace {what}?", err=True):
        return
    raise ParamsError(
        f"{target}: expected a model without a prior, or a new name with --output, found an existing one; "
        "use --replace to replace it"
    )


def check_folder(flag: str, folder: str) -> None:
    """Refuse a path that is not a folder, and an address that is none. Raises ParamsError, AudioError."""
    from distill.audio.source import is_url, open_source

    if is_url(folder):
        open_source(folder)
    elif not Path(folder).is_dir():
        found = "a file; name the folder that holds it" if Path(folder).exists() else "nothing there; check the path"
        raise ParamsError(f"{flag} {folder}: expected a folder of recordings, found {found}")


def check_inputs(audio: Sequence[Path], flag: str = "AUDIO") -> None:
    """Refuse recordings that do not exist. Raises ParamsError."""
    for path in audio:
        if not path.exists():
            raise ParamsError(f"{flag} {path}: expected a recording, found no such file; check the path")
        if path.is_dir():
            raise ParamsError(f"{flag} {path}: expected a recording, found a folder; name the files in it")


def check_output(output: Path, inputs: Sequence[Path]) -> None:
    """Refuse an output that cannot be written or would replace an input. Raises ParamsError."""
    if not output.parent.is_dir():
        raise ParamsError(f"-o {output}: expected a path in an existing folder, found no {output.parent}; create it")
    make_folder("-o", output.parent)
    if output.exists() and not output.is_file() and not output.is_dir():
        raise ParamsError(f"-o {output}: expected a file, found something else, such as a device; choose another name")
    for path in inputs:
        if output.exists() and path.exists() and output.samefile(path):
            raise ParamsError(f"-o {output}: expected a file other than the input, found the same; choose another name")


def format_of(output: Path, kind: AudioFormat | None, recordings: int) -> AudioFormat:
    """The format to decode to: that of `kind` or of the suffix. Raises ParamsError when `output` does not fit."""
    suffix = output.suffix.lower().removeprefix(".")
    named = cast(AudioFormat, suffix) if suffix in get_args(AudioFormat) else None
    if recordings > 1:
        if named is not None or (output.exists() and not output.is_dir()):
            raise ParamsError(
                f"-o {output}: expected a folder for {recordings} recordings, found a file's name; name a folder"
            )
        return kind or "wav"
    if output.is_dir():
        raise ParamsError(f"-o {output}: expected a file for one recording, found a folder; name a file in it")
    if named is None and kind is None:
        raise ParamsError(f"-o {output}: expected the suffix .wav, .flac, .ogg or .mp3, or --format, found neither")
    if named is not None and kind is not None and named != kind:
        raise ParamsError(
            f"--format {kind}: expected the format that {output} names, found another; leave one of them out"
        )
    return kind or named or "wav"


def make_folder(flag: str, folder: Path) -> None:
    """Make a folder and check that it can be written to. Raises ParamsError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ParamsError(f"{flag} {folder}: expected a folder to write to, found {error.strerror or error}") from error
