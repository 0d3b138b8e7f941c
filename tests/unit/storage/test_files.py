"""Writing files: all or nothing."""

import errno
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from distill.errors import ArtifactError, for_the_user
from distill.pipeline.workspace import workplace
from distill.storage.files import (
    atomic_folder,
    atomic_path,
    canonical_json,
    read_json,
    rename_to_new,
    write_json,
    write_new,
)
from distill.storage.shards import ShardReader, ShardWriter


def write_half(path: Path) -> None:
    path.write_text("half")
    raise RuntimeError("half")


def test_a_failed_write_leaves_the_old_file_or_folder_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"a": 1})
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "one").write_text("1")
    with pytest.raises(RuntimeError, match="half"), atomic_path(tmp_path / "file.json") as temporary:
        write_half(temporary)
    with pytest.raises(RuntimeError, match="half"), atomic_folder(tmp_path / "out") as folder:
        write_half(folder / "two")
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert left == ["file.json", "out", "out/one"]
    assert read_json(tmp_path / "file.json", "a test") == {"a": 1}


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_is_renamed_to_a_new_name_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", refuses)
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("first")
    second.write_text("second")
    assert not rename_to_new(first, second)
    assert (first.read_text(), second.read_text()) == ("first", "second")
    (tmp_path / "link").symlink_to("nowhere")
    assert not rename_to_new(first, tmp_path / "link")
    assert not write_new(tmp_path / "link", b"first")
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "link").unlink()
    assert write_new(first, b"first")
    assert not write_new(second, b"first")
    assert rename_to_new(first, tmp_path / "third")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["second", "third"]
    assert (tmp_path / "third").read_text() == "first"


def test_canonical_json_ignores_order_and_refuses_nan() -> None:
    assert canonical_json({"b": 1, "a": [1, 2]}) == canonical_json({"a": [1, 2], "b": 1}) == '{"a":[1,2],"b":1}'
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json(math.nan)


def test_reading_says_what_is_missing_and_what_is_broken(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"x\.json: expected the report, found no such file; run `dvc repro`"):
        read_json(tmp_path / "x.json", "the report")
    (tmp_path / "y.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"y\.json: expected the report, found a damaged file \("):
        read_json(tmp_path / "y.json", "the report")


def shards_of(folder: Path, arrays: Iterable[NDArray[np.int16]]) -> tuple[ShardReader, list[tuple[str, int]]]:
    """A reader of small shards with these rows, and the shard and the first row of each array."""
    writer = ShardWriter(folder, "pcm", shard_bytes=64)
    positions = [writer.append(array) for array in arrays]
    writer.close()
    return ShardReader(folder, "pcm"), positions


def test_shards_give_back_what_went_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.storage.shards.MAPPED_BYTES", 100)  # maps are renewed on the way
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-9, 9, (n, 2)).astype(np.int16) for n in (5, 1, 40, 7, 0, 3)]
    reader, positions = shards_of(tmp_path, arrays)
    for array, (shard, offset) in zip(arrays, positions, strict=True):
        np.testing.assert_array_equal(reader.read(shard, offset, len(array)), array)
    assert len(list(tmp_path.iterdir())) > 1


def test_a_range_beyond_the_shard_is_an_error(tmp_path: Path) -> None:
    reader, [(shard, offset)] = shards_of(tmp_path, [np.zeros(4, dtype=np.int16)])
    with pytest.raises(ArtifactError, match=r"expected rows 0 to 5 of pcm, found .*out of bounds"):
        reader.read(shard, offset, 5)
    with pytest.raises(ArtifactError, match=r"pcm-00009\.safetensors: expected rows 0 to 1 of pcm, found"):
        reader.read("pcm-00009.safetensors", 0, 1)


def a_dead_process() -> str:
    """Number of a process that has ended."""
    command = [sys.executable, "-c", "import os; print(os.getpid())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def left_behind(path: Path, process: str) -> Path:
    """Where a process writes what is to be at `path`."""
    with suppress(KeyError), atomic_path(path.parent / "elsewhere" / path.name) as temporary:
        raise KeyError
    return path.parent / temporary.name.replace(str(os.getpid()), process)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(tmp_path: Path, kind: str) -> None:
    ended = a_dead_process()
    dead = [left_behind(tmp_path / name, ended) for name in ("out", "other")]
    dead.append(dead[0].with_name(f"{dead[0].name}-journal"))  # SQLite's, of a database that is being made
    others = [left_behind(tmp_path / "out", str(os.getppid())), tmp_path / f".out.01234567-{ended}.tmp"]
    for path in (*dead, *others):  # the last is of another computer
        path.mkdir() if kind == "folder" else path.touch()
    if kind == "folder":
        with atomic_folder(tmp_path / "out") as folder:
            (folder / "one").write_text("1")
    else:
        write_json(tmp_path / "out", 1)
    assert [path for path in (*dead, *others) if path.exists()] == others


WRITES_A_FOLDER = """
import os, signal, sys
from pathlib import Path
from distill.storage import files
with files.atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "new").write_text("new")
    replace = Path.replace
    def once(self, target):
        replace(self, target)
        os.kill(os.getpid(), signal.SIGKILL)
    Path.replace = once
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_old_folder_that_is_hidden_when_its_writer_is_killed_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write_json(target / "old", 1)
    writer = subprocess.run([sys.executable, "-c", WRITES_A_FOLDER, str(target)], check=False)
    assert writer.returncode == -signal.SIGKILL
    assert not target.exists()
    with pytest.raises(RuntimeError, match="half"), atomic_folder(target):
        raise RuntimeError("half")
    assert [path.name for path in target.iterdir()] == ["old"]
    with atomic_folder(target) as folder:
        (folder / "newest").write_text("newest")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["out", "out/newest"]


REMOVES_A_FOLDER = """
import os, signal, sys
from pathlib import Path
from distill.storage import files
files._remove = lambda path: os.kill(os.getpid(), signal.SIGKILL)
files.remove_folder(Path(sys.argv[1]))
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_folder_is_there_or_gone_when_its_removal_is_killed(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for name in ("one", "two"):
        write_json(target / name, 1)
    killed = subprocess.run([sys.executable, "-c", REMOVES_A_FOLDER, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 1
    with workplace(tmp_path / "other"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_folder_behind_a_link_is_replaced_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "one").write_text("1")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "elsewhere" / "one").read_text() == "1"


def test_a_full_disk_is_a_sentence_and_a_defect_is_not(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as failed, atomic_path(tmp_path / "a.distill"):
        raise OSError(errno.ENOSPC, "No space left on device")  # as `write` does, without the name of the file
    assert str(for_the_user(failed.value)) == (
        f"{tmp_path}/a.distill: expected to read and write there, found: No space left on device; "
        "free some space and run again"
    )
    assert for_the_user(OSError(errno.EBADF, "Bad file descriptor")) is None


MEMORY = "memory: expected enough for this work, found no more; close other programs"
LOST = (
    "/drive/out: expected to read and write there, found: Transport endpoint is not connected; connect the disk or the "
    "network folder again and run again"
)
STARTED = "processes: expected to start one more process or thread, found that"
ENDED = (
    "processes: expected all processes of this training to go on, found that another one ended; look for its reason, "
    "and run again to continue"
)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"), MEMORY),
        (RuntimeError("CUDA out of memory. Tried to allocate 9 GiB."), MEMORY),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), MEMORY),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), MEMORY),
        (OSError(errno.ENOTCONN, "Transport endpoint is not connected", "/drive/out"), LOST),
        (RuntimeError("can't start new thread"), STARTED),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), STARTED),
        (RuntimeError("[../gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:4711"), ENDED),
    ],
)
def test_what_the_system_lacks_is_a_sentence(error: Exception, sentence: str) -> None:
    assert str(for_the_user(error)).startswith(sentence)
    assert for_the_user(RuntimeError("a defect")) is None


@pytest.mark.skipif(os.name == "nt", reason="names of computers there are Unicode")
def test_a_computer_has_any_name() -> None:
    """Such as one that was set in another encoding: Python keeps its bytes as surrogates."""
    code = "import platform; platform.node = lambda: 'caf\\udce9'; import distill.storage.files"
    subprocess.run([sys.executable, "-c", code], check=True)
