"""Where recordings are: a folder, or a prefix in an object store such as s3://bucket/prefix.

A source lists recordings, each with what tells it from a later one of its name, and gives one at a time as a local
file. Lists, names and so recording ids are the same for a folder and for its copy in an object store.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distill.audio.read import SUPPORTED_SUFFIXES
from distill.audio.scan import HIDDEN, NO_SUFFIX, AudioFile, Scan, printable, scan
from distill.errors import AudioError

GONE = "was removed while other recordings were read"  # a reason that follows the name of a recording
LISTED = 20  # entries in a message
BLOCK_BYTES = 8 << 20  # of an object, fetched by one request and held in memory

_URL = re.compile(r"(?P<protocol>[a-zA-Z][a-zA-Z0-9+.-]+):/(?P<rest>.*)", re.DOTALL)  # one letter: a drive of Windows
# What of an object's listing changes with its content, in the file systems that fsspec knows.
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "mtime", "modified", "LastModified", "created")
# Errors come from several libraries, of which none need be installed: they are known by the names of their classes.
_NO_CREDENTIALS = {
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),
    *("SSOTokenLoadError", "UnauthorizedSSOTokenError", "SSOError", "NoAuthTokenError", "LoginError"),
}
_NO_PROFILE = {"ProfileNotFound", "ConfigParseError", "ConfigNotFound"}
_NO_ANSWER = {
    *("EndpointConnectionError", "HTTPClientError", "ConnectionError", "TimeoutError", "IncompleteReadError"),
    *("IncompleteRead", "ClientConnectionError", "ClientPayloadError", "ResponseStreamingError", "gaierror"),
    *("ResponseParserError", "SSLError", "FSTimeoutError"),
}
_INVALID_ENDPOINT = re.compile("invalid endpoint", re.IGNORECASE)
_SECRET_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_REPLACED = (
    "expected it to stay as it was listed, found that it was replaced meanwhile; run again when nothing writes there"
)
# What follows the address, by the names of an error's classes; the first that fits. {endpoint} may be "".
_REFUSALS: tuple[tuple[set[str], str], ...] = (
    ({"FileExpired"}, _REPLACED),
    (
        _NO_CREDENTIALS,
        f"expected credentials for it, found none that can be used ({{found}}); set {_SECRET_KEYS}, or AWS_PROFILE to a "
        "profile of ~/.aws/credentials",
    ),
    (
        _NO_PROFILE,
        "expected a profile that ~/.aws has, found: {found}; set AWS_PROFILE to one that is there, or unset it",
    ),
    (
        {"PermissionError"},
        "expected credentials that may list and read it, found that the store refuses them ({found}); check "
        f"{_SECRET_KEYS} or AWS_PROFILE, and the rights that they have",
    ),
    (
        {"FileNotFoundError"},
        "expected a bucket with recordings, found none of that name{endpoint} ({found}); check the address",
    ),
    (
        _NO_ANSWER,
        "expected an answer of the store{endpoint}, found none after several tries ({found}); check the network and "
        "AWS_ENDPOINT_URL, and run again: nothing was changed",
    ),
)


class Gone(AudioError):
    """A recording was removed after it was listed. Its message is the reason alone."""


def is_url(path: str | Path) -> bool:
    """Whether a place of recordings is an address such as s3://bucket/prefix, not a folder."""
    return _URL.match(os.fspath(path)) is not None


def address(path: str | Path) -> str:
    """The same place as it can be opened from anywhere: an absolute path, or a URL without a slash at its end.

    Raises AudioError for a URL that is none.
    """
    if not is_url(path):
        return os.fspath(Path(path).expanduser().resolve())
    protocol, rest = _checked(os.fspath(path))
    return f"{protocol}://{rest.strip('/')}"


def open_source(path: str | Path) -> "Source":
    """The source at a folder, in which a leading ~ is the home folder, or at a URL that fsspec understands.

    Asks nothing of the place. Raises AudioError for an address that is none, or whose file system is not installed.
    """
    return ObjectStore(os.fspath(path)) if is_url(path) else LocalFolder(Path(path).expanduser())


class LocalFolder:
    """Recordings in a folder and the folders in it, links followed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        """The place, as messages name it."""
        return os.fspath(self._folder)

    def scan(self) -> Scan:
        """List the recordings. Raises AudioError where there is no such place, or it cannot be read."""
        folder = self._folder
        if not folder.exists():
            raise AudioError(f"{folder}: expected a folder of recordings, found nothing there; check the path")
        if not folder.is_dir():
            raise AudioError(f"{folder}: expected a folder of recordings, found a file; give the folder that holds it")
        try:
            return scan(folder)
        except OSError as error:
            found = error.strerror or error
            raise AudioError(f"{folder}: expected a folder that can be read, found: {found}") from error

    @contextmanager
    def local(self, file: AudioFile) -> Iterator[Path]:
        """The recording as a local file, as long as the context lasts. May be called in several threads."""
        yield self._folder / file.relative  # one that is gone is what decoding says of it


class ObjectStore:
    """Recordings below a prefix in an object store. The protocol of the URL names the file system of fsspec.

    Credentials and endpoint are those of the file system: for s3 the AWS_ variables, profiles and files. A fetched
    object is a temporary file, which lasts as long as its context.
    """

    def __init__(self, url: str) -> None:
        self._url = address(url)
        self._files = _file_system(self._url.partition(":")[0], self._url)
        self._root = self._files._strip_protocol(self._url).rstrip("/")

    @property
    def name(self) -> str:
        """The place, as messages name it."""
        return self._url

    def scan(self) -> Scan:
        """List the recordings. Raises AudioError where there is no such place, or it cannot be read."""
        try:
            listed = self._files.find(self._root, detail=True)
        except Exception as error:
            raise _refusal(self._url, error) from error
        if list(listed) == [self._root]:
            raise AudioError(
                f"{self._url}: expected a prefix with recordings below it, found an object; give the prefix that holds it"
            )
        below = {
            name.removeprefix(f"{self._root}/"): details
            for name, details in listed.items()
            if name.startswith(f"{self._root}/")
        }
        return scan_names(below)

    @contextmanager
    def local(self, file: AudioFile) -> Iterator[Path]:
        """The recording as a local file, as long as the context lasts. May be called in several threads.

        Raises Gone where it no longer exists, AudioError where it cannot be fetched, or was replaced in the store.
        """
        with TemporaryDirectory(prefix="distill-") as folder:
            path = Path(folder) / f"recording{Path(file.relative).suffix}"
            with path.open("wb") as stream:
                for block in self._blocks(file):
                    stream.write(block)
            yield path

    def _blocks(self, file: AudioFile) -> Iterator[bytes]:
        name = f"{self._root}/{file.relative}"
        try:
            with self._files.open(name, "rb", cache_type="none") as stream:
                # What is decoded is kept by the identity that was listed, perhaps by another process. Files of some other
                # stores do not tell what they are; there a replaced object goes unnoticed until the next listing.
                details = getattr(stream, "details", None)
                if details and file.identity and _identity(details) != file.identity:
                    raise AudioError(f"{self._url}/{file.path}: {_REPLACED}")
                while block := stream.read(BLOCK_BYTES):  # s3 refuses what is replaced from here on
                    yield block
        except AudioError:
            raise
        except FileNotFoundError as error:
            raise Gone(GONE) from error
        except Exception as error:
            raise _refusal(f"{self._url}/{file.path}", error) from error


Source = LocalFolder | ObjectStore


def list_recordings(source: Source) -> Scan:
    """`scan` of a source that has recordings. Raises AudioError, also where it has none."""
    found = source.scan()
    if not found.audio:
        supported = ", ".join(sorted(SUPPORTED_SUFFIXES))
        others = ", ".join(f"{count} {suffix}" for suffix, count in found.ignored.items())
        what = f"no audio in it, only {others}" if others else "an empty folder"
        skipped = "; ".join(f"{path} {reason}" for path, reason in found.skipped[:LISTED])
        unread = f" (folders not entered: {skipped})" if skipped else ""
        raise AudioError(
            f"{source.name}: expected audio files ({supported}), found {what}{unread}; "
            "put recordings there or name another folder"
        )
    return found


def scan_names(listed: Mapping[str, Mapping[str, Any]]) -> Scan:
    """The `Scan` of a store's listing: paths relative to one folder, parts separated by slashes, and their details.

    What counts as hidden, and as one entry, is the same as in a folder. A name that ends with a slash stands for a folder
    itself, as object stores have it.
    """
    audio: list[AudioFile] = []
    hidden: set[str] = set()
    ignored: Counter[str] = Counter()
    for relative, details in listed.items():
        parts = relative.split("/")
        first_hidden = next((number for number, part in enumerate(parts) if part.startswith(".")), None)
        suffix = os.path.splitext(relative)[1].lower()  # noqa: PTH122 - as in `scan`
        if first_hidden is not None:
            hidden.add("/".join(parts[: first_hidden + 1]))
        elif not parts[-1]:
            continue
        elif suffix in SUPPORTED_SUFFIXES:
            size = int(details.get("size") or 0)
            audio.append(AudioFile(relative, printable(relative), size, _identity(details)))
        else:
            ignored[printable(suffix) or NO_SUFFIX] += 1
    if hidden:
        ignored[HIDDEN] = len(hidden)
    return Scan(tuple(sorted(audio, key=lambda file: file.path)), dict(sorted(ignored.items())), ())


def _identity(details: Mapping[str, Any]) -> str:
    """An object's size, and the first of what its store may say of its version; "" where it says nothing."""
    version = next((details[name] for name in _VERSIONS if details.get(name) is not None), None)
    return "" if version is None else f"{details.get('size')} {version}"


def _checked(url: str) -> tuple[str, str]:
    """Protocol of a URL, and what follows. Raises AudioError where it has no bucket, or more than an address."""
    match = _URL.fullmatch(url)
    protocol, rest = (match["protocol"], match["rest"]) if match else ("", "")
    expected = f"{printable(url)}: expected an address such as s3://bucket/prefix, found"
    if protocol in ("file", "local"):
        raise AudioError(f"{expected} one of this computer; write the folder without {protocol}://")
    if not rest.startswith("/") or not rest.strip("/") or rest.startswith("//"):
        raise AudioError(f"{expected} no bucket in it; write it with two slashes and the name of a bucket")
    if "@" in rest.split("/")[1]:
        raise AudioError(
            f"{protocol}://: expected an address without credentials, found some in it; take them out, since they would be "
            "written to files, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile"
        )
    return protocol, rest


def _file_system(protocol: str, url: str) -> Any:
    import fsspec

    try:
        # Of its own, so that a process that runs for days does not see an old list.
        return fsspec.filesystem(protocol, skip_instance_cache=True)
    except ImportError as error:
        if protocol in ("s3", "s3a"):
            remedy = "run `pip install 'distill-audio[s3]'`, or `make setup` in the repository"
        else:
            remedy = "install it, or copy the recordings to a folder or to an S3 bucket"
        raise AudioError(
            f"{url}: expected the library that reads {protocol}:// addresses, found it is not installed ({error}); {remedy}"
        ) from error
    except ValueError as error:
        raise AudioError(
            f"{url}: expected an address such as s3://bucket/prefix, found an unknown kind ({protocol}); "
            "give a folder or an address of that form"
        ) from error
    except TypeError as error:
        raise AudioError(
            f"{url}: expected a store that needs no settings beside its address, found one that does ({error}); "
            "copy the recordings to a folder or to an S3 bucket"
        ) from error


def _refusal(url: str, error: Exception) -> AudioError:
    """The sentence for an error that listing or fetching at `url` ended with.

    Raises the error itself where it can come from no library of stores: that is a defect.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    found = " ".join(str(error).split()) or type(error).__name__
    if _INVALID_ENDPOINT.search(found):
        return AudioError(
            f"AWS_ENDPOINT_URL: expected an address such as https://host:port, found: {found}; correct or unset it"
        )
    server = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    for kinds, sentence in _REFUSALS:
        if names & kinds:
            return AudioError(f"{url}: " + sentence.format(found=found, endpoint=f" at {server}" if server else ""))
    if not isinstance(error, OSError) and type(error).__module__ == "builtins":
        raise error
    return AudioError(
        f"{url}: expected to list and read what is there, found: {found} ({type(error).__name__}); check the address and the "
        "store, and run again: nothing was changed"
    )
