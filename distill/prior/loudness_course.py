"""How loudness goes on in the training recordings, as an expert of a prior: whether sounds start again, and how they end.

Loudness is the first level of codecs whose codewords are in shared coordinates. After each frame a recording is in a
state: how long it has gone on, and how far it is below its loudest frame. Changes from each state are counted by class.
Pretrained weights expect the changes of all sounds that they were trained on; the logits of a class are raised by how
much more often the recordings have it than those (Kneser et al. 1997, fast marginal adaptation).
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codec.loudness import loudness_step
from distill.codes.sequences import NUM_SPECIAL_TOKENS
from distill.codes.store import Codes

FALLS_DB = (7.0, 19.0, 39.0)  # between classes of how far a frame is below the loudest
CHANGES_DB = (-7.0, -1.0, 1.0, 7.0, 19.0)  # between classes of how the next frame differs
TIMES = 8  # powers of two, in frames
STATES, CHANGES = TIMES * (len(FALLS_DB) + 1), len(CHANGES_DB) + 2  # the last change is the end
TRUST = 3.0  # recordings must be in a state as often as this to count as much as what pretrained weights expect
RARE = 0.1  # collections in which a change is thought to have been seen once more than it was
INITIAL_WEIGHT = 1.0

Probabilities = NDArray[np.float64]


def states(loudness: Tensor, heard: Tensor, codebook_size: int) -> Tensor:
    """State `[B, T]` after each frame of loudness codes `[B, T]`, the first of which is frame `heard` `[B]`.

    Frames count from 1. The loudest frame is that of those that are given; tokens that are no codes are silent.
    """
    decibels = 20 * loudness_step(codebook_size) * loudness.where(loudness < codebook_size, 0).float()
    below = decibels.cummax(dim=1).values - decibels
    falls = torch.bucketize(below, torch.tensor(FALLS_DB, device=loudness.device))
    frames = heard[:, None] + torch.arange(loudness.shape[1], device=loudness.device)
    times = frames.clamp_min(1).float().log2().floor().long().clamp_max(TIMES - 1)
    return times * (len(FALLS_DB) + 1) + falls


def changes(codebook_size: int) -> Tensor:
    """Class `[V + 2, V + 2]` of the change from a token of the first level to another; CHANGES after special ones."""
    decibels = 20 * loudness_step(codebook_size) * torch.arange(codebook_size).float()
    classes = torch.full((codebook_size + NUM_SPECIAL_TOKENS,) * 2, CHANGES - 1)
    rises = decibels[None] - decibels[:, None]
    classes[:codebook_size, :codebook_size] = torch.bucketize(rises, torch.tensor(CHANGES_DB))
    classes[codebook_size:] = CHANGES
    return classes


def count_changes(recordings: Sequence[Codes], codebook_size: int) -> Probabilities:
    """How often recordings `[F, Q]` change in each way from each state, `[STATES, CHANGES]`.

    A recording counts in a state with the root of its frames there: frames of a recording are much alike.
    """
    classes, total = changes(codebook_size).numpy(), np.zeros((STATES, CHANGES))
    for codes in recordings:
        loudness = torch.from_numpy(codes[:, 0].astype(np.int64))
        before = states(loudness[None], torch.ones(1, dtype=torch.int64), codebook_size)[0].numpy()
        ways = np.append(classes[loudness[:-1], loudness[1:]], CHANGES - 1)
        counted = np.bincount(before * CHANGES + ways, minlength=total.size).reshape(total.shape)
        total += counted / np.sqrt(np.maximum(1, counted.sum(axis=1, keepdims=True)))
    return total


def expected_changes(collections: Sequence[Probabilities]) -> Tensor:
    """Share `[STATES, CHANGES]` of each change after each state in collections that were counted, all equally.

    What is rare at a time is taken from all times.
    """
    total = np.sum([counts / max(1.0, counts.sum()) for counts in collections], axis=0)
    at_any_time = total.reshape(TIMES, -1, CHANGES).sum(axis=0) + RARE
    usual = at_any_time / at_any_time.sum(axis=1, keepdims=True)
    smoothed = total + np.tile(usual, (TIMES, 1))
    return torch.from_numpy(smoothed / smoothed.sum(axis=1, keepdims=True)).float()


def log_ratios(counts: Probabilities, expected: Tensor) -> Tensor:
    """Logarithm `[STATES, CHANGES]` of how much more often a change was counted than was expected."""
    usual = expected.double().numpy()
    found = (counts + TRUST * usual) / (counts.sum(axis=1, keepdims=True) + TRUST)
    return torch.from_numpy(np.log(found / usual)).float()


class LoudnessCourse(nn.Module):
    """Adds weighted logarithms of how much more often the recordings have a change of loudness than others.

    In training a recording must not be predicted from counts of itself: `set_folds` gives tables without it.
    """

    ratios: Tensor
    changes: Tensor

    def __init__(self, codebook_size: int) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.weight = nn.Parameter(torch.tensor([INITIAL_WEIGHT]))
        self.register_buffer("ratios", torch.zeros(STATES, CHANGES))
        self.register_buffer("changes", changes(codebook_size), persistent=False)
        self._folds: Tensor | None = None

    def set_tables(self, whole: Tensor, folds: Sequence[Tensor]) -> None:
        """Set the ratios `[STATES, CHANGES]` of all recordings, and those that rows with a fold, from 1 on, are given."""
        self.ratios = whole.to(self.ratios)
        self._folds = torch.stack([whole, *folds]) if folds else None

    def forward(self, logits: Tensor, inputs: Tensor, positions: Tensor, folds: Tensor | None = None) -> Tensor:
        """Add to the first level of `logits` `[B, T, Q, V + 2]`, which follow `inputs` `[B, T, Q]` at `positions` `[B]`.

        `folds` `[B]` count from 1; 0, and None for all, is the table of all recordings.
        """
        loudness = inputs[:, :, 0]
        tables = self.ratios[None]
        if folds is not None and self._folds is not None:
            self._folds = self._folds.to(loudness.device)
            tables = self._folds[folds]
        after = states(loudness, positions, self.codebook_size)
        rows = tables.expand(len(after), -1, -1).gather(1, after[..., None].expand(-1, -1, CHANGES))
        return torch.cat([logits[:, :, :1] + self._added(rows, loudness)[:, :, None], logits[:, :, 1:]], dim=2)

    def added_last(self, inputs: Tensor, positions: Tensor) -> Tensor:
        """What is added to the logits `[B, V + 2]` after the last of `inputs` `[B, T, Q]`, by the table of all."""
        loudness = inputs[:, :, 0]
        after = states(loudness, positions, self.codebook_size)[:, -1]
        return self._added(self.ratios[after], loudness[:, -1])

    def _added(self, rows: Tensor, loudness: Tensor) -> Tensor:
        """What is added to logits `[..., V + 2]` after loudness `[...]`, from the rows `[..., CHANGES]` of its states."""
        padded = nn.functional.pad(rows, (0, 1))  # nothing after special tokens
        return self.weight * padded.gather(-1, self.changes[loudness])
