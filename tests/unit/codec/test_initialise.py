"""Initialisation of the codec: codebooks fitted to the corpus, pretrained decoder weights where they fit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from distill.audio.corpus import Corpus, load_corpus
from distill.audio.ingest import ingest
from distill.audio.write import write_audio
from distill.codec import initialise as initialise_module
from distill.codec.initialise import PRETRAINED, build_vqvae, initialise, load_pretrained
from distill.params import get_adaptive_vqvae_config
from pretraining.codec import write_pretrained

SMALL = get_adaptive_vqvae_config(8, codebook_size=16, num_quantizers=2, hidden_size=32, num_layers=2, latent_size=16)


def corpus_of(folder: Path, sounds: list[np.ndarray]) -> Corpus:  # type: ignore[type-arg]
    for number, sound in enumerate(sounds):
        write_audio(folder / "in" / f"{number:02d}.wav", sound.astype(np.float32), 16_000)
    ingest(folder / "in", folder / "out", 16_000, 0.0)
    return load_corpus(folder / "out")


def tones(count: int, levels: np.random.Generator) -> list[np.ndarray]:  # type: ignore[type-arg]
    time = np.arange(8_000) / 16_000
    decay = np.exp(-3 * time)
    return [
        levels.uniform(0.2, 0.8) * np.sin(2 * np.pi * levels.uniform(100, 900) * time) * decay for _ in range(count)
    ]


def coding_error(fitted: Corpus, coded: Corpus) -> float:
    """Error of coding a corpus with projection and codebooks that are fitted to another one."""
    model = build_vqvae(16_000, SMALL, 0)
    initialise(model, fitted, fitted.entries, 0)
    with torch.no_grad():
        pieces = initialise_module._view_features(model, coded, coded.entries, None, 10**6, torch.Generator())
        return sum(initialise_module._error(model, piece) for piece in pieces)


def test_codebooks_hold_the_corpus(tmp_path: Path) -> None:
    """Codebooks fitted to tones code them far better than those of noise do."""
    rng = np.random.default_rng(0)
    tonal = corpus_of(tmp_path / "a", tones(8, rng))
    noisy = corpus_of(tmp_path / "b", [0.3 * rng.standard_normal(8_000) for _ in range(8)])
    assert coding_error(tonal, tonal) < 0.5 * coding_error(noisy, tonal)


def test_there_are_codewords_for_what_the_recordings_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codebooks of tones alone have nothing near to clicks; with synthetic sounds among them, they do."""
    rng = np.random.default_rng(3)
    tonal = corpus_of(tmp_path / "tones", tones(8, rng))
    clicks = [np.where(rng.random(8_000) < 1e-3, 0.9, 0.0) for _ in range(4)]
    other = corpus_of(tmp_path / "clicks", clicks)
    with_synthetic = coding_error(tonal, other)
    monkeypatch.setattr(initialise_module, "_synthetic_features", lambda *_: [])
    assert with_synthetic < 0.8 * coding_error(tonal, other)


@pytest.mark.parametrize(("recorded", "frames"), [(10, 0), (500, 480), (10**6, 8_000)])
def test_synthetic_sounds_are_no_more_than_the_recordings(recorded: int, frames: int) -> None:
    model = build_vqvae(16_000, SMALL, 0)
    pieces = initialise_module._synthetic_features(model, recorded, torch.Generator().manual_seed(0))
    assert sum(len(piece) for piece in pieces) == frames


def test_initialisation_is_a_function_of_the_seed(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, tones(6, np.random.default_rng(1)))
    models = [build_vqvae(16_000, SMALL, 0) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        initialise(model, corpus, corpus.entries, seed)
    one, two, other = (model.quantizer.codebooks for model in models)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("alike", [True, False])
def test_augmentation_is_strong_only_where_that_helps(tmp_path: Path, alike: bool) -> None:
    """Takes of one sound need no louder, faster or slower views; sounds that differ in just that do."""
    rng = np.random.default_rng(2)
    time = np.arange(8_000) / 16_000
    detune = np.zeros(10) if alike else rng.uniform(-3, 3, 10)
    gain = np.full(10, 0.5) if alike else rng.uniform(0.2, 0.6, 10)
    sounds = [
        g * np.exp(-4 * time) * sum(np.sin(2 * np.pi * 110 * k * 2 ** (b / 12) * time) / k for k in range(1, 20))
        + 1e-3 * rng.standard_normal(8_000)
        for g, b in zip(gain, detune, strict=True)
    ]
    corpus = corpus_of(tmp_path, sounds)
    config = SMALL.model_copy(update={"codebook_size": 64, "num_quantizers": 4})
    model = build_vqvae(16_000, config, 0).eval()
    with torch.no_grad():
        strength = initialise_module._best_strength(model, corpus, corpus.entries, torch.Generator().manual_seed(0))
    assert (strength == 0.0) if alike else (strength > 0.0)


@pytest.mark.parametrize(("rate", "n_fft"), [(22_050, 1024), (24_000, 1024), (44_100, 2048), (48_000, 2048)])
def test_the_shipped_weights_fit_the_default_codec_and_no_other(rate: int, n_fft: int) -> None:
    default = get_adaptive_vqvae_config(200)
    model = build_vqvae(rate, default, 0, warm=False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert load_pretrained(model)
    shipped = load_file(PRETRAINED / f"n_fft_{n_fft}.safetensors")
    for key, value in model.state_dict().items():
        if key in shipped:
            assert torch.equal(value, shipped[key].float()), key
        else:
            assert torch.equal(value, before[key]), key
    for other_rate, changes in ((rate, {"hidden_size": 128}), (rate, {"num_layers": 3}), (8_000, {})):
        other = build_vqvae(other_rate, default.model_copy(update=changes), 0, warm=False)
        weights = {key: value.clone() for key, value in other.state_dict().items()}
        assert not load_pretrained(other)
        assert all(torch.equal(value, weights[key]) for key, value in other.state_dict().items())


def test_pretrained_weights_are_written_where_they_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initialise_module, "PRETRAINED", tmp_path / "pretrained")
    teacher, pupil = (build_vqvae(16_000, SMALL, seed, warm=False) for seed in (0, 1))
    assert not load_pretrained(pupil)
    write_pretrained(teacher)
    assert load_pretrained(pupil)
    torch.testing.assert_close(pupil.head.weight, teacher.head.weight, rtol=0, atol=1e-3)
    assert not torch.equal(pupil.encoder.embed.weight, teacher.encoder.embed.weight)
