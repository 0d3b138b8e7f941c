"""Headers that state less sound than their files hold, and what follows sound without being any."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from distill.audio.bandwidth import measure_bandwidth
from distill.audio.headers import read_header
from distill.audio.read import read_recording

RATE = 8000
SOUND = (0.5 * np.sin(2 * np.pi * 440 * np.arange(20 * RATE) / RATE)).astype(np.float32)
STATED = 2 * RATE
KINDS = {
    "wav": ("WAV", "PCM_16", "FILE"),
    "ex.wav": ("WAVEX", "PCM_24", "FILE"),
    "big.wav": ("WAV", "PCM_16", "BIG"),
    "float.wav": ("WAV", "FLOAT", "FILE"),
    "8.wav": ("WAV", "PCM_U8", "FILE"),
    "aiff": ("AIFF", "PCM_24", "FILE"),
    "aifc": ("AIFF", "PCM_16", "LITTLE"),
    "rf64": ("RF64", "PCM_16", "FILE"),
    "w64": ("W64", "PCM_16", "FILE"),
    "caf": ("CAF", "PCM_16", "FILE"),
    "le.caf": ("CAF", "PCM_24", "LITTLE"),
}


def written(path: Path, samples: np.ndarray) -> bytes:
    kind, subtype, endian = KINDS[path.name]
    sf.write(path, samples, RATE, format=kind, subtype=subtype, endian=endian)
    return path.read_bytes()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("stated", [STATED, 0], ids=["last save", "none"])
def test_sound_behind_the_end_in_the_header_is_used_and_said(tmp_path: Path, name: str, stated: int) -> None:
    """A recorder that lost power: the header of a shorter recording before all of the samples."""
    path = tmp_path / name
    whole, short = written(path, SOUND), written(path, SOUND[:STATED])
    found = read_recording(path, RATE)
    assert found.reason == ""
    path.write_bytes(whole)
    expected = read_recording(path, RATE).pcm
    head = written(path, SOUND[:stated])
    size = (len(whole) - len(short)) // (len(SOUND) - STATED)  # bytes of a sample
    path.write_bytes(head[: len(head) - size * stated] + whole[len(whole) - size * len(SOUND) :])
    found = read_recording(path, RATE)
    assert found.reason == f"its header announces {stated / RATE:.3f} s, it holds 20.0 s: all of it was read"
    np.testing.assert_array_equal(found.pcm, expected)
    assert measure_bandwidth(path).seconds == 20.0


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body


BEHIND = {
    "chunks": chunk(b"LIST", b"INFO" + chunk(b"ICMT", bytes(9000))) + chunk(b"bext", bytes(602)),
    "a chunk": chunk(b"id3 ", bytes(9000)),
    "ID3v1": b"TAG" + b"Title".ljust(125, b"\0"),
    "ID3v2": b"ID3\x03\0\0\0\0\x07\x68" + b"x" * 9000,
    "APE": b"APETAGEX" + b"x" * 9000,
    "room for more": bytes(99_999),
    "remains": b"\x01\x02\x03" * 200,
}


@pytest.mark.parametrize("name", BEHIND)
def test_what_follows_the_sound_without_being_any_is_none(tmp_path: Path, name: str) -> None:
    path = tmp_path / "8.wav"
    for length in (STATED, STATED - 1):  # of an odd one a padding byte follows
        data = written(path, SOUND[:length])
        expected = read_recording(path, RATE).pcm
        path.write_bytes(data + BEHIND[name])
        found = read_recording(path, RATE)
        assert found.reason == ""
        np.testing.assert_array_equal(found.pcm, expected)


@pytest.mark.parametrize("size", [-12, 1 << 62])
def test_a_chunk_that_leads_back_or_out_of_the_file_ends_the_search(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.caf"
    path.write_bytes(b"caff\0\x01\0\0" + b"free" + struct.pack(">q", size))
    assert read_header(path) is None


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "GSM610"])
def test_what_is_missing_of_a_coding_with_blocks_is_said(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a.w64"
    sf.write(path, SOUND, RATE, format="W64", subtype=subtype)
    assert read_recording(path, RATE).reason == ""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert read_recording(path, RATE).reason.startswith("incomplete: ")


def with_short_streaminfo(data: bytes) -> bytes:
    total = int.from_bytes(data[18:26], "big") >> 36 << 36 | STATED
    return data[:18] + total.to_bytes(8, "big") + data[26:]


def with_short_xing(data: bytes) -> bytes:
    place = data.index(b"Xing") + 8
    frames = struct.unpack(">I", data[place : place + 4])[0]
    return data[:place] + struct.pack(">I", frames // 10) + data[place + 4 :]


@pytest.mark.parametrize(("suffix", "shortened"), [("flac", with_short_streaminfo), ("mp3", with_short_xing)])
def test_frames_behind_the_end_in_the_header_are_used_and_said(
    tmp_path: Path, suffix: str, shortened: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"a.{suffix}"
    sf.write(path, SOUND, RATE)
    expected = read_recording(path, RATE)
    assert expected.reason == ""
    path.write_bytes(shortened(path.read_bytes()))
    found = read_recording(path, RATE)
    assert found.reason.endswith("it holds 20.0 s: all of it was read")
    assert len(found.pcm) == pytest.approx(len(expected.pcm), abs=0.1 * RATE)


@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_a_large_tag_is_no_sound(tmp_path: Path, suffix: str) -> None:
    """Such as a picture: noise, in which frames seem to begin."""
    path = tmp_path / f"a.{suffix}"
    sf.write(path, SOUND, RATE)
    expected = read_recording(path, RATE).pcm
    path.write_bytes(path.read_bytes() + b"APETAGEX" + np.random.default_rng(0).bytes(500_000))
    found = read_recording(path, RATE)
    assert found.reason == ""
    np.testing.assert_array_equal(found.pcm, expected)


def without_xing(data: bytes) -> bytes:
    """From the second frame on: what programs that stream write."""
    return data[data.index(data[:2], 100) :]


def test_an_mp3_file_of_changing_bit_rate_without_a_length_is_read_to_its_end(tmp_path: Path) -> None:
    """libsndfile takes the first frame's bit rate for that of all."""
    path = tmp_path / "a.mp3"
    loud = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE)
    sf.write(path, np.concatenate([loud, 0.001 * loud, 0.001 * loud]), RATE, bitrate_mode="VARIABLE")
    path.write_bytes(without_xing(path.read_bytes()))
    with sf.SoundFile(path) as file:
        assert file.frames < 5 * RATE
    assert len(read_recording(path, RATE).pcm) == pytest.approx(6 * RATE, abs=0.2 * RATE)


def test_mp3_files_that_were_joined_are_read_to_their_end(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.mp3", SOUND[:STATED], RATE)
    joined = tmp_path / "b.mp3"
    tag = b"ID3\x03\0\0\0\0\x07\x68" + bytes(1000)
    joined.write_bytes((tag + (tmp_path / "a.mp3").read_bytes()) * 3)
    found = read_recording(joined, RATE)
    assert found.reason.startswith("its header announces 2.000 s, it holds 6.")
    assert len(found.pcm) == pytest.approx(3 * STATED, abs=0.6 * RATE)
