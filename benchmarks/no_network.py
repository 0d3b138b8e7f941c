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
from scipy.cluster.vq import vq
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torchaudio.functional import griffinlim
from torchaudio.transforms import MelSpectrogram

N_MELS = 100
STACK = 2  # spectrogram frames in a code frame


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
        mel = MelSpectrogram(
            sample_rate, 4 * hop_length, hop_length=hop_length, n_mels=N_MELS, power=1.0
        )
        frames = torch.cat([_stacked(mel, recording) for recording in recordings])
        mean = frames.mean(dim=0)
        components = torch.linalg.svd(frames - mean, full_matrices=False).Vh[:64].T.contiguous()
        residual = ((frames - mean) @ components).numpy()
        codebooks = []
        clusters = min(codebook_size, len(residual))
        with warnings.catch_warnings(
            action="ignore", category=ConvergenceWarning
        ):  # of silence, whose frames are alike
            for _ in range(num_quantizers):
                kmeans = KMeans(clusters, n_init=8, max_iter=25, random_state=seed).fit(residual)
                residual = residual - kmeans.cluster_centers_[kmeans.labels_]
                codebooks.append(kmeans.cluster_centers_)
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
        latents = torch.stack(
            [book[level] for book, level in zip(self.codebooks, codes.T, strict=True)]
        ).sum(dim=0)
        log_mel = (latents @ self.components.T + self.mean).reshape(-1, N_MELS)
        magnitude = (10.0**log_mel @ torch.linalg.pinv(self.mel.mel_scale.fb)).clamp_min(0.0)
        n_fft, hop_length = self.mel.n_fft, self.mel.hop_length
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            audio: Tensor = griffinlim(
                magnitude.T,
                window=torch.hann_window(n_fft),
                n_fft=n_fft,
                hop_length=hop_length,
                win_length=n_fft,
                power=1.0,
                n_iter=32,
                momentum=0.99,
                length=(len(magnitude) - 1) * hop_length,
                rand_init=True,
            )
        return audio


def _stacked(mel: MelSpectrogram, sound: Tensor) -> Tensor:
    """Stacked log-mel frames `[F, STACK * N_MELS]` of samples `[N]`, zero-padded to at least N samples."""
    hop = mel.hop_length
    frames = max(
        STACK, -(-(len(sound) + hop) // (STACK * hop))
    )  # reflection padding needs two frames
    sound = nn.functional.pad(sound, (0, (STACK * frames - 1) * hop - len(sound)))
    log_mel: Tensor = mel(sound).clamp_min(1e-5).log10()
    return log_mel.T.reshape(frames, STACK * N_MELS)
