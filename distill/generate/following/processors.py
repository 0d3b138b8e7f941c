"""Logits processors that steer the loudness, tones and envelope of each frame towards a recording.

Shapes: F frames, B active sounds, V codebook size, E values of a frame's envelope.
"""

import torch
from torch import Tensor, nn

from distill.codec.layout import NOTE
from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.generate.sampling.processors import (
    LogitsProcessor,
    SamplingStep,
    first_possible,
    near_to,
)

# Standard deviations of loudness, 10 dB, and pitch at `loose` 1
LOOSE_STEPS, LOOSE_SEMITONES = 5.0, 3.0


def sharpened(codec: VQVAE, codes: Codes, wanted: Tensor) -> Codes:
    """Re-encode codes `[F, Q]` to have the `wanted` envelopes `[F, E]` relative to the loudness, NaN for any."""
    there = wanted.isfinite().all(dim=1)
    if not there.any():
        return codes
    own = torch.from_numpy(codes)[None].to(codec.device)
    latents = codec.dequantise(own)[0]
    features = codec.unproject(latents)
    envelope = features[:, -wanted.shape[1] :]
    usual = codec.frame_features.loudness(features) + codec.mean[-wanted.shape[1] :].mean()
    change = torch.where(there.to(usual.device)[:, None], usual + wanted.to(usual) - envelope, 0.0)
    by_band = [
        nn.functional.adaptive_avg_pool1d(change[:, None], count)[:, 0].repeat_interleave(
            bands, dim=1
        )
        for count, bands in (
            (codec.spectrogram.stack, codec.spectrogram.n_mels),
            (2 * codec.spectrogram.stack, codec.spectrogram.n_fine_mels),
        )
    ]
    moved = codec.project(features + torch.cat([*by_band, change], dim=1))
    moved[:, 0] = latents[:, 0]  # the loudness stays
    _, tones = codec.layout.split(own)
    sharpened: Codes = (
        codec.search(torch.where(there[:, None].to(moved.device), moved, latents)[None], tones)[0]
        .cpu()
        .numpy()
    )
    return sharpened


def follow_loudness(codes: Tensor, eos: int, loose: float) -> LogitsProcessor:
    """Logits processor for the loudness codes `[count, F]`, NaN after the end.

    Weights are Gaussian around each code, with a standard deviation of `loose` (0 to 1) times LOOSE_STEPS.
    """
    tokens = codes.nan_to_num(eos).long()

    def near(shares: Tensor, step: SamplingStep) -> Tensor:
        if step.level:
            return shares
        wanted, possible = tokens[step.rows, step.frame, None], torch.arange(shares.shape[1])
        apart = (possible - wanted) / max(loose * LOOSE_STEPS, 1e-3)
        weights = torch.where(
            (possible < eos) & (wanted < eos), (-0.5 * apart.square()).exp(), (apart == 0).float()
        )
        return first_possible(shares * weights, weights)

    return near


def without_tone(where: Tensor, loose: float) -> LogitsProcessor:
    """Logits processor against tones in frames `where` `[count, F]`; `loose` is the weight of notes there."""

    def silenced(shares: Tensor, step: SamplingStep) -> Tensor:
        if step.level != NOTE:
            return shares
        weights = torch.full_like(shares, loose)
        weights[:, 0] = 1.0
        chosen = where[step.rows, step.frame][:, None]
        return torch.where(chosen, first_possible(shares * weights, shares), shares)

    return silenced


def near_envelopes(codec: VQVAE, envelopes: Tensor) -> LogitsProcessor:
    """Logits processor that steers codewords to envelopes `[count, F, E]` relative to the loudness, NaN for any."""
    steps = envelopes.shape[2]
    to_envelope = (codec.components.T / codec.weights)[:, -steps:].cpu()
    # Codewords count as if held over several frames, so that what their kernels spread over them adds up.
    words = [20 * (words.cpu() @ to_envelope) for words, _ in codec.quantizer.levels()[1:]]
    return near_to(words, 20 * (envelopes - centred(codec.mean[-steps:].cpu())))


def centred(values: Tensor) -> Tensor:
    return values - values.mean(dim=-1, keepdim=True)
