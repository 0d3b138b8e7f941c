"""Initialisation of the codec: codebooks fitted to the corpus, pretrained decoder weights where they fit."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from distill.audio.corpus import Corpus, load_corpus
from distill.audio.ingest import ingest
from distill.audio.write import write_audio
from distill.codec import initialise as initialise_module
from distill.codec.initialise import PRETRAINED, build_vqvae, initialise, load_pretrained
from distill.params import get_adaptive_vqvae_config

SMALL = get_adaptive_vqvae_config(8, codebook_size=16, num_quantizers=6, hidden_size=32, num_layers=2, latent_size=16)


Sounds = list[NDArray[np.floating]]


def corpus_of(folder: Path, sounds: Sounds) -> Corpus:
    for number, sound in enumerate(sounds):
        write_audio(folder / "in" / f"{number:02d}.wav", sound.astype(np.float32), 16_000)
    ingest(folder / "in", folder / "out", 16_000, 0.0)
    return load_corpus(folder / "out")


def tones(count: int, rng: np.random.Generator) -> Sounds:
    time = np.arange(4_000) / 16_000
    levels, pitches = rng.uniform(0.2, 0.8, count), rng.uniform(100, 900, count)
    return [g * np.sin(2 * np.pi * f * time) * np.exp(-3 * time) for g, f in zip(levels, pitches, strict=True)]


def coding_error(fitted: Corpus, coded: Corpus) -> float:
    """Error of coding a corpus with projection and codebooks that are fitted to another one."""
    model = build_vqvae(16_000, SMALL, 0)
    initialise(model, fitted, fitted.entries, 0)
    with torch.no_grad():
        pieces = initialise_module._view_features(model, coded, coded.entries, 0.0, 10**6, torch.Generator(), views=1)
        return sum(initialise_module._error(model, piece) for piece in pieces)


def test_codebooks_hold_the_corpus_and_have_codewords_for_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codebooks of noise code tones badly, and those of tones alone clicks; synthetic sounds among them help."""
    rng = np.random.default_rng(0)
    tonal = corpus_of(tmp_path / "tones", tones(4, rng))
    noisy = corpus_of(tmp_path / "noise", [0.3 * rng.standard_normal(4_000) for _ in range(4)])
    assert coding_error(tonal, tonal) < 0.5 * coding_error(noisy, tonal)
    clicks = corpus_of(tmp_path / "clicks", [np.where(rng.random(4_000) < 1e-3, 0.9, 0.0) for _ in range(4)])
    with_synthetic = coding_error(tonal, clicks)
    monkeypatch.setattr(initialise_module, "_synthetic_features", lambda *_: [])
    assert with_synthetic < 0.8 * coding_error(tonal, clicks)


@pytest.mark.parametrize(
    ("peaks", "dense", "gain"),
    [
        ((0.9, 0.01), False, 1),
        ((0.5, 0.2), False, 2),
        ((0.03, 0.001), False, 32),
        ((1.0, 0.9), True, 0.5),
        ((0.02,), True, 16),
    ],
)
def test_the_gain_brings_the_loudest_recording_to_full_scale_and_dense_sound_below(
    tmp_path: Path, peaks: tuple[float, ...], dense: bool, gain: float
) -> None:
    """Noise at full scale would be louder than the loudest code, and come out softer."""
    rng = np.random.default_rng(0)
    sounds = [rng.uniform(-1, 1, 8_000) if dense else np.sin(np.arange(8_000) * (0.2 + peak)) for peak in peaks * 2]
    folder = tmp_path / "in"
    folder.mkdir()
    for number, (sound, peak) in enumerate(zip(sounds, peaks * 2, strict=True)):
        whole = sound * (peak * 0.999 / np.abs(sound).max())
        soundfile.write(folder / f"{number}.wav", whole, 44_100, subtype="FLOAT")
    ingest(folder, tmp_path / "out", 44_100, 0.0)
    corpus = load_corpus(tmp_path / "out")
    model = build_vqvae(44_100, SMALL, 0).eval()
    initialise_module.fit_input_gain(model, corpus, corpus.entries)
    assert model.architecture.input_gain == gain


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
    model = build_vqvae(16_000, SMALL.model_copy(update={"codebook_size": 64, "num_quantizers": 7}), 0).eval()
    with torch.no_grad():
        strength = initialise_module._best_strength(model, corpus, corpus.entries, torch.Generator().manual_seed(0))
    assert (strength == 0.0) if alike else (strength > 0.0)


@pytest.mark.parametrize(("rate", "n_fft"), [(22_050, 1024), (24_000, 1024), (44_100, 2048), (48_000, 2048)])
def test_the_shipped_weights_fit_the_default_codec_and_no_other(rate: int, n_fft: int) -> None:
    default = get_adaptive_vqvae_config(200)
    model = build_vqvae(rate, default, 0, warm=False)
    expected = {key: value.clone() for key, value in model.state_dict().items()}
    shipped = {key: value.float() for key, value in load_file(PRETRAINED / f"n_fft_{n_fft}.safetensors").items()}
    assert load_pretrained(model)
    assert all(torch.equal(value, {**expected, **shipped}[key]) for key, value in model.state_dict().items())
    for other_rate, changes in ((rate, {"hidden_size": 128}), (rate, {"num_layers": 3}), (8_000, {})):
        other = build_vqvae(other_rate, default.model_copy(update=changes), 0, warm=False)
        weights = {key: value.clone() for key, value in other.state_dict().items()}
        assert not load_pretrained(other)
        assert all(torch.equal(value, weights[key]) for key, value in other.state_dict().items())
