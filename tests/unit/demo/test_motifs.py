"""Recordings of motifs: every motif recurs, and not too soon."""

from pathlib import Path

import numpy as np
import soundfile

from distill.demo import motifs
from distill.demo.instruments import DEMO_SAMPLE_RATE
from distill.demo.motifs import MIN_DISTANCE, MOTIFS, STEP_SECONDS, STEPS, motif_recording, write_motifs


def test_every_motif_occurs_once_a_round_and_recurs_after_the_minimum_distance() -> None:
    for seed in range(20):
        order = list(motifs._order(np.random.default_rng(seed), 5))
        assert [sorted(order[position : position + MOTIFS]) for position in range(0, len(order), MOTIFS)] == [
            list(range(MOTIFS))
        ] * 5
        for position, number in enumerate(order):
            assert number not in order[max(0, position - MIN_DISTANCE) : position]


def test_a_motif_has_the_same_samples_when_it_recurs() -> None:
    rounds, length = 2, round(STEPS * STEP_SECONDS * DEMO_SAMPLE_RATE)
    sound = motif_recording(np.random.default_rng(0), rounds)
    assert len(sound) == rounds * MOTIFS * length
    assert 0 < np.abs(sound).max() <= 1
    rng = np.random.default_rng(0)
    voices = motifs._voices(rng)
    for _ in range(MOTIFS):
        motifs._motif(rng, voices)
    order = list(motifs._order(rng, rounds))
    late = slice(round(0.5 * DEMO_SAMPLE_RATE), length)  # the decay of the motif before is over
    for number in range(MOTIFS):
        first, second = (position for position, one in enumerate(order) if one == number)
        parts = [sound[position * length :][late] for position in (first, second)]
        np.testing.assert_allclose(*parts, atol=1e-6)


def test_the_files_are_a_function_of_the_seed(tmp_path: Path) -> None:
    paths = write_motifs(tmp_path / "one", 3, 2)
    again, other = write_motifs(tmp_path / "two", 3, 2), write_motifs(tmp_path / "three", 4, 2)
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    assert paths[0].read_bytes() != other[0].read_bytes()
    assert paths[0].read_bytes() != paths[1].read_bytes()
    assert soundfile.info(paths[0]).samplerate == DEMO_SAMPLE_RATE
