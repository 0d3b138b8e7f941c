"""The codec without a network: lengths, bitrate, and that each level brings a sound nearer."""

import pytest
import torch
from torch import Tensor

from benchmarks.measures import mel_distance
from benchmarks.no_network import NoNetworkCodec
from distill.codec.losses import REPORT_WINDOWS, MultiScaleMelLoss

RATE, HOP = 8000, 80


def sounds(count: int) -> list[Tensor]:
    """Noise times a sliding sine: every frame is different."""
    generator = torch.Generator().manual_seed(0)
    times = torch.arange(RATE) / RATE
    noise = torch.randn(count, RATE, generator=generator)
    return [one * torch.sin(40 * (1 + index) * times**2) * 0.2 for index, one in enumerate(noise)]


@pytest.fixture(scope="module")
def codec() -> NoNetworkCodec:
    return NoNetworkCodec.fit(sounds(8), RATE, HOP, num_quantizers=3, codebook_size=16, seed=0)


@pytest.mark.parametrize("samples", [1, 79, 160, 161, 5000, 8000])
def test_decoding_gives_at_least_as_many_samples_as_were_encoded(codec: NoNetworkCodec, samples: int) -> None:
    codes = codec.encode(torch.full((samples,), 0.1))
    assert codes.shape[1] == 3
    assert 0 <= int(codes.min()) <= int(codes.max()) < 16
    assert samples <= len(codec.decode(codes)) < samples + 4 * HOP
    assert codec.bits_per_second == RATE / (2 * HOP) * 3 * 4


def test_each_level_brings_the_sound_nearer_and_a_seed_gives_one_codec(codec: NoNetworkCodec) -> None:
    loss, sound = MultiScaleMelLoss(RATE, REPORT_WINDOWS), sounds(8)[3]
    fewer = NoNetworkCodec(codec.mel, codec.mean, codec.components, codec.codebooks[:1])
    near, far = (mel_distance(loss, sound, one.decode(one.encode(sound))[: len(sound)]) for one in (codec, fewer))
    assert near < far < mel_distance(loss, sound, torch.zeros(len(sound)))
    again = NoNetworkCodec.fit(sounds(8), RATE, HOP, num_quantizers=3, codebook_size=16, seed=0)
    assert torch.equal(codec.codebooks, again.codebooks)
    assert torch.equal(codec.decode(codec.encode(sound)), again.decode(codec.encode(sound)))
