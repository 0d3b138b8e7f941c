"""Atomic writing of audio files with soundfile.

Samples are rounded here: libsndfile would round down in WAV files, and write silence as -1.
"""

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from distill.audio.pcm import whole
from distill.errors import AudioError
from distill.storage.files import MARK, write_bytes

AudioFormat = Literal["wav", "flac", "ogg", "mp3"]
Bits = Literal[16, 24, 32]  # bits of a sample; 32 is float, which keeps values above full scale

SOFT_PEAK = (
    1 / 64
)  # -36 dBFS: below it 16 bits leave less than 60 dB between sound and rounding noise
SUBTYPES: Mapping[AudioFormat, Mapping[Bits, str]] = {
    "wav": {16: "PCM_16", 24: "PCM_24", 32: "FLOAT"},
    "flac": {16: "PCM_16", 24: "PCM_24", 32: "PCM_24"},
    "ogg": dict.fromkeys((16, 24, 32), "VORBIS"),
    "mp3": dict.fromkeys((16, 24, 32), "MPEG_LAYER_III"),
}
_LOSSY = "what stays of the recording is not the same samples, as the format is lossy; wav and flac keep them"
LOSSES: Mapping[AudioFormat, Mapping[Bits, str]] = {
    "flac": {
        32: "floats of the recording are rounded to 24 bits, and clipped above full scale; wav keeps them"
    },
    "ogg": dict.fromkeys((16, 24, 32), _LOSSY),
    "mp3": dict.fromkeys((16, 24, 32), _LOSSY),
}
"""Messages about losses, by format and bit depth of the original samples."""
# Conversion to the samples that libsndfile expects for a subtype; integers use the upper bits.
TAKEN: Mapping[str, Callable[[NDArray[np.floating]], NDArray[Any]]] = {
    "PCM_16": lambda samples: whole(samples * (1 << 15), 16).astype(np.int16),
    "PCM_24": lambda samples: whole(samples * (1 << 23), 24) << 8,
    "FLOAT": lambda samples: samples.astype(np.float32),
    **dict.fromkeys(("VORBIS", "MPEG_LAYER_III"), lambda samples: samples.clip(-1.0, 1.0)),
}


def write_audio(
    path: Path, samples: NDArray[np.floating], sample_rate: int, kind: AudioFormat = "wav"
) -> None:
    """Write samples, mono `[N]` or stereo `[N, 2]`, with Distill's mark, see `audio_file`. Raises AudioError, OSError.

    The file is built in memory: libsndfile does not report a full disk for its last writes.
    """
    write_bytes(path, audio_file(path, samples, sample_rate, kind, MARK))


def audio_file(
    path: Path,
    samples: NDArray[np.floating],
    sample_rate: int,
    kind: AudioFormat,
    comment: str,
    bits: Bits = 16,
) -> bytes:
    """Bytes of an audio file from samples, mono `[N]` or stereo `[N, 2]`. Raises AudioError that names `path`.

    The file has `bits` bits a sample if `kind` allows, and at least 24 for a soft sound. Integers are rounded to the
    nearest and clipped at full scale; floats are unchanged. Equal samples give equal bytes.
    Samples are written in blocks, as libsndfile's Vorbis encoder keeps each write on its stack.
    """
    is_soft = bits == 16 and np.abs(samples).max(initial=0.0) < SOFT_PEAK
    subtype = SUBTYPES[kind][24 if is_soft else bits]
    file, channels = io.BytesIO(), 1 if samples.ndim == 1 else samples.shape[1]
    try:
        with soundfile.SoundFile(
            file, "w", sample_rate, channels, format=kind.upper(), subtype=subtype
        ) as sound:
            if comment:
                sound.comment = comment
            block = 1 << 16
            for start in range(0, len(samples), block):
                sound.write(TAKEN[subtype](samples[start : start + block]))
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{path}: expected to write {sample_rate} Hz {kind}, found: {error.error_string} choose another format or sample rate"
        ) from error
    return _with_serial_number(file.getvalue()) if kind == "ogg" else file.getvalue()


def with_sampler_chunk(
    wav: bytes, sample_rate: int, key: int, loop: tuple[int, int] | None
) -> bytes:
    """Add a sampler chunk to a WAV file: its MIDI key and, if given, the first and last sample of a loop.

    The chunk is `smpl` of Multimedia Data Standards Update (Microsoft 1994). Its pitch fraction is 0, as programs
    disagree on the sign.
    """
    fields = [0, 0, round(1e9 / sample_rate), key, 0, 0, 0, int(loop is not None), 0]
    if loop is not None:
        fields += [0, 0, *loop, 0, 0]  # forwards, without end
    return _with_chunk(wav, b"smpl", struct.pack(f"<{len(fields)}I", *fields))


def with_tempo_chunk(wav: bytes, bpm: float, beats: int) -> bytes:
    """Add tempo and number of beats, in 4/4, to the WAV file of a loop: the chunk `acid` of Sonic Foundry."""
    is_loop, root, unknown, of_quarters, in_bar = 0, 60, 0x8000, 4, 4
    return _with_chunk(
        wav,
        b"acid",
        struct.pack("<IHHfIHHf", is_loop, root, unknown, 0.0, beats, of_quarters, in_bar, bpm),
    )


def _with_chunk(wav: bytes, name: bytes, body: bytes) -> bytes:
    """Append a chunk of even length to a WAV file."""
    whole = wav[8:] + name + struct.pack("<I", len(body)) + body
    return wav[:4] + struct.pack("<I", len(whole)) + whole


def _with_serial_number(stream: bytes) -> bytes:
    """Set the serial number of all Ogg pages to 0 (RFC 3533, section 6); libsndfile takes it from the clock."""
    pages, start = bytearray(stream), 0
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    while start < len(pages):
        segments = start + 27
        end = segments + pages[start + 26]
        end += sum(pages[segments:end])
        pages[start + 14 : start + 18] = pages[start + 22 : start + 26] = bytes(4)
        # Ogg's CRC begins with the highest bit of each byte, zlib's with the lowest.
        crc = zlib.crc32(pages[start:end].translate(mirrored), 0xFFFFFFFF) ^ 0xFFFFFFFF
        pages[start + 22 : start + 26] = crc.to_bytes(4, "big").translate(mirrored)
        start = end
    return bytes(pages)
