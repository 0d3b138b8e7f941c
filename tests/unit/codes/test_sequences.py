"""Sequences and windows against slow, obvious versions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.codes.patterns import flatten_codes, unflatten_codes
from distill.codes.sequences import (
    IGNORED,
    begin_token,
    covering_windows,
    end_token,
    pad_batch,
    random_windows,
    to_sequence,
)

frames = st.lists(st.integers(1, 60), min_size=1, max_size=6)
levels = st.integers(1, 5)


@given(st.integers(1, 3), st.integers(1, 9), levels)
def test_flattening_puts_frame_after_frame_and_back(batch: int, count: int, quantizers: int) -> None:
    codes = torch.arange(batch * count * quantizers).reshape(batch, count, quantizers)
    tokens = flatten_codes(codes)
    slow = [[int(codes[b, s, q]) for s in range(count) for q in range(quantizers)] for b in range(batch)]
    assert tokens.tolist() == slow
    assert torch.equal(unflatten_codes(tokens, quantizers), codes)


def test_part_of_a_frame_cannot_be_unflattened() -> None:
    with pytest.raises(ValueError, match="expected a multiple of 4 tokens, found 6"):
        unflatten_codes(torch.zeros(1, 6), 4)


def test_a_sequence_has_its_marks() -> None:
    sequence = to_sequence(np.array([[1, 2], [3, 4]]), codebook_size=8)
    assert sequence.tolist() == [begin_token(8), 1, 2, 3, 4, end_token(8)]


@given(frames, levels, st.integers(1, 20))
def test_covering_windows_predict_each_token_once(counts: list[int], quantizers: int, context: int) -> None:
    lengths, seq_len = [count * quantizers + 2 for count in counts], context * quantizers
    seen = [
        (window.sequence, target)
        for window in covering_windows(lengths, seq_len, quantizers)
        for target in range(window.start + 1, window.stop + 1)
    ]
    assert sorted(seen) == [(index, target) for index, length in enumerate(lengths) for target in range(1, length)]


@given(frames, levels, st.integers(1, 20), st.integers(0, 2**31))
def test_random_windows_stay_inside_start_at_frames_and_keep_their_number(
    counts: list[int], quantizers: int, context: int, seed: int
) -> None:
    lengths, seq_len = [count * quantizers + 2 for count in counts], context * quantizers
    windows = random_windows(lengths, seq_len, quantizers, np.random.default_rng(seed))
    assert len(windows) == len(random_windows(lengths, seq_len, quantizers, np.random.default_rng(0)))
    for window in windows:
        assert window.start % quantizers == 0
        assert 0 <= window.start < window.stop <= lengths[window.sequence] - 1
        assert window.stop - window.start <= seq_len
        if lengths[window.sequence] - 1 <= seq_len:
            assert (window.start, window.stop) == (0, lengths[window.sequence] - 1)


def test_random_windows_reach_both_ends_often() -> None:
    rng = np.random.default_rng(1)
    drawn = [window for _ in range(200) for window in random_windows([1002], 100, 4, rng)]
    assert sum(window.start == 0 for window in drawn) > 60
    assert sum(window.stop == 1001 for window in drawn) > 60


def test_padding_is_never_a_target() -> None:
    sequences = [to_sequence(np.array([[1, 2]]), 8), to_sequence(np.array([[3, 4], [5, 6]]), 8)]
    inputs, targets = pad_batch(sequences, covering_windows([4, 6], 100, 2))
    assert inputs.tolist() == [[8, 1, 2, 0, 0], [8, 3, 4, 5, 6]]
    assert targets.tolist() == [[1, 2, 9, IGNORED, IGNORED], [3, 4, 5, 6, 9]]
