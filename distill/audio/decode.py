"""Decoding in a process that can be killed: a file that hangs, crashes or eats memory is refused with the reason.

libsndfile and the libraries under it are written in C, and some damaged files keep them busy for ever (libsndfile issue
1118). A thread cannot be stopped, and a crash in it would take everything else along.

The process is this module. A request is a JSON line on stdin, see `_answer`. The answer on stdout is a JSON line with
values or the reason why there are none, and the size of the arrays, which follow as safetensors. The process ends when
stdin does.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from distill.audio.bandwidth import Bandwidth, measure_bandwidth
from distill.audio.mixdown import ChannelStatistics
from distill.audio.near_duplicates import Fingerprint, fingerprint
from distill.audio.pcm import pcm_sha256
from distill.audio.read import Channels, Original, Recording, read_original, read_recording, reader_versions
from distill.audio.sndfile import AudioStream
from distill.errors import AudioError, AudioWarning, DistillError
from distill.execution import usable_memory
from distill.process import keep_freed_blocks, open_standard_streams
from distill.storage.files import sha256_file

LEAST_MEMORY, MEMORY_PER_BYTE = 2 << 30, 512  # of a file: an hour of any, or speech at 9 kbit/s of any length
LEAST_SECONDS = 30  # of processor time for opening a file, or for one block of it; usual files take milliseconds
LEAST_WAIT, BYTES_PER_SECOND = 300, 5_000  # for all of a file, with a slow disk, a busy computer, or one that sleeps

UNUSABLE = (
    "{path}: expected a recording, found a file that {reason}; check the path, repair the file, or name another one"
)

Answer = tuple[dict[str, Any], dict[str, NDArray[Any]]]  # values and arrays


def decode(path: Path, sample_rate: int, trim: bool = False, channels: Channels = "mono") -> Recording:
    """As `read_recording`, with hashes and fingerprint. What cannot be used is said in `reason`."""
    try:
        recording = read_recording(path, sample_rate, trim, channels)
    except AudioError as error:
        return Recording(str(error), sha256=_readable_sha256(path), is_certain=os.path.lexists(path))
    return replace(
        recording,
        sha256=_readable_sha256(path),
        pcm_sha256=pcm_sha256(recording.pcm, recording.exponent),
        fingerprint=fingerprint(recording.pcm if recording.pcm.ndim == 1 else recording.pcm[:, 0], sample_rate),
    )


def _readable_sha256(path: Path) -> str:
    with suppress(OSError):
        return sha256_file(path) if path.is_file() else ""
    return ""


def _file_size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _warn(path: Path, remarks: str) -> None:
    """Say remarks on a file, if there are any, to who asked a Decoder for it."""
    if remarks:
        warnings.warn(f"{path}: {remarks}", AudioWarning, stacklevel=4)


class Stopped(Exception):
    """The decoder was closed while it was at work."""


class Decoder(AbstractContextManager["Decoder"]):
    """A process that decodes one file at a time. It starts with the first file, and again after a file has ended it.

    Use it in one thread, as a context manager; `close` may be called from any. `count` decoders are at work together,
    and have a quarter of the memory. A file that ends its decoder is tried once more, one at a time, with half of it:
    perhaps it was not because of this file.
    """

    _second_try = threading.Lock()

    def __init__(self, count: int = 1) -> None:
        self._count = count
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._starting = threading.Lock()  # so that no process starts after `close`

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, at once."""
        with self._starting:
            self._closed = True
        self._end()

    def bandwidth(self, path: Path) -> Bandwidth | None:
        """`measure_bandwidth` of a file, None where that failed and may not another time. Raises Stopped."""
        with suppress(AudioError):  # decoding it says why
            if os.path.lexists(path):
                return Bandwidth(**self._ask(path, "bandwidth")[0])
        return None

    def decoded(self, path: Path, sample_rate: int, trim: bool = False, channels: Channels = "mono") -> Recording:
        """`decode` of a file. Raises Stopped."""
        try:
            values, arrays = self._ask(path, "recording", sample_rate, trim, channels)
        except AudioError as error:
            return Recording(str(error), sha256=_readable_sha256(path), is_certain=False)
        if arrays:
            values |= {name: arrays.pop(name) for name in ("pcm", "image", "noise")}
            values["fingerprint"] = Fingerprint(**arrays)
        return Recording(**values)

    def recording(self, path: Path, sample_rate: int, channels: Channels = "mono") -> Recording:
        """As `decoded`, of a file that has to be usable, with its remarks as an AudioWarning. Raises AudioError.

        Both name the file.
        """
        recording = self.decoded(path, sample_rate, channels=channels)
        if not recording.pcm_sha256:
            raise AudioError(UNUSABLE.format(path=path, reason=recording.reason))
        _warn(path, recording.reason)
        return recording

    def original(self, path: Path) -> Original:
        """As `read_original`, with its remarks as an AudioWarning. Raises AudioError. Both name the file."""
        values, arrays = self._ask(path, "original")
        if not arrays:
            raise AudioError(UNUSABLE.format(path=path, reason=values["reason"]))
        _warn(path, values["reason"])
        return Original(arrays["samples"], **values)

    def _ask(self, path: Path, what: str, *how: Any) -> Answer:
        size = _file_size(path)
        memory = LEAST_MEMORY + MEMORY_PER_BYTE * size
        request: dict[str, object] = {"path": os.fspath(path.absolute()), "what": what, "how": how}
        request["seconds"] = LEAST_SECONDS + size // 5_000_000  # opening reads metadata, and all headers of an MP3 file
        with suppress(AudioError):
            return self._answer_to({**request, "memory": min(memory, usable_memory() // (4 * self._count))}, size)
        with self._second_try:
            return self._answer_to({**request, "memory": min(memory, usable_memory() // 2)}, size)

    def _answer_to(self, request: Mapping[str, object], size: int) -> Answer:
        """What the process answers for a file of `size` bytes. Raises Stopped, and AudioError with the reason."""
        process, began, wait = self._started(), time.monotonic(), LEAST_WAIT + size // BYTES_PER_SECOND
        timer = threading.Timer(wait, process.kill)
        timer.daemon = True
        timer.start()
        try:
            answer, packed = _exchanged(process, request)
        except (OSError, ValueError) as error:  # it has ended, was closed, or has not answered in its terms
            status = self._end()
            if self._closed:
                raise Stopped from error
            if time.monotonic() - began >= wait:
                raise AudioError(f"takes more than {wait} s to decode, too long for its {size} bytes") from error
            raise _ended(status, size) from error
        finally:
            timer.cancel()
        if answer["refused"]:
            raise AudioError(answer["refused"])
        return answer["values"], load(packed) if packed else {}

    def _started(self) -> subprocess.Popen[bytes]:
        with self._starting:
            if self._closed:
                raise Stopped
            if self._process is None:
                # -P: no module is imported from the folder in which it starts. One thread, so that memory is the file's.
                packages = os.fspath(Path(__file__).parents[2])
                paths = os.pathsep.join(filter(None, [packages, os.environ.get("PYTHONPATH")]))
                environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
                command = [sys.executable, "-P", "-m", "distill.audio.decode"]
                pipe = subprocess.PIPE
                try:
                    self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment)
                except OSError as error:
                    raise DistillError(
                        f"decoding: expected to start a process of its own for it, found: {error.strerror or error}; "
                        "close other programs, or raise the limit of processes, and run again"
                    ) from error
            return self._process

    def _end(self) -> int:
        """End the process, and return its status; the next file gets a new one."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        status = process.wait()
        for stream in filter(None, (process.stdin, process.stdout)):
            with suppress(OSError):
                stream.close()
        return status


def _exchanged(process: subprocess.Popen[bytes], request: Mapping[str, object]) -> tuple[dict[str, Any], bytes]:
    """Answer and arrays of a process for a request. Raises OSError and ValueError where there is no whole answer."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    packed = process.stdout.read(answer["size"])
    if len(packed) < answer["size"]:
        raise ValueError("a part of an answer")
    return answer, packed


def _ended(status: int, size: int) -> Exception:
    """The reason for a status of a process that had a file of `size` bytes."""
    if sys.platform != "win32" and status == -signal.SIGXCPU:
        return AudioError(f"takes too much processor time to decode for its {size} bytes")
    if status > 0:
        return RuntimeError(f"the process that decodes ended with status {status}; its error is above")
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    return AudioError(f"ends its decoder ({name})")


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked ends this process
    open_standard_streams()  # of a program without a console
    answers = os.fdopen(os.dup(1), "wb")
    # Only Python may print: libmpg123 tells thousands of lines about a damaged file, with what is in it.
    sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    keep_freed_blocks()
    reader_versions()  # loads FFmpeg, whose memory is no file's
    # BLAS takes its memory with its first product, and ends the process where it cannot.
    ChannelStatistics(2).add(np.zeros((1 << 12, 2), np.float32))
    for line in sys.stdin.buffer:
        answers.write(_answer(**json.loads(line)))
        answers.flush()


def _answer(path: str, what: str, how: Sequence[Any], memory: int, seconds: int) -> bytes:
    """Call a function of ANSWERS with a file, within limits, and pack its result.

    `memory` is in bytes. Opening the file and each block of it may take `seconds` of processor time.
    """
    AudioStream.watch = lambda is_reading: _limit_time(seconds if is_reading else None)
    _limit_memory(memory)
    _limit_time(seconds)
    values: dict[str, Any] = {}
    refused, packed = "", b""
    try:
        values, arrays = ANSWERS[what](Path(path), *how)
        if arrays:
            largest = max(array.nbytes for array in arrays.values())
            np.empty(3 * largest, dtype=np.uint8)  # MemoryError where safetensors would end the process
            packed = save(arrays)
    except MemoryError:
        refused = f"takes more than {memory >> 20} MB of memory, too much for its {_file_size(Path(path))} bytes"
    answer = {"refused": refused, "values": values, "size": len(packed)}
    return json.dumps(answer).encode() + b"\n" + packed


def _recording(path: Path, sample_rate: int, trim: bool, channels: Channels) -> Answer:
    values = dict(vars(decode(path, sample_rate, trim, channels)))
    arrays, prints = {name: values.pop(name) for name in ("pcm", "image", "noise")}, values.pop("fingerprint")
    return values, {**arrays, **prints._asdict()} if prints else {}


def _original(path: Path) -> Answer:
    try:
        values = dict(vars(read_original(path)))
    except AudioError as error:
        return {"reason": str(error)}, {}
    return values, {"samples": values.pop("samples")}


ANSWERS: Mapping[str, Callable[..., Answer]] = {
    "recording": _recording,
    "bandwidth": lambda path: (vars(measure_bandwidth(path)), {}),
    "original": _original,
}


def _limit_time(seconds: int | None) -> None:
    """Let this process take so many more seconds of processor time, where the system can; None is no limit."""
    if sys.platform != "win32":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        soft = hard if seconds is None else int(time.process_time()) + seconds + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _limit_memory(memory: int) -> None:
    """Let this process take `memory` bytes from now on, where the system can."""
    if sys.platform == "linux":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = memory + int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    main()
