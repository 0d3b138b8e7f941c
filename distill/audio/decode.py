"""Decoding of one file in full, and the process that does it for `distill.audio.decoder` within limits.

A request is a JSON line on stdin: call, path, sample rate and the limits of memory and processor time. The answer on
stdout is a JSON line with the values or the reason why there are none, and the size of the arrays, which follow as
safetensors. The process ends when stdin does.
"""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from distill.audio.bandwidth import measure_bandwidth
from distill.audio.fingerprint import Fingerprint, fingerprint
from distill.audio.read import Recording, read_recording
from distill.audio.stream import AudioStream
from distill.errors import AudioError
from distill.process import keep_freed_blocks
from distill.storage.files import sha256_file

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Decoded:
    """Result of decoding one file: `recording` and its hashes, or the `reason` why there is none.

    `reason` holds the warnings where there is a recording. It `is_certain` unless it may turn out otherwise another time.
    """

    reason: str = ""
    sha256: str = ""
    pcm_sha256: str = ""
    recording: Recording | None = None
    fingerprint: Fingerprint | None = None
    is_certain: bool = True


def decode(path: Path, sample_rate: int) -> Decoded:
    """Decode a file at `sample_rate` Hz for a corpus. What cannot be used is said in `reason`."""
    try:
        recording = read_recording(path, sample_rate)
    except AudioError as error:
        return Decoded(reason=str(error), sha256=readable_sha256(path))
    pcm_sha256 = hashlib.sha256(np.ascontiguousarray(recording.pcm, dtype="<i2").data).hexdigest()
    prints = fingerprint(recording.pcm, sample_rate)
    return Decoded("; ".join(recording.warnings), readable_sha256(path), pcm_sha256, recording, prints)


def readable_sha256(path: Path) -> str:
    """SHA-256 of a file, "" where it cannot be read."""
    try:
        return sha256_file(path) if path.is_file() else ""
    except OSError:
        return ""


def file_size(path: Path) -> int:
    """Bytes of a file, 0 where it cannot be asked."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def to_parts(decoded: Decoded) -> tuple[dict[str, Any], Arrays]:
    """A result of `decode` as JSON values and arrays."""
    values: dict[str, Any] = {name: getattr(decoded, name) for name in ("reason", "sha256", "pcm_sha256")}
    if decoded.recording is None or decoded.fingerprint is None:
        return values, {}
    format_of_file = {name: value for name, value in vars(decoded.recording).items() if name != "pcm"}
    return {**values, "recording": format_of_file}, {"pcm": decoded.recording.pcm, **vars(decoded.fingerprint)}


def from_parts(values: dict[str, Any], arrays: Arrays) -> Decoded:
    """The result of `decode` whose `to_parts` these are."""
    found = values.pop("recording", None)
    if found is None:
        return Decoded(**values)
    recording = Recording(**{**found, "warnings": tuple(found["warnings"])}, pcm=arrays["pcm"])
    prints = Fingerprint(**{name: arrays[name] for name in ("signs", "sure", "loud")})
    return Decoded(**values, recording=recording, fingerprint=prints)


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
    AudioStream.watch = watch
    refused, too_large, packed = "", False, b""
    values: dict[str, Any] = {}
    try:
        if call == "bandwidth":
            values = vars(measure_bandwidth(Path(path)))
        else:
            values, arrays = to_parts(decode(Path(path), sample_rate))
            packed = _packed(arrays)
    except AudioError as error:
        refused = str(error)
    except MemoryError:
        refused = f"takes more than {memory >> 20} MB of memory, too much for its {file_size(Path(path))} bytes"
        too_large = True
    answer = {"refused": refused, "too_large": too_large, "values": values, "size": len(packed)}
    stream.write(json.dumps(answer).encode() + b"\n" + packed)
    stream.flush()


def _packed(arrays: Arrays) -> bytes:
    """The arrays as safetensors, nothing for none. Raises MemoryError where safetensors would end the process."""
    np.empty(3 * sum(array.nbytes for array in arrays.values()), dtype=np.uint8)
    return save(dict(arrays)) if arrays else b""


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
