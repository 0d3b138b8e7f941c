"""Writing of audio files: what is lost of soft sounds."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from distill.audio.write import AudioFormat, write_audio


@pytest.mark.parametrize("kind", ["wav", "flac"])
@pytest.mark.parametrize(("level", "subtype"), [(0.5, "PCM_16"), (0.02, "PCM_16"), (6e-4, "PCM_24")])
def test_a_soft_sound_is_written_in_more_bits(tmp_path: Path, kind: AudioFormat, level: float, subtype: str) -> None:
    sound = (level * np.sin(np.arange(9000) / 10)).astype(np.float32)
    path = tmp_path / f"a.{kind}"
    write_audio(path, sound, 8000, kind)
    assert soundfile.info(path).subtype == subtype
    assert np.abs(soundfile.read(path)[0] - sound).std() <= level / 1000
