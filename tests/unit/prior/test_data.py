"""Training data of a prior: on disk, and in shares of batches that processes take."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.codes.sequences import Window
from distill.codes.store import (
    RECORDINGS,
    RECORDINGS_SCHEMA,
    SPLIT_SCHEMA,
    CodesReader,
    RecordingRow,
    SplitRow,
    rows_by_side,
    write_corpus_codes,
)
from distill.errors import ParamsError
from distill.prior import counts, data
from distill.prior.counts import count
from distill.prior.data import PriorData, WindowSampler, read_prior_data
from distill.prior.memory.task import SpanSampler
from distill.prior.task import similar_length_batches
from distill.storage.tables import write_rows
from unit.training.coded import GEOMETRY, LEVELS, SIZE, coded, repeating, windows

VIEWS = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """14 recordings of random codes and lengths, of which two are held out."""
    generator = np.random.default_rng(0)
    names = [RecordingRow(f"{number:02}", f"{number:02}.wav", "ab"[number % 2], "train") for number in range(14)]
    codewords = np.zeros((LEVELS, SIZE, 4), dtype=np.float32)
    sides = ["val" if number % 5 == 4 else "train" for number in range(len(names))]
    views = []
    for row, side in zip(names, sides, strict=True):
        frames = int(generator.integers(3, 60))
        for view in range(VIEWS if side == "train" else 1):
            views.append((row.recording_id, view, row.recording_id, generator.integers(0, SIZE, (frames, LEVELS))))
    write_corpus_codes(tmp_path / "codes", GEOMETRY, codewords, names, views)
    rows = [SplitRow(row.recording_id, row.recording_id, side) for row, side in zip(names, sides, strict=True)]
    write_rows(tmp_path / "split.parquet", rows, SPLIT_SCHEMA)
    return tmp_path


@pytest.fixture
def prior_data(folder: Path) -> PriorData:
    return read_prior_data(folder / "codes", folder / "split.parquet", 0)


def test_codes_are_read_by_side_and_view(folder: Path, prior_data: PriorData) -> None:
    reader = CodesReader(folder / "codes")
    rows = rows_by_side(reader, folder / "split.parquet")
    for side, found in (("train", prior_data.train), ("val", prior_data.held_out)):
        for one, views in zip(found, rows[side].values(), strict=True):
            assert len(views) == (VIEWS if side == "train" else 1)
            assert all(map(np.array_equal, one.views, map(reader.codes, views)))
            assert {view.dtype for view in one.views} == {np.dtype(np.uint16)}  # many at scale
    held_out = [(one.path, one.group, one.label) for one in prior_data.held_out]
    assert held_out == [("04.wav", "04", 1), ("09.wav", "09", 2)]


def test_folders_that_differ_in_normal_form_are_one_label(folder: Path) -> None:
    forms = ["Glo\u0308ckchen", "Gl\u00f6ckchen", "Tu\u0308r"]  # as macOS writes it, as others do
    rows = [
        replace(row, label=forms[int(row.recording_id) % 3])
        for row in CodesReader(folder / "codes").recordings().values()
    ]
    write_rows(folder / "codes" / RECORDINGS, rows, RECORDINGS_SCHEMA)
    read = read_prior_data(folder / "codes", folder / "split.parquet", 0)
    assert read.labels == [forms[1], forms[2]]  # a form that is on disk
    found = {one.path: one.label for one in (*read.train, *read.held_out)}
    assert found == {row.path: 1 + (row.label == forms[2]) for row in rows}


def test_more_labels_than_a_prior_has_are_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [replace(row, label="x" * 1001) for row in CodesReader(folder / "codes").recordings().values()]
    monkeypatch.setattr(data, "MOST_LABELS", 1)
    for found in ("2, the longest of 1", "1, the longest of 1001"):
        with pytest.raises(ParamsError) as caught:
            read_prior_data(folder / "codes", folder / "split.parquet", 0)
        assert str(caught.value) == (
            "corpus.labels: folder: expected at most 1 folders, and paths of 1000 characters, found "
            f"{found}; put recordings into fewer folders, or train without labels"
        )
        write_rows(folder / "codes" / RECORDINGS, rows, RECORDINGS_SCHEMA)


@pytest.mark.parametrize("kind", [WindowSampler, SpanSampler])
@pytest.mark.parametrize("processes", [2, 3, 5])
def test_shares_are_the_batches_of_one_process(
    prior_data: PriorData, kind: type[WindowSampler], processes: int
) -> None:
    """Also where a process has no window of a batch of four."""
    sampler = kind(prior_data.train, *windows(10, 4, span_frames=40), label_dropout=0.3)
    whole = list(sampler.batches(1, 1))
    shares = [list(sampler.batches(1, 1, slice(number, None, processes))) for number in range(processes)]
    for index, one in enumerate(whole):
        batch = one.batch
        for number, part in enumerate(share[index] for share in shares):
            assert (part.tokens * processes, part.step) == (one.tokens, one.step)
            assert batch.labels is not None
            if number < len(batch.positions):
                for own, every in zip(part.batch, batch, strict=True):
                    assert own is every is None or torch.equal(own, every[number::processes])
            else:
                assert part.batch.inputs.shape == (1, *batch.inputs.shape[1:])


@pytest.mark.parametrize(
    ("sounds", "batch_size"),
    [
        ([*repeating(0, 9, 12, 6), *repeating(1, 3, 3, 1), *repeating(2, 1, 50, 9)], 8),
        (repeating(0, 1, 50, 9), 1),
        ([*repeating(0, 1, 50, 9), *repeating(1, 2, 5, 1)], 1),
        (repeating(0, 5, 2, 1), 2),
    ],
)
def test_every_epoch_has_as_many_batches_of_spans_and_of_windows(sounds: list[np.ndarray], batch_size: int) -> None:
    sampler = SpanSampler(coded(sounds), *windows(4, batch_size, span_frames=100))
    for epoch in range(6):
        batches = [share.batch for share in sampler.batches(epoch, 0)]
        lengths = [batch.inputs.shape[1] for batch in batches if len(batch.inputs)]
        assert len(lengths) == sampler.batches_per_epoch
        assert sum(length > 4 for length in lengths) == sampler.span_batches * sampler.passes
        again = [share.batch for share in sampler.batches(epoch, 2)]
        assert all(torch.equal(one.inputs, two.inputs) for one, two in zip(batches[2:], again, strict=True))


def test_batches_have_few_shapes() -> None:
    lengths = np.random.default_rng(3).integers(200, 900, 40)
    sounds = coded([codes for length in lengths for codes in repeating(int(length), 1, int(length), 1)])
    sampler = SpanSampler(sounds, *windows(20, 64, span_frames=1000))
    shapes = {tuple(share.batch.inputs.shape[:2]) for epoch in range(9) for share in sampler.batches(epoch, 0)}
    assert len(shapes) < 30
    assert {frames for _, frames in shapes} <= {20, *range(208, 512, 16), *range(512, 1000, 64), 1000}


def test_long_sequences_are_validated_in_smaller_batches() -> None:
    longer = [Window(0, 0, length) for length in (2, 3, 4, 4, 9, 40)]
    sizes = [[len(window) for window in batch] for batch in similar_length_batches(longer, 3, 4)]
    assert sizes == [[2, 3, 4], [4], [9], [40]]


def test_counting_a_few_recordings_at_once_gives_the_same_bits(
    prior_data: PriorData, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = count(prior_data.train, GEOMETRY.codebook_sizes, 2)
    monkeypatch.setattr(counts, "COUNTED_FRAMES", 50)
    parts = count(prior_data.train, GEOMETRY.codebook_sizes, 2)
    assert all(map(np.array_equal, whole, parts))
    assert whole.unigram.sum() > 0
