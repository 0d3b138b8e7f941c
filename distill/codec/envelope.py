"""Envelope of a sound: features for the codec, and gains on the decoder's output.

Shapes: B batch, N samples, K steps of the envelope, T hops.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.codec.steady import steady

LOG_FLOOR = 1e-5  # amplitude that counts as silent: -100 dB
FRAME_SHARE = 0.3  # proportion of a frame's amplitude added to each step
MATCHES = 3  # rounds that bring the decoder's envelope nearer to the coded envelope
# 1.3 dB: smaller differences are ignored, since the coded envelope of steady sound wavers.
DEAD_ZONE = 0.15
LOW_STEPS = 32  # average of gains on low tones: steps to each side, as long as a gap between sounds
# Learnt gains per hop, every 0.33 ms; group size of a first average.
GAIN_STEPS, GAINS_TOGETHER = 32, 4
MAX_LOG_GAIN, MAX_LOG_BOOST = 4.0, 0.7  # 35 dB down, 6 dB up; larger boosts cause peaks in attacks
LOG_TEN = math.log(10.0)


def log_envelope(audio: Tensor, step: int, steps_per_frame: int) -> Tensor:
    """Log10 amplitudes `[B, K]` of samples `[B, (K + 1) * step]`.

    An amplitude is the root mean square of a window of two steps, plus `FRAME_SHARE` of the code frame's. Without this
    term, most bits would code the level of soft steps that loud steps mask.
    """
    powers = mean_squares(audio, 2 * step) + LOG_FLOOR**2
    frames = powers.unflatten(1, (-1, steps_per_frame))
    amplitudes: Tensor = frames.sqrt() + FRAME_SHARE * frames.mean(dim=-1, keepdim=True).sqrt()
    return amplitudes.log10().flatten(1)


def mean_squares(audio: Tensor, window: int) -> Tensor:
    """Mean squares `[B, T]` of half-overlapping windows of samples `[B, N]`."""
    return nn.functional.avg_pool1d(audio.square()[:, None], window, window // 2)[:, 0]


class Held(NamedTuple):
    """Amount of smoothing of gains, 0 to 1: `tonal` `[B, K]` for tones, `low` `[B, K]` for held low tones among them.

    `inside` `[K]` is 0 in gaps.
    """

    tonal: Tensor
    low: Tensor
    inside: Tensor | None

    def repeated(self, times: int) -> "Held":
        """Repeat each step `times` times."""
        inside = None if self.inside is None else self.inside.repeat_interleave(times)
        return Held(
            self.tonal.repeat_interleave(times, dim=1),
            self.low.repeat_interleave(times, dim=1),
            inside,
        )

    def average(self, gains: Tensor) -> Tensor:
        """Average log gains `[B, K]` over time, except at attacks; low tones are averaged over a few periods."""
        averages = steady(gains[..., None], 16, 0.4, self.inside)[..., 0]
        return torch.lerp(averages, slow(gains, LOW_STEPS), self.low)


def match_envelope(audio: Tensor, target: Tensor, trust: Tensor, stack: int, held: Held) -> Tensor:
    """Bring the envelope of samples `[B, N]` nearer to `target` `[B, T, steps]`, a result of `log_envelope`.

    `trust` `[B, T, steps]`, 0 to 1, scales the correction. In `held` hops, small differences are averaged over code
    frames of `stack` hops, and gains change slowly: gains that follow beats, or the periods of a bass, put noise
    between partials.
    """
    hops, steps = target.shape[1:]
    step = audio.shape[1] // (hops * steps)
    if held.inside is not None:
        audio = audio * held.inside.repeat_interleave(steps * step)
        trust = trust * held.inside[:, None]
    held = held.repeated(steps)
    zone = DEAD_ZONE + 0.3 * held.tonal
    for _ in range(MATCHES):
        own = log_envelope(nn.functional.pad(audio, (step // 2, step // 2)), step, stack * steps)
        difference = (target.flatten(1) - own) * LOG_TEN
        small = difference.clamp(-zone, zone)
        difference = difference - small + slow(small * held.tonal, stack * steps)
        gains = trust.flatten(1) * difference.clamp(-1.5, 1.5)  # 13 dB per round
        audio = audio * spline(torch.lerp(gains, held.average(gains), held.tonal), step).exp()
    return audio


def mask_gaps(x: Tensor, inside: Tensor | None) -> Tensor:
    """Multiply `[..., F, D]` by the mask `inside` `[F]`, 0 in gaps between sounds; None leaves it unchanged."""
    return x if inside is None else x * inside[:, None]


def slow(values: Tensor, reach: int) -> Tensor:
    """Average `values` `[B, K]` over `reach` steps to each side with a Hann window; values beyond the ends are 0."""
    window = torch.hann_window(2 * reach + 1, periodic=False).to(values)
    return nn.functional.conv1d(
        values[:, None], (window / window.sum())[None, None], padding=reach
    )[:, 0]


def with_gains(audio: Tensor, gains: Tensor, held: Held) -> Tensor:
    """Multiply samples `[B, N]` by a spline of log `gains` `[B, T, GAIN_STEPS]`, smoothed as in `match_envelope`."""
    gains = mask_gaps(gains.clamp(-MAX_LOG_GAIN, MAX_LOG_BOOST), held.inside)
    few = gains.unflatten(2, (-1, GAINS_TOGETHER)).mean(dim=3)  # [B, T, few]
    averages = held.repeated(few.shape[2]).average(few.flatten(1)).unflatten(1, few.shape[1:])
    gains = torch.lerp(
        gains, averages.repeat_interleave(GAINS_TOGETHER, dim=2), held.tonal[..., None]
    )
    return audio * spline(gains.flatten(1), audio.shape[1] // gains[0].numel()).exp()


def spline(values: Tensor, step: int) -> Tensor:
    """Cubic B-spline `[B, K * step]` of `values` `[B, K]`; a gain curve with corners would add treble."""
    places = (torch.arange(step, device=values.device) + 0.5) / step - 0.5
    distances = (places - torch.arange(-2, 3, device=values.device)[:, None]).abs()
    near = 2 / 3 - distances.square() + distances**3 / 2
    weights = torch.where(distances < 1, near, (2 - distances).clamp_min(0) ** 3 / 6)
    return (nn.functional.pad(values, (2, 2)).unfold(1, 5, 1) @ weights).flatten(1)
