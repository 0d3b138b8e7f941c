"""Writing of audio files: what is lost of soft sounds, and what samplers read."""

import re
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile

from distill.audio.write import AudioFormat, Bits, audio_file, with_sampler_chunk, write_audio

ROOT = Path(__file__).parents[3]


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


LEVELS = {16: 0.5, 24: 6e-4}  # peaks that are written in so many bits


@pytest.mark.parametrize("kind", ["wav", "flac"])
@pytest.mark.parametrize("bits", LEVELS)
def test_samples_are_rounded_to_the_nearest(kind: AudioFormat, bits: int) -> None:
    sound = LEVELS[bits] * np.random.default_rng(0).uniform(-1, 1, 200_000)
    written = soundfile.read(BytesIO(audio_file(Path("a"), sound, 8000, kind, "")), dtype="float64")[0]
    error = (written - sound) * 2 ** (bits - 1)
    assert abs(error.mean()) < 0.01
    assert np.abs(error).max() <= 0.5
    assert error.std() == pytest.approx(12**-0.5, abs=0.02)  # of what is rounded evenly


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_decay_ends_in_silence_and_full_scale_is_clipped(kind: AudioFormat) -> None:
    sound = np.array([1.5, 1, 32767.6 / 32768, 0.5, -1e-9, 1e-9, -0.4 / 32768, -1, -1.5], np.float32)
    written = soundfile.read(BytesIO(audio_file(Path("a"), sound, 8000, kind, "")), dtype="int16")[0]
    assert written.tolist() == [32767, 32767, 32767, 16384, 0, 0, 0, -32768, -32768]


@pytest.mark.parametrize(
    ("kind", "bits", "subtype"), [("wav", 24, "PCM_24"), ("wav", 32, "FLOAT"), ("flac", 32, "PCM_24")]
)
def test_bits_that_are_asked_for_are_kept(kind: AudioFormat, bits: Bits, subtype: str) -> None:
    sound = (np.random.default_rng(0).integers(-(2**23), 2**23, 5000) / 2**23).astype(np.float32)
    data = BytesIO(audio_file(Path("a"), sound, 8000, kind, "", bits))
    with soundfile.SoundFile(data) as file:
        assert file.subtype == subtype
        assert np.array_equal(file.read(dtype="float32"), sound)
    louder = soundfile.read(BytesIO(audio_file(Path("a"), 2 * sound, 8000, kind, "", bits)))[0]
    assert np.abs(louder).max() == pytest.approx(2 if subtype == "FLOAT" else 1, abs=1e-3)


def test_players_without_distill_round_alike() -> None:
    sound = np.array([1.5, 0.5, 0.7 / 32768, -0.7 / 32768, -1.5])
    for path in ("examples/play.py", "examples/play_onnx.py"):
        (written,) = re.findall(r"writeframes\((.*?)\.tobytes\(\)\s*\)", (ROOT / path).read_text(), re.DOTALL)
        found = eval(f"({written})", {"np": np, "sound": sound, "samples": sound})
        assert found.tolist() == [32767, 16384, 1, -1, -32768]
