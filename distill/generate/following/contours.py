"""Contours of a recording that generated sounds follow: loudness, pitch, envelope, and starts of notes.

Shapes: F frames of a recording, E values of a frame's envelope.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codec.layout import LOUDNESS_RANGE, LOUDNESS_SIZE, LOUDNESS_STEP
from distill.codec.model import VQVAE
from distill.codec.streaming import CHUNK_FRAMES
from distill.codec.tones.meter import PitchMeter

SOFTEST_DB = 50.0  # below the loudest frame; softer frames have no pitch and start no note
SHORTEST_TONE = 3  # consecutive frames with a pitch: shorter runs are chance
RISE_DB, RISE_FRAMES = 9.0, 3  # rise above the softest of the last frames that starts a note
STEP = 0.8  # semitones between the median pitches before and after a frame that start a note
UNEVEN_DB = 7.0  # deviation of the envelope from the loudness that marks an attack or an end within the frame
SMOOTHED = 3  # envelope steps in a moving average


@dataclass(frozen=True, eq=False)
class Followed:
    """Contours of a recording that generated sounds follow.

    `loudness` `[F]`, from the spectrum, and `levels` `[F]`, from the envelope, are log10 of amplitudes. `envelopes`
    `[F, E]` are relative to the loudness, see `beside_loudness`. `pitches` `[F]` are in semitones (MIDI), NaN for none.
    """

    loudness: Tensor
    levels: Tensor
    pitches: Tensor
    envelopes: Tensor

    @cached_property
    def is_audible(self) -> Tensor:
        """Whether frames `[F]` are less than SOFTEST_DB below the loudest frame."""
        return 20 * (self.loudness - self.loudness.max()) > -SOFTEST_DB

    @cached_property
    def starts(self) -> list[int]:
        """First frame of each note; the first note begins at 0."""
        shortest_note = 4  # frames
        decibels, pitches, starts = (20 * self.levels).numpy(), self.pitches.numpy(), [0]
        for frame, is_audible in enumerate(self.is_audible.tolist()):
            if frame - starts[-1] < shortest_note:
                continue
            before = decibels[max(0, frame - RISE_FRAMES) : frame]
            rises = is_audible and decibels[frame] > max(before.min() + RISE_DB, before[-1])
            if rises or _steps_at(pitches, frame):
                starts.append(frame)
        return starts

    @cached_property
    def ends(self) -> list[int]:
        """End frame of each note, exclusive."""
        return [*self.starts[1:], len(self.loudness)]

    def frames(self, note: int) -> int:
        """Number of frames of a note."""
        return self.ends[note] - self.starts[note]

    def by_note(self, values: Tensor, notes: Sequence[int]) -> Tensor:
        """Cut `values` `[F, ...]` into notes `[notes, most frames, ...]`, padded with NaN."""
        pieces = [values[self.starts[note] : self.ends[note]] for note in notes]
        return nn.utils.rnn.pad_sequence(pieces, batch_first=True, padding_value=math.nan)

    @cached_property
    def codes_of_loudness(self) -> Tensor:
        """Loudness codes `[F]`."""
        return (
            ((self.loudness - LOUDNESS_RANGE[0]) / LOUDNESS_STEP)
            .round()
            .clamp(0, LOUDNESS_SIZE - 1)
        )


def followed(codec: VQVAE, meter: PitchMeter, samples: NDArray[np.float32]) -> Followed:
    """Analyse the contours of samples `[N]`, in chunks, so that memory grows only with the result."""
    from scipy.ndimage import binary_opening  # slow to import

    pieces = list(zip(*_analysed(codec, meter, torch.from_numpy(samples)), strict=True))
    loudness, pitches, envelopes = map(torch.cat, pieces)
    course = Followed(
        loudness, envelopes.mean(dim=1), pitches, beside_loudness(envelopes, loudness)
    )
    is_tone = torch.from_numpy(binary_opening(pitches.isfinite().numpy(), np.ones(SHORTEST_TONE)))
    return replace(
        course,
        pitches=torch.where(course.is_audible & is_tone, pitches, math.nan),
        envelopes=torch.where(course.is_audible[:, None], course.envelopes, math.nan),
    )


@torch.no_grad()
def _analysed(
    codec: VQVAE, meter: PitchMeter, samples: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Loudness `[F]`, pitches `[F]` and envelopes `[F, E]` of each chunk of samples `[N]`."""
    config, margin, step = codec.spectrogram, codec.margin, codec.spectrogram.samples_per_frame
    frames = config.frames_for(len(samples))
    for start in range(0, frames, CHUNK_FRAMES):
        stop = min(frames, start + CHUNK_FRAMES)
        first, last = max(0, start - codec.context), min(frames, stop + codec.context)
        begin, end = first * step - margin, last * step + margin
        piece = samples[max(0, begin) : end]
        piece = nn.functional.pad(piece, (max(0, -begin), end - max(0, begin) - len(piece)))[
            None
        ].to(codec.device)
        own = slice(start - first, stop - first)
        features = codec.features(piece)[0, own]
        loudness, envelopes = (
            codec.frame_features.loudness(features)[:, 0],
            features[:, -config.feature_sizes[-1] :],
        )
        yield loudness.cpu(), meter.course(piece.cpu())[own], envelopes.cpu()


def beside_loudness(envelopes: Tensor, loudness: Tensor) -> Tensor:
    """Envelopes `[F, E]` relative to the loudness `[F]`, minus the median; NaN in frames within `UNEVEN_DB` of 0.

    A spectrum's window reaches into the next frames, so before an attack the loudness is above the envelope.
    """
    beside = envelopes - loudness[:, None]
    beside = beside - beside.median()
    smooth = nn.functional.avg_pool1d(beside, SMOOTHED, 1)  # periods of low voices are not attacks
    is_unusual = 20 * smooth.abs().amax(dim=1) > UNEVEN_DB
    return torch.where(is_unusual[:, None], beside, math.nan)


def _steps_at(pitches: NDArray[np.float64], frame: int) -> bool:
    """Whether the pitch steps to another note at a frame."""
    # Proportion of the step that happens within two frames; a slower change is a glide
    sudden = 0.5
    step_frames = 8  # frames on each side for these medians
    before, after = (
        pitches[max(0, frame - step_frames) : frame],
        pitches[frame : frame + step_frames],
    )
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    if min(len(before), len(after)) < SHORTEST_TONE:
        return False
    step = float(np.median(after) - np.median(before))
    near = pitches[frame] - pitches[max(0, frame - 2)]
    return bool(abs(step) > STEP and np.isfinite(near) and near / step > sudden)
