"""Telling apart: chance where nothing is different, nearly always right where a codec is plainly heard."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from benchmarks.baseline import NoNetworkCodec, griffin_lim
from benchmarks.measures import reconstruct
from benchmarks.telling_apart import Accuracy, accuracy, telling_apart

RATE = 16_000
RECORDINGS = 16

Samples = NDArray[np.float32]


def hits(count: int, seed: int) -> list[Samples]:
    """Struck sounds of tone and noise, each with other pitches, decays, levels and times."""
    generator = np.random.default_rng(seed)
    time = np.arange(RATE) / RATE
    made = []
    for _ in range(count):
        sound = np.zeros(RATE)
        for start in np.sort(generator.uniform(0.02, 0.8, 3)):
            since = np.maximum(0.0, time - start)
            body = np.sin(2 * np.pi * generator.uniform(80, 1500) * since) + 0.5 * generator.standard_normal(RATE)
            sound += generator.uniform(0.3, 1) * body * np.exp(-since / generator.uniform(0.02, 0.2)) * (time >= start)
        made.append((0.3 * generator.uniform(0.3, 1) * sound).astype(np.float32))
    return made


@pytest.fixture(scope="module")
def originals() -> list[Samples]:
    return hits(RECORDINGS, 0)


def told(originals: list[Samples], decoded: list[Samples], seed: int = 0) -> Accuracy:
    groups = [str(number) for number in range(len(originals))]
    return accuracy(telling_apart(originals, decoded, RATE, groups, seed), 0)


def through_magnitudes(sound: Samples) -> Samples:
    """A spectrogram of 64 ms windows, whose phases Griffin-Lim guesses."""
    window = torch.hann_window(1024)
    spectrum = torch.stft(torch.from_numpy(sound), 1024, 256, window=window, return_complex=True)
    made = griffin_lim(spectrum.abs(), 1024, 256, 32).numpy()
    return np.asarray(np.pad(made, (0, len(sound) - len(made))), dtype=np.float32)


def test_originals_are_not_told_from_themselves(originals: list[Samples]) -> None:
    assert told(originals, originals) == Accuracy(0.5, 0.5, 0.5)


def test_originals_are_not_told_from_others_of_their_kind(originals: list[Samples]) -> None:
    """Two halves of one set of sounds, of which none is a decode."""
    found = told(originals, hits(RECORDINGS, 1))
    assert found.low < 0.5 < found.high
    assert found.mean == pytest.approx(0.5, abs=0.08)


def test_dither_of_16_bits_is_not_heard(originals: list[Samples]) -> None:
    generator = np.random.default_rng(2)
    dithered = [(one + generator.uniform(-1, 1, RATE) / 32768).astype(np.float32) for one in originals]
    assert told(originals, dithered).mean == pytest.approx(0.5, abs=0.02)


def test_a_low_pass_is_heard(originals: list[Samples]) -> None:
    low = butter(6, 4000, fs=RATE, output="sos")
    assert told(originals, [sosfiltfilt(low, one).astype(np.float32) for one in originals]).low > 0.95


def test_guessed_phases_are_heard(originals: list[Samples]) -> None:
    """Magnitudes are exact here: attacks and the roughness of phases that do not agree betray the decode."""
    assert told(originals, [through_magnitudes(one) for one in originals]).low > 0.7


def test_a_codec_without_a_network_is_heard(originals: list[Samples]) -> None:
    codec = NoNetworkCodec.fit([torch.from_numpy(one) for one in hits(RECORDINGS, 4)], RATE, 256, 3, 16, 0)
    decoded = [reconstruct(codec, torch.from_numpy(one)).numpy() for one in originals]
    assert told(originals, decoded).low > 0.9


def test_a_weak_trace_is_heard_less_than_a_strong_one(originals: list[Samples]) -> None:
    generator = np.random.default_rng(3)
    noise = [generator.standard_normal(RATE).astype(np.float32) for _ in originals]
    traces = [
        told(originals, [one + share * one.std() * other for one, other in zip(originals, noise, strict=True)]).mean
        for share in (0.0, 0.03, 0.3)
    ]
    assert traces == sorted(traces)
    assert traces[0] == 0.5
    assert traces[2] > 0.8


def test_answers_are_about_recordings_of_other_groups(originals: list[Samples]) -> None:
    """A mark that one group alone has helps nobody: the judge never learns from the group that it is asked about."""
    groups = ["marked"] * 8 + ["clean"] * 8
    time = np.arange(RATE) / RATE
    mark = (0.3 * np.sin(2 * np.pi * 7000 * time)).astype(np.float32)
    decoded = [one + mark if group == "marked" else one for one, group in zip(originals, groups, strict=True)]
    together = np.mean(telling_apart(originals, decoded, RATE, groups, 0)[:8])
    apart = np.mean(telling_apart(originals, decoded, RATE, [str(number) for number in range(16)], 0)[:8])
    assert together == 0.5
    assert apart > 0.9


def test_silent_and_short_recordings(originals: list[Samples]) -> None:
    silent, short = np.zeros(RATE, dtype=np.float32), originals[0][:500]
    sounds = [silent, short + 0.01, *originals]
    found = telling_apart(sounds, sounds, RATE, [str(number) for number in range(len(sounds))], 0)
    assert np.isnan(found[0])
    assert found[1:] == (0.5,) * (len(sounds) - 1)
    assert np.isnan(telling_apart(sounds[:2], sounds[:2], RATE, ["a", "b"], 0)).all()
    assert np.isnan(accuracy([float("nan")], 0).mean)


def test_the_interval_is_over_recordings() -> None:
    found = accuracy([1.0] * 50 + [0.5] * 50, 0)
    assert found.mean == 0.75
    assert (found.low, found.high) == pytest.approx((0.75 - 1.96 * 0.025, 0.75 + 1.96 * 0.025), abs=0.005)
