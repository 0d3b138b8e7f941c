"""Files of codes that were damaged: each is refused with a sentence, or its codes are of the range it tells."""

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
from faults.hostile import WRONG, fields, joined, parts, put

from distill.codes.file import FORMAT, CodesGeometry, read_codes, write_codes
from distill.errors import ArtifactError

GEOMETRY = CodesGeometry(codec_sha256="0" * 64, sample_rate=16_000, frame_rate=50, codebook_size=64, num_quantizers=3)


def mutant(data: bytes, draw: random.Random) -> bytes:
    """A random change of bytes, of the file's length, or of a value in its header or its metadata."""
    kind = draw.randrange(5)
    if kind == 0:
        changed = bytearray(data)
        for _ in range(draw.choice((1, 1, 2, 8, 64))):
            changed[draw.randrange(len(data))] = draw.randrange(256)
        return bytes(changed)
    if kind == 1:
        at = draw.randrange(len(data))
        return data[:at] + draw.choice((b"", data[at : at + 100] * 2, draw.randbytes(100)))
    header, payload = parts(data)
    metadata: dict[str, Any] = json.loads(header["__metadata__"][FORMAT])
    values = header if kind == 2 else metadata
    paths = list(fields(values))
    number = draw.choice((draw.randrange(-2, 70), 2 ** draw.randrange(70), draw.random() * 1e9))
    put(values, draw.choice(paths), draw.choice((number, *WRONG)))
    if kind > 2:
        header["__metadata__"] = {FORMAT: json.dumps(metadata)}
    return joined(header, payload)


def test_a_mutant_is_refused_or_its_codes_are_in_range(tmp_path: Path, exhaustive: bool) -> None:
    rng, draw, path = np.random.default_rng(0), random.Random(0), tmp_path / "codes.safetensors"
    recordings = [
        (f"{number}.wav", 320 * frames, rng.integers(0, 64, (frames, 3))) for number, frames in ((0, 9), (1, 20))
    ]
    write_codes(path, GEOMETRY, recordings)
    data, refused, count = path.read_bytes(), 0, 10_000 if exhaustive else 1_000
    for _ in range(count):
        path.write_bytes(mutant(data, draw))
        began = time.monotonic()
        try:
            header, codes = read_codes(path)
        except ArtifactError as error:
            refused += 1
            text = str(error)
        else:
            text = ""
            assert all(0 <= one.min() <= one.max() < header.codebook_size for one in codes)
            assert all(one.shape[1] == header.num_quantizers for one in codes)
        assert text.isprintable(), ascii(text)
        assert len(text) < 1000
        assert time.monotonic() - began < 2
    assert count / 2 < refused < count
