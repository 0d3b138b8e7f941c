"""Audio files that are uncommon, that lie or that were made to harm, in every format but FLAC."""

import io
import struct
from collections.abc import Iterator

import numpy as np
import soundfile
from faults.strange_sounds import F64, FRAMES, RATE, Strange, sound

LOSSLESS = {"PCM_16": 0, "PCM_24": 0, "PCM_32": 0, "FLOAT": 0, "DOUBLE": 0}
COARSE = {"PCM_S8": 0.02, "PCM_U8": 0.02, "ULAW": 0.03, "ALAW": 0.03, "MS_ADPCM": 0.1, "IMA_ADPCM": 0.1}
CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF")
SUFFIXES = {"WAVEX": "wav", "RF64": "rf64"}
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE


def written(container: str, subtype: str, samples: F64, rate: int = RATE, endian: str = "FILE") -> bytes:
    """A file as libsndfile writes it."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=container, subtype=subtype, endian=endian)
    return stream.getvalue()


def pcm16(samples: F64, order: str = "<") -> bytes:
    """Samples as 16-bit numbers."""
    return np.round(samples * 32767).astype(f"{order}i2").tobytes()


def chunk(name: bytes, data: bytes, size: int | None = None, order: str = "<") -> bytes:
    """A chunk, filled up to an even size; `size` where its header tells another one."""
    return (
        name
        + struct.pack(f"{order}I", (len(data) if size is None else size) & 0xFFFFFFFF)
        + data
        + bytes(len(data) % 2)
    )


def form(
    tag: int = PCM,
    channels: int = 1,
    rate: int = RATE,
    align: int = 2,
    bits: int = 16,
    more: bytes = b"",
    order: str = "<",
) -> bytes:
    """The `fmt ` chunk of WAV."""
    per_second = (rate * align) & 0xFFFFFFFF
    return chunk(
        b"fmt ", struct.pack(f"{order}HHIIHH", tag, channels, rate, per_second, align, bits) + more, order=order
    )


def wav(*chunks: bytes, kind: bytes = b"RIFF", size: int | None = None, order: str = "<") -> bytes:
    """A WAV file of chunks."""
    return chunk(kind, b"WAVE" + b"".join(chunks), size, order)


def extended(rate: float) -> bytes:
    """A number as the 80-bit float of AIFF."""
    if not rate:
        return bytes(10)
    exponent = int(np.floor(np.log2(rate)))
    return struct.pack(">HQ", 16383 + exponent, int(rate * 2 ** (63 - exponent)))


def aiff(rate: bytes, data: bytes, channels: int = 1, frames: int = FRAMES, bits: int = 16, more: bytes = b"") -> bytes:
    """An AIFF file; `rate` as ten bytes."""
    common = chunk(b"COMM", struct.pack(">HIH", channels, frames, bits) + rate, order=">")
    return chunk(b"FORM", b"AIFF" + common + more + chunk(b"SSND", bytes(8) + data, order=">"), order=">")


def ogg_pages(data: bytes) -> list[bytes]:
    """The pages of an Ogg stream."""
    pages, at = [], 0
    while at < len(data):
        lacing = data[at + 27 : at + 27 + data[at + 26]]
        size = 27 + len(lacing) + sum(lacing)
        pages.append(data[at : at + size])
        at += size
    return pages


def page_with(page: bytes, at: int, value: bytes) -> bytes:
    """An Ogg page with other bytes and the right checksum."""
    changed = page[:at] + value + page[at + len(value) :]
    return _checked(changed[:22] + bytes(4) + changed[26:])


def _checked(page: bytes) -> bytes:
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = ((value << 1) ^ 0x04C11DB7 if value >> 31 else value << 1) & 0xFFFFFFFF
    return page[:22] + value.to_bytes(4, "little") + page[26:]


def id3(data: bytes, size: int | None = None) -> bytes:
    """An ID3v2 tag; `size` where its header tells another one."""
    length = len(data) if size is None else size
    return b"ID3\4\0\0" + bytes(length >> 7 * index & 0x7F for index in (3, 2, 1, 0)) + data


def valid_files(large: bool) -> Iterator[Strange]:
    """Files that libsndfile can read in full."""
    for container in CONTAINERS:
        subtypes = soundfile.available_subtypes(container)
        for subtype, tolerance in {**LOSSLESS, **COARSE}.items():
            if subtype in subtypes:
                for channels in (1, 2) if tolerance == 0.1 else (1, 2, 7):
                    name = f"{container} {subtype} {channels}.{SUFFIXES.get(container, container.lower())}"
                    data, wanted = written(container, subtype, sound(channels)), sound(channels)
                    if tolerance == 0.1:  # it follows the attack slowly, and fills up its last block
                        wanted = soundfile.read(io.BytesIO(data), always_2d=True)[0]
                    yield Strange(name, data, wanted, RATE, tolerance or 2 / 32768)
    for container, subtype in (
        ("AIFF", "PCM_16"),
        ("AU", "FLOAT"),
        ("CAF", "PCM_24"),
        ("WAV", "PCM_16"),
        ("CAF", "DOUBLE"),
    ):
        for endian in ("LITTLE", "BIG"):
            try:
                data = written(container, subtype, sound(2), endian=endian)
            except soundfile.LibsndfileError:
                continue
            yield Strange(f"{container} {subtype} {endian}.{container.lower()}", data, sound(2))
    for bits in (16, 20, 24, 32):
        yield Strange(f"ALAC {bits}.caf", written("CAF", f"ALAC_{bits}", sound(2)), sound(2))
    yield from _valid_wav(large)
    yield from _valid_mp3(large)
    yield from _valid_ogg()


def _valid_wav(large: bool) -> Iterator[Strange]:
    data, plain = chunk(b"data", pcm16(sound())), form()

    def one(name: str, content: bytes, samples: F64 | None = None, rate: int = RATE) -> Strange:
        return Strange(f"{name}.wav", content, sound() if samples is None else samples, rate)

    yield one("plain", wav(plain, data))
    yield one("list first", wav(chunk(b"LIST", b"INFO" + chunk(b"INAM", b"x")), plain, data))
    yield one("odd chunks", wav(chunk(b"JUNK", b"abc"), plain, chunk(b"junk", b"x"), data, chunk(b"LIST", b"INFO")))
    yield one("bext", wav(chunk(b"bext", bytes(602)), plain, data))
    yield one("id3", wav(plain, data, chunk(b"id3 ", id3(bytes(100)))))
    if large:
        yield one("cover art of 100 MB", wav(plain, chunk(b"APIC", bytes(100 << 20)), data))
        yield one("comment of 100 MB", wav(plain, chunk(b"LIST", b"INFO" + chunk(b"ICMT", b"a" * (100 << 20))), data))
    yield one("100 junks", wav(plain, *[chunk(b"junk", b"")] * 100, data))
    yield one("size of a pipe", wav(plain, chunk(b"data", pcm16(sound()), 0xFFFFFFFF), size=0xFFFFFFFF))
    yield one("size of a recorder that died", wav(plain, chunk(b"data", pcm16(sound()), 0), size=8))
    extensible = struct.pack("<HHI", 22, 16, 4) + struct.pack("<H", PCM) + bytes.fromhex("000000001000800000aa00389b71")
    yield one("extensible", wav(form(EXTENSIBLE, more=extensible), data))
    twelve = (np.round(sound() * 2047).astype("<i2") << 4).tobytes()
    yield one("12 bits in 16", wav(form(bits=12), chunk(b"data", twelve)), np.round(sound() * 2047) / 2048)
    wide = np.round(sound() * ((1 << 19) - 1)).astype("<i4") << 12
    yield one(
        "20 bits in 24",
        wav(
            form(align=3, bits=20),
            chunk(b"data", b"".join(int(v).to_bytes(4, "little", signed=True)[1:] for v in wide[:, 0])),
        ),
    )
    yield one("RIFX", wav(form(order=">"), chunk(b"data", pcm16(sound(), ">"), order=">"), kind=b"RIFX", order=">"))
    for channels in (3, 8, 64):
        content = wav(form(channels=channels, align=2 * channels), chunk(b"data", pcm16(sound(channels))))
        yield one(f"{channels} channels", content, sound(channels))
    for rate in (1000, 8000, 11_025, 37_800, 192_000, 768_000):
        yield one(f"{rate} Hz", wav(form(rate=rate), data), rate=rate)
    loud = 3 * sound()
    content = wav(form(FLOAT, align=4, bits=32), chunk(b"data", loud.astype("<f4").tobytes()))
    yield one("above full scale", content, loud / np.abs(loud).max())
    tiny = 1e-3 * sound()
    yield one("quiet", wav(form(FLOAT, align=8, bits=64), chunk(b"data", tiny.astype("<f8").tobytes())), tiny)
    yield one(
        "subnormal",
        wav(
            form(FLOAT, align=4, bits=32),
            chunk(b"data", np.concatenate([np.full((999, 1), 1e-40), sound()]).astype("<f4").tobytes()),
        ),
        np.concatenate([np.zeros((999, 1)), sound()]),
    )


def _valid_mp3(large: bool) -> Iterator[Strange]:
    frames = 4 * RATE
    samples = sound(1, frames)
    plain = written("MP3", "MPEG_LAYER_III", samples)
    whole = Strange("plain.mp3", plain, samples, RATE, 0.05)
    yield whole
    for name, data in {
        "ID3v2": id3(bytes(1000)) + plain,
        **({"ID3v2 of 100 MB": id3(bytes(100 << 20)) + plain} if large else {}),
        "ID3v2 twice": id3(bytes(1000)) + id3(bytes(1000)) + plain,
        "ID3v1": plain + b"TAG" + bytes(125),
        "APEv2": plain + b"APETAGEX" + struct.pack("<IIII8x", 2000, 32, 0, 0),
        "garbage at the end": plain + bytes(range(1, 200)) * 9,
    }.items():
        yield Strange(f"{name}.mp3", data, samples, RATE, 0.05)


def _valid_ogg() -> Iterator[Strange]:
    for subtype, rate, tolerance in (("VORBIS", RATE, 0.1), ("VORBIS", 44_100, 0.1), ("OPUS", 48_000, 0.1)):
        for channels in (1, 2, 6):
            data = written("OGG", subtype, sound(channels, rate), rate)
            yield Strange(f"{subtype} {channels} {rate}.ogg", data, sound(channels, rate), rate, tolerance)


def wrong_wav(large: bool) -> Iterator[Strange]:
    """WAV files that lie, that are against the format, or whose samples cannot be used."""
    samples = pcm16(sound())
    data, plain = chunk(b"data", samples), form()

    def one(name: str, content: bytes) -> Strange:
        return Strange(f"{name}.wav", content)

    for rate in (0, 1, 999, 1 << 31, (1 << 32) - 1):
        yield one(f"{rate} Hz told", wav(form(rate=rate), data))
    for channels in (0, 2, 255, 1000, 65_535):
        yield one(f"{channels} channels told", wav(form(channels=channels), data))
        yield one(f"{channels} channels aligned", wav(form(channels=channels, align=2 * channels & 0xFFFF), data))
    yield one("1000 channels held", wav(form(channels=1000, align=2000), chunk(b"data", samples * 100)))
    for bits in (0, 1, 7, 17, 64, 65_535):
        yield one(f"{bits} bits told", wav(form(bits=bits), data))
    for align in (0, 1, 7, 65_535):
        yield one(f"align {align}", wav(form(align=align), data))
    for tag in (0, 2, 3, 6, 7, 0x11, 0x31, 0x45, 0x50, 0x55, 0x161, 0xFFFE, 0xFFFF):
        yield one(f"codec {tag:#x}", wav(form(tag), data))
        yield one(
            f"codec {tag:#x} of junk",
            wav(form(tag, align=256, bits=4, more=struct.pack("<HH", 2, 505)), chunk(b"data", bytes(range(256)) * 50)),
        )
    for size in (0, 1, 3, 7999, 8001, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 2):
        yield one(f"{size} bytes told", wav(plain, chunk(b"data", samples, size)))
        yield one(f"file of {size} told", wav(plain, data, size=size))
        yield one(f"list of {size} told", wav(plain, chunk(b"LIST", b"INFO" + chunk(b"INAM", b"name"), size), data))
        yield one(f"form of {size} told", wav(b"fmt " + struct.pack("<I", size & 0xFFFFFFFF) + plain[8:], data))
    yield one("no data", wav(plain))
    yield one("empty data", wav(plain, chunk(b"data", b"")))
    yield one("no form", wav(data))
    yield one("form after data", wav(data, plain))
    yield one("two forms", wav(plain, form(channels=2, align=4), data))
    yield one("two data", wav(plain, data, data))
    yield one("nested lists", wav(plain, _nested(b"LIST", 5000), data))
    yield one("10,000 junks", wav(plain, *[chunk(b"junk", b"")] * 10_000, data))
    yield one("sizes 0", wav(plain, chunk(b"data", samples, 0), size=0))
    yield one("100,000 chunks", wav(plain, *[chunk(b"abcd", b"")] * 100_000, data))
    yield one("100,000 titles", wav(plain, chunk(b"LIST", b"INFO" + chunk(b"INAM", b"x") * 100_000), data))
    yield one("cues", wav(plain, chunk(b"cue ", struct.pack("<I", 0xFFFFFFFF) + bytes(240)), data))
    if large:
        yield one("100,000 cues", wav(plain, chunk(b"cue ", struct.pack("<I", 100_000) + bytes(2_400_000)), data))
    yield one("loops", wav(plain, chunk(b"smpl", bytes(28) + struct.pack("<II", 0xFFFFFFFF, 0) + bytes(48)), data))
    yield one(
        "peaks",
        wav(
            form(FLOAT, align=4, bits=32),
            chunk(b"PEAK", struct.pack("<II", 1, 0) + b"\xff" * 4000),
            chunk(b"data", sound().astype("<f4").tobytes()),
        ),
    )
    yield one("bext of 4 GB", wav(plain, chunk(b"bext", bytes(700), 0xFFFFFFF0), data))
    yield one("self", wav(plain, chunk(b"RIFF", b"WAVE"), wav(plain, data)))
    floats = sound().copy()
    for name, value in (("NaN", np.nan), ("infinite", np.inf), ("1e300", 1e300), ("-1e39", -1e39), ("1e38", 1e38)):
        floats[100] = value
        with np.errstate(over="ignore"):
            yield one(
                f"{name} float", wav(form(FLOAT, align=4, bits=32), chunk(b"data", floats.astype("<f4").tobytes()))
            )
        yield one(f"{name} double", wav(form(FLOAT, align=8, bits=64), chunk(b"data", floats.tobytes())))
    yield one("all NaN", wav(form(FLOAT, align=4, bits=32), chunk(b"data", b"\xff" * 16_000)))
    for name, value in (("DC", 0.5), ("silence", 0.0), ("full DC", 1.0)):
        yield one(name, wav(plain, chunk(b"data", pcm16(np.full((FRAMES, 1), value)))))
    yield one("one sample", wav(plain, chunk(b"data", pcm16(np.full((1, 1), 0.9)))))
    yield one("half a sample", wav(plain, chunk(b"data", b"\x7f")))
    yield one("opposite channels", wav(form(channels=2, align=4), chunk(b"data", pcm16(sound() * np.array([1, -1])))))


def _nested(name: bytes, depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = chunk(name, b"INFO" + data)
    return data


def wrong_others(large: bool) -> Iterator[Strange]:
    """The same in AIFF, AU, CAF, W64, RF64, MP3 and Ogg."""
    data = pcm16(sound(), ">")
    rates = {
        "0": bytes(10),
        "1": extended(1),
        "2^31": extended(2**31),
        "NaN": b"\x7f\xff" + b"\xff" * 8,
        "negative": b"\xc0\x0c" + extended(RATE)[2:],
    }
    rates |= {
        "infinite": b"\x7f\xff\x80" + bytes(7),
        "2^60": extended(2**60),
        "denormal": b"\0\0" + b"\x7f" * 8,
        "0.5": extended(0.5),
        "16000.7": extended(16000.7),
    }
    for name, rate in rates.items():
        yield Strange(f"rate {name}.aiff", aiff(rate, data))
    right = extended(RATE)
    for channels in (0, 255, 1000, 65_535):
        yield Strange(f"{channels} channels.aiff", aiff(right, data, channels))
    for frames in (0, 1, 10**6, (1 << 32) - 1):
        yield Strange(f"{frames} frames.aiff", aiff(right, data, frames=frames))
    for bits in (0, 1, 12, 33, 65_535):
        yield Strange(f"{bits} bits.aiff", aiff(right, data, bits=bits))
    for size in (0, 0x7FFFFFFF, 0xFFFFFFFF):
        yield Strange(
            f"marks {size}.aiff",
            aiff(right, data, more=chunk(b"MARK", struct.pack(">H", 0xFFFF) + bytes(99), size, ">")),
        )
        yield Strange(f"name {size}.aiff", aiff(right, data, more=chunk(b"NAME", b"a" * 99, size, ">")))
    for offset in (0, 4, 23, 1 << 30, (1 << 32) - 1):
        for size in (0, 8000, (1 << 32) - 1):
            for coding in (1, 3, 27, 99):
                yield Strange(
                    f"{offset} {size} {coding}.au",
                    struct.pack(">4s6I", b".snd", offset, size, coding, RATE, 1, 0) + data,
                )
    for name in ("au", "caf", "w64", "rf64", "aiff") if large else ("caf", "w64"):
        good = written(name.upper(), "PCM_16", sound(2))
        for at in range(0, min(160, len(good) - 8)):
            for value in (bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"):
                yield Strange(f"{name} {at} {value.hex()}.{name}", good[:at] + value + good[at + 4 :])
    yield from _wrong_caf()
    yield from _wrong_mp3()
    yield from _wrong_ogg(large)


def _wrong_caf() -> Iterator[Strange]:
    good = written("CAF", "PCM_16", sound())
    for name, rate in (("NaN", np.nan), ("inf", np.inf), ("-1", -1.0), ("0", 0.0), ("1e300", 1e300), ("0.1", 0.1)):
        yield Strange(f"rate {name}.caf", good[:20] + struct.pack(">d", rate) + good[28:])
    for size in (0, -1, 1 << 40, -(1 << 63), (1 << 63) - 1):
        for kind in (b"free", b"info", b"kuki", b"pakt", b"chan", b"peak", b"data", b"abcd"):
            extra = kind + struct.pack(">q", size) + bytes(100)
            yield Strange(f"{kind.decode()} {size}.caf", good[:52] + extra + good[52:])
    alac = written("CAF", "ALAC_16", sound())
    for at in range(0, 400, 3):
        yield Strange(f"alac {at}.caf", alac[:at] + b"\xff\xff\xff" + alac[at + 3 :])


def _wrong_mp3() -> Iterator[Strange]:
    plain = written("MP3", "MPEG_LAYER_III", sound(1, 2 * RATE))
    other = written("MP3", "MPEG_LAYER_III", sound(2, 88_200), 44_100)
    yield Strange("two rates.mp3", plain + other)
    yield Strange("two rates, higher first.mp3", other + plain)
    yield Strange("garbage between.mp3", plain[:2000] + bytes(range(256)) * 40 + plain[2000:])
    yield Strange("garbage first.mp3", bytes(range(250)) * 40 + plain)
    yield Strange("zeros first.mp3", bytes(100_000) + plain)
    for size in (0, 10, 1 << 20, (1 << 28) - 1):
        yield Strange(f"ID3 of {size} told.mp3", id3(bytes(10), size) + plain)
    yield Strange("ID3 of garbage.mp3", id3(b"APIC\xff\xff\xff\xff" * 1000) + plain)
    yield Strange("100,000 ID3 frames.mp3", id3(b"TIT2\0\0\0\2\0\0\0x" * 100_000) + plain)
    yield Strange("10,000 ID3.mp3", id3(b"") * 10_000 + plain)
    yield Strange("only ID3.mp3", id3(bytes(1000)))
    yield Strange("only headers.mp3", b"\xff\xfb\x90\x00" * 20_000)
    yield Strange("free format.mp3", (b"\xff\xf3\x00\xc0" + bytes(range(140))) * 100)
    yield Strange("empty frames.mp3", (b"\xff\xf3\x40\xc0" + bytes(140)) * 100)
    for marker in (b"Xing", b"Info", b"VBRI", b"LAME"):
        at = plain.find(marker)
        head = marker + struct.pack(">III", 0xF, 0xFFFFFFFF, 0xFFFFFFFF) + b"\xff" * 100
        spliced = plain[:36] + head + plain[36 + len(head) :] if at < 0 else plain[:at] + head + plain[at + len(head) :]
        yield Strange(f"{marker.decode()} that lies.mp3", spliced)
    for share in (1, 4, 100, 600, len(plain) // 2):
        yield Strange(f"truncated to {share}.mp3", plain[:share])


def _wrong_ogg(large: bool) -> Iterator[Strange]:
    vorbis, opus = (written("OGG", kind, sound(1, 48_000), 48_000) for kind in ("VORBIS", "OPUS"))
    other = written("OGG", "VORBIS", sound(2, 8000), 8_000)
    yield Strange("chained, the same.ogg", vorbis + vorbis)
    yield Strange("chained, other rate.ogg", vorbis + other)
    yield Strange("chained, other codec.ogg", vorbis + opus)
    yield Strange("chained Opus.opus", opus + opus)
    yield Strange("chained 300.ogg", other * 300)
    for name, data in (("vorbis", vorbis), ("opus", opus)):
        pages = ogg_pages(data)
        for rate in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF):
            yield Strange(
                f"{name} rate {rate}.ogg", page_with(pages[0], 40, struct.pack("<I", rate)) + b"".join(pages[1:])
            )
        for channels in (0, 2, 255):
            at = 39 if name == "vorbis" else 37
            yield Strange(
                f"{name} channels {channels}.ogg", page_with(pages[0], at, bytes([channels])) + b"".join(pages[1:])
            )
        for granule in (0, -1, 1 << 40, (1 << 63) - 1, -(1 << 63)):
            yield Strange(
                f"{name} end {granule}.ogg", b"".join(pages[:-1]) + page_with(pages[-1], 6, struct.pack("<q", granule))
            )
            middle = len(pages) // 2
            yield Strange(
                f"{name} middle {granule}.ogg",
                b"".join(pages[:middle])
                + page_with(pages[middle], 6, struct.pack("<q", granule))
                + b"".join(pages[middle + 1 :]),
            )
        yield Strange(f"{name} without end.ogg", b"".join(pages[:-1]))
        yield Strange(f"{name} shuffled.ogg", b"".join([*pages[:2], *reversed(pages[2:])]))
        yield Strange(f"{name} page lost.ogg", b"".join(pages[:3] + pages[4:]))
        yield Strange(f"{name} pages twice.ogg", b"".join([*pages[:2], *[page for page in pages[2:] for _ in (0, 1)]]))
        yield Strange(f"{name} head only.ogg", b"".join(pages[:2]))
        yield Strange(
            f"{name} other serial.ogg",
            b"".join([*pages[:2], *[page_with(page, 14, b"\1\2\3\4") for page in pages[2:]]]),
        )
        tags = page_with(pages[1], 28 + pages[1][26] - 1 + 7, b"\xff\xff\xff\x7f")
        yield Strange(f"{name} comment that lies.ogg", pages[0] + tags + b"".join(pages[2:]))
        if name == "opus":
            for at, value in ((38, b"\xff\xff"), (44, b"\xff\x7f"), (44, b"\0\x80"), (46, b"\1"), (46, b"\xff")):
                yield Strange(f"opus {at} {value.hex()}.opus", page_with(pages[0], at, value) + b"".join(pages[1:]))
    if large:
        yield Strange("empty pages.ogg", vorbis[: len(ogg_pages(vorbis)[0])] + _checked(b"OggS" + bytes(23)) * 100_000)
