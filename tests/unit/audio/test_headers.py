"""Headers that state less sound than their files hold, and what follows sound without being any."""

import struct
from collections.abc import Callable
from itertools import pairwise
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
    "au": ("AU", "PCM_16", "BIG"),
    "le.au": ("AU", "PCM_16", "LITTLE"),
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


SIZED = {"wav": b"data", "8.wav": b"data", "aiff": b"SSND", "w64": b"data"}


def chunks_of(name: str, data: bytes, at: list[int], between: bytes = b"", pads: bool = True) -> bytes:
    """A file whose one chunk of samples is cut into several, with other chunks between."""
    wide, head = name == "w64", 8 if name == "aiff" else 0
    layout = struct.Struct("<Q" if wide else ">I" if name == "aiff" else "<I")
    title = data.index(SIZED[name])
    body = title + (24 if wide else 8) + head
    tag, samples = data[title : title + (16 if wide else 4)], data[body:]
    edges = [0, *at, len(samples)]
    parts = []
    for start, stop in pairwise(edges):
        part = bytes(head) + samples[start:stop]
        size = layout.pack(len(part) + 24 * wide)
        parts.append(tag + size + part + bytes(-len(part) % (8 if wide else 2)) * pads)
    return data[:title] + between.join(parts)


@pytest.mark.parametrize("name", SIZED)
@pytest.mark.parametrize("at", [[3 * STATED], [400, 2 * STATED, 3 * STATED]], ids=["two", "four"])
def test_samples_in_several_chunks_are_joined(tmp_path: Path, name: str, at: list[int]) -> None:
    """libsndfile reads the first of them, or refuses the file."""
    path = tmp_path / name
    data = written(path, SOUND)
    expected = read_recording(path, RATE)
    between = chunk(b"LIST", b"INFO" + chunk(b"INAM", b"take")) if name == "wav" else b""
    path.write_bytes(chunks_of(name, data, at, between))
    found = read_recording(path, RATE)
    assert found.reason == expected.reason == ""
    np.testing.assert_array_equal(found.pcm, expected.pcm)
    assert measure_bandwidth(path).seconds == 20.0


@pytest.mark.parametrize("pads", [True, False])
def test_chunks_of_an_odd_length_are_joined_with_and_without_padding(tmp_path: Path, pads: bool) -> None:
    path = tmp_path / "8.wav"
    data = written(path, SOUND)
    expected = read_recording(path, RATE).pcm
    path.write_bytes(chunks_of("8.wav", data, [STATED + 1], pads=pads))
    np.testing.assert_array_equal(read_recording(path, RATE).pcm, expected)


def test_a_second_chunk_that_is_cut_off_is_said(tmp_path: Path) -> None:
    path = tmp_path / "wav"
    path.write_bytes(chunks_of("wav", written(path, SOUND), [2 * STATED])[: -2 * STATED])
    found = read_recording(path, RATE)
    assert found.reason == "incomplete: 18.0 s decoded, 20.0 s announced"
    assert len(found.pcm) == len(SOUND) - STATED


def test_tags_behind_the_samples_of_a_header_without_sizes_are_no_sound(tmp_path: Path) -> None:
    path = tmp_path / "8.wav"
    data = bytearray(written(path, SOUND))
    expected = read_recording(path, RATE).pcm
    data[40:44] = bytes(4)
    path.write_bytes(data + BEHIND["chunks"])
    np.testing.assert_array_equal(read_recording(path, RATE).pcm, expected)


@pytest.mark.parametrize("seconds", [20.0, 2.0])
def test_bw64_is_read_as_rf64(tmp_path: Path, seconds: float) -> None:
    """Of a header of the last save, too: FFmpeg would leave out the rest."""
    path, frames = tmp_path / "rf64", round(seconds * RATE)
    data = written(path, SOUND)
    expected = read_recording(path, RATE).pcm
    place = data.index(b"ds64") + 16
    path = tmp_path / "a.wav"
    path.write_bytes(b"BW64" + data[4:place] + struct.pack("<QQ", 2 * frames, frames) + data[place + 16 :])
    found = read_recording(path, RATE)
    said = "" if seconds == 20.0 else "its header announces 2.000 s, it holds 20.0 s: all of it was read"
    assert found.reason == said
    np.testing.assert_array_equal(found.pcm, expected)


BLOCKS = [("WAV", "MS_ADPCM"), ("WAV", "GSM610"), ("W64", "GSM610"), ("WAV", "NMS_ADPCM_16")]


@pytest.mark.parametrize(("kind", "subtype"), BLOCKS)
def test_what_fills_the_last_block_is_no_sound(tmp_path: Path, kind: str, subtype: str) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, SOUND[:12_345], RATE, format=kind, subtype=subtype)
    assert sf.info(path).frames > 12_345
    found = read_recording(path, RATE)
    assert (found.reason, len(found.pcm)) == ("", 12_345)


@pytest.mark.parametrize("stated", [0, STATED, 99 * RATE, 0xFFFFFFFF])
def test_a_number_of_frames_that_does_not_fit_the_blocks_cuts_nothing(tmp_path: Path, stated: int) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, SOUND, RATE, subtype="MS_ADPCM")
    data = path.read_bytes()
    place = data.index(b"fact") + 8
    path.write_bytes(data[:place] + struct.pack("<I", stated) + data[place + 4 :])
    found = read_recording(path, RATE)
    said = "its header announces 2.000 s, it holds 20.0 s: all of it was read" if stated == STATED else ""
    assert (found.reason, len(found.pcm)) == (said, sf.info(path).frames)


@pytest.mark.parametrize("has_name", [True, False])
def test_blocks_behind_the_end_in_the_header_are_said(tmp_path: Path, has_name: bool) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, SOUND, RATE, subtype="IMA_ADPCM")
    data = path.read_bytes()
    body = data.index(b"data") + 8
    half = (len(data) - body) // 512 * 256
    second = (b"data" + struct.pack("<I", len(data) - body - half)) * has_name
    header = data[: body - 4] + struct.pack("<I", half)
    path.write_bytes(header + data[body : body + half] + second + data[body + half :])
    found = read_recording(path, RATE)
    assert found.reason == "about 10.0 s after the end that its header states was left out"
    assert len(found.pcm) == pytest.approx(10 * RATE, abs=0.1 * RATE)


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


@pytest.mark.parametrize("length", [900, 5000, 9000, 20 * RATE])
def test_flac_of_a_header_that_states_a_little_less_is_read_to_its_end(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.flac"
    sf.write(path, SOUND[:length], RATE)
    expected, data = read_recording(path, RATE).pcm, path.read_bytes()
    for stated in (length - 1, length - 800):
        total = int.from_bytes(data[18:26], "big") >> 36 << 36 | stated
        path.write_bytes(data[:18] + total.to_bytes(8, "big") + data[26:])
        np.testing.assert_array_equal(read_recording(path, RATE).pcm, expected)


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
