"""Lines on sounds and takes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from distill.generate.refusals import Draws, Sound
from distill.generate.results import Generated, Similarity, Take, Varied
from distill.generate.sounds import NO_SAMPLES

CODES = np.zeros((4, 6), np.int64)


@pytest.mark.parametrize(
    ("strength", "transposed", "expected"),
    [
        (0.0, False, "beside the recording copy: 100% of codes equal, 0.0 dB"),
        (0.0, True, "beside the transposed recording 100% of codes equal, 0.0 dB"),
        (0.3, True, "beside the transposed recording copy: 100% of codes equal, 0.0 dB"),
    ],
)
def test_the_transposed_recording_itself_is_not_called_a_copy(strength: float, transposed: bool, expected: str) -> None:
    take = Take(CODES, None, None, NO_SAMPLES, 1.0, similarity=Similarity(1.0, 0.0, "copy"))
    made = Varied(draws=Draws({0: take}), sample_rate=16_000, seed=0, strength=strength, transposed=transposed)
    assert made.lines([Path("a.wav")])[0] == f"a.wav  1.00 s  {expected}"


def test_what_was_heard_is_said_in_words() -> None:
    pitches = (60.0625, 59.5, 48.0, None)
    drawn = {number: Sound(CODES, None, None, NO_SAMPLES, 1.0, 60.0, pitch) for number, pitch in enumerate(pitches)}
    made = Generated(draws=Draws(drawn, Counter(mistuned=7)), sample_rate=8000, seed=1)
    *sounds, summary, _, _ = made.lines([Path(f"{number}.wav") for number in range(4)])
    heard = ["C4: +6 cents", "C4: -50 cents", "C4: heard at C3", "C4: no clear pitch"]
    assert sounds == [f"{number}.wav  1.00 s  {said}" for number, said in enumerate(heard)]
    assert summary == "1 of 4 sounds at their note within 20 cents; 7 others drawn again"
    assert (made.off_note, made.redrawn_off_note) == (3, 7)
