"""FLAC files that are uncommon or wrong: the cases of the IETF working group's test files, and more."""

import struct
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from faults.flac_writer import (
    APPLICATION,
    COMMENT,
    CUESHEET,
    I64,
    LEFT_SIDE,
    MID_SIDE,
    PADDING,
    PICTURE,
    SEEKTABLE,
    SIDE_RIGHT,
    STREAMINFO,
    Coding,
    Frame,
    block,
    blocks_of,
    frame_bytes,
    stream,
    streaminfo,
)
from faults.strange_sounds import FRAMES, RATE, Strange, sound

COMMENTS = struct.pack("<I4sI", 4, b"test", 0)


def integers(bits: int = 16, channels: int = 1, frames: int = FRAMES) -> I64:
    """The sound in numbers of so many bits, `[n, C]`."""
    return np.round(sound(channels, frames) * ((1 << bits - 1) - 1)).astype(np.int64)


def valid_flac(large: bool) -> Iterator[Strange]:
    """Files that a decoder can read in full; also large ones."""
    data = integers()

    def one(name: str, content: bytes, channels: int = 1, rate: int = RATE) -> Strange:
        return Strange(f"{name}.flac", content, sound(channels), rate)

    for size in (16, 192, 254, 512, 725, 1000, 1937, 4000):
        yield one(f"blocks of {size}", stream(blocks_of(data, size), RATE))
    changing = [Frame(data[start:stop]) for start, stop in ((0, 16), (16, 700), (700, 2748), (2748, FRAMES))]
    yield one("variable blocks", stream(changing, RATE, sizes=(16, 2048), variable=True))
    codings = {
        "verbatim": Coding("verbatim"),
        **{f"fixed order {order}": Coding(order=order) for order in range(5)},
        "lpc order 32": Coding("lpc", order=32),
        "lpc precision 3": Coding("lpc", order=2, precision=3),
        "wide Rice parameters": Coding(wide=True),
        "escape": Coding(escape=True),
        "escape, wide": Coding(escape=True, wide=True),
    }
    for name, coding in codings.items():
        yield one(name, stream(blocks_of(data, 1000, coding=coding), RATE))
    for order in (0, 3, 8):
        coded = blocks_of(data[:3840], 1280, coding=Coding(partition_order=order))
        yield Strange(f"partition order {order}.flac", stream(coded, RATE), sound()[:3840])
    order_15 = blocks_of(np.tile(data, (9, 1))[:32768], 32768, coding=Coding("fixed", 0, partition_order=15))
    yield Strange("partition order 15.flac", stream(order_15, RATE), np.tile(sound(), (9, 1))[:32768])
    largest = np.tile(data, (17, 1))[:65535]
    yield Strange("block of 65535.flac", stream([Frame(largest)], RATE), np.tile(sound(), (17, 1))[:65535])
    wasted = (data >> 7) << 7
    coded = stream(blocks_of(wasted, 1000, coding=Coding(wasted=7)), RATE)
    yield Strange("wasted bits.flac", coded, wasted / (1 << 15))
    silent = np.concatenate([np.zeros((1000, 1), np.int64), data])
    frames = [Frame(silent[:1000], coding=Coding("constant")), *blocks_of(data, 1000)]
    yield Strange("constant.flac", stream(frames, RATE), silent / (1 << 15))
    for bits in (4, 5, 7, 8, 10, 12, 15, 16, 18, 20, 24, 25, 31, 32):
        coded = blocks_of(integers(bits), 1000, bits=bits, coding=Coding(wide=bits > 16))
        yield Strange(f"{bits} bits.flac", stream(coded, RATE, bits), integers(bits) / (1 << bits - 1), uncertain=True)
    for channels in range(1, 9):
        yield one(f"{channels} channels", stream(blocks_of(integers(16, channels), 1000), RATE), channels)
    for name, assignment in (("left side", LEFT_SIDE), ("side right", SIDE_RIGHT), ("mid side", MID_SIDE)):
        yield one(name, stream(blocks_of(integers(16, 2), 1000, assignment=assignment), RATE), 2)
    for rate in (1000, 12_000, 35_467, 39_000, 65_535, 192_000, 384_000, 655_350):
        # 1 Hz to 2^20 - 1 Hz; frames tell it in Hz, in tens of Hz or not at all
        told = rate if rate < 1 << 16 or rate % 10 == 0 else 0
        yield one(f"{rate} Hz", stream(blocks_of(data, 1000, rate=told), rate), rate=rate)
    yield one("768 kHz", stream(blocks_of(data, 1000), 768_000), rate=768_000)
    yield one("depth in frames", stream(blocks_of(data, 1000, depth=16), RATE))
    huge = {
        "padding of the maximum": [block(PADDING, bytes((1 << 24) - 1), last=True)],
        "picture of 16 MB": [block(PICTURE, picture(bytes((1 << 24) - 100)), last=True)],
        "cover art of 100 MB": [*[block(PICTURE, picture(bytes(10 << 20)))] * 10, block(PADDING, b"", last=True)],
        "comments of 16 MB": [block(COMMENT, comments([b"X=" + b"a" * 15_000_000]), last=True)],
        "100,000 comments": [block(COMMENT, comments([b"A=b"] * 100_000), last=True)],
    }
    blocks = {
        **(huge if large else {}),
        "no padding": [block(PADDING, b"", last=True)],
        "many paddings": [*[block(PADDING, b"")] * 50_000, block(PADDING, b"", last=True)],
        "application": [block(APPLICATION, b"abcd" + bytes(1000), last=True)],
        "unknown block": [block(99, bytes(1000), last=True)],
        "seek table": [block(SEEKTABLE, struct.pack(">QQH", 0, 0, 1000), last=True)],
        "seek table that loops": [block(SEEKTABLE, struct.pack(">QQH", 2000, 0, 1000) * 100, last=True)],
        "seek table beyond the end": [block(SEEKTABLE, struct.pack(">QQH", 1 << 62, 1 << 62, 65535) * 9, last=True)],
        "cue sheet": [block(CUESHEET, cuesheet(1), last=True)],
    }
    for name, content in blocks.items():
        yield one(name, stream(blocks_of(data, 1000), RATE, blocks=content))
    yield one("unknown total", stream(blocks_of(data, 1000), RATE, total=0))
    yield one("no MD5", stream(blocks_of(data, 1000), RATE, md5=bytes(16)))
    good = stream(blocks_of(data, 1000), RATE)
    yield one("ID3 before it", b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + good)
    yield one("ID3v1 after it", good + b"TAG" + bytes(125))


def wrong_flac(large: bool) -> Iterator[Strange]:
    """Files that are against the format, or change in the middle; used or rejected."""
    data = integers()
    frames = blocks_of(data, 1000)
    good = stream(frames, RATE)

    def one(name: str, content: bytes) -> Strange:
        return Strange(f"{name}.flac", content)

    other = blocks_of(data, 1000, rate=44_100)
    yield one("rate changes", stream([*blocks_of(data, 1000, rate=RATE), *other], RATE))
    for first, second in ((1, 2), (2, 1), (2, 8), (8, 2)):
        parts = [blocks_of(integers(16, count), 1000) for count in (first, second)]
        yield one(f"channels change from {first} to {second}", stream([*parts[0], *parts[1]], RATE))
    deeper = blocks_of(integers(24), 1000, bits=24, depth=24)
    yield one("depth changes", stream([*blocks_of(data, 1000, depth=16), *deeper], RATE))
    yield one("wrong depth", stream(frames, RATE, 24))
    yield one("wrong number of channels", stream(frames, RATE, channels=2))
    yield one("wrong largest block", stream(frames, RATE, sizes=(16, 16)))
    yield one("blocks of 0", stream(frames, RATE, sizes=(0, 0)))
    yield one("wrong largest frame", stream(frames, RATE, largest=1))
    yield one("wrong MD5", stream(frames, RATE, md5=bytes(range(16))))
    for total in (1, 3999, 4001, 10**6, (1 << 36) - 1):
        yield one(f"{total} samples told", stream(frames, RATE, total=total))
    for rate in (0, 1, 999, (1 << 20) - 1):
        yield one(f"{rate} Hz told", stream(frames, rate))
    start = len(good) - sum(len(frame_bytes(frame, number)) for number, frame in enumerate(frames))
    yield one("no STREAMINFO", b"fLaC" + block(PADDING, bytes(10), last=True) + good[start:])
    yield one("STREAMINFO all zero", b"fLaC" + block(STREAMINFO, bytes(34), last=True) + good[start:])
    yield one("STREAMINFO not first", b"fLaC" + block(COMMENT, COMMENTS) + good[4:])
    yield one("STREAMINFO twice", good[:4] + block(STREAMINFO, good[8:42]) + good[4:])
    wrong = streaminfo(48_000, 2, 8, 99, (16, 16))
    yield one(
        "two of STREAMINFO", good[:4] + block(STREAMINFO, good[8:42]) + block(STREAMINFO, wrong, True) + good[42:]
    )
    yield one("begins with a frame", good[start:])
    yield one("begins with garbage", bytes(range(256)) * 20 + good)
    yield one(
        "invalid comments", good[:4] + block(STREAMINFO, good[8:42]) + block(COMMENT, b"\xff" * 50, True) + good[42:]
    )
    many = struct.pack("<I4sI", 4, b"test", 0xFFFFFFFF)
    yield one("2^32 comments", good[:4] + block(STREAMINFO, good[8:42]) + block(COMMENT, many, True) + good[42:])
    for size in (0, 3, 1000, (1 << 24) - 1):
        yield one(
            f"block of {size} told",
            good[:4] + block(STREAMINFO, good[8:42]) + block(PADDING, bytes(10), True, size) + good[42:],
        )
    lying = struct.pack(">II", 3, 0xFFFFFFFF) + bytes(100)
    yield one("picture that lies", good[:4] + block(STREAMINFO, good[8:42]) + block(PICTURE, lying, True) + good[42:])
    yield one(
        "cue sheet that lies",
        good[:4] + block(STREAMINFO, good[8:42]) + block(CUESHEET, cuesheet(255)[:600], True) + good[42:],
    )
    yield one("CRC of a header", _flipped(good, start + 7))
    yield one("CRC of a frame", _flipped(good, start + 500))
    yield one("sync", good[:start] + b"\0\0" + good[start + 2 :])
    yield one(
        "sync in the middle",
        stream(frames[:2], RATE, total=4000) + b"\xff\xf8\0" * 999 + stream(frames[2:], RATE)[start:],
    )
    yield one("sync words only", good[:start] + b"\xff\xf8" * 50_000)
    yield one("no frames", good[:start])
    yield one("one sample", stream([replace(frames[0], samples=data[:1], coding=Coding("verbatim"))], RATE))
    yield one("frames twice", good + good[start:])
    yield one("chained", good + good)
    yield one(
        "blocks of one",
        stream([Frame(data[index : index + 1], coding=Coding("verbatim")) for index in range(500)], RATE),
    )
    yield one(
        "numbers of 36 bits",
        good[:start] + b"".join(frame_bytes(f, (1 << 36) - 5 + n, True) for n, f in enumerate(frames)),
    )
    full = np.where(np.arange(FRAMES)[:, None] % 2, 32767, -32768).astype(np.int64)
    yield one("full scale", stream(blocks_of(full, 1000, coding=Coding("fixed", 4, wide=True)), RATE))
    if large:
        yield one("bomb of constants", bomb())


def bomb(seconds: int = 20_000) -> bytes:
    """A file of few bytes whose frames hold hours of a constant."""
    frame = Frame(np.full((65535, 1), 9000, np.int64), coding=Coding("constant"))
    count = seconds * RATE // 65535
    info = streaminfo(RATE, 1, 16, count * 65535, (65535, 65535))
    return b"fLaC" + block(STREAMINFO, info, True) + b"".join(frame_bytes(frame, number) for number in range(count))


def picture(data: bytes) -> bytes:
    """The content of a PICTURE block."""
    return struct.pack(">II", 3, 9) + b"image/png" + struct.pack(">6I", 0, 1, 1, 24, 0, len(data)) + data


def comments(found: list[bytes]) -> bytes:
    """The content of a VORBIS_COMMENT block."""
    return struct.pack("<I4sI", 4, b"test", len(found)) + b"".join(struct.pack("<I", len(one)) + one for one in found)


def cuesheet(tracks: int) -> bytes:
    """The content of a CUESHEET block whose tracks are all the lead-out."""
    track = struct.pack(">QB12sB13xB", 0, 170, b"", 0, 0)
    return bytes(128) + struct.pack(">QB258xB", 0, 0, tracks) + track * tracks


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x5A]) + data[at + 1 :]
