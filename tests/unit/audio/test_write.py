"""Writing of audio files: what is lost of soft sounds, and what samplers read."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from distill.audio.write import AudioFormat, audio_file, with_sampler_chunk, write_audio


@pytest.mark.parametrize("kind", ["wav", "flac"])
@pytest.mark.parametrize(("level", "subtype"), [(0.5, "PCM_16"), (0.02, "PCM_16"), (6e-4, "PCM_24")])
def test_a_soft_sound_is_written_in_more_bits(tmp_path: Path, kind: AudioFormat, level: float, subtype: str) -> None:
    sound = (level * np.sin(np.arange(9000) / 10)).astype(np.float32)
    path = tmp_path / f"a.{kind}"
    write_audio(path, sound, 8000, kind)
    assert soundfile.info(path).subtype == subtype
    assert np.abs(soundfile.read(path)[0] - sound).std() <= level / 1000


@pytest.mark.parametrize("level", [0.5, 6e-4])  # in 16 and in 24 bits
@pytest.mark.parametrize("loop", [None, (100, 899)])
def test_samplers_read_key_and_loop_and_others_the_same_sound(
    tmp_path: Path, level: float, loop: tuple[int, int] | None
) -> None:
    plain = audio_file(tmp_path / "a.wav", np.full(1001, level, np.float32), 8000, "wav", "made with")
    data = with_sampler_chunk(plain, 8000, 61, loop)
    chunks, start = {}, 12
    while start < len(data):
        size = int.from_bytes(data[start + 4 : start + 8], "little")
        chunks[data[start : start + 4]] = data[start + 8 : start + 8 + size]
        start += 8 + size + size % 2  # chunks begin at even places
    assert (start, int.from_bytes(data[4:8], "little")) == (len(data), len(data) - 8)
    assert list(chunks) == [b"fmt ", b"LIST", b"data", b"smpl"]
    fields = struct.unpack(f"<{len(chunks[b'smpl']) // 4}I", chunks[b"smpl"])
    assert fields[2:9] == (125_000, 61, 0, 0, 0, int(loop is not None), 0)  # nanoseconds of a sample, key, fraction
    assert fields[9:] == (() if loop is None else (0, 0, 100, 899, 0, 0))
    (tmp_path / "a.wav").write_bytes(plain)
    (tmp_path / "b.wav").write_bytes(data)
    one, other = (soundfile.read(tmp_path / name)[0] for name in ("a.wav", "b.wav"))
    assert (one == other).all()
