"""Beginnings of low tones: codes lead their partials through the phases that sounds have."""

import math

import pytest
import torch
from torch import Tensor

from distill.codec.model import VQVAE
from distill.codec.tones.phase import PhaseFit
from unit.codec.tonal import RATE, padded, untrained

BEGIN = 400  # samples before a drum


@pytest.fixture(scope="module")
def codec() -> VQVAE:
    return untrained()


def course(low: float, high: float, seconds: float, samples: int = 8_000) -> Tensor:
    """Cycles `[N]` of a drum that falls from a frequency in Hz to a lower one."""
    time = torch.arange(samples).double() / RATE
    return ((low + (high - low) * torch.exp(-time / seconds)) / RATE).cumsum(0)


def drum(cycles: Tensor, begin: int = BEGIN) -> Tensor:
    """Samples `[N]` of a drum with such phases, silence before it."""
    time = torch.arange(len(cycles)).double() / RATE
    return torch.nn.functional.pad(0.5 * torch.sin(2 * math.pi * cycles) * torch.exp(-time / 0.2), (begin, 0)).float()


def unlike(codec: VQVAE, sound: Tensor, cycles: Tensor, begin: int = BEGIN) -> Tensor:
    """Distances `[T]` of phases of the first partial in the middles of hops, in cycles, sign apart, from `cycles`."""
    _, tones = codec.flat_features(padded(codec, sound))
    (frequencies, _), turns = codec.tone.partials(tones), codec.tone.phases(tones)
    hop = codec.spectrogram.hop_length
    middles = torch.arange(turns.shape[1]) * hop + hop // 2 - begin
    inside = (middles >= hop) & (middles < 5 * codec.spectrogram.samples_per_frame)
    assert bool((frequencies[0, inside, 0] > 0).all())
    return ((turns[0, inside, 0] - (cycles[middles[inside]] - 0.25) + 0.25) % 0.5 - 0.25).abs()


@torch.no_grad()
@pytest.mark.parametrize("low", [42.0, 55.0, 70.0])
@pytest.mark.parametrize(("times", "seconds"), [(1.0, 0.1), (2.0, 0.03), (3.5, 0.02)])
@pytest.mark.parametrize("begin", [0, 137, BEGIN])
def test_a_drums_phases_come_back(codec: VQVAE, low: float, times: float, seconds: float, begin: int) -> None:
    cycles = course(low, low * times, seconds)
    found = unlike(codec, drum(cycles, begin), cycles, begin)
    assert float(found.median()) < 0.05
    assert float(found.max()) < 0.15


def without_fit(_: object, layer: object, audio: object, margin: int, codes: Tensor, *more: object) -> Tensor:  # noqa: ARG001
    """`PhaseFit.forward` that keeps the codes."""
    return codes


@torch.no_grad()
def test_without_the_fit_they_do_not(codec: VQVAE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PhaseFit, "forward", without_fit)
    found = [
        unlike(codec, drum(cycles), cycles) for cycles in (course(low, 2 * low, 0.03) for low in (42, 55, 70, 110))
    ]
    assert float(torch.cat(found).median()) > 0.08


@torch.no_grad()
def test_high_tones_and_noise_keep_the_codes_that_explain_their_peaks(
    codec: VQVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = torch.arange(RATE) / RATE
    noise = torch.randn(RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    sounds = [0.3 * torch.sin(2 * math.pi * 700 * time), noise, torch.zeros(RATE), torch.zeros(10)]
    found = [codec.flat_features(padded(codec, sound))[1] for sound in sounds]
    monkeypatch.setattr(PhaseFit, "forward", without_fit)
    for sound, tones in zip(sounds, found, strict=True):
        assert torch.equal(codec.flat_features(padded(codec, sound))[1], tones)


@torch.no_grad()
def test_a_beginning_has_one_set(codec: VQVAE) -> None:
    cycles = course(50, 200, 0.02)
    sound = drum(cycles) + 0.2 * torch.nn.functional.pad(torch.sin(2 * math.pi * 3.01 * cycles), (BEGIN, 0)).float()
    tones = codec.flat_features(padded(codec, sound))[1][0]
    first = int((tones[:, 0] > 0).nonzero()[0])
    assert len(codec.tone.sets(tones[first : first + 6]).unique()) == 1
