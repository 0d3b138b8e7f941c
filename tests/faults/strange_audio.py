"""Audio files that encoders seldom write, and wrong ones, by editing what libsndfile writes."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE, FRAMES = 16_000, 4_000
F64 = NDArray[np.float64]
PICTURE = struct.pack(">II9s6I", 3, 9, b"image/png", 0, 1, 1, 24, 0, 1 << 20) + bytes(1 << 20)


@dataclass(frozen=True)
class Strange:
    """A file: its name, its bytes, and of a valid one the samples `[n, C]` and how far each may be from them."""

    name: str
    data: bytes
    samples: F64 | None = None
    tolerance: float = 2 / 32768


def sound(channels: int = 1, frames: int = FRAMES) -> F64:
    """A decaying tone, softer in each further channel, `[n, C]` between -1 and 1."""
    time = np.arange(frames)[:, None]
    return 0.6 * np.exp(-time / 1500) * np.sin(0.2 * time) / np.arange(1, channels + 1)


def written(container: str, subtype: str, samples: F64, rate: int = RATE, endian: str = "FILE") -> bytes:
    """A file as libsndfile writes it."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=container, subtype=subtype, endian=endian)
    return stream.getvalue()


def valid() -> Iterator[Strange]:
    """Files that libsndfile can read in full."""
    for container in ("AIFF", "AU", "WAV"):
        endian = "BIG" if container == "WAV" else "LITTLE"
        data = written(container, "PCM_16", sound(2), endian=endian)
        yield Strange(f"{container} {endian}.{container.lower()}", data, sound(2))
    plain, flac, mp3 = WAV, written("FLAC", "PCM_16", sound()), written("MP3", "MPEG_LAYER_III", sound(1, RATE))
    yield Strange("seven channels.wav", written("WAV", "PCM_16", sound(7)), sound(7))
    titles = chunk(b"LIST", b"INFO" + chunk(b"INAM", b"x")) * 99
    yield Strange("chunks before.wav", plain[:12] + titles + plain[12:], sound())
    yield Strange("chunks after.wav", plain + chunk(b"id3 ", bytes(100)) + chunk(b"junk", b"abc"), sound())
    yield Strange("size of a pipe.wav", wav(size=0xFFFFFFFF), sound())
    yield Strange("size of a recorder that died.wav", WAV[:4] + struct.pack("<I", 8) + wav(size=0)[8:], sound())
    for valid_bits, bits in (
        (24, 32),
        (20, 24),
    ):  # at the top of their container, as recorders and ASIO drivers write them
        words = np.round(sound()[:, 0] * 2 ** (valid_bits - 1)).astype(np.int64) << (bits - valid_bits)
        packed = (words[:, None] >> np.arange(0, bits, 8) & 0xFF).astype(np.uint8).tobytes()
        yield Strange(
            f"{valid_bits} in {bits} bits.wav", wav(extensible(0xFFFE, valid_bits, bits), samples=packed), sound()
        )
    yield Strange("fmt of 40 bytes, PCM.wav", wav(extensible(1, 16, 16)), sound())
    unsigned = (np.round(sound() * 127) + 128).astype(np.uint8).tobytes()
    yield Strange("8 bits.wav", wav(form(align=1, bits=8), samples=unsigned), sound(), 2 / 128)
    recorder = chunk(b"bext", bytes(602)), form(), chunk(b"iXML", b"<BWFXML/>")
    yield Strange("broadcast.wav", wav(*recorder), sound())
    yield Strange("flac called.wav", flac, sound())
    yield Strange("wav called.mp3", plain, sound())
    yield Strange("a space behind.wav ", plain, sound())
    yield Strange("cover art.flac", flac_block(flac, 6, PICTURE), sound())
    yield Strange("paddings.flac", flac_block(flac_block(flac, 1, b""), 1, bytes(9)), sound())
    yield Strange("unknown block.flac", flac_block(flac, 99, bytes(1000)), sound())
    with TemporaryDirectory() as folder:  # libsndfile may not know MP3 without its suffix
        path = Path(folder) / "a.mp3"
        path.write_bytes(mp3)
        decoded = soundfile.read(path, always_2d=True)[0]
    for name, data in {"ID3v2": id3(bytes(1000)) + mp3, "ID3v1": mp3 + b"TAG" + bytes(125)}.items():
        yield Strange(f"{name}.mp3", data, decoded, 0.05)


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    """A chunk of WAV, filled up to an even size; `size` where its header tells another one."""
    told = (len(data) if size is None else size) & 0xFFFFFFFF
    return name + struct.pack("<I", told) + data + bytes(len(data) % 2)


def form(tag: int = 1, channels: int = 1, rate: int = RATE, align: int = 2, bits: int = 16) -> bytes:
    """The `fmt ` chunk of WAV."""
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * align & 0xFFFFFFFF, align, bits))


def extensible(tag: int, valid_bits: int, bits: int) -> bytes:
    """A `fmt ` chunk of 40 bytes, of PCM in mono, as Windows writes it; some programs leave the tag of plain PCM in it."""
    plain = form(tag, align=bits // 8, bits=bits)[8:]
    more = struct.pack("<HHIH", 22 if tag == 0xFFFE else 0, valid_bits, 0, 1)
    return chunk(b"fmt ", plain + more + bytes.fromhex("000000001000800000aa00389b71"))


def wav(*before: bytes, samples: bytes | None = None, size: int | None = None) -> bytes:
    """A WAV file of chunks and its samples; `size` where they are said to be of another one."""
    data = np.round(sound() * 32767).astype("<i2").tobytes() if samples is None else samples
    return chunk(b"RIFF", b"WAVE" + b"".join(before or (form(),)) + chunk(b"data", data, size))


WAV = wav()


def flac_block(data: bytes, kind: int, content: bytes, told: int | None = None) -> bytes:
    """A FLAC file with one more metadata block behind STREAMINFO, which is 34 bytes behind 8."""
    size = len(content) if told is None else told
    return data[:42] + bytes([kind]) + size.to_bytes(3, "big") + content + data[42:]


def id3(content: bytes) -> bytes:
    """An ID3v2 tag."""
    return b"ID3\4\0\0" + bytes(len(content) >> 7 * index & 0x7F for index in (3, 2, 1, 0)) + content


def wrong() -> Iterator[Strange]:
    """Files that lie, that are against the format, or whose samples cannot be used."""
    for rate in (0, 1, 999, (1 << 32) - 1):
        yield Strange(f"{rate} Hz.wav", wav(form(rate=rate)))
    for channels in (0, 2, 1000, 65_535):
        yield Strange(f"{channels} channels.wav", wav(form(channels=channels, align=2 * channels & 0xFFFF)))
    for bits in (0, 7, 64, 65_535):
        yield Strange(f"{bits} bits.wav", wav(form(bits=bits)))
    for tag in (0, 2, 3, 6, 0x11, 0x31, 0x50, 0x55, 0xFFFE):
        yield Strange(f"codec {tag:#x}.wav", wav(form(tag)))
    for size in (1, 7999, 8001, (1 << 31) - 1, (1 << 32) - 2):
        yield Strange(f"{size} bytes told.wav", wav(size=size))
        yield Strange(f"list of {size}.wav", wav(form(), chunk(b"LIST", b"INFO" + chunk(b"INAM", b"x"), size)))
    yield Strange("no form.wav", wav(chunk(b"junk", b"")))
    yield Strange("two forms.wav", wav(form(), form(channels=2, align=4)))
    yield Strange("100,000 titles.wav", wav(form(), chunk(b"LIST", b"INFO" + chunk(b"INAM", b"x") * 100_000)))
    yield Strange("100,000 chunks.wav", wav(form(), *[chunk(b"abcd", b"")] * 100_000))
    yield Strange("cues.wav", wav(form(), chunk(b"cue ", struct.pack("<I", 0xFFFFFFFF) + bytes(240))))
    yield Strange("empty.wav", wav(samples=b""))
    yield Strange("half a sample.wav", wav(samples=b"\x7f"))
    for name, value in (("NaN", np.nan), ("infinite", np.inf), ("1e39", 1e39)):
        floats = sound()
        floats[100] = value
        yield Strange(f"{name}.wav", wav(form(3, align=8, bits=64), samples=floats.tobytes()))
    for name, level in (("silence", 0.0), ("DC", 0.5)):
        yield Strange(f"{name}.wav", written("WAV", "PCM_16", np.full((FRAMES, 1), level)))
    yield Strange("opposite channels.wav", written("WAV", "PCM_16", sound() * np.array([1, -1])))
    flac = written("FLAC", "PCM_16", sound())
    for told in (1 << 20, (1 << 24) - 1):
        yield Strange(f"block of {told}.flac", flac_block(flac, 4, b"x", told))
    yield Strange("2^32 comments.flac", flac_block(flac, 4, struct.pack("<I4sI", 4, b"test", 0xFFFFFFFF)))
    yield Strange("0 Hz.flac", flac[:18] + bytes(2) + bytes([flac[20] & 0xF]) + flac[21:])
    yield Strange("no frames.flac", flac[:42])
    yield Strange("twice.flac", flac + flac)
    yield Strange("begins with a frame.flac", flac[-2000:])
    ogg = written("OGG", "VORBIS", sound())
    yield Strange("wrong checksum.ogg", ogg[:22] + bytes(4) + ogg[26:])
    yield Strange("chained.ogg", ogg + written("OGG", "VORBIS", sound(2)))
    yield Strange("headers only.ogg", ogg[:60])
    mp3 = written("MP3", "MPEG_LAYER_III", sound(1, RATE))
    yield Strange("sync words.mp3", b"\xff\xfb\x90\x00" * 9999)
    yield Strange("tag of 256 MB.mp3", b"ID3\4\0\0\x7f\x7f\x7f\x7f" + mp3)
    yield Strange("cut off.mp3", mp3[: len(mp3) // 3])
    for kind in ("AIFF", "CAF", "W64", "AU"):
        data = written(kind, "PCM_16", sound())
        for at in (4, 8, 16, 20, 24, 32):
            yield Strange(f"{kind} {at}.{kind.lower()}", data[:at] + b"\x7f\xff\xff\xff" + data[at + 4 :])
