"""Writing files: all or nothing."""

import errno
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from distill.errors import ArtifactError, environment_error
from distill.storage.files import atomic_folder, atomic_path, canonical_json, read_json, write_json
from distill.storage.shards import ShardReader, ShardWriter


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file.json"
    write_json(target, {"a": 1})

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]
    assert read_json(target, "a test") == {"a": 1}


def test_a_failed_folder_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_folder(target) as folder:
        (folder / "one").write_text("1")

    def write_half() -> None:
        with atomic_folder(target) as folder:
            (folder / "two").write_text("2")
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        write_half()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["out", "out/one"]


def test_canonical_json_ignores_order_and_refuses_nan() -> None:
    assert canonical_json({"b": 1, "a": [1, 2]}) == canonical_json({"a": [1, 2], "b": 1}) == '{"a":[1,2],"b":1}'
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json(math.nan)


def test_reading_says_what_is_missing_and_what_is_broken(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"x\.json: expected the report, found no such file; run `dvc repro`"):
        read_json(tmp_path / "x.json", "the report")
    (tmp_path / "y.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"y\.json: expected the report, found unreadable JSON"):
        read_json(tmp_path / "y.json", "the report")


def test_shards_give_back_what_went_in(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-9, 9, (n, 2)).astype(np.int16) for n in (5, 1, 40, 7, 0, 3)]
    writer = ShardWriter(tmp_path, "pcm", shard_bytes=64)
    positions = [writer.append(array) for array in arrays]
    writer.close()
    reader = ShardReader(tmp_path, "pcm")
    for array, (shard, offset) in zip(arrays, positions, strict=True):
        np.testing.assert_array_equal(reader.read(shard, offset, len(array)), array)
    assert len(list(tmp_path.iterdir())) > 1


def test_maps_are_renewed_and_go_on_giving_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.storage.shards.MAPPED_BYTES", 100)
    rows = np.arange(3000, dtype=np.int16)
    writer = ShardWriter(tmp_path, "pcm")
    shard, offset = writer.append(rows)
    writer.close()
    reader = ShardReader(tmp_path, "pcm")
    for start in range(0, 3000, 30):
        np.testing.assert_array_equal(reader.read(shard, offset + start, 30), rows[start : start + 30])


def test_a_range_beyond_the_shard_is_an_error(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "pcm")
    shard, offset = writer.append(np.zeros(4, dtype=np.int16))
    writer.close()
    reader = ShardReader(tmp_path, "pcm")
    with pytest.raises(ArtifactError, match=r"expected rows 0 to 5 of pcm, found .*out of bounds"):
        reader.read(shard, offset, 5)
    with pytest.raises(ArtifactError, match=r"pcm-00009\.safetensors: expected rows 0 to 1 of pcm, found"):
        reader.read("pcm-00009.safetensors", 0, 1)


def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    dead, alive = tmp_path / f".out.{process.stdout.strip()}.tmp", tmp_path / f".out.{os.getppid()}.tmp"
    dead.mkdir()
    alive.mkdir()
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "one").write_text("1")
    assert not dead.exists()
    assert alive.exists()


def test_a_full_disk_is_a_sentence_and_a_defect_is_not() -> None:
    error = environment_error(OSError(errno.ENOSPC, "No space left on device", "models/a.distill"))
    assert str(error) == (
        "models/a.distill: expected to read and write there, found: No space left on device; free some space and run again"
    )
    assert environment_error(OSError(errno.EBADF, "Bad file descriptor")) is None
