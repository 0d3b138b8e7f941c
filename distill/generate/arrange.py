"""Scores played by a model: each note is drawn as a sound of its own, and all are mixed, to the sample.

A note that comes again is played by one of a few variations in turn. A loop's sounds that ring beyond its end go on from
its beginning, so that it closes.

Shapes: N samples.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from distill.codec.streaming import encode_each, within_full_scale
from distill.generate.faults import Samples
from distill.generate.refusals import Draws, Refusal, Sound
from distill.generate.requests import LONGEST_SECONDS
from distill.generate.score import Note, Score
from distill.generate.sounds import NO_SAMPLES, PEAK, GenerationRequest, Seeds, folded, generate_sounds, in_tune
from distill.generate.source import Source
from distill.progress import Progress
from distill.seeds import Stream, derive_seed

VARIATIONS = 4  # of a note at most
RELEASE_SECONDS = 0.15  # in which a sound fades after the end of its note
ONSET = 0.01  # of its peak, from which on a sound is heard to begin: 40 dB below
MOST_LATE = 0.03  # seconds before the beginning that are left out

Which = tuple[str, int | None, int]  # label, key and number of a variation


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreRequest(GenerationRequest):
    """A request for `count` renditions of a score. `numbers` are those of its labels, `tuning` that of its keys.

    `tuning` are semitones from a key to its note.
    """

    score: Score
    numbers: Mapping[str, int]
    tuning: float = 0.0
    is_compared = False

    def make(
        self,
        source: Source,
        seeds: Seeds,
        refusals: Sequence[Refusal],
        report: Progress,
        take: Callable[[int, Samples], None] | None,
        first_alone: bool,  # noqa: ARG002 - each rendition is made alone
    ) -> Draws:
        """Draw the sounds of each rendition, and mix them; see `generate_sounds`."""
        made = Draws()
        for number in range(self.count):
            sounds: dict[Which, Sound] = {}
            for place, label in enumerate(self.score.labels):
                seed = Seeds(derive_seed(seeds.of_sound(number, 0), Stream.SCORE_SOUNDS, place))
                which, draws = self._drawn(source, label, seed, refusals, report)
                sounds.update(zip(which, draws.sounds, strict=True))
                made.redrawn.update(draws.redrawn)
            rendition = self._mixed(source, sounds)
            if take is not None:
                take(number, rendition.samples)
                rendition = replace(rendition, samples=NO_SAMPLES)
            made.drawn[number] = rendition
        return made

    def _drawn(
        self, source: Source, label: str, seeds: Seeds, refusals: Sequence[Refusal], report: Progress
    ) -> tuple[list[Which], Draws]:
        """Sounds for the notes with a label, in turn: of each key as many variations as it has notes, at most VARIATIONS."""
        notes = [note for note in self.score.notes if note.label == label]
        counts = Counter(note.key for note in notes)
        which = [(label, key, number) for key, count in counts.items() for number in range(min(count, VARIATIONS))]
        keys = [key + self.tuning for _, key, _ in which if key is not None]
        longest = max(LONGEST_SECONDS if note.seconds is None else note.seconds + RELEASE_SECONDS for note in notes)
        request = GenerationRequest(
            count=len(which),
            max_seconds=min(LONGEST_SECONDS, longest),
            sampling=self.sampling,
            label=self.numbers[label],
            notes=keys,
            width=self.width,
        )
        own = [in_tune(request)] * bool(keys)
        return which, generate_sounds(source, request, seeds, [*own, *refusals], report)

    def _mixed(self, source: Source, sounds: Mapping[Which, Sound]) -> Sound:
        """A rendition: as new as the sound in it that is least so."""
        rate, played = source.codec.spectrogram.sample_rate, Counter[tuple[str, int | None]]()
        parts = []
        for note in self.score.notes:
            key = (note.label, note.key)
            variation = played[key] % VARIATIONS
            played[key] += 1
            samples = sounded(sounds[*key, variation].samples, note, rate)
            parts.append((round(note.start * rate), samples))
        loop = None if self.score.loop_seconds is None else round(self.score.loop_seconds * rate)
        samples = mixed(parts, loop)
        in_mono = folded(samples, rate)
        codes = next(encode_each(source.codec, [torch.from_numpy(within_full_scale(source.codec, in_mono, "the mix"))]))
        known = [sound.novelty for sound in sounds.values() if sound.novelty is not None]
        oldest = max(known, key=lambda novelty: novelty.percentile, default=None)
        return Sound(codes.cpu().numpy(), oldest, None, samples, len(samples) / rate)


def sounded(samples: Samples, note: Note, sample_rate: int) -> Samples:
    """Samples `[N]` or `[N, 2]` of a sound as a note has them: from its beginning, as loud, and no longer."""
    loud = np.abs(samples).reshape(len(samples), -1).max(axis=1)
    begins = int((loud >= ONSET * loud.max()).argmax())
    samples = samples[min(begins, round(MOST_LATE * sample_rate)) :] * np.float32(note.gain)
    if note.seconds is not None:
        held, release = round(note.seconds * sample_rate), round(RELEASE_SECONDS * sample_rate)
        samples = samples[: held + release]
        fade = np.cos(np.linspace(0, np.pi / 2, release, dtype=np.float32)) ** 2
        ending = samples[held:]
        ending.T[...] *= fade[: len(ending)]
    return samples


def mixed(parts: Sequence[tuple[int, Samples]], loop: int | None = None) -> Samples:
    """Samples `[N]` or `[N, 2]`, from so many on, together; in a loop of so many what is beyond its end is at its beginning.

    They are softer where they would be louder than PEAK.
    """
    length = max(start + len(samples) for start, samples in parts)
    is_stereo = any(samples.ndim == 2 for _, samples in parts)
    whole = np.zeros((length, 2) if is_stereo else length, np.float32)
    for start, samples in parts:
        whole[start : start + len(samples)] += samples[:, None] if is_stereo and samples.ndim == 1 else samples
    if loop is not None:
        padded = np.pad(whole, [(0, -length % loop), *[(0, 0)] * (whole.ndim - 1)])
        whole = padded.reshape(-1, loop, *whole.shape[1:]).sum(axis=0)
    return whole * np.float32(min(1.0, PEAK / max(float(np.abs(whole).max(initial=0.0)), PEAK)))
