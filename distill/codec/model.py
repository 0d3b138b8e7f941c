"""The codec: waveform to log-mel frames to latents to residual codes, and back through a learnt inverse STFT.

Training refines a codec without networks. The encoder is a principal component projection of log-mel frames, weighted
as the loss weighs them, plus a learnt residual that is initialised to zero. The decoder takes the magnitude that the
pseudo-inverse of the mel filters gives, adds a learnt residual to its logarithm and learns the phase. To this it adds
noise of a learnt spectrum, and gives the whole the coded envelope, as far as it trusts it, and learnt gains.

Shapes: B batch, N samples, F code frames, T hops, Q levels, D latent size.
"""

import functools
import math
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor, nn

from distill.audio.corpus import MOST_GAIN
from distill.codec.constants import ATOM, LOUDNESS_SIZE, NOTE, NOTES, TUNINGS
from distill.codec.envelope import GAIN_STEPS, LOG_FLOOR, LOG_TEN, match_envelope, with_gains
from distill.codec.pitch import PitchAnalysis
from distill.codec.quantizer import PlainResidualQuantizer, ResidualQuantizer
from distill.codec.spectral import (
    MAX_LOG_MEL,
    FrameFeatures,
    InverseSTFT,
    SpectrogramConfig,
    inside_mask,
    mask_gaps,
    mel_filterbank,
)
from distill.codec.tone import PARTIALS, Phases, ToneLayer, Tones, atoms_of
from distill.params import CodebookSize, CodecLayers, CodecWidth, LatentSize, Levels, Quantizer, Settings
from distill.seeds import STEP, mix

LOUDNESS = "loudness"  # name of its level
TONE_NAMES = ("note", "tuning", "atom")
TONE_LEVELS = len(TONE_NAMES)
KERNEL_SIZE = 7  # of convolutions
MATRIX_PRODUCT_STEPS = 64  # of the whole batch, up to which an unfolded matrix product is faster on a CPU
COARSE_WEIGHT, FINE_WEIGHT, ENVELOPE_WEIGHT = 4.0, 2.0, 6.0  # shares in the projection's squared error
CENTRE = -2.0  # of log10 mel amplitudes, so that the networks' inputs lie around 0 whatever the corpus
HEARD_BANDS = 5.0  # log10 of amplitudes: bands that are 100 dB softer than the loudest are equally soft to networks
LEAST_WEIGHT = 0.1  # of a bin in all bands: no loss tells what sounds in bins of less, next to 0 Hz and the highest
LOUD_BANDS = 2.0  # log10 of amplitudes: bands that are 40 dB softer than the loudest are left as they are
LOUDNESS_ROUNDS = 3
NOISE_START = -3.0  # logarithm of the noise's share before training
MAX_LOG_MAGNITUDE = 7.0  # e^7 is far above any bin of a full-scale sound; stops an overflow, nothing else
TABLE_SAMPLES = 1 << 17  # of noise
LEVEL_FACTOR, POSITION_FACTOR, DRAW_FACTOR = 40_503, 2_654_435_761, 97_654_321
MIXER = 6_364_136_223_846_793_005  # of Knuth's linear congruential generator; products wrap around at 64 bits


class VQVAEArchitecture(Settings):
    """Sizes and parts of a codec: with the spectrogram they decide the shape of every tensor.

    `input_gain`, a power of two, is what samples are multiplied by before they are analysed, and what decoded ones are
    divided by: a codec of soft recordings works as one of loud ones.

    With `gain_shape` the first level codes the loudness, with `partial_sets` the next three code tones. The others, the
    shape levels, have `codebook_size` codewords.
    """

    codebook_size: CodebookSize
    num_quantizers: Levels
    latent_size: LatentSize
    hidden_size: CodecWidth
    num_layers: CodecLayers
    quantizer: Quantizer
    gain_shape: bool
    partial_sets: Annotated[int, Field(ge=0, le=1000)]  # that tones are made of; 0: none
    input_gain: Annotated[float, Field(ge=1 / MOST_GAIN, le=MOST_GAIN)] = 1.0

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        if self.gain_shape and (self.quantizer != "overlapping" or self.num_quantizers == 1):
            raise ValueError("expected gain_shape only with the overlapping quantizer and two levels or more")
        if self.partial_sets and (not self.gain_shape or self.num_quantizers <= self.first_shape):
            raise ValueError("expected partial_sets only with gain_shape and a shape level or more")
        if math.frexp(self.input_gain)[0] != 0.5:
            raise ValueError(f"expected input_gain to be a power of two, found {self.input_gain:g}")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_no_gain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        if self.input_gain == 1:  # files from before there was a gain are read, and written, as they are
            del values["input_gain"]
        return values

    @property
    def first_shape(self) -> int:
        """Number of the first shape level."""
        return self.gain_shape + (TONE_LEVELS if self.partial_sets else 0)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level: its codes are smaller. All that knows these sizes has them from here."""
        before = (LOUDNESS_SIZE, NOTES, TUNINGS, atoms_of(self.partial_sets))[: self.first_shape]
        return (*before, *[self.codebook_size] * (self.num_quantizers - self.first_shape))

    @property
    def level_names(self) -> tuple[str, ...]:
        """What people call each level; in metrics and files it is `level_0`, …."""
        before = (LOUDNESS, *TONE_NAMES)[: self.first_shape]
        return (*before, *(f"shape {number}" for number in range(1, self.num_quantizers + 1 - self.first_shape)))

    def least_weights(self, spectrogram: SpectrogramConfig) -> int:
        """Lower bound of the number of weights."""
        shape_levels = self.num_quantizers - self.first_shape
        tables = (2 * shape_levels * self.codebook_size + spectrogram.features) * self.latent_size
        tables += 2 * PARTIALS * self.partial_sets
        return tables + (6 * self.num_layers * self.hidden_size + spectrogram.n_fft) * self.hidden_size


class VQVAEOutput(NamedTuple):
    """Reconstruction `audio` `[draws * B, N]`, `codes` `[B, F, Q]` and scalar `commit_loss`."""

    audio: Tensor
    codes: Tensor
    commit_loss: Tensor


class VQVAE(nn.Module):
    """Residual-VQ codec of mono sound. Dropout and decay of moving averages act in training mode only."""

    mean: Tensor  # [features]
    components: Tensor  # [features, D]
    weights: Tensor  # [features]
    inverse_bank: Tensor  # [n_mels, bins]
    in_bands: Tensor  # [bins], 0 at the two ends
    phase_advance: Tensor  # [4, bins]

    def __init__(
        self,
        architecture: VQVAEArchitecture,
        spectrogram: SpectrogramConfig,
        dropout: float = 0.0,
        ema_decay: float = 0.99,
    ) -> None:
        super().__init__()
        self.architecture, self.spectrogram = architecture, spectrogram
        latent, hidden, bins = architecture.latent_size, architecture.hidden_size, spectrogram.n_fft // 2 + 1
        self.frame_features = FrameFeatures(spectrogram)
        self.inverse_stft = InverseSTFT(spectrogram)
        self.register_buffer("mean", torch.zeros(spectrogram.features))
        self.register_buffer("components", torch.eye(spectrogram.features, latent))
        self.register_buffer("weights", feature_weights(spectrogram), persistent=False)
        self.loudness_scale = math.sqrt(spectrogram.features)
        self.loudness_offset = math.log(spectrogram.coarse_features) / (2 * LOG_TEN)
        bank = mel_filterbank(spectrogram.sample_rate, spectrogram.n_fft, spectrogram.n_mels)
        self.register_buffer("inverse_bank", torch.linalg.pinv(bank), persistent=False)
        self.register_buffer("in_bands", (bank.sum(dim=1) > LEAST_WEIGHT).float(), persistent=False)
        self.register_buffer("phase_advance", _phase_advance(bins), persistent=False)
        self.encoder = nn.Linear(spectrogram.features, latent)
        scale = self.loudness_scale if architecture.gain_shape else None
        quantizer = PlainResidualQuantizer if architecture.quantizer == "residual" else ResidualQuantizer
        has_tones = architecture.partial_sets > 0
        levels = architecture.num_quantizers - TONE_LEVELS * has_tones
        self.quantizer = quantizer(latent, architecture.codebook_size, levels, ema_decay, scale)
        self.tone = ToneLayer(spectrogram, architecture.partial_sets) if has_tones else None
        self.pitch = PitchAnalysis(spectrogram) if has_tones else None
        inputs = spectrogram.features_per_hop + spectrogram.n_mels * has_tones
        self.decoder = ConvNeXtStack(inputs, hidden, architecture.num_layers, dropout)
        self.head = nn.Linear(hidden, 2 * bins)
        nn.init.normal_(self.head.weight, std=0.02)
        self.head.weight.data[:bins] = 0.0
        self.noise = FrameNoise(spectrogram)
        self.texture_head = nn.Linear(hidden, bins + GAIN_STEPS + spectrogram.envelope_steps)
        for parameter in (*self.encoder.parameters(), self.head.bias, *self.texture_head.parameters()):
            nn.init.zeros_(parameter)
        self.texture_head.bias.data[:bins] = NOISE_START
        if has_tones:
            self.tone_head = nn.Linear(hidden, spectrogram.n_mels)
            nn.init.zeros_(self.tone_head.weight)
            nn.init.zeros_(self.tone_head.bias)
            self.decoder.embed.weight.data[:, spectrogram.features_per_hop :] = 0.0

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.head.weight.device

    @property
    def margin(self) -> int:
        """Samples that analysis reaches beyond each end of a sound."""
        return self.spectrogram.margin if self.pitch is None else self.pitch.margin

    @property
    def context(self) -> int:
        """Frames before and after a frame that decide its tone."""
        return 0 if self.pitch is None else self.pitch.context

    def forward(self, audio: Tensor, draws: int = 1) -> VQVAEOutput:
        """Reconstruct audio `[B, N]`, N a multiple of `samples_per_frame`, with `draws` draws of the noise."""
        latents, tones = self.analyse(nn.functional.pad(audio, (self.margin, self.margin)))
        quantized = self.quantizer(latents)
        codes = join_codes(quantized.codes, tones)
        audio = self.synthesise(self.unproject(quantized.latents), codes, draws=draws)
        return VQVAEOutput(audio, codes, quantized.commit_loss)

    def analyse(self, audio: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latents `[B, F, D]` before quantisation and codes of tones `[B, F, 3]`, or 0 of them, of samples `[B, N]`.

        N is `margin + F * samples_per_frame + margin`; `inside` `[F]` is 0 in gaps between sounds and 1 elsewhere.
        """
        features, tones = self.flat_features(audio, inside)
        return self.latents(features), tones

    def features(self, audio: Tensor) -> Tensor:
        """Log-mel features `[B, F, features]` of samples `[B, margin + F * samples_per_frame + margin]`.

        The margin is the spectrogram's.
        """
        with torch.autocast(audio.device.type, enabled=False):
            features: Tensor = self.frame_features(self.amplified(audio))
            return features

    def amplified(self, audio: Tensor) -> Tensor:
        """Samples `[B, N]` as they are analysed: times the gain, fp32."""
        return audio.float() * self.architecture.input_gain

    def flat_features(self, audio: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features `[B, F, features]` without the combs of tones, and codes of these tones, as in `analyse`."""
        with torch.autocast(audio.device.type, enabled=False):
            spare = self.margin - self.spectrogram.margin
            features = self.features(audio[:, spare : audio.shape[1] - spare])
            if self.pitch is None or self.tone is None:
                return features, features.new_zeros(*features.shape[:2], 0, dtype=torch.int64)
            tones, combs = self.pitch(self.tone, self.amplified(audio), features, inside)
            flat = features - self.tone.pattern(nn.functional.pad(tones, (NOTE, 0)), combs)
            return self._moved_bands(flat, self.loudness(features) - self.loudness(flat)), tones

    def search(self, latents: Tensor, tones: Tensor, positions: Tensor | None = None) -> Tensor:
        """Codes `[B, F, Q]` of latents `[B, F, D]` and tones `[B, F, 3]`; `positions` `[F]` as for the quantizer."""
        return join_codes(self.quantizer.search(latents, positions), tones)

    def code_vectors(self) -> list[Tensor]:
        """Vectors `[V, n]` of each level's codes, on the CPU: codes that sound alike have near ones."""
        found = [level.codewords.cpu() for level in self.quantizer.levels()]
        return found if self.tone is None else [*found[:NOTE], *self.tone.vectors(), *found[NOTE:]]

    def dequantise(self, codes: Tensor, inside: Tensor | None = None) -> Tensor:
        """Latents `[B, F, D]` of codes `[B, F, Q]`."""
        return self.quantizer.decode(self.without_tones(codes), inside)

    def without_tones(self, codes: Tensor) -> Tensor:
        """The quantizer's codes `[..., levels]` of all codes `[..., Q]`."""
        return codes if self.tone is None else torch.cat([codes[..., :NOTE], codes[..., ATOM + 1 :]], dim=-1)

    def project(self, features: Tensor) -> Tensor:
        """Latents `[..., D]` of features `[..., features]`: their loudness, where it is coded, and weighted components."""
        shape = features - self.mean
        if not self.architecture.gain_shape:
            return (shape * self.weights) @ self.components
        loudness = self.loudness(features)
        latents = ((shape - loudness) * self.weights) @ self.components
        latents[..., :1] = loudness * self.loudness_scale
        return latents

    def unproject(self, latents: Tensor) -> Tensor:
        """Features `[..., features]` of latents `[..., D]`: the inverse of `project`, up to the components left out."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            features = (latents @ self.components.T) / self.weights + self.mean
            if not self.architecture.gain_shape:
                return features
            loudness = latents[..., :1] / self.loudness_scale
            return self._with_loudness(features + loudness, loudness)

    def with_tones(
        self, features: Tensor, codes: Tensor, phases: Phases | None = None, inside: Tensor | None = None
    ) -> tuple[Tensor, Tones | None]:
        """Features `[B, F, features]` with the combs that `flat_features` left out, and tones of codes, if they have any.

        `phases` are as for `synthesise`; `inside` `[T]` is 0 in gaps between sounds.
        """
        if self.tone is None:
            return features, None
        combs, loudness = self.tone.combs(codes), self.loudness(features)
        combed = features + self.tone.pattern(codes, combs)
        features = self._with_loudness(self._moved_bands(combed, loudness - self.loudness(combed)), loudness)
        return features, self.tone(self.frame_features.by_hop(features)[0], codes, combs, phases, inside)

    def _moved_bands(self, features: Tensor, difference: Tensor) -> Tensor:
        """Features with all bands moved by `difference` `[..., 1]`, the envelope as it is."""
        bands = self.spectrogram.features - self.spectrogram.stack * self.spectrogram.envelope_steps
        return torch.cat([features[..., :bands] + difference, features[..., bands:]], dim=-1)

    def _with_loudness(self, features: Tensor, loudness: Tensor) -> Tensor:
        """Features with this loudness `[..., 1]`, by moving the loud bands: soft ones would get errors of the loud ones."""
        coarse, rest = features.tensor_split([self.spectrogram.coarse_features], dim=-1)
        softness = (coarse.amax(dim=-1, keepdim=True) - coarse) / LOUD_BANDS
        loud = (2 * (1 - softness)).clamp(0, 1)
        for _ in range(LOUDNESS_ROUNDS):
            coarse = coarse + (loudness - self.loudness(coarse)) * loud
        return torch.cat([coarse, rest], dim=-1)

    def loudness(self, features: Tensor) -> Tensor:
        """Loudness `[..., 1]` of frames with features `[..., features]`: log10 of the root mean square of mel bands."""
        coarse = features[..., : self.spectrogram.coarse_features]
        return (coarse * (2 * LOG_TEN)).logsumexp(dim=-1, keepdim=True) / (2 * LOG_TEN) - self.loudness_offset

    def latents(self, features: Tensor) -> Tensor:
        """Latents `[..., D]` before quantisation of features `[..., features]`."""
        with torch.autocast(features.device.type, enabled=False):
            residual = self.encoder(features - CENTRE)
            if self.architecture.gain_shape:  # loudness is measured, not learnt
                residual = residual * (torch.arange(residual.shape[-1], device=residual.device) > 0)
            latents: Tensor = self.project(features) + residual
        return latents

    def synthesise(
        self,
        features: Tensor,
        codes: Tensor,
        positions: Tensor | None = None,
        draws: int = 1,
        phases: Phases | None = None,
    ) -> Tensor:
        """Samples `[draws * B, F * samples_per_frame]` of features `[B, F, features]` without combs, and their codes.

        `positions` `[F]` are the frames' positions in their sound, 0 to F - 1 if None, and -1 in gaps between sounds.
        The first draw of the noise is a sound's own. `phases` are those of the tones, as if the codes were whole sounds
        if None.
        """
        stack = self.spectrogram.stack
        inside = None if positions is None else inside_mask(positions.repeat_interleave(stack))
        if positions is None:
            positions = torch.arange(features.shape[1], device=features.device)
        with torch.autocast(features.device.type, enabled=False):
            features, tones = self.with_tones(features, codes, phases, inside)
            log_mel, fine, envelope = self.frame_features.by_hop(features)
            # Clean tones, with silence beside them, are not among the sounds that the weights were trained with.
            softest = log_mel.amax(dim=2, keepdim=True) - HEARD_BANDS
            heard = [torch.maximum(log_mel, softest), torch.maximum(fine, softest), envelope]
            inputs = torch.cat([*heard, *([] if tones is None else [tones.bands])], dim=2) - CENTRE
        hidden = self.decoder(inputs, inside)
        rest = log_mel if tones is None else tones.rest
        rest, hidden, envelope = (x.repeat(draws, 1, 1) for x in (rest, hidden, envelope))
        with torch.autocast(features.device.type, enabled=False):  # bf16 would round a phase to .01 cycles
            hops = (positions[:, None] * stack + torch.arange(stack, device=positions.device)).flatten()
            base = (10.0 ** rest.clamp_max(MAX_LOG_MEL) @ self.inverse_bank).clamp_min(LOG_FLOOR).log()
            magnitude, phase = self.head(hidden).chunk(2, dim=-1)
            phase = phase + self.phase_advance[hops % 4]
            magnitude = (base + magnitude).clamp_max(MAX_LOG_MAGNITUDE).exp()
            spectrum = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())  # twice as fast as polar
            sizes = [base.shape[-1], GAIN_STEPS, self.spectrogram.envelope_steps]
            share, gains, trust = self.texture_head(hidden).split(sizes, dim=-1)
            level = (base + share).clamp_max(MAX_LOG_MAGNITUDE).exp()
            noise = torch.cat([self.noise(codes, positions, draw) for draw in range(draws)])
            spectrum = (spectrum + level * self.inverse_stft.transform(noise)) * self.in_bands
            if self.tone is not None and tones is not None:
                partials = self.tone.spectrum(tones, self.tone_head(hidden[: len(codes)]))
                spectrum = spectrum + partials.repeat(draws, 1, 1)
            audio = self.inverse_stft(spectrum, inside)
            tonal = None if tones is None else tones.tonal.repeat(draws, 1)
            audio = match_envelope(audio, envelope, trust.sigmoid(), stack, tonal, inside)
            return with_gains(audio, gains, inside) / self.architecture.input_gain

    @torch.no_grad()
    def amplify(self, gain: float) -> None:
        """Make all that is decoded louder by a factor, by the learnt gains."""
        first = self.inverse_bank.shape[1]
        self.texture_head.bias[first : first + GAIN_STEPS] += math.log(gain)

    @torch.no_grad()
    def fit_projection(self, features: Tensor) -> None:
        """Set the projection to the principal components of features `[n, features]`, of their shape if it is coded."""
        first = 0
        if self.architecture.gain_shape:
            features, first = features - self.loudness(features), 1
        mean = features.mean(dim=0)
        _, vectors = torch.linalg.eigh(((features - mean) * self.weights).double().T.cov())
        components = vectors.flip(1)[:, : self.architecture.latent_size - first]
        # An eigenvector's sign is arbitrary: fix it, so that equal inputs give equal files on every LAPACK.
        signs = components.gather(0, components.abs().argmax(dim=0, keepdim=True)).sign()
        self.mean.copy_(mean)
        self.components.zero_()
        self.components[:, first:] = (components * signs).float()


def join_codes(codes: Tensor, tones: Tensor) -> Tensor:
    """Codes `[B, F, Q]` of the quantizer's `[B, F, levels]` with codes of tones after the first, the loudness."""
    return torch.cat([codes[..., :NOTE], tones, codes[..., NOTE:]], dim=-1) if tones.shape[-1] else codes


class ConvNeXtStack(nn.Module):
    """ConvNeXt backbone over time (Liu et al. 2022, arXiv 2201.03545; one-dimensional as in Vocos, arXiv 2306.00814).

    `context` is the receptive field in steps to each side. Under autocast only the blocks' MLPs have its precision:
    convolutions and norms are faster and safer in fp32.
    """

    def __init__(self, inputs: int, width: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Conv1d(inputs, width, KERNEL_SIZE, padding=KERNEL_SIZE // 2)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(ConvNeXtBlock(width, dropout, 1 / num_layers) for _ in range(num_layers))
        self.final_norm = nn.LayerNorm(width)
        self.context = (KERNEL_SIZE // 2) * (num_layers + 1)

    def forward(self, x: Tensor, inside: Tensor | None = None) -> Tensor:
        """Hidden states `[B, T, width]` of `[B, T, inputs]`, fp32. Steps where `inside` `[T]` is 0 count as padding."""
        x = self.norm(convolve_time(mask_gaps(x, inside), self.embed))
        for block in self.blocks:
            x = block(mask_gaps(x, inside))
        y: Tensor = self.final_norm(x)
        return y


class ConvNeXtBlock(nn.Module):
    """ConvNeXt block: depthwise convolution, LayerNorm, MLP of three times the width, layer scale, residual."""

    def __init__(self, width: int, dropout: float, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 3 * width)
        self.dropout = nn.Dropout(dropout)
        self.contract = nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states `[B, T, D]` of `[B, T, D]`, fp32."""
        y = nn.functional.gelu(self.expand(self.norm(convolve_time(x, self.depthwise))))
        if self.training and self.dropout.p:
            # Whole channels of a crop drop out: to draw single values took as long as both layers.
            y = y * self.dropout(y.new_ones(len(y), 1, y.shape[2]))
        return torch.addcmul(x, self.scale, self.contract(y).float())


def convolve_time(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """Convolution over T of `[B, T, inputs]` to `[B, T, outputs]`, in fp32.

    As an image of height 1 with the channels last it needs no copies: two to three times as fast, forward and back.
    """
    margin = KERNEL_SIZE // 2
    with torch.autocast(x.device.type, enabled=False):
        is_short = x.device.type == "cpu" and x.shape[0] * x.shape[1] <= MATRIX_PRODUCT_STEPS
        if conv.groups == 1 and not (torch.is_grad_enabled() or torch.compiler.is_compiling()) and is_short:
            windows = nn.functional.pad(x, (0, 0, margin, margin)).unfold(1, KERNEL_SIZE, 1).flatten(2)
            return nn.functional.linear(windows, conv.weight.flatten(1), conv.bias)
        image, weight = x.transpose(1, 2)[:, :, None], conv.weight[:, :, None]
        y = nn.functional.conv2d(image, weight, conv.bias, padding=(0, margin), groups=conv.groups)
        return y[:, :, 0].transpose(1, 2)


class FrameNoise(nn.Module):
    """White Gaussian noise, a piece of a fixed table for each frame, of mean square 1 in each bin of a transform.

    Where a piece begins follows from the frame's codes and position alone: the same codes give the same samples,
    whatever is decoded beside them, and steady sound does not repeat its noise.
    """

    table: Tensor  # [TABLE_SAMPLES + step], which begins again at its end

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        self.step = config.samples_per_frame
        scale = torch.hann_window(config.n_fft).square().sum().rsqrt()
        table = torch.from_numpy(gaussian_table().copy()) * scale
        self.register_buffer("table", torch.cat([table, table[: self.step]]), persistent=False)

    def forward(self, codes: Tensor, positions: Tensor, draw: int = 0) -> Tensor:
        """Noise `[B, F * samples_per_frame]` for codes `[B, F, Q]`; zeros where `positions` `[F]` is -1."""
        batch, frames, levels = codes.shape
        factors = LEVEL_FACTOR ** torch.arange(1, levels + 1, device=codes.device)
        mixed = (codes * factors).sum(dim=-1) + positions * POSITION_FACTOR + draw * DRAW_FACTOR
        starts = (mixed * MIXER) >> 40
        pieces = self.table.unfold(0, self.step, 1)[starts % TABLE_SAMPLES]
        return (pieces * (positions >= 0)[:, None]).reshape(batch, frames * self.step)


@functools.cache
def gaussian_table() -> NDArray[np.float32]:
    """Gaussian numbers `[TABLE_SAMPLES]` of variance 1: the Box-Muller transform of SplitMix64's first words."""
    words = mix(np.arange(1, 2 * TABLE_SAMPLES + 1, dtype=np.uint64) * np.uint64(STEP))
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    radius, turn = uniform.reshape(-1, 2).T
    return np.asarray(np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * turn), dtype=np.float32)


def feature_weights(spectrogram: SpectrogramConfig) -> Tensor:
    """Weight of each feature in the projection, `[features]`, of mean square 1."""
    coarse = spectrogram.coarse_features
    envelope = spectrogram.stack * spectrogram.envelope_steps
    fine = spectrogram.features - coarse - envelope
    weights = ((COARSE_WEIGHT, coarse), (FINE_WEIGHT, fine), (ENVELOPE_WEIGHT, envelope))
    shares = torch.tensor([weight / count for weight, count in weights for _ in range(count)])
    return (shares / shares.mean()).sqrt()


def _phase_advance(bins: int) -> Tensor:
    """Phase of each bin's centre frequency at spectrogram frames 0 to 3, `[4, bins]` in radians; then it repeats.

    A hop is a quarter of the window: the phase of bin k advances by k quarters of a cycle. k halves more put a pulse in
    the middle of its window. The network predicts the difference: a convolution cannot count a steady tone's frames.
    """
    return ((torch.arange(4)[:, None] + 2) * torch.arange(bins) % 4).float() * (torch.pi / 2)
