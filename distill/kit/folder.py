"""Folder of a kit: whether it may be written to, or replaced by another kit."""

import json
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from distill.errors import ParamsError
from distill.kit.kit import FORMAT, INDEX
from distill.kit.settings import FORMATS
from distill.storage.files import made_by_distill

OF_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # left by file managers


def kit_folder(out: Path, replace: bool) -> Path:
    """Resolved path of a folder that can be replaced by a kit. Raises ParamsError if it cannot."""
    try:
        folder = out.resolve()
        wrong = _wrong_folder(folder, replace)
    except OSError as error:
        wrong = f"a folder to write to, found {error.strerror or error}; name another folder"
    if wrong:
        raise ParamsError(f"out {out}: expected {wrong}")
    return folder


def _wrong_folder(folder: Path, replace: bool) -> str:
    """Why a kit cannot be written to a folder: expected, found, and what to do; "" if it can."""
    if Path.cwd().is_relative_to(folder):
        return "a folder of its own, found the current folder or one above it; name a folder in it"
    with suppress(FileNotFoundError):
        folder.stat()  # raises for an impossible name; from Python 3.14 on, exists() returns False
    if not folder.exists() or all(path.name in OF_SYSTEMS for path in folder.iterdir()):
        tempfile.TemporaryFile(
            dir=next(path for path in (folder, *folder.parents) if path.exists())
        ).close()
        return ""
    if not replace:
        return "a new or an empty folder, found one with files in it; name another, or replace a kit with --replace (replace=True)"
    if strange := _strange_file(folder):
        return (
            f"a folder with a kit that Distill made and nothing else, to replace it, found {strange}; move your own files "
            "away or name another folder"
        )
    return ""


def _strange_file(folder: Path) -> str:
    """First file that does not belong to a kit, or a missing index; "" for a kit and nothing else."""
    of_kits = re.compile(
        rf"kit\.(json|txt|png|{'|'.join(FORMATS)})|samples/\d{{3}}_[a-z0-9-]+_\d{{2}}\.wav"
    )
    try:
        if (folder / INDEX).stat().st_size > 64 << 20 or (folder / INDEX).is_symlink():
            raise ValueError
        kit = json.loads((folder / INDEX).read_bytes())
        known = (
            {name for name in kit["files"] if of_kits.fullmatch(name)}
            if kit["format"] == FORMAT
            else set()
        )
    except (OSError, LookupError, TypeError, ValueError, RecursionError):
        known = set()
    if INDEX not in known:
        return f"no {INDEX} of Distill"
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_changed = path.suffix in (".wav", ".png") and not made_by_distill(path)
        if (
            path.is_symlink()
            or is_changed
            or not (path.is_dir() or name in known or path.name in OF_SYSTEMS)
        ):
            return name
    return ""
