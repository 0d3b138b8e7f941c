"""The pitch of a sound: that of known sounds, and none where there is none."""

import numpy as np
import pytest
import torch

from distill.codec.spectral import spectrogram_config_for
from distill.codec.tones.atoms import PartialSet, shipped_sets
from distill.codec.tones.meter import PitchMeter
from unit.codec.tonal import RATE, sound_of, sweep

METER = PitchMeter(spectrogram_config_for(RATE))
SETS = shipped_sets()
STRING, SINE, BAR, CHORD = SETS[0], SETS[5], SETS[6], SETS[16]  # major
SERIES = np.arange(1.0, 21.0)
DULL = PartialSet(np.arange(1.0, 5.0), np.array([1.0, 0.1, 0.05, 0.02]))
PIPE = SETS[4]  # odd partials
STIFF = PartialSet(SERIES * np.sqrt((1 + 1e-3 * SERIES**2) / (1 + 1e-3)), 1 / SERIES)
LOUD_FIFTH = PartialSet(SERIES[:12], np.where(SERIES[:12] == 5, 6, 1) / SERIES[:12])
NOISE = torch.randn(RATE, generator=torch.Generator().manual_seed(0))


def measured(sound: torch.Tensor) -> float | None:
    return METER(sound.numpy())


@pytest.mark.parametrize("pitch", [48.0, 52.3, 60.0, 66.7, 74.5])
@pytest.mark.parametrize("partials", [STRING, SINE, BAR, CHORD, DULL], ids=["string", "sine", "bar", "chord", "dull"])
def test_the_pitch_of_a_known_sound_is_measured_within_ten_cents(partials: PartialSet, pitch: float) -> None:
    assert measured(sound_of(partials, pitch)) == pytest.approx(pitch, abs=0.1)


@pytest.mark.parametrize("pitch", [66.7, 78.2, 84.0])
@pytest.mark.parametrize("partials", [PIPE, STIFF, LOUD_FIFTH], ids=["pipe", "stiff string", "loud fifth partial"])
def test_a_pitch_has_other_partials_than_every_second_third_or_fifth(partials: PartialSet, pitch: float) -> None:
    assert measured(sound_of(partials, pitch)) == pytest.approx(pitch, abs=0.15)


def test_breath_around_a_tone_leaves_its_pitch() -> None:
    assert measured(sound_of(DULL, 67.0, 1.0) + 0.01 * NOISE) == pytest.approx(67.0, abs=0.1)


def test_the_pitch_is_where_most_of_the_amplitude_is() -> None:
    course = torch.cat([torch.linspace(72, 48, RATE // 10), torch.full((RATE,), 48.0)])
    assert measured(sweep(course)) == pytest.approx(48.0, abs=0.1)
    assert measured(torch.cat([sweep(torch.full((RATE,), 60.0)), 0.05 * sweep(torch.full((3 * RATE,), 67.0))])) == (
        pytest.approx(60.0, abs=0.1)
    )


@pytest.mark.parametrize(
    "sound",
    [
        NOISE * 0.1,
        torch.zeros(RATE),
        torch.zeros(1),
        sweep(torch.linspace(40, 80, RATE)),
        sound_of(SINE, 60.0, 1.0) + NOISE,
    ],
    ids=["noise", "silence", "nothing", "a glide", "a tone in louder noise"],
)
def test_what_has_no_clear_pitch_has_none(sound: torch.Tensor) -> None:
    assert measured(sound) is None
