"""The envelope of a sound: as features of the codec, and as gains on what the decoder makes.

Shapes: B batch, N samples, K steps of the envelope, T hops.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.codec.steady import steady

LOG_FLOOR = 1e-5  # amplitude that counts as silent: -100 dB
FRAME_SHARE = 0.3  # of a frame's amplitude that is added to each of its steps
MATCHES = 3  # times that the decoder's envelope is brought nearer to the coded one
DEAD_ZONE = 0.15  # 1.3 dB: what is nearer stays, since the coded envelope of steady sound wavers
STEADY_GAINS = (
    16,
    0.4,
)  # steps to each side over which gains on tones are averaged, and how much these may differ
LOW_STEPS = 32  # to each side over which gains on low tones are averaged: as far as a gap between sounds reaches
GAIN_STEPS, GAINS_TOGETHER = (
    32,
    4,
)  # learnt gains a hop, one every 0.33 ms; number of gains that are averaged first
MAX_LOG_GAIN, MAX_LOG_BOOST = (
    4.0,
    0.7,
)  # 35 dB less, 6 dB more: more than this makes peaks of attacks
LOG_TEN = math.log(10.0)


def log_envelope(audio: Tensor, step: int, steps_per_frame: int) -> Tensor:
    """Logarithms (base 10) of amplitudes `[B, K]` of samples `[B, (K + 1) * step]`.

    An amplitude is the root mean square of a window of two steps, plus a share of the whole code frame's: else most
    bits would code how soft the softest steps are, which loud steps mask.
    """
    powers = mean_squares(audio, 2 * step) + LOG_FLOOR**2
    frames = powers.unflatten(1, (-1, steps_per_frame))
    amplitudes: Tensor = frames.sqrt() + FRAME_SHARE * frames.mean(dim=-1, keepdim=True).sqrt()
    return amplitudes.log10().flatten(1)


def mean_squares(audio: Tensor, window: int) -> Tensor:
    """Mean squares `[B, T]` of windows of samples `[B, N]` that overlap by half."""
    return nn.functional.avg_pool1d(audio.square()[:, None], window, window // 2)[:, 0]


class Held(NamedTuple):
    """How far gains leave steps alone, 0 to 1: those that are `tonal` `[B, K]`, and of these low tones that last, `low`.

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
        """Logarithms of gains `[B, K]`, averaged over time but for attacks, and on low tones over a few of their periods."""
        averages = steady(gains[..., None], *STEADY_GAINS, self.inside)[..., 0]
        return torch.lerp(averages, slow(gains, LOW_STEPS), self.low)


def match_envelope(audio: Tensor, target: Tensor, trust: Tensor, stack: int, held: Held) -> Tensor:
    """Samples `[B, N]` with an envelope nearer to `target` `[B, T, steps]`, which `log_envelope` gave.

    `trust` `[B, T, steps]`, 0 to 1, is how much nearer. Where hops are `held` what differs little is followed no faster
    than code frames, of `stack` hops, and gains change slowly: those that follow beats, or the periods of a bass, put
    noise between partials.
    """
    hops, steps = target.shape[1:]
    step = audio.shape[1] // (hops * steps)
    if held.inside is not None:
        audio, trust = (
            audio * held.inside.repeat_interleave(steps * step),
            trust * held.inside[:, None],
        )
    held = held.repeated(steps)
    zone = DEAD_ZONE + 0.3 * held.tonal
    for _ in range(MATCHES):
        own = log_envelope(nn.functional.pad(audio, (step // 2, step // 2)), step, stack * steps)
        difference = (target.flatten(1) - own) * LOG_TEN
        small = difference.clamp(-zone, zone)
        difference = difference - small + slow(small * held.tonal, stack * steps)
        gains = trust.flatten(1) * difference.clamp(-1.5, 1.5)  # 13 dB each time
        audio = audio * spline(torch.lerp(gains, held.average(gains), held.tonal), step).exp()
    return audio


def mask_gaps(x: Tensor, inside: Tensor | None) -> Tensor:
    """`[..., F, D]` times the mask `inside` `[F]`, which is 0 in gaps between sounds; unchanged where it is None."""
    return x if inside is None else x * inside[:, None]


def slow(values: Tensor, reach: int) -> Tensor:
    """Means `[B, K]` of `values` `[B, K]` over `reach` values to each side, weighted by a Hann window; 0 beyond the ends."""
    window = torch.hann_window(2 * reach + 1, periodic=False).to(values)
    return nn.functional.conv1d(
        values[:, None], (window / window.sum())[None, None], padding=reach
    )[:, 0]


def with_gains(audio: Tensor, gains: Tensor, held: Held) -> Tensor:
    """Samples `[B, N]` times gains, whose logarithms are a spline of `gains` `[B, T, GAIN_STEPS]`; see `match_envelope`."""
    gains = mask_gaps(gains.clamp(-MAX_LOG_GAIN, MAX_LOG_BOOST), held.inside)
    few = gains.unflatten(2, (-1, GAINS_TOGETHER)).mean(dim=3)  # [B, T, few]
    averages = held.repeated(few.shape[2]).average(few.flatten(1)).unflatten(1, few.shape[1:])
    gains = torch.lerp(
        gains, averages.repeat_interleave(GAINS_TOGETHER, dim=2), held.tonal[..., None]
    )
    return audio * spline(gains.flatten(1), audio.shape[1] // gains[0].numel()).exp()


def spline(values: Tensor, step: int) -> Tensor:
    """Cubic B-spline `[B, K * step]` of `values` `[B, K]`: as a gain, a curve with corners would add treble."""
    places = (torch.arange(step, device=values.device) + 0.5) / step - 0.5
    distances = (places - torch.arange(-2, 3, device=values.device)[:, None]).abs()
    near = 2 / 3 - distances.square() + distances**3 / 2
    weights = torch.where(distances < 1, near, (2 - distances).clamp_min(0) ** 3 / 6)
    return (nn.functional.pad(values, (2, 2)).unfold(1, 5, 1) @ weights).flatten(1)
