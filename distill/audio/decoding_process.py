"""Process that decodes audio files for `distill.audio.decoder`, within limits of memory and processor time.

A request is a JSON line on stdin: call, path, sample rate and the limits. The answer on stdout is a JSON line with the
values or the reason why there are none, and the size of the arrays, which follow as safetensors. It ends when stdin
does.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from safetensors.numpy import save

from distill.allocator import keep_freed_blocks
from distill.audio.bandwidth import measure_bandwidth
from distill.audio.decoding import Arrays, decode, decoded_parts, file_size, recording_parts
from distill.audio.read import AudioStream, read_recording
from distill.errors import AudioError

_NO_VALUES: dict[str, Any] = {}
_NO_ARRAYS: Arrays = {}


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked ends this process
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    _silence_libraries()
    keep_freed_blocks()
    for line in requests:
        _answer(answers, **json.loads(line))


def _silence_libraries() -> None:
    """Let only Python print: libmpg123 tells thousands of lines about a damaged file, with what is in it."""
    sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)


def _answer(
    stream: BinaryIO, call: str, path: str, sample_rate: int, memory: int, seconds: int, opening: int, block: int
) -> None:
    """`seconds` are for all of it, `opening` for what comes before the first block, `block` for each of them."""
    last = time.process_time() + seconds

    def watch(is_reading: bool) -> None:
        _limit_time(min(time.process_time() + block, last) if is_reading else last)

    _limit_memory(memory)
    _limit_time(min(time.process_time() + opening, last))
    AudioStream.watch = staticmethod(watch)
    refused, too_large, values, arrays = "", False, _NO_VALUES, _NO_ARRAYS
    try:
        values, arrays = _called(call, Path(path), sample_rate)
    except AudioError as error:
        refused = str(error)
    except MemoryError:
        refused = f"takes more than {memory >> 20} MB of memory, too much for its {file_size(Path(path))} bytes"
        too_large = True
    packed = save(dict(arrays)) if arrays else b""
    answer = {"refused": refused, "too_large": too_large, "values": values, "size": len(packed)}
    stream.write(json.dumps(answer).encode() + b"\n" + packed)
    stream.flush()


def _called(call: str, path: Path, sample_rate: int) -> tuple[dict[str, Any], Arrays]:
    if call == "bandwidth":
        return vars(measure_bandwidth(path)), _NO_ARRAYS
    if call == "recording":
        return recording_parts(read_recording(path, sample_rate))
    return decoded_parts(decode(path, sample_rate))


def _limit_time(seconds: float) -> None:
    """Let this process take processor time up to so many seconds since its start, where the system can."""
    if sys.platform == "win32":
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, hard))


def _limit_memory(memory: int) -> None:
    """Let this process take `memory` bytes from now on, where the system can."""
    if sys.platform != "linux":
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    wanted = held + memory
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


if __name__ == "__main__":
    main()
