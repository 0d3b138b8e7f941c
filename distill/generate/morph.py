"""Morphing: sounds with pitch, spectrum and length interpolated between recordings.

Sounds are aligned at their attacks and ends. Spectra (in dB, without partials) and perceived pitches are interpolated.
Partial sets and noise floors come from the nearest sound.

Shapes: F frames, Q levels, D latent size, n sounds, S partial sets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distill.codec.layout import NOTE, NOTES, SHAPE, TUNINGS
from distill.codec.model import VQVAE
from distill.codec.tones.codes import note_and_tuning
from distill.codes.store import Codes
from distill.generate.context import GenerationContext, Recorded
from distill.generate.rejection import Drafts, Emit, GeneratedSound
from distill.generate.sounds import decode_sounds, in_channels
from distill.prior.courses import between
from distill.progress import Progress

RISE_FRAMES = 3  # frames over which the level rises at an attack
NEAR_LOUDEST = 6  # loudness steps (12 dB) that an attack may be below the loudest frame


@dataclass(frozen=True, eq=False)
class End:
    """Sound to morph: codes `[F, Q]`, latents `[F, D]`, tones `[F, 3]`, perceived pitches `[F]` or NaN, attack."""

    codes: Codes
    latents: Tensor
    tones: Tensor
    pitches: Tensor
    attack: int

    @classmethod
    def of(cls, codec: VQVAE, intervals: Tensor, codes: Codes) -> "End":
        """Analyse codes `[F, Q]`; `intervals` `[S]` lead from the coded to the perceived pitch of each partial set."""
        own = torch.from_numpy(codes)
        tones, loud = own[:, NOTE:SHAPE], own[:, 0].double()
        heard = codec.tone.pitches(tones) + intervals[codec.tone.sets(tones)]
        before = torch.stack(
            [loud[max(0, frame - RISE_FRAMES) : frame + 1].min() for frame in range(len(loud))]
        )
        rise = torch.where(loud >= loud.max() - NEAR_LOUDEST, loud - before, -1.0)
        latents = codec.dequantise(own[None].to(codec.device))[0].cpu()
        return cls(codes, latents, tones, heard, int(rise.argmax()))

    def places(self, frames: int, attack: float) -> Tensor:
        """Positions in this sound for each frame of a sound with `frames` frames and its attack at frame `attack`."""
        ends = (frames - 1, len(self.latents) - 1)
        known = sorted({(0, 0), (min(attack, ends[0]), min(self.attack, ends[1])), ends})
        new, own = np.array(known, np.float64).T
        return torch.from_numpy(np.interp(np.arange(frames), new, own))


def nearest(shares: Sequence[float]) -> int:
    """Index of the sound with the largest weight; of equal weights the last."""
    return max(range(len(shares)), key=lambda number: (shares[number], number))


def morphed(codec: VQVAE, intervals: Tensor, ends: Sequence[End], shares: Sequence[float]) -> Codes:
    """Codes `[F, Q]` of the sound between `ends`, with weights `shares` `[n]` that add up to 1.

    `intervals` `[S]` lead from the coded to the perceived pitch of each partial set. A weight of 1 gives that sound
    unchanged.
    """
    main = nearest(shares)
    if shares[main] == 1:
        return ends[main].codes.copy()
    weights = torch.tensor(shares, dtype=torch.float64)[:, None]
    count = max(
        1, round(sum(share * len(end.codes) for share, end in zip(shares, ends, strict=True)))
    )
    attack = sum(share * end.attack for share, end in zip(shares, ends, strict=True))
    places = [end.places(count, attack) for end in ends]
    latents = sum(
        share * between(end.latents, place)
        for share, end, place in zip(shares, ends, places, strict=True)
    )
    at = [place.round().long() for place in places]
    tones = ends[main].tones[at[main]]
    pitches = torch.stack([end.pitches[place] for end, place in zip(ends, at, strict=True)])
    known = weights * pitches.isfinite()
    pitch = torch.where(
        pitches[main].isfinite(),
        (known * pitches.nan_to_num()).sum(dim=0) / known.sum(dim=0),
        torch.nan,
    )
    coded = ((pitch - intervals[codec.tone.sets(tones)]) * TUNINGS).round()
    note, tuning = note_and_tuning(coded.nan_to_num().long())
    has_tone = pitch.isfinite() & (note > 0) & (note < NOTES)
    moved = torch.stack([note, tuning, tones[:, 2]], dim=1) * has_tone[:, None]
    assert isinstance(latents, Tensor)
    found: Codes = (
        codec.search(latents[None].float().to(codec.device), moved[None].to(codec.device))[0]
        .cpu()
        .numpy()
    )
    return found


def morphs(
    context: GenerationContext,
    corners: Sequence[Recorded],
    steps: int,
    width: float,
    report: Progress,
    emit: Emit,
) -> Drafts:
    """Morph from one of two recordings to the other in `steps`, or between four in a grid, row by row.

    The first and last sounds are the recordings, re-encoded. `width` scales stereo width; side information comes from
    the nearest recording.
    """
    channels = 2 if width and any(corner.side_info.is_stereo for corner in corners) else 1
    draws, rate, intervals = (
        Drafts(),
        context.codec.spectrogram.sample_rate,
        context.tuner.intervals_heard,
    )
    ends = [End.of(context.codec, intervals, corner.codes) for corner in corners]
    places = np.linspace(0, 1, steps).tolist()
    cells = [
        (down, across) for down in (places if len(corners) > 2 else [0.0]) for across in places
    ]
    for number, (down, across) in enumerate(cells):
        upper, lower = (
            ((1 - down) * (1 - across), (1 - down) * across),
            (down * (1 - across), down * across),
        )
        shares = (*upper, *lower)[: len(corners)]
        own = morphed(context.codec, intervals, ends, shares)
        side_info = corners[nearest(shares)].side_info
        (samples,) = decode_sounds(context.codec, [own], side_info=[side_info], width=width)
        samples = in_channels(samples, channels)
        (novelty,) = context.novelty([own])
        draws.deliver(
            number,
            GeneratedSound(own, novelty, None, samples, len(samples) / rate, side_info=side_info),
            emit,
        )
        report(number + 1, len(cells), "steps")
    return draws
