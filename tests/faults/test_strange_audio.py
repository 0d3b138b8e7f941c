"""Uncommon audio files are used with the right samples; wrong ones are used or rejected with a reason."""

import time
from pathlib import Path

import numpy as np
from faults.strange_audio import RATE, valid, wrong

from distill.audio.decoder import LEAST_SECONDS, Decoder


def test_valid_files_are_used_with_the_right_samples(tmp_path: Path) -> None:
    with Decoder() as decoder:
        for strange in valid():
            path = tmp_path / strange.name
            path.write_bytes(strange.data)
            decoded = decoder.decoded(path, RATE)
            assert decoded.recording is not None, (strange.name, decoded.reason)
            assert "incomplete" not in decoded.reason, (strange.name, decoded.reason)
            assert "stopped" not in decoded.reason, (strange.name, decoded.reason)
            assert strange.samples is not None
            wanted, found = strange.samples.mean(axis=1), decoded.recording.pcm / 32768
            assert len(found) == len(wanted), strange.name
            assert np.abs(found - wanted).max() <= strange.tolerance, strange.name


def test_wrong_files_are_used_or_rejected_with_a_reason(tmp_path: Path) -> None:
    used, files = 0, list(wrong())
    with Decoder() as decoder:
        for strange in files:
            path = tmp_path / strange.name
            path.write_bytes(strange.data)
            began = time.monotonic()
            decoded = decoder.decoded(path, RATE)
            decoder.bandwidth(path)
            assert time.monotonic() - began < 2 * LEAST_SECONDS, strange.name
            assert decoded.reason.isprintable(), strange.name
            assert len(decoded.reason) < 500, strange.name
            if decoded.recording is None:
                assert decoded.reason, strange.name
            else:
                used += 1
                assert np.abs(decoded.recording.pcm.astype(int)).max() <= 1 << 15, strange.name
    assert 0 < used < len(files)
