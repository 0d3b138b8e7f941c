"""Uncommon files of sound, as encoders seldom write them: see `faults.fuzz` for damaged and wrong ones."""

import re
from pathlib import Path

import numpy as np

from distill.audio.decode import Decoder
from faults.strange_audio import RATE, valid


def test_uncommon_files_are_used_with_the_right_samples(tmp_path: Path) -> None:
    with Decoder() as decoder:
        for strange in valid():
            path = tmp_path / strange.name
            path.write_bytes(strange.data)
            decoded = decoder.decoded(path, RATE)
            assert len(decoded.pcm), (strange.name, decoded.reason)
            assert not re.search("incomplete|stopped", decoded.reason), (strange.name, decoded.reason)
            assert strange.samples is not None
            expected = strange.samples.mean(axis=1)
            assert len(decoded.samples) == len(expected), strange.name
            assert np.abs(decoded.samples - expected).max() <= strange.tolerance, strange.name
