"""`ingest` from an object store: the corpus of a folder, whatever happens to objects and connection meanwhile."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from distill.audio.corpus import ManifestRow, read_manifest
from distill.audio.ingest import ingest
from distill.errors import AudioError
from distill.storage.work import Executor
from lossy_proxy import LossyProxy
from object_store import Store
from unit.audio.test_ingest import contents, write

FILES, RATE = 6, 24_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(FILES):
        write(tmp_path / "in" / f"{number}.wav", number)
    (tmp_path / "in" / "damaged.wav").write_bytes(b"RIFF")
    return tmp_path / "in"


def kept(url: str, tmp_path: Path) -> dict[str, Any]:
    return ingest(url, tmp_path / "out", RATE, 0.5, Executor(2), kept=tmp_path / "kept")


def row(tmp_path: Path, name: str) -> ManifestRow:
    return next(row for row in read_manifest(tmp_path / "out" / "manifest.parquet") if row.path == name)


def fetched(requests: list[str]) -> Counter[str]:
    """How often each object was fetched, by its name."""
    return Counter(
        request.rpartition("/")[2] for request in requests if request.startswith("GET") and "?" not in request
    )


def test_the_corpus_of_a_bucket_is_that_of_the_folder(
    folder: Path, tmp_path: Path, store: Store, proxy: LossyProxy
) -> None:
    url = store.upload(folder, "takes")
    report = ingest(folder, tmp_path / "expected", RATE, 0.5, Executor(2))
    assert kept(url, tmp_path) == report
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    proxy.take_requests()
    store.put("takes/3.wav", (folder / "4.wav").read_bytes())
    kept(url, tmp_path)
    assert row(tmp_path, "4.wav").duplicate_of == row(tmp_path, "3.wav").recording_id
    assert fetched(proxy.take_requests())["3.wav"] == 2  # once to measure, once to decode


def test_an_object_that_is_removed_meanwhile_is_rejected_and_one_that_is_replaced_stops(
    folder: Path, tmp_path: Path, store: Store, proxy: LossyProxy
) -> None:
    """Else its samples would be kept as those of the object that was listed, for when that one comes back."""
    url = store.upload(folder, "takes")
    other = (folder / "3.wav").read_bytes()
    proxy.before = lambda request: store.put("takes/2.wav", other) if request.endswith("/2.wav") else None
    with pytest.raises(AudioError, match=r"takes/2\.wav: expected it to stay as it was listed, found that it was repl"):
        kept(url, tmp_path)
    assert not (tmp_path / "out").exists()
    proxy.before = lambda request: store.remove("takes/2.wav") if request.endswith("/2.wav") else None
    assert kept(url, tmp_path)["counts"]["rejected"] == 2
    assert row(tmp_path, "2.wav").reason == "is missing"
    proxy.before = None
    store.put("takes/2.wav", (folder / "2.wav").read_bytes())
    kept(url, tmp_path)
    assert not row(tmp_path, "2.wav").duplicate_of
