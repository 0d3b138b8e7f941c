"""The plain residual quantizer against a slow version, in training, and in a model file."""

from pathlib import Path

import torch
from unit.tiny import RATE

from distill.codec.model import VQVAE, VQVAEArchitecture
from distill.codec.quantizer import PlainResidualQuantizer
from distill.codec.spectral import spectrogram_config_for
from distill.codec.streaming import decode, encode, encode_together
from distill.model_file.format import BundleMetadata, codec_shape, load_bundle, save_bundle

SIZE, LEVELS, WIDTH = 8, 3, 6


def fitted() -> tuple[PlainResidualQuantizer, torch.Tensor]:
    torch.manual_seed(0)
    quantizer = PlainResidualQuantizer(WIDTH, SIZE, LEVELS, 0.9)
    latents = torch.randn(4, 50, WIDTH)
    quantizer.fit([latents.flatten(0, 1)], torch.Generator().manual_seed(0))
    return quantizer.eval(), latents


def test_codes_are_the_nearest_codewords_level_after_level() -> None:
    quantizer, latents = fitted()
    residual, sums = latents.clone(), torch.zeros_like(latents)
    codes = quantizer.search(latents)
    for level in range(LEVELS):
        book = quantizer.codebooks[level]
        nearest = (residual[:, :, None] - book).square().sum(dim=3).argmin(dim=2)
        assert torch.equal(codes[:, :, level], nearest)
        sums, residual = sums + book[nearest], residual - book[nearest]
    torch.testing.assert_close(quantizer.decode(codes), sums)
    assert not quantizer.decode(codes, (torch.arange(50) % 2).float())[:, ::2].any()


def test_the_gradient_goes_straight_through_and_training_alone_moves_codebooks() -> None:
    quantizer, latents = fitted()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    assert list(before) == ["codebooks", "kernels", "counts", "sums"]  # those of the other quantizer
    latents = latents.requires_grad_()
    found = quantizer(latents)
    found.latents.sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))  # type: ignore[arg-type]
    quantizer.train().search(latents)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    quantizer(latents)
    nearest = found.codes[..., 0].flatten()
    for word in range(SIZE):  # of the first level, as moving averages: by hand
        own = latents.detach().flatten(0, 1)[nearest == word]
        count = 0.9 * before["counts"][0, word] + 0.1 * len(own)
        total = 0.9 * before["sums"][0, word] + 0.1 * own.sum(dim=0)
        torch.testing.assert_close(quantizer.codebooks[0, word], total / count, rtol=1e-3, atol=1e-3)


def test_dead_codewords_are_replaced_where_there_is_a_threshold() -> None:
    for threshold, is_replaced in ((0.0, False), (0.5, True)):
        quantizer, latents = fitted()
        quantizer.dead_code_threshold = threshold
        quantizer.codebooks[0, 3], quantizer.counts[0, 3] = 1e6, 0.0
        quantizer.train()(latents)
        assert bool(quantizer.codebooks[0, 3].abs().max() < 100) is is_replaced


def test_a_model_file_names_its_quantizer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"codebook_size": SIZE, "num_quantizers": 2, "latent_size": 8, "hidden_size": 16, "num_layers": 1}
    kinds = {"quantizer": "residual", "stochastic": False, "gain_shape": False}
    model = VQVAE(VQVAEArchitecture.model_validate({"spectrogram": spectrogram_config_for(RATE), **kinds, **shape}))
    model.quantizer.fit([torch.randn(100, 8)], torch.Generator().manual_seed(0))
    metadata = BundleMetadata(vqvae_config=codec_shape(model.eval()), spectrogram_config=model.spectrogram)
    written = save_bundle(tmp_path / "m.distill", model, None, metadata)
    assert written.model_dump(mode="json")["vqvae_config"]["quantizer"] == "residual"
    loaded, sound = load_bundle(tmp_path / "m.distill").codec, torch.randn(1, 4000)
    codes = encode(model, sound)
    assert torch.equal(encode(loaded, sound), codes)
    assert torch.equal(decode(loaded, codes), decode(model, codes))
    assert torch.equal(encode_together(loaded, [sound[0], sound[0, :3000]])[0], codes[0])
