"""Minimal writer of FLAC streams (RFC 9639), for streams that encoders do not write and for wrong ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
_RATES = {
    88_200: 1,
    176_400: 2,
    192_000: 3,
    8_000: 4,
    16_000: 5,
    22_050: 6,
    24_000: 7,
    32_000: 8,
    44_100: 9,
    48_000: 10,
}
_DEPTHS = {8: 1, 12: 2, 16: 4, 20: 5, 24: 6, 32: 7}
INDEPENDENT, LEFT_SIDE, SIDE_RIGHT, MID_SIDE = -1, 8, 9, 10  # channel assignments
STREAMINFO, PADDING, APPLICATION, SEEKTABLE, COMMENT, CUESHEET, PICTURE = range(7)  # types of metadata blocks


class Bits:
    """Bits in the order in which they are written."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def put(self, value: int, width: int) -> None:
        """Write the low `width` bits of a number."""
        if width:
            self._parts.append(format(value & ((1 << width) - 1), f"0{width}b"))

    def unary(self, zeros: int) -> None:
        """Write so many zeros and a one."""
        self._parts.append("0" * zeros + "1")

    def data(self) -> bytes:
        """All bits, filled up with zeros to whole bytes."""
        text = "".join(self._parts)
        text += "0" * (-len(text) % 8)
        return int(text, 2).to_bytes(len(text) // 8, "big") if text else b""


@dataclass(frozen=True)
class Coding:
    """How the samples of a block are coded; see RFC 9639, section 9.2."""

    kind: str = "fixed"  # constant, verbatim, fixed or lpc
    order: int = 2
    partition_order: int = 0
    wide: bool = False  # Rice parameters of five bits
    escape: bool = False  # residual without Rice code
    wasted: int = 0  # low bits that are zero
    precision: int = 15  # of the coefficients of lpc


@dataclass(frozen=True)
class Frame:
    """One frame. `rate` 0 refers to STREAMINFO, and so does `depth` 0."""

    samples: I64  # [n, C]
    rate: int = 0
    depth: int = 0
    bits: int = 16  # bits of a sample
    assignment: int = INDEPENDENT
    coding: Coding = field(default_factory=Coding)


def crc(data: bytes, polynomial: int, width: int) -> int:
    """CRC of FLAC: most significant bit first, beginning with 0."""
    value, table = 0, _table(polynomial, width)
    for byte in data:
        value = ((value << 8) & ((1 << width) - 1)) ^ table[(value >> (width - 8)) ^ byte]
    return value


@cache
def _table(polynomial: int, width: int) -> list[int]:
    found = []
    for byte in range(256):
        value = byte << (width - 8)
        for _ in range(8):
            value = (value << 1) ^ polynomial if value >> (width - 1) else value << 1
            value &= (1 << width) - 1
        found.append(value)
    return found


def frame_bytes(frame: Frame, number: int, variable: bool = False) -> bytes:
    """A frame with its CRCs; `number` counts frames, or samples where `variable`."""
    size, channels = frame.samples.shape
    head = Bits()
    head.put(0xFFF9 if variable else 0xFFF8, 16)
    head.put(7, 4)  # 16 bits of block size follow
    code = 0 if not frame.rate else _RATES.get(frame.rate, 13 if frame.rate < 1 << 16 else 14)
    head.put(code, 4)
    head.put(channels - 1 if frame.assignment == INDEPENDENT else frame.assignment, 4)
    head.put(_DEPTHS.get(frame.depth, 0), 3)
    head.put(0, 1)
    for byte in _coded_number(number):
        head.put(byte, 8)
    head.put(size - 1, 16)
    if code in (13, 14):
        head.put(frame.rate if code == 13 else frame.rate // 10, 16)
    start = head.data()
    start += bytes([crc(start, 0x07, 8)])
    body = Bits()
    for channel in range(channels):
        values, bits = _channel(frame, channel)
        _subframe(body, values, bits, frame.coding)
    whole = start + body.data()
    return whole + crc(whole, 0x8005, 16).to_bytes(2, "big")


def _channel(frame: Frame, channel: int) -> tuple[I64, int]:
    """The samples of a subframe, and the bits of each."""
    if frame.assignment == INDEPENDENT:
        return frame.samples[:, channel], frame.bits
    left, right = frame.samples.T
    side, middle = left - right, (left + right) >> 1
    pair = {LEFT_SIDE: (left, side), SIDE_RIGHT: (side, right), MID_SIDE: (middle, side)}[frame.assignment]
    return pair[channel], frame.bits + (pair[channel] is side)


def _coded_number(number: int) -> bytes:
    """A number in the extended UTF-8 of frame headers."""
    if number < 0x80:
        return bytes([number])
    count = next(size for size in range(2, 8) if number < 1 << (5 * size + 1))
    tail = [0x80 | (number >> (6 * index)) & 0x3F for index in reversed(range(count - 1))]
    return bytes([((0xFF00 >> count) & 0xFF) | number >> (6 * (count - 1)), *tail])


def _subframe(bits: Bits, values: I64, width: int, coding: Coding) -> None:
    kinds = {"constant": 0, "verbatim": 1, "fixed": 8 + coding.order, "lpc": 32 + coding.order - 1}
    bits.put(kinds[coding.kind] << 1 | (coding.wasted > 0), 8)
    if coding.wasted:
        bits.unary(coding.wasted - 1)
    values, width = values >> coding.wasted, width - coding.wasted
    listed = [int(value) for value in values]
    if coding.kind in ("constant", "verbatim"):
        for value in listed[:1] if coding.kind == "constant" else listed:
            bits.put(value, width)
        return
    for value in listed[: coding.order]:
        bits.put(value, width)
    if coding.kind == "fixed":
        _residual(bits, np.diff(values, coding.order), len(values), coding)
        return
    # The same predictions as those of fixed, with coefficients in full precision.
    bits.put(coding.precision - 1, 4)
    bits.put(0, 5)  # no shift
    weights = [2, -1, *[0] * (coding.order - 2)]
    for weight in weights:
        bits.put(weight, coding.precision)
    predicted = [
        value - 2 * listed[index + coding.order - 1] + listed[index + coding.order - 2]
        for index, value in enumerate(listed[coding.order :])
    ]
    _residual(bits, np.array(predicted, dtype=np.int64), len(values), coding)


def _residual(bits: Bits, residual: I64, size: int, coding: Coding) -> None:
    bits.put(int(coding.wide), 2)
    bits.put(coding.partition_order, 4)
    partition, start = size >> coding.partition_order, 0
    width = 5 if coding.wide else 4
    for index in range(1 << coding.partition_order):
        part = residual[start : start + partition - (coding.order if index == 0 else 0)]
        start += len(part)
        if coding.escape:
            bits.put((1 << width) - 1, width)
            needed = max((int(value).bit_length() + 1 for value in np.abs(part)), default=0)
            bits.put(needed, 5)
            for value in part:
                bits.put(int(value), needed)
            continue
        mean = float(np.abs(part).mean()) if len(part) else 0.0
        parameter = min(max(int(np.log2(mean + 1)), 0), (1 << width) - 2)
        bits.put(parameter, width)
        for value in part:
            folded = int(value) * 2 if value >= 0 else -int(value) * 2 - 1
            bits.unary(folded >> parameter)
            bits.put(folded, parameter)


def block(kind: int, data: bytes, last: bool = False, size: int | None = None) -> bytes:
    """A metadata block; `size` where its header tells another one."""
    return bytes([kind | last << 7]) + (len(data) if size is None else size).to_bytes(3, "big") + data


def streaminfo(
    rate: int, channels: int, bits: int, total: int, sizes: tuple[int, int], md5: bytes = bytes(16), frames: int = 0
) -> bytes:
    """The content of STREAMINFO; `sizes` are the least and the largest block, `frames` the largest frame in bytes."""
    found = Bits()
    for value, width in ((sizes[0], 16), (sizes[1], 16), (0, 24), (frames, 24), (rate, 20), (channels - 1, 3)):
        found.put(value, width)
    found.put(bits - 1, 5)
    found.put(total, 36)
    return found.data() + md5


def stream(
    frames: Sequence[Frame],
    rate: int,
    bits: int = 16,
    *,
    channels: int | None = None,
    total: int | None = None,
    sizes: tuple[int, int] | None = None,
    md5: bytes | None = None,
    largest: int = 0,
    blocks: Sequence[bytes] = (),
    variable: bool = False,
) -> bytes:
    """A whole file. What is named replaces what follows from the frames."""
    lengths = [len(frame.samples) for frame in frames]
    if md5 is None:
        raw = b"".join(
            int(value).to_bytes((one.bits + 7) // 8, "little", signed=True)
            for one in frames
            for value in one.samples.reshape(-1)
        )
        md5 = hashlib.md5(raw, usedforsecurity=False).digest()
    info = streaminfo(
        rate,
        frames[0].samples.shape[1] if channels is None else channels,
        bits,
        sum(lengths) if total is None else total,
        sizes or (max(16, min(lengths)), max(lengths)),
        md5,
        largest,
    )
    data = b"fLaC" + block(STREAMINFO, info, last=not blocks) + b"".join(blocks)
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    return data + b"".join(
        frame_bytes(frame, starts[index] if variable else index, variable) for index, frame in enumerate(frames)
    )


def blocks_of(samples: I64, size: int, **values: object) -> list[Frame]:
    """Frames of `size` samples."""
    return [Frame(samples[start : start + size], **values) for start in range(0, len(samples), size)]  # type: ignore[arg-type]
