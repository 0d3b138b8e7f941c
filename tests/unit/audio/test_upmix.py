"""Two channels of a sound and its image: what the image says, the sound itself in their sum, sharp attacks."""

import numpy as np
import pytest
from numpy.typing import NDArray

from distill.audio import upmix
from distill.audio.image import BANDS, COHERENCE_STEPS, LEVEL_STEPS, MONO, Image, dequantised, image_of
from distill.audio.upmix import upmixed

RATE, CENTRE, ALIKE = 24_000, 7, 0  # steps of no level difference and of a coherence of 1
Samples = NDArray[np.float32]


def image(level: int = CENTRE, coherence: int = ALIKE, rows: int = 1) -> Image:
    made = np.empty((rows, 2, BANDS), np.uint8)
    made[:, 0], made[:, 1] = level, coherence
    return made


def noises(seconds: float = 1.4, seed: int = 1) -> tuple[Samples, Samples]:
    first, second = 0.1 * np.random.default_rng(seed).standard_normal((2, int(seconds * RATE)), np.float32)
    return first, second


def tones() -> tuple[Samples, Samples]:
    """Partials in most bands, with noise 60 dB below them."""
    time = np.arange(int(1.4 * RATE)) / RATE
    partials = sum(np.sin(2 * np.pi * 97 * (1 + 0.5 * number**2) * time + number**2) for number in range(15))
    sound = (0.05 * np.asarray(partials)).astype(np.float32)
    return tuple(sound + 1e-3 * noise for noise in noises())  # type: ignore[return-value]


def decibels(power: float) -> float:
    return float(10 * np.log10(power))


@pytest.mark.parametrize(("level", "coherence"), [(7, 5), (3, 3), (11, 2), (5, 6), (7, 7), (9, 0)])
@pytest.mark.parametrize("sounds", [noises(), tones()], ids=["noise", "tones"])
def test_an_image_comes_back(sounds: tuple[Samples, Samples], level: int, coherence: int) -> None:
    asked = image(level, coherence)
    made = upmixed(*sounds, asked, RATE)
    left, right, product = (float((one * other).sum()) for one, other in (made.T[[0, 0]], made.T[[1, 1]], made.T))
    assert decibels(left / right) == pytest.approx(LEVEL_STEPS[level], abs=0.5)
    assert product / np.sqrt(left * right) == pytest.approx(COHERENCE_STEPS[coherence], abs=0.05)
    found = np.abs(image_of(made, RATE).astype(int) - asked)
    assert found.max() <= 1
    assert found.mean() < 0.2


@pytest.mark.parametrize("coherence", [1, 3, 5])
@pytest.mark.parametrize("sounds", [noises(), tones()], ids=["noise", "tones"])
def test_the_sum_of_both_channels_is_the_sound(sounds: tuple[Samples, Samples], coherence: int) -> None:
    made = upmixed(*sounds, image(coherence=coherence), RATE)
    expected = sounds[0] * np.sqrt((1 + COHERENCE_STEPS[coherence]) / 2)
    spare = slice(2000, -2000)
    error = (made.mean(axis=1) - expected)[spare]
    assert decibels(np.square(error).sum() / np.square(expected[spare]).sum()) < -18


def test_both_channels_are_together_as_loud_as_the_sound() -> None:
    for sounds in (noises(), tones()):
        random = np.random.default_rng(5)
        own = np.stack([random.integers(0, 15, (1, BANDS)), random.integers(0, 8, (1, BANDS))], axis=1).astype(np.uint8)
        made = upmixed(*sounds, own, RATE)
        assert decibels(np.square(made).mean() / np.square(sounds[0]).mean()) == pytest.approx(0, abs=0.3)


def test_width_scales_what_is_between_the_channels() -> None:
    sounds = noises()
    narrow, usual, wide = (upmixed(*sounds, image(5, 3), RATE, width) for width in (0.5, 1.0, 1.5))
    levels, coherences = zip(*(dequantised(image_of(made, RATE)) for made in (narrow, usual, wide)), strict=True)
    assert np.diff([np.median(level) for level in levels]).max() < 0
    assert np.diff([np.median(coherence) for coherence in coherences]).max() < 0
    assert np.array_equal(upmixed(*sounds, image(5, 3), RATE, 0.0), np.stack([sounds[0]] * 2, axis=1))
    assert np.array_equal(upmixed(*sounds, MONO, RATE), np.stack([sounds[0]] * 2, axis=1))


def test_opposite_channels_stay_opposite() -> None:
    sounds = noises()
    made = upmixed(*sounds, image(coherence=7), RATE)
    assert np.allclose(made[:, 0], sounds[0], atol=1e-4)
    assert np.allclose(made[:, 1], -sounds[0], atol=1e-4)


def test_attacks_stay_sharp() -> None:
    onset, (first, second) = RATE // 2, noises()
    decay = np.where(np.arange(len(first)) < onset, 0, np.exp(-(np.arange(len(first)) - onset) / (0.03 * RATE)))
    ringing = np.sin(2 * np.pi * 180 * np.arange(len(first)) / RATE)
    for share in (0.0, 0.5):
        hits = [((1 - share) * ringing + share * noise) * decay for noise in (first, second)]
        made = upmixed(*np.asarray(hits, np.float32), image(3, 5), RATE)
        before = np.square(made[onset - RATE // 50 : onset - RATE // 500]).sum()
        assert decibels(before / np.square(made).sum()) < -40
        attack = slice(onset, onset + RATE // 100)
        levels = [decibels(np.square(sound[attack]).mean()) for sound in (hits[0], made)]
        assert levels[1] == pytest.approx(levels[0], abs=1.0)


def test_rows_follow_each_other_over_time() -> None:
    sounds = noises(4.0)
    course = np.concatenate([image(3), image(3), image(11), image(11)])
    made = upmixed(*sounds, course, RATE)
    powers = np.square(made[: 4 * RATE]).reshape(4, RATE, 2).sum(axis=1)
    levels = 10 * np.log10(powers[:, 0] / powers[:, 1])
    assert levels[0] == pytest.approx(-10, abs=0.5)
    assert levels[3] == pytest.approx(10, abs=0.5)
    assert -10 < levels[1] < levels[2] < 10


def test_chunks_do_not_change_what_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    sounds, own = noises(3.0), image(5, 3, rows=3)
    whole = upmixed(*sounds, own, RATE)
    monkeypatch.setattr(upmix, "CHUNK_FRAMES", 16)
    assert np.allclose(upmixed(*sounds, own, RATE), whole, atol=1e-5)


@pytest.mark.parametrize("samples", [0, 1, 7, 400])
@pytest.mark.parametrize("rate", [8_000, 48_000])
def test_short_sounds(samples: int, rate: int) -> None:
    first, second = (noise[:samples] for noise in noises())
    made = upmixed(first, second, image(3, 5), rate)
    assert made.shape == (samples, 2)
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    assert np.isfinite(upmixed(0 * first, 0 * second, image(3, 5), rate)).all()
