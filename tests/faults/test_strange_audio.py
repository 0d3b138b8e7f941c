"""Uncommon audio files are used with the right samples; wrong ones are used or rejected with a reason."""

import random
import time
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from faults.strange_audio import valid_files, wrong_others, wrong_wav
from faults.strange_flac import valid_flac, wrong_flac
from faults.strange_sounds import Strange

from distill.audio.decoder import LEAST_SECONDS, Decoder


def sample(found: Iterable[Strange], exhaustive: bool, share: int) -> list[Strange]:
    """All files, or one of `share`."""
    files = list(found)
    return files if exhaustive else random.Random(0).sample(files, len(files) // share)


def rate_of(strange: Strange) -> int:
    """A rate that a corpus can have, the file's own where it can."""
    return min(max(strange.rate, 4_000), 192_000)


def test_valid_files_are_used_with_the_right_samples(tmp_path: Path, exhaustive: bool) -> None:
    unread = set()
    with Decoder() as decoder:
        for strange in sample(chain(valid_flac(exhaustive), valid_files(exhaustive)), exhaustive, 3):
            path, rate = tmp_path / strange.name, rate_of(strange)
            path.write_bytes(strange.data)
            decoded = decoder.decoded(path, rate)
            path.unlink()
            if strange.uncertain and decoded.recording is None:
                unread.add(strange.name)
                continue
            assert decoded.recording is not None, (strange.name, decoded.reason)
            assert "incomplete" not in decoded.reason, (strange.name, decoded.reason)
            assert "stopped" not in decoded.reason, (strange.name, decoded.reason)
            assert strange.samples is not None
            wanted, found = strange.samples.mean(axis=1), decoded.recording.pcm / 32768
            if rate != strange.rate:
                assert abs(len(found) / rate - len(wanted) / strange.rate) < 0.01, strange.name
                continue
            assert len(found) == len(wanted), strange.name
            assert np.abs(found - wanted).max() <= strange.tolerance, strange.name
    assert unread <= {f"{bits} bits.flac" for bits in range(4, 33) if bits not in (8, 16, 24)}  # libsndfile 1.2.2


@pytest.mark.parametrize("files", [wrong_flac, wrong_wav, wrong_others])
def test_wrong_files_are_used_or_rejected_with_a_reason(tmp_path: Path, files: object, exhaustive: bool) -> None:
    assert callable(files)
    used = 0
    with Decoder() as decoder:
        chosen = sample(files(exhaustive), exhaustive, 30 if files is wrong_others else 5)
        for strange in chosen:
            path = tmp_path / strange.name
            path.write_bytes(strange.data)
            began = time.monotonic()
            decoded = decoder.decoded(path, rate_of(strange))
            decoder.bandwidth(path)
            assert time.monotonic() - began < 2 * LEAST_SECONDS, strange.name
            path.unlink()
            assert decoded.reason.isprintable(), strange.name
            assert len(decoded.reason) < 500, strange.name
            if decoded.recording is None:
                assert decoded.reason, strange.name
            else:
                used += 1
                assert np.abs(decoded.recording.pcm.astype(int)).max() <= 1 << 15, strange.name
    assert 0 < used < len(chosen)
