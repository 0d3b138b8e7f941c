"""Opus, the peer that listeners know: opusenc and opusdec of opus-tools, set for music."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from distill.errors import AudioError

KILOBITS = (6, 12, 24)  # per second
TOOLS = ("opusenc", "opusdec")
MISSING = "Opus is left out: opusenc and opusdec are not installed (Debian's package opus-tools)."

Samples = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class OpusSound:
    """A sound that went through Opus: samples `[N]`, and the bits of its packets, those of the padding included."""

    samples: Samples
    bits: int
    seconds: float  # that the bits stand for


def opus_is_installed() -> bool:
    """Whether both programs are there."""
    return all(shutil.which(tool) for tool in TOOLS)


def through_opus(sound: Samples, sample_rate: int, kilobits: int) -> OpusSound:
    """Encode samples `[N]` at `kilobits` kbit/s, variable, and decode them. Raises AudioError where a program fails."""
    padded = np.pad(sound, (0, round(0.1 * sample_rate)))  # Opus rounds lengths
    with tempfile.TemporaryDirectory() as folder:
        wav, ogg, back = (
            Path(folder) / name for name in ("sound.wav", "sound.opus", "decoded.wav")
        )
        soundfile.write(wav, padded, sample_rate, subtype="FLOAT")
        _run(
            "opusenc",
            "--quiet",
            "--music",
            "--comp",
            "10",
            "--bitrate",
            str(kilobits),
            str(wav),
            str(ogg),
        )
        _run("opusdec", "--quiet", "--float", "--rate", str(sample_rate), str(ogg), str(back))
        bits = 8 * _packet_bytes(ogg.read_bytes())
        decoded = np.asarray(soundfile.read(back, dtype="float32")[0])[: len(sound)]
    return OpusSound(
        np.pad(decoded, (0, len(sound) - len(decoded))), bits, len(padded) / sample_rate
    )


def bits_per_second(sounds: Sequence[OpusSound]) -> float:
    """Mean bitrate of sounds, without what the container costs."""
    return sum(sound.bits for sound in sounds) / sum(sound.seconds for sound in sounds)


def _run(tool: str, *arguments: str) -> None:
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split()[-30:]) or "no message"
        raise AudioError(
            f"{tool}: expected exit status 0, found {done.returncode} ({said}); install opus-tools again or remove it"
        )


def _packet_bytes(data: bytes) -> int:
    """Bytes of the packets with sound in an Ogg file: what its pages hold, without their headers (RFC 3533)."""
    position = 0
    pages: list[int] = []
    while position < len(data):
        segments = data[position + 26]
        start = position + 27 + segments
        pages.append(sum(data[start - segments : start]))
        position = start + pages[-1]
    return sum(pages[2:])
