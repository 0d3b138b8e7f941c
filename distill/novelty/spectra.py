"""Band spectra of codes, and their index.

The index finds copies that have other codes: shifted by less than a frame, softer, or played faster or slower.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codec.model import VQVAE
from distill.codec.scales import band_centres
from distill.codec.search import REACH
from distill.codec.streaming import CHUNK_FRAMES
from distill.novelty.search import Costs, Flags, Index, Match, Sound, Windows

BANDS = 20
BATCH_FRAMES = 1 << 10  # decoded at once: their features stay in the processor's cache
MAX_IN_MEMORY = 1 << 23  # frames, about 50 hours; more spectra lie in a temporary file
UNLIKE_DB = 20.0  # spectral difference at which the similarity of two frames is 0
ALIKE_DB = 3.0  # frames match up to this spectral difference, which is typical of re-encoding
KEYS = (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5)  # semitones: transpositions of copies that are searched
SAME_NOTE = 0.5  # maximum distance of equal notes in semitones
SAME_NOTES = 0.3  # minimum proportion of a passage's frames with equal notes

NOWHERE = Match(recording=0, offset=0, likeness=0.0, copied_frames=0, edit_distance=1.0)

Samples = NDArray[np.float32]
Spectra = NDArray[np.float32]  # [F, BANDS], dB
Pitches = NDArray[np.float64]  # [F], semitones (MIDI); NaN without a tone


class CodeSpectra:
    """Mel spectra of codes, as the codec decodes them. A table of codewords gives the latents."""

    @torch.no_grad()
    def __init__(self, codec: VQVAE) -> None:
        self._codec, config = codec, codec.spectrogram
        centres = torch.from_numpy(band_centres(config.sample_rate, config.n_mels)).float()[None]
        self.centres: NDArray[np.float64] = (
            nn.functional.adaptive_avg_pool1d(centres, BANDS)[0].double().numpy()
        )  # Hz
        levels = codec.quantizer.levels()
        self._silence = max(len(books) for books, _ in levels)  # last row of a level: no codeword
        table = torch.stack(
            [
                nn.functional.pad(
                    books * kernel[:, None], (0, 0, 0, self._silence + 1 - len(books))
                )
                for books, kernel in levels
            ]
        )  # [levels, KERNEL_FRAMES, V + 1, D]
        self._first = torch.arange(table[..., 0, 0].numel()).view(table.shape[:2]) * table.shape[2]
        self._table = table.flatten(0, 2).cpu()

    def __call__(self, codes: NDArray[np.integer]) -> Spectra:
        """Return the spectra `[F, BANDS]` in dB of codes `[F, Q]`."""
        return self.joined([codes])

    @torch.no_grad()
    def joined(self, recordings: Sequence[NDArray[np.integer]]) -> Spectra:
        """Spectra of the codes `[F, Q]` of several recordings, computed one by one and concatenated."""
        codes, starts = np.concatenate(recordings), np.cumsum([0, *map(len, recordings)])
        result: Spectra = np.empty((len(codes), BANDS), np.float32)
        if len(codes) > MAX_IN_MEMORY:
            with tempfile.TemporaryFile() as file:
                result = np.memmap(file, np.float32, "w+", shape=result.shape)
        for first in range(0, len(codes), BATCH_FRAMES):
            frames = np.arange(first, min(first + BATCH_FRAMES, len(codes)))
            owners = np.searchsorted(starts, frames, side="right") - 1
            around = frames[:, None] + np.arange(-REACH, REACH + 1)  # [frames, KERNEL_FRAMES]
            inside = (around >= starts[owners, None]) & (around < starts[owners + 1, None])
            near = torch.from_numpy(codes[around.clip(0, len(codes) - 1)].astype(np.int64))
            near, _ = self._codec.layout.split(near)
            near = near.masked_fill(torch.from_numpy(~inside)[..., None], self._silence)
            rows = near.transpose(1, 2) + self._first
            latents = nn.functional.embedding_bag(rows.flatten(1), self._table, mode="sum").to(
                self._codec.device
            )
            result[frames] = band_levels(self._codec, self._codec.unproject(latents)).cpu().numpy()
        return result


def band_levels(codec: VQVAE, features: Tensor) -> Tensor:
    """Band levels in dB `[F, BANDS]` of decoded features `[F, C]`."""
    return 20 * nn.functional.adaptive_avg_pool1d(codec.spectrogram.mean_log_mel(features), BANDS)


def mean_difference(spectra: Spectra, others: Spectra) -> float:
    """Mean over frames of the difference of two spectra, the root mean square over bands, in dB."""
    return float(np.sqrt(np.square(spectra - others, dtype=np.float64).mean(axis=1)).mean())


@torch.no_grad()
def sound_difference(codec: VQVAE, sound: Samples, other: Samples) -> float:
    """Mean difference in dB of the spectra of two sounds, samples `[N]`; the longer one is cut."""
    samples = min(len(sound), len(other))
    return mean_difference(_levels_of(codec, sound[:samples]), _levels_of(codec, other[:samples]))


def _levels_of(codec: VQVAE, sound: Samples) -> Spectra:
    """Band levels in dB `[F, BANDS]` of samples `[N]`, piece by piece."""
    pieces = torch.from_numpy(sound).split(CHUNK_FRAMES * codec.spectrogram.samples_per_frame)
    features = torch.cat(
        [codec.features(codec.spectrogram.padded(piece, codec.margin))[0] for piece in pieces]
    )
    levels: Spectra = band_levels(codec, features).numpy()
    return levels


def pitches(codec: VQVAE, codes: NDArray[np.integer]) -> Pitches:
    """Pitches `[F]` of codes `[F, Q]`."""
    pitches: Pitches = codec.pitches(torch.from_numpy(codes.astype(np.int64))).numpy()
    return pitches


def interval(sound: Pitches, recording: Pitches) -> int:
    """Semitones from an aligned recording up to a sound, both `[F]`; 0 if notes are unclear."""
    apart = sound - recording
    both = apart[np.isfinite(apart)]
    if not len(both):
        return 0
    middle = float(np.median(both))
    equal = (np.abs(both - middle) <= SAME_NOTE).sum()
    return round(middle) if equal >= SAME_NOTES * len(apart) else 0


def transposed(
    sound: Spectra, notes: Pitches, semitones: int, centres: NDArray[np.float64]
) -> tuple[Spectra, Pitches]:
    """Spectra and pitches of a sound that is played faster, `semitones` higher, or slower if negative.

    `centres` `[BANDS]` are the centres of the bands in Hz.
    """
    speed, frames = 2.0 ** (semitones / 12), np.arange(len(sound))
    times = ((np.arange(max(1, round(len(sound) / speed))) + 0.5) * speed - 0.5).clip(
        0, len(sound) - 1
    )
    moved = np.stack([np.interp(centres / speed, centres, row) for row in np.eye(BANDS)])
    spectra: Spectra = np.stack(
        [np.interp(times, frames, band) for band in (sound @ moved).T], axis=1
    ).astype(np.float32)
    return spectra, notes[times.round().astype(np.int64)] + semitones


class SpectralIndex(Index):
    """Index of recordings' spectra `[F, BANDS]`.

    The difference of two frames is the root mean square over bands of their difference in dB, after one gain for the
    whole alignment. The similarity falls linearly from 1 at no difference to 0 at UNLIKE_DB. A frame counts as copied
    up to ALIKE_DB.
    """

    pool = 4

    def match_in_keys(
        self,
        sounds: Sequence[Spectra],
        notes: Sequence[Pitches],
        reference: Pitches,
        centres: NDArray[np.float64],
    ) -> list[Match]:
        """Best alignment of each sound with a recording in another key, or `NOWHERE` if its notes match no recording.

        `reference` are the pitches of all recordings' frames. The speed of a sound is changed so that its notes equal
        the notes of the recording.
        """
        best = [NOWHERE] * len(sounds)
        tonal = [
            number for number, own in enumerate(notes) if np.isfinite(own).mean() >= SAME_NOTES
        ]
        for key in KEYS:
            played = [transposed(sounds[number], notes[number], -key, centres) for number in tonal]
            lags = self.candidate_lags([spectra for spectra, _ in played])
            for number, (spectra, own), candidates in zip(tonal, played, lags, strict=True):
                positions = candidates[:, None] + np.arange(len(own))
                beside = reference[positions.clip(0, len(reference) - 1)]
                same = candidates[(np.abs(own - beside) <= SAME_NOTE).mean(axis=1) >= SAME_NOTES]
                if len(same):
                    match = replace(self._best_match(spectra, same), semitones=key)
                    best[number] = max(best[number], match, key=lambda tried: tried.likeness)
        return best

    def _features_at(self, start: int, stop: int) -> Tensor:
        """Features of frames `start` to `stop` of all recordings, with their squared norms in the last column."""
        features = _features(self.frames[max(0, start - 1) : stop])[min(1, start) :]
        features[:, -1] = features[:, :-1].square().sum(dim=1)
        return features

    def _query(self, sound: Sound) -> Tensor:
        features = 2 * _features(sound)
        features[:, -1] = -1.0  # the product is minus the squared distance, up to a constant
        return features

    def _compare(
        self, sound: Sound, windows: Windows
    ) -> tuple[NDArray[np.float64], Flags, NDArray[np.float32]]:
        difference = self.frames[windows.frames]  # [K, F, BANDS]
        np.subtract(sound, difference, out=difference)
        levels = np.einsum("kfb->kf", difference).astype(np.float64) / BANDS
        gains = (windows.per_piece(levels) / windows.lengths).clip(-12.0, 12.0)
        each = np.repeat(gains, windows.lengths).reshape(windows.frames.shape).astype(np.float32)
        difference -= each[..., None]
        apart = _root_mean_square(difference)  # [K, F]
        inside = windows.owners >= 0
        return (1.0 - apart / UNLIKE_DB).clip(0.0, 1.0) * inside, (apart <= ALIKE_DB) & inside, each

    def _costs(self, sound: Sound, stretch: Sound, gain: np.float32) -> Costs:
        return (_root_mean_square(sound[:, None] - stretch - gain) > ALIKE_DB).astype(np.float32)


def _root_mean_square(difference: NDArray[np.float32]) -> NDArray[np.float64]:
    """Root mean square over the last dimension."""
    squares = np.einsum("...b,...b->...", difference, difference)
    result: NDArray[np.float64] = np.sqrt(squares / difference.shape[-1]).astype(np.float64)
    return result


def _features(sound: Spectra) -> Tensor:
    """Features `[F, BANDS + 2]` to correlate: spectrum without its level, change of level, and a zero column."""
    spectrum = torch.from_numpy(sound)
    levels = spectrum.mean(dim=1)
    features = torch.zeros(len(sound), BANDS + 2)
    torch.sub(spectrum, levels[:, None], out=features[:, :BANDS])
    features[1:, BANDS] = levels.diff() * 0.5  # weight relative to a band
    return features
