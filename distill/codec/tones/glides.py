"""Pitch between frames: glides, onsets of tones, and held low tones."""

import torch
from torch import Tensor, nn

from distill.codec.scales import hertz as hertz_of

BASS = 150.0  # Hz; tones below are low


# A held tone stays within this range for these frames to each side
HELD_FRAMES, HELD_SEMITONES = 2, 1.0
GLIDE = 1.0  # semitones between frames: up to this, the pitch glides and phases continue
LOW = 60.0  # semitones (MIDI): tones below may begin like drums, with a falling pitch
FALL, FALL_FRAMES = 14.0, 5  # largest semitones per frame of that fall, and the frames it may last


def held_lows(pitch: Tensor) -> Tensor:
    """Rate pitches `[B, F]` as held low tones, 0 to 1: low, and steady for `HELD_FRAMES` to each side."""
    near = nn.functional.pad(pitch, (HELD_FRAMES, HELD_FRAMES), value=torch.nan).unfold(
        1, 2 * HELD_FRAMES + 1, 1
    )
    is_held = near.amax(dim=2) - near.amin(dim=2) < HELD_SEMITONES  # False if any is NaN
    return ((2 - hertz_of(pitch) / (BASS / 2)).clamp(0, 1).nan_to_num(0.0) * is_held).float()


def recent(frames: Tensor) -> Tensor:
    """Mask `[B, F - 1]`, from the second frame on: whether `frames` `[B, F]` is true in the `FALL_FRAMES` before."""
    return nn.functional.pad(frames, (FALL_FRAMES, 0)).unfold(1, FALL_FRAMES, 1).any(dim=2)[:, 1:-1]


def by_hop(pitch: Tensor, glides: Tensor, stack: int) -> Tensor:
    """Interpolate pitches `[B, F]` to hops `[B, T]`; `glides` `[B, F - 1]` marks glides to the next frame.

    In a glide the pitch is linear between the middles of frames; before the first middle the line is extended.
    """
    step = torch.where(glides, pitch.diff(dim=1), 0.0)
    before, after = nn.functional.pad(step, (1, 0)), nn.functional.pad(step, (0, 1))
    before = torch.where(nn.functional.pad(glides, (1, 0)), before, after)
    offset = ((torch.arange(stack, device=pitch.device) + 0.5) / stack - 0.5).to(pitch)
    return (
        pitch[..., None] + torch.where(offset < 0, before[..., None], after[..., None]) * offset
    ).flatten(1)


def glides_of(pitch: Tensor) -> tuple[Tensor, Tensor]:
    """Masks of glides to the next frame `[B, F - 1]`, and of tone onsets `[B, F]`, for pitches `[B, F]`.

    A tone starts after a frame without a tone, or after an upward jump that is not part of a recent onset.
    Low tones may glide faster just after their onset.
    """
    step, is_tone = pitch.diff(dim=1), ~pitch.isnan()
    first = is_tone & nn.functional.pad(~is_tone[:, :-1], (1, 0), value=True)
    starts = first | nn.functional.pad((step > GLIDE) & ~recent(first), (1, 0))
    is_low = torch.minimum(pitch[:, 1:], pitch[:, :-1]) < LOW
    glides = (step.abs() <= GLIDE) | (is_low & (step.abs() <= FALL) & recent(starts))
    return glides, starts & ~nn.functional.pad(glides, (1, 0))
