"""Sounds between others: pitch, spectrum and length go from one to another, and partials move.

All are aligned at their attacks, and at their ends. Spectra are between theirs, in dB, without the combs of their tones.
A pitch is between their pitches as they are heard. The partials are those of the nearest sound.

Shapes: F frames, Q levels, D numbers of a latent, n sounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distill.codec.layout import NOTE, NOTES, SHAPE, TUNINGS
from distill.codec.model import VQVAE
from distill.codec.tones.layer import note_and_tuning
from distill.codes.store import Codes
from distill.generate.refusals import Draws, Emit, Sound
from distill.generate.sounds import decode_sounds, in_channels
from distill.generate.source import Recorded, Source
from distill.prior.courses import between
from distill.progress import Progress

RISE_FRAMES = 3  # before a frame, over which the level rises at an attack
NEAR_LOUDEST = 6  # steps of loudness, 12 dB, below the loudest frame, where an attack is at least


@dataclass(frozen=True, eq=False)
class End:
    """One of the sounds: codes `[F, Q]`, latents `[F, D]`, tones `[F, 3]`, pitches as heard `[F]`, NaN for none, and its attack, a frame."""

    codes: Codes
    latents: Tensor
    tones: Tensor
    pitches: Tensor
    attack: int

    @classmethod
    def of(cls, codec: VQVAE, intervals: Tensor, codes: Codes) -> "End":
        """That of codes `[F, Q]`, given the intervals `[S]` at which sets are heard."""
        own = torch.from_numpy(codes)
        tones, loud = own[:, NOTE:SHAPE], own[:, 0].double()
        heard = codec.tone.pitches(tones) + intervals[codec.tone.sets(tones)]
        before = torch.stack([loud[max(0, frame - RISE_FRAMES) : frame + 1].min() for frame in range(len(loud))])
        rise = torch.where(loud >= loud.max() - NEAR_LOUDEST, loud - before, -1.0)
        latents = codec.dequantise(own[None].to(codec.device))[0].cpu()
        return cls(codes, latents, tones, heard, int(rise.argmax()))

    def places(self, frames: int, attack: float) -> Tensor:
        """The places in it of the frames of a sound of so many, whose attack is at another one."""
        ends = (frames - 1, len(self.latents) - 1)
        known = sorted({(0, 0), (min(attack, ends[0]), min(self.attack, ends[1])), ends})
        new, own = np.array(known, np.float64).T
        return torch.from_numpy(np.interp(np.arange(frames), new, own))


def nearest(shares: Sequence[float]) -> int:
    """The number of the sound with the largest share, the last one of equals."""
    return max(range(len(shares)), key=lambda number: (shares[number], number))


def morphed(codec: VQVAE, intervals: Tensor, ends: Sequence[End], shares: Sequence[float]) -> Codes:
    """Codes `[F, Q]` of the sound that lies between others, by their shares `[n]`, which add up to 1.

    `intervals` `[S]` are those at which sets of partials are heard, from what is coded. Where one share is 1 it is that
    sound.
    """
    main = nearest(shares)
    if shares[main] == 1:
        return ends[main].codes.copy()
    weights = torch.tensor(shares, dtype=torch.float64)[:, None]
    count = max(1, round(sum(share * len(end.codes) for share, end in zip(shares, ends, strict=True))))
    attack = sum(share * end.attack for share, end in zip(shares, ends, strict=True))
    places = [end.places(count, attack) for end in ends]
    latents = sum(share * between(end.latents, place) for share, end, place in zip(shares, ends, places, strict=True))
    at = [place.round().long() for place in places]
    tones = ends[main].tones[at[main]]
    pitches = torch.stack([end.pitches[place] for end, place in zip(ends, at, strict=True)])
    known = weights * pitches.isfinite()
    pitch = torch.where(
        pitches[main].isfinite(), (known * pitches.nan_to_num()).sum(dim=0) / known.sum(dim=0), torch.nan
    )
    coded = ((pitch - intervals[codec.tone.sets(tones)]) * TUNINGS).round()
    note, tuning = note_and_tuning(coded.nan_to_num().long())
    has_tone = pitch.isfinite() & (note > 0) & (note < NOTES)
    moved = torch.stack([note, tuning, tones[:, 2]], dim=1) * has_tone[:, None]
    assert isinstance(latents, Tensor)
    found: Codes = codec.search(latents[None].float().to(codec.device), moved[None].to(codec.device))[0].cpu().numpy()
    return found


def morphs(
    source: Source,
    corners: Sequence[Recorded],
    steps: int,
    width: float,
    report: Progress,
    emit: Emit,
) -> Draws:
    """Sounds from one of two recordings to the other, or between four, row by row; those at the ends are among them.

    They are so wide, with the side information of the nearest recording.
    """
    channels = 2 if width and any(corner.side_info.is_stereo for corner in corners) else 1
    draws, rate, intervals = Draws(), source.codec.spectrogram.sample_rate, source.tuner.intervals_heard
    ends = [End.of(source.codec, intervals, corner.codes) for corner in corners]
    places = np.linspace(0, 1, steps).tolist()
    cells = [(down, across) for down in (places if len(corners) > 2 else [0.0]) for across in places]
    for number, (down, across) in enumerate(cells):
        upper, lower = ((1 - down) * (1 - across), (1 - down) * across), (down * (1 - across), down * across)
        shares = (*upper, *lower)[: len(corners)]
        own = morphed(source.codec, intervals, ends, shares)
        side_info = corners[nearest(shares)].side_info
        (samples,) = decode_sounds(source.codec, [own], side_info=[side_info], width=width)
        samples = in_channels(samples, channels)
        novelty = None if source.judge is None else source.judge([own])[0]
        draws.hand_over(number, Sound(own, novelty, None, samples, len(samples) / rate, side_info=side_info), emit)
        report(number + 1, len(cells), "steps")
    return draws
