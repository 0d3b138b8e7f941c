"""Malicious model files, and a monitored process that loads them: `python -m faults.hostile FOLDER MUTANTS`."""

import contextlib
import copy
import io
import json
import os
import pickle
import random
import resource
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from unit.tiny import write_prior_model

from distill.errors import ArtifactError
from distill.model_file.format import load_bundle
from distill.storage.weights import tensors_sha256

WRONG: tuple[Any, ...] = (
    None,
    "x",
    -1,
    2**63,
    1e300,
    True,
    [],
    {},
    [[[[[[[[[[]]]]]]]]]],
    "../../etc/passwd",
    "\x1b[31m",
)
REFERENCES = (
    ("codes", np.full((110, 2), 9, np.uint16)),
    ("codes", np.zeros((109, 2), np.uint16)),
    ("codes", np.zeros((110, 3), np.uint16)),
    ("codes", np.zeros((0, 2), np.uint16)),
    ("codes", np.zeros((110, 2), np.int64)),
    ("lengths", np.array([2**62, 2**62, 2**62, 2**62, 110])),
    ("lengths", np.array([-1, 51, 20, 20, 20])),
    ("lengths", np.zeros(0, np.int64)),
    ("lengths", np.ones(110, np.int64)),
    ("names", np.zeros(0, np.uint8)),
    ("names", np.full(1 << 20, 10, np.uint8)),
    ("held_out_lengths", np.array([90])[:0]),
    ("scores", np.full((3, 7), np.nan, np.float32)),
    ("scores", np.zeros((3, 8), np.float32)),
    ("reencoded", np.full((3, 7), np.inf, np.float32)),
    ("reencoded", np.zeros((0, 7), np.float32)),
    ("scores", np.zeros((3, 7), np.float32)),
    ("more", np.zeros(3, np.float32)),
)
MEMORY = 512 << 20  # bytes that loading may take beyond what the process has
NEVER = ("socket.", "subprocess.", "os.system", "os.exec", "os.spawn", "os.fork", "pickle.", "ctypes.", "shutil.")
CODE = ("exec", "compile", "import")


class Reached:
    """Reports that it was unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, ("touch reached",)


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the payload."""
    stop = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:stop]), data[stop:]


def joined(header: Any, payload: bytes) -> bytes:
    """A file of header and payload; a header of bytes or text is not encoded."""
    text = header if isinstance(header, (bytes, str)) else json.dumps(header)
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(8, "little") + raw + payload


def with_metadata(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The file with other metadata: the result of `change`, or its changed argument."""
    header, payload = parts(data)
    values = json.loads(header["__metadata__"]["distill"])
    changed = change(values)
    text = changed if isinstance(changed, str) else json.dumps(values)
    return joined({**header, "__metadata__": {"distill": text}}, payload)


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


def hostile(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of invalid files, made from the model `data`."""
    header, payload = parts(data)
    text = header["__metadata__"]["distill"]
    values = json.loads(text)
    closed = ("metadata", "loss_curve_history", "training_config")  # may hold what they like, within limits
    for path in fields(values):
        for number, wrong in enumerate(WRONG):
            if path[0] not in closed and type(wrong) is not type(current(values, path)):
                yield f"{path} wrong {number}", with_metadata(data, lambda found, p=path, w=wrong: put(found, p, w))  # type: ignore[misc]
    for key in values:
        yield f"without {key}", with_metadata(data, lambda found, k=key: found.pop(k) and None)  # type: ignore[misc]
    tensors = [name for name in header if name != "__metadata__"]
    first, second = tensors[:2]
    for name in (
        "../../../etc/passwd",
        "/etc/passwd",
        "codec.\0",
        "codec.\x1b[2J",
        "__class__",
        "codec." + "a" * 70_000,
    ):
        yield (
            f"tensor {name[:20]!r}",
            joined({**{k: v for k, v in header.items() if k != first}, name: header[first]}, payload),
        )
    for shape in ([2**40, 2**40], [2**63], [-1], [1.5], ["1"], [0], [], [1] * 10_000, None):
        yield f"shape {str(shape)[:20]}", joined({**header, first: {**header[first], "shape": shape}}, payload)
    for offsets in (
        [0, 2**62],
        [2**62, 0],
        [-4, 0],
        [0],
        header[second]["data_offsets"],
        [len(payload), len(payload) + 4],
    ):
        yield f"offsets {offsets}", joined({**header, first: {**header[first], "data_offsets": offsets}}, payload)
    for dtype in ("F64", "I8", "BOOL", "object", 7):
        yield f"type {dtype}", joined({**header, first: {**header[first], "dtype": dtype}}, payload)
    for share in (0, 4, 8, 100, len(data) // 2, len(data) - 1):
        yield f"truncated to {share}", data[:share]
    yield "trailing bytes", data + b"\0" * 64
    yield "twice", data + data
    yield (
        "key twice in the header",
        joined(json.dumps(header)[:-1] + f', "{first}": ' + json.dumps(header[first]) + "}", payload),
    )
    yield "key twice in the metadata", with_metadata(data, lambda _: text[:-1] + ', "has_prior": true}')
    for word in ("NaN", "Infinity", "-Infinity", "1e999", "1" * 5000, "\\ud800"):
        quoted = f'"{word}"' if word[0] == "\\" else word
        yield (
            f"metadata with {word[:10]}",
            with_metadata(data, lambda _, w=quoted: text[:-1] + f', "metadata": {{"x": {w}}}}}'),
        )  # type: ignore[misc]
    deep = "[" * 9 + "]" * 9
    for name, word in (("deep", deep), ("deeper", "[" * 100_000), ("long", json.dumps("a" * 300_000))):
        yield (
            f"{name} metadata",
            with_metadata(data, lambda _, w=word: text.replace('"metadata":{}', f'"metadata":{{"x":{w}}}')),
        )  # type: ignore[misc]
    yield "long header", joined(json.dumps(header) + " " * (1 << 20), payload)
    yield "header of 2^62 bytes", (2**62).to_bytes(8, "little") + data[8:]
    yield (
        "many tensors",
        joined(
            {**header, **{f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(5000)}},
            payload,
        ),
    )
    for kind in ("[]", "null", "7", '"x"', "{", ""):
        yield f"header {kind}", joined(kind, payload)
    for value in ({}, None, [], "x", {"distill": 7}, {"distill": "x"}, {"other": text}, {"distill": ""}):
        yield f"__metadata__ {str(value)[:20]}", joined({**header, "__metadata__": value}, payload)
    for name, array in REFERENCES:
        yield f"reference {name} {array.dtype} {array.shape}", signed(data, name, array)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Reached()))
    yield "zip with a pickle", stream.getvalue()
    for protocol in range(6):
        yield f"pickle {protocol}", pickle.dumps(Reached(), protocol)
    stream = io.BytesIO()
    torch.save({"weights": Reached()}, stream)
    yield "torch.save", stream.getvalue()


def signed(data: bytes, name: str, array: NDArray[Any]) -> bytes:
    """The file with another array in its reference, and a matching hash."""
    tensors = {**load(data), f"reference.{name}": torch.from_numpy(array)}
    values = json.loads(parts(data)[0]["__metadata__"]["distill"])
    values["payload_sha256"] = tensors_sha256(tensors)
    return save(tensors, {"distill": json.dumps(values)})


def current(values: Any, path: tuple[Any, ...]) -> Any:
    """The value at a path."""
    for key in path:
        values = values[key]
    return values


def mutant(data: bytes, draw: random.Random) -> bytes:
    """A random mutation of the file: of bytes anywhere, of bytes of the header, or of metadata values."""
    kind, length = draw.randrange(6), 8 + int.from_bytes(data[:8], "little")
    if kind < 3:
        changed = bytearray(data)
        for _ in range(draw.choice((1, 1, 2, 8, 64))):
            changed[draw.randrange((8, length, len(data))[kind])] = draw.randrange(256)
        return bytes(changed)
    if kind == 3:
        at, count = draw.randrange(len(data)), draw.randrange(1, 5000)
        return data[:at] + draw.choice((b"", data[at : at + count] * 2, draw.randbytes(count))) + data[at + count :]

    def change(values: dict[str, Any]) -> None:
        paths = list(fields(values))
        for _ in range(draw.choice((1, 1, 2, 3))):
            path = draw.choice(paths)
            number = draw.choice(
                (draw.randrange(-2, 70), 2 ** draw.randrange(64), draw.random() * 10.0 ** draw.randrange(-9, 300))
            )
            try:
                put(values, path, copy.deepcopy(draw.choice((number, *WRONG))))
            except (KeyError, TypeError, IndexError):
                continue  # its parent was replaced

    return with_metadata(data, change)


class Watch:
    """Records forbidden actions while active."""

    def __init__(self) -> None:
        self.looking, self.seen = False, set[str]()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.looking:
            return
        if event.startswith(NEVER) or event in CODE:
            self.seen.add(f"{event} {arguments[:1]}"[:200])
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            writing = isinstance(mode, str) and set(mode) & set("wax+")
            if writing or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                self.seen.add(f"open {arguments}"[:200])


def main(folder: Path, mutants: int) -> None:
    """Load all files and print the counts of outcomes as JSON."""
    torch.set_num_threads(1)
    good = folder / "good.distill"
    write_prior_model(good, labels=["a", "b"])
    data = good.read_bytes()
    load_bundle(good)
    with contextlib.suppress(ArtifactError):
        load_bundle(folder / "none.distill")
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
    watch, draw, path = Watch(), random.Random(0), folder / "found.distill"
    slowest, refused, loaded, wrong = 0.0, 0, [], []
    files = [*hostile(data), *((f"mutant {number}", None) for number in range(mutants))]
    for name, content in files:
        path.write_bytes(mutant(data, draw) if content is None else content)
        began, watch.looking = time.perf_counter(), True
        try:
            load_bundle(path)
            if content is not None:
                loaded.append(name)
        except ArtifactError as error:
            refused += 1
            if not str(error).isprintable() or len(str(error)) > 1000:
                wrong.append(f"{name}: {ascii(str(error))[:300]}")
        except BaseException as error:
            wrong.append(f"{name}: {error!r}"[:300])
        finally:
            watch.looking = False
        slowest = max(slowest, time.perf_counter() - began)
    found = {"files": len(files), "refused": refused, "loaded": loaded, "wrong": wrong, "seen": sorted(watch.seen)}
    found |= {"slowest": slowest, "reached": Path("reached").exists()}
    watch.looking = True
    (folder / "control").write_bytes(pickle.loads(pickle.dumps(b"control")))
    exec("pass")
    watch.looking = False
    print(json.dumps({**found, "controls": len(watch.seen) - len(found["seen"])}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
