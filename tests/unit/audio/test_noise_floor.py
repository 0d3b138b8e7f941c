"""The noise floor: noise beside tones is found at all pitches; extremes have the extreme steps."""

import numpy as np
import pytest

from distill.audio.noise_floor import BANDS, MIDDLES, STEPS, TYPICAL, by_frame, noise_floor
from distill.audio.pcm import F32

RATE = 24_000
PITCHES = (41.2, 82.4, 110.0, 220.0, 440.0)
CLEAN, NOISY = 0, len(STEPS) - 1


def tone(pitch: float, seconds: float = 1.0) -> F32:
    """A tone of 60 to 11,000 Hz whose partials' amplitudes have one sum for each Hz, whatever its pitch."""
    time = np.arange(round(seconds * RATE)) / RATE
    made = sum(np.sin(2 * np.pi * (pitch * k * time + k * k * 0.618)) for k in range(1, int(11_000 / pitch)))
    return np.asarray(made * pitch / 10_000, np.float32)


def noise(decibels: float, seconds: float = 1.0) -> F32:
    """White noise of so many decibels of full scale."""
    made = np.random.default_rng(1).standard_normal(round(seconds * RATE))
    return np.asarray(10 ** (decibels / 20) * made, np.float32)


def test_noise_is_found_at_every_pitch_and_rises_by_what_is_added() -> None:
    levels = (-60, -40, -20)
    floors = [[noise_floor(tone(pitch) + noise(level), RATE)[0] for level in levels] for pitch in PITCHES]
    found = np.array(floors, int)[..., :-1]  # [pitches, levels, bands]; the last band has no partials
    assert np.ptp(found, axis=0).max() <= 1
    assert (np.abs(np.diff(found, axis=1) - 5) <= 1).all()  # 20 dB are five steps of 4 dB


def test_noise_alone_has_the_highest_step_and_clean_tones_the_lowest() -> None:
    assert (noise_floor(noise(-20), RATE) == NOISY).all()
    for pitch in PITCHES:
        assert (noise_floor(tone(pitch), RATE)[:, :-1] == CLEAN).all()


def test_noise_where_there_is_no_tone_counts_in_its_bands_alone() -> None:
    (both,) = noise_floor(tone(220.0) + noise(-40), RATE)
    assert both[-1] == NOISY  # above the partials
    assert (both[:-1] < NOISY - 3).all()


@pytest.mark.parametrize(("seconds", "rows"), [(0.001, 1), (0.3, 1), (1.5, 1), (1.6, 2), (3.4, 3), (3.6, 4)])
def test_a_long_sound_has_a_row_a_second_and_equal_sounds_have_equal_floors(seconds: float, rows: int) -> None:
    sound = tone(220.0, seconds) + noise(-30, seconds)
    floor = noise_floor(sound, RATE)
    assert (floor.dtype, floor.shape) == (np.uint8, (rows, BANDS))
    assert floor.tobytes() == noise_floor(sound.copy(), RATE).tobytes()


def test_a_row_is_of_its_second() -> None:
    sound = tone(220.0, 3.0) + np.concatenate([noise(-60), noise(-20), noise(-60)])
    before, noisy, after = noise_floor(sound, RATE).astype(int)[:, :-1]
    assert (noisy - before >= 8).all()
    assert np.abs(after - before).max() <= 1


@pytest.mark.parametrize("samples", [1, 100, 5000])
def test_silence_has_no_tone_to_be_beside(samples: int) -> None:
    assert (noise_floor(np.zeros(samples, np.float32), RATE) == NOISY).all()


@pytest.mark.parametrize("rate", [4000, 8000, 44_100, 96_000])
def test_every_sample_rate_has_all_bands(rate: int) -> None:
    time = np.arange(rate) / rate
    sound = sum(np.sin(2 * np.pi * 110 * k * time + k) for k in range(1, 15)) / 30
    floor = noise_floor(np.asarray(sound, np.float32), rate)
    assert floor.shape == (1, BANDS)
    assert floor[0, 0] == CLEAN


def test_between_the_middles_of_rows_values_lie_on_lines() -> None:
    floor = np.stack([np.zeros(BANDS), np.full(BANDS, 10)]).astype(np.uint8)
    found = by_frame(floor, 20, 10.0)
    assert found.shape == (20, len(MIDDLES))
    seconds = (np.arange(20) + 0.5) / 10
    expected = STEPS[0] + (STEPS[10] - STEPS[0]) * np.clip(seconds - 0.5, 0, 1)
    np.testing.assert_allclose(found, expected[:, None].repeat(BANDS, axis=1), atol=1e-5)
    assert (by_frame(TYPICAL, 3, 10.0) == STEPS[TYPICAL]).all()
