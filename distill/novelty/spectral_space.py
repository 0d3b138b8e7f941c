"""Spectra that stand in recordings already: a sound can repeat one in other codes, shifted by less than a frame or softer."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codec.model import VQVAE
from distill.codec.quantizer import PLAIN_LEVELS
from distill.codec.search import KERNEL_FRAMES, REACH
from distill.novelty.alignment import Match, best_piece, edit_distance, longest_run, stretch_around, windows_at
from distill.novelty.lag_search import likely_lags

BANDS = 20
MOST_FRAMES = 1 << 13  # at once
UNLIKE_DB = 20.0  # difference of spectra from which on frames are not like each other at all
ALIKE_DB = 3.0  # up to which they are as alike as a recording and itself coded again
MOST_GAIN_DB = 12.0  # by which a sound may be softer or louder than what it is like
POOL = 4  # frames that places are looked for by together
STEP_WEIGHT = 0.5  # of how the level changes, beside a band, where places are looked for

Spectra = NDArray[np.float32]  # [F, BANDS], dB


class CodeSpectra:
    """The mel spectra that codes of a codec stand for. Codewords are added up, so are what they contribute to a spectrum."""

    @torch.no_grad()
    def __init__(self, codec: VQVAE) -> None:
        books, kernels = codec.quantizer.codebooks, codec.quantizer.kernels
        self._nothing = _in_bands(codec, torch.zeros(1, books.shape[2], device=books.device))
        bands = _in_bands(codec, torch.eye(books.shape[2], device=books.device)) - self._nothing  # [D, BANDS]
        which = (torch.arange(len(books)) >= PLAIN_LEVELS).long()
        parts = (books[:, None] * kernels[which][:, :, None]) @ bands  # [Q, KERNEL_FRAMES, V, BANDS]
        table = nn.functional.pad(parts, (0, 0, 0, 1))  # the last row: no codeword sounds
        self._silence = books.shape[1]
        self._first = torch.arange(table[..., 0, 0].numel()).view(table.shape[:2]) * table.shape[2]
        self._table = table.flatten(0, 2).cpu()

    @torch.no_grad()
    def __call__(self, codes: NDArray[np.integer]) -> Spectra:
        """Codes `[F, Q]` to spectra in dB, `[F, BANDS]`."""
        result = torch.empty(len(codes), BANDS)
        padded = np.pad(codes.astype(np.int64), ((REACH, REACH), (0, 0)), constant_values=self._silence)
        around = torch.from_numpy(padded).unfold(0, KERNEL_FRAMES, 1)  # [F, Q, KERNEL_FRAMES]
        for start in range(0, len(codes), MOST_FRAMES):
            numbers = (around[start : start + MOST_FRAMES] + self._first).flatten(1)
            result[start : start + MOST_FRAMES] = nn.functional.embedding_bag(numbers, self._table, mode="sum")
        spectra: Spectra = (result + self._nothing.cpu()).numpy()
        return spectra


def _in_bands(codec: VQVAE, latents: Tensor) -> Tensor:
    """What latents `[F, D]` stand for in dB, `[F, BANDS]`; a matrix and an offset."""
    config = codec.spectrogram
    log_mel = codec.unproject(latents)[:, : config.stack * config.n_mels]
    return 20 * nn.functional.adaptive_avg_pool1d(log_mel.view(len(latents), config.stack, -1).mean(dim=1), BANDS)


class SpectralIndex:
    """Spectra of recordings, to be searched by alignment.

    The difference of two frames is the root mean square over bands of their difference in dB, after a gain that is one for
    the whole alignment. Frames with none are 1 alike, those UNLIKE_DB apart 0; they count as copied up to ALIKE_DB.
    """

    def __init__(self, recordings: Sequence[Spectra]) -> None:
        self.spectra = np.concatenate(recordings)
        self.starts = np.cumsum([0, *map(len, recordings)])
        self._known = _features(self.spectra)
        self._known[:, -1] = self._known[:, :-1].square().sum(dim=1)

    def match(self, sounds: Sequence[Spectra]) -> list[Match]:
        """The best alignment of each of `sounds` `[F, BANDS]` with a recording."""
        asked = [2 * _features(sound) for sound in sounds]
        for features in asked:
            features[:, -1] = -1.0  # so that the product is what brings squared differences down
        lags = likely_lags(self._known, asked, POOL)
        return [self._aligned(sound, some.numpy()) for sound, some in zip(sounds, lags, strict=True)]

    def _aligned(self, sound: Spectra, lags: NDArray[np.int64]) -> Match:
        windows = windows_at(self.starts, lags, len(sound))
        difference = sound - self.spectra[windows.frames]  # [K, F, BANDS]
        gains = windows.per_piece(difference.mean(axis=2, dtype=np.float64)) / windows.lengths
        gains = np.repeat(gains.clip(-MOST_GAIN_DB, MOST_GAIN_DB), windows.lengths).reshape(windows.frames.shape)
        difference -= gains[..., None].astype(np.float32)
        apart = _root_mean_square(difference)  # [K, F]
        inside = windows.owners >= 0
        number, recording, likeness = best_piece(windows, (1.0 - apart / UNLIKE_DB).clip(0.0, 1.0) * inside)
        run = longest_run(windows, (apart <= ALIKE_DB) & inside)
        lag = int(lags[number])
        stretch = self.spectra[stretch_around(self.starts, recording, lag, len(sound))]
        gain = np.float32(gains[number][windows.owners[number] == recording][0])
        across = _root_mean_square(sound[:, None] - stretch - gain)
        edits = edit_distance((across > ALIKE_DB).astype(np.float32))
        return Match(recording, lag - int(self.starts[recording]), likeness, run, edits)


def _root_mean_square(difference: NDArray[np.float32]) -> NDArray[np.float64]:
    """Over the last dimension."""
    squares = np.einsum("...b,...b->...", difference, difference)
    result: NDArray[np.float64] = np.sqrt(squares / difference.shape[-1]).astype(np.float64)
    return result


def _features(sound: Spectra) -> Tensor:
    """What places are looked for by, `[F, BANDS + 2]`: shape of the spectrum, change of the level, and room for one more."""
    spectrum = torch.from_numpy(sound)
    levels = spectrum.mean(dim=1)
    features = torch.zeros(len(sound), BANDS + 2)
    torch.sub(spectrum, levels[:, None], out=features[:, :BANDS])
    features[1:, BANDS] = levels.diff() * STEP_WEIGHT
    return features
