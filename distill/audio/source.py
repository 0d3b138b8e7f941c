"""Where recordings are: a folder, or a prefix in an object store such as s3://bucket/prefix.

A source lists recordings, each with what tells it from a later one of its name, and gives one at a time as a local
file. Lists, names and so recording ids are the same for a folder and for its copy in an object store, and do not depend
on the order of a file system.
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from distill.audio.read import EXAMPLES, SUPPORTED_SUFFIXES
from distill.errors import AudioError
from distill.text import escaped, one_line

HIDDEN, NO_SUFFIX = "(hidden)", "(no suffix)"
IN_ICLOUD = ".icloud"  # of the hidden file that macOS leaves in place of one that is in iCloud alone
BINS = frozenset(
    {"$recycle.bin", "recycler", "#recycle", "@recycle", "@eadir", "system volume information", "lost+found"}
)
LISTED = 20  # entries in a message

_URL = re.compile(r"(?P<protocol>[a-zA-Z][a-zA-Z0-9+.-]+):/(?P<rest>.*)", re.DOTALL)  # one letter: a drive of Windows
_SECRET_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_REPLACED = (
    "expected it to stay as it was listed, found that it was replaced meanwhile; run again when nothing writes there"
)


@dataclass(frozen=True)
class AudioFile:
    """File with an audio suffix: its path relative to the folder as the system spells it, and as it can be printed.

    `identity` changes when its content may have changed; "" where the system does not tell.
    """

    relative: str
    path: str
    size: int = field(default=0, compare=False)
    identity: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """Path of its folder relative to the listed one; "" at the top."""
        parent = PurePosixPath(self.path).parent.as_posix()
        return "" if parent == "." else parent


@dataclass(frozen=True)
class Scan:
    """List of a source. `skipped` holds (folder, reason) of folders that were not entered."""

    audio: tuple[AudioFile, ...]  # sorted by path
    ignored: dict[str, int]  # suffix, HIDDEN or NO_SUFFIX to number of entries
    skipped: tuple[tuple[str, str], ...]

    @property
    def left_out(self) -> dict[str, int]:
        """Suffix to number of the files that are no audio, apart from hidden ones; the most first."""
        seen = Counter(self.ignored)
        del seen[HIDDEN]
        return dict(seen.most_common())


def suffixes_line(left_out: Mapping[str, int]) -> str:
    """Files that were left out, by suffix: "2 .mid, 1 .txt"."""
    listed, others = [*left_out.items()][:8], [*left_out.values()][8:]
    return ", ".join([f"{count} {suffix}" for suffix, count in listed] + [f"{sum(others)} others"] * bool(others))


def left_out_line(left_out: Mapping[str, int]) -> str:
    """What a person should know of files that were left out; "" where there were none."""
    count = sum(left_out.values())
    return f"{count} file{'s' * (count != 1)} left out: {suffixes_line(left_out)}" if count else ""


def not_entered_line(skipped: Iterable[tuple[str, str]]) -> str:
    """Folders that were not entered, each with the reason; "" where there were none."""
    listed = [f"{path} {reason}" for path, reason in skipped]
    more = [f"{len(listed) - LISTED} more"] * (len(listed) > LISTED)
    return "folders not entered: " * bool(listed) + "; ".join([*listed[:LISTED], *more])


def suffix_of(name: str) -> str:
    """The suffix of a file's name, in lower case and without spaces behind it; "" without one."""
    return os.path.splitext(name)[1].strip().lower()  # noqa: PTH122 - pathlib disagrees with itself about "name."


def printable(name: str) -> str:
    """Escape by backslashes what cannot be printed or encoded as UTF-8; unequal names stay unequal."""
    if name.isascii() and name.isprintable() and "\\" not in name:
        return name
    return "".join("\\\\" if character == "\\" else escaped(character) for character in name)


def is_url(path: str | Path) -> bool:
    """Whether a place of recordings is an address such as s3://bucket/prefix, not a folder."""
    return _URL.match(os.fspath(path)) is not None


def address(path: str | Path) -> str:
    """The same place as it can be opened from anywhere: an absolute path, or a URL without a slash at its end.

    Raises AudioError for a URL that has no bucket, or more than an address.
    """
    if (match := _URL.match(os.fspath(path))) is None:
        return os.fspath(Path(path).expanduser().resolve())
    protocol, rest = match["protocol"], match["rest"]
    expected = f"{printable(match[0])}: expected an address such as s3://bucket/prefix, found"
    if protocol in ("file", "local"):
        raise AudioError(f"{expected} one of this computer; write the folder without {protocol}://")
    if not re.match("/[^/]", rest):
        raise AudioError(f"{expected} no bucket in it; write it with two slashes and the name of a bucket")
    if "@" in rest.split("/")[1]:
        raise AudioError(
            f"{protocol}://: expected an address without credentials, found some in it; take them out, since they would be "
            f"written to files, and set {_SECRET_KEYS} or a profile"
        )
    return f"{protocol}://{rest.strip('/')}"


def open_source(path: str | Path) -> "Source":
    """The source at a folder, in which a leading ~ is the home folder, or at a URL that fsspec understands.

    Asks nothing of the place. Raises AudioError where it is not an address, or its file system is not installed.
    """
    return ObjectStore(os.fspath(path)) if is_url(path) else LocalFolder(Path(path).expanduser())


class LocalFolder:
    """Recordings in a folder and the folders in it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.name = folder, os.fspath(folder)

    def scan(self) -> Scan:
        """List the recordings, links followed. Raises AudioError where there is no folder, or it cannot be read."""
        if not self._folder.is_dir():
            is_file = self._folder.exists()
            place = "a file; give the folder that holds it" if is_file else "nothing there; check the path"
            raise AudioError(f"{self.name}: expected a folder of recordings, found {place}")
        skipped: list[tuple[str, str]] = []
        try:
            return scan_names(dict(_walk(self.name, skipped)), skipped)
        except OSError as error:
            reason = error.strerror or str(error)
            raise AudioError(f"{self.name}: expected a folder that can be read, found: {reason}") from error

    @contextmanager
    def local(self, file: AudioFile) -> Iterator[Path]:
        """The recording as a local file, as long as the context lasts. May be called in several threads."""
        yield self._folder / file.relative


class ObjectStore:
    """Recordings below a prefix in an object store. The protocol of the URL names the file system of fsspec.

    Credentials and endpoint are those of the file system: for s3 the AWS_ variables, profiles and files. A fetched
    object is a temporary file, which lasts as long as its context.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.name = address(url)  # as messages name it
        protocol = self.name.partition(":")[0]
        try:
            # Of its own, so that a process that runs for days does not see an old list.
            self._files = fsspec.filesystem(protocol, skip_instance_cache=True)
        except (ImportError, ValueError, TypeError) as error:  # TypeError: one that needs settings beside its address
            remedy = "give a folder or an address such as s3://bucket/prefix"
            if protocol in ("s3", "s3a"):
                remedy = "run `pip install 'distill-audio[s3]'`, or `make setup` in the repository"
            raise AudioError(
                f"{self.name}: expected an address that fsspec can open, found: {one_line(error)}; {remedy}"
            ) from error
        self._root = self._files._strip_protocol(self.name).rstrip("/")

    def scan(self) -> Scan:
        """List the recordings. Raises AudioError where the place does not exist, or cannot be read."""
        try:
            listed = self._files.find(self._root, detail=True)
        except Exception as error:
            raise _refusal(self.name, error) from error
        if list(listed) == [self._root]:
            raise AudioError(
                f"{self.name}: expected a prefix with recordings below it, found an object; give the prefix that holds it"
            )
        prefix = f"{self._root}/"
        below = {
            name.removeprefix(prefix): (int(details.get("size") or 0), _identity(details))
            for name, details in listed.items()
            if name.startswith(prefix)
        }
        return scan_names(below)

    @contextmanager
    def local(self, file: AudioFile) -> Iterator[Path]:
        """The recording as a local file, as long as the context lasts. May be called in several threads.

        There is no file where it no longer exists. Raises AudioError where it cannot be fetched, or was replaced.
        """
        place = f"{self.name}/{file.path}"
        with TemporaryDirectory(prefix="distill-") as folder:
            path = Path(folder) / f"recording{Path(file.relative).suffix}"
            try:
                with self._files.open(f"{self._root}/{file.relative}", "rb", cache_type="none") as stream:
                    # What is decoded is kept by the identity that was listed, perhaps by another process. Files of some
                    # other stores do not tell what they are; there a replaced object goes unnoticed until it is listed.
                    details = getattr(stream, "details", None)
                    if details and file.identity and _identity(details) != file.identity:
                        raise AudioError(f"{place}: {_REPLACED}")
                    with path.open("wb") as copy:
                        shutil.copyfileobj(stream, copy, 8 << 20)  # s3 refuses what is replaced from here on
            except AudioError:
                raise
            except FileNotFoundError:
                pass
            except Exception as error:
                raise _refusal(place, error) from error
            yield path


Source = LocalFolder | ObjectStore


def list_recordings(source: Source) -> Scan:
    """`scan` of a source that has recordings. Raises AudioError, also where it has none."""
    scan = source.scan()
    if not scan.audio:
        others = ", ".join(f"{count} {suffix}" for suffix, count in scan.ignored.items())
        content = f"no audio in it, only {others}" if others else "an empty folder"
        unread = f" ({not_entered_line(scan.skipped)})" if scan.skipped else ""
        raise AudioError(
            f"{source.name}: expected audio files {EXAMPLES}, found {content}{unread}; "
            "put recordings there or name another folder"
        )
    return scan


def _walk(root: str, skipped: list[tuple[str, str]]) -> Iterator[tuple[str, tuple[int, str]]]:
    """Files below a folder, each with size and identity, and hidden entries, which are not entered.

    Links are followed, and each real folder is entered once; what is not entered is added to `skipped`. Real folders come
    before links to them, so a file is listed under its real path where it has one. Raises OSError for `root` itself.
    """
    visited: dict[tuple[int, int], str] = {}
    links = [""]

    def skip(error: OSError) -> None:
        relative = os.path.relpath(error.filename, root)
        if relative == ".":
            raise error
        skipped.append((printable(relative), f"cannot be read: {error.strerror or error}"))

    # Text is joined and looked at in a third of the time of a Path.
    while links:
        top = min(links, key=printable)
        links.remove(top)
        for parent, folders, files in os.walk(os.path.join(root, top), onerror=skip):  # noqa: PTH118
            inner = os.path.relpath(parent, root).replace(os.sep, "/")
            prefix, name = ("", "the folder itself") if inner == "." else (f"{inner}/", printable(inner))
            status = os.stat(parent)  # noqa: PTH116
            seen = visited.setdefault((status.st_dev, status.st_ino), name)
            if seen != name:
                skipped.append((name, f"leads to the same folder as {seen}, which was read once"))
                folders.clear()
                continue
            hidden = [folder for folder in folders if folder[0] == "."]
            folders[:] = [folder for folder in folders if folder[0] != "."]  # links are not entered by os.walk
            links += [prefix + folder for folder in folders if os.path.islink(f"{parent}/{folder}")]  # noqa: PTH114
            for entry in (*files, *hidden):
                try:
                    status = os.stat(f"{parent}/{entry}")  # noqa: PTH116
                except OSError:  # a link that leads nowhere
                    if entry[0] == "." or suffix_of(entry) in SUPPORTED_SUFFIXES:
                        yield prefix + entry, (0, "")
                    else:  # to a folder, as names go
                        skipped.append((printable(prefix + entry), "is a link that leads nowhere"))
                else:
                    times = f"{status.st_mtime_ns}:{status.st_ctime_ns}"
                    yield prefix + entry, (status.st_size, f"{status.st_size}:{times}:{status.st_ino}")


def scan_names(listed: Mapping[str, tuple[int, str]], skipped: Iterable[tuple[str, str]] = ()) -> Scan:
    """The `Scan` of paths relative to one folder, parts separated by slashes, each with size and identity.

    All that is in a hidden folder is one entry. A name that ends with a slash stands for a folder itself, as object
    stores have it. Bins of Windows and of network drives are not entered: what is there was deleted.
    """
    audio: list[AudioFile] = []
    hidden, bins = set[str](), set[tuple[str, str]]()
    ignored: Counter[str] = Counter()
    for relative, size_and_identity in listed.items():
        parts = relative.split("/")
        is_hidden = [part.startswith(".") for part in parts]
        is_bin = [part.casefold() in BINS for part in parts[:-1]]
        suffix = suffix_of(relative)
        if any(is_bin):
            bins.add(
                (printable("/".join(parts[: is_bin.index(True) + 1])), "holds what was deleted, or is the system's own")
            )
        elif suffix == IN_ICLOUD:
            ignored[IN_ICLOUD] += 1
        elif any(is_hidden):
            hidden.add("/".join(parts[: is_hidden.index(True) + 1]))
        elif parts[-1] and suffix in SUPPORTED_SUFFIXES:
            audio.append(AudioFile(relative, printable(relative), *size_and_identity))
        elif parts[-1]:
            ignored[printable(suffix) or NO_SUFFIX] += 1
    if hidden:
        ignored[HIDDEN] = len(hidden)
    audio.sort(key=lambda file: file.path)
    return Scan(tuple(audio), dict(sorted(ignored.items())), tuple(sorted({*skipped, *bins})))


def _identity(details: Mapping[str, Any]) -> str:
    """An object's size, and the first of what its store may say of its version; "" where it says nothing.

    The names are those of the file systems that fsspec knows.
    """
    names = ["ETag", "etag", "generation", "md5Hash", "content_md5", "mtime", "modified", "LastModified", "created"]
    versions = [details[name] for name in names if details.get(name) is not None]
    return f"{details.get('size')} {versions[0]}" if versions else ""


def _refusal(url: str, error: Exception) -> AudioError:
    """The sentence for an error that listing or fetching at `url` ended with.

    Raises the error itself where it can come from no library of stores: that is a defect.
    """
    names = {kind.__name__ for kind in type(error).__mro__}  # no library of a store need be installed
    answer = one_line(error) or type(error).__name__
    server = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    at = f" at {server}" if server else ""
    if "FileExpired" in names:
        return AudioError(f"{url}: {_REPLACED}")
    if "FileNotFoundError" in names:
        return AudioError(
            f"{url}: expected a bucket with recordings, found none of that name{at} ({answer}); check the address"
        )
    if re.search("Credential|Token|SSO|Login|Profile|Config|PermissionError", " ".join(names)):
        return AudioError(
            f"{url}: expected credentials that may list and read it, found: {answer}; check {_SECRET_KEYS}, or AWS_PROFILE "
            "and the profiles in ~/.aws, and the rights that they have"
        )
    if type(error).__module__ == "builtins" and not isinstance(error, OSError) and "endpoint" not in answer:
        raise error
    return AudioError(
        f"{url}: expected an answer of the store{at}, found: {answer}; check the network, the address and AWS_ENDPOINT_URL, "
        "and run again: nothing was changed"
    )
