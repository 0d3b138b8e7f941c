"""What a recording said long before: its codes, by what came before each of them, in a state of constant size."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.models.association import TAPS, correct, feature_size, features, sum_of_taps

DEGREE = 2
RATE = -1.0  # in the beginning, as a logit: of what is lacking a quarter is learnt
STRENGTH = 3.0  # as a logarithm: what is remembered for sure weighs as much as the network


class RecollectionState(NamedTuple):
    """Codes by keys `[B, Q, features, V + marks]`, and the last frames `[B, taps - 1, D]`."""

    sums: Tensor
    tail: Tensor

    def constant(self) -> "RecollectionState":
        """The same, through which no gradient goes."""
        return RecollectionState(self.sums.detach(), self.tail)


class Recollection(nn.Module):
    """For each level a linear map from what is known of a code to the code, learnt while the recording goes on.

    Known are the frames before and the coarser codes of its frame; their features are polynomials of degree 2. The map is
    learnt by the delta rule (Widrow and Hoff 1960; Schlag et al. 2021, eq. 5), one step a frame, so that what often comes is not
    what is always said. What it says of a code is its probability, about, where the like of it has come before, else nothing.
    `Recall` weighs it against the network.
    """

    def __init__(self, levels: int, vocabulary: int, codebook_size: int, width: int, key_size: int) -> None:
        super().__init__()
        self.vocabulary, self.codebook_size, self.key_size = vocabulary, codebook_size, key_size
        self.taps = nn.Parameter(torch.tensor(TAPS)[:, None].repeat(1, width))
        self.of_context = nn.Parameter(torch.randn(levels, width, key_size) / width**0.5)
        self.of_coarser = nn.Parameter(torch.randn(levels, width, key_size) / width**0.5)
        self.share = nn.Parameter(torch.ones(levels))  # of coarser codes in a key
        self.rate = nn.Parameter(torch.full((levels,), RATE))
        self.strength = nn.Parameter(torch.full((levels,), STRENGTH))
        self.muted = False  # it says nothing

    def begin(self, batch_size: int) -> RecollectionState:
        """Nothing learnt yet."""
        new, size = self.taps.new_zeros, feature_size(self.key_size, DEGREE)
        sums = new(batch_size, len(self.rate), size, self.vocabulary)
        return RecollectionState(sums, new(batch_size, len(TAPS) - 1, self.taps.shape[1]))

    def run(
        self, x: Tensor, coarser: Tensor, codes: Tensor, state: RecollectionState, chunk_size: int
    ) -> tuple[Tensor, RecollectionState]:
        """What weight `codes` `[B, T, Q]` and all others have, before each is learnt, `[B, T, Q, V + marks]`; the state after.

        `x` `[B, T, D]` are the frames before them, `coarser` `[B, T, Q, D]` what their coarser codes are to the network. Marks
        are not learnt.
        """
        with torch.autocast(x.device.type, enabled=False):
            key, tail = self._addressed(x, coarser, state)
            codes = codes.transpose(1, 2)
            value = nn.functional.one_hot(codes.clamp_min(0), self.vocabulary).to(key.dtype)
            rate = self.rates()[..., None] * ((codes >= 0) & (codes < self.codebook_size))[..., None]
            read, sums = correct(key, key, value, rate, state.sums, chunk_size, DEGREE)
        return self.weights(read).transpose(1, 2), RecollectionState(sums, tail)

    def read(self, x: Tensor, coarser: Tensor, state: RecollectionState) -> Tensor:
        """What weight codes have that come after `x` `[B, 1, D]`, if their coarser codes were these, `[B, N, Q, D]`:
        `[B, N, Q, V + marks]`. Nothing is learnt."""
        with torch.autocast(x.device.type, enabled=False):
            key, _ = self._addressed(x, coarser, state)
            return self.weights(features(key, DEGREE) @ state.sums).transpose(1, 2)

    def _addressed(self, x: Tensor, coarser: Tensor, state: RecollectionState) -> tuple[Tensor, Tensor]:
        """Keys `[B, Q, T, d]`, and the last frames."""
        inputs = torch.cat([state.tail, x.to(self.taps.dtype)], dim=1)
        context = torch.einsum("btd,qdk->bqtk", sum_of_taps(inputs, self.taps), self.of_context)
        key = self.keys(context, torch.einsum("btqd,qdk->bqtk", coarser.to(self.taps.dtype), self.of_coarser))
        return key, inputs[:, x.shape[1] :]

    def keys(self, context: Tensor, coarser: Tensor) -> Tensor:
        """Keys `[B, Q, T, d]` of both parts."""
        unit = nn.functional.normalize
        return unit(unit(context, dim=3) + self.share[:, None, None] * unit(coarser, dim=3), dim=3)

    def rates(self) -> Tensor:
        """How far the map moves towards a code, `[Q, 1]`."""
        return self.rate.sigmoid()[:, None]

    def weights(self, read: Tensor) -> Tensor:
        """`[B, Q, ..., V + marks]` as the map has it to weights."""
        strength = self.strength.exp().view(-1, *[1] * (read.ndim - 2))
        return read.clamp(0, 1) * (0.0 if self.muted else strength)


class Recollected:
    """`Recollection` for drawing, frame after frame and level after level; its state changes in place."""

    def __init__(self, recollection: Recollection, state: RecollectionState) -> None:
        self._recollection, self._rates = recollection, recollection.rates()
        self._sums, self._tail = state.sums.clone(), state.tail

    @property
    def bytes(self) -> int:
        """How much memory the state takes."""
        return sum(part.numel() * part.element_size() for part in (self._sums, self._tail))

    def keep(self, rows: Tensor) -> None:
        """Go on with these sequences alone."""
        self._sums, self._tail = self._sums[rows], self._tail[rows]

    def begin(self, x: Tensor) -> None:
        """Go on to the frame after `x` `[B, D]`."""
        inputs = torch.cat([self._tail, x[:, None]], dim=1)
        self._tail = inputs[:, 1:]
        context = sum_of_taps(inputs, self._recollection.taps)[:, 0]
        self._context = torch.einsum("bd,qdk->bqk", context, self._recollection.of_context)

    def weights(self, coarser: Tensor, level: int) -> Tensor:
        """What weight codes of a level have, `[B, V + marks]`; `coarser` `[B, D]` as in `Recollection.run`."""
        recollection = self._recollection
        unit, part = nn.functional.normalize, coarser @ recollection.of_coarser[level]
        key = unit(unit(self._context[:, level], dim=1) + recollection.share[level] * unit(part, dim=1), dim=1)
        self._key = features(key, DEGREE)[:, None]
        self._read = torch.bmm(self._key, self._sums[:, level])
        weights: Tensor = self._read[:, 0].clamp(0, 1) * recollection.strength[level].exp()
        return weights * 0 if recollection.muted else weights

    def learn(self, level: int, codes: Tensor) -> None:
        """These are the codes `[B]` of this level."""
        change = -self._read[:, 0]
        change[torch.arange(len(codes)), codes] += 1
        change = change * (self._rates[level] * (codes < self._recollection.codebook_size)[:, None])
        self._sums[:, level].baddbmm_(self._key.mT, change[:, None])
