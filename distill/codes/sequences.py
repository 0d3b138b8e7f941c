"""Recordings as token sequences with a begin and an end mark, and the windows of them that a prior sees."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.codes.patterns import flatten_codes

NUM_SPECIAL_TOKENS = 2
IGNORED = -100  # target of padding: the cross-entropy's ignore_index


def begin_token(codebook_size: int) -> int:
    """The mark before the first code."""
    return codebook_size


def end_token(codebook_size: int) -> int:
    """The mark after the last code; it stands where the first level of a further frame would."""
    return codebook_size + 1


def to_sequence(codes: NDArray[np.int64], codebook_size: int) -> Tensor:
    """Codes `[F, Q]` to tokens `[F * Q + 2]`: begin, the codes frame by frame, end."""
    flat = flatten_codes(torch.from_numpy(codes)[None])[0]
    return torch.cat([torch.tensor([begin_token(codebook_size)]), flat, torch.tensor([end_token(codebook_size)])])


@dataclass(frozen=True)
class Window:
    """Inputs `sequence[start : stop]`, each predicting its successor. `start` is at a frame."""

    sequence: int
    start: int
    stop: int


def covering_windows(lengths: list[int], seq_len: int, num_quantizers: int) -> list[Window]:
    """Windows in which every token of sequences of these lengths is predicted exactly once."""
    step = seq_len // num_quantizers * num_quantizers
    return [
        Window(index, start, min(start + step, length - 1))
        for index, length in enumerate(lengths)
        for start in range(0, length - 1, step)
    ]


def random_windows(
    lengths: list[int], seq_len: int, num_quantizers: int, generator: np.random.Generator
) -> list[Window]:
    """As many windows as cover each sequence, spread over it at random places; beginnings and endings keep their share.

    The number of windows depends on the lengths alone.
    """
    windows = []
    for index, length in enumerate(lengths):
        inputs = length - 1
        last = max(0, -(-(inputs - seq_len) // num_quantizers))  # the latest frame to start at
        count = -(-inputs // seq_len)
        for part in range(count):
            low, high = last * part // count, last * (part + 1) // count
            frame = int(generator.integers(low, high + 1))
            if generator.random() < 0.5:
                frame = 0 if part == 0 else last if part == count - 1 else frame
            start = frame * num_quantizers
            windows.append(Window(index, start, min(start + seq_len, inputs)))
    return windows


def pad_batch(sequences: list[Tensor], windows: list[Window]) -> tuple[Tensor, Tensor]:
    """Inputs and targets `[B, T]` of windows, T the longest; padding is token 0 and target IGNORED."""
    longest = max(window.stop - window.start for window in windows)
    inputs = torch.zeros(len(windows), longest, dtype=torch.int64)
    targets = torch.full((len(windows), longest), IGNORED)
    for row, window in enumerate(windows):
        size = window.stop - window.start
        inputs[row, :size] = sequences[window.sequence][window.start : window.stop]
        targets[row, :size] = sequences[window.sequence][window.start + 1 : window.stop + 1]
    return inputs, targets
