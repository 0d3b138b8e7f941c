"""Audio files that were damaged: each is used or rejected with a reason, in bounded time and memory."""

import random
import time
from pathlib import Path

import numpy as np
import pytest
from faults.mutants import FORMATS, RATE, mutants, sound_in

from distill.audio.decoder import LEAST_SECONDS, Decoder


@pytest.mark.parametrize("name", FORMATS)
def test_a_mutant_is_used_or_rejected_with_a_reason(tmp_path: Path, name: str, exhaustive: bool) -> None:
    count = 10_000 if exhaustive else 100
    path, draw = tmp_path / f"mutant.{name}", random.Random(name)
    used = 0
    with Decoder() as decoder:
        for data in mutants(sound_in(name, channels=2), count, draw):
            path.write_bytes(data)
            began = time.monotonic()
            decoded = decoder.decoded(path, RATE)
            assert time.monotonic() - began < 2 * LEAST_SECONDS
            if decoded.recording is None:
                assert decoded.reason, data.hex()
            else:
                used += 1
                assert np.abs(decoded.recording.pcm.astype(int)).max(initial=0) <= 1 << 15
            assert decoded.reason.isprintable(), decoded.reason
            assert len(decoded.reason) < 500, decoded.reason
    assert 0 < used < count
