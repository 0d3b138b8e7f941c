"""Codec of the original plan: log-mel spectrograms of one second, 2-D convolutions, residual VQ, Griffin-Lim.

A second is a log-mel spectrogram `[1, 128, 94]`. Four convolutions of stride 2 reduce it to 8 x 6 positions, three
codebooks quantise each, transposed convolutions reconstruct it. Loss: L1 at four scales (full resolution and averages
over 2 x 2, 4 x 4 and 8 x 8) plus commitment. The phase comes from 128 iterations of Griffin-Lim.
"""

import itertools
import math
import time
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torchaudio.transforms import InverseMelScale, MelSpectrogram

from benchmarks.no_network import LOG_FLOOR, griffin_lim

N_MELS, PICTURE_FRAMES = 128, 94
ROWS, COLUMNS = 8, 6  # positions of a picture
CHANNELS = (32, 64, 128, 256)
LATENT_SIZE = 64
LEVELS = 3
SCALES = (1, 2, 4, 8)
COMMITMENT_WEIGHT = 0.25
BATCH_SIZE = 16
FIRST_BATCH = 64  # size of the batch that initialises the codebooks by k-means
LEARNING_RATE = 1e-3
GRIFFIN_LIM_ROUNDS = 128
VALIDATION_SECONDS = 5.0
MAX_VALIDATION_PICTURES = 64


class OriginalCodec(nn.Module):
    """Codec of the original plan; train it with `train_original`."""

    mean: Tensor  # of the training pictures
    deviation: Tensor

    def __init__(self, sample_rate: int, hop_length: int, codebook_size: int, ema_decay: float) -> None:
        from vector_quantize_pytorch import ResidualVQ  # slow to import

        super().__init__()
        self.sample_rate, self.hop_length, self.codebook_size = sample_rate, hop_length, codebook_size
        n_fft = 4 * hop_length
        # Slaney's scale: on the HTK scale the lowest of 128 filters fall between two bins and cannot be inverted.
        self.mel = MelSpectrogram(
            sample_rate, n_fft, hop_length=hop_length, n_mels=N_MELS, power=1.0, mel_scale="slaney"
        )
        self.inverse_mel = InverseMelScale(n_fft // 2 + 1, N_MELS, sample_rate, mel_scale="slaney")
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        widths = (1, *CHANNELS)
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        columns = PICTURE_FRAMES
        for inner, outer in itertools.pairwise(widths):
            down += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.BatchNorm2d(outer), nn.ReLU()]
            even = (1, 1 - columns % 2)  # undo the rounding of the stride
            mirrored = nn.ConvTranspose2d(outer, inner, 3, stride=2, padding=1, output_padding=even)
            up = [mirrored, *([nn.BatchNorm2d(inner), nn.ReLU()] if inner > 1 else []), *up]
            columns = -(-columns // 2)
        self.encoder = nn.Sequential(*down, nn.Conv2d(CHANNELS[-1], LATENT_SIZE, 1))
        self.decoder = nn.Sequential(nn.Conv2d(LATENT_SIZE, CHANNELS[-1], 1), *up)
        self.quantizer = ResidualVQ(
            dim=LATENT_SIZE,
            codebook_size=codebook_size,
            num_quantizers=LEVELS,
            decay=ema_decay,
            kmeans_init=True,
            commitment_weight=COMMITMENT_WEIGHT,
            threshold_ema_dead_code=2,
            rotation_trick=False,
            sync_codebook=False,
        )

    @property
    def bits_per_second(self) -> float:
        """Bitrate of a fixed-length code."""
        seconds = PICTURE_FRAMES * self.hop_length / self.sample_rate
        return ROWS * COLUMNS * LEVELS * math.log2(self.codebook_size) / seconds

    def pictures(self, sound: Tensor) -> Tensor:
        """Log-mel spectrograms `[P, 1, N_MELS, PICTURE_FRAMES]` of samples `[N]`, zero-padded."""
        piece = PICTURE_FRAMES * self.hop_length
        count = -(-(len(sound) + self.hop_length) // piece)
        frames = self.mel(nn.functional.pad(sound, (0, count * piece - len(sound))))[:, :-1]
        log_mel = frames.clamp_min(LOG_FLOOR).log10()
        return cast(Tensor, log_mel).reshape(N_MELS, count, PICTURE_FRAMES).transpose(0, 1)[:, None]

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruct spectrograms `[P, 1, N_MELS, PICTURE_FRAMES]`; also returns the weighted commitment loss."""
        quantized, _, commitment = self.quantizer(self._latents(pictures))
        return self._pictures(quantized), commitment.sum()

    @torch.no_grad()
    def encode(self, sound: Tensor) -> Tensor:
        """Encode samples `[N]` to codes `[P * 48, Q]`."""
        _, codes, _ = self.quantizer(self._latents(self.pictures(sound)))
        return cast(Tensor, codes).flatten(0, 1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes `[P * 48, Q]` to at least as many samples as were encoded."""
        latents = self.quantizer.get_output_from_indices(codes.reshape(-1, ROWS * COLUMNS, LEVELS))
        magnitude = self.inverse_mel(10.0 ** _joined(self._pictures(latents)))
        return griffin_lim(magnitude, 4 * self.hop_length, self.hop_length, GRIFFIN_LIM_ROUNDS)

    def _latents(self, pictures: Tensor) -> Tensor:
        latents: Tensor = self.encoder((pictures - self.mean) / self.deviation)
        return latents.flatten(2).transpose(1, 2)

    def _pictures(self, latents: Tensor) -> Tensor:
        grid = latents.transpose(1, 2).reshape(-1, LATENT_SIZE, ROWS, COLUMNS)
        return cast(Tensor, self.decoder(grid) * self.deviation + self.mean)


def picture_loss(estimate: Tensor, reference: Tensor) -> Tensor:
    """Multi-scale L1 of spectrograms `[P, 1, N_MELS, PICTURE_FRAMES]`: mean over `SCALES`, a scalar."""
    distances = [
        (nn.functional.avg_pool2d(estimate, scale) - nn.functional.avg_pool2d(reference, scale)).abs().mean()
        for scale in SCALES
    ]
    return torch.stack(distances).mean()


def train_original(
    codec: OriginalCodec,
    recordings: Sequence[Tensor],
    held_out: Sequence[Tensor],
    seconds: float,
    seed: int,
    device: torch.device,
) -> float:
    """Train for `seconds` of wall-clock time and keep the weights of the lowest held-out loss. Returns the seconds.

    `recordings` and `held_out` are `[N]` each. The learning rate has a cosine schedule down to a twentieth.
    """
    began = time.perf_counter()
    with torch.no_grad():
        timeline = torch.cat([_joined(codec.pictures(one)) for one in recordings], dim=1)
        validation = torch.cat([codec.pictures(one) for one in held_out])[:MAX_VALIDATION_PICTURES].to(device)
    codec.mean.copy_(timeline.mean())
    codec.deviation.copy_(timeline.std())
    codec.to(device)
    optimizer = torch.optim.AdamW(codec.parameters(), lr=LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    best_loss, best = math.inf, {key: value.clone() for key, value in codec.state_dict().items()}
    elapsed, judged, size = 0.0, 0.0, FIRST_BATCH
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        while elapsed < seconds:
            starts = torch.randint(timeline.shape[1] - PICTURE_FRAMES + 1, (size,), generator=generator).tolist()
            batch = torch.stack([timeline[:, start : start + PICTURE_FRAMES] for start in starts])[:, None].to(device)
            share = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * elapsed / seconds))
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * share
            estimate, commitment = codec.train()(batch)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward([picture_loss(estimate, batch) + commitment])
            optimizer.step()
            size = BATCH_SIZE
            elapsed = time.perf_counter() - began
            if elapsed - judged >= VALIDATION_SECONDS or elapsed >= seconds:
                judged = elapsed
                with torch.no_grad():
                    loss = float(picture_loss(codec.eval()(validation)[0], validation))
                if loss < best_loss:
                    best_loss, best = loss, {key: value.clone() for key, value in codec.state_dict().items()}
    codec.load_state_dict(best)
    codec.cpu().eval()
    return time.perf_counter() - began


def _joined(pictures: Tensor) -> Tensor:
    """Concatenate spectrograms `[P, 1, N_MELS, PICTURE_FRAMES]` in time: `[N_MELS, P * PICTURE_FRAMES]`."""
    return pictures[:, 0].transpose(0, 1).flatten(1)
