"""Pitch and phase from frame to frame: which pitches glide, and the phases that partials reach.

Shapes: B batch, F code frames, T hops, K partials of a set.
"""

import math

import torch
from torch import Tensor, nn

from distill.codec.layout import TUNINGS
from distill.codec.scales import hertz as hertz_of
from distill.codec.spectral import SpectrogramConfig

GLIDE = 1.0  # semitones between frames: up to this, the pitch glides and phases continue
LOW = 60.0  # semitones (MIDI): tones below may begin like drums, with a falling pitch
FALL, FALL_FRAMES = 14.0, 5  # largest semitones per frame of that fall, and the frames it may last
# Cycles: partial k starts at SINE + START * (k * k - 1). The first partial starts as a sine, at zero, like a struck
# string; the others start for a low crest factor.
SINE, START = -0.25, (math.sqrt(5) - 1) / 2


def glides(pitch: Tensor) -> tuple[Tensor, Tensor]:
    """Masks of glides to the next frame `[B, F - 1]`, and of tone onsets `[B, F]`, for pitches `[B, F]`.

    A tone starts after a frame without a tone, or after an upward jump that is not part of a recent onset.
    Low tones may glide faster just after their onset.
    """
    step, is_tone = pitch.diff(dim=1), ~pitch.isnan()
    first = is_tone & nn.functional.pad(~is_tone[:, :-1], (1, 0), value=True)
    starts = first | nn.functional.pad((step > GLIDE) & ~_recent(first), (1, 0))
    is_low = torch.minimum(pitch[:, 1:], pitch[:, :-1]) < LOW
    gliding = (step.abs() <= GLIDE) | (is_low & (step.abs() <= FALL) & _recent(starts))
    return gliding, starts & ~nn.functional.pad(gliding, (1, 0))


def _recent(frames: Tensor) -> Tensor:
    """Mask `[B, F - 1]`, from the second frame on: whether `frames` `[B, F]` is true in the `FALL_FRAMES` before."""
    return nn.functional.pad(frames, (FALL_FRAMES, 0)).unfold(1, FALL_FRAMES, 1).any(dim=2)[:, 1:-1]


def by_hop(pitch: Tensor, gliding: Tensor, stack: int) -> Tensor:
    """Interpolate pitches `[B, F]` to hops `[B, T]`; `gliding` `[B, F - 1]` marks glides to the next frame.

    In a glide the pitch is linear between the middles of frames; before the first middle the line is extended.
    """
    step = torch.where(gliding, pitch.diff(dim=1), 0.0)
    before, after = nn.functional.pad(step, (1, 0)), nn.functional.pad(step, (0, 1))
    before = torch.where(nn.functional.pad(gliding, (1, 0)), before, after)
    offset = ((torch.arange(stack, device=pitch.device) + 0.5) / stack - 0.5).to(pitch)
    slope = torch.where(offset < 0, before[..., None], after[..., None])
    return (pitch[..., None] + slope * offset).flatten(1)


def held_lows(
    pitch: Tensor, frames: int = 2, semitones: float = 1.0, bass: float = 150.0
) -> Tensor:
    """Rate pitches `[B, F]` as held low tones, 0 to 1.

    A held low tone is below `bass` Hz, and stays within `semitones` for `frames` to each side.
    """
    near = nn.functional.pad(pitch, (frames, frames), value=torch.nan).unfold(1, 2 * frames + 1, 1)
    is_held = near.amax(dim=2) - near.amin(dim=2) < semitones  # False if any is NaN
    return ((2 - hertz_of(pitch) / (bass / 2)).clamp(0, 1).nan_to_num(0.0) * is_held).float()


def run_phases(
    pitch: Tensor, tuning: Tensor, sets: Tensor, ratios: Tensor, config: SpectrogramConfig
) -> Tensor:
    """Phases `[B, T, K]` in cycles, in the middles of hops, of partials with `ratios` `[S, K]` to the pitch.

    Frames have a `pitch` `[B, F]` in semitones (NaN: no tone), a fine-pitch code `tuning` and a partial set, `sets`.
    A run is a sequence of frames with one partial set and a gliding pitch. Its phases are cumulative sums of the
    frequency. The fine-pitch code of its first frame also sets the phase in the middle of that frame, as a
    proportion of a cycle of the pitch.
    """
    stack, hop_seconds = config.stack, config.hop_length / config.sample_rate
    gliding, _ = glides(pitch)
    begins = nn.functional.pad(~(gliding & (sets[:, 1:] == sets[:, :-1])), (1, 0), value=True)
    hertz = hertz_of(by_hop(pitch, gliding, stack)).unflatten(1, (-1, stack))
    hertz = torch.where(pitch.isnan()[..., None], 0.0, hertz)
    cycles = hertz.flatten(1) * hop_seconds  # [B, T] in each hop
    total = cycles.cumsum(dim=1) - cycles / 2  # up to the middle of each hop
    runs = begins.flatten().cumsum(0).reshape(begins.shape) - 1
    firsts = begins.flatten().nonzero()[:, 0]
    elapsed = total - total[:, ::stack].flatten()[firsts][runs].repeat_interleave(stack, dim=1)
    ratios = ratios.double()[sets.flatten()]  # [B * F, K]
    hertz, last = hertz.flatten(0, 1), elapsed[:, stack - 1 :: stack].flatten()
    # Cycles of the pitch from the middle of the first hop to the middle of the first frame.
    shares = (stack / 2 - torch.arange(stack)).clamp(0, 1).double()
    first_cycles = cycles.unflatten(1, (-1, stack)).flatten(0, 1)[firsts]  # [runs, stack]
    middle = first_cycles @ shares - first_cycles[:, 0] / 2
    start = (tuning.flatten()[firsts] / TUNINGS - middle)[:, None] * ratios[firsts]
    start = start + SINE + START * (torch.arange(1, ratios.shape[1] + 1).double().square() - 1)
    for run, frame in enumerate(firsts.tolist()):
        if frame % pitch.shape[1] and hertz[frame - 1, -1] > 0 and hertz[frame, 0] > 0:
            ended = start[run - 1] + ratios[frame - 1] * last[frame - 1]
            before = ratios[frame - 1] * hertz[frame - 1, -1]
            after = ratios[frame] * hertz[frame, 0]
            start[run] = _continued(start[run], ended, before, after, hop_seconds)
    start, ratios = start[runs], ratios.unflatten(0, pitch.shape)  # [B, F, K]
    hops = [
        ((start + ratios * own[..., None]) % 1).float()
        for own in elapsed.unflatten(1, (-1, stack)).unbind(2)
    ]
    return torch.stack(hops, dim=2).flatten(1, 2)


def _continued(
    start: Tensor, ended: Tensor, before: Tensor, after: Tensor, hop_seconds: float
) -> Tensor:
    """Phases of a run's first hop: continue the nearest partial of the run before, or use `start`.

    `before` and `after` are frequencies in Hz on either side (0: no partial), `ended` the phases at the end of the
    run before; all are `[K]`. A partial continues if its frequency changes by less than 3 %.
    """
    there = torch.where(before > 0, before, torch.inf)
    distance, nearest = (after[:, None] - there).abs().min(dim=1)
    goes_on = (distance < 0.03 * after) & (after > 0)
    reached = (ended[nearest] + (before[nearest] + after) * hop_seconds / 2) % 1
    return torch.where(goes_on, reached, start)
