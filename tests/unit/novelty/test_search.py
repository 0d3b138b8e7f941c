"""Alignment in codes and in spectra, against slow obvious versions, among few frames and among hours."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.codec.model import VQVAE
from distill.novelty import spectra as novelty_spectra
from distill.novelty.search import EXHAUSTIVE, CodeIndex, edit_distance
from distill.novelty.spectra import (
    BANDS,
    BATCH_FRAMES,
    KEYS,
    NOWHERE,
    UNLIKE_DB,
    CodeSpectra,
    Spectra,
    SpectralIndex,
    interval,
    transposed,
)
from unit.tiny import SIZES, any_codes, tiny_codec


def slow_edit_distance(costs: np.ndarray) -> float:
    rows, columns = costs.shape
    table = np.zeros((rows + 1, columns + 1))
    table[:, 0] = np.arange(rows + 1)
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            table[i, j] = min(table[i - 1, j - 1] + costs[i - 1, j - 1], table[i - 1, j] + 1, table[i, j - 1] + 1)
    return float(table[-1].min()) / rows


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12))
def test_edit_distance_is_that_of_the_table(seed: int, rows: int, columns: int) -> None:
    costs = np.random.default_rng(seed).choice([0, 0.25, 0.5, 1], (rows, columns)).astype(np.float32)
    assert edit_distance(costs) == pytest.approx(slow_edit_distance(costs))


def recordings(seed: int, count: int = 6) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 5, (int(rng.integers(3, 30)), 3)) for _ in range(count)]


def slow_match(training: list[np.ndarray], codes: np.ndarray) -> tuple[float, int]:
    best, longest = 0, 0
    for other in training:
        for lag in range(-len(codes) + 1, len(other)):
            agreeing = run = 0
            for frame, row in enumerate(codes):
                position = frame + lag
                equal = other[position] == row if 0 <= position < len(other) else np.zeros(3, dtype=bool)
                agreeing += int(equal.sum())
                run = run + 1 if equal[0] and 4 * equal.sum() >= 3 * 3 else 0
                longest = max(longest, run)
            best = max(best, agreeing)
    return best / codes.size, longest


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_matches_agree_with_a_slow_search(seed: int) -> None:
    training = recordings(seed)
    codes = np.random.default_rng(seed + 1).integers(0, 5, (12, 3))
    (match,) = CodeIndex(training).match([codes])
    agreement, run = slow_match(training, codes)
    assert match.likeness == pytest.approx(agreement)
    assert match.copied_frames == run


@pytest.fixture(scope="module")
def hour() -> list[np.ndarray]:
    """An hour of recordings: too long for exhaustive alignment."""
    rng = np.random.default_rng(0)
    training = [rng.integers(0, 64, (int(rng.integers(20, 4000)), 4)) for _ in range(60)]
    assert sum(map(len, training)) * 20 > EXHAUSTIVE
    return training


def test_copies_are_found_in_long_recordings(hour: list[np.ndarray]) -> None:
    """Wherever they begin, a part of a sound alone, and over the end of a recording."""
    rng, index = np.random.default_rng(1), CodeIndex(hour)
    places = [(number, int(rng.integers(0, len(hour[number]) - 19))) for number in range(60)]
    queries = [hour[number][start : start + 20 + 3 * number] for number, start in places]
    for (number, start), codes, match in zip(places, queries, index.match(queries), strict=True):
        assert (match.recording, match.offset, match.likeness) == (number, start, 1.0)
        assert match.copied_frames == len(codes)
    part, over = rng.integers(0, 64, (150, 4)), rng.integers(0, 64, (60, 4))
    longest = max(range(60), key=lambda number: len(hour[number]))
    part[77:107], over[:40] = hour[5][11:41], hour[longest][-40:]
    of_part, of_over = index.match([part, over])
    assert 30 <= of_part.copied_frames <= 32
    assert (of_over.recording, of_over.offset) == (longest, len(hour[longest]) - 40)
    assert of_over.likeness == pytest.approx(40 / 60, abs=0.02)


def index_of(recordings: Sequence[Spectra]) -> SpectralIndex:
    return SpectralIndex(np.concatenate(recordings), [len(one) for one in recordings])


def smooth(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Something like a spectrogram in dB."""
    noise = rng.normal(0, 12, (frames + 8, BANDS))
    return np.stack([noise[n : n + 8].mean(axis=0) * 3 - 30 for n in range(frames)]).astype(np.float32)


@pytest.mark.parametrize("frames", [300, 40_000])
def test_a_softer_copy_is_found_where_it_stands(frames: int) -> None:
    rng = np.random.default_rng(0)
    training = [smooth(rng, frames), smooth(rng, 120)]
    queries = [training[0][33:123] - 6, training[1][10:50] + 4, smooth(rng, 60)]
    first, second, other = index_of(training).match(queries)
    assert (first.recording, first.offset, first.copied_frames, first.edit_distance) == (0, 33, 90, 0)
    assert (second.recording, second.offset, second.copied_frames) == (1, 10, 40)
    assert first.likeness == pytest.approx(1, abs=1e-3)
    assert other.likeness < 0.8
    assert other.edit_distance > 0.5


def test_noise_costs_as_many_db_and_nothing_is_like_frames_beyond_a_recording() -> None:
    rng = np.random.default_rng(1)
    training = smooth(rng, 80)
    noisy = training + rng.normal(0, 2, training.shape).astype(np.float32)
    of_noisy, beyond = index_of([training]).match([noisy, np.concatenate([training, smooth(rng, 80)])])
    assert (1 - of_noisy.likeness) * UNLIKE_DB == pytest.approx(2, abs=0.2)
    assert (beyond.offset, beyond.likeness) == (0, pytest.approx(0.5, abs=0.02))


RNG = np.random.default_rng(0)


CENTRES = np.geomspace(60.0, 9000.0, BANDS)
NOTES = np.repeat([60.0, 67.25, np.nan], [40, 40, 10])


@pytest.mark.parametrize("key", KEYS)
def test_a_copy_at_another_speed_is_found_in_its_key(key: int) -> None:
    rng = np.random.default_rng(2)
    training = [smooth(rng, 70), smooth(rng, 90)]
    reference = np.concatenate([np.full(70, 60.0), NOTES])
    copy, notes = transposed(training[1], NOTES, key, CENTRES)
    assert len(copy) == round(90 / 2 ** (key / 12))
    (match,) = index_of(training).match_in_keys([copy], [notes], reference, CENTRES)
    assert (match.recording, match.semitones) == (1, key)
    assert abs(match.offset) <= 2
    assert match.likeness > max(0.6, 0.05 + index_of(training).match([copy])[0].likeness)


def test_nothing_is_in_another_key_where_notes_do_not_say_so() -> None:
    rng = np.random.default_rng(3)
    training = smooth(rng, 90)
    copy, notes = transposed(training, NOTES, 3, CENTRES)
    index = index_of([training])
    for own in (np.full(len(copy), np.nan), notes + 12, NOTES[: len(copy)]):
        assert index.match_in_keys([copy], [own], NOTES, CENTRES) == [NOWHERE]


@pytest.mark.parametrize(
    ("sound", "recording", "semitones"),
    [
        ([57.0, 57.1, 70, np.nan], [60.0, 60, 60, 60], -3),
        ([57.0, 63, 50, 71], [60.0, 60, 60, 60], 0),
        ([np.nan, 57, np.nan, np.nan], [60.0, 60, np.nan, 60], 0),
        ([np.nan, 57], [60.0, np.nan], 0),
    ],
)
def test_an_interval_is_what_many_notes_agree_on(sound: list[float], recording: list[float], semitones: int) -> None:
    assert interval(np.array(sound), np.array(recording)) == semitones


@pytest.mark.parametrize("codec", [tiny_codec(), tiny_codec(quantizer="residual")], ids=["overlapping", "residual"])
def test_codes_stand_for_what_the_codec_makes_of_them(codec: VQVAE) -> None:
    """Against the codec's own decoding: overlapping codewords, unprojected, averaged in bands; in dB."""
    codes = RNG.integers(0, np.minimum(SIZES, 40), (100, len(SIZES)))
    with torch.no_grad():
        features = codec.unproject(codec.dequantise(torch.from_numpy(codes)[None]))
        by_hop, _, _ = codec.spectrogram.by_hop(features)
        log_mel = by_hop.view(100, codec.spectrogram.stack, -1).mean(dim=1)
        expected = 20 * torch.nn.functional.adaptive_avg_pool1d(log_mel, BANDS)
    np.testing.assert_allclose(CodeSpectra(codec)(codes), expected.numpy(), atol=1e-3)


def test_spectra_of_many_recordings_are_those_of_each_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In pieces, too, and in a file, where there are many."""
    spectra = CodeSpectra(tiny_codec())
    recordings = [any_codes(frames, RNG) for frames in (1, 2, 700, 3, BATCH_FRAMES + 5, 40)]
    alone = np.concatenate([spectra(codes) for codes in recordings])
    np.testing.assert_array_equal(spectra.joined(recordings), alone)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name, value in (("BATCH_FRAMES", 13), ("MAX_IN_MEMORY", 1000)):
        monkeypatch.setattr(novelty_spectra, name, value)
    kept = spectra.joined(recordings)
    assert isinstance(kept, np.memmap)
    np.testing.assert_array_equal(kept, alone)
