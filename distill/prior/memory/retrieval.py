"""Retrieval of frames that followed similar contexts long before, by locality-sensitive hashing."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.prior.attention import without_autocast
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

    def rows(self, rows: Tensor) -> "RetrievalState":
        """The state of the sequences with these indices."""
        return RetrievalState(*(part[rows] for part in self))

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return sum(part.numel() * part.element_size() for part in self)


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

    def advance(
        self, vectors: Tensor, inputs: Tensor, state: "RetrievalState | RetrievalIndex", newest: int, one_by_one: bool
    ) -> "tuple[RetrievalState | RetrievalIndex, Found | None]":
        """State after `inputs` `[B, T, Q]`, and what is found for the frames after the `newest` of them, if anything.

        `vectors` `[Q, V + 2, D]` are the input embeddings. Frames that come `one_by_one` are found in an index.
        """
        with without_autocast(inputs.device.type):
            if inputs.shape[1] == 1 and one_by_one:
                index = state if isinstance(state, RetrievalIndex) else RetrievalIndex(self, vectors, state)
                return index, index.advance(inputs[:, 0])
            assert isinstance(state, RetrievalState)
            queries, after = self._append(self.table(vectors), inputs, state)
            found = self._find(queries[:, -newest:], after) if after.frames.shape[1] > self.reach else None
            return after._replace(keys=after.keys[:, -CAPACITY:], frames=after.frames[:, -CAPACITY:]), found

    def weights(self, found: Found | None, codes: Tensor, levels: slice | None = None) -> Tensor:
        """Weights `[B, T, L, V + 2]` of L `levels`, all by default, of frames whose coarser codes are `codes`.

        `codes` are `[B, T, Q]`, or as many levels as are known. After one query all T frames are candidates for it.
        """
        levels = levels or slice(0, len(self.base_score))
        with without_autocast(codes.device.type):
            no_weights = self.taps.new_zeros(*codes.shape[:2], levels.stop - levels.start, self.vocabulary)
            if found is None:  # distributed training still needs a gradient of every parameter
                return no_weights + sum(0.0 * parameter.sum() for parameter in self.parameters())
            known = codes.shape[2]
            agrees = (found.frames[..., :known] == codes[:, :, None]).to(self.taps.dtype)  # [B, T, C, known]
            agreement = self.agreement[levels, :known] * self.coarser[levels, :known]
            scores = agrees @ agreement.T + self.similarity_scores(found.similarity[..., None], levels)
            candidates = found.frames[..., levels].expand_as(scores)
            is_code = found.valid[..., None] & (candidates < self.codebook_size)
            weights = scores.clamp_max(MAX_SCORE).masked_fill(~is_code, -torch.inf).exp()
            if self.ablated:
                return no_weights
            return no_weights.scatter_add(3, candidates.transpose(2, 3), weights.transpose(2, 3))

    def similarity_scores(self, similarity: Tensor, levels: slice) -> Tensor:
        """Scores `[..., L]` of similarities `[..., 1]` for each of L levels."""
        distance = 1 - similarity
        exact = self.exact_score[levels] * (-distance / EXACT_SCALE).exp()
        return self.base_score[levels] - self.sharpness[levels] * distance + exact

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


class RetrievalIndex:
    """State of retrieval for frames that come one by one: hash tables in place of a search. It changes in place.

    Rings hold the last `CAPACITY` frames and keys; `newest` `[B, tables, hashes, slots]` the positions of each hash.
    """

    def __init__(self, retrieval: Retrieval, vectors: Tensor, state: RetrievalState) -> None:
        self._retrieval, self._table = retrieval, retrieval.table(vectors)
        batch, count, levels = state.frames.shape
        device = state.frames.device
        self._frames = torch.zeros(batch, CAPACITY, levels, dtype=torch.int32, device=device)
        self._keys = state.keys.new_zeros(batch, CAPACITY, state.keys.shape[2])
        self._frames[:, :count], self._keys[:, :count] = state.frames, state.keys
        self._count, self._key, self._tail = count, state.key, state.tail
        every_hash = torch.arange(1 << BITS, device=device).expand(batch, TABLES, -1)
        if count:
            last = torch.full_like(every_hash[0, 0], count - 1 - retrieval.reach)
            self._newest = newest(retrieval.hashes(state.keys).mT, every_hash, last).int()
        else:
            self._newest = torch.full((*every_hash.shape, SLOTS), -1, dtype=torch.int32, device=device)

    @property
    def bytes(self) -> int:
        """Size in bytes, the same for sequences of any length."""
        parts = (self._frames, self._keys, self._newest, self._key, self._tail)
        return sum(part.numel() * part.element_size() for part in parts)

    def rows(self, rows: Tensor) -> "RetrievalIndex":
        """Keep only the sequences with these indices."""
        used = min(self._count, CAPACITY)
        for part in (self._frames, self._keys):
            part[: len(rows), :used] = part[rows, :used]
        self._frames, self._keys = self._frames[: len(rows)], self._keys[: len(rows)]
        self._newest, self._key, self._tail = (part[rows] for part in (self._newest, self._key, self._tail))
        return self

    def advance(self, frame: Tensor) -> Found:
        """Append `frame` `[B, Q]`, and find frames for the one after it."""
        retrieval, slot = self._retrieval, self._count % CAPACITY
        self._frames[:, slot], self._keys[:, slot] = frame, self._key
        inputs = torch.cat([self._tail, look_up(self._table, frame).sum(dim=1, keepdim=True)], dim=1)
        self._tail, self._key = inputs[:, 1:], retrieval.key(inputs)[:, 0]
        position = self._count - retrieval.reach
        if position >= 0:
            hashes = retrieval.hashes(self._keys[:, position % CAPACITY])
            slots = self._slots(hashes)
            newer = torch.cat([torch.full_like(slots[..., :1], position), slots[..., :-1]], dim=2)
            self._newest.scatter_(2, hashes[..., None, None].expand_as(newer[:, :, None]), newer[:, :, None].int())
        index = self._slots(retrieval.hashes(self._key)).flatten(1)  # [B, tables * slots]
        valid = (index >= 0) & (index > self._count - CAPACITY)
        index = index % CAPACITY
        rows = torch.arange(len(frame), device=frame.device)[:, None]
        similarity = torch.bmm(self._keys[rows, index], self._key[..., None])[..., 0]
        self._count += 1
        return Found(self._frames[rows, index].long()[:, None], similarity[:, None], valid[:, None])

    def _slots(self, hashes: Tensor) -> Tensor:
        """Newest positions `[B, tables, slots]` with hashes `[B, tables]`."""
        return self._newest.gather(2, hashes[..., None, None].expand(-1, -1, 1, SLOTS))[:, :, 0].long()
