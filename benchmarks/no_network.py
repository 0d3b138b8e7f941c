"""Codec without a network: PCA and residual k-means of log-mel frames, Griffin-Lim.

A trained codec has to beat it. It shares no code with the library, so that mistakes there are not repeated here.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2, vq
from torch import Tensor, nn
from torchaudio.functional import griffinlim
from torchaudio.transforms import MelSpectrogram

N_MELS = 100
STACK = 2  # spectrogram frames in a code frame
COMPONENTS = 64
KMEANS_STARTS, KMEANS_ROUNDS = 8, 25
GRIFFIN_LIM_ROUNDS = 32
LOG_FLOOR = 1e-5


@dataclass(frozen=True, eq=False)
class NoNetworkCodec:
    """PCA and residual k-means codec; construct it with `fit`."""

    mel: MelSpectrogram
    mean: Tensor  # [STACK * N_MELS]
    components: Tensor  # [STACK * N_MELS, D]
    codebooks: Tensor  # [Q, V, D]

    @classmethod
    def fit(
        cls,
        recordings: Sequence[Tensor],
        sample_rate: int,
        hop_length: int,
        num_quantizers: int,
        codebook_size: int,
        seed: int,
    ) -> Self:
        """Fit projection and codebooks to training recordings `[N]`."""
        mel = MelSpectrogram(sample_rate, 4 * hop_length, hop_length=hop_length, n_mels=N_MELS, power=1.0)
        frames = torch.cat([_stacked(mel, recording) for recording in recordings])
        mean = frames.mean(dim=0)
        components = torch.linalg.svd(frames - mean, full_matrices=False).Vh[:COMPONENTS].T.contiguous()
        residual = ((frames - mean) @ components).numpy()
        codebooks = []
        generator = np.random.default_rng(seed)
        for _ in range(num_quantizers):
            codebook, nearest = _kmeans(residual, codebook_size, generator)
            residual = residual - codebook[nearest]
            codebooks.append(codebook)
        return cls(mel, mean, components, torch.from_numpy(np.stack(codebooks)).float())

    @property
    def bits_per_second(self) -> float:
        """Bitrate of a fixed-length code."""
        levels, codewords, _ = self.codebooks.shape
        frame_rate = float(self.mel.sample_rate / (STACK * self.mel.hop_length))
        return frame_rate * levels * math.log2(codewords)

    def encode(self, sound: Tensor) -> Tensor:
        """Encode samples `[N]` to codes `[F, Q]`."""
        residual = ((_stacked(self.mel, sound) - self.mean) @ self.components).numpy()
        codes = []
        for codebook in self.codebooks.numpy():
            nearest, _ = vq(residual, codebook)
            residual = residual - codebook[nearest]
            codes.append(torch.from_numpy(nearest).long())
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes `[F, Q]` to at least as many samples as were encoded."""
        latents = torch.stack([book[level] for book, level in zip(self.codebooks, codes.T, strict=True)]).sum(dim=0)
        log_mel = (latents @ self.components.T + self.mean).reshape(-1, N_MELS)
        magnitude = (10.0**log_mel @ torch.linalg.pinv(self.mel.mel_scale.fb)).clamp_min(0.0)
        return griffin_lim(magnitude.T, self.mel.n_fft, self.mel.hop_length, GRIFFIN_LIM_ROUNDS)


def griffin_lim(magnitude: Tensor, n_fft: int, hop_length: int, rounds: int) -> Tensor:
    """Griffin-Lim with a fixed seed: magnitudes `[n_fft // 2 + 1, T]` to samples `[(T - 1) * hop_length]`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        audio: Tensor = griffinlim(
            magnitude,
            window=torch.hann_window(n_fft),
            n_fft=n_fft,
            hop_length=hop_length,
            win_length=n_fft,
            power=1.0,
            n_iter=rounds,
            momentum=0.99,
            length=(magnitude.shape[1] - 1) * hop_length,
            rand_init=True,
        )
    return audio


def _stacked(mel: MelSpectrogram, sound: Tensor) -> Tensor:
    """Stacked log-mel frames `[F, STACK * N_MELS]` of samples `[N]`, zero-padded to at least N samples."""
    hop = mel.hop_length
    frames = max(STACK, -(-(len(sound) + hop) // (STACK * hop)))  # reflection padding needs two frames
    sound = nn.functional.pad(sound, (0, (STACK * frames - 1) * hop - len(sound)))
    log_mel: Tensor = mel(sound).clamp_min(LOG_FLOOR).log10()
    return log_mel.T.reshape(frames, STACK * N_MELS)


def _kmeans(
    points: NDArray[np.float32], clusters: int, generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """k-means, best of KMEANS_STARTS runs: centres `[clusters, D]` and the nearest one of `points` `[n, D]`."""
    # Equal starts, as silence would give, leave a cluster empty; spare ones are unavoidable with few distinct points.
    distinct = np.unique(points, axis=0)
    best = None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty")
        for _ in range(KMEANS_STARTS):
            start = generator.choice(distinct, clusters, replace=len(distinct) < clusters)
            centres, nearest = kmeans2(points, start, iter=KMEANS_ROUNDS, minit="matrix")
            error = float(np.square(points - centres[nearest]).sum())
            if best is None or error < best[0]:
                best = (error, centres, nearest)
    assert best is not None
    return best[1], best[2]
