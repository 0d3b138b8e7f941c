"""The folder of a kit: new, empty, or one that holds a kit and nothing else."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from distill.errors import ParamsError
from distill.kit.kit import FORMAT, INDEX

MOST_BYTES = 64 << 20  # of a kit.json that is read
NAMES = re.compile(r"kit\.(json|txt|png|sfz|dspreset)|samples/\d{3}_[a-z0-9-]+_\d{2}\.wav")  # of a kit's files


def kit_folder(out: Path, replace: bool) -> Path:
    """The resolved path of a folder that a kit may be written to as a whole. Raises ParamsError for any other."""
    try:
        folder = out.resolve()
        if Path.cwd().is_relative_to(folder):
            raise _refused(out, "a folder of its own", "the current folder or one above it; name a folder in it")
        if folder.is_dir():
            _check_content(out, folder, replace)
        elif folder.exists():
            raise _refused(out, "a folder", "a file; name another folder")
        above = next(parent for parent in folder.parents if parent.exists())
        if not above.is_dir():
            raise _refused(out, "a folder to make it in", f"a file, {above}; name another folder")
        tempfile.TemporaryFile(dir=above).close()
    except OSError as error:
        raise _refused(out, "a folder to write to", f"{error.strerror or error}; name another folder") from error
    return folder


def _check_content(out: Path, folder: Path, replace: bool) -> None:
    if not any(folder.iterdir()):
        return
    if not replace:
        wanted = "a new or an empty folder"
        raise _refused(out, wanted, "one with files in it; name another folder, or replace a kit with --replace")
    strange = _strange_file(folder)
    if strange is not None:
        wanted = "a folder with a kit that Distill made and nothing else, to replace it"
        raise _refused(out, wanted, f"{strange}; move your own files away or name another folder")


def _strange_file(folder: Path) -> str | None:
    """What shows that a folder is more or other than a kit; None for a kit alone."""
    index = folder / INDEX
    if index.is_symlink() or not index.is_file() or index.stat().st_size > MOST_BYTES:
        return f"no {INDEX}"
    try:
        kit: Any = json.loads(index.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        kit = None
    files = kit.get("files") if isinstance(kit, dict) and kit.get("format") == FORMAT else None
    if not isinstance(files, list):
        return f"another {INDEX}"
    known = {name for name in files if isinstance(name, str) and NAMES.fullmatch(name)}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or name in known):
            return name
    return None


def _refused(out: Path, expected: str, found: str) -> ParamsError:
    return ParamsError(f"--out {out}: expected {expected}, found {found}")
