"""Synthetic tonal sounds, and a codec that codes them, for tests."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from distill.codec.atoms import PartialSet, set_partials, shipped_sets
from distill.codec.model import VQVAE, VQVAEArchitecture
from distill.codec.spectral import spectrogram_config_for

RATE = 16_000


def hertz(pitch: float) -> float:
    return 440.0 * 2.0 ** ((pitch - 69) / 12)


def sound_of(partials: PartialSet, pitch: float, seconds: float = 0.6, decay: float = 2.0) -> Tensor:
    """Samples `[N]` of a set of partials at a pitch in semitones (MIDI); those above 7 kHz are left out."""
    time = torch.arange(round(seconds * RATE)).double() / RATE
    pairs = [(ratio * hertz(pitch), loud) for ratio, loud in zip(*partials, strict=True) if ratio * hertz(pitch) < 7000]
    waves = [
        loud * torch.cos(2 * math.pi * (number * number * 0.618 + f * time)) for number, (f, loud) in enumerate(pairs)
    ]
    sound = torch.stack(waves).sum(dim=0) * torch.exp(-decay * time)
    return (0.3 * sound / sound.abs().max()).float()


def sweep(pitches: Tensor, partials: int = 5) -> Tensor:
    """Samples `[N]` of a harmonic sound whose pitch at each sample is given in semitones."""
    cycles = (440.0 * 2.0 ** ((pitches.double() - 69) / 12)).cumsum(0) / RATE
    waves = [torch.sin(2 * math.pi * k * cycles) / k for k in range(1, partials + 1)]
    return 0.2 * torch.stack(waves).sum(dim=0).float()


def padded(codec: VQVAE, sound: Tensor) -> Tensor:
    """Samples `[1, margin + F * samples_per_frame + margin]` of whole frames of a sound `[N]`, silence around them."""
    whole = codec.spectrogram.frames_for(len(sound)) * codec.spectrogram.samples_per_frame
    return torch.nn.functional.pad(sound, (codec.margin, codec.margin + whole - len(sound)))[None]


def untrained(rate: int = RATE, spare_sets: int = 0) -> VQVAE:
    """A codec with the shipped sets of partials and room for others, nothing fitted yet."""
    torch.manual_seed(0)
    sets = shipped_sets()
    sizes = {"codebook_size": 16, "num_quantizers": 6, "latent_size": 12, "hidden_size": 32, "num_layers": 2}
    architecture = VQVAEArchitecture(**sizes, quantizer="overlapping", partial_sets=len(sets) + spare_sets)
    codec = VQVAE(architecture, spectrogram_config_for(rate)).eval()
    set_partials(codec.tone, sets)
    return codec


@torch.no_grad()
def fitted(sounds: Sequence[Tensor]) -> VQVAE:
    """A codec fitted to sounds; what training would change is drawn, so that all of it has a part."""
    codec = untrained()
    for weights in (codec.texture_head.weight, codec.tone_head.weight, codec.decoder.embed.weight):
        torch.nn.init.normal_(weights, std=0.1)
    torch.nn.init.normal_(codec.encoder.weight, std=0.05)
    features = [codec.flat_features(padded(codec, sound))[0] for sound in sounds]
    codec.fit_projection(torch.cat(features, dim=1)[0])
    codec.quantizer.fit([codec.latents(part)[0] for part in features], torch.Generator().manual_seed(0))
    return codec
