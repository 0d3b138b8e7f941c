"""Decoding in a process: the same results, and files that hang, crash or eat memory cost nothing but themselves."""

import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from distill.audio import decoder as decoder_module
from distill.audio.bandwidth import measure_bandwidth
from distill.audio.decode import Decoded, decode
from distill.audio.decoder import Decoder, Decoders
from distill.audio.ingest import ingest
from distill.errors import AudioError, DistillError
from distill.storage.work import Here

RATE = 24000
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")


def write(path: Path, seed: int = 0, seconds: float = 0.3) -> Path:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE))
    sf.write(path, noise, RATE)
    return path


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder() as started:
        yield started


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path / "good.wav")


def write_hanging(path: Path) -> Path:
    """A WAV file of 128 bytes whose list of titles leads back to itself, for ever, in libsndfile 1.2.2."""
    back = struct.pack("<I", 0xFFFFFFF8)
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    body = b"WAVE" + form + b"LIST" + back + b"INFO" + b"XXXX" + back + b"data" + struct.pack("<I", 64) + bytes(64)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def same(one: Decoded, other: Decoded) -> bool:
    """Whether two results are equal in every bit."""
    if one.recording is None or other.recording is None:
        return (one.recording, one.reason, one.sha256) == (other.recording, other.reason, other.sha256)
    arrays = zip(
        (one.recording.pcm, *vars(one.fingerprint).values()),
        (other.recording.pcm, *vars(other.fingerprint).values()),
        strict=True,
    )
    rest = [{**vars(item.recording), "pcm": 0} for item in (one, other)]
    hashes = [(item.reason, item.sha256, item.pcm_sha256) for item in (one, other)]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in arrays) and (
        rest[0] == rest[1] and hashes[0] == hashes[1]
    )


def test_a_process_decodes_to_the_same(tmp_path: Path, decoder: Decoder) -> None:
    stereo = np.random.default_rng(1).uniform(-1.5, 1.5, (9000, 2))
    sf.write(tmp_path / "loud.wav", stereo, 48000, subtype="FLOAT")
    (tmp_path / "loud.wav").rename(tmp_path / "loud ö\udcff.wav")
    for number, suffix in enumerate(("wav", "flac", "ogg", "mp3", "aiff")):
        write(tmp_path / f"a.{suffix}", number)
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "empty.wav").touch()
    sf.write(tmp_path / "silent.wav", np.zeros(900), RATE)
    for path in [*tmp_path.iterdir(), tmp_path / "missing.wav"]:
        assert same(decoder.decoded(path, RATE), decode(path, RATE))
        assert decoder.bandwidth(path) == measure_bandwidth(path)
    found = decode(tmp_path / "a.wav", RATE).recording
    assert found is not None
    np.testing.assert_array_equal(decoder.recording(tmp_path / "a.wav", RATE).pcm, found.pcm)
    with pytest.raises(AudioError, match=r"^is text, not audio: it begins with 'no audio'$"):
        decoder.recording(tmp_path / "text.wav", RATE)


@linux
def test_a_file_that_hangs_is_refused_soon_however_large(
    tmp_path: Path, decoder: Decoder, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening it, or a block of it, may not take as long as decoding all of it. The next file is decoded."""
    monkeypatch.setattr(decoder_module, "LEAST_SECONDS", 1)
    monkeypatch.setattr(decoder_module, "BYTES_PER_SECOND", 1)
    monkeypatch.setattr(decoder_module, "WAITING", 100)
    hanging = write_hanging(tmp_path / "hanging.wav")
    os.truncate(hanging, 1_000_000)
    reason = decoder.decoded(hanging, RATE).reason
    assert reason == "takes too much processor time to decode for its 1000000 bytes"
    assert decoder.decoded(good, RATE).recording is not None


@linux
def test_one_that_waits_for_too_long_is_refused(decoder: Decoder, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file on a disk that does not answer. Here the process is stopped."""
    decoder.decoded(good, RATE)
    monkeypatch.setattr(decoder_module, "WAITING", 0.01)
    assert decoder._process is not None
    os.kill(decoder._process.pid, signal.SIGSTOP)
    assert "s to decode, too long for its" in decoder.decoded(good, RATE).reason
    monkeypatch.setattr(decoder_module, "WAITING", 10)
    assert decoder.decoded(good, RATE).recording is not None


@linux
def test_a_crash_of_the_decoder_is_a_reason(tmp_path: Path, decoder: Decoder, good: Path) -> None:
    hanging = write_hanging(tmp_path / "hanging.wav")
    decoder.decoded(good, RATE)
    assert decoder._process is not None
    threading.Timer(0.2, os.kill, (decoder._process.pid, signal.SIGSEGV)).start()
    assert decoder.decoded(hanging, RATE).reason == "ends its decoder (SIGSEGV)"
    assert decoder.decoded(good, RATE).recording is not None


@linux
def test_a_file_is_tried_again_where_something_else_killed_the_process(decoder: Decoder, good: Path) -> None:
    decoder.decoded(good, RATE)
    assert decoder._process is not None
    os.kill(decoder._process.pid, signal.SIGKILL)
    assert decoder.decoded(good, RATE).recording is not None


@linux
def test_a_file_that_eats_memory_is_refused(tmp_path: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed file of few bytes that holds an hour."""
    with sf.SoundFile(tmp_path / "bomb.flac", "w", RATE, 1, format="FLAC") as file:
        file.write(np.full(RATE, 0.5))
        for _ in range(3600):
            file.write(np.zeros(RATE))
    size = (tmp_path / "bomb.flac").stat().st_size
    assert size < 1 << 20
    monkeypatch.setattr(decoder_module, "LEAST_MEMORY", 256 << 20)
    monkeypatch.setattr(decoder_module, "MEMORY_PER_BYTE", 0)
    reason = decoder.decoded(tmp_path / "bomb.flac", RATE).reason
    assert reason == f"takes more than 256 MB of memory, too much for its {size} bytes"
    assert decoder.decoded(write(tmp_path / "good.wav"), RATE).recording is not None


@linux
def test_one_large_file_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that needs more than its share of the memory is decoded while no other such file is."""
    held, alone = [], threading.Lock()
    monkeypatch.setattr(decoder_module, "usable_memory", lambda: 512 << 20)
    path = tmp_path / "long.wav"
    with sf.SoundFile(path, "w", RATE, 1, subtype="PCM_U8") as file:
        for _ in range(12):
            file.write(np.tile([0.5, -0.5], 500_000))
    with Decoder(2, alone) as decoder:
        decoder.decoded(write(tmp_path / "good.wav"), RATE)
        ask = decoder._ask_once
        monkeypatch.setattr(
            decoder, "_ask_once", lambda *asked: (held.append((asked[-1] >> 20, alone.locked())), ask(*asked))[1]
        )
        assert decoder.decoded(path, RATE).recording is not None
        assert held == [(64, False), (256, True)]
        assert decoder.decoded(write(tmp_path / "good.wav"), RATE).recording is not None
        assert held[2:] == [(64, False)]
        assert not alone.locked()


@linux
def test_what_cannot_be_held_is_refused_before_it_is_decoded(
    tmp_path: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse file: many bytes that take no room on the disk."""
    monkeypatch.setattr(decoder_module, "usable_memory", lambda: 512 << 20)
    path = write(tmp_path / "sparse.wav")
    size = 44 + (400 << 20)
    head = bytearray(path.read_bytes()[:44])
    head[4:8], head[40:44] = struct.pack("<I", size - 8), struct.pack("<I", size - 44)
    path.write_bytes(head)
    os.truncate(path, size)
    assert decoder.decoded(path, RATE).reason == (f"takes more than 256 MB of memory, too much for its {size} bytes")
    process = decoder._process
    assert process is not None
    used = Path(f"/proc/{process.pid}/status").read_text()
    assert int(used.split("VmHWM:")[1].split()[0]) < 300 << 10  # of memory in fact


def test_libraries_print_nothing(tmp_path: Path, decoder: Decoder, capfd: pytest.CaptureFixture[str]) -> None:
    """libmpg123 warns of each frame of a damaged tag."""
    sf.write(tmp_path / "good.mp3", np.random.default_rng(0).uniform(-0.5, 0.5, RATE), RATE)
    frames = b"TIT2\0\0\0\2\0\0\0x" * 100
    path = tmp_path / "tagged.mp3"
    path.write_bytes(b"ID3\4\0\0" + bytes([0, 0, len(frames) >> 7, len(frames) & 127]) + frames)
    path.write_bytes(path.read_bytes() + (tmp_path / "good.mp3").read_bytes())
    assert decoder.decoded(path, RATE).recording is not None
    assert capfd.readouterr().err == ""


@linux
def test_ingest_uses_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "LEAST_SECONDS", 1)
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(6):
        write(folder / f"{number}.wav", number)
    write_hanging(folder / "3a.wav")
    report = ingest(folder, tmp_path / "out", RATE, 0.5, Here(2))
    assert (report.used, report.rejected) == (6, 1)


def test_all_processes_end_with_whoever_asked(tmp_path: Path) -> None:
    hanging = write_hanging(tmp_path / "hanging.wav")
    began = time.monotonic()
    decoders = Decoders(2)

    def decode_and_stop() -> None:
        with decoders:
            results = decoders.map(lambda decoder, path: decoder.decoded(path, RATE), [hanging] * 9)
            threading.Timer(0.5, decoders._all[0].close).start()
            assert next(results)[1].reason == "was not decoded: decoding was stopped"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_and_stop()
    assert time.monotonic() - began < 20
    assert all(decoder._process is None for decoder in decoders._all)


def test_nothing_is_imported_from_the_folder_of_the_sounds(
    tmp_path: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "soundfile", "json", "distill"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    assert decoder.decoded(write(tmp_path / "good.wav"), RATE).recording is not None


def test_without_processes_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with (
        Decoder() as decoder,
        pytest.raises(
            DistillError, match=r"decoding: expected to start a process .* found: No such file .*; close other programs"
        ),
    ):
        decoder.decoded(write(tmp_path / "good.wav"), RATE)
