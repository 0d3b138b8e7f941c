"""Where the recordings of a model lie on this computer. Kept beside work in progress, not in models: those are shared."""

from pathlib import Path

from distill.errors import ArtifactError
from distill.storage.files import read_json, write_json

REGISTRY = "corpora.json"


def remember_corpus(state: Path, data_sha256: str, folder: Path) -> None:
    """Note that the corpus with this hash was made of `folder`."""
    known = _read(state)
    if known.get(data_sha256) != str(folder.resolve()):
        write_json(state / REGISTRY, {**known, data_sha256: str(folder.resolve())})


def find_corpus(state: Path, data_sha256: str) -> Path | None:
    """The folder that was noted, None if there is none or it is gone."""
    found = _read(state).get(data_sha256)
    return Path(found) if found is not None and Path(found).is_dir() else None


def _read(state: Path) -> dict[str, str]:
    path = state / REGISTRY
    if not path.exists():
        return {}
    try:
        values = read_json(path, "where recordings lie")
    except ArtifactError:
        return {}  # a note that is damaged is a note less
    return {str(key): str(value) for key, value in values.items()} if isinstance(values, dict) else {}
