"""Safetensors files: weights, their hashes, and headers with Distill's JSON, validated: files are untrusted input."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from distill.errors import ArtifactError
from distill.storage.files import canonical_json, damaged, write_bytes
from distill.text import is_utf8, one_line

M = TypeVar("M", bound=nn.Module)
V = TypeVar("V")


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 over names, types, shapes and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{value.dtype}\0{list(value.shape)}\0".encode())
        if value.numel():
            digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def weights_sha256(module: nn.Module) -> str:
    """Hex SHA-256 of a network's weights. The hash of a codec identifies its codes and priors."""
    return tensors_sha256(stored_weights(module))


def under(prefix: str, tensors: Mapping[str, V]) -> dict[str, V]:
    """The tensors whose names start with `prefix`, without it."""
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def stored_weights(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """A network's weights as files have them: what is learnt by gradients in half precision, all else as it is."""
    learnt = {name for name, _ in module.named_parameters()}
    return {
        prefix + name: value.half() if name in learnt else value
        for name, value in module.state_dict().items()
    }


def stored_shapes(module: nn.Module, prefix: str = "") -> dict[str, "StoredTensor"]:
    """Types and shapes of a network's weights as files have them."""
    learnt = {name for name, _ in module.named_parameters()}
    types = {True: "F16", False: "F32"}
    return {
        prefix + name: StoredTensor(types[name in learnt], tuple(value.shape))
        for name, value in module.state_dict().items()
    }


class AtMost(TorchFunctionMode):
    """Context that limits the size of networks built in it; raises ArtifactError before it makes a tensor too many.

    For networks that a file describes. The meta device would need no memory, but imports torch's compiler, for a second.
    """

    MAKERS: ClassVar = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self._left = numbers

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in self.MAKERS:
            size = args if isinstance(args[0], int) else args[0]
            self._left -= math.prod(size)
        if self._left < 0:
            raise ArtifactError(
                "expected the tensors that its metadata describes, found others: fewer numbers"
            )
        return func(*args, **kwargs or {})


@torch.no_grad()
def round_weights(module: M) -> M:
    """Round a network's weights to those that files can have."""
    for parameter in module.parameters():
        parameter.copy_(parameter.half())
    return module


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a network's weights as safetensors, atomically."""
    write_bytes(
        path,
        save(
            {
                key: value.detach().cpu().contiguous()
                for key, value in stored_weights(module).items()
            }
        ),
    )


def load_weights(path: Path, module: M) -> M:
    """Load weights into a network and set eval mode. Raises ArtifactError when they do not match."""
    try:
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise damaged(path, "the weights that config.json describes", error) from error
    return module.eval()


class Kind(NamedTuple):
    """A kind of Distill's safetensors files, with upper bounds of what is read of a header."""

    name: str  # in messages
    key: str  # of the JSON in the header
    own: Mapping[str, Any]  # "format" and "version" in the JSON
    again: str  # how to make a file of this version
    header_bytes: int
    json_bytes: int
    depth: int  # of the JSON


class StoredTensor(NamedTuple):
    """Type and shape of a tensor in a header; `dtype` is the name in safetensors, such as F32."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path, kind: Kind) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """Read and check the header of a safetensors file: Distill's JSON, and the tensors by name.

    Raises ArtifactError for anything but a safetensors file within the limits whose tensors fill it without gaps and
    overlaps. Duplicate keys, NaN or infinite values, and other spaces or escapes than are written are refused in JSON.
    """
    expected = f"{path}: expected {kind.name}, found"
    text = _header_text(path, expected, kind.header_bytes)
    try:
        header = _parsed(text)
        if json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode() != text.rstrip(
            b" "
        ):
            raise ValueError("a header that is not as it was written")  # as JSON it means the same
        with safe_open(path, framework="numpy"):
            pass  # checks the tensors against the size of the file
        values = _own_values(header.pop("__metadata__", None) or {}, kind)
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{expected} a damaged file ({one_line(error)}); copy or download it again"
        ) from error
    own = kind.own
    if (
        not isinstance(values, dict)
        or values.get("format", own["format"]) != own["format"]
        or "version" not in values
    ):
        raise ArtifactError(f"{expected} another kind of safetensors file; check the path")
    if values["version"] != own["version"]:
        version, other = ".".join(map(str, own["version"])), one_line(repr(values["version"]), 80)
        raise ArtifactError(
            f"{path}: expected format version {version}, found {other}; {kind.again}, or use the version of Distill that "
            "wrote it"
        )
    return values, {
        name: StoredTensor(tensor["dtype"], tuple(tensor["shape"]))
        for name, tensor in header.items()
    }


def _header_text(path: Path, expected: str, most: int) -> bytes:
    """The header, JSON of at most `most` bytes. Raises ArtifactError for what cannot be a safetensors file."""
    if path.is_dir():
        raise ArtifactError(f"{expected} a folder; name the file in it")
    if path.exists() and not path.is_file():
        raise ArtifactError(f"{expected} something that is not a regular file")
    try:
        with path.open("rb") as stream:
            head, size = stream.read(8), path.stat().st_size
            length = int.from_bytes(head, "little")
            text = stream.read(length) if length <= most else b""
    except FileNotFoundError as error:
        raise ArtifactError(f"{expected} no such file; check the path") from error
    except OSError as error:
        raise ArtifactError(
            f"{expected} a file that cannot be read ({error.strerror or error})"
        ) from error
    if not is_utf8(str(path)):
        raise ArtifactError(
            f"{path}: expected a path in UTF-8, found other bytes in it; rename it, or set a UTF-8 locale"
        )
    if len(head) < 8 or length > size:
        raise ArtifactError(f"{expected} {_described(head)}")
    if length > most:
        raise ArtifactError(f"{expected} a header of {length} bytes; at most {most} are read")
    return text


def _own_values(metadata: dict[str, str], kind: Kind) -> Any:
    """Distill's JSON in the metadata of a header, or the metadata where it has none. Raises ValueError beyond limits."""
    if kind.key not in metadata:
        return metadata
    text = metadata[kind.key].encode()
    if len(text) > kind.json_bytes:
        raise ValueError(f"{len(text)} bytes of {kind.key}, more than {kind.json_bytes}")
    values = _parsed(text)
    if (
        canonical_json(values).encode() != text
    ):  # fails on a lone surrogate, too, which no terminal can show
        raise ValueError(f"{kind.key} that is not as it was written")
    if _depth(values) > kind.depth:
        raise ValueError(f"{kind.key} nested deeper than {kind.depth}")
    return values


def _parsed(data: bytes) -> Any:
    return json.loads(
        data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a duplicate key")
    return values


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _depth(value: Any) -> int:
    """Nesting depth of objects and arrays."""
    match value:
        case dict():
            return 1 + max(map(_depth, value.values()), default=0)
        case list():
            return 1 + max(map(_depth, value), default=0)
    return 0


def _described(head: bytes) -> str:
    """Description of a file that is not a safetensors file, with the remedy."""
    if not head:
        return "an empty file (0 bytes); copy or download it again"
    if head.startswith((b"PK", *(bytes([0x80, protocol]) for protocol in range(6)))):
        return (
            "a pickle, or a zip archive such as PyTorch's torch.save writes, which can run code and is never opened; "
            "make the file again with this version of Distill"
        )
    return "another format; check the path"
