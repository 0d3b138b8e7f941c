"""Spectra of codes in bands, and their index: finds copies in other codes, shifted by less than a frame, or softer."""

import tempfile
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codec.model import VQVAE
from distill.codec.search import REACH
from distill.novelty.search import Costs, Flags, Index, Sound, Windows

BANDS = 20
MOST_FRAMES = 1 << 13  # at once
MOST_IN_MEMORY = 1 << 23  # frames, of about 50 hours: the spectra of more lie in a temporary file
STEP_WEIGHT = 0.5  # weight of the change of level, against that of a band, in the cross-correlation
UNLIKE_DB = 20.0  # spectral difference at which the similarity of two frames is 0
ALIKE_DB = 3.0  # spectral difference up to which frames match: that of a recording and its re-encoded self
MOST_GAIN_DB = 12.0  # largest gain of an alignment, up or down

Spectra = NDArray[np.float32]  # [F, BANDS], dB


class CodeSpectra:
    """Mel spectra of codes, summed from a table of codewords' contributions: quantizer and projection are linear."""

    @torch.no_grad()
    def __init__(self, codec: VQVAE) -> None:
        sizes, levels = codec.architecture.codebook_sizes, codec.levels()
        latents = torch.eye(codec.architecture.latent_size, device=codec.device)
        self._offset = band_levels(codec, codec.unproject(torch.zeros_like(latents[:1])))
        bands = band_levels(codec, codec.unproject(latents)) - self._offset  # [D, BANDS]
        self._silence = max(sizes)  # row of no codeword, the last of a level
        table = torch.stack(
            [
                nn.functional.pad((books * kernel[:, None]) @ bands, (0, 0, 0, self._silence + 1 - len(books)))
                for books, kernel in levels
            ]
        )  # [Q, KERNEL_FRAMES, V + 1, BANDS]
        self._first = torch.arange(table[..., 0, 0].numel()).view(table.shape[:2]) * table.shape[2]
        self._table = table.flatten(0, 2).cpu()

    def __call__(self, codes: NDArray[np.integer]) -> Spectra:
        """Codes `[F, Q]` to spectra in dB, `[F, BANDS]`."""
        return self.joined([codes])

    @torch.no_grad()
    def joined(self, recordings: Sequence[NDArray[np.integer]]) -> Spectra:
        """Spectra of the codes `[F, Q]` of several recordings, end to end, each as if alone."""
        codes, starts = np.concatenate(recordings), np.cumsum([0, *map(len, recordings)])
        result: Spectra = np.empty((len(codes), BANDS), np.float32)
        if len(codes) > MOST_IN_MEMORY:
            with tempfile.TemporaryFile() as file:
                result = np.memmap(file, np.float32, "w+", shape=result.shape)
        for first in range(0, len(codes), MOST_FRAMES):
            frames = np.arange(first, min(first + MOST_FRAMES, len(codes)))
            owners = np.searchsorted(starts, frames, side="right") - 1
            around = frames[:, None] + np.arange(-REACH, REACH + 1)  # [frames, KERNEL_FRAMES]
            inside = (around >= starts[owners, None]) & (around < starts[owners + 1, None])
            near = codes[around.clip(0, len(codes) - 1)].astype(np.int64)
            rows = torch.from_numpy(np.where(inside[..., None], near, self._silence)).transpose(1, 2) + self._first
            spectra = nn.functional.embedding_bag(rows.flatten(1), self._table, mode="sum") + self._offset.cpu()
            result[frames] = spectra.numpy()
        return result


def band_levels(codec: VQVAE, features: Tensor) -> Tensor:
    """Band levels in dB `[F, BANDS]` of decoded features `[F, C]`: an affine map."""
    config = codec.spectrogram
    log_mel = features[:, : config.coarse_features].view(len(features), config.stack, -1).mean(dim=1)
    return 20 * nn.functional.adaptive_avg_pool1d(log_mel, BANDS)


class SpectralIndex(Index):
    """Index of recordings' spectra `[F, BANDS]`.

    The difference of two frames is the root mean square over bands of their difference in dB, after one gain for the
    whole alignment. The similarity falls linearly from 1 at no difference to 0 at UNLIKE_DB. A frame counts as copied
    up to ALIKE_DB.
    """

    pool = 4

    def _features_at(self, start: int, stop: int) -> Tensor:
        """Features of frames `start` to `stop` of all recordings, with their squared lengths in the last column."""
        features = _features(self.frames[max(0, start - 1) : stop])[min(1, start) :]
        features[:, -1] = features[:, :-1].square().sum(dim=1)
        return features

    def _query(self, sound: Sound) -> Tensor:
        features = 2 * _features(sound)
        features[:, -1] = -1.0  # so that the product is minus the squared distance, up to a constant
        return features

    def _compare(self, sound: Sound, windows: Windows) -> tuple[NDArray[np.float64], Flags, NDArray[np.float32]]:
        difference = self.frames[windows.frames]  # [K, F, BANDS]
        np.subtract(sound, difference, out=difference)
        levels = np.einsum("kfb->kf", difference).astype(np.float64) / BANDS
        gains = windows.per_piece(levels) / windows.lengths
        gains = gains.clip(-MOST_GAIN_DB, MOST_GAIN_DB)
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
    features[1:, BANDS] = levels.diff() * STEP_WEIGHT
    return features
