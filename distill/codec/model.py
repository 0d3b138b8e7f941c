"""The codec: waveform to log-mel frames to latents to residual codes, and back through a learnt inverse STFT.

Training refines a codec that works without networks. The encoder is a weighted principal component projection of
log-mel frames, plus a learnt residual, initialised to zero. The decoder starts from the pseudo-inverse of the mel
filters, adds a learnt residual to the log magnitude, and predicts the phase. It then adds partials of tones and noise
with a learnt spectrum, applies the coded envelope with a learnt trust, and learnt gains.

Shapes: B batch, N samples, F code frames, T hops, Q levels, D latent size.
"""

import math
from typing import Annotated, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from distill.audio.corpus import MOST_GAIN
from distill.codec.decoder import ConvNeXtStack, FrameNoise, SpectrumHead, TextureHead, ToneHead
from distill.codec.envelope import Held, match_envelope, with_gains
from distill.codec.layout import FrameLayout
from distill.codec.quantizer import QUANTIZERS
from distill.codec.spectral import FrameFeatures, InverseSTFT, SpectrogramConfig
from distill.codec.tones.analysis import PitchAnalysis
from distill.codec.tones.codes import atoms_of
from distill.codec.tones.combs import Combs
from distill.codec.tones.layer import ToneLayer, Tones
from distill.codec.tones.vectors import tone_vectors
from distill.params import (
    CodebookSize,
    CodecLayers,
    CodecWidth,
    LatentSize,
    Levels,
    Quantizer,
    Settings,
)

# Log10 mel amplitude subtracted from the networks' inputs, to centre them for any corpus.
CENTRE = -2.0


class VQVAEArchitecture(Settings):
    """Sizes of a codec, which determine the shape of every tensor together with the spectrogram.

    Samples are multiplied by `input_gain`, a power of two, before analysis, and divided by it after decoding, so that
    codecs of soft and loud recordings work alike.

    The first level codes the loudness; the next three code tones with one of `partial_sets`. The other levels, the
    spectral levels, have `codebook_size` codewords.
    """

    codebook_size: CodebookSize
    num_quantizers: Levels
    latent_size: LatentSize
    hidden_size: CodecWidth
    num_layers: CodecLayers
    quantizer: Quantizer
    gain_shape: Literal[True] = True  # kept in files: the loudness has its own level
    partial_sets: Annotated[int, Field(ge=1, le=1000)]  # number of partial sets
    input_gain: Annotated[float, Field(ge=1 / MOST_GAIN, le=MOST_GAIN)] = 1.0

    @model_validator(mode="after")
    def _check_gain(self) -> Self:
        if math.frexp(self.input_gain)[0] != 0.5:
            raise ValueError(f"expected input_gain to be a power of two, found {self.input_gain:g}")
        return self

    @property
    def layout(self) -> FrameLayout:
        """Layout: the kind of each level."""
        return FrameLayout.of_codec(
            atoms_of(self.partial_sets), self.codebook_size, self.num_quantizers
        )

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level; codes start at 0."""
        return self.layout.codebook_sizes


class VQVAEOutput(NamedTuple):
    """Reconstruction `audio` `[draws * B, N]`, `codes` `[B, F, Q]` and scalar `commit_loss`."""

    audio: Tensor
    codes: Tensor
    commit_loss: Tensor


class VQVAE(nn.Module):
    """Residual-VQ codec of mono sound. Dropout and codebook updates are active in training mode only.

    `frame_features` and `pitch` analyse sound, a projection and the `quantizer` code the spectrum, `tone` turns tone
    codes into partials, and the `decoder` with its heads synthesises sound. Attribute names are tensor names in files.
    """

    def __init__(
        self,
        architecture: VQVAEArchitecture,
        spectrogram: SpectrogramConfig,
        dropout: float = 0.0,
        ema_decay: float = 0.99,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.spectrogram = spectrogram
        self.layout = architecture.layout
        latent = architecture.latent_size
        width = architecture.hidden_size
        features = spectrogram.features
        self.frame_features = FrameFeatures(spectrogram)
        self.inverse_stft = InverseSTFT(spectrogram)
        self.mean = nn.Buffer(torch.zeros(features))
        self.components = nn.Buffer(torch.eye(features, latent))
        self.weights = nn.Buffer(feature_weights(spectrogram), persistent=False)
        self.encoder = nn.Linear(features, latent)
        nn.init.zeros_(self.encoder.weight)
        nn.init.zeros_(self.encoder.bias)
        spectral_levels = len(self.layout.spectral_levels)
        quantizer = QUANTIZERS[architecture.quantizer]
        self.quantizer = quantizer(
            latent, architecture.codebook_size, spectral_levels, ema_decay, math.sqrt(features)
        )
        self.tone = ToneLayer(spectrogram, architecture.partial_sets)
        self.pitch = PitchAnalysis(spectrogram)
        inputs = spectrogram.features_per_hop + spectrogram.n_mels
        self.decoder = ConvNeXtStack(inputs, width, architecture.num_layers, dropout)
        self.head = SpectrumHead(width, spectrogram)
        self.noise = FrameNoise(spectrogram)
        self.texture_head = TextureHead(width, spectrogram)
        self.tone_head = ToneHead(width, spectrogram)
        self.decoder.embed.weight.data[:, spectrogram.features_per_hop :] = 0.0

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.head.weight.device

    @property
    def margin(self) -> int:
        """Number of samples that analysis needs beyond each end of a sound."""
        return self.pitch.margin

    @property
    def context(self) -> int:
        """Number of frames before and after a frame that influence its tone."""
        return self.pitch.context

    def forward(self, audio: Tensor, noise: Tensor, draws: int = 1) -> VQVAEOutput:
        """Reconstruct audio `[B, N]`, N a multiple of `samples_per_frame`, with `draws` realisations of the noise.

        `noise` `[B, F, noise bands]` as in `synthesise`.
        """
        latents, tones = self.analyse(nn.functional.pad(audio, (self.margin, self.margin)))
        quantized = self.quantizer(latents)
        codes = self.layout.join(quantized.codes, tones)
        audio = self.synthesise(self.unproject(quantized.latents), codes, noise, draws=draws)
        return VQVAEOutput(audio, codes, quantized.commit_loss)

    def analyse(self, audio: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latents `[B, F, D]` before quantisation, and tone codes `[B, F, 3]`, of samples `[B, N]`.

        N is `margin + F * samples_per_frame + margin`; `inside` `[F]` is 0 in gaps between sounds and 1 elsewhere.
        """
        features, tones = self.flat_features(audio, inside)
        return self.latents(features), tones

    def amplified(self, audio: Tensor) -> Tensor:
        """Samples `[B, N]` times the input gain, fp32."""
        return audio.float() * self.architecture.input_gain

    def features(self, audio: Tensor) -> Tensor:
        """Log-mel features `[B, F, features]` of samples `[B, margin + F * samples_per_frame + margin]`."""
        spare = self.margin - self.spectrogram.margin
        with torch.autocast(audio.device.type, enabled=False):
            features: Tensor = self.frame_features(
                self.amplified(audio[:, spare : audio.shape[1] - spare])
            )
            return features

    def flat_features(self, audio: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features `[B, F, features]` without the combs of tones, and tone codes, for arguments as in `analyse`."""
        with torch.autocast(audio.device.type, enabled=False):
            features = self.features(audio)
            tones, combs = self.pitch(self.tone, self.amplified(audio), features, inside)
            flat = features - self.tone.pattern(tones, combs)
            return self.frame_features.moved_to(flat, self.frame_features.loudness(features)), tones

    def latents(self, features: Tensor) -> Tensor:
        """Latents `[..., D]` before quantisation of features `[..., features]`."""
        with torch.autocast(features.device.type, enabled=False):
            residual = self.encoder(features - CENTRE)
            # The loudness has no residual.
            is_learnt = torch.arange(residual.shape[-1], device=residual.device) > 0
            latents: Tensor = self.project(features) + residual * is_learnt
        return latents

    def project(self, features: Tensor) -> Tensor:
        """Latents `[..., D]` of features `[..., features]`: loudness and weighted principal components."""
        loudness = self.frame_features.loudness(features)
        latents = ((features - self.mean - loudness) * self.weights) @ self.components
        latents[..., :1] = loudness * self.quantizer.loudness_scale
        return latents

    def unproject(self, latents: Tensor) -> Tensor:
        """Features `[..., features]` of latents `[..., D]`: inverts `project`, except for dropped components."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            features = (latents @ self.components.T) / self.weights + self.mean
            loudness = latents[..., :1] / self.quantizer.loudness_scale
            return self.frame_features.with_loudness(features + loudness, loudness)

    @torch.no_grad()
    def fit_projection(self, features: Tensor) -> None:
        """Set the projection to the principal components of features `[n, features]` minus their loudness."""
        features = features - self.frame_features.loudness(features)
        mean = features.mean(dim=0)
        _, vectors = torch.linalg.eigh(((features - mean) * self.weights).double().T.cov())
        components = vectors.flip(1)[:, : self.architecture.latent_size - 1]
        # An eigenvector's sign is arbitrary: fix it, so that equal inputs give equal files on every LAPACK.
        signs = components.gather(0, components.abs().argmax(dim=0, keepdim=True)).sign()
        self.mean.copy_(mean)
        self.components.zero_()
        self.components[:, 1:] = (components * signs).float()

    def search(self, latents: Tensor, tones: Tensor, positions: Tensor | None = None) -> Tensor:
        """Codes `[B, F, Q]` of latents `[B, F, D]` and tones `[B, F, 3]`; `positions` `[F]` as for the quantizer."""
        return self.layout.join(self.quantizer.search(latents, positions), tones)

    def dequantise(self, codes: Tensor, inside: Tensor | None = None) -> Tensor:
        """Latents `[B, F, D]` of codes `[B, F, Q]`."""
        spectral, _ = self.layout.split(codes)
        return self.quantizer.decode(spectral, inside)

    def code_vectors(self) -> list[Tensor]:
        """Vectors `[V, n]` of each level's codes, on the CPU; similar sounds have near vectors."""
        loudness, *spectral = [level.codewords.cpu() for level in self.quantizer.levels()]
        return [loudness, *tone_vectors(self.tone), *spectral]

    def with_tones(
        self,
        features: Tensor,
        tones: Tensor,
        noise: Tensor,
        phases: Tensor | None = None,
        inside: Tensor | None = None,
    ) -> tuple[Tensor, Tones]:
        """Restore the combs that `flat_features` removed from features `[B, F, features]`; compute the tones' partials.

        `tones` `[B, F, 3]` are codes; `noise` and `phases` as in `synthesise`; `inside` `[T]` is 0 in gaps.
        """
        combs = self.tone.combs(tones)
        features = self.with_combs(features, tones, combs)
        log_mel, _, _ = self.spectrogram.by_hop(features)
        return features, self.tone(log_mel, tones, combs, noise, phases, inside)

    def with_combs(self, features: Tensor, tones: Tensor, combs: Combs) -> Tensor:
        """Restore the combs of tones `[B, F, 3]` that `flat_features` removed from features `[B, F, features]`."""
        loudness = self.frame_features.loudness(features)
        combed = self.frame_features.moved_to(features + self.tone.pattern(tones, combs), loudness)
        return self.frame_features.with_loudness(combed, loudness)

    def synthesise(
        self,
        features: Tensor,
        codes: Tensor,
        noise: Tensor,
        positions: Tensor | None = None,
        draws: int = 1,
        phases: Tensor | None = None,
        inside: Tensor | None = None,
    ) -> Tensor:
        """Samples `[draws * B, F * samples_per_frame]` of features `[B, F, features]` without combs, and their codes.

        `noise` `[B, F, noise bands]` is log10 of noise to tone, from a recording's noise floor. `positions` `[F]` in
        the sound default to 0 to F - 1; they are -1 in gaps between sounds, where `inside` `[F]` is 0. Realisation 0 of
        the noise is the same for any `draws`. `phases` `[B, T, K]` of the tones default to the phases of whole sounds.
        """
        stack = self.spectrogram.stack
        inside = None if inside is None else inside.repeat_interleave(stack)
        if positions is None:
            positions = torch.arange(features.shape[1], device=features.device)
        with torch.autocast(features.device.type, enabled=False):
            features, tones = self.with_tones(
                features, self.layout.split(codes)[1], noise, phases, inside
            )
            log_mel, fine, envelope = self.spectrogram.by_hop(features)
            # Weights were not trained on clean tones in silence: clamp bands to 100 dB below the loudest.
            softest = log_mel.amax(dim=2, keepdim=True) - 5.0
            heard = (torch.maximum(log_mel, softest), torch.maximum(fine, softest), envelope)
            inputs = torch.cat([*heard, tones.bands], dim=2) - CENTRE
        hidden = self.decoder(inputs, inside)
        # bf16 would round a phase to .01 cycles.
        with torch.autocast(features.device.type, enabled=False):
            hops = (
                positions[:, None] * stack + torch.arange(stack, device=positions.device)
            ).flatten()
            base = self.head.log_magnitudes(tones.rest)
            spectrum = self.head.spectrum(hidden, base, hops)
            texture = self.texture_head.texture(hidden, base, tones.toneless)
            partials = self.tone_head.spectrum(hidden, tones, inside)
            held = Held(tones.tonal if inside is None else tones.tonal * inside, tones.low, inside)
            drawn = []
            for draw in range(draws):
                white = self.inverse_stft.transform(self.noise(codes, positions, draw))
                audio = self.inverse_stft(
                    (spectrum + texture.noise * white) * self.head.in_bands + partials, inside
                )
                audio = match_envelope(audio, envelope, texture.trust, stack, held)
                drawn.append(with_gains(audio, texture.gains, held))
            return torch.cat(drawn) / self.architecture.input_gain

    def transposed(self, codes: Tensor, semitones: float) -> Tensor:
        """Transpose codes `[B, F, Q]`; tones beyond the code range become 0."""
        spectral, tones = self.layout.split(codes)
        return self.layout.join(spectral, self.tone.transposed(tones, semitones))

    def pitches(self, codes: Tensor) -> Tensor:
        """Pitches `[..., F]` in semitones (MIDI) of codes `[..., F, Q]`, NaN without a tone."""
        return self.tone.pitches(self.layout.split(codes)[1])


def feature_weights(spectrogram: SpectrogramConfig) -> Tensor:
    """Weight of each feature in the projection, `[features]`, of mean square 1."""
    sizes = torch.tensor(spectrogram.feature_sizes)
    # Weights of log-mel frames, fine frames, envelope.
    in_squared_error = torch.tensor([4.0, 2.0, 6.0], dtype=torch.float64)
    shares = (in_squared_error / sizes).repeat_interleave(sizes).float()
    return (shares / shares.mean()).sqrt()
