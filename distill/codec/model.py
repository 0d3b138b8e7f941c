"""The codec: waveform to log-mel frames to latents to residual codes, and back through a learnt inverse STFT.

Training refines a codec without networks. The encoder is a principal component projection of log-mel frames, weighted
as the loss weighs them, plus a learnt residual that is initialised to zero. The decoder takes the magnitude that the
pseudo-inverse of the mel filters gives, adds a learnt residual to its logarithm and learns the phase.

Shapes: B batch, N samples, F code frames, Q levels, V codebook size, D latent size.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, NamedTuple, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from distill.codec.convnext import ConvNeXtStack
from distill.codec.packing import PackedRow, inside_mask, runs
from distill.codec.quantizer import ResidualQuantizer
from distill.codec.residual_vq import PlainResidualQuantizer
from distill.codec.search import REACH
from distill.codec.spectral import LOG_FLOOR, FrameFeatures, InverseSTFT, SpectrogramConfig, mel_filterbank
from distill.params import CodebookSize, CodecLayers, CodecWidth, LatentSize, Levels, Quantizer, Settings

ENCODER_LAYERS = 2
CHUNK_FRAMES = 512  # code frames processed at once, of a long sound or of several short ones: 11 s at 24 kHz
HOPS_AT_ONCE = 256  # hops whose spectra are computed at once: more do not fit a processor's cache
COARSE_WEIGHT, FINE_WEIGHT = 4.0, 2.0  # shares of the two spectrograms in the projection's squared error
CENTRE = -2.0  # of log10 mel amplitudes, so that the networks' inputs lie around 0 whatever the corpus
MAX_LOG_MEL = 4.0  # log10, far above a full-scale sound, too
MAX_LOG_MAGNITUDE = 7.0  # e^7 is far above any bin of a full-scale sound; stops an overflow, nothing else


class CodecShape(Settings):
    """Sizes that, with the spectrogram, decide the shape of every tensor of the codec.

    JSON leaves out the default quantizer, as files written before there was a choice do.
    """

    codebook_size: CodebookSize
    num_quantizers: Levels
    latent_size: LatentSize
    hidden_size: CodecWidth
    num_layers: CodecLayers
    quantizer: Annotated[Quantizer, Field(exclude_if=lambda value: value == "overlapping")] = "overlapping"


class VQVAEArchitecture(CodecShape):
    """Spectrogram and sizes: they decide the shape of every tensor of the codec."""

    spectrogram: SpectrogramConfig

    @property
    def parameters(self) -> int:
        """Lower bound of the number of weights."""
        tables = (2 * self.num_quantizers * self.codebook_size + self.spectrogram.features) * self.latent_size
        return tables + (6 * self.num_layers * self.hidden_size + self.spectrogram.n_fft) * self.hidden_size


class VQVAEOutput(NamedTuple):
    """Reconstruction `audio` `[B, N]`, `codes` `[B, F, Q]` and scalar `commit_loss`."""

    audio: Tensor
    codes: Tensor
    commit_loss: Tensor


class VQVAE(nn.Module):
    """Residual-VQ codec of mono sound.

    `dropout`, `ema_decay` and `dead_code_threshold` (of `PlainResidualQuantizer`) act in training mode only.
    """

    def __init__(
        self,
        architecture: VQVAEArchitecture,
        dropout: float = 0.0,
        ema_decay: float = 0.99,
        dead_code_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.spectrogram = spectrogram = architecture.spectrogram
        self.frame_features = FrameFeatures(spectrogram)
        self.inverse_stft = InverseSTFT(spectrogram)
        self.register_buffer("mean", torch.zeros(spectrogram.features))
        self.register_buffer("components", torch.eye(spectrogram.features, architecture.latent_size))
        self.register_buffer("weights", _feature_weights(spectrogram), persistent=False)
        bank = mel_filterbank(spectrogram.sample_rate, spectrogram.n_fft, spectrogram.n_mels)
        self.register_buffer("inverse_bank", torch.linalg.pinv(bank), persistent=False)
        self.register_buffer("phase_advance", _phase_advance(spectrogram.n_fft // 2 + 1), persistent=False)
        self.encoder = ConvNeXtStack(spectrogram.features, architecture.hidden_size // 2, ENCODER_LAYERS, dropout)
        self.to_latent = nn.Linear(architecture.hidden_size // 2, architecture.latent_size)
        sizes = (architecture.latent_size, architecture.codebook_size, architecture.num_quantizers, ema_decay)
        self.quantizer: ResidualQuantizer | PlainResidualQuantizer = (
            PlainResidualQuantizer(*sizes, dead_code_threshold)
            if architecture.quantizer == "residual"
            else ResidualQuantizer(*sizes)
        )
        self.decoder = ConvNeXtStack(
            spectrogram.features_per_hop, architecture.hidden_size, architecture.num_layers, dropout
        )
        self.head = nn.Linear(architecture.hidden_size, 2 * (spectrogram.n_fft // 2 + 1))
        nn.init.zeros_(self.to_latent.weight)
        nn.init.zeros_(self.to_latent.bias)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.head.weight.data[: spectrogram.n_fft // 2 + 1] = 0.0

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.head.weight.device

    def forward(self, audio: Tensor) -> VQVAEOutput:
        """Reconstruct audio `[B, N]`, N a multiple of `samples_per_frame`."""
        margin = self.spectrogram.margin
        latents = self.latents(nn.functional.pad(audio, (margin, margin)))
        quantized = self.quantizer(latents)
        return VQVAEOutput(self.synthesise(quantized.latents), quantized.codes, quantized.commit_loss)

    def features(self, audio: Tensor) -> Tensor:
        """Log-mel features `[B, F, features]` of samples `[B, margin + F * samples_per_frame + margin]`."""
        with torch.autocast(audio.device.type, enabled=False):
            return cast(Tensor, self.frame_features(audio.float()))

    def project(self, features: Tensor) -> Tensor:
        """Weighted principal components `[..., D]` of features `[..., features]`."""
        weighted = (features - cast(Tensor, self.mean)) * cast(Tensor, self.weights)
        latents: Tensor = weighted @ cast(Tensor, self.components)
        return latents

    def unproject(self, latents: Tensor) -> Tensor:
        """Features `[..., features]` of latents `[..., D]`: the inverse of `project`, up to the components left out."""
        weighted = latents @ cast(Tensor, self.components).T
        return weighted / cast(Tensor, self.weights) + cast(Tensor, self.mean)

    def latents(self, audio: Tensor, inside: Tensor | None = None) -> Tensor:
        """Latents `[B, F, D]` before quantisation of samples `[B, margin + F * samples_per_frame + margin]`.

        `inside` `[F]` is 0 in gaps between sounds and 1 elsewhere.
        """
        features = self.features(audio)
        residual = self.to_latent(self.encoder(features - CENTRE, inside))
        with torch.autocast(audio.device.type, enabled=False):
            latents: Tensor = self.project(features) + residual.float()
        return latents

    def synthesise(self, latents: Tensor, positions: Tensor | None = None) -> Tensor:
        """Samples `[B, F * samples_per_frame]` of latents `[B, F, D]`; `positions` as for `decode_features`."""
        with torch.autocast(latents.device.type, enabled=False):
            features = self.unproject(latents.float())
        return self.decode_features(features, positions)

    def decode_features(self, features: Tensor, positions: Tensor | None = None) -> Tensor:
        """Samples `[B, F * samples_per_frame]` of log-mel features `[B, F, features]`.

        `positions` `[F]` are the frames' positions in their sound, 0 to F - 1 if None, and -1 in gaps between sounds.
        """
        stack = self.spectrogram.stack
        inside = None if positions is None else inside_mask(positions.repeat_interleave(stack))
        if positions is None:
            positions = torch.arange(features.shape[1], device=features.device)
        with torch.autocast(features.device.type, enabled=False):
            log_mel, fine = self.frame_features.by_hop(features)
            inputs = torch.cat([log_mel, fine], dim=2) - CENTRE
        hidden = self.decoder(inputs, inside)
        with torch.autocast(features.device.type, enabled=False):
            hops = (positions[:, None] * stack + torch.arange(stack, device=positions.device)).flatten()
            advance = cast(Tensor, self.phase_advance)[hops % 4]
            together = HOPS_AT_ONCE if hidden.device.type == "cpu" else len(hops)
            parts = zip(*(x.split(together, dim=-2) for x in (log_mel, hidden, advance)), strict=True)
            windows = [self._windows(*part) for part in parts]
            return self.inverse_stft.overlap_add(torch.cat(windows, dim=1), inside)

    def _windows(self, log_mel: Tensor, hidden: Tensor, advance: Tensor) -> Tensor:
        """Windows `[B, T, n_fft]` to overlap-add. In fp32: bf16 would round a phase to a hundredth of a cycle."""
        base = (10.0 ** log_mel.clamp_max(MAX_LOG_MEL) @ cast(Tensor, self.inverse_bank)).clamp_min(LOG_FLOOR).log()
        magnitude, phase = self.head(hidden).chunk(2, dim=-1)
        phase = phase + advance
        magnitude = (base + magnitude).clamp_max(MAX_LOG_MAGNITUDE).exp()
        return self.inverse_stft.windows(torch.complex(magnitude * phase.cos(), magnitude * phase.sin()))

    @torch.no_grad()
    def encode(self, audio: Tensor, chunk_frames: int = CHUNK_FRAMES) -> Tensor:
        """Codes `[B, frames_for(N), Q]` of samples `[B, N]`; `chunk_frames` bounds memory, not the result."""
        return self.encode_from(lambda start, stop: audio[:, start:stop], audio.shape[1], chunk_frames)

    @torch.no_grad()
    def encode_from(self, read: Callable[[int, int], Tensor], samples: int, chunk_frames: int = CHUNK_FRAMES) -> Tensor:
        """Codes `[B, frames_for(samples), Q]` of audio that `read(start, stop)` returns in pieces `[B, stop - start]`.

        Memory grows with the result alone.
        """
        margin, step = self.spectrogram.margin, self.spectrogram.samples_per_frame
        frames, context = self.spectrogram.frames_for(samples), self.quantizer.search_context
        # Allocated once and filled: pieces kept between short-lived tensors would fragment memory.
        codes = torch.empty(0, dtype=torch.int64)
        for start in range(0, frames, chunk_frames):
            stop = min(frames, start + chunk_frames)
            searched, until = max(0, start - context), min(frames, stop + context)
            first, last = max(0, searched - self.encoder.context), min(frames, until + self.encoder.context)
            begin, end = first * step - margin, last * step + margin
            piece = read(max(0, begin), min(samples, end))
            piece = nn.functional.pad(piece, (max(0, -begin), end - max(0, begin) - piece.shape[1]))
            latents = self.latents(piece)[:, searched - first : until - first]
            positions = torch.arange(searched, until, device=latents.device)
            found = self.quantizer.search(latents, positions)
            if not start:
                codes = found.new_empty(len(found), frames, found.shape[2])
            codes[:, start:stop] = found[:, start - searched : stop - searched]
        return codes

    def encode_each(self, sounds: Iterable[Tensor]) -> Iterator[Tensor]:
        """Codes `[F, Q]` of every sound `[N]`, in order; short ones are packed."""
        for run in runs(((self.spectrogram.frames_for(len(sound)), sound) for sound in sounds), CHUNK_FRAMES):
            yield from self.encode_together(run) if len(run) > 1 else self.encode(run[0][None].to(self.device))

    def decode_each(self, codes: Iterable[Tensor]) -> Iterator[Tensor]:
        """Samples `[F * samples_per_frame]` of every sound's codes `[F, Q]`, in order; short ones are packed."""
        for run in runs(((len(one), one) for one in codes), CHUNK_FRAMES):
            yield from self.decode_together(run) if len(run) > 1 else self.decode(run[0][None].to(self.device))

    @torch.no_grad()
    def encode_together(self, sounds: Sequence[Tensor]) -> list[Tensor]:
        """Codes `[F, Q]` of each of several sounds `[N]`, equal to those of each alone, in one pass."""
        row = PackedRow([self.spectrogram.frames_for(len(sound)) for sound in sounds])
        margin, positions = self.spectrogram.margin, row.positions.to(self.device)
        audio = row.pack(sounds, self.spectrogram.samples_per_frame).to(self.device)
        latents = self.latents(nn.functional.pad(audio, (margin, margin)), inside_mask(positions))
        return row.unpack(self.quantizer.search(latents, positions))

    @torch.no_grad()
    def decode_together(self, codes: Sequence[Tensor]) -> list[Tensor]:
        """Samples `[F * samples_per_frame]` of each of several sounds' codes `[F, Q]`, in one pass."""
        row = PackedRow([len(one) for one in codes])
        positions = row.positions.to(self.device)
        latents = self.quantizer.decode(row.pack(codes).to(self.device), inside_mask(positions))
        return row.unpack(self.synthesise(latents, positions), self.spectrogram.samples_per_frame)

    @torch.no_grad()
    def decode(self, codes: Tensor, chunk_frames: int = CHUNK_FRAMES) -> Tensor:
        """Samples `[B, F * samples_per_frame]` of codes `[B, F, Q]`. Memory grows with the result alone."""
        frames, step = codes.shape[1], self.spectrogram.samples_per_frame
        overlap = self.spectrogram.n_fft // self.spectrogram.hop_length
        context = -(-(self.decoder.context + overlap) // self.spectrogram.stack)
        audio = torch.empty(len(codes), frames * step, device=codes.device)
        for start in range(0, frames, chunk_frames):
            stop = min(frames, start + chunk_frames)
            first, last = max(0, start - context), min(frames, stop + context)
            summed, until = max(0, first - REACH), min(frames, last + REACH)
            latents = self.quantizer.decode(codes[:, summed:until])[:, first - summed : last - summed]
            piece = self.synthesise(latents, torch.arange(first, last, device=latents.device))
            audio[:, start * step : stop * step] = piece[:, (start - first) * step : (stop - first) * step]
        return audio

    @torch.no_grad()
    def fit_projection(self, features: Tensor) -> None:
        """Set the projection to the principal components of features `[n, features]`."""
        mean = features.mean(dim=0)
        weighted = (features - mean) * cast(Tensor, self.weights)
        _, vectors = torch.linalg.eigh(weighted.double().T.cov())
        components = vectors.flip(1)[:, : self.architecture.latent_size]
        # An eigenvector's sign is arbitrary: fix it, so that equal inputs give equal files on every LAPACK.
        signs = components.gather(0, components.abs().argmax(dim=0, keepdim=True)).sign()
        cast(Tensor, self.mean).copy_(mean)
        cast(Tensor, self.components).copy_((components * signs).float())


def _feature_weights(spectrogram: SpectrogramConfig) -> Tensor:
    """Weight of each feature in the projection, `[features]`, of mean square 1."""
    coarse = spectrogram.stack * spectrogram.n_mels
    fine = spectrogram.features - coarse
    shares = torch.tensor([COARSE_WEIGHT / coarse] * coarse + [FINE_WEIGHT / fine] * fine)
    return (shares / shares.mean()).sqrt()


def _phase_advance(bins: int) -> Tensor:
    """Phase of each bin's centre frequency at spectrogram frames 0 to 3, `[4, bins]` in radians; then it repeats.

    A hop is a quarter of the window, so the phase of bin k advances by k quarters of a cycle a frame. k halves more put
    a pulse in the middle of its window, where it is loudest. The network predicts the difference: a convolution over a
    steady tone cannot count frames, and without this its phase would stand still.
    """
    return ((torch.arange(4)[:, None] + 2) * torch.arange(bins) % 4).float() * (torch.pi / 2)
