"""Pitch: of tones, of noise, and how it changes."""

import numpy as np
import pytest

from benchmarks.pitch import pitch_change, pitch_track

RATE = 8000


def tone(pitch: float, seconds: float = 0.5) -> np.ndarray:
    phase = 2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(phase) + 0.2 * np.sin(3 * phase)).astype(np.float32)


@pytest.mark.parametrize("pitch", [80.0, 220.0, 333.3, 600.0])
def test_the_pitch_of_a_tone(pitch: float) -> None:
    assert np.median(pitch_track(tone(pitch), RATE)) == pytest.approx(pitch, rel=0.005)


def test_a_change_is_in_semitones_either_way() -> None:
    low, high = pitch_track(tone(220), RATE), pitch_track(tone(220 * 2 ** (1 / 12)), RATE)
    assert pitch_change(low, high) == pytest.approx(1, abs=0.05) == pitch_change(high, low)


def test_noise_silence_and_short_sounds_have_none() -> None:
    noise = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    for sound in (noise, np.zeros(4000, dtype=np.float32), tone(220, 0.05)):
        track = pitch_track(sound, RATE)
        assert np.isfinite(track).mean() < 0.1 if len(track) else True
        assert np.isnan(pitch_change(track, track))
