"""The plain residual quantizer against a slow version, in training, in files and in a codec."""

from pathlib import Path

import torch
from unit.tiny import RATE

from distill.codec.model import VQVAE, VQVAEArchitecture
from distill.codec.quantizer import PlainResidualQuantizer
from distill.codec.spectral import spectrogram_config_for
from distill.codec.streaming import decode, encode, encode_together
from distill.model_file.format import BundleMetadata, codec_shape, load_bundle, save_bundle

SIZE, LEVELS, WIDTH = 8, 3, 6


def fitted(threshold: float = 0.0) -> tuple[PlainResidualQuantizer, torch.Tensor]:
    torch.manual_seed(0)
    quantizer = PlainResidualQuantizer(WIDTH, SIZE, LEVELS, 0.9, threshold)
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
    inside = (torch.arange(50) % 2).float()
    assert not quantizer.decode(codes, inside)[:, ::2].any()


def test_the_gradient_goes_straight_through_and_eval_changes_nothing() -> None:
    quantizer, latents = fitted()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    latents = latents.requires_grad_()
    found = quantizer(latents)
    found.latents.sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))  # type: ignore[arg-type]
    quantizer.train().search(latents)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    quantizer.train()(latents)
    assert not torch.equal(quantizer.codebooks, before["codebooks"])


def test_dead_codewords_are_replaced_where_there_is_a_threshold() -> None:
    for threshold, is_replaced in ((0.0, False), (0.5, True)):
        quantizer, latents = fitted(threshold)
        quantizer.codebooks[0, 3] = 1e6
        quantizer.counts[0, 3] = 0.0
        quantizer.train()(latents)
        assert bool(quantizer.codebooks[0, 3].abs().max() < 100) is is_replaced


def test_files_have_the_names_of_the_other_quantizer_and_give_it_back() -> None:
    quantizer, latents = fitted()
    state = quantizer.state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "codebooks": (LEVELS, SIZE, WIDTH),
        "counts": (LEVELS, SIZE),
        "sums": (LEVELS, SIZE, WIDTH),
        "kernels": (2, 5, WIDTH),
    }
    other = PlainResidualQuantizer(WIDTH, SIZE, LEVELS, 0.9)
    other.load_state_dict({name: value.clone() for name, value in state.items()})
    for one in (quantizer, other):
        one.train()(latents)
    assert torch.equal(quantizer.codebooks, other.codebooks)


def codec() -> VQVAE:
    torch.manual_seed(0)
    shape = {"codebook_size": SIZE, "num_quantizers": 2, "latent_size": 8, "hidden_size": 16, "num_layers": 1}
    architecture = VQVAEArchitecture(
        spectrogram=spectrogram_config_for(RATE), quantizer="residual", stochastic=False, gain_shape=False, **shape
    )
    model = VQVAE(architecture)
    model.quantizer.fit([torch.randn(100, 8)], torch.Generator().manual_seed(0))
    return model.eval()


def metadata(model: VQVAE) -> BundleMetadata:
    return BundleMetadata(
        vqvae_config=codec_shape(model),
        spectrogram_config=model.spectrogram,
    )


def test_a_model_file_names_its_quantizer(tmp_path: Path) -> None:
    model, path = codec(), tmp_path / "m.distill"
    written = save_bundle(path, model, None, metadata(model))
    assert written.model_dump(mode="json")["vqvae_config"]["quantizer"] == "residual"
    loaded = load_bundle(path).codec
    sound = torch.randn(1, 4000)
    assert torch.equal(encode(loaded, sound), encode(model, sound))
    assert torch.equal(decode(loaded, encode(model, sound)), decode(model, encode(model, sound)))
    together = encode_together(loaded, [sound[0], sound[0, :3000]])
    assert torch.equal(together[0], encode(model, sound)[0])
