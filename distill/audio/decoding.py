"""Decoding of one file in full: samples, hashes and fingerprint, or the reason why it cannot be used; and as bytes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.audio.fingerprint import Fingerprint, fingerprint
from distill.audio.read import Recording, read_recording
from distill.errors import AudioError
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


def recording_parts(recording: Recording) -> tuple[dict[str, Any], Arrays]:
    """A recording as JSON values and arrays."""
    return {name: value for name, value in vars(recording).items() if name != "pcm"}, {"pcm": recording.pcm}


def recording_of(values: Mapping[str, Any], arrays: Arrays) -> Recording:
    """The recording of `recording_parts`."""
    return Recording(**{**values, "warnings": tuple(values["warnings"])}, pcm=arrays["pcm"])


def decoded_parts(decoded: Decoded) -> tuple[dict[str, Any], Arrays]:
    """A result of `decode` as JSON values and arrays."""
    values: dict[str, Any] = {name: getattr(decoded, name) for name in ("reason", "sha256", "pcm_sha256")}
    if decoded.recording is None or decoded.fingerprint is None:
        return values, {}
    recording, arrays = recording_parts(decoded.recording)
    return {**values, "recording": recording}, {**arrays, **vars(decoded.fingerprint)}


def decoded_of(values: Mapping[str, Any], arrays: Arrays) -> Decoded:
    """The result of `decoded_parts`."""
    values = dict(values)
    recording = values.pop("recording", None)
    if recording is None:
        return Decoded(**values)
    prints = Fingerprint(**{name: arrays[name] for name in ("signs", "sure", "loud")})
    return Decoded(**values, recording=recording_of(recording, arrays), fingerprint=prints)
