"""Lines on takes."""

from pathlib import Path

import numpy as np
import pytest

from distill.generate.results import Similarity, Varied


@pytest.mark.parametrize(
    ("strength", "transposed", "expected"),
    [
        (0.0, False, "beside the recording copy: 100% of codes equal, 0.0 dB"),
        (0.0, True, "beside the transposed recording 100% of codes equal, 0.0 dB"),
        (0.3, True, "beside the transposed recording copy: 100% of codes equal, 0.0 dB"),
    ],
)
def test_the_transposed_recording_itself_is_not_called_a_copy(strength: float, transposed: bool, expected: str) -> None:
    made = Varied(
        sounds=[],
        seconds=[1.0],
        codes=[np.zeros((4, 6), np.int64)],
        novelty=[None],
        sample_rate=16_000,
        seed=0,
        notes=[None],
        pitches=[None],
        similarity=[Similarity(1.0, 0.0, "copy")],
        strength=strength,
        transposed=transposed,
    )
    assert made.lines([Path("a.wav")])[0] == f"a.wav  1.00 s  {expected}"
