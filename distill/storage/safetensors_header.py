"""Headers of safetensors files and Distill's JSON in them, validated: files are untrusted input."""

import codecs
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from distill.errors import ArtifactError
from distill.text import is_utf8, one_line


@dataclass(frozen=True)
class Limits:
    """Upper bounds of a header: its bytes, its tensors, the bytes and the depth of Distill's JSON in it."""

    header_bytes: int
    tensors: int
    json_bytes: int
    depth: int


@dataclass(frozen=True)
class StoredTensor:
    """Type and shape of a tensor in a header; `dtype` is the name in safetensors, such as F32."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """The JSON under Distill's key, or the whole `__metadata__` where that key is missing; and the tensors by name."""

    values: Any
    tensors: dict[str, StoredTensor]


def read_header(path: Path, key: str, what: str, limits: Limits) -> Header:
    """Read and check the header of a safetensors file, without its tensors.

    `what` names the kind of file in messages. Raises ArtifactError for anything but a safetensors file within the
    limits whose tensors fill it without gaps and overlaps. Duplicate keys and NaN or infinite values in JSON are
    refused.
    """
    head, size = _first_bytes(path, what)
    if not is_utf8(str(path)):
        raise ArtifactError(f"{path}: expected a path in UTF-8, found other bytes in it; rename the file or its folder")
    length = int.from_bytes(head[:8], "little")
    if len(head) < 8 or length > size:
        raise ArtifactError(f"{path}: expected {what}, found {_kind(head)}")
    if length > limits.header_bytes:
        raise ArtifactError(
            f"{path}: expected {what}, found a header of {length} bytes; at most {limits.header_bytes} are read"
        )
    try:
        with path.open("rb") as stream:
            stream.seek(8)
            header = _parsed(stream.read(length))
        with safe_open(path, framework="numpy"):
            pass  # checks the tensors against the size of the file
        metadata, tensors = _parts(header, limits.tensors)
        if key not in metadata:
            return Header(metadata, tensors)
        text = metadata[key].encode()
        if len(text) > limits.json_bytes:
            raise ValueError(f"{len(text)} bytes of {key}, more than {limits.json_bytes}")
        values = _parsed(text)
        json.dumps(values, ensure_ascii=False).encode()  # fails on a lone surrogate, which no terminal can show
        if _depth(values) > limits.depth:
            raise ValueError(f"{key} nested deeper than {limits.depth}")
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{path}: expected {what}, found a damaged file ({one_line(error)}); download it again"
        ) from error
    return Header(values, tensors)


def _parts(header: Any, most_tensors: int) -> tuple[dict[str, str], dict[str, StoredTensor]]:
    """The metadata and the tensors of a header that safetensors has validated."""
    metadata = header.pop("__metadata__", None) or {}
    if len(header) > most_tensors:
        raise ValueError(f"{len(header)} tensors, more than {most_tensors}")
    return metadata, {name: StoredTensor(entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}


def _parsed(data: bytes) -> Any:
    return json.loads(
        data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a duplicate key")
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _depth(value: Any) -> int:
    """Nesting depth of objects and arrays."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [inner for item in level for inner in _items(item)]
    return depth


def _items(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _first_bytes(path: Path, what: str) -> tuple[bytes, int]:
    """The first bytes of a regular file, and its size."""
    if path.is_dir():
        raise ArtifactError(f"{path}: expected {what}, found a folder; name the file in it")
    try:
        if path.exists() and not path.is_file():
            raise ArtifactError(f"{path}: expected {what}, found something that is not a regular file")
        with path.open("rb") as stream:
            return stream.read(512), path.stat().st_size
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: expected {what}, found no such file; check the path") from error
    except OSError as error:
        reason = error.strerror or error
        raise ArtifactError(f"{path}: expected {what}, found a file that cannot be read ({reason})") from error


def _kind(head: bytes) -> str:
    """Description of a file that is not a safetensors file, with the remedy."""
    if not head:
        return "an empty file (0 bytes); download it again"
    if head.startswith(b"PK"):
        return (
            "a zip archive, such as PyTorch's torch.save writes: pickled files can run code and are never opened; "
            "make the file again with this version of Distill"
        )
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return "a pickle, which can run code and is never opened; make the file again with this version of Distill"
    return "text; check the path" if _is_text(head) else "another format; check the path"


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # a character cut off at the end is no error
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\n\r" for character in text)
