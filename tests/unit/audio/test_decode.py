"""Decoding in a process: the same results, and files that hang, crash or eat memory cost nothing but themselves."""

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from distill.audio import decode as decoding
from distill.audio.bandwidth import measure_bandwidth
from distill.audio.decode import Decoder, Stopped, decode
from distill.audio.read import Recording
from distill.errors import AudioError, DistillError

RATE = 24000
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")


def write(path: Path, seed: int = 0, seconds: float = 0.3) -> Path:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE))
    sf.write(path, noise, RATE)
    return path


@pytest.fixture(autouse=True)
def decoding_here() -> None:
    """Not here: in processes."""


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder() as started:
        yield started


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path / "good.wav")


@pytest.fixture
def hanging(tmp_path: Path) -> Path:
    """A WAV file of 128 bytes whose list of titles leads back to itself, for ever, in libsndfile 1.2.2."""
    back = struct.pack("<I", 0xFFFFFFF8)
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    body = b"WAVE" + form + b"LIST" + back + b"INFO" + b"XXXX" + back + b"data" + struct.pack("<I", 64) + bytes(64)
    (tmp_path / "hanging.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return tmp_path / "hanging.wav"


def process_of(decoder: Decoder) -> int:
    assert decoder._process is not None
    return decoder._process.pid


def is_used(decoder: Decoder, path: Path) -> bool:
    return len(decoder.decoded(path, RATE).pcm) > 0


def parts(found: Recording) -> list[object]:
    """All of a result, to compare."""
    arrays = [found.pcm, found.image, found.noise, *(found.fingerprint or ())]
    values = [value for name, value in vars(found).items() if name not in ("pcm", "image", "noise", "fingerprint")]
    return [*values, *((array.dtype, array.tolist()) for array in arrays)]


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
        assert parts(decoder.decoded(path, RATE)) == parts(decode(path, RATE))
        assert parts(decoder.decoded(path, RATE, channels="fold")) == parts(decode(path, RATE, channels="fold"))
        assert decoder.bandwidth(path) == (measure_bandwidth(path) if path.exists() else None)
    with pytest.raises(
        AudioError, match=r"text\.wav: expected a recording, found a file that is text, not audio: it begins with 'no a"
    ):
        decoder.recording(tmp_path / "text.wav", RATE)


@linux
def test_a_file_that_hangs_is_refused_soon_however_large(
    hanging: Path, decoder: Decoder, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening it may not take as long as decoding all of it. The next file is decoded."""
    monkeypatch.setattr(decoding, "LEAST_SECONDS", 0)
    os.truncate(hanging, 1_000_000)
    reason = decoder.decoded(hanging, RATE).reason
    assert reason == "takes too much processor time to decode for its 1000000 bytes"
    assert is_used(decoder, good)


@linux
def test_one_that_waits_for_too_long_is_refused(decoder: Decoder, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file on a disk that does not answer. Here the process is stopped."""
    decoder.decoded(good, RATE)
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "LEAST_WAIT", 0)  # the second one has no time to answer
        patch.setattr(decoding, "BYTES_PER_SECOND", 1 << 30)
        os.kill(process_of(decoder), signal.SIGSTOP)
        assert "s to decode, too long for its" in decoder.decoded(good, RATE).reason
    assert is_used(decoder, good)


@linux
def test_a_file_that_crashes_two_decoders_is_refused(hanging: Path, decoder: Decoder, good: Path) -> None:
    """One crash may have been because of something else."""

    def crash_two() -> None:
        crashed: set[int] = set()
        while len(crashed) < 2:
            if (process := decoder._process) is not None and process.pid not in crashed:
                os.kill(process.pid, signal.SIGSEGV)
                crashed.add(process.pid)
            time.sleep(0.05)

    threading.Thread(target=crash_two).start()
    found = decoder.decoded(hanging, RATE)
    assert (found.reason, found.is_certain) == ("ends its decoder (SIGSEGV)", False)
    assert is_used(decoder, good)
    os.kill(process_of(decoder), signal.SIGKILL)
    assert is_used(decoder, good)


@linux
def test_a_file_that_eats_memory_is_refused(
    tmp_path: Path, decoder: Decoder, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compressed file of few bytes that holds half an hour."""
    with sf.SoundFile(tmp_path / "bomb.flac", "w", RATE, 1, format="FLAC") as file:
        file.write(np.full(RATE, 0.5))
        for _ in range(1800):
            file.write(np.zeros(RATE))
    size = (tmp_path / "bomb.flac").stat().st_size
    assert size < 1 << 20
    monkeypatch.setattr(decoding, "LEAST_MEMORY", 128 << 20)
    monkeypatch.setattr(decoding, "MEMORY_PER_BYTE", 0)
    reason = decoder.decoded(tmp_path / "bomb.flac", RATE).reason
    assert reason == f"takes more than 128 MB of memory, too much for its {size} bytes"
    assert is_used(decoder, good)


@linux
def test_what_cannot_be_held_is_refused_before_it_is_decoded(
    good: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse file: many bytes that take no room on the disk."""
    monkeypatch.setattr(decoding, "usable_memory", lambda: 512 << 20)
    size = 44 + (400 << 20)
    head = bytearray(good.read_bytes()[:44])
    head[4:8], head[40:44] = struct.pack("<I", size - 8), struct.pack("<I", size - 44)
    good.write_bytes(head)
    os.truncate(good, size)
    assert decoder.decoded(good, RATE).reason == (f"takes more than 256 MB of memory, too much for its {size} bytes")
    used = Path(f"/proc/{process_of(decoder)}/status").read_text()
    assert int(used.split("VmHWM:")[1].split()[0]) < 300 << 10  # of memory in fact


def test_libraries_print_nothing(tmp_path: Path, decoder: Decoder, capfd: pytest.CaptureFixture[str]) -> None:
    """libmpg123 warns of each frame of a damaged tag."""
    path = write(tmp_path / "tagged.mp3", seconds=1.0)
    frames = b"TIT2\0\0\0\2\0\0\0x" * 100
    path.write_bytes(b"ID3\4\0\0" + bytes([0, 0, len(frames) >> 7, len(frames) & 127]) + frames + path.read_bytes())
    assert is_used(decoder, path)
    assert capfd.readouterr().err == ""


def test_a_decoder_that_is_closed_stops_at_once(hanging: Path) -> None:
    decoder = Decoder()
    threading.Timer(0.5, decoder.close).start()
    with pytest.raises(Stopped):
        decoder.decoded(hanging, RATE)
    assert decoder._process is None
    with pytest.raises(Stopped):
        decoder.bandwidth(hanging)


def test_nothing_is_imported_from_the_folder_of_the_sounds(
    tmp_path: Path, decoder: Decoder, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "soundfile", "json", "distill"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    assert is_used(decoder, good)


def test_without_processes_it_says_so(
    tmp_path: Path, decoder: Decoder, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(
        DistillError, match=r"decoding: expected to start a process .* found: No such file .*; close other programs"
    ):
        decoder.decoded(good, RATE)


@pytest.mark.skipif(sys.platform == "win32", reason="file descriptors of POSIX")
def test_a_program_without_a_console_gets_its_answer(good: Path) -> None:
    """With stderr closed the process that decodes had its answers in place of it, and threw both away."""
    code = "import sys; from distill.audio.decode import Decoder; from pathlib import Path\n"
    code += f"with Decoder() as decoder: print(len(decoder.decoded(Path(sys.argv[1]), {RATE}).pcm))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(good)],
        preexec_fn=lambda: os.close(2),
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"{round(0.3 * RATE)}\n"
