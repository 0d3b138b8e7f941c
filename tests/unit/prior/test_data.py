"""Training data of a prior on disk: read as needed, and by each process as far as its own share goes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from unit.training.coded import GEOMETRY, LEVELS, SIZE, windows

from distill.codes.held_out import SplitRow, rows_by_side, write_split
from distill.codes.store import CodesReader, CodesWriter, RecordingRow, StoredViews
from distill.prior import counting
from distill.prior.counting import count
from distill.prior.data import PriorData, SpanSampler, WindowSampler, read_prior_data
from distill.storage.shards import ShardReader
from distill.training.distributed import Share

VIEWS = 3
WINDOWS = windows(10, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """14 recordings of random codes and lengths, of which two are held out."""
    generator = np.random.default_rng(0)
    names = [RecordingRow(f"{number:02}", f"{number:02}.wav", "ab"[number % 2]) for number in range(14)]
    writer = CodesWriter(tmp_path / "codes", GEOMETRY, np.zeros((LEVELS, SIZE, 4), dtype=np.float32), names)
    sides = ["val" if number % 5 == 4 else "train" for number in range(len(names))]
    for row, side in zip(names, sides, strict=True):
        frames = int(generator.integers(3, 60))
        for view in range(VIEWS if side == "train" else 1):
            writer.append(row.recording_id, view, row.recording_id, generator.integers(0, SIZE, (frames, LEVELS)))
    writer.close()
    rows = (SplitRow(row.recording_id, row.recording_id, side) for row, side in zip(names, sides, strict=True))
    write_split(tmp_path / "split.parquet", rows)
    return tmp_path


@pytest.fixture
def prior_data(folder: Path) -> PriorData:
    return read_prior_data(folder / "codes", folder / "split.parquet")


def test_stored_codes_are_those_that_are_read_at_once(folder: Path, prior_data: PriorData) -> None:
    reader = CodesReader(folder / "codes")
    sides = rows_by_side(reader, folder / "split.parquet")
    train = [[reader.codes(reader.rows[row]) for row in rows] for rows in sides.train.values()]
    held_out = [reader.codes(reader.rows[row]) for row in sides.held_out.values()]
    for data in (prior_data, prior_data.in_memory()):
        assert [len(views) for views in data.train] == [VIEWS] * len(sides.train)
        for found, expected in zip(data.train, train, strict=True):
            assert all(map(np.array_equal, found, expected))
        assert all(map(np.array_equal, data.held_out, held_out))
        assert all(map(np.array_equal, data.unaugmented, (views[0] for views in train)))
    assert isinstance(prior_data.train, StoredViews)
    assert np.array_equal(prior_data.train[-2][1:][0], prior_data.train[10][1])
    assert [views[0].tolist() for views in prior_data.train[2:4]] == [prior_data.train[n][0].tolist() for n in (2, 3)]


def test_opening_data_and_drawing_windows_reads_no_codes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = counted_reads(monkeypatch)
    data = read_prior_data(folder / "codes", folder / "split.parquet")
    sampler = WindowSampler(data.train, WINDOWS, data.train_labels, data.train_labels)
    assert sampler.batches_per_epoch
    assert read == []


@pytest.mark.parametrize("kind", [WindowSampler, SpanSampler])
@pytest.mark.parametrize("processes", [2, 3, 5])
def test_shares_are_the_batches_of_one_process(
    prior_data: PriorData, monkeypatch: pytest.MonkeyPatch, kind: type[WindowSampler], processes: int
) -> None:
    """Also where a process has no window of a batch of four; and each process reads its own windows alone."""
    sampler = kind(prior_data.train, windows(10, 4, label_dropout=0.3, span_frames=40), prior_data.train_labels)
    read = counted_reads(monkeypatch)
    whole = list(sampler.shared_batches(1, 1, Share()))
    bytes_of_one = sum(read)
    shares, read_by_each = [], []
    for number in range(processes):
        read.clear()
        shares.append(list(sampler.shared_batches(1, 1, Share(number, processes))))
        read_by_each.append(sum(read))
    assert sum(read_by_each) == bytes_of_one
    assert max(read_by_each) < bytes_of_one
    for index, (batch, targets) in enumerate(whole):
        for number, part in enumerate(share[index] for share in shares):
            assert part.targets == targets
            assert part.batch.labels is not None
            assert batch.labels is not None
            if number < len(batch.positions):
                for own, every in zip(vars(part.batch).values(), vars(batch).values(), strict=True):
                    assert own is every is None or torch.equal(own, every[number::processes])
            else:
                assert part.batch.inputs.shape == (1, *batch.inputs.shape[1:])


def test_counting_a_few_recordings_at_once_gives_the_same_bits(
    prior_data: PriorData, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = count(prior_data.in_memory().train, SIZE, LEVELS, prior_data.train_labels, 2)
    monkeypatch.setattr(counting, "COUNTED_FRAMES", 50)
    parts = count(prior_data.train, SIZE, LEVELS, prior_data.train_labels, 2)
    for name, table in vars(whole).items():
        assert np.array_equal(table, vars(parts)[name]), name
    assert whole.unigram.sum() > 0


def counted_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each read from shards from now on."""
    read: list[int] = []
    original = ShardReader.read

    def noting(reader: ShardReader, shard: str, offset: int, length: int) -> np.ndarray:
        rows = original(reader, shard, offset, length)
        read.append(rows.nbytes)
        return rows

    monkeypatch.setattr(ShardReader, "read", noting)
    return read
