"""Sequences, windows and patterns against slow, obvious versions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.codes.sequences import (
    IGNORED,
    CodeSequences,
    Window,
    bos_token,
    covering_windows,
    eos_token,
    flatten_codes,
    pad_batch,
    random_windows,
    unflatten_codes,
)

frames = st.lists(st.integers(1, 60), min_size=1, max_size=6)
levels = st.integers(1, 5)
SIZE = 8


def sequences(lengths: list[int], quantizers: int = 2) -> tuple[CodeSequences, list[np.ndarray]]:
    generator = np.random.default_rng(len(lengths))
    recordings = [generator.integers(0, SIZE, (length, quantizers)) for length in lengths]
    return CodeSequences(recordings, (SIZE,) * quantizers), recordings


def to_guess(found: CodeSequences) -> int:
    """Codes and EOS."""
    return int(found.lengths.sum() - 2 * len(found.lengths)) * found.num_quantizers + len(found.lengths)


@given(st.integers(1, 3), st.integers(1, 9), levels)
def test_flattening_puts_frame_after_frame_and_back(batch: int, count: int, quantizers: int) -> None:
    codes = torch.arange(batch * count * quantizers).reshape(batch, count, quantizers)
    tokens = flatten_codes(codes)
    slow = [[int(codes[b, s, q]) for s in range(count) for q in range(quantizers)] for b in range(batch)]
    assert tokens.tolist() == slow
    assert torch.equal(unflatten_codes(tokens, quantizers), codes)
    with pytest.raises(ValueError, match=f"expected a multiple of {quantizers + 1} tokens, found {quantizers}"):
        unflatten_codes(tokens[:, :quantizers], quantizers + 1)


@given(frames, st.integers(1, 12))
def test_covering_windows_predict_every_frame_once(lengths: list[int], context: int) -> None:
    found, _ = sequences(lengths)
    targets = [
        (window.sequence, position + 1)
        for window in covering_windows(found.lengths.tolist(), context)
        for position in range(window.start, window.stop)
    ]
    assert sorted(targets) == [(i, position) for i, length in enumerate(found.lengths) for position in range(1, length)]
    assert all(len(window) <= context for window in covering_windows(found.lengths.tolist(), context))


@given(frames, st.integers(1, 12), st.integers(0, 50))
def test_random_windows_lie_within_one_sequence(lengths: list[int], context: int, seed: int) -> None:
    found, _ = sequences(lengths)
    counts = [-(-(length - 1) // context) for length in found.lengths.tolist()]
    windows = random_windows(found.lengths.tolist(), counts, context, np.random.default_rng(seed))
    assert len(windows) == sum(counts) == len(covering_windows(found.lengths.tolist(), context))
    for window in windows:
        assert 0 <= window.start < window.stop < found.lengths[window.sequence]
        assert len(window) == min(context, found.lengths[window.sequence] - 1)


def test_beginnings_and_endings_keep_their_share() -> None:
    generator = np.random.default_rng(0)
    starts = [random_windows([102], [1], 11, generator)[0].start for _ in range(400)]
    assert 120 < starts.count(0) < 280


@given(frames, st.integers(1, 12), levels)
def test_a_batch_is_what_a_slow_loop_makes(lengths: list[int], context: int, quantizers: int) -> None:
    found, recordings = sequences(lengths, quantizers)
    windows = covering_windows(found.lengths.tolist(), context)
    batch = pad_batch(found, windows)
    for row, window in enumerate(windows):
        codes = recordings[window.sequence]
        for column in range(batch.inputs.shape[1]):
            position = window.start + column  # frame index, counted from BOS
            inside = position < window.stop
            for level in range(quantizers):
                before = bos_token(SIZE) if position == 0 else int(codes[position - 1, level]) if inside else 0
                assert int(batch.inputs[row, column, level]) == (before if inside else 0)
                after = IGNORED
                if inside and position < len(codes):
                    after = int(codes[position, level])
                elif inside and level == 0:
                    after = eos_token(SIZE)
                assert int(batch.targets[row, column, level]) == after
    assert batch.positions.tolist() == [window.start for window in windows]
    assert int((batch.targets != IGNORED).sum()) == to_guess(found)


def test_padding_beyond_the_longest_window_asks_for_nothing() -> None:
    _, recordings = sequences([5, 9])
    found = CodeSequences(recordings, (SIZE, SIZE), labels=[2, 3])
    windows = [Window(0, 0, 4), Window(1, 3, 9)]
    batch, padded = pad_batch(found, windows), pad_batch(found, windows, 5, 8)
    assert padded.inputs.shape == padded.targets.shape == (5, 8, 2)
    assert torch.equal(padded.inputs[:2, :6], batch.inputs)
    assert torch.equal(padded.targets[:2, :6], batch.targets)
    assert int((padded.targets != IGNORED).sum()) == int((batch.targets != IGNORED).sum())
    assert padded.positions.tolist() == [0, 3, 0, 0, 0]
    assert padded.labels is not None
    assert padded.labels.tolist() == [2, 3, 0, 0, 0]


@given(st.integers(1, 9), st.integers(1, 4))
def test_shares_of_a_batch_are_the_batch(count: int, of: int) -> None:
    found, _ = sequences([5] * count)
    windows = [Window(i, 0, 3 + i % 4) for i in range(count)]
    batch = pad_batch(found, windows)
    parts = [pad_batch(found, windows, *batch.inputs.shape[:2], slice(number, None, of)) for number in range(of)]
    for number, part in enumerate(parts):
        if number < count:
            assert torch.equal(part.inputs, batch.inputs[number::of])
            assert torch.equal(part.targets, batch.targets[number::of])
        else:
            assert part.inputs.shape == (1, *batch.inputs.shape[1:])
            assert (part.targets == IGNORED).all()
    assert found.count_targets(windows) == int((batch.targets != IGNORED).sum())
