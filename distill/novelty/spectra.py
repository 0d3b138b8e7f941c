"""Spectra of codes in bands, and their index: finds copies in other codes, shifted by less than a frame, or softer."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codec.constants import PLAIN_LEVELS
from distill.codec.model import VQVAE
from distill.codec.search import KERNEL_FRAMES, REACH
from distill.codec.streaming import runs
from distill.novelty.alignment import Costs, Flags, Windows
from distill.novelty.constants import ALIKE_DB, MOST_GAIN_DB, UNLIKE_DB
from distill.novelty.index import Index, Sound

BANDS = 20
MOST_FRAMES = 1 << 13  # at once
STEP_WEIGHT = 0.5  # weight of the change of level, against that of a band, in the lag search

Spectra = NDArray[np.float32]  # [F, BANDS], dB


class CodeSpectra:
    """Mel spectra of codes, summed from a table of codewords' contributions: quantizer and projection are linear."""

    @torch.no_grad()
    def __init__(self, codec: VQVAE) -> None:
        books, kernels = codec.quantizer.codebooks, codec.quantizer.kernels
        latents = torch.eye(books.shape[2], device=books.device)
        self._offset = band_levels(codec, codec.unproject(torch.zeros_like(latents[:1])))
        bands = band_levels(codec, codec.unproject(latents)) - self._offset  # [D, BANDS]
        kernel_of = (torch.arange(len(books)) >= PLAIN_LEVELS).long()
        parts = (books[:, None] * kernels[kernel_of][:, :, None]) @ bands  # [Q, KERNEL_FRAMES, V, BANDS]
        table = nn.functional.pad(parts, (0, 0, 0, 1))  # the last row: padding, no codeword
        self._silence = books.shape[1]
        self._first = torch.arange(table[..., 0, 0].numel()).view(table.shape[:2]) * table.shape[2]
        self._table = table.flatten(0, 2).cpu()

    def __call__(self, codes: NDArray[np.integer]) -> Spectra:
        """Codes `[F, Q]` to spectra in dB, `[F, BANDS]`."""
        return self.joined([codes])

    @torch.no_grad()
    def joined(self, recordings: Sequence[NDArray[np.integer]]) -> Spectra:
        """Spectra of the codes `[F, Q]` of several recordings, end to end, each as if alone."""
        result = np.empty((sum(map(len, recordings)), BANDS), dtype=np.float32)
        done = 0
        for run in runs(((len(codes), codes) for codes in recordings), MOST_FRAMES):
            for spectra in self._of_run(run):
                result[done : done + len(spectra)] = spectra
                done += len(spectra)
        return result

    def _of_run(self, run: Sequence[NDArray[np.integer]]) -> Iterator[Spectra]:
        """Spectra of recordings that are computed together; MOST_FRAMES at a time of a longer one."""
        gap = np.full((REACH, run[0].shape[1]), self._silence, dtype=np.int64)
        padded = np.concatenate([part for codes in run for part in (gap, codes.astype(np.int64), gap)])
        around = torch.from_numpy(padded).unfold(0, KERNEL_FRAMES, 1)  # [frames and gaps, Q, KERNEL_FRAMES]
        inside = np.concatenate([np.arange(len(codes) + 2 * REACH) < len(codes) for codes in run])[: len(around)]
        for start in range(0, len(around), MOST_FRAMES):
            own = torch.from_numpy(inside[start : start + MOST_FRAMES])
            rows = (around[start : start + MOST_FRAMES][own] + self._first).flatten(1)
            spectra: Spectra = (nn.functional.embedding_bag(rows, self._table, mode="sum") + self._offset.cpu()).numpy()
            yield spectra


def band_levels(codec: VQVAE, features: Tensor) -> Tensor:
    """Band levels in dB `[F, BANDS]` of decoded features `[F, C]`: an affine map."""
    config = codec.spectrogram
    log_mel = features[:, : config.coarse_features].view(len(features), config.stack, -1).mean(dim=1)
    return 20 * nn.functional.adaptive_avg_pool1d(log_mel, BANDS)


class SpectralIndex(Index):
    """Index of recordings' spectra `[F, BANDS]`, searched by alignment.

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
        difference = sound - self.frames[windows.frames]  # [K, F, BANDS]
        gains = windows.per_piece(difference.mean(axis=2, dtype=np.float64)) / windows.lengths
        each: NDArray[np.float32] = np.repeat(
            gains.clip(-MOST_GAIN_DB, MOST_GAIN_DB).astype(np.float32), windows.lengths
        )
        each = each.reshape(windows.frames.shape)
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
    """Features `[F, BANDS + 2]` of the lag search: spectrum without its level, change of level, and a zero column."""
    spectrum = torch.from_numpy(sound)
    levels = spectrum.mean(dim=1)
    features = torch.zeros(len(sound), BANDS + 2)
    torch.sub(spectrum, levels[:, None], out=features[:, :BANDS])
    features[1:, BANDS] = levels.diff() * STEP_WEIGHT
    return features
