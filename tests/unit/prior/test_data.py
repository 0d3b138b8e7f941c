"""Training data of a prior: on disk, in shares of batches that processes take, and in folds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from unit.training.coded import FABRIC, GEOMETRY, LEVELS, SIZE, config, data, recordings, repeating, windows

from distill.codes.sequences import Window
from distill.codes.store import SPLIT_SCHEMA, CodesReader, RecordingRow, SplitRow, rows_by_side, write_corpus_codes
from distill.errors import ParamsError
from distill.prior import counts
from distill.prior.counts import count
from distill.prior.data import PriorData, WindowSampler, fold_data, read_prior_data
from distill.prior.memory.task import SpanSampler
from distill.prior.task import similar_length_batches
from distill.prior.training import PriorConsole, cross_validate
from distill.storage.tables import write_rows
from distill.training.distributed import Share
from distill.training.run import RunKey, tracked_run

VIEWS = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """14 recordings of random codes and lengths, of which two are held out."""
    generator = np.random.default_rng(0)
    names = [RecordingRow(f"{number:02}", f"{number:02}.wav", "ab"[number % 2]) for number in range(14)]
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
    return read_prior_data(folder / "codes", folder / "split.parquet")


def test_codes_are_read_by_side_and_view(folder: Path, prior_data: PriorData) -> None:
    reader = CodesReader(folder / "codes")
    rows = rows_by_side(reader, folder / "split.parquet")
    train, held_out = ([[reader.codes(view) for view in views] for views in rows[side].values()] for side in rows)
    assert [len(views) for views in prior_data.train] == [VIEWS] * len(train)
    assert {codes.dtype for views in prior_data.train for codes in views} == {np.dtype(np.uint16)}  # many at scale
    for found, expected in zip(prior_data.train, train, strict=True):
        assert all(map(np.array_equal, found, expected))
    assert all(map(np.array_equal, prior_data.held_out, (views[0] for views in held_out)))
    assert all(map(np.array_equal, prior_data.unaugmented, (views[0] for views in train)))


@pytest.mark.parametrize("kind", [WindowSampler, SpanSampler])
@pytest.mark.parametrize("processes", [2, 3, 5])
def test_shares_are_the_batches_of_one_process(
    prior_data: PriorData, kind: type[WindowSampler], processes: int
) -> None:
    """Also where a process has no window of a batch of four."""
    sampler = kind(prior_data.train, *windows(10, 4, span_frames=40), prior_data.train_labels, label_dropout=0.3)
    whole = list(sampler.batches(1, 1))
    shares = [list(sampler.batches(1, 1, Share(number, processes))) for number in range(processes)]
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
    sampler = SpanSampler([[codes] for codes in sounds], *windows(4, batch_size, span_frames=100))
    for epoch in range(6):
        batches = [share.batch for share in sampler.batches(epoch, 0)]
        lengths = [batch.inputs.shape[1] for batch in batches if len(batch.inputs)]
        assert len(lengths) == sampler.batches_per_epoch
        assert sum(length > 4 for length in lengths) == sampler.span_batches * sampler.passes
        again = [share.batch for share in sampler.batches(epoch, 2)]
        assert all(torch.equal(one.inputs, two.inputs) for one, two in zip(batches[2:], again, strict=True))


def test_batches_have_few_shapes() -> None:
    lengths = np.random.default_rng(3).integers(200, 900, 40)
    sounds = [[codes] for length in lengths for codes in repeating(int(length), 1, int(length), 1)]
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
    whole = count(prior_data.train, SIZE, LEVELS, prior_data.train_labels, 2)
    monkeypatch.setattr(counts, "COUNTED_FRAMES", 50)
    parts = count(prior_data.train, SIZE, LEVELS, prior_data.train_labels, 2)
    assert all(map(np.array_equal, whole, parts))
    assert whole.unigram.sum() > 0


def test_every_recording_is_held_out_once_and_groups_stay_together() -> None:
    prior_data = data(recordings(0, 7), recordings(1, 3))
    groups = ["a", "a", "b", "c", "d", "d", "d"]
    prior_data = replace(prior_data, train_groups=groups, held_out_groups=["e", "f", "f"])
    parts = fold_data(prior_data, 3, seed=0)
    held_out = [codes.tobytes() for part in parts for codes in part.held_out]
    everything = [views[0].tobytes() for views in prior_data.train] + [codes.tobytes() for codes in prior_data.held_out]
    assert sorted(held_out) == sorted(everything)
    for part in parts:
        assert not set(part.train_groups) & set(part.held_out_groups)
        assert len(part.train) + len(part.held_out) == 10
        assert len(part.train_groups) == len(part.train)
    assert [p.held_out_groups for p in parts] != [p.held_out_groups for p in fold_data(prior_data, 3, seed=1)]


@pytest.mark.parametrize("folds", [1, 11])
def test_impossible_numbers_of_folds_are_refused(folds: int) -> None:
    with pytest.raises(ParamsError, match=f"prior.folds: expected 0 or from 2 to 10, .* found {folds}"):
        fold_data(data(recordings(0, 7), recordings(1, 3)), folds, 0)


@pytest.mark.parametrize(("count", "expected"), [(6, 3), (30, 0)])
def test_folds_report_a_standard_error_and_are_skipped_for_large_corpora(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, count: int, expected: int
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    prior_data, settings = data(recordings(0, count), recordings(1, 3)), config(epochs=2, folds=3)
    key = RunKey("train_prior", {}, {})
    with tracked_run(key, PriorConsole, count + 3, FABRIC, tmp_path, None) as run:
        measured = cross_validate(fold_data(prior_data, settings.folds, 0), settings, 0, run)
    reported = capsys.readouterr().err
    assert reported.count("bits per second of audio") == expected
    if expected:
        assert set(measured) == {"folds/val_bits_per_second", "folds/standard_error"}
        assert measured["folds/standard_error"] > 0
        assert fold_data(prior_data, 0, 0) == []
    else:
        assert measured == {}
        assert "prior.folds: skipped, one split is enough from 20 recordings on" in reported
