"""Registry of the folders and URLs that corpora were made from, on this computer.

It lies beside work in progress, not in model files: those are shared.
"""

from pathlib import Path

from distill.audio.source import address, is_url
from distill.errors import ArtifactError
from distill.storage.files import read_json, write_json

REGISTRY = "corpora.json"


def remember_corpus(state: Path, data_sha256: str, folder: Path | str) -> None:
    """Record that the corpus with this hash was made from `folder`, which may be a URL."""
    known, place = _read(state), address(folder)
    if known.get(data_sha256) != place:
        write_json(state / REGISTRY, {**known, data_sha256: place})


def find_corpus(state: Path, data_sha256: str) -> Path | str | None:
    """The recorded folder or URL of a corpus; None where there is no record, or the folder no longer exists."""
    found = _read(state).get(data_sha256)
    if found is None or is_url(found):
        return found
    return Path(found) if Path(found).is_dir() else None


def _read(state: Path) -> dict[str, str]:
    path = state / REGISTRY
    if not path.exists():
        return {}
    try:
        values = read_json(path, "the folders of corpora")
    except ArtifactError:
        return {}  # a damaged registry is an empty one: the user names the folder
    return {str(key): str(value) for key, value in values.items()} if isinstance(values, dict) else {}
