"""Noise between partials: what the measures of tones and spectra do not tell apart is told here; nothing of what has no partials."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from distill.audio.partial_noise import (
    PartialNoise,
    own_partial_noise,
    own_partial_noise_line,
    partial_noise_line,
    partial_noise_summary,
)
from distill.audio.partials import Tone
from distill.codec.losses import REPORT_WINDOWS, MultiScaleMelLoss

RATE, SAMPLES = 24_000, 48_000
Samples = NDArray[np.float64]


def tone(pitch: float = 82.0) -> Samples:
    """A held tone with partials up to 9 kHz."""
    time = np.arange(SAMPLES) / RATE
    made = sum(np.sin(2 * np.pi * (pitch * k * time + k * k * 0.618)) / k**0.7 for k in range(1, int(9000 / pitch)))
    return np.asarray(made / np.abs(made).max() / 2)


def noise(decibels: float, low: float = 1500.0, high: float = 9000.0) -> Samples:
    """Noise between two frequencies in Hz."""
    spectrum, hertz = np.fft.rfft(np.random.default_rng(0).standard_normal(SAMPLES)), np.fft.rfftfreq(SAMPLES, 1 / RATE)
    return 10 ** (decibels / 20) * np.fft.irfft(spectrum * ((hertz > low) & (hertz < high)), SAMPLES)


def distance(original: Samples, decoded: Samples) -> float:
    return partial_noise_summary([PartialNoise.measure(original, RATE, decoded)])["distance"]


def test_fizz_that_other_measures_hardly_tell_is_told() -> None:
    original = tone() + noise(-80, 0, 12_000)
    near, far = original + noise(-77), original + noise(-52)
    loss = MultiScaleMelLoss(RATE, REPORT_WINDOWS)
    mel = [float(loss(*(torch.from_numpy(one).float()[None] for one in (made, original)))) for made in (near, far)]
    matches = [Tone.measure(original, made, RATE).match for made in (near, far)]
    assert mel[1] - mel[0] < 0.05
    assert [one.f1 for one in matches if one] == pytest.approx([1, 1], abs=0.01)
    assert [one.tone_to_noise_lost for one in matches if one] == pytest.approx([0, 0], abs=0.05)
    assert distance(original, far) - distance(original, near) > 10


def test_levels_rise_as_the_noise_and_a_sound_has_no_distance_from_itself() -> None:
    original = tone(110.0) + noise(-60)
    levels = PartialNoise.measure(original, RATE, *(original + noise(level) for level in (-50, -40))).medians()
    for hertz, (before, *after) in levels.items():
        if hertz >= 2500:
            assert after == pytest.approx([before + 20 * np.log10(1 + 10**0.5), before + 20 * np.log10(11)], abs=0.5)
    assert distance(original, original) == 0
    assert partial_noise_summary([PartialNoise.measure(original, RATE, 0.1 * original)])["distance"] < 1e-4


@pytest.mark.parametrize("sound", [np.zeros(SAMPLES), noise(-20), tone()[:8000]], ids=["silence", "noise", "short"])
def test_what_has_no_gaps_between_partials_gives_nothing(sound: Samples) -> None:
    measured = PartialNoise.measure(sound, RATE, sound)
    assert partial_noise_summary([measured]) == {}
    assert partial_noise_line({}) == ""
    assert own_partial_noise({"recorded": [sound], "decoded": []}, RATE) == {}


def test_sets_of_sounds_are_measured_between_their_own_partials() -> None:
    recorded, decoded = [tone(82.0) + noise(-70)], [tone(87.0) + noise(-50)]
    found = own_partial_noise({"generated": decoded, "decoded": decoded, "recorded": recorded}, RATE)
    (alone,) = PartialNoise.measure(recorded[0], RATE).medians()[2500]
    assert found["partial_noise/2500/recorded"] == alone
    assert found["partial_noise/2500/generated"] == pytest.approx(alone + 20, abs=1.5)
    assert "from 2500 Hz" in own_partial_noise_line(found)


def test_lines_name_regions_in_which_all_is_known() -> None:
    levels = {
        "partial_noise/60/original": -70.4,
        "partial_noise/60/decoded": -60.6,
        "partial_noise/1250/original": -50.0,
    }
    assert partial_noise_line({**levels, "partial_noise/distance": 9.8}) == (
        "9.8 dB from the originals': -61 dB (-70) from 60 Hz"
    )
    names = {"generated": -40.0, "decoded": -42.0, "recorded": -51.0}
    levels = {f"partial_noise/{hertz}/{name}": level for hertz in (60, 5000) for name, level in names.items()}
    del levels["partial_noise/60/generated"]
    assert own_partial_noise_line(levels) == (
        "noise between partials, beside them (once decoded, recorded): -40 dB (-42, -51) from 5000 Hz"
    )
