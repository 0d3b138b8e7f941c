"""Decoding in a process that can be killed: a file that hangs, crashes or eats memory is refused with the reason.

libsndfile and the libraries under it are written in C, and some damaged files keep them busy for ever
(libsndfile issue 1118). A thread cannot be stopped, and a crash in it would take everything else along.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self, TypeVar

from safetensors.numpy import load

from distill.audio.bandwidth import Bandwidth
from distill.audio.decode import Arrays, Decoded, file_size, from_parts, readable_sha256
from distill.audio.read import Recording
from distill.errors import AudioError, DistillError
from distill.execution import usable_memory

LEAST_MEMORY, MEMORY_PER_BYTE = 2 << 30, 512  # of a file: an hour of any, or speech at 9 kbit/s of any length
LEAST_SECONDS, BYTES_PER_SECOND = 30, 50_000  # of processor time; usual files take milliseconds
OPENED_PER_SECOND = 5_000_000  # bytes; opening reads the metadata, and all headers of an MP3 file
_PIPE_BYTES = 1 << 20  # of an answer that waits: with the usual 64 kB the process would wait for each part to be read
WAITING = 10  # times as long as processor time: a disk, a busy computer, one that sleeps

_INTERRUPTED = "was not decoded: decoding was stopped"
_PACKAGES = Path(__file__).parents[2]


T = TypeVar("T")
R = TypeVar("R")


class _Ended(Exception):
    """The process ended before it answered. Its message is a reason that follows the name of a file."""


class _Killed(_Ended):
    """Something else killed the process, such as a computer that runs out of memory."""


class _TooLarge(AudioError):
    """The file takes more memory than it may."""


class Decoder:
    """A process that decodes one file at a time. It starts with the first file, and again after a file has ended it.

    Use it in one thread, as a context manager; `close` may be called from any. `count` decoders are at work together: a
    file that takes more than this one's share of the memory waits for `alone`, and has that of all.
    """

    def __init__(self, count: int = 1, alone: AbstractContextManager[Any] | None = None) -> None:
        self._count, self._alone = count, alone or threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._starting = threading.Lock()  # so that no process starts after `close`

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, at once."""
        with self._starting:
            self._closed = True
        self._end()

    def bandwidth(self, path: Path) -> Bandwidth | None:
        """`measure_bandwidth` of a file, None where that failed and may not another time."""
        try:
            return Bandwidth(**self._ask("bandwidth", path)[0])
        except (AudioError, _Ended):
            return None  # decoding it says why

    def recording(self, path: Path, sample_rate: int) -> Recording:
        """`read_recording` of a file. Raises AudioError with the reason alone."""
        found = self.decoded(path, sample_rate)
        if found.recording is None:
            raise AudioError(found.reason)
        return found.recording

    def decoded(self, path: Path, sample_rate: int) -> Decoded:
        """`decode` of a file."""
        try:
            return from_parts(*self._ask("decoded", path, sample_rate))
        except (AudioError, _Ended) as error:
            is_certain = not isinstance(error, _Ended | _TooLarge)
            return Decoded(reason=str(error), sha256=readable_sha256(path), is_certain=is_certain)

    def _ask(self, call: str, path: Path, sample_rate: int = 0) -> tuple[dict[str, Any], Arrays]:
        most = min(LEAST_MEMORY + MEMORY_PER_BYTE * file_size(path), usable_memory() // 2)
        share = min(most, usable_memory() // 2 // (2 * self._count))
        if self._count > 1 and share < most:
            with suppress(_TooLarge):
                return self._ask_twice(call, path, sample_rate, share)
            with self._alone:
                return self._ask_twice(call, path, sample_rate, most)
        return self._ask_twice(call, path, sample_rate, most)

    def _ask_twice(self, call: str, path: Path, sample_rate: int, memory: int) -> tuple[dict[str, Any], Arrays]:
        with suppress(_Killed):
            return self._ask_once(call, path, sample_rate, memory)
        return self._ask_once(call, path, sample_rate, memory)  # perhaps not because of this file

    def _ask_once(self, call: str, path: Path, sample_rate: int, memory: int) -> tuple[dict[str, Any], Arrays]:
        size = file_size(path)
        seconds = LEAST_SECONDS + size // BYTES_PER_SECOND
        request = {
            "call": call,
            "path": os.fspath(path.absolute()),
            "sample_rate": sample_rate,
            "memory": memory,
            "seconds": seconds,
            "opening": LEAST_SECONDS + size // OPENED_PER_SECOND,
            "block": LEAST_SECONDS,
        }
        line = packed = b""
        with self._within(WAITING * seconds) as (process, late):
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
                answer: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {"size": 0}
                packed = process.stdout.read(answer["size"])
            except (BrokenPipeError, ValueError):  # it has ended, was closed, or has not answered in its terms
                process.kill()
                line = b""
        if not line.endswith(b"\n") or len(packed) < answer["size"]:
            raise self._ended(process, size, seconds, late.is_set())
        if answer["refused"]:
            raise (_TooLarge if answer["too_large"] else AudioError)(answer["refused"])
        return answer["values"], load(packed) if packed else {}

    @contextmanager
    def _within(self, seconds: float) -> Iterator[tuple[subprocess.Popen[bytes], threading.Event]]:
        """The process, which is killed after so many seconds, and whether it was."""
        with self._starting:
            if self._closed:
                raise _Ended(_INTERRUPTED)
            if self._process is None:
                self._process = _start()
            process = self._process
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            yield process, late
        finally:
            timer.cancel()

    def _ended(self, process: subprocess.Popen[bytes], size: int, seconds: int, was_late: bool) -> _Ended:
        """Why the process has ended; the next file gets a new one."""
        status = process.wait()
        self._end()
        if self._closed:
            return _Ended(_INTERRUPTED)
        if was_late:
            return _Ended(f"takes more than {WAITING * seconds} s to decode, too long for its {size} bytes")
        if sys.platform != "win32" and status == -signal.SIGXCPU:
            return _Ended(f"takes too much processor time to decode for its {size} bytes")
        if status > 0:
            raise RuntimeError(f"the process that decodes ended with status {status}; its error is above")
        kind = _Killed if sys.platform != "win32" and status == -signal.SIGKILL else _Ended
        return kind(f"ends its decoder ({_signal_name(-status)})")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()


class Decoders:
    """So many decoders at work. Use as a context manager, which ends them whatever happens."""

    def __init__(self, count: int) -> None:
        count, alone = max(1, count), threading.Lock()
        self._all = [Decoder(count, alone) for _ in range(count)]
        self._idle: SimpleQueue[Decoder] = SimpleQueue()
        for decoder in self._all:
            self._idle.put(decoder)
        self._threads = ThreadPoolExecutor(len(self._all), thread_name_prefix="decode")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all of them, at once."""
        for decoder in self._all:
            decoder.close()
        self._threads.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Decoder, T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Call with a decoder and each item. Results come in order, and only a few are waiting."""
        pending: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            pending.append((item, self._threads.submit(self._called, function, item)))
            if len(pending) > 2 * len(self._all):
                first, future = pending.popleft()
                yield first, future.result()
        for last, future in pending:
            yield last, future.result()

    def _called(self, function: Callable[[Decoder, T], R], item: T) -> R:
        decoder = self._idle.get()
        try:
            return function(decoder, item)
        finally:
            self._idle.put(decoder)


def _start() -> subprocess.Popen[bytes]:
    # -P: no module is imported from the folder in which it starts. One thread, so that memory is what the file takes.
    paths = os.pathsep.join([os.fspath(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "distill.audio.decode"]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    except OSError as error:
        raise DistillError(
            f"decoding: expected to start a process of its own for it, found: {error.strerror or error}; "
            "close other programs, or raise the limit of processes, and run again"
        ) from error
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):  # a user may have only so many pages in pipes
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # type: ignore[arg-type]
    return process


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
