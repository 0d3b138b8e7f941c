"""Sounds on disk: as many bits as their level asks for."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from distill.audio.write import AudioFormat, write_audio


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_soft_sounds_keep_their_resolution(tmp_path: Path, kind: AudioFormat) -> None:
    sound = np.sin(np.arange(4000) * 0.05).astype(np.float32)
    for peak, subtype in ((0.5, "PCM_16"), (6e-4, "PCM_24"), (0.0, "PCM_16")):
        path = tmp_path / f"{peak}.{kind}"
        write_audio(path, np.float32(peak) * sound, 16_000, kind)
        assert soundfile.info(path).subtype == subtype
        assert np.abs(soundfile.read(path)[0] - peak * sound).max() <= max(2e-7, peak / 10_000)
