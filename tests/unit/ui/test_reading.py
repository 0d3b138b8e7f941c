"""Files of a folder that may be a stranger's: none is waited for, followed or read without end."""

import json
import os
import sys
from pathlib import Path

import pytest

from distill.ui.reading import open_own, read_end, read_json, read_text

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes and links of POSIX")


def odd(path: Path, kind: str) -> Path:
    """A path at which something else than a plain file is."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "nothing":
        path.symlink_to({"device": "/dev/zero", "link": path.parent / "other", "loop": path}[kind])
        (path.parent / "other").write_text('{"a": 1}')
    return path


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "link", "loop", "nothing"])
def test_what_is_no_plain_file_tells_nothing(tmp_path: Path, kind: str) -> None:
    path = odd(tmp_path / "a.json", kind)
    assert (read_json(path), read_end(path, 10)) == ({}, "")
    with pytest.raises(OSError, match=r"a\.json"):
        read_text(path)


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.write(b'{"a": 1}')
        file.truncate(1 << 40)  # sparse
    assert read_json(path) == {}
    assert read_end(path, 10) == "\0" * 10
    path.write_text(json.dumps({"a": 1}))
    assert (read_json(path, 8), read_json(path, 7), read_end(path, 3)) == ({"a": 1}, {}, " 1}")


@pytest.mark.parametrize("kind", ["device", "link", "loop"])
def test_a_lock_is_not_taken_through_a_link(tmp_path: Path, kind: str) -> None:
    path = odd(tmp_path / "lock", kind)
    with pytest.raises(OSError, match="lock"), open_own(path):
        pass
    assert (tmp_path / "other").read_text() == '{"a": 1}'


def test_a_lock_keeps_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("kept")
    with open_own(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").read_text() == "kept"
