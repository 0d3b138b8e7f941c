"""Uploads that nobody used, and folders that are sent as archives."""

import io
import os
import time
import zipfile
from pathlib import Path

from distill.ui.uploads import KEPT_SECONDS, remove_old, zipped


def test_uploads_of_more_than_a_day_ago_are_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.wav"
    outside.touch()
    uploads = tmp_path / "uploads"
    for name, age in (("a/old.wav", KEPT_SECONDS + 60), ("b/new.wav", 60), ("tmpold", KEPT_SECONDS + 60)):
        path = uploads / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        for one in (path, path.parent):
            os.utime(one, (time.time() - age,) * 2)
    (uploads / "link").symlink_to(outside)
    remove_old(uploads)
    remove_old(tmp_path / "none")
    assert {path.relative_to(uploads).as_posix() for path in uploads.rglob("*") if path.is_file()} == {
        "b/new.wav",
        "link",
    }
    assert outside.exists()


def test_an_archive_is_made_in_parts(tmp_path: Path) -> None:
    content = {"a.wav": os.urandom(5 << 20), "kick/b.wav": b"", "c.txt": b"no"}
    for name, data in content.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    parts = list(zipped(tmp_path, {".wav"}))
    assert max(map(len, parts)) < 2 << 20
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "a.wav": content["a.wav"],
            "kick/b.wav": b"",
        }
