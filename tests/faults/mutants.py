"""Damaged audio files: mutants of a sound in every format that is read, and headers that lie."""

import io
import random
import struct
from collections.abc import Iterator

import numpy as np
import soundfile

RATE = 16_000
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "wav24": ("WAV", "PCM_24"),
    "adpcm": ("WAV", "MS_ADPCM"),
    "aiff": ("AIFF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "caf": ("CAF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
}
LIES = (0, 1, 7, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFF)
HEADER = 256  # bytes in which headers are, at least in part


def sound_in(name: str, channels: int = 1) -> bytes:
    """A file of a quarter of a second in one of `FORMATS`."""
    rng = np.random.default_rng(0)
    decay = np.exp(-np.arange(RATE // 4) / 1000)[:, None]
    samples = 0.5 * decay * rng.uniform(-1, 1, (RATE // 4, channels))
    container, subtype = FORMATS[name]
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format=container, subtype=subtype)
    return stream.getvalue()


def mutants(data: bytes, count: int, draw: random.Random) -> Iterator[bytes]:
    """So many random mutations of a file: bytes, fields of the header, pieces removed, repeated and made up."""
    for _ in range(count):
        yield _mutant(data, draw)


def _mutant(data: bytes, draw: random.Random) -> bytes:
    changed, kind = bytearray(data), draw.randrange(6)
    if kind < 2:
        end = (HEADER, len(data))[kind]
        for _ in range(draw.choice((1, 1, 2, 8, 64))):
            changed[draw.randrange(min(end, len(data)))] = draw.randrange(256)
    elif kind < 4:  # a number of the header, in either order of bytes
        for _ in range(draw.choice((1, 1, 2, 3))):
            code = draw.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
            size = struct.calcsize(code)
            at = draw.randrange(min(HEADER, len(data)) - size)
            value = draw.choice((*LIES, draw.getrandbits(8 * size)))
            struct.pack_into(code, changed, at, value % (1 << 8 * size))
    elif kind == 4:
        at, size = draw.randrange(len(data)), draw.randrange(1, 2000)
        piece = draw.choice((b"", bytes(changed[at : at + size]) * 2, draw.randbytes(size), bytes(size)))
        changed[at : at + size] = piece
    else:
        del changed[draw.randrange(len(data)) :]
    return bytes(changed)
