"""The codec: waveform to log-mel frames to latents to residual codes, and back through a learnt inverse STFT.

It starts where a codec without a network ends. The encoder is a principal component projection of two stacked
log-mel frames plus a learnt residual that begins at zero; the decoder takes the magnitude that the pseudo-inverse
of the mel filters gives, adds a learnt residual to its logarithm and learns the phase.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from distill.models.convnext import ConvNeXtStack
from distill.models.quantizer import ResidualQuantizer
from distill.models.spectral import LOG_FLOOR, InverseSTFT, LogMel, SpectrogramConfig, mel_filterbank
from distill.params import CodebookSize, CodecLayers, CodecWidth, LatentSize, Levels, Settings

ENCODER_LAYERS = 2
CHUNK_FRAMES = 512  # code frames in flight at once when a long sound is encoded or decoded: 11 s at 24 kHz
MAX_LOG_MAGNITUDE = 7.0  # e^7 is far above any bin of a full-scale sound; stops an overflow, nothing else


class CodecShape(Settings):
    """What, with the spectrogram, decides the shape of every tensor of the codec."""

    codebook_size: CodebookSize
    num_quantizers: Levels
    latent_size: LatentSize
    hidden_size: CodecWidth
    num_layers: CodecLayers


class VQVAEArchitecture(CodecShape):
    """What decides the shape of every tensor of the codec."""

    spectrogram: SpectrogramConfig


class VQVAEOutput(NamedTuple):
    """`audio` `[B, N]`, `codes` `[B, F, Q]`, `commit_loss` scalar."""

    audio: Tensor
    codes: Tensor
    commit_loss: Tensor


class VQVAE(nn.Module):
    """Residual-VQ codec of mono sound. `dropout` and `ema_decay` act in training mode only."""

    def __init__(self, architecture: VQVAEArchitecture, dropout: float = 0.0, ema_decay: float = 0.99) -> None:
        super().__init__()
        self.architecture = architecture
        self.spectrogram = spectrogram = architecture.spectrogram
        features = spectrogram.n_mels * spectrogram.stack
        self.log_mel = LogMel(spectrogram)
        self.inverse_stft = InverseSTFT(spectrogram)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(1))
        self.register_buffer("components", torch.eye(features)[:, : architecture.latent_size].contiguous())
        bank = mel_filterbank(spectrogram.sample_rate, spectrogram.n_fft, spectrogram.n_mels)
        self.register_buffer("inverse_bank", torch.linalg.pinv(bank), persistent=False)
        self.encoder = ConvNeXtStack(features, architecture.hidden_size // 2, ENCODER_LAYERS, dropout)
        self.to_latent = nn.Linear(architecture.hidden_size // 2, architecture.latent_size)
        self.quantizer = ResidualQuantizer(
            architecture.latent_size, architecture.codebook_size, architecture.num_quantizers, ema_decay
        )
        self.decoder = ConvNeXtStack(spectrogram.n_mels, architecture.hidden_size, architecture.num_layers, dropout)
        self.head = nn.Linear(architecture.hidden_size, 2 * (spectrogram.n_fft // 2 + 1))
        nn.init.zeros_(self.to_latent.weight)
        nn.init.zeros_(self.to_latent.bias)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.head.weight.data[: spectrogram.n_fft // 2 + 1] = 0.0

    def forward(self, audio: Tensor) -> VQVAEOutput:
        """Reconstruct `[B, N]`, N a multiple of `samples_per_frame`."""
        margin = self.spectrogram.margin
        latents = self.latents(nn.functional.pad(audio, (margin, margin)))
        quantized = self.quantizer(latents)
        return VQVAEOutput(self.synthesise(quantized.latents), quantized.codes, quantized.commit_loss)

    def features(self, audio: Tensor) -> Tensor:
        """`[B, margin + F * samples_per_frame + margin]` samples to stacked log-mel frames `[B, F, stack * n_mels]`."""
        with torch.autocast(audio.device.type, enabled=False):
            log_mel = self.log_mel(audio.float())
        return cast(Tensor, log_mel).reshape(audio.shape[0], -1, self.spectrogram.stack * self.spectrogram.n_mels)

    def latents(self, audio: Tensor) -> Tensor:
        """`[B, margin + F * samples_per_frame + margin]` samples to latents `[B, F, D]` before quantisation."""
        centred = self.features(audio) - cast(Tensor, self.mean)
        residual = self.to_latent(self.encoder(centred / cast(Tensor, self.deviation)))
        with torch.autocast(audio.device.type, enabled=False):
            return cast(Tensor, centred @ cast(Tensor, self.components) + residual.float())

    def synthesise(self, latents: Tensor, start: int = 0) -> Tensor:
        """Latents `[B, F, D]` of the frames from `start` on to samples `[B, F * samples_per_frame]`."""
        n_mels = self.spectrogram.n_mels
        with torch.autocast(latents.device.type, enabled=False):
            centred = latents.float() @ cast(Tensor, self.components).T
            log_mel = (centred + cast(Tensor, self.mean)).reshape(latents.shape[0], -1, n_mels)
            inputs = centred.reshape(latents.shape[0], -1, n_mels) / cast(Tensor, self.deviation)
            base = (10.0**log_mel @ cast(Tensor, self.inverse_bank)).clamp_min(LOG_FLOOR).log()
        magnitude, phase = self.head(self.decoder(inputs)).float().chunk(2, dim=-1)
        with torch.autocast(latents.device.type, enabled=False):
            phase = phase + self._phase_advance(start * self.spectrogram.stack, phase.shape[1], phase.device)
            spectrum = torch.polar((base + magnitude).clamp_max(MAX_LOG_MAGNITUDE).exp(), phase)
            audio: Tensor = self.inverse_stft(spectrum)
        return audio

    def _phase_advance(self, start: int, count: int, device: torch.device) -> Tensor:
        """How far each bin's centre frequency has turned at spectrogram frames `start`…, `[count, n_fft // 2 + 1]`.

        A hop is a quarter of the window, so bin k turns by k quarters a frame; k halves more put a pulse in the middle
        of its window, where it is loudest. The network only adds what differs: a convolution that sees a steady tone
        cannot count frames, and without this would freeze its phase.
        """
        frames = torch.arange(start, start + count, device=device)
        bins = torch.arange(self.spectrogram.n_fft // 2 + 1, device=device)
        return ((frames[:, None] + 2) * bins % 4).float() * (torch.pi / 2)

    @torch.no_grad()
    def encode(self, audio: Tensor, chunk_frames: int = CHUNK_FRAMES) -> Tensor:
        """Samples `[B, N]` of any length to codes `[B, frames_for(N), Q]`, at memory that does not grow with N."""
        margin, step = self.spectrogram.margin, self.spectrogram.samples_per_frame
        frames = self.spectrogram.frames_for(audio.shape[1])
        context = self.encoder.context
        codes = []
        for start in range(0, frames, chunk_frames):
            stop = min(frames, start + chunk_frames)
            first, last = max(0, start - context), min(frames, stop + context)
            begin, end = first * step - margin, last * step + margin
            piece = audio[:, max(0, begin) : min(audio.shape[1], end)]
            piece = nn.functional.pad(piece, (max(0, -begin), end - max(0, begin) - piece.shape[1]))
            latents = self.latents(piece)[:, start - first : stop - first]
            codes.append(self.quantizer(latents).codes)
        return torch.cat(codes, dim=1)

    @torch.no_grad()
    def decode(self, codes: Tensor, chunk_frames: int = CHUNK_FRAMES) -> Tensor:
        """Codes `[B, F, Q]` to samples `[B, F * samples_per_frame]`, at memory that does not grow with F but by the result."""
        frames, step = codes.shape[1], self.spectrogram.samples_per_frame
        overlap = self.spectrogram.n_fft // self.spectrogram.hop_length
        context = -(-(self.decoder.context + overlap) // self.spectrogram.stack)
        audio = []
        for start in range(0, frames, chunk_frames):
            stop = min(frames, start + chunk_frames)
            first, last = max(0, start - context), min(frames, stop + context)
            piece = self.synthesise(self.quantizer.decode(codes[:, first:last]), first)
            audio.append(piece[:, (start - first) * step : (stop - first) * step])
        return torch.cat(audio, dim=1)

    @torch.no_grad()
    def fit_projection(self, features: Tensor) -> None:
        """Set the projection to the principal components of stacked log-mel frames `[n, stack * n_mels]`."""
        mean = features.mean(dim=0)
        _, vectors = torch.linalg.eigh((features - mean).double().T.cov())
        components = vectors.flip(1)[:, : self.architecture.latent_size]
        # An eigenvector's sign is arbitrary: fix it, so that equal inputs give equal files on every LAPACK.
        signs = components.gather(0, components.abs().argmax(dim=0, keepdim=True)).sign()
        cast(Tensor, self.mean).copy_(mean)
        cast(Tensor, self.deviation).copy_((features - mean).std().clamp_min(1e-3))
        cast(Tensor, self.components).copy_((components * signs).float())
