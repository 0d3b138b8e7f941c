"""Decode in a separate process that can be killed: a file that hangs, crashes or eats memory is rejected with a reason.

libsndfile and its libraries are written in C, and some damaged files keep them busy forever (libsndfile issue 1118). A
thread cannot be stopped, and a crash in it would end the whole program.

The process runs this module. A request is a JSON line on stdin, see `_answer`. The answer on stdout is a JSON line with
values or the reason for a rejection, and the size of the arrays, which follow as safetensors. The process ends at the
end of stdin.
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
from distill.audio.read import (
    Channels,
    Original,
    Recording,
    read_original,
    read_recording,
    reader_versions,
)
from distill.audio.sndfile import AudioStream
from distill.errors import AudioError, AudioWarning, DistillError
from distill.execution import usable_memory
from distill.process import keep_freed_blocks, open_standard_streams
from distill.storage.files import sha256_file

LEAST_MEMORY, MEMORY_PER_BYTE = 2 << 30, 512  # an hour of any coding; any length at 9 kbit/s
# Processor time for opening a file or reading a block; most files take milliseconds
LEAST_SECONDS = 30
# Wall time for a file, generous for slow disks, busy or sleeping computers
LEAST_WAIT, BYTES_PER_SECOND = 300, 5_000

UNUSABLE = "{path}: expected a recording, found a file that {reason}; check the path, repair the file, or name another one"

Answer = tuple[dict[str, Any], dict[str, NDArray[Any]]]  # values and arrays


def decode(
    path: Path, sample_rate: int, trim: bool = False, channels: Channels = "mono"
) -> Recording:
    """`read_recording` with hashes and fingerprint. Raises no AudioError: `reason` says why a file is unusable."""
    try:
        recording = read_recording(path, sample_rate, trim, channels)
    except AudioError as error:
        return Recording(
            str(error), sha256=_readable_sha256(path), is_certain=os.path.lexists(path)
        )
    return replace(
        recording,
        sha256=_readable_sha256(path),
        pcm_sha256=pcm_sha256(recording.pcm, recording.exponent),
        fingerprint=fingerprint(
            recording.pcm if recording.pcm.ndim == 1 else recording.pcm[:, 0], sample_rate
        ),
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
    """Issue remarks on a file, if any, as an AudioWarning to the code that uses a Decoder."""
    if remarks:
        warnings.warn(f"{path}: {remarks}", AudioWarning, stacklevel=4)


class Stopped(Exception):
    """Decoder closed during a request."""


class Decoder(AbstractContextManager["Decoder"]):
    """Process that decodes one file at a time. It starts with the first file, and restarts after a file has ended it.

    Use it in one thread, as a context manager; `close` may be called from any thread. `count` decoders run in parallel
    and share a quarter of the memory. A file that fails is tried again alone, with half of the memory, in case it was
    not the cause.
    """

    _second_try = threading.Lock()

    def __init__(self, count: int = 1) -> None:
        self._count = count
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._starting = threading.Lock()  # no process may start after `close`

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process at once."""
        with self._starting:
            self._closed = True
        self._end()

    def bandwidth(self, path: Path) -> Bandwidth | None:
        """`measure_bandwidth` of a file, or None after a failure that may not recur. Raises Stopped."""
        with suppress(AudioError):  # `decoded` reports the reason
            if os.path.lexists(path):
                return Bandwidth(**self._ask(path, "bandwidth")[0])
        return None

    def decoded(
        self, path: Path, sample_rate: int, trim: bool = False, channels: Channels = "mono"
    ) -> Recording:
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
        """`decoded`, but raises AudioError for an unusable file. Remarks are an AudioWarning. Both name the file."""
        recording = self.decoded(path, sample_rate, channels=channels)
        if not recording.pcm_sha256:
            raise AudioError(UNUSABLE.format(path=path, reason=recording.reason))
        _warn(path, recording.reason)
        return recording

    def original(self, path: Path) -> Original:
        """`read_original` of a file. Remarks are an AudioWarning. Raises AudioError. Both name the file."""
        values, arrays = self._ask(path, "original")
        if not arrays:
            raise AudioError(UNUSABLE.format(path=path, reason=values["reason"]))
        _warn(path, values["reason"])
        return Original(arrays["samples"], **values)

    def _ask(self, path: Path, what: str, *how: Any) -> Answer:
        size = _file_size(path)
        memory = LEAST_MEMORY + MEMORY_PER_BYTE * size
        request: dict[str, object] = {"path": os.fspath(path.absolute()), "what": what, "how": how}
        request["seconds"] = (
            LEAST_SECONDS + size // 5_000_000
        )  # opening reads metadata, and all frame headers of MP3
        with suppress(AudioError):
            return self._answer_to(
                {**request, "memory": min(memory, usable_memory() // (4 * self._count))}, size
            )
        with self._second_try:
            return self._answer_to({**request, "memory": min(memory, usable_memory() // 2)}, size)

    def _answer_to(self, request: Mapping[str, object], size: int) -> Answer:
        """Send a request for a file of `size` bytes. Raises Stopped, and AudioError with the reason."""
        process, began, wait = (
            self._started(),
            time.monotonic(),
            LEAST_WAIT + size // BYTES_PER_SECOND,
        )
        timer = threading.Timer(wait, process.kill)
        timer.daemon = True
        timer.start()
        try:
            answer, packed = _exchanged(process, request)
        except (
            OSError,
            ValueError,
        ) as error:  # the process ended, was closed, or sent an invalid answer
            status = self._end()
            if self._closed:
                raise Stopped from error
            if time.monotonic() - began >= wait:
                raise AudioError(
                    f"takes more than {wait} s to decode, too long for its {size} bytes"
                ) from error
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
                # -P: import nothing from the working directory. One thread: memory is then used for the file alone.
                packages = os.fspath(Path(__file__).parents[2])
                paths = os.pathsep.join(filter(None, [packages, os.environ.get("PYTHONPATH")]))
                environment = {
                    **os.environ,
                    "PYTHONPATH": paths,
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                }
                command = [sys.executable, "-P", "-m", "distill.audio.decode"]
                pipe = subprocess.PIPE
                try:
                    self._process = subprocess.Popen(
                        command, stdin=pipe, stdout=pipe, env=environment
                    )
                except OSError as error:
                    raise DistillError(
                        f"decoding: expected to start a process of its own for it, found: {error.strerror or error}; "
                        "close other programs, or raise the limit of processes, and run again"
                    ) from error
            return self._process

    def _end(self) -> int:
        """End the process and return its status; the next file gets a new process."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        status = process.wait()
        for stream in filter(None, (process.stdin, process.stdout)):
            with suppress(OSError):
                stream.close()
        return status


def _exchanged(
    process: subprocess.Popen[bytes], request: Mapping[str, object]
) -> tuple[dict[str, Any], bytes]:
    """Send a request and read the answer and its arrays. Raises OSError or ValueError if the answer is incomplete."""
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
    """Exception for the exit status of a process that was decoding a file of `size` bytes."""
    if sys.platform != "win32" and status == -signal.SIGXCPU:
        return AudioError(f"takes too much processor time to decode for its {size} bytes")
    if status > 0:
        return RuntimeError(
            f"the process that decodes ended with status {status}; its error is above"
        )
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    return AudioError(f"ends its decoder ({name})")


def main() -> None:
    """Answer requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends this one
    open_standard_streams()  # a program without a console lacks them
    answers = os.fdopen(os.dup(1), "wb")
    # Only Python may print: libmpg123 prints thousands of lines about a damaged file, including its content.
    sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    keep_freed_blocks()
    reader_versions()  # loads FFmpeg, before memory is limited
    # BLAS allocates memory in its first product, and ends the process if that fails: do it before the limit.
    ChannelStatistics(2).add(np.zeros((1 << 12, 2), np.float32))
    for line in sys.stdin.buffer:
        answers.write(_answer(**json.loads(line)))
        answers.flush()


def _answer(path: str, what: str, how: Sequence[Any], memory: int, seconds: int) -> bytes:
    """Call a function of ANSWERS for a file, within limits, and pack its result.

    `memory` is in bytes. Opening the file, and reading each block, may take `seconds` of processor time.
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
            np.empty(
                3 * largest, dtype=np.uint8
            )  # raises MemoryError, where safetensors would end the process
            packed = save(arrays)
    except MemoryError:
        refused = f"takes more than {memory >> 20} MB of memory, too much for its {_file_size(Path(path))} bytes"
    answer = {"refused": refused, "values": values, "size": len(packed)}
    return json.dumps(answer).encode() + b"\n" + packed


def _recording(path: Path, sample_rate: int, trim: bool, channels: Channels) -> Answer:
    values = dict(vars(decode(path, sample_rate, trim, channels)))
    arrays, prints = (
        {name: values.pop(name) for name in ("pcm", "image", "noise")},
        values.pop("fingerprint"),
    )
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
    """Limit this process to `seconds` more of processor time, if the system can; None removes the limit."""
    if sys.platform != "win32":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        soft = hard if seconds is None else int(time.process_time()) + seconds + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _limit_memory(memory: int) -> None:
    """Limit this process to `memory` more bytes, if the system can."""
    if sys.platform == "linux":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = (
            memory + int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        )
        resource.setrlimit(
            resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
        )


if __name__ == "__main__":
    main()
