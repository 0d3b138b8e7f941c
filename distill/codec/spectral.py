"""Spectrograms and their inverse, framed for exact processing of long sounds in chunks."""

import math
import warnings
from typing import Annotated, Any, Self, cast

import torch
import torchaudio
from pydantic import Field, model_validator
from torch import Tensor, nn

from distill.codec.envelope import GAIN_STEPS, LOG_FLOOR, LOG_TEN, log_envelope, mask_gaps
from distill.codec.scales import MEL_CORNER_HERTZ, MEL_FACTOR, highest_mel
from distill.params import Settings

MAX_LOG_MEL = 4.0  # log10 amplitude, far above full scale


class SpectrogramConfig(Settings):
    """Geometry of the codec's frames: `stack` spectrogram frames make one code frame.

    A fine log-mel spectrogram, with a quarter of the window, half the hop and fewer bands, resolves time in a frame.
    The envelope, with `envelope_steps` values per hop, resolves attacks.
    """

    sample_rate: Annotated[int, Field(ge=4_000, le=192_000)]
    n_fft: Annotated[int, Field(ge=128, le=8192)]
    hop_length: Annotated[int, Field(ge=GAIN_STEPS, le=4096, multiple_of=GAIN_STEPS)]
    n_mels: Annotated[int, Field(ge=8, le=512)]
    stack: Annotated[int, Field(ge=1, le=8)]
    envelope_steps: Annotated[int, Field(ge=1, le=64)]

    @model_validator(mode="after")
    def _hops_fill_the_window(self) -> Self:
        if self.n_fft != 4 * self.hop_length:
            raise ValueError(
                f"expected n_fft to be 4 x hop_length, found {self.n_fft} and {self.hop_length}"
            )
        if self.hop_length % (2 * self.envelope_steps):
            raise ValueError(
                f"expected hop_length to be a multiple of 2 x envelope_steps, found {self.hop_length} and "
                f"{self.envelope_steps}"
            )
        return self

    @property
    def samples_per_frame(self) -> int:
        """Number of samples in a code frame."""
        return self.hop_length * self.stack

    @property
    def frame_rate(self) -> float:
        """Code frames per second."""
        return self.sample_rate / self.samples_per_frame

    @property
    def n_fine_mels(self) -> int:
        """Number of bands of the fine spectrogram."""
        return max(1, 2 * self.n_mels // 5)

    @property
    def features_per_hop(self) -> int:
        """Number of values per hop: a spectrogram frame, two fine spectrogram frames, and the envelope."""
        return self.n_mels + 2 * self.n_fine_mels + self.envelope_steps

    @property
    def coarse_features(self) -> int:
        """Number of values per code frame from the log-mel spectrogram; they come first."""
        return self.stack * self.n_mels

    @property
    def features(self) -> int:
        """Number of values per code frame."""
        return self.stack * self.features_per_hop

    @property
    def feature_sizes(self) -> list[int]:
        """Numbers of values per code frame: log-mel frames, then fine frames, then the envelope."""
        return [
            self.coarse_features,
            self.stack * 2 * self.n_fine_mels,
            self.stack * self.envelope_steps,
        ]

    @property
    def bins(self) -> int:
        """Number of bins of a spectrum."""
        return self.n_fft // 2 + 1

    @property
    def margin(self) -> int:
        """Number of samples of the analysis window beyond each end of its hop."""
        return (self.n_fft - self.hop_length) // 2

    def frames_for(self, samples: int) -> int:
        """Number of code frames that cover `samples` samples, at least 1."""
        return max(1, math.ceil(samples / self.samples_per_frame))

    def by_hop(self, features: Tensor) -> list[Tensor]:
        """Log-mel frames, fine frames and the envelope of features `[B, F, features]`, each `[B, F * stack, ...]`."""
        batch, frames, _ = features.shape
        return [
            part.reshape(batch, frames * self.stack, -1)
            for part in features.split(self.feature_sizes, dim=-1)
        ]

    def mean_log_mel(self, features: Tensor) -> Tensor:
        """Mean `[..., n_mels]` of the log-mel frames in features `[..., features]`."""
        by_hop: Tensor = features[..., : self.coarse_features].unflatten(-1, (self.stack, -1))
        return by_hop.mean(dim=-2)

    def padded(self, audio: Tensor, margin: int, shift: int = 0) -> Tensor:
        """Pad samples `[N]`, delayed by `shift`, with silence to `[1, margin + F * samples_per_frame + margin]`."""
        before = margin + shift
        whole = self.frames_for(len(audio) + shift) * self.samples_per_frame + 2 * margin
        return nn.functional.pad(audio, (before, whole - before - len(audio)))[None]


def spectrogram_config_for(sample_rate: int) -> SpectrogramConfig:
    """Default geometry at `sample_rate` Hz: hops of about 10.7 ms, 2 per code frame (46.9 frames/s at 24 kHz)."""
    hop_length = int(2 ** round(math.log2(sample_rate * 0.0107)))
    return SpectrogramConfig(
        sample_rate=sample_rate,
        n_fft=4 * hop_length,
        hop_length=hop_length,
        n_mels=min(100, hop_length // 2),
        stack=2,
        envelope_steps=8,  # one every 1.3 ms
    )


def band_position(frequencies: Tensor, config: SpectrogramConfig) -> Tensor:
    """Positions of frequencies in Hz among the centres of mel bands, 0 to less than `n_mels - 1`."""
    mel = MEL_FACTOR * (1 + frequencies / MEL_CORNER_HERTZ).log10()
    position = mel / highest_mel(config.sample_rate) * (config.n_mels + 1) - 1
    return position.clamp(0.0, config.n_mels - 1.001)


def mel_filterbank(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Triangular mel filters `[n_fft // 2 + 1, n_mels]`, HTK scale, from 0 Hz to half the sample rate."""
    with warnings.catch_warnings():
        # At high rates, some of the lowest bands lie between two bins; callers handle empty filters.
        warnings.filterwarnings("ignore", message="At least one mel filterbank has all zero values")
        bank = torchaudio.functional.melscale_fbanks(
            n_fft // 2 + 1, 0.0, sample_rate / 2, n_mels, sample_rate
        )
    return cast(Tensor, bank)


class _Magnitudes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, windows: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(windows)
        real, imag = torch.view_as_real(spectrum).square().unbind(dim=-1)
        result = (real + imag).sqrt()
        ctx.save_for_backward(spectrum, result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        spectrum, result = ctx.saved_tensors
        scale = gradient / result.clamp_min(1e-20)
        scale[..., 1:-1] /= 2  # the inverse transform counts these bins twice
        scaled = torch.view_as_complex(torch.view_as_real(spectrum) * scale[..., None])
        return cast(Tensor, torch.fft.irfft(scaled, norm="forward"))


def magnitudes(windows: Tensor) -> Tensor:
    """Magnitudes `[..., bins]` of the spectra of windows `[..., n_fft]`, an even number of samples.

    Takes half the time of `rfft` and `abs`, forward and backward. The gradient at 0 is 0; not twice differentiable.
    """
    return cast(Tensor, _Magnitudes.apply(windows))  # type: ignore[no-untyped-call]


def windowed(audio: Tensor, window: Tensor, hop_length: int, padding: int = 0) -> Tensor:
    """Windows `[B, T, n_fft]` of samples `[B, N]`, `hop_length` apart, times `window` `[n_fft]`: the input of an STFT.

    `padding` zeros are added at each end.
    """
    padded = nn.functional.pad(audio, (padding, padding))
    return padded.unfold(1, len(window), hop_length) * window


class LogMel(nn.Module):
    """Log-mel spectrogram: log10 of mel amplitudes. `skip_empty` drops bands without a bin in their filter."""

    def __init__(
        self, sample_rate: int, n_fft: int, hop_length: int, n_mels: int, skip_empty: bool = False
    ) -> None:
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        bank = mel_filterbank(sample_rate, n_fft, n_mels)
        self.window = nn.Buffer(torch.hann_window(n_fft), persistent=False)
        bank = bank[:, bank.sum(dim=0) > 0].contiguous() if skip_empty else bank
        self.bank = nn.Buffer(bank, persistent=False)

    def forward(self, audio: Tensor, padding: int = 0) -> Tensor:
        """Log-mel frames `[B, N / hop_length, n_mels]` of samples `[B, N + n_fft - hop_length]`, N in whole hops.

        `padding` zeros are added to the samples at each end.
        """
        windows = windowed(audio, self.window, self.hop_length, padding)
        return (magnitudes(windows) @ self.bank).clamp_min(LOG_FLOOR).log10()


class FrameFeatures(nn.Module):
    """Features of code frames: log-mel frames, then fine log-mel frames, then the envelope."""

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        self.config = config
        self.log_mel = LogMel(config.sample_rate, config.n_fft, config.hop_length, config.n_mels)
        self.fine = LogMel(
            config.sample_rate, config.n_fft // 4, config.hop_length // 2, config.n_fine_mels
        )

    def forward(self, audio: Tensor) -> Tensor:
        """Features `[B, F, features]` of samples `[B, margin + F * samples_per_frame + margin]`."""
        config, samples = self.config, audio.shape[1]
        step = config.hop_length // config.envelope_steps
        spares = (
            config.margin - (self.fine.n_fft - self.fine.hop_length) // 2,
            config.margin - step // 2,
        )
        fine, own = (audio[:, spare : samples - spare] for spare in spares)
        envelope = log_envelope(own, step, config.stack * config.envelope_steps)
        parts = [self.log_mel(audio), self.fine(fine), envelope]
        frames = parts[0].shape[1] // config.stack
        return torch.cat([part.reshape(len(audio), frames, -1) for part in parts], dim=2)

    def loudness(self, features: Tensor) -> Tensor:
        """Loudness `[..., 1]` of features `[..., features]`: log10 of the root mean square of mel bands."""
        coarse = features[..., : self.config.coarse_features]
        offset = math.log(self.config.coarse_features) / (2 * LOG_TEN)
        return (coarse * (2 * LOG_TEN)).logsumexp(dim=-1, keepdim=True) / (2 * LOG_TEN) - offset

    def moved_to(self, features: Tensor, loudness: Tensor) -> Tensor:
        """Shift all bands to this loudness `[..., 1]`; the envelope is unchanged."""
        bands, envelope = features.tensor_split([-self.config.feature_sizes[-1]], dim=-1)
        return torch.cat([bands + (loudness - self.loudness(features)), envelope], dim=-1)

    def with_loudness(self, features: Tensor, loudness: Tensor) -> Tensor:
        """Shift loud bands to this loudness `[..., 1]`, so that errors of loud bands do not leak into soft bands.

        Bands 40 dB or more below the loudest are unchanged.
        """
        coarse, rest = features.tensor_split([self.config.coarse_features], dim=-1)
        softness = (coarse.amax(dim=-1, keepdim=True) - coarse) / 2.0
        loud = (2 * (1 - softness)).clamp(0, 1)
        for _ in range(3):
            coarse = coarse + (loudness - self.loudness(coarse)) * loud
        return torch.cat([coarse, rest], dim=-1)


def inside_mask(positions: Tensor) -> Tensor | None:
    """Mask of frame positions `[F]`, fp32: 1 inside sounds and 0 in gaps; None without gaps."""
    inside = positions >= 0
    return None if bool(inside.all()) else inside.float()


class InverseSTFT(nn.Module):
    """STFT and its inverse. T is the number of spectrogram frames."""

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        self.config = config
        self.window = nn.Buffer(torch.hann_window(config.n_fft), persistent=False)

    def transform(self, audio: Tensor) -> Tensor:
        """Complex spectrum `[B, T, n_fft // 2 + 1]` of samples `[B, T * hop_length]`, padded with zeros."""
        windows = windowed(audio, self.window, self.config.hop_length, self.config.margin)
        spectrum: Tensor = torch.fft.rfft(windows)
        return spectrum

    def forward(self, spectrum: Tensor, inside: Tensor | None = None) -> Tensor:
        """Samples `[B, T * hop_length]` of a complex spectrum `[B, T, n_fft // 2 + 1]`, by weighted overlap-add.

        Frames with `inside` `[T]` 0 are left out. The sum is divided by the sum of the squared windows.
        """
        windows = torch.fft.irfft(spectrum, n=self.config.n_fft) * self.window
        batch, count, n_fft = windows.shape
        hop, margin = self.config.hop_length, self.config.margin
        overlaps = n_fft // hop
        mask = windows.new_ones(count) if inside is None else inside
        mask = nn.functional.pad(mask, (overlaps - 1, overlaps - 1)).unfold(0, overlaps, 1).flip(1)
        squares = (mask @ (self.window * self.window).reshape(overlaps, -1)).flatten()
        hops = mask_gaps(windows, inside).reshape(batch, count, overlaps, hop).unbind(dim=2)
        shifted = [
            nn.functional.pad(part, (0, 0, k, overlaps - 1 - k)) for k, part in enumerate(hops)
        ]
        sums = sum(shifted[1:], shifted[0]).reshape(batch, -1)
        return (sums / squares.clamp_min(1e-4))[:, margin : margin + count * hop]
