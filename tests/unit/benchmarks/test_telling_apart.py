"""Telling apart: chance where nothing is different, nearly always right where a codec is plainly heard."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from benchmarks.telling_apart import telling_apart

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


def told(originals: list[Samples], decoded: list[Samples]) -> float:
    groups = [str(number) for number in range(len(originals))]
    return float(np.mean(telling_apart(originals, decoded, RATE, groups, 0)))


def noise(scale: float) -> Callable[[Samples, np.random.Generator], Samples]:
    return lambda sound, generator: (sound + scale * sound.std() * generator.standard_normal(RATE)).astype(np.float32)


def low_pass(sound: Samples, _: np.random.Generator) -> Samples:
    return np.asarray(sosfiltfilt(butter(6, 4000, fs=RATE, output="sos"), sound), dtype=np.float32)


def other_phases(sound: Samples, generator: np.random.Generator) -> Samples:
    """The magnitudes of windows of 16 ms, with phases by chance: bands and envelope stay, partials do not."""
    spectra = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(np.pad(sound, 128), 256)[::64] * np.hanning(256))
    spectra = np.abs(spectra) * np.exp(2j * np.pi * generator.random(spectra.shape))
    made = np.zeros(RATE + 256)
    for number, piece in enumerate(np.fft.irfft(spectra) * np.hanning(256)):
        made[number * 64 : number * 64 + 256] += piece
    made = made[128 : 128 + RATE]
    return np.asarray(made * sound.std() / made.std(), dtype=np.float32)


@pytest.mark.parametrize(
    ("change", "least", "most"),
    [
        (noise(0.0), 0.5, 0.5),
        (noise(1e-4), 0.47, 0.53),
        (noise(0.03), 0.52, 0.8),
        (noise(0.3), 0.8, 1.0),
        (low_pass, 0.95, 1.0),
        (other_phases, 0.9, 1.0),
    ],
)
def test_a_change_is_told_as_it_is_heard(
    change: Callable[[Samples, np.random.Generator], Samples], least: float, most: float
) -> None:
    generator = np.random.default_rng(2)
    assert least <= told(hits(RECORDINGS, 0), [change(one, generator) for one in hits(RECORDINGS, 0)]) <= most


def test_originals_are_not_told_from_others_of_their_kind() -> None:
    assert told(hits(RECORDINGS, 0), hits(RECORDINGS, 1)) == pytest.approx(0.5, abs=0.08)


def chords(count: int, detune: float) -> list[Samples]:
    """Dense, steady clusters of partials; with `detune` in Hz each wanders by as much."""
    generator = np.random.default_rng(0)
    time, made = np.arange(RATE) / RATE, []
    for _ in range(count):
        sound = np.zeros(RATE)
        for hertz in generator.uniform(200, 6000, 60):
            wander = np.interp(time, np.linspace(0, 1, 50), generator.standard_normal(50)) * detune
            sound += np.sin(2 * np.pi * np.cumsum(hertz + wander) / RATE + generator.uniform(0, 6.28))
        made.append((0.02 * sound).astype(np.float32))
    return made


def test_partials_that_wander_are_told_by_long_windows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    steady, wandering = chords(RECORDINGS, 0), chords(RECORDINGS, 8)
    fine = told(steady, wandering)
    monkeypatch.setattr("benchmarks.telling_apart._of_bins", lambda patch: patch[:1, 0])
    assert told(steady, wandering) < 0.65 < 0.9 < fine


def test_answers_are_about_recordings_of_other_groups() -> None:
    """A mark that one group alone has helps nobody: the judge never learns from the group that it is asked about."""
    originals, groups = hits(RECORDINGS, 0), ["marked"] * 8 + ["clean"] * 8
    time = np.arange(RATE) / RATE
    mark = (0.3 * np.sin(2 * np.pi * 7000 * time)).astype(np.float32)
    decoded = [one + mark if group == "marked" else one for one, group in zip(originals, groups, strict=True)]
    together = np.mean(telling_apart(originals, decoded, RATE, groups, 0)[:8])
    apart = np.mean(telling_apart(originals, decoded, RATE, [str(number) for number in range(16)], 0)[:8])
    assert together == 0.5
    assert apart > 0.9


def test_silent_and_short_recordings() -> None:
    originals = hits(RECORDINGS, 0)
    silent, short = np.zeros(RATE, dtype=np.float32), originals[0][:500]
    sounds = [silent, short + 0.01, *originals]
    found = telling_apart(sounds, sounds, RATE, [str(number) for number in range(len(sounds))], 0)
    assert np.isnan(found[0])
    assert found[1:] == (0.5,) * (len(sounds) - 1)
    assert np.isnan(telling_apart(sounds[:2], sounds[:2], RATE, ["a", "b"], 0)).all()
