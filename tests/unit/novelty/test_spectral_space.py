"""Alignment in spectral space: softer, louder, at any lag; and the spectra of codes."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from unit.tiny import networks, tiny_codec

from distill.codec.model import VQVAE
from distill.novelty import spectral_space
from distill.novelty.constants import UNLIKE_DB
from distill.novelty.spectral_space import BANDS, MOST_FRAMES, CodeSpectra, Spectra, SpectralIndex


def index_of(recordings: Sequence[Spectra]) -> SpectralIndex:
    return SpectralIndex(np.concatenate(recordings), [len(one) for one in recordings])


def smooth(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Something like a spectrogram in dB."""
    noise = rng.normal(0, 12, (frames + 8, BANDS))
    return np.stack([noise[n : n + 8].mean(axis=0) * 3 - 30 for n in range(frames)]).astype(np.float32)


@pytest.mark.parametrize("frames", [300, 40_000])
def test_a_softer_copy_is_found_where_it_stands(frames: int) -> None:
    rng = np.random.default_rng(0)
    training = [smooth(rng, frames), smooth(rng, 120)]
    queries = [training[0][33:123] - 6, training[1][10:50] + 4, smooth(rng, 60)]
    first, second, other = index_of(training).match(queries)
    assert (first.recording, first.offset, first.copied_frames, first.edit_distance) == (0, 33, 90, 0)
    assert (second.recording, second.offset, second.copied_frames) == (1, 10, 40)
    assert first.likeness == pytest.approx(1, abs=1e-3)
    assert other.likeness < 0.8
    assert other.edit_distance > 0.5


def test_frames_beyond_a_recording_are_like_nothing() -> None:
    rng = np.random.default_rng(1)
    training = smooth(rng, 50)
    (match,) = index_of([training]).match([np.concatenate([training, smooth(rng, 50)])])
    assert match.offset == 0
    assert match.likeness == pytest.approx(0.5, abs=0.02)


def test_noise_of_some_db_costs_as_much() -> None:
    rng = np.random.default_rng(2)
    training = smooth(rng, 80)
    (match,) = index_of([training]).match([training + rng.normal(0, 2, training.shape).astype(np.float32)])
    assert (1 - match.likeness) * UNLIKE_DB == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("codec", [tiny_codec(), networks()[0]], ids=["plain and overlapping levels", "plain levels"])
def test_codes_stand_for_what_the_codec_makes_of_them(codec: VQVAE) -> None:
    """Against the codec's own decoding: overlapping codewords, unprojected, averaged in bands."""
    codes = np.random.default_rng(0).integers(0, 8, (100, codec.architecture.num_quantizers))
    config = codec.spectrogram
    with torch.no_grad():
        features = codec.unproject(codec.quantizer.decode(torch.from_numpy(codes)[None]))
        log_mel = codec.frame_features.by_hop(features)[0][0].view(100, config.stack, config.n_mels).mean(dim=1)
        expected = 20 * torch.nn.functional.adaptive_avg_pool1d(log_mel, BANDS)
    np.testing.assert_allclose(CodeSpectra(codec)(codes), expected.numpy(), atol=1e-3)


def test_long_codes_give_the_spectra_of_their_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    spectra = CodeSpectra(tiny_codec())
    codes = np.random.default_rng(0).integers(0, 8, (100, 3))
    whole = spectra(codes)
    monkeypatch.setattr(spectral_space, "MOST_FRAMES", 13)
    np.testing.assert_array_equal(spectra(codes), whole)


def test_spectra_are_in_decibels() -> None:
    """Codes decode to log10 amplitudes: .5 more is 10 dB."""
    codec = tiny_codec()
    codes = np.random.default_rng(0).integers(0, 8, (5, 3))
    before = CodeSpectra(codec)(codes)
    codec.mean += 0.5
    np.testing.assert_allclose(CodeSpectra(codec)(codes), before + 10, atol=1e-4)


def test_spectra_of_many_recordings_are_those_of_each_alone() -> None:
    spectra, rng = CodeSpectra(tiny_codec()), np.random.default_rng(0)
    recordings = [rng.integers(0, 8, (frames, 3)) for frames in (1, 2, 700, 3, MOST_FRAMES + 5, 40)]
    alone = np.concatenate([spectra(codes) for codes in recordings])
    np.testing.assert_array_equal(spectra.joined(recordings), alone)
