"""Sources of recordings: a folder, or a prefix in an object store such as s3://bucket/prefix.

A source lists recordings, each with an identity that changes with its content, and provides each as a local file. A
folder and its copy in an object store give the same lists, names and recording ids, in an order that does not depend on
the file system.
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
IN_ICLOUD = ".icloud"  # suffix of macOS's placeholder for a file stored only in iCloud
BINS = frozenset(
    {
        "$recycle.bin",
        "recycler",
        "#recycle",
        "@recycle",
        "@eadir",
        "system volume information",
        "lost+found",
    }
)
LISTED = 20  # entries in a message

_URL = re.compile(
    r"(?P<protocol>[a-zA-Z][a-zA-Z0-9+.-]+):/(?P<rest>.*)", re.DOTALL
)  # one letter is a Windows drive
_SECRET_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_REPLACED = "expected it to stay as it was listed, found that it was replaced meanwhile; run again when nothing writes there"


@dataclass(frozen=True)
class AudioFile:
    """File with an audio suffix. `relative` is its path in the source as on disk, `path` the same in printable form.

    `identity` changes when the content may have changed; "" if the system cannot tell.
    """

    relative: str
    path: str
    size: int = field(default=0, compare=False)
    identity: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """Printable path of the file's folder in the source; "" at the top."""
        parent = PurePosixPath(self.path).parent.as_posix()
        return "" if parent == "." else parent


@dataclass(frozen=True)
class Scan:
    """Listing of a source. `skipped` holds (folder, reason) for folders not entered."""

    audio: tuple[AudioFile, ...]  # sorted by path
    ignored: dict[str, int]  # number of entries by suffix, HIDDEN or NO_SUFFIX
    skipped: tuple[tuple[str, str], ...]

    @property
    def left_out(self) -> dict[str, int]:
        """Number of non-audio files by suffix, without hidden files, most frequent first."""
        seen = Counter(self.ignored)
        del seen[HIDDEN]
        return dict(seen.most_common())


def suffixes_line(left_out: Mapping[str, int]) -> str:
    """Counts of left-out files by suffix: "2 .mid, 1 .txt"."""
    listed, others = [*left_out.items()][:8], [*left_out.values()][8:]
    return ", ".join(
        [f"{count} {suffix}" for suffix, count in listed] + [f"{sum(others)} others"] * bool(others)
    )


def left_out_line(left_out: Mapping[str, int]) -> str:
    """Message about left-out files, or ""."""
    count = sum(left_out.values())
    return f"{count} file{'s' * (count != 1)} left out: {suffixes_line(left_out)}" if count else ""


def not_entered_line(skipped: Iterable[tuple[str, str]]) -> str:
    """Message about folders not entered, each with its reason, or ""."""
    listed = [f"{path} {reason}" for path, reason in skipped]
    more = [f"{len(listed) - LISTED} more"] * (len(listed) > LISTED)
    return "folders not entered: " * bool(listed) + "; ".join([*listed[:LISTED], *more])


def suffix_of(name: str) -> str:
    """Suffix of a file name in lower case, without trailing spaces; "" if there is no suffix."""
    return os.path.splitext(name)[1].strip().lower()  # noqa: PTH122 - pathlib disagrees with itself about "name."


def printable(name: str) -> str:
    """Escape characters that cannot be printed or encoded as UTF-8; different names stay different."""
    if name.isascii() and name.isprintable() and "\\" not in name:
        return name
    return "".join("\\\\" if character == "\\" else escaped(character) for character in name)


def is_url(path: str | Path) -> bool:
    """Whether `path` is an address such as s3://bucket/prefix rather than a folder."""
    return _URL.match(os.fspath(path)) is not None


def address(path: str | Path) -> str:
    """Location of a source, independent of the working directory: an absolute path, or a URL without trailing slash.

    Raises AudioError for a URL without a bucket, with credentials, or of a local file.
    """
    if (match := _URL.match(os.fspath(path))) is None:
        return os.fspath(Path(path).expanduser().resolve())
    protocol, rest = match["protocol"], match["rest"]
    expected = f"{printable(match[0])}: expected an address such as s3://bucket/prefix, found"
    if protocol in ("file", "local"):
        raise AudioError(f"{expected} one of this computer; write the folder without {protocol}://")
    if not re.match("/[^/]", rest):
        raise AudioError(
            f"{expected} no bucket in it; write it with two slashes and the name of a bucket"
        )
    if "@" in rest.split("/")[1]:
        raise AudioError(
            f"{protocol}://: expected an address without credentials, found some in it; take them out, since they would be "
            f"written to files, and set {_SECRET_KEYS} or a profile"
        )
    return f"{protocol}://{rest.strip('/')}"


def open_source(path: str | Path) -> "Source":
    """Source for a folder (a leading ~ is the home folder) or a URL that fsspec supports.

    Accesses nothing yet. Raises AudioError for an invalid address, or if its file system is not installed.
    """
    return ObjectStore(os.fspath(path)) if is_url(path) else LocalFolder(Path(path).expanduser())


class LocalFolder:
    """Recordings in a folder and its subfolders."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.name = folder, os.fspath(folder)

    def scan(self) -> Scan:
        """List the recordings, following links. Raises AudioError if the folder is missing or unreadable."""
        if not self._folder.is_dir():
            is_file = self._folder.exists()
            place = (
                "a file; give the folder that holds it"
                if is_file
                else "nothing there; check the path"
            )
            raise AudioError(f"{self.name}: expected a folder of recordings, found {place}")
        skipped: list[tuple[str, str]] = []
        try:
            return scan_names(dict(_walk(self.name, skipped)), skipped)
        except OSError as error:
            reason = error.strerror or str(error)
            raise AudioError(
                f"{self.name}: expected a folder that can be read, found: {reason}"
            ) from error

    @contextmanager
    def local(self, file: AudioFile) -> Iterator[Path]:
        """Context with the recording as a local file. Thread-safe."""
        yield self._folder / file.relative


class ObjectStore:
    """Recordings below a prefix in an object store, read with the fsspec file system for the URL's protocol.

    The file system finds its credentials and endpoint itself: for s3 in AWS_ variables and profiles.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.name = address(url)  # for messages
        protocol = self.name.partition(":")[0]
        try:
            # No shared instance: its cached listing would go stale in a process that runs for days.
            self._files = fsspec.filesystem(protocol, skip_instance_cache=True)
        except (
            ImportError,
            ValueError,
            TypeError,
        ) as error:  # TypeError: it needs more settings than an address
            remedy = "give a folder or an address such as s3://bucket/prefix"
            if protocol in ("s3", "s3a"):
                remedy = "run `pip install 'distill-audio[s3]'`, or `make setup` in the repository"
            raise AudioError(
                f"{self.name}: expected an address that fsspec can open, found: {one_line(error)}; {remedy}"
            ) from error
        self._root = self._files._strip_protocol(self.name).rstrip("/")

    def scan(self) -> Scan:
        """List the recordings. Raises AudioError if the prefix does not exist or cannot be read."""
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
        """Context with the recording as a temporary local file. Thread-safe.

        The path does not exist if the object is gone. Raises AudioError if it cannot be fetched or was replaced.
        """
        place = f"{self.name}/{file.path}"
        with TemporaryDirectory(prefix="distill-") as folder:
            path = Path(folder) / f"recording{Path(file.relative).suffix}"
            try:
                with self._files.open(
                    f"{self._root}/{file.relative}", "rb", cache_type="none"
                ) as stream:
                    # Decoded blocks are cached by the listed identity, perhaps by another process, so an object that
                    # was replaced since then is an error. Stores without details on opening do not notice.
                    details = getattr(stream, "details", None)
                    if details and file.identity and _identity(details) != file.identity:
                        raise AudioError(f"{place}: {_REPLACED}")
                    with path.open("wb") as copy:
                        shutil.copyfileobj(
                            stream, copy, 8 << 20
                        )  # s3 itself detects a later replacement
            except AudioError:
                raise
            except FileNotFoundError:
                pass
            except Exception as error:
                raise _refusal(place, error) from error
            yield path


Source = LocalFolder | ObjectStore


def list_recordings(source: Source) -> Scan:
    """`scan` a source. Raises AudioError, also if it has no recordings."""
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
    """Yield files below a folder with their size and identity, and hidden folders, which are not entered.

    Links are followed. Each real folder is entered once; further links to it, and unreadable folders, go to `skipped`.
    Real folders come before links, so a file is listed under its real path if possible. Raises OSError for `root`.
    """
    visited: dict[tuple[int, int], str] = {}
    links = [""]

    def skip(error: OSError) -> None:
        relative = os.path.relpath(error.filename, root)
        if relative == ".":
            raise error
        skipped.append((printable(relative), f"cannot be read: {error.strerror or error}"))

    # String operations take a third of the time of Path operations.
    while links:
        top = min(links, key=printable)
        links.remove(top)
        for parent, folders, files in os.walk(os.path.join(root, top), onerror=skip):  # noqa: PTH118
            inner = os.path.relpath(parent, root).replace(os.sep, "/")
            prefix, name = (
                ("", "the folder itself") if inner == "." else (f"{inner}/", printable(inner))
            )
            status = os.stat(parent)  # noqa: PTH116
            seen = visited.setdefault((status.st_dev, status.st_ino), name)
            if seen != name:
                skipped.append((name, f"leads to the same folder as {seen}, which was read once"))
                folders.clear()
                continue
            hidden = [folder for folder in folders if folder[0] == "."]
            folders[:] = [
                folder for folder in folders if folder[0] != "."
            ]  # os.walk does not enter links
            links += [prefix + folder for folder in folders if os.path.islink(f"{parent}/{folder}")]  # noqa: PTH114
            for entry in (*files, *hidden):
                try:
                    status = os.stat(f"{parent}/{entry}")  # noqa: PTH116
                except OSError:  # a link that leads nowhere
                    if entry[0] == "." or suffix_of(entry) in SUPPORTED_SUFFIXES:
                        yield prefix + entry, (0, "")
                    else:  # by its name a folder
                        skipped.append((printable(prefix + entry), "is a link that leads nowhere"))
                else:
                    times = f"{status.st_mtime_ns}:{status.st_ctime_ns}"
                    yield (
                        prefix + entry,
                        (status.st_size, f"{status.st_size}:{times}:{status.st_ino}"),
                    )


def scan_names(
    listed: Mapping[str, tuple[int, str]], skipped: Iterable[tuple[str, str]] = ()
) -> Scan:
    """Sort paths into a `Scan`: relative to one folder, separated by slashes, each with size and identity.

    A hidden folder counts as one entry. A name that ends with a slash is an object store's folder marker, and ignored.
    Recycle bins of Windows and network drives are skipped, as their files were deleted.
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
                (
                    printable("/".join(parts[: is_bin.index(True) + 1])),
                    "holds what was deleted, or is the system's own",
                )
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
    """Size and version of an object, or "" if its store states no version.

    The version is the first of the fields that fsspec's file systems use for it.
    """
    names = [
        "ETag",
        "etag",
        "generation",
        "md5Hash",
        "content_md5",
        "mtime",
        "modified",
        "LastModified",
        "created",
    ]
    versions = [details[name] for name in names if details.get(name) is not None]
    return f"{details.get('size')} {versions[0]}" if versions else ""


def _refusal(url: str, error: Exception) -> AudioError:
    """Translate an error of listing or fetching at `url` to a sentence for the user.

    Re-raises an error that no storage library would raise: it is a defect.
    """
    names = {
        kind.__name__ for kind in type(error).__mro__
    }  # by name, as the store's library may not be installed
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
    if (
        type(error).__module__ == "builtins"
        and not isinstance(error, OSError)
        and "endpoint" not in answer
    ):
        raise error
    return AudioError(
        f"{url}: expected an answer of the store{at}, found: {answer}; check the network, the address and AWS_ENDPOINT_URL, "
        "and run again: nothing was changed"
    )
