"""The folder that the page works on: recordings, models, generated sounds. Names from outside are checked here."""

import lzma
import os
import re
import shutil
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO

from distill.audio.read import SUPPORTED_SUFFIXES
from distill.errors import ParamsError
from distill.storage.files import atomic_path

MODEL_SUFFIX = ".distill"
MOST_FILES = 100_000  # of an upload
MOST_BYTES = 8 << 30  # of an unpacked archive
MOST_LIST = MOST_FILES * 400  # bytes of the list of files of an archive
HEADER = 30  # bytes before the name of a file in an archive
SPARE = 1 << 30  # bytes of the disk that uploads leave free
MOST_RATIO = 1000  # unpacked to packed size of a file in an archive
DEPTH = 3  # folders below the working folder in which recordings are looked for
MOST_FOLDERS = 200
LEFT_OUT = {"artifacts", "generated", "mlruns", "models", "metrics", "node_modules", "build", "dist", "__pycache__"}
MOST_NAME = 200  # bytes of a name, of the 255 that file systems take
MOST_PARTS = 8  # folders of a file in an archive
_NAME = re.compile(r"[\w][\w .+#()&'-]{0,99}")
_DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])( *\..*)?", re.IGNORECASE)  # of Windows, with any suffix


@dataclass(frozen=True)
class Added:
    """Recordings that were copied into the working folder, and a sentence for each file that was refused."""

    folder: str  # relative to the working folder
    count: int
    refused: tuple[str, ...]


class Workspace:
    """Paths below the working folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.models, self.sounds, self.generated = (self.root / name for name in ("models", "sounds", "generated"))
        self.state = self.root / ".distill"

    def check(self) -> None:
        """Refuse a folder whose own files would be written elsewhere. Raises ParamsError."""
        own = (self.state, self.state / "jobs", self.state / "ui", self.state / "ui" / "uploads", self.state / "stop")
        for path in own:
            if path.is_symlink():
                raise ParamsError(
                    f"--folder: expected {path.relative_to(self.root).as_posix()} to be no link, found one; remove the link or "
                    "choose another folder"
                )

    @property
    def kept_back(self) -> list[Path]:
        """What the server never hands out by path: all but uploads."""
        return [self.models, self.sounds, self.generated, self.state / "jobs", self.state / "ui" / "token"]

    def corpora(self) -> list[str]:
        """Folders with recordings, relative to the working folder; those of the page first."""
        found = [path.relative_to(self.root).as_posix() for path in _with_recordings(self.root, DEPTH)]
        return sorted(found[:MOST_FOLDERS], key=lambda name: (not name.startswith("sounds/"), name))

    def corpus(self, name: str) -> Path:
        """The folder of recordings of this name. Raises ParamsError for any that `corpora` does not list."""
        if name not in self.corpora():
            raise ParamsError(
                f"recordings {name!r}: expected a folder of the list, found another; choose one of the list"
            )
        return self.root / name

    def model(self, name: str) -> Path:
        """The model file of this name. Raises ParamsError where it is no file in the folder of models."""
        path = self.models / name
        is_plain = Path(name).name == name and path.suffix == MODEL_SUFFIX
        if not is_plain or not os.path.isfile(path) or path.resolve() != path:  # noqa: PTH113 (it raises for no name)
            raise ParamsError(f"model {name!r}: expected one of the list, found none; choose one of the list")
        return path

    def new_model(self, name: str) -> Path:
        """The path of a new model. Raises ParamsError for a name that exists or that is no name of a file."""
        stem = name.strip().removesuffix(MODEL_SUFFIX)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", stem):
            raise ParamsError(
                f"name {name!r}: expected up to 100 letters, digits, dots, dashes and underscores, a letter or digit "
                "first; choose another name"
            )
        path = self.models / f"{stem}{MODEL_SUFFIX}"
        if self.models.is_symlink():
            raise ParamsError("models: expected a folder, found a link; put a folder there")
        if path.exists() or path.is_symlink():
            raise ParamsError(f"name {name!r}: expected a new name, found a model of this name; choose another name")
        return path

    def add_recordings(self, name: str, uploads: Sequence[Path]) -> Added:
        """Copy uploaded recordings, and those in uploaded archives, into `sounds/<name>`. Raises ParamsError."""
        try:
            target = self.sounds / _checked(name.strip())
        except ParamsError as error:
            raise ParamsError(
                f"folder {name!r}: expected up to 100 letters, digits, spaces and dashes, a letter or digit first; choose "
                "another name"
            ) from error
        if target.resolve() != target:
            raise ParamsError(f"folder {name!r}: expected a folder, found a link; choose another name")
        count = 0
        refused: list[str] = []
        for upload in uploads:
            try:
                if upload.suffix.lower() == ".zip":
                    count += _unpack(upload, target, refused)
                else:
                    _copy(upload, target / _checked(upload.name))
                    count += 1
            except ParamsError as error:
                refused.append(str(error))
            except OSError as error:
                refused.append(
                    f"{upload.name[:100]}: expected a file that can be copied, found: {error.strerror or error}"
                )
        return Added(target.relative_to(self.root).as_posix(), count, tuple(refused))


def _with_recordings(folder: Path, depth: int) -> Iterator[Path]:
    """Folders at most `depth` below `folder` with recordings in them or in folders of theirs, the outermost alone."""
    for entry in _folders(folder):
        if _holds_recordings(entry):
            yield entry
        elif depth > 1:
            inner = list(_with_recordings(entry, depth - 1))
            # Folders whose names are labels belong together; `sounds` and `data` hold corpora side by side.
            if len(inner) > 1 and entry.name not in ("sounds", "data") and all(one.parent == entry for one in inner):
                yield entry
            else:
                yield from inner


def _folders(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    return [
        one for one in entries if not one.name.startswith(".") and one.name not in LEFT_OUT and _is_real_folder(one)
    ][:1000]


def _is_real_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _holds_recordings(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(Path(entry.name).suffix.lower() in SUPPORTED_SUFFIXES for entry in entries if entry.is_file())
    except OSError:
        return False


def _unpack(archive: Path, target: Path, refused: list[str]) -> int:
    """Unpack the recordings of a zip archive; returns their number. Raises ParamsError for what is no safe archive."""
    try:
        with zipfile.ZipFile(_short(archive)) as opened:
            entries = [entry for entry in opened.infolist() if not entry.filename.endswith("/")]
            _check_places(archive, opened.infolist())
            size = sum(entry.file_size for entry in entries)
            free = shutil.disk_usage(archive.parent).free - SPARE
            if free < size <= MOST_BYTES:
                raise ParamsError(
                    f"{archive.name}: expected {size >> 20} MiB of free disk, found {max(0, free) >> 20} MiB; free some space"
                )
            if len(entries) > MOST_FILES or size > MOST_BYTES:
                raise ParamsError(
                    f"{archive.name}: expected at most {MOST_FILES} files and {MOST_BYTES >> 30} GiB, found more; copy the "
                    "folder below this one instead"
                )
            count, seen = 0, set[str]()
            for entry in entries:
                path = PurePosixPath(entry.filename)
                if path.name.startswith(".") or "__MACOSX" in path.parts:
                    continue
                if path.suffix.lower() not in SUPPORTED_SUFFIXES:
                    refused.append(f"{archive.name}: {path.name}: expected a recording, found another kind of file")
                    continue
                try:
                    parts = [_checked(part) for part in path.parts]
                    if len(parts) > MOST_PARTS or entry.filename in seen:
                        raise ParamsError(f"{path.name}: expected files in few folders, each once, found others")
                    seen.add(entry.filename)
                    if path.is_absolute() or (entry.external_attr >> 28) == 0xA:
                        raise ParamsError(
                            f"{path.name}: expected a file inside the archive, found a link or another place"
                        )
                    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise ParamsError(
                            f"{path.name}: expected a file packed as usual, found another method; pack it again"
                        )
                    if entry.file_size > MOST_RATIO * max(1, entry.compress_size):
                        raise ParamsError(
                            f"{path.name}: expected sound, found a file that unpacks to {MOST_RATIO} times its size"
                        )
                    if not target.joinpath(*parts).parent.resolve().is_relative_to(target):
                        raise ParamsError(f"{path.name}: expected a folder, found a link that leads elsewhere")
                    with opened.open(entry) as source:
                        _write(source, target.joinpath(*parts), entry.file_size)
                except ParamsError as error:
                    refused.append(f"{archive.name}: {error}")
                    continue
                except _DAMAGED as error:
                    refused.append(f"{archive.name}: {path.name}: expected a file that can be unpacked, found: {error}")
                    continue
                count += 1
            return count
    except _DAMAGED as error:
        raise ParamsError(
            f"{archive.name}: expected a zip archive that can be read, found: {error}; pack it again"
        ) from error


def _short(archive: Path) -> Path:
    """The archive, if its list of files is short enough to be read. Raises ParamsError."""
    with archive.open("rb") as file:
        # What the library itself reads: another reading of ours might be led to another list.
        found = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if found and MOST_LIST < found[5] < archive.stat().st_size:  # a longer one is damaged
        raise ParamsError(
            f"{archive.name}: expected a list of at most {MOST_FILES} files, found one of {found[5] >> 20} MiB; copy the "
            "folder below this one instead"
        )
    return archive


def _check_places(archive: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse an archive whose files share their bytes, as in a bomb. Raises ParamsError."""
    places = sorted((entry.header_offset, entry.compress_size) for entry in entries)
    if any(at + HEADER + size > after for (at, size), (after, _) in pairwise(places)):
        raise ParamsError(f"{archive.name}: expected files side by side, found some within each other; pack it again")


_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    NotImplementedError,
    RuntimeError,
    MemoryError,
    OSError,
    EOFError,
    ValueError,
)


def _checked(name: str) -> str:
    """A name of a file or folder from outside; accents as one character, where macOS has two. Raises ParamsError."""
    name = unicodedata.normalize("NFC", name)
    if (
        not _NAME.fullmatch(name)
        or _DEVICE.fullmatch(name)
        or name.endswith((".", " "))
        or len(name.encode()) > MOST_NAME
    ):
        raise ParamsError(
            f"{name[:100]!r}: expected a name of letters, digits, spaces, dots and dashes, found another; rename it"
        )
    return name


def _copy(upload: Path, target: Path) -> None:
    if target.suffix.lower() not in SUPPORTED_SUFFIXES:
        kinds = ", ".join(sorted(SUPPORTED_SUFFIXES))
        raise ParamsError(
            f"{target.name}: expected a recording ({kinds}) or a zip archive of recordings, found another kind"
        )
    with upload.open("rb") as source:
        _write(source, target, None)


def _write(source: IO[bytes], target: Path, most: int | None) -> None:
    """Write a file beside others, without replacing one; stop at `most` bytes, which an archive may lie about."""
    number, free = 1, target
    while free.exists() or free.is_symlink():
        number += 1
        free = target.with_stem(f"{target.stem} {number}")
    with atomic_path(free) as temporary, temporary.open("wb") as file:
        if most is None:
            shutil.copyfileobj(source, file)
            return
        left = most
        while block := source.read(1 << 20):
            left -= len(block)
            if left < 0:
                raise ParamsError(f"{target.name}: expected the size that the archive names, found more")
            file.write(block)
