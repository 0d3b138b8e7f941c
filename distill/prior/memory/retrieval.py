"""Retrieval of frames that followed similar contexts long before, by locality-sensitive hashing."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.prior.codeword_embedding import look_up
from distill.prior.memory.associative import TAPS, sum_of_taps

TABLES, BITS, SLOTS = 8, 12, 4  # hashes of a key, bits of each, newest frames found for each hash
CAPACITY = 32768  # newest frames that can be retrieved
SHARPNESS, AGREEMENT, BASE_SCORE, EXACT_SCORE = 10.0, 1.0, 2.0, 3.0  # initial scores
MAX_SCORE = 60.0  # upper bound of scores, far from overflow
EXACT_SCALE = 0.02  # cosine distance within which a match counts as exact and scores more
SCORE_PARAMETERS = ("level_scale", "sharpness", "agreement", "base_score", "exact_score")
LEVEL_DECAY = 0.7  # initial scale of a level in keys, relative to the next coarser one


class RetrievalState(NamedTuple):
    """Keys `[B, N, d]` of the contexts of the last N frames, and these `frames` `[B, N, Q]`; N is `CAPACITY` at most.

    `key` `[B, d]` is that of the next frame's context; `tail` `[B, taps - 1, D]` are the last embedded inputs.
    """

    keys: Tensor
    frames: Tensor
    key: Tensor
    tail: Tensor

    def constant(self) -> "RetrievalState":
        """The state, detached."""
        return RetrievalState(*(part.detach() for part in self))

    def recent(self) -> "RetrievalState":
        """The state without frames beyond `CAPACITY`."""
        return self._replace(keys=self.keys[:, -CAPACITY:], frames=self.frames[:, -CAPACITY:])


class Found(NamedTuple):
    """C frames found for each of T queries: their codes `[B, T, C, Q]`.

    `similarity` `[B, T, C]` is the cosine of both contexts' keys; `valid` `[B, T, C]` is False for empty slots.
    """

    frames: Tensor
    similarity: Tensor
    valid: Tensor


class Retrieval(nn.Module):
    """Weights of codes of frames that followed similar contexts, further back than `PointerMixture` reaches.

    The key of a frame is a unit vector computed from the frames before it. Keys match by locality-sensitive hashing:
    equal signs in one of several sets of random projections (Charikar 2002; as in Reformer, Kitaev et al. 2020, section
    2). Only the newest few matches are compared, so that a frame takes as long after hours as after seconds. The weight
    of a frame depends on the similarity of keys and, for each level, on agreement with the coarser codes. A frame found
    by several hashes counts for each. The projection to keys is learnt through these similarities.
    """

    planes: Tensor
    bits: Tensor
    coarser: Tensor

    def __init__(self, levels: int, vocabulary: int, codebook_size: int, width: int, key_size: int, reach: int) -> None:
        """Frames of age `reach` or more are retrieved; `vocabulary` is V + 2."""
        super().__init__()
        self.vocabulary, self.codebook_size, self.reach = vocabulary, codebook_size, reach
        self.level_scale = nn.Parameter(LEVEL_DECAY ** torch.arange(levels))
        self.taps = nn.Parameter(torch.tensor(TAPS)[:, None].repeat(1, width))
        self.to_key = nn.Parameter(torch.randn(width, key_size) / width**0.5)
        self.sharpness = nn.Parameter(torch.full((levels,), SHARPNESS))
        self.agreement = nn.Parameter(torch.full((levels, levels), AGREEMENT))
        self.base_score = nn.Parameter(torch.full((levels,), BASE_SCORE))
        self.exact_score = nn.Parameter(torch.full((levels,), EXACT_SCORE))
        self.ablated = False  # all weights are zero
        planes = torch.randn(key_size, TABLES * BITS, generator=torch.Generator().manual_seed(0))
        self.register_buffer("planes", planes, persistent=False)
        bits = torch.block_diag(*[2.0 ** torch.arange(BITS)[:, None]] * TABLES)  # from signs to the hash of each table
        self.register_buffer("bits", bits, persistent=False)
        self.register_buffer("coarser", torch.ones(levels, levels).tril(-1), persistent=False)

    def initial_state(self, batch_size: int) -> RetrievalState:
        """State before the first frame."""
        new, (width, key_size) = self.to_key.new_zeros, self.to_key.shape
        frames = torch.zeros(batch_size, 0, len(self.base_score), dtype=torch.int64, device=self.to_key.device)
        key, tail = new(batch_size, key_size), new(batch_size, len(TAPS) - 1, width)
        return RetrievalState(new(batch_size, 0, key_size), frames, key, tail)

    def table(self, vectors: Tensor) -> Tensor:
        """Vectors of codes for keys: input embeddings `[Q, V + 2, D]` less their mean, scaled for each level."""
        return (vectors - vectors[:, : self.codebook_size].mean(dim=1, keepdim=True)) * self.level_scale[:, None, None]

    def run(
        self, table: Tensor, inputs: Tensor, targets: Tensor, state: RetrievalState
    ) -> tuple[Tensor, RetrievalState]:
        """Weights `[B, T, Q, V + 2]` of codes in the frames after `inputs` `[B, T, Q]`, and the state after the inputs.

        A level depends on the coarser codes of its frame in `targets` `[B, T, Q]`. `table` is that of the method.
        """
        with torch.autocast(inputs.device.type, enabled=False):
            queries, after = self._append(table, inputs, state)
            if after.frames.shape[1] > self.reach:
                weights = self.weights(self._find(queries, after), targets)
            else:  # nothing to find; distributed training still needs a gradient of every parameter
                nothing = sum(0.0 * parameter.sum() for parameter in self.parameters())
                weights = nothing + queries.new_zeros(*targets.shape, self.vocabulary)
        return weights, after.recent()

    def update(self, table: Tensor, inputs: Tensor, state: RetrievalState) -> RetrievalState:
        """State after `inputs` `[B, T, Q]`, as `run` returns it."""
        with torch.autocast(inputs.device.type, enabled=False):
            return self._append(table, inputs, state)[1].recent()

    def candidate_weights(self, table: Tensor, last: Tensor, candidates: Tensor, state: RetrievalState) -> Tensor:
        """Weights `[B, N, Q, V + 2]` in `candidates` `[B, N, Q]`, each as the frame after `last` `[B, 1, Q]`."""
        with torch.autocast(last.device.type, enabled=False):
            found = self._find(*self._append(table, last, state))
            return self.weights(
                Found(*(part.expand(-1, candidates.shape[1], *part.shape[2:]) for part in found)), candidates
            )

    def weights(self, found: Found, targets: Tensor) -> Tensor:
        """Weights `[B, T, Q, V + 2]` of codes in `targets` `[B, T, Q]`, given the coarser codes of each."""
        agrees = (found.frames == targets[:, :, None]).to(found.similarity.dtype)  # [B, T, C, Q]
        scores = agrees @ self.coarser_agreement().T + self.similarity_scores(found.similarity[..., None])
        weights = self.exponentiate(scores, found.valid[..., None] & (found.frames < self.codebook_size))
        codes = weights.new_zeros(*targets.shape, self.vocabulary)
        if self.ablated:
            return codes
        return codes.scatter_add(3, found.frames.transpose(2, 3), weights.transpose(2, 3))

    @staticmethod
    def exponentiate(scores: Tensor, valid: Tensor) -> Tensor:
        """Weights of scores: their exponential, 0 where not `valid`."""
        return scores.clamp_max(MAX_SCORE).masked_fill(~valid, -torch.inf).exp()

    def similarity_scores(self, similarity: Tensor) -> Tensor:
        """Scores `[..., Q]` of similarities `[..., 1]` for each level."""
        distance = 1 - similarity
        return self.base_score - self.sharpness * distance + self.exact_score * (-distance / EXACT_SCALE).exp()

    def coarser_agreement(self) -> Tensor:
        """Scores `[Q, Q]` of an equal coarser code for each level; 0 for codes that are not coarser."""
        return self.agreement * self.coarser

    def key(self, inputs: Tensor) -> Tensor:
        """Keys `[B, T, d]` of embedded inputs `[B, taps - 1 + T, D]`."""
        return nn.functional.normalize(sum_of_taps(inputs, self.taps) @ self.to_key, dim=2)

    def hashes(self, keys: Tensor) -> Tensor:
        """Hashes `[..., tables]` of keys `[..., d]`."""
        return ((keys.detach() @ self.planes > 0).to(keys.dtype) @ self.bits).long()

    def _append(self, table: Tensor, inputs: Tensor, state: RetrievalState) -> tuple[Tensor, RetrievalState]:
        """Queries `[B, T, d]` after each of `inputs`, and the state with the inputs appended."""
        embedded = torch.cat([state.tail, look_up(table.to(self.taps.dtype), inputs).sum(dim=2)], dim=1)
        queries = self.key(embedded)
        keys = torch.cat([state.keys, state.key[:, None], queries[:, :-1]], dim=1)
        frames = torch.cat([state.frames, inputs], dim=1)
        return queries, RetrievalState(keys, frames, queries[:, -1], embedded[:, inputs.shape[1] :])

    def _find(self, queries: Tensor, state: RetrievalState) -> Found:
        """Find frames for T queries, of which the last follows the last frame of the state."""
        keys, frames = state.keys, state.frames
        batch, count = frames.shape[:2]
        positions = torch.arange(count - queries.shape[1], count, device=frames.device)
        index = newest(self.hashes(keys).mT, self.hashes(queries).mT, positions - self.reach)  # [B, tables, T, slots]
        valid = (index >= 0) & (index > positions[:, None] - CAPACITY)
        index, valid = (part.transpose(1, 2).flatten(2) for part in (index.clamp_min(0), valid))
        rows = index + torch.arange(0, batch * count, count, device=frames.device)[:, None, None]
        similarity = nn.functional.embedding(rows, keys.flatten(0, 1)) @ queries[..., None]
        return Found(frames.flatten(0, 1)[rows], similarity[..., 0], valid)


def newest(hashes: Tensor, queries: Tensor, last_positions: Tensor) -> Tensor:
    """Positions `[..., T, slots]` of the newest `SLOTS` of `hashes` `[..., N]` equal to each of `queries` `[..., T]`.

    Positions after `last_positions` `[T]` are left out. The newest comes first; below 0 where there are fewer.
    """
    count = hashes.shape[-1]
    ordered = (hashes * count + torch.arange(count, device=hashes.device)).contiguous().sort(dim=-1).values
    first = (queries * count).contiguous()
    last = torch.searchsorted(ordered, torch.where(last_positions >= 0, first + last_positions, first - 1), right=True)
    position = last[..., None] - 1 - torch.arange(SLOTS, device=hashes.device)
    found = ordered.gather(-1, position.clamp_min(0).flatten(-2)).view_as(position) - first[..., None]
    return torch.where(position >= 0, found, -1)
