"""Spectra of codes."""

import numpy as np
import pytest
import torch
from unit.tiny import networks, tiny_codec

from distill.codec.model import VQVAE
from distill.novelty import spectra as novelty_spectra
from distill.novelty.spectra import BANDS, MOST_FRAMES, CodeSpectra


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
    monkeypatch.setattr(novelty_spectra, "MOST_FRAMES", 13)
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
