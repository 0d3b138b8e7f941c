"""The envelope: what its values are, and that a decoder's sound gets it."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from distill.codec.envelope import (
    DEAD_ZONE,
    FRAME_SHARE,
    GAIN_STEPS,
    LOG_TEN,
    Held,
    log_envelope,
    match_envelope,
    spline,
    with_gains,
)

STEP, STEPS, STACK = 32, 8, 2  # 16 steps are a code frame of 512 samples
HALF = STEP // 2


def noise(seed: int, frames: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, frames * STACK * STEPS * STEP, generator=generator) * 0.1


def padded(audio: Tensor) -> Tensor:
    return torch.nn.functional.pad(audio, (HALF, HALF))


def envelope(audio: Tensor) -> Tensor:
    """`[1, T, STEPS]` of samples `[1, N]`."""
    return log_envelope(padded(audio), STEP, STACK * STEPS).unflatten(1, (-1, STEPS))


def held(hops: int, tonal: float = 0.0, low: float = 0.0, inside: Tensor | None = None) -> Held:
    return Held(torch.full((1, hops), tonal), torch.full((1, hops), low), inside)


def test_values_are_amplitudes_with_a_share_of_the_frames() -> None:
    found = 10 ** envelope(torch.full((1, 4 * 512), 0.5)).flatten()
    torch.testing.assert_close(found[1:-1], torch.full((62,), 0.5 * (1 + FRAME_SHARE)), rtol=2e-2, atol=0)
    silent = 10 ** envelope(torch.zeros(1, 512)).flatten()
    torch.testing.assert_close(silent, torch.full((16,), 1e-5 * (1 + FRAME_SHARE)))
    torch.testing.assert_close(envelope(noise(0) * 10), envelope(noise(0)) + 1, rtol=0, atol=1e-5)


def test_the_spline_is_the_cubic_b_spline_with_coefficients_in_the_middle_of_steps() -> None:
    values = torch.randn(1, 12, generator=torch.Generator().manual_seed(1))
    knots = (np.arange(12 + 4) - 1.5) * STEP
    expected = BSpline(knots, values[0].numpy(), 3, extrapolate=False)(np.arange(12 * STEP) + 0.5)
    is_defined = ~np.isnan(expected)
    assert is_defined.sum() == 9 * STEP
    # Beyond the first and the last three knots, SciPy's spline is not defined, where ours falls to 0.
    inner = slice(int(np.argmax(is_defined)), len(expected) - int(np.argmax(is_defined[::-1])))
    np.testing.assert_allclose(spline(values, STEP)[0].numpy()[inner], expected[inner], atol=1e-5)


@pytest.mark.parametrize("trust", [0.0, 0.5, 1.0])
def test_a_sound_comes_as_near_to_the_envelope_as_it_is_trusted_but_for_the_dead_zone(trust: float) -> None:
    decay = torch.logspace(0, -1.5, 6 * 512)[None]
    target = envelope(noise(1) * decay)
    sound = noise(2)
    matched = match_envelope(sound, target, torch.full_like(target, trust), STACK, held(target.shape[1]))
    errors = ((envelope(x) - target).abs() * LOG_TEN for x in (sound, matched))
    before, after = ((error - DEAD_ZONE).clamp_min(0).mean() for error in errors)
    assert float(after / before) == pytest.approx([1.0, 0.2, 0.02][round(2 * trust)], abs=0.03)


@pytest.mark.parametrize(("decibels", "moved"), [(0.0, 0.0), (1.2, 0.0), (-1.2, 0.0), (3.3, 2.0), (-3.3, -2.0)])
def test_what_is_within_the_dead_zone_of_the_envelope_stays(decibels: float, moved: float) -> None:
    sound = noise(3)
    matched = match_envelope(sound, envelope(sound) + decibels / 20, torch.ones(1, 12, STEPS), STACK, held(12))
    gains = 20 * (matched / sound)[:, 512:-512].log10()
    assert (gains == 0).all() if moved == 0 else float((gains - moved).abs().max()) < 0.05


@pytest.mark.parametrize(("cycles", "plain", "tonal"), [(1.0, 0.45, 0.05), (1 / 12, 0.6, 1.0)])
def test_what_is_tonal_keeps_its_beats_and_follows_slow_changes(cycles: float, plain: float, tonal: float) -> None:
    frame = STACK * STEPS * STEP
    wanted = 0.2 * (2 * torch.pi * cycles * torch.arange(12 * frame) / frame).sin()  # log10
    sound = torch.where(torch.arange(12 * frame) % 2 == 0, 0.1, -0.1)[None]
    target = envelope(sound * 10**wanted)
    found = []
    for share in (0.0, 1.0):
        matched = match_envelope(sound, target, torch.ones_like(target), STACK, held(target.shape[1], share))
        gains = (matched / sound)[0].log10()
        found.append(float(gains @ wanted / (wanted @ wanted)))
    assert found == pytest.approx([plain, tonal], abs=0.1)


def test_gains_are_exponentials_of_a_clamped_spline() -> None:
    hop = STEP * STEPS
    gains = torch.tensor([0.5, -1.0, 9.0, -9.0])[:, None].repeat(1, GAIN_STEPS)[None]
    found = with_gains(torch.ones(1, 4 * hop), gains, held(4))[0].log()
    torch.testing.assert_close(found[hop // 2 :: hop], torch.tensor([0.5, -1.0, 0.7, -4.0]))
    masked = with_gains(torch.ones(1, 4 * hop), gains, held(4, inside=torch.tensor([1.0, 0.0, 1.0, 1.0])))[0].log()
    torch.testing.assert_close(masked[hop // 2 :: hop], torch.tensor([0.5, 0.0, 0.7, -4.0]))


def test_gains_on_tones_change_slowly_but_at_attacks() -> None:
    hop = STEP * STEPS
    wavering = 0.2 * torch.randn(1, 12, GAIN_STEPS, generator=torch.Generator().manual_seed(4))
    attack = torch.where(torch.arange(12) < 6, -3.0, 0.0)[None, :, None]
    found = {}
    for name, gains in (("wavering", wavering), ("attack", attack + wavering)):
        for tonal in (0.0, 1.0):
            made = with_gains(torch.ones(1, 12 * hop), gains, held(12, tonal))[0].log()
            found[name, tonal] = made[hop:-hop]
    assert float(found["wavering", 1.0].std()) < 0.35 * float(found["wavering", 0.0].std())
    before, after = found["attack", 1.0][: 4 * hop], found["attack", 1.0][6 * hop :]
    assert float(before.mean()) == pytest.approx(-3, abs=0.1)
    assert float(after.mean()) == pytest.approx(0, abs=0.1)


def test_gains_on_low_tones_do_not_follow_their_periods() -> None:
    hop, period = STEP * STEPS, 17  # steps of the envelope: 24 ms
    place = torch.arange(12 * GAIN_STEPS) / (GAIN_STEPS / STEPS)
    buzzing = (0.7 * (2 * torch.pi * place / period).sin()).reshape(1, 12, GAIN_STEPS)
    ranges = []
    for low in (0.0, 1.0):
        made = with_gains(torch.ones(1, 12 * hop), buzzing, held(12, 1.0, low))[0].log()[4 * hop : -4 * hop]
        ranges.append(float(made.max() - made.min()))
    assert ranges[1] < 0.1 * ranges[0]
