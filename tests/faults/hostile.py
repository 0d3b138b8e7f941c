"""Model files that harm: `python -m faults.hostile MODEL EVERY FIRST` loads invalid ones in a process that is watched.

Prints JSON: how many were refused, and what was wrong. No code runs and nothing is written. For `faults.fuzz` there are
forged files, too, whose hashes fit: they are refused, or what they make is finite.
"""

import contextlib
import io
import json
import os
import pickle
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from distill.api import Model
from distill.errors import ArtifactError, DistillError
from distill.model_file.build import card_text
from distill.model_file.format import HASH, BundleMetadata, load_bundle, metadata_sha256
from distill.model_file.inspect import describe
from distill.storage.files import canonical_json
from distill.storage.weights import tensors_sha256, under
from faults.mutants import (
    WRONG,
    compact,
    fields,
    get,
    joined,
    metadata_of,
    parts,
    put,
    with_metadata,
)

NEVER = ("socket.", "subprocess.", "os.system", "os.exec", "os.spawn", "os.fork", "pickle.", "ctypes.", "shutil.")
CODE = ("exec", "compile", "import")
NULLABLE = ("training_date", "alike", "compared", "critic")  # fields of the metadata that may be null
DEFAULTS = {name for name, field in BundleMetadata.model_fields.items() if not field.is_required()}  # may be missing
OPEN = ("metadata", "loss_curve_history", "training_config")  # may hold what they like, within limits
MEMORY = 512 << 20  # bytes that loading may take beyond what the process has
NUMBERS = (0.0, -0.0, 1e-45, 1.0, -1e4, 1e18, -1e30, 3.4e38, -3.4e38, float("nan"), float("inf"))
SIZES = (0, 1, 2, 3, 8, 9, 64, 1024, 8192, 1 << 20, 1 << 31)


class Reached:
    """Reports that it was unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, ("touch reached",)


def invalid(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of invalid files, made from a model."""
    header, payload = parts(data)
    key, values = metadata_of(data)
    text = canonical_json(values)
    for path in fields(values):
        for number, wrong in enumerate(WRONG):
            is_right = type(wrong) is type(get(values, path)) or (wrong is None and path[-1] in NULLABLE)
            if path[0] not in OPEN and not is_right:
                changed = json.loads(text)
                put(changed, path, wrong)
                yield f"{path} wrong {number}", with_metadata(data, changed)
    for name in sorted(values.keys() - {HASH} - DEFAULTS):
        yield f"without {name}", with_metadata(data, {key: values[key] for key in values if key != name})
    first, second = [name for name in header if name != "__metadata__"][:2]
    for name in ("../../../etc/passwd", "/etc/passwd", "codec.\0", "codec.\x1b[2J", "codec." + "a" * 70_000):
        renamed = {**{k: v for k, v in header.items() if k != first}, name: header[first]}
        yield f"tensor {name[:20]!r}", joined(renamed, payload)
    changes: dict[str, tuple[Any, ...]] = {
        "shape": ([2**40, 2**40], [2**63], [-1], [1.5], ["1"], [0], [], [1] * 10_000, None),
        "data_offsets": ([0, 2**62], [2**62, 0], [-4, 0], [0], header[second]["data_offsets"]),
        "dtype": ("F64", "I8", "BOOL", "object", 7),
    }
    for field, choices in changes.items():
        for choice in choices:
            wrong = joined({**header, first: {**header[first], field: choice}}, payload)
            yield f"{field} {str(choice)[:20]}", wrong
    for size in (0, 4, 8, 100, len(data) // 2, len(data) - 1):
        yield f"cut off at {size}", data[:size]
    yield "trailing bytes", data + bytes(64)
    twice = compact(header)[:-1] + f',"{first}":{compact(header[first])}}}'
    yield "key twice in the header", joined(twice, payload)
    yield "key twice in the metadata", with_metadata(data, text[:-1] + ',"has_prior":true}')
    for word in ("NaN", "Infinity", "1e999", "1" * 5000, '"\\ud800"', "[" * 100_000, json.dumps("a" * 300_000)):
        yield f"metadata with {word[:9]}", with_metadata(data, text[:-1] + f',"metadata":{{"x":{word}}}}}')
    yield "long header", joined(compact(header) + " " * (1 << 20), payload)
    yield "header of 2^62 bytes", (2**62).to_bytes(8, "little") + data[8:]
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    yield "many tensors", joined({**header, **{f"t{number}": empty for number in range(5000)}}, payload)
    for kind in ("[]", "null", "7", '"x"', "{", ""):
        yield f"header {kind}", joined(kind, payload)
    for value in ({}, None, [], "x", {key: 7}, {key: "x"}, {"other": text}, {key: ""}):
        yield f"__metadata__ {str(value)[:20]}", joined({**header, "__metadata__": value}, payload)
    for protocol in range(6):
        yield f"pickle {protocol}", pickle.dumps(Reached(), protocol)
    stream = io.BytesIO()
    torch.save({"weights": Reached()}, stream)
    yield "torch.save", stream.getvalue()


def forged(data: bytes, draw: random.Random) -> bytes:
    """A file whose hashes fit, with other numbers, types and shapes of tensors, and other settings."""
    tensors, (key, values) = dict(load(data)), metadata_of(data)
    for _ in range(draw.choice((1, 1, 2, 4))):
        name, kind = draw.choice(sorted(tensors)), draw.randrange(6)
        shape = list(tensors[name].shape)
        if kind < 3:
            tensors[name] = _renumbered(tensors[name], draw)
        elif kind == 3:
            other = draw.choice((shape[::-1], [*shape, 1], shape[1:], [max(0, size - 1) for size in shape], [0]))
            tensors[name] = torch.zeros(other, dtype=tensors[name].dtype)
        elif kind == 4:
            tensors[name] = tensors[name].to(draw.choice((torch.float64, torch.float16, torch.int64, torch.bool)))
        else:
            paths = [path for path in fields(values) if path[0].endswith("_config") and path[0] not in OPEN]
            path = draw.choice(paths)
            same = (not get(values, path),) if isinstance(get(values, path), bool) else (*SIZES, *SIZES)
            put(values, path, draw.choice((*same, None, "frame", ["a"], ["a", "b", "c"])))
    values["payload_sha256"] = tensors_sha256(tensors)
    values["codec_sha256"] = tensors_sha256(under("codec.", tensors))
    values[HASH] = metadata_sha256(values)
    return save(tensors, {key: canonical_json(values)})


def _renumbered(tensor: Tensor, draw: random.Random) -> Tensor:
    """The tensor with other numbers: one of them, a row or all."""
    flat = tensor.clone().flatten()
    if len(flat):
        start = draw.randrange(len(flat))
        stop = draw.choice((start + 1, start + 8, len(flat)))
        numbers: tuple[float, ...] = NUMBERS
        if not tensor.is_floating_point():  # a forgery may have made them truth values
            limit = torch.iinfo(torch.uint8 if tensor.dtype == torch.bool else tensor.dtype)
            numbers = (limit.min, limit.max, 0, 1, 8)
        flat[start:stop] = draw.choice(numbers)
    return flat.view(tensor.shape)


class Watch:
    """Records forbidden actions while it looks."""

    def __init__(self) -> None:
        self.looking, self.seen = False, set[str]()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.looking and (event.startswith(NEVER) or event in CODE or _writes(event, arguments)):
            self.seen.add(f"{event} {arguments[:1]}"[:200])


def _writes(event: str, arguments: tuple[Any, ...]) -> bool:
    return event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))


def load_all(path: Path, data: bytes, every: int, first: int) -> dict[str, Any]:
    """Load each `every`-th invalid file from `first`; counts of what came of it."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
    watch, count, refused, wrong, slowest = Watch(), 0, 0, [], 0.0
    for name, content in islice(invalid(data), first, None, every):
        count += 1
        path.write_bytes(content)
        began, watch.looking = time.perf_counter(), True
        try:
            load_bundle(path)
            wrong.append(f"{name}: was loaded")
        except ArtifactError as error:
            refused += 1
            wrong += [] if str(error).isprintable() and len(str(error)) < 1000 else [f"{name}: {error!a}"[:300]]
        except BaseException as error:
            wrong.append(f"{name}: {error!r}"[:300])
        finally:
            watch.looking = False
        slowest = max(slowest, time.perf_counter() - began)
    seen, watch.looking = sorted(watch.seen), True
    pickle.loads(pickle.dumps(b"control"))
    exec("pass")
    watch.looking = False
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    assert len(watch.seen) > len(seen)  # it would have seen
    return {"files": count, "refused": refused, "wrong": wrong, "seen": seen, "slowest": slowest}


def use(path: Path) -> Iterator[str]:
    """Do with a model what commands do; faults of the results."""
    metadata = load_bundle(path).metadata  # raises for one that is refused
    if any(character in card_text(path.name, metadata) for character in "\x1b\x07\x9b"):
        yield "control characters in a card"
    describe(path, metadata, 80)
    model = Model(path)
    tone = 0.5 * np.sin(np.arange(3000) * 0.2).astype(np.float32)
    made: dict[str, Callable[[], Any]] = {"decode": lambda: [model.decode(model.encode(tone))]}
    made["generate"] = lambda: model.generate(n=1, seconds=0.2, seed=0).sounds
    made["generate to the end"] = lambda: model.generate(n=1, seed=0).sounds
    made["vary"] = lambda: model.vary(tone, n=1, seed=0).sounds
    for name, make in made.items():
        with contextlib.suppress(DistillError):
            for sound in make():
                if not np.isfinite(sound).all():
                    yield f"{name} gives NaN or infinite samples"
                if len(sound) > 60 * model.sample_rate:
                    yield f"{name} gives {len(sound)} samples"


def main(model: Path, every: int, first: int) -> None:
    """Load each `every`-th of the invalid files from `first`, and print the counts of outcomes as JSON."""
    data, path = model.read_bytes(), Path("found.distill")
    load_bundle(model)  # what is imported at the first use
    with contextlib.suppress(ArtifactError):
        load_bundle(Path("none.distill"))
    found = load_all(path, data, every, first)
    print(json.dumps({**found, "reached": Path("reached").exists()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
