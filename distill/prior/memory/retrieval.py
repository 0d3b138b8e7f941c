"""Retrieval of earlier frames that followed similar contexts, by locality-sensitive hashing."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.codes.sequences import NUM_SPECIAL_TOKENS
from distill.prior.attention import without_autocast
from distill.prior.frame import look_up
from distill.prior.memory.block import TAPS, MemoryShape, sum_of_taps

TABLES, BITS, SLOTS = 8, 12, 4  # hashes per key, bits per hash, newest frames retrieved per hash
CAPACITY = 32768  # newest frames that can be retrieved
# Cosine distance over which the extra score of exact matches decays by a factor e
EXACT_SCALE = 0.02
SCORE_PARAMETERS = ("level_scale", "sharpness", "agreement", "base_score", "exact_score")


class RetrievalState(NamedTuple):
    """Contexts and frames so far, at most the last `CAPACITY`."""

    keys: Tensor  # [B, N, d], keys of the frames' contexts
    frames: Tensor  # [B, N, Q]
    key: Tensor  # [B, d], key of the next frame's context
    tail: Tensor  # [B, taps - 1, D], the last embedded inputs

    def rows(self, rows: Tensor) -> "RetrievalState":
        """State of the sequences with these indices."""
        return RetrievalState(*(part[rows] for part in self))


class Found(NamedTuple):
    """C frames retrieved for each of T queries."""

    frames: Tensor  # [B, T, C, Q], their codes
    similarity: Tensor  # [B, T, C], cosine of both contexts' keys
    valid: Tensor  # [B, T, C], False for empty slots


class Retrieval(nn.Module):
    """Weights for the codes of frames that followed similar contexts, further back than `PointerMixture` reaches.

    The key of a frame is a unit vector computed from the frames before it. Keys match by locality-sensitive hashing:
    all signs are equal in any of several sets of random projections (Charikar 2002; as in Reformer, Kitaev et al. 2020,
    section 2). Only the newest few matches are compared, so a step takes the same time after hours as after seconds.

    A frame's weight depends on the similarity of keys and, for each level, on agreement with the coarser codes. A frame
    that matches by several hashes counts once for each. The projection to keys is learnt through these similarities.
    """

    def __init__(self, shape: MemoryShape) -> None:
        super().__init__()
        self.codebook_size, self.reach = shape.codebook_size, shape.context_frames
        self.vocabulary = shape.codebook_size + NUM_SPECIAL_TOKENS
        levels, width, key_size = shape.num_quantizers, shape.hidden_size, shape.key_size
        self.level_scale = nn.Parameter(0.7 ** torch.arange(levels))
        self.taps = nn.Parameter(torch.tensor(TAPS)[:, None].repeat(1, width))
        self.to_key = nn.Parameter(torch.randn(width, key_size) / width**0.5)
        self.sharpness = nn.Parameter(torch.full((levels,), 10.0))
        self.agreement = nn.Parameter(torch.ones(levels, levels))
        self.base_score = nn.Parameter(torch.full((levels,), 2.0))
        self.exact_score = nn.Parameter(torch.full((levels,), 3.0))
        self.ablated = False  # if True, all weights are zero
        planes = torch.randn(key_size, TABLES * BITS, generator=torch.Generator().manual_seed(0))
        self.planes = nn.Buffer(planes, persistent=False)
        self.coarser = nn.Buffer(torch.ones(levels, levels).tril(-1), persistent=False)
        shares = torch.arange(self.vocabulary) < torch.tensor(shape.codebook_sizes)[:, None]
        self.shares = nn.Buffer(
            shares / shares.sum(dim=1, keepdim=True), persistent=False
        )  # [Q, V + 2], uniform

    def initial_state(self, batch_size: int) -> RetrievalState:
        """State before the first frame."""
        new, (width, key_size) = self.to_key.new_zeros, self.to_key.shape
        frames = new(batch_size, 0, len(self.base_score), dtype=torch.int64)
        keys, tail = new(batch_size, 0, key_size), new(batch_size, len(TAPS) - 1, width)
        return RetrievalState(keys, frames, new(batch_size, key_size), tail)

    def advance(
        self,
        vectors: Tensor,
        inputs: Tensor,
        state: "RetrievalState | RetrievalIndex",
        newest: int,
        one_by_one: bool,
    ) -> "tuple[RetrievalState | RetrievalIndex, Found]":
        """Append `inputs` `[B, T, Q]` to the state, and retrieve frames for the successors of the last `newest` inputs.

        `vectors` `[Q, V + 2, D]` are the input embeddings. With `one_by_one`, the state becomes a `RetrievalIndex`.
        """
        with without_autocast(inputs.device.type):
            if isinstance(state, RetrievalState) and one_by_one and state.frames.shape[1]:
                state = RetrievalIndex(self, self.table(vectors), state)
            if isinstance(state, RetrievalIndex):
                return state, state.advance(inputs[:, 0])
            queries, tail = self.keys(self.table(vectors), inputs, state.tail)
            keys = torch.cat([state.keys, state.key[:, None], queries[:, :-1]], dim=1)
            frames = torch.cat([state.frames, inputs], dim=1)
            found = self._find(queries[:, -newest:], keys, frames)
            return RetrievalState(
                keys[:, -CAPACITY:], frames[:, -CAPACITY:], queries[:, -1], tail
            ), found

    def weights(self, found: Found, codes: Tensor, levels: slice) -> Tensor:
        """Weights `[B, T, L, V + 2]` of L `levels`, given the coarser codes of their frames.

        `codes` are `[B, T, Q]`, or only the known levels. After a single query, the T frames of `codes` are candidates
        for the next frame.
        """
        with without_autocast(codes.device.type):
            no_weights = self.taps.new_zeros(
                *codes.shape[:2], levels.stop - levels.start, self.vocabulary
            )
            if self.ablated:
                return no_weights
            known = codes.shape[2]
            agrees = (found.frames[..., :known] == codes[:, :, None]).to(
                self.taps.dtype
            )  # [B, T, C, known]
            agreement = self.agreement[levels, :known] * self.coarser[levels, :known]
            distance = 1 - found.similarity[..., None]
            exact = self.exact_score[levels] * (-distance / EXACT_SCALE).exp()
            scores = agrees @ agreement.T + (
                self.base_score[levels] - self.sharpness[levels] * distance + exact
            )
            candidates = found.frames[..., levels].expand_as(scores)
            is_code = found.valid[..., None] & (candidates < self.codebook_size)
            # Clamp to avoid overflow.
            weights = scores.clamp_max(60.0).masked_fill(~is_code, -torch.inf).exp()
            return no_weights.scatter_add(3, candidates.transpose(2, 3), weights.transpose(2, 3))

    def table(self, vectors: Tensor) -> Tensor:
        """Code vectors for keys: input embeddings `[Q, V + 2, D]` minus their level's mean, scaled by level."""
        centred = vectors - torch.bmm(self.shares[:, None].to(vectors.dtype), vectors)
        return (centred * self.level_scale[:, None, None]).to(self.taps.dtype)

    def keys(self, table: Tensor, inputs: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Keys `[B, T, d]` of the contexts ending at each of `inputs` `[B, T, Q]`, after `tail`; and the next tail."""
        embedded = torch.cat([tail, look_up(table, inputs).sum(dim=2)], dim=1)
        keys = nn.functional.normalize(sum_of_taps(embedded, self.taps) @ self.to_key, dim=2)
        return keys, embedded[:, inputs.shape[1] :]

    def hashes(self, keys: Tensor) -> Tensor:
        """Hashes `[..., tables, N]` of keys `[..., N, d]`."""
        signs = (keys.detach() @ self.planes > 0).unflatten(-1, (TABLES, BITS))
        return torch.sum(signs * 2 ** torch.arange(BITS, device=keys.device), dim=-1).mT

    def _find(self, queries: Tensor, keys: Tensor, frames: Tensor) -> Found:
        """Retrieve from `frames` `[B, N, Q]` by their `keys` for T queries; the last query is for frame N."""
        (batch, count), newest_count = frames.shape[:2], queries.shape[1]
        if count <= self.reach:
            nothing = queries[:, :, :0]  # has a gradient, as distributed training requires
            return Found(frames[:, :newest_count, None][:, :, :0], nothing, nothing.bool())
        positions = torch.arange(count - newest_count, count, device=frames.device)
        index = newest(
            self.hashes(keys), self.hashes(queries), positions - self.reach
        )  # [B, tables, T, slots]
        valid = (index >= 0) & (index > positions[:, None] - CAPACITY)
        index, valid = (part.transpose(1, 2).flatten(2) for part in (index.clamp_min(0), valid))
        rows = index + torch.arange(0, batch * count, count, device=frames.device)[:, None, None]
        similarity = nn.functional.embedding(rows, keys.flatten(0, 1)) @ queries[..., None]
        return Found(frames.flatten(0, 1)[rows], similarity[..., 0], valid)


def newest(hashes: Tensor, queries: Tensor, last_positions: Tensor) -> Tensor:
    """Positions `[..., T, slots]` of the newest `SLOTS` entries of `hashes` `[..., N]` equal to each query `[..., T]`.

    Positions after `last_positions` `[T]` are ignored. The newest comes first; missing entries are negative.
    """
    count = hashes.shape[-1]
    ordered = (
        (hashes * count + torch.arange(count, device=hashes.device))
        .contiguous()
        .sort(dim=-1)
        .values
    )
    first = (queries * count).contiguous()
    last = torch.searchsorted(
        ordered, torch.where(last_positions >= 0, first + last_positions, first - 1), right=True
    )
    position = last[..., None] - 1 - torch.arange(SLOTS, device=hashes.device)
    found = (
        ordered.gather(-1, position.clamp_min(0).flatten(-2)).view_as(position) - first[..., None]
    )
    return torch.where(position >= 0, found, -1)


class RetrievalIndex:
    """Retrieval state for generating frame by frame, with hash tables instead of a search. It changes in place.

    Ring buffers hold the last `CAPACITY` frames and keys; `_newest` `[B, tables, hashes, slots]` holds the newest
    positions of each hash.
    """

    def __init__(self, retrieval: Retrieval, table: Tensor, state: RetrievalState) -> None:
        """Start from a state with at least one frame. `table` is the result of `Retrieval.table`."""
        self._retrieval, self._table = retrieval, table
        self._count, self._key, self._tail = state.frames.shape[1], state.key, state.tail
        room = (0, 0, 0, CAPACITY - self._count)
        self._frames, self._keys = (
            nn.functional.pad(state.frames, room),
            nn.functional.pad(state.keys, room),
        )
        every_hash = torch.arange(1 << BITS, device=state.key.device).expand(
            len(state.key), TABLES, -1
        )
        last = torch.full_like(every_hash[0, 0], self._count - 1 - retrieval.reach)
        self._newest = newest(retrieval.hashes(state.keys), every_hash, last)

    def rows(self, rows: Tensor) -> "RetrievalIndex":
        """Keep only the sequences with these indices."""
        used = min(self._count, CAPACITY)
        for part in (self._frames, self._keys):
            part[: len(rows), :used] = part[rows, :used]
        self._frames, self._keys = self._frames[: len(rows)], self._keys[: len(rows)]
        self._newest, self._key, self._tail = (
            part[rows] for part in (self._newest, self._key, self._tail)
        )
        return self

    def advance(self, frame: Tensor) -> Found:
        """Append `frame` `[B, Q]`, and retrieve frames for its successor."""
        retrieval, slot = self._retrieval, self._count % CAPACITY
        self._frames[:, slot], self._keys[:, slot] = frame, self._key
        keys, self._tail = retrieval.keys(self._table, frame[:, None], self._tail)
        self._key = keys[:, 0]
        position = self._count - retrieval.reach
        if position >= 0:
            hashes = retrieval.hashes(self._keys[:, position % CAPACITY, None])
            newer = torch.cat(
                [torch.full_like(hashes, position), self._slots(hashes)[..., :-1]], dim=2
            )
            self._newest.scatter_(2, hashes[..., None].expand(-1, -1, -1, SLOTS), newer[:, :, None])
        index = self._slots(retrieval.hashes(keys)).flatten(1)  # [B, tables * slots]
        valid = (index >= 0) & (index > self._count - CAPACITY)
        rows, index = torch.arange(len(frame), device=frame.device)[:, None], index % CAPACITY
        similarity = torch.bmm(self._keys[rows, index], self._key[..., None])[..., 0]
        self._count += 1
        return Found(self._frames[rows, index][:, None], similarity[:, None], valid[:, None])

    def _slots(self, hashes: Tensor) -> Tensor:
        """Newest positions `[B, tables, slots]` with hashes `[B, tables, 1]`."""
        return self._newest.gather(2, hashes[..., None].expand(-1, -1, -1, SLOTS))[:, :, 0]
