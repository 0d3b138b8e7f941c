"""Registry of the folders that corpora were made from, on this computer.

It lies beside work in progress, not in model files: those are shared.
"""

from pathlib import Path

from distill.errors import ArtifactError
from distill.storage.files import read_json, write_json

REGISTRY = "corpora.json"


def remember_corpus(state: Path, data_sha256: str, folder: Path) -> None:
    """Record that the corpus with this hash was made from `folder`."""
    known = _read(state)
    if known.get(data_sha256) != str(folder.resolve()):
        write_json(state / REGISTRY, {**known, data_sha256: str(folder.resolve())})


def find_corpus(state: Path, data_sha256: str) -> Path | None:
    """The recorded folder of a corpus; None where there is none or it no longer exists."""
    found = _read(state).get(data_sha256)
    return Path(found) if found is not None and Path(found).is_dir() else None


def _read(state: Path) -> dict[str, str]:
    path = state / REGISTRY
    if not path.exists():
        return {}
    try:
        values = read_json(path, "the folders of corpora")
    except ArtifactError:
        return {}  # a damaged registry is an empty one: the user names the folder
    return {str(key): str(value) for key, value in values.items()} if isinstance(values, dict) else {}
