"""The codec's parts against independent versions, chunked against whole, sounds of any length."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.models.quantizer import BEAM_SIZE, ResidualQuantizer, kmeans
from distill.models.spectral import InverseSTFT, LogMel, spectrogram_config_for
from distill.models.vqvae import VQVAE, VQVAEArchitecture

RATE = 16_000


@pytest.fixture(scope="module")
def codec() -> VQVAE:
    torch.manual_seed(0)
    spectrogram = spectrogram_config_for(RATE)
    architecture = VQVAEArchitecture(
        spectrogram=spectrogram, codebook_size=16, num_quantizers=3, latent_size=12, hidden_size=32, num_layers=2
    )
    model = VQVAE(architecture)
    torch.nn.init.normal_(model.to_latent.weight, std=0.3)
    noise = torch.randn(4, 20 * spectrogram.samples_per_frame + 2 * spectrogram.margin) * 0.1
    features = model.features(noise).flatten(0, 1)
    model.fit_projection(features)
    model.eval()
    with torch.no_grad():
        model.quantizer.fit(model.latents(noise).flatten(0, 1), torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000, 96_000])
def test_geometry_keeps_near_47_frames_a_second(rate: int) -> None:
    config = spectrogram_config_for(rate)
    assert 38 < config.frame_rate < 64
    assert config.n_fft == 4 * config.hop_length


def test_inverse_stft_undoes_the_stft() -> None:
    config = spectrogram_config_for(RATE)
    audio = torch.randn(2, 30 * config.hop_length, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(audio, (config.margin, config.margin))
    window = torch.hann_window(config.n_fft)
    spectrum = torch.stft(padded, config.n_fft, config.hop_length, window=window, center=False, return_complex=True)
    torch.testing.assert_close(InverseSTFT(config)(spectrum.transpose(1, 2)), audio, rtol=0, atol=1e-4)


def test_log_mel_of_a_sine_peaks_in_its_band() -> None:
    config = spectrogram_config_for(RATE)
    time = torch.arange(config.samples_per_frame * 8 + 2 * config.margin) / RATE
    mel = LogMel(config.sample_rate, config.n_fft, config.hop_length, config.n_mels)(
        torch.sin(2 * torch.pi * 1000 * time)[None]
    )[0]
    centres = 700 * (10 ** (torch.linspace(0, 2840.023, config.n_mels + 2)[1:-1] / 2595) - 1)
    assert abs(float(centres[mel.mean(dim=0).argmax()]) - 1000) < 80


@settings(deadline=None, max_examples=20)
@given(samples=st.integers(1, 20_000), chunk=st.integers(1, 40))
def test_chunks_give_the_codes_and_sound_of_the_whole(codec: VQVAE, samples: int, chunk: int) -> None:
    audio = torch.randn(1, samples, generator=torch.Generator().manual_seed(samples)) * 0.1
    codes = codec.encode(audio, 10_000)
    assert codes.shape == (1, codec.spectrogram.frames_for(samples), 3)
    assert torch.equal(codec.encode(audio, chunk), codes)
    torch.testing.assert_close(codec.decode(codes, chunk), codec.decode(codes, 10_000), rtol=0, atol=1e-5)


def test_encode_agrees_with_forward(codec: VQVAE) -> None:
    audio = torch.randn(2, 12 * codec.spectrogram.samples_per_frame, generator=torch.Generator().manual_seed(5)) * 0.1
    with torch.no_grad():
        output = codec(audio)
    assert torch.equal(codec.encode(audio), output.codes)
    torch.testing.assert_close(codec.decode(output.codes), output.audio, rtol=0, atol=1e-5)


def test_a_beam_is_never_worse_than_the_nearest_codeword_level_by_level(codec: VQVAE) -> None:
    latents = torch.randn(1, 300, 12, generator=torch.Generator().manual_seed(1))
    quantized = codec.quantizer(latents)
    residual = latents[0]
    for book in codec.quantizer.codewords():
        residual = residual - book[(residual[:, None] - book[None]).square().sum(dim=-1).argmin(dim=1)]
    beam, greedy = (quantized.latents[0] - latents[0]).square().sum(dim=1), residual.square().sum(dim=1)
    assert bool((beam <= greedy * (1 + 1e-5)).all())
    assert float(beam.mean()) < 0.99 * float(greedy.mean())
    torch.testing.assert_close(codec.quantizer.decode(quantized.codes), quantized.latents)
    torch.testing.assert_close(quantized.commit_loss, (quantized.latents - latents).square().mean())


def test_a_wide_enough_beam_finds_the_best_sum_of_codewords() -> None:
    generator = torch.Generator().manual_seed(2)
    quantizer = ResidualQuantizer(3, BEAM_SIZE, 2, 0.9)
    quantizer.codebooks.copy_(torch.randn(2, BEAM_SIZE, 3, generator=generator))
    latents = torch.randn(50, 3, generator=generator)
    first, second = quantizer.codewords()
    distances = (latents[:, None, None] - first[None, :, None] - second[None, None]).square().sum(dim=-1)
    best = distances.flatten(1).argmin(dim=1)
    expected = torch.stack([best // BEAM_SIZE, best % BEAM_SIZE], dim=1)
    assert torch.equal(quantizer.search(latents), expected)


def test_codes_of_a_latent_do_not_depend_on_its_neighbours(codec: VQVAE) -> None:
    latents = torch.randn(3, 40, 12, generator=torch.Generator().manual_seed(3))
    together = codec.quantizer(latents)
    again = codec.quantizer(latents)
    assert torch.equal(together.codes, again.codes)
    for row in range(3):
        alone = codec.quantizer(latents[row : row + 1])
        assert torch.equal(alone.codes[0], together.codes[row])
        assert torch.equal(alone.latents[0], together.latents[row])


def test_the_gradient_goes_straight_through_to_the_encoder(codec: VQVAE) -> None:
    latents = torch.randn(1, 5, 12, generator=torch.Generator().manual_seed(4), requires_grad=True)
    weights = torch.randn(1, 5, 12)
    (gradient,) = torch.autograd.grad((codec.quantizer(latents).latents * weights).sum(), latents)
    assert torch.equal(gradient, weights)
    training = VQVAE(codec.architecture).train()
    audio = torch.randn(1, 4 * codec.spectrogram.samples_per_frame) * 0.1
    training(audio).audio.square().mean().backward()
    assert training.to_latent.weight.grad is not None
    assert float(training.to_latent.weight.grad.abs().sum()) > 0


def test_all_state_of_the_codebooks_is_saved() -> None:
    quantizer = ResidualQuantizer(4, 8, 2, 0.8)
    generator = torch.Generator().manual_seed(0)
    quantizer.fit(torch.randn(100, 4, generator=generator), generator)
    quantizer.train()(torch.randn(1, 50, 4, generator=generator))
    copy = ResidualQuantizer(4, 8, 2, 0.8)
    copy.load_state_dict(quantizer.state_dict())
    batch = torch.randn(1, 50, 4, generator=generator)
    for one in (quantizer, copy):
        one.train()(batch)
    assert torch.equal(copy.codewords(), quantizer.codewords())


def test_moving_averages_follow_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(5)
    quantizer = ResidualQuantizer(3, 4, 2, 0.75)
    quantizer.fit(torch.randn(60, 3, generator=generator), generator)
    batch = torch.randn(20, 3, generator=generator)
    codes, books = quantizer.search(batch), quantizer.codewords().clone()
    counts, sums = quantizer.counts.clone(), quantizer.sums.clone()
    for level in range(2):
        for codeword in range(4):
            rows = batch[codes[:, level] == codeword] - books[1 - level][codes[codes[:, level] == codeword, 1 - level]]
            counts[level, codeword] = 0.75 * counts[level, codeword] + 0.25 * len(rows)
            sums[level, codeword] = 0.75 * sums[level, codeword] + 0.25 * rows.sum(dim=0)
    quantizer.train()(batch[None])
    torch.testing.assert_close(quantizer.codewords(), sums / counts[..., None])


def test_codebooks_move_in_training_mode_only() -> None:
    quantizer = ResidualQuantizer(4, 8, 2, 0.8)
    generator = torch.Generator().manual_seed(0)
    quantizer.fit(torch.randn(100, 4, generator=generator), generator)
    before = quantizer.codewords().clone()
    quantizer.eval()(torch.randn(1, 50, 4))
    assert torch.equal(quantizer.codewords(), before)
    quantizer.train()(torch.randn(1, 50, 4) + 1)
    assert not torch.equal(quantizer.codewords(), before)


def test_kmeans_finds_well_separated_clusters() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(6, 3, generator=generator) * 20
    points = truth.repeat_interleave(30, dim=0) + torch.randn(180, 3, generator=generator) * 0.1
    centres, assignment = kmeans(points, 6, generator)
    assert torch.cdist(truth, centres).min(dim=1).values.max() < 0.2
    assert len(set(assignment.tolist())) == 6


@pytest.mark.parametrize("count", [1, 3, 8])
def test_kmeans_with_fewer_points_than_clusters(count: int) -> None:
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    centres, assignment = kmeans(points, 8, torch.Generator().manual_seed(0))
    assert centres.isfinite().all()
    torch.testing.assert_close(centres[assignment], points)
