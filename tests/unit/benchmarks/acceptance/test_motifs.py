from pathlib import Path

import numpy as np

from benchmarks.acceptance.motifs import MIN_DISTANCE, MOTIFS, STEP_SECONDS, STEPS, motif_recording, write_motifs
from distill.demo.instruments import DEMO_SAMPLE_RATE


def test_a_motif_has_the_same_samples_when_it_recurs_and_not_too_soon() -> None:
    length = round(STEPS * STEP_SECONDS * DEMO_SAMPLE_RATE)
    parts = motif_recording(np.random.default_rng(0), 2).reshape(2 * MOTIFS, length)
    assert 0 < np.abs(parts).max() <= 1
    late = parts[:, round(0.5 * DEMO_SAMPLE_RATE) :]  # the decay of the motif before is over
    alike = np.abs(late[:, None] - late[None]).max(axis=2) < 1e-6
    assert alike.sum(axis=1).tolist() == [2] * (2 * MOTIFS)
    first, second = np.nonzero(np.triu(alike, 1))
    assert (second - first).min() > MIN_DISTANCE


def test_the_files_are_a_function_of_the_seed(tmp_path: Path) -> None:
    one, again, other = (write_motifs(tmp_path / name, seed, 2) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in again]
    assert len({path.read_bytes() for path in (*one, *other)}) == 4
