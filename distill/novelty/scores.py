"""Scores of passages against training recordings, the baselines of a reference, and measures of sound."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from distill.audio.motion import Motion
from distill.audio.partials import find_partials, steadiness
from distill.codec.model import VQVAE
from distill.codec.streaming import decode_each, encode_each
from distill.codes.store import Codes
from distill.novelty.reference import MAX_FRAMES, SPACE, SPACES, Coded, Doubles, Reference, evenly
from distill.novelty.search import CodeIndex, Match
from distill.novelty.spectra import CodeSpectra, Pitches, Spectra, SpectralIndex, interval, pitches

SHORTEST = 6  # frames of the shortest piece in the baseline
MAX_DECODED = 64  # sounds or recordings that are decoded to measure tones and motion
MAX_COMPARED = 200  # recordings of each side with statistics of spectra


@dataclass(frozen=True)
class Score:
    """Best alignments of a passage in codes, in spectra, and in spectra transposed to another key."""

    frames: int
    codes: Match
    spectra: Match
    keys: Match

    @property
    def row(self) -> list[float]:
        """Row of the reference: see `reference.ROW`."""
        return [
            self.frames,
            *(getattr(getattr(self, space), name) for space in SPACES for name in SPACE),
        ]


class Scorer:
    """Scorer of passages against training recordings."""

    def __init__(self, recordings: Sequence[Coded], codec: VQVAE) -> None:
        """`recordings` are codes `[F, Q]`."""
        self.codec, self.spectra = codec, CodeSpectra(codec)
        self._levels = codec.layout.spectral  # without tones: equal notes are no sign of a copy
        self._in_codes = CodeIndex([codes[:, self._levels] for codes in recordings])
        self._pitches = pitches(codec, np.concatenate(recordings))
        self._in_spectra = SpectralIndex(
            self.spectra.joined(recordings), list(map(len, recordings))
        )

    def __call__(self, passages: Sequence[NDArray[np.integer]]) -> list[Score]:
        """Score passages of codes `[F, Q]`, F at most MAX_FRAMES."""
        spectra = [self.spectra(codes) for codes in passages]
        notes = [pitches(self.codec, codes) for codes in passages]
        in_codes = self._in_codes.match([codes[:, self._levels] for codes in passages])
        in_spectra = self._in_spectra.match(spectra)
        in_keys = self._in_spectra.match_in_keys(
            spectra, notes, self._pitches, self.spectra.centres
        )
        return [
            Score(len(own), self._with_interval(codes, own), self._with_interval(plain, own), keyed)
            for own, codes, plain, keyed in zip(notes, in_codes, in_spectra, in_keys, strict=True)
        ]

    def _with_interval(self, match: Match, notes: Pitches) -> Match:
        """Add the interval from the aligned notes up to the notes `[F]` of a sound to a match."""
        begin, end = self._in_spectra.starts[match.recording : match.recording + 2]
        positions = begin + match.offset + np.arange(len(notes))
        inside = (positions >= begin) & (positions < end)
        beside = np.where(inside, self._pitches[positions.clip(begin, end - 1)], np.nan)
        return replace(match, semitones=interval(notes, beside))


def with_scores(reference: Reference, codec: VQVAE) -> Reference:
    """Add the baselines to a reference: scores of held-out pieces and of re-encoded training recordings."""
    pieces = [piece for codes in reference.held_out for piece in halved(codes)]
    passages: list[NDArray[np.integer]] = [*pieces, *reencoded(reference, codec)]
    scores = Scorer(reference.codes, codec)(passages)
    rows = np.array([score.row for score in scores], np.float32)
    return replace(reference, scores=rows[: len(pieces)], reencoded=rows[len(pieces) :])


def halved(codes: Coded) -> list[Coded]:
    """Codes `[F, Q]`, their first half, the first half of that, and so on, down to `SHORTEST` frames."""
    pieces = [codes]
    while len(pieces[-1]) >= 2 * SHORTEST:
        pieces.append(pieces[-1][: len(pieces[-1]) // 2])
    return pieces


def reencoded(
    reference: Reference, codec: VQVAE, count: int = 64, gain: float = 0.7
) -> list[Codes]:
    """Codes `[F, Q]` of training recordings that are decoded, shifted by half a frame, attenuated and encoded again."""
    shift = codec.spectrogram.samples_per_frame // 2
    chosen = (
        torch.from_numpy(codes[:MAX_FRAMES].astype(np.int64))
        for codes in evenly(reference.codes, count)
    )
    sounds = [
        gain * sound[shift if len(sound) > 4 * shift else 0 :]
        for sound in decode_each(codec, chosen)
    ]
    return [codes.cpu().numpy() for codes in encode_each(codec, sounds)]


def with_sound(reference: Reference, codec: VQVAE, max_frames: int = MAX_FRAMES) -> Reference:
    """Add measures of sound to a reference, from at most `max_frames` frames of each recording."""
    held_out, training = (
        [codes[:max_frames] for codes in side] for side in (reference.held_out, reference.codes)
    )
    spectra = CodeSpectra(codec)
    return replace(
        reference,
        heard=heard(codec, held_out),
        held_out_statistics=sound_statistics(map(spectra, evenly(held_out, MAX_COMPARED))),
        training_statistics=sound_statistics(map(spectra, evenly(training, MAX_COMPARED))),
    )


def heard(codec: VQVAE, recordings: Sequence[NDArray[np.integer]]) -> Doubles:
    """Decode codes `[F, Q]` and measure whether each sound is tonal (1 or 0), and its motion: `[n, 6]`.

    Measures at most MAX_DECODED recordings, evenly spaced.
    """
    chosen = (torch.from_numpy(codes.astype(np.int64)) for codes in evenly(recordings, MAX_DECODED))
    sounds = (sound.float().cpu().numpy() for sound in decode_each(codec, chosen))
    rate = codec.spectrogram.sample_rate
    return np.array(
        [[is_tonal(sound, rate), *astuple(Motion.measure(sound, rate))] for sound in sounds],
        np.float64,
    )


def is_tonal(sound: NDArray[np.floating], sample_rate: int) -> bool:
    """Whether most energy of a sound `[N]` is in steady partials."""
    return steadiness(find_partials(sound, sample_rate)).is_tonal


def sound_statistics(sounds: Iterable[Spectra]) -> Doubles:
    """Summary statistics `[sounds, 4 * bands]` of spectra `[F, bands]`.

    Mean, deviation, mean absolute change, and first third minus last third.
    """
    rows = []
    for spectra in sounds:
        sound, third = spectra.astype(np.float64), max(1, len(spectra) // 3)
        change = (
            np.abs(np.diff(sound, axis=0)).mean(axis=0)
            if len(sound) > 1
            else np.zeros(sound.shape[1])
        )
        slope = sound[:third].mean(axis=0) - sound[-third:].mean(axis=0)
        rows.append(np.concatenate([sound.mean(axis=0), sound.std(axis=0), change, slope]))
    return np.stack(rows)
