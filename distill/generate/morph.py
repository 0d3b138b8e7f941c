"""Sounds between two others: pitch, spectrum and length go from one to the other, and partials move.

Both are aligned at their attacks, and at their ends. Spectra are between those of both, in dB, without the combs of their
tones. A pitch is between both pitches as they are heard. The partials of a step are those of the nearer sound.

Shapes: F frames, Q levels, D numbers of a latent.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distill.codec.layout import NOTE, NOTES, SHAPE, TUNINGS
from distill.codec.model import VQVAE
from distill.codec.tones.layer import note_and_tuning
from distill.codes.store import Codes
from distill.generate.faults import Samples
from distill.generate.refusals import Draws, Sound
from distill.generate.sounds import decode_sounds
from distill.generate.source import Recorded, Source
from distill.prior.courses import between
from distill.progress import Progress

RISE_FRAMES = 3  # before a frame, over which the level rises at an attack
NEAR_LOUDEST = 6  # steps of loudness, 12 dB, below the loudest frame, where an attack is at least


@dataclass(frozen=True, eq=False)
class _End:
    """One of two sounds: latents `[F, D]`, tones `[F, 3]`, pitches as heard `[F]`, NaN for none, and its attack, a frame."""

    latents: Tensor
    tones: Tensor
    pitches: Tensor
    attack: int

    @classmethod
    def of(cls, codec: VQVAE, intervals: Tensor, codes: Codes) -> "_End":
        """That of codes `[F, Q]`, given the intervals `[S]` at which sets are heard."""
        own = torch.from_numpy(codes)
        tones, loud = own[:, NOTE:SHAPE], own[:, 0].double()
        heard = codec.tone.pitches(tones) + intervals[codec.tone.sets(tones)]
        before = torch.stack([loud[max(0, frame - RISE_FRAMES) : frame + 1].min() for frame in range(len(loud))])
        rise = torch.where(loud >= loud.max() - NEAR_LOUDEST, loud - before, -1.0)
        return cls(codec.dequantise(own[None].to(codec.device))[0].cpu(), tones, heard, int(rise.argmax()))

    def places(self, frames: int, attack: float) -> Tensor:
        """The places in it of the frames of a sound of so many, whose attack is at another one."""
        ends = (frames - 1, len(self.latents) - 1)
        known = sorted({(0, 0), (min(attack, ends[0]), min(self.attack, ends[1])), ends})
        new, own = np.array(known, np.float64).T
        return torch.from_numpy(np.interp(np.arange(frames), new, own))


def morphed(codec: VQVAE, intervals: Tensor, first: Codes, last: Codes, share: float) -> Codes:
    """Codes `[F, Q]` of the sound that lies between two, by its share of the way, from 0 to 1.

    `intervals` `[S]` are those at which sets of partials are heard, from what is coded. At 0 and 1 it is one of the two.
    """
    if share in (0, 1):
        return (last if share else first).copy()
    ends = [_End.of(codec, intervals, codes) for codes in (first, last)]
    frames, attack = (
        (1 - share) * own + share * other for own, other in ((len(first), len(last)), (ends[0].attack, ends[1].attack))
    )
    count = max(1, round(frames))
    places = [end.places(count, attack) for end in ends]
    own, other = (between(end.latents, place) for end, place in zip(ends, places, strict=True))
    latents = torch.lerp(own, other, share)
    nearer = int(share >= 0.5)
    nearest = [place.round().long() for place in places]
    tones = ends[nearer].tones[nearest[nearer]]
    pitches = [end.pitches[place] for end, place in zip(ends, nearest, strict=True)]
    between_both = torch.lerp(pitches[0], pitches[1], share)
    pitch = torch.where(pitches[1 - nearer].isfinite(), between_both, pitches[nearer])
    coded = ((pitch - intervals[codec.tone.sets(tones)]) * TUNINGS).round()
    note, tuning = note_and_tuning(coded.nan_to_num().long())
    has_tone = pitch.isfinite() & (note > 0) & (note < NOTES)
    moved = torch.stack([note, tuning, tones[:, 2]], dim=1) * has_tone[:, None]
    found: Codes = codec.search(latents[None].float().to(codec.device), moved[None].to(codec.device))[0].cpu().numpy()
    return found


def morphs(
    source: Source,
    first: Recorded,
    last: Recorded,
    steps: int,
    width: float,
    report: Progress,
    take: Callable[[int, Samples], None] | None,
) -> Draws:
    """Sounds from one recording to another, both ends among them, so wide, with the image of the nearer one."""
    draws, rate = Draws(), source.codec.spectrogram.sample_rate
    for step in range(steps):
        share = step / (steps - 1)
        codes = morphed(source.codec, source.tuner.intervals_heard, first.codes, last.codes, share)
        nearer = last if share >= 0.5 else first
        (samples,) = decode_sounds(source.codec, [codes], images=[nearer.image], width=width)
        novelty = None if source.judge is None else source.judge([codes])[0]
        draws.hand_over(step, Sound(codes, novelty, None, samples, len(samples) / rate, image=nearer.image), take)
        report(step + 1, steps, "steps")
    return draws
