"""Motif sequences and haystacks: positions of motifs, and no overlap between training and probes."""

import numpy as np

from distill.prior.memory.haystacks import KEY_FRAMES, MOTIF_FRAMES, VALUE_FRAMES, FrameSource, haystack, motif_sequence

SIZE, LEVELS = 16, 2


def source() -> FrameSource:
    rng = np.random.default_rng(0)
    recordings = [rng.integers(0, SIZE, (length, LEVELS)).astype(np.uint16) for length in (9, 30, 200)]
    for recording in recordings:
        recording[:, 0] = np.maximum(recording[:, 0], 3)  # codes below are never used in the first level
    return FrameSource(recordings, SIZE)


def positions_of(part: np.ndarray, frames: np.ndarray) -> list[int]:
    return [
        position
        for position in range(len(frames) - len(part) + 1)
        if np.array_equal(frames[position : position + len(part)], part)
    ]


def test_motifs_are_made_of_codes_that_are_used() -> None:
    motifs = source().motifs(np.random.default_rng(1), 200, 0)
    assert motifs.shape == (200, MOTIF_FRAMES, LEVELS)
    assert motifs[:, :, 0].min() >= 3
    assert set(motifs[:, 0, 0] % 2) == {0}
    assert set(motifs[:, 1, 0] % 2) == {0, 1}


def test_training_and_probes_share_no_motif() -> None:
    training, probes = (source().motifs(np.random.default_rng(1), 500, parity) for parity in (0, 1))
    assert not {motif.tobytes() for motif in training} & {motif.tobytes() for motif in probes}


def test_excerpts_are_real_frames_of_any_length() -> None:
    frame_source = source()
    excerpt = frame_source.excerpt(np.random.default_rng(2), 20)
    assert excerpt.shape == (20, LEVELS)
    assert len(frame_source.excerpt(np.random.default_rng(3), 1000)) == 1000
    long = [recording for recording in frame_source.recordings if len(recording) >= 20]
    whole = np.random.default_rng(2)
    if len(frame_source.recordings[int(whole.integers(3))]) >= 20:
        assert any(positions_of(excerpt, recording) for recording in long)


def test_every_motif_recurs_beyond_the_distance() -> None:
    sequence = motif_sequence(np.random.default_rng(4), source(), 6, 50)
    assert len(sequence.values) == 6
    for position in sequence.values:
        motif = sequence.frames[position - KEY_FRAMES : position + VALUE_FRAMES]
        first, second = positions_of(motif, sequence.frames)
        assert second == position - KEY_FRAMES
        assert second - (first + MOTIF_FRAMES) >= 50
    assert sequence.frames.min() >= 0
    assert sequence.frames.max() < SIZE


def test_motif_sequences_have_one_length() -> None:
    rng = np.random.default_rng(6)
    assert len({len(motif_sequence(rng, source(), 6, 50).frames) for _ in range(20)}) == 1


def test_a_haystack_holds_its_motifs_and_no_absent_ones() -> None:
    stack = haystack(np.random.default_rng(5), source(), 11, 40)
    positions = [positions_of(motif, stack.frames) for motif in stack.motifs]
    assert [len(found) for found in positions] == [1] * 11
    assert [found[0] for found in positions] == sorted(found[0] for found in positions)
    assert len(stack.frames) - (positions[-1][0] + MOTIF_FRAMES) >= 40
    assert not any(positions_of(motif[:KEY_FRAMES], stack.frames) for motif in stack.absent)
    assert len(stack.absent) == 11


def test_the_same_generator_gives_the_same() -> None:
    first, second = (motif_sequence(np.random.default_rng(4), source(), 3, 10) for _ in range(2))
    assert np.array_equal(first.frames, second.frames)
    assert first.values == second.values
