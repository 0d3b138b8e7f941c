"""Mixing to mono: as loud as the channels that count, without a constant offset."""

import numpy as np
import pytest
from numpy.typing import NDArray

from distill.audio.mixdown import ChannelStatistics, Mix

RATE, BLOCK = 24000, 4096
F32 = NDArray[np.float32]

T = np.arange(RATE) / RATE
LOW, HIGH = (0.5 * np.sin(2 * np.pi * hz * T) for hz in (110, 700))
HISS = np.random.default_rng(0).standard_normal(RATE)
KICK = np.sin(2 * np.pi * (50 + 200 * np.exp(-40 * T)) * T) * np.exp(-20 * T)
SILENCE = np.zeros(RATE)


def mix_of(*channels: NDArray[np.float64]) -> tuple[Mix, bool]:
    sound = np.stack(channels, axis=1).astype(np.float32)
    statistics = ChannelStatistics(len(channels))
    for start in range(0, len(sound), BLOCK):
        statistics.add(sound[start : start + BLOCK])
    return statistics.mix()


@pytest.mark.parametrize(
    ("channels", "used"),
    [
        ([LOW], (0,)),
        ([LOW, HIGH], (0, 1)),
        ([LOW, SILENCE], (0,)),
        ([SILENCE, SILENCE, LOW, SILENCE], (2,)),
        ([LOW, 0.0003 * HISS], (0,)),  # an input that nothing was plugged into
        ([LOW, 0.005 * HISS + 0.2], (0, 1)),
        ([LOW, 0.0003 * HISS + 0.2], (0,)),  # the same with an offset
        ([LOW, np.r_[SILENCE[:23000], HIGH[:1000]]], (0, 1)),  # one short hit
        ([0.001 * LOW, 0.001 * HIGH], (0, 1)),
        ([SILENCE, SILENCE], (0, 1)),
    ],
)
def test_channels_count_unless_they_are_silent(channels: list[NDArray[np.float64]], used: tuple[int, ...]) -> None:
    mix, is_cancelled = mix_of(*channels)
    assert (mix.channels, is_cancelled) == (used, False)
    block = np.stack(channels, axis=1).astype(np.float32)[:100]
    expected = block[:, list(used)].mean(axis=1) - mix.offset
    np.testing.assert_allclose(mix.of(block), expected, atol=1e-7)


def test_channels_that_cancel_out_leave_the_loudest() -> None:
    assert mix_of(LOW, -LOW) == (Mix((0,)), True)
    assert mix_of(LOW, -1.2 * LOW) == (Mix((1,)), True)
    assert mix_of(LOW, -LOW, SILENCE, 0.9 * LOW) == (Mix((0, 1, 3)), False)
    mix, is_cancelled = mix_of(LOW + 0.3, -LOW)  # whose offsets do not cancel
    assert (mix.channels, is_cancelled) == ((0,), True)
    assert mix.offset == pytest.approx(0.3, abs=1e-3)
    assert mix_of(LOW, -0.3 * LOW) == (Mix((0, 1)), False)


@pytest.mark.parametrize("level", [0.5, 0.02, -0.004])
def test_a_constant_offset_is_found(level: float) -> None:
    for sound in (LOW, 0.001 * HISS, np.exp(-5 * T) * HIGH, KICK):
        mix, _ = mix_of(sound + level)
        assert mix.offset == pytest.approx(level, rel=0.05, abs=0.001)


def test_digital_silence_beside_an_offset_stays_silent() -> None:
    mix, _ = mix_of(np.r_[SILENCE, LOW + 0.02, SILENCE])
    assert mix.offset == pytest.approx(0.02, rel=0.1)
    assert not mix.of(np.zeros((BLOCK, 1), dtype=np.float32)).any()


@pytest.mark.parametrize(
    "sound",
    [
        LOW, HISS, KICK, KICK[:480], np.abs(KICK[:400]), LOW + 0.0005,
        0.5 * np.sin(2 * np.pi * 27.5 * T[:8000]),
        np.where(T * 110 % 1 < 0.1, 0.9, -0.1),  # a pulse wave is one-sided, and has no offset
        np.exp(-40 * T),  # a thump
    ],
)  # fmt: skip
def test_what_swings_to_one_side_is_no_offset(sound: NDArray[np.float64]) -> None:
    mix, _ = mix_of(sound)
    assert mix.offset == 0
    block = sound[:, None].astype(np.float32)
    np.testing.assert_array_equal(mix.of(block), block[:, 0])
