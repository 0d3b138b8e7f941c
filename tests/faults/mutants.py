"""Damaged files: random changes of bytes, of numbers in headers, of YAML and of the JSON of safetensors files."""

import copy
import json
import random
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import yaml

from distill.model_file.format import HASH, metadata_sha256
from distill.storage.files import canonical_json

HEADER = 256  # bytes in which headers of audio files are, at least in part
LIES = (0, 1, 7, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFF)
DEEP: list[Any] = [[[[[[[[[[]]]]]]]]]]
WRONG: tuple[Any, ...] = (None, "x", -1, 2**63, 1e300, True, [], {}, DEEP, "../../etc/passwd", "\x1b[31m")
WORDS = ("auto", "none", "small", "frame", "flat", "", " ", "epochs", "a" * 300)


def mutant(data: bytes, draw: random.Random) -> bytes:
    """The file with other bytes, other numbers in its header, or pieces removed, repeated and made up."""
    if len(data) < 16:
        data += bytes(16)
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


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the payload of a safetensors file."""
    stop = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:stop]), data[stop:]


def joined(header: Any, payload: bytes) -> bytes:
    """A safetensors file; a header that is text is not encoded."""
    raw = (header if isinstance(header, str) else compact(header)).encode()
    return len(raw).to_bytes(8, "little") + raw + payload


def metadata_of(data: bytes) -> tuple[str, dict[str, Any]]:
    """The key and the values of the one document in the metadata of a safetensors file."""
    ((key, text),) = parts(data)[0]["__metadata__"].items()
    return key, json.loads(text)


def with_metadata(data: bytes, values: Any) -> bytes:
    """A safetensors file with another document in its metadata, whose hash fits; one that is text is not encoded."""
    (header, payload), (key, before) = parts(data), metadata_of(data)
    if isinstance(values, dict) and HASH in before and values.get(HASH) == before[HASH]:
        values = {**values, HASH: metadata_sha256(values)}
    text = values if isinstance(values, str) else canonical_json(values)
    return joined({**header, "__metadata__": {key: text}}, payload)


def compact(header: Any) -> str:
    """The JSON of a header as it is written."""
    return json.dumps(header, separators=(",", ":"), ensure_ascii=False)


def fields(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values in nested JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from fields(inner, (*path, key))


def put(values: Any, path: tuple[Any, ...], value: Any) -> None:
    """Set the value at a path."""
    for key in path[:-1]:
        values = values[key]
    values[path[-1]] = value


def get(values: Any, path: tuple[Any, ...]) -> Any:
    """The value at a path."""
    for key in path:
        values = values[key]
    return values


def change_values(values: Any, draw: random.Random) -> None:
    """Set up to three values in nested JSON to others, wrong or in range; or remove one, or add one."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        paths, numbers = list(fields(values)), [draw.randrange(-2, 70), 2 ** draw.randrange(64)]
        if not paths:
            return
        *above, key = draw.choice(paths)
        section, action = get(values, tuple(above)), draw.randrange(8)
        if action == 0:
            del section[key]
            continue
        if action == 1 and isinstance(section, dict):
            key = draw.choice(WORDS)
        other = draw.choice((*numbers, draw.random() * 10.0 ** draw.randrange(-9, 300), *WRONG, *WORDS))
        section[key] = copy.deepcopy(other)


def safetensors_mutant(data: bytes, draw: random.Random) -> bytes:
    """A mutant, or the file with another value in its header or in the document in its metadata."""
    kind = draw.randrange(3)
    try:
        values = parts(data)[0] if kind == 1 else metadata_of(data)[1]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):  # a mutant itself
        kind = 0
    if kind == 0:
        return mutant(data, draw)
    change_values(values, draw)
    return joined(values, parts(data)[1]) if kind == 1 else with_metadata(data, values)


def yaml_mutant(data: bytes, draw: random.Random) -> bytes:
    """A mutant, or the file with other values."""
    values = None
    if draw.randrange(4):
        with suppress(yaml.YAMLError, ValueError, RecursionError):
            values = yaml.safe_load(data)
    if not isinstance(values, dict):
        return mutant(data, draw)
    change_values(values, draw)
    return yaml.safe_dump(values).encode()
