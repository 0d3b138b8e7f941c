"""The JSON that Distill keeps in the header of a safetensors file, read with suspicion: files come from anywhere."""

import codecs
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from distill.errors import ArtifactError


def read_header(path: Path, key: str, what: str, max_bytes: int) -> Any:
    """The JSON under `key` of the header's `__metadata__`, or the metadata itself where `key` is not in it.

    `what` names the file in the ArtifactError for anything that is not a safetensors file with a header of at most
    `max_bytes`. Nothing of the file's tensors is read.
    """
    head, size = _first_bytes(path, what)
    length = int.from_bytes(head[:8], "little")
    if len(head) < 8 or length > size:
        raise ArtifactError(f"{path}: expected {what}, found {_kind(head)}")
    if length > max_bytes:
        raise ArtifactError(f"{path}: expected {what}, found a header of {length} bytes; at most {max_bytes} are read")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        return json.loads(metadata[key], parse_constant=_refuse_constant) if key in metadata else metadata
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: expected {what}, found a damaged file ({error}); get it again") from error


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
        raise ArtifactError(f"{path}: expected {what}, found no such file") from error
    except OSError as error:
        reason = error.strerror or error
        raise ArtifactError(f"{path}: expected {what}, found a file that cannot be read ({reason})") from error


def _kind(head: bytes) -> str:
    """What a file that is no safetensors file seems to be, and what to do."""
    if not head:
        return "an empty file (0 bytes); get it again"
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


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
