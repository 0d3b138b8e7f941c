"""The multi-scale mel loss, and the loss of a decoder that draws noise."""

import pytest
import torch

from distill.codec.losses import REPORT_WINDOWS, DecoderLoss, LongSpectra, MultiScaleMelLoss


def noise(seed: int) -> torch.Tensor:
    return torch.randn(2, 8000, generator=torch.Generator().manual_seed(seed)) * 0.1


def test_equal_sounds_have_no_distance_and_unequal_ones_do() -> None:
    loss = MultiScaleMelLoss(16_000, REPORT_WINDOWS)
    assert float(loss(noise(0), noise(0))) == 0
    assert float(loss(noise(0), noise(1))) > 0.1
    # Ten times the amplitude is one decade in every window.
    assert float(loss(noise(0) * 10, noise(0))) == pytest.approx(len(REPORT_WINDOWS), rel=0.01)


def test_other_noise_of_the_right_loudness_is_better_than_softer_noise() -> None:
    loss = DecoderLoss(16_000)

    def of(gain: float) -> float:
        return float(loss(gain * torch.cat([noise(1), noise(2)]), noise(0))["recon"])

    assert of(1.0) < of(0.9)
    assert of(1.0) < of(1.1)


def test_equal_draws_are_a_mel_distance_alone() -> None:
    parts = DecoderLoss(16_000)(torch.cat([noise(1), noise(1)]), noise(0))
    assert float(parts["spread"]) == 0
    torch.testing.assert_close(parts["mel"], MultiScaleMelLoss(16_000, REPORT_WINDOWS)(noise(1), noise(0)))


def test_a_level_of_half_is_an_error_of_its_logarithm() -> None:
    parts = DecoderLoss(16_000)(0.5 * torch.cat([noise(0), noise(0)]), noise(0))
    assert float(parts["level"]) == pytest.approx(0.301, abs=0.001)
    assert float(parts["envelope"]) == pytest.approx((0.5 + 0.25) / 2, abs=0.001)


def test_the_level_of_a_loud_part_counts_more() -> None:
    """Of two halves of which one is ten times as loud, its windows weigh .3 + .7 x 20/11, the others .3 + .7 x 2/11."""
    shape = torch.where(torch.arange(64_000) < 32_000, 1.0, 0.1)[None]
    sound = torch.randn(1, 64_000, generator=torch.Generator().manual_seed(0)) * shape
    errors = []
    for half in (slice(0, 32_000), slice(32_000, None)):
        halved = sound.clone()
        halved[:, half] /= 2
        errors.append(float(DecoderLoss(16_000)(halved.repeat(2, 1), sound)["level"]))
    assert errors[0] / errors[1] == pytest.approx((0.3 + 0.7 * 20 / 11) / (0.3 + 0.7 * 2 / 11), rel=0.05)


def test_long_spectra_hear_that_partials_are_elsewhere_where_mel_bands_do_not() -> None:
    """Partials 50 Hz apart, with other phases or half of that higher."""
    time = torch.arange(32_000) / 16_000

    def partials(shift: float, seed: int) -> torch.Tensor:
        phases = torch.rand(110, generator=torch.Generator().manual_seed(seed))
        waves = [torch.cos(2 * torch.pi * ((2000 + 50 * k + shift) * time + phases[k])) for k in range(110)]
        return 0.02 * torch.stack(waves).sum(dim=0)[None]

    reference, alike, shifted = partials(0, 0), partials(0, 1), partials(25, 1)
    mel, long = MultiScaleMelLoss(16_000, REPORT_WINDOWS), LongSpectra(16_000)

    def distance(audio: torch.Tensor) -> float:
        return sum(float((x - y).abs().mean()) for x, y in zip(long(audio), long(reference), strict=True))

    assert float(mel(shifted, reference)) < 1.3 * float(mel(alike, reference))
    assert distance(shifted) > 10 * distance(alike)
    parts = [DecoderLoss(16_000)(audio.repeat(2, 1), reference) for audio in (alike, shifted)]
    assert float(parts[1]["long"]) == pytest.approx(distance(shifted), rel=1e-3)
    assert float(parts[1]["recon"] - parts[0]["recon"]) > 2.5 * float(parts[1]["long"] - parts[0]["long"])


def test_a_full_scale_sine_is_0_in_long_spectra() -> None:
    sine = torch.sin(2 * torch.pi * 1000 * torch.arange(32_000) / 16_000)[None]
    for spectrum in LongSpectra(16_000)(sine):
        assert float(spectrum[:, spectrum.shape[1] // 2].amax()) == pytest.approx(0, abs=0.01)


def test_silence_and_clicks_have_finite_losses_and_gradients() -> None:
    draws = torch.zeros(2, 4000, requires_grad=True)
    for reference in (torch.zeros(1, 4000), (torch.arange(4000) == 2000).float()[None]):
        total = DecoderLoss(16_000)(draws, reference)["recon"]
        (gradient,) = torch.autograd.grad(total, draws)
        assert bool(total.isfinite())
        assert bool(gradient.isfinite().all())
