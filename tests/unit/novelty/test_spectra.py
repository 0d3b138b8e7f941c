"""Spectra of codes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from unit.tiny import networks, tiny_codec

from distill.codec.model import VQVAE
from distill.novelty import spectra as novelty_spectra
from distill.novelty.spectra import BANDS, MOST_FRAMES, CodeSpectra

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("codec", [tiny_codec(), networks()[0]], ids=["plain and overlapping levels", "plain levels"])
def test_codes_stand_for_what_the_codec_makes_of_them(codec: VQVAE) -> None:
    """Against the codec's own decoding: overlapping codewords, unprojected, averaged in bands; in dB."""
    codes = RNG.integers(0, 8, (100, codec.architecture.num_quantizers))
    config = codec.spectrogram
    with torch.no_grad():
        features = codec.unproject(codec.quantizer.decode(torch.from_numpy(codes)[None]))
        log_mel = codec.frame_features.by_hop(features)[0][0].view(100, config.stack, config.n_mels).mean(dim=1)
        expected = 20 * torch.nn.functional.adaptive_avg_pool1d(log_mel, BANDS)
    np.testing.assert_allclose(CodeSpectra(codec)(codes), expected.numpy(), atol=1e-3)


def test_spectra_of_many_recordings_are_those_of_each_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In pieces, too, and in a file, where there are many."""
    spectra = CodeSpectra(tiny_codec())
    recordings = [RNG.integers(0, 8, (frames, 3)) for frames in (1, 2, 700, 3, MOST_FRAMES + 5, 40)]
    alone = np.concatenate([spectra(codes) for codes in recordings])
    np.testing.assert_array_equal(spectra.joined(recordings), alone)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name, value in (("MOST_FRAMES", 13), ("MOST_IN_MEMORY", 1000)):
        monkeypatch.setattr(novelty_spectra, name, value)
    kept = spectra.joined(recordings)
    assert isinstance(kept, np.memmap)
    np.testing.assert_array_equal(kept, alone)
