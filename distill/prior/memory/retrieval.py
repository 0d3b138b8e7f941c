"""What a recording said long before: frames that followed the like of what is heard, found by hashing."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.prior.codeword_embedding import look_up
from distill.prior.memory.associative import TAPS, sum_of_taps
from distill.storage.weights import store_as

TABLES, BITS, SLOTS = 8, 12, 4  # hashes of a key, bits of each, and how many of the last frames with a hash are found
CAPACITY = 32768  # frames, the last ones, that can be retrieved
SHARPNESS, AGREEMENT, BASE_SCORE, EXACT_SCORE = 10.0, 1.0, 2.0, 3.0  # of scores, in the beginning
MAX_SCORE = 60.0  # a score at most, far from what floats can hold
EXACT_SCALE = 0.02  # likenesses that are this near to 1 are worth more than others lead one to expect
SCORE_PARAMETERS = ("level_scale", "sharpness", "agreement", "base_score", "exact_score")
LEVEL_DECAY = 0.7  # what a level counts in a key in the beginning, the coarser one 1


class RetrievalState(NamedTuple):
    """What came before each of the last frames, as keys `[B, N, d]`, and the frames `[B, N, Q]`; what came before the next one `[B, d]`;
    and the last inputs `[B, taps - 1, D]`. N is `CAPACITY` at most."""

    keys: Tensor
    frames: Tensor
    key: Tensor
    tail: Tensor

    def constant(self) -> "RetrievalState":
        """The same, through which no gradient goes."""
        return RetrievalState(*(part.detach() for part in self))

    def recent(self) -> "RetrievalState":
        """The same without frames that are too old to be retrieved."""
        return self._replace(keys=self.keys[:, -CAPACITY:], frames=self.frames[:, -CAPACITY:])


class Found(NamedTuple):
    """Of each of T frames C that may be said again: their codes `[B, T, C, Q]`, how like what came before them is to what
    came before it, `[B, T, C]` from -1 to 1, and which of them there are."""

    frames: Tensor
    similarity: Tensor
    valid: Tensor


class Retrieval(nn.Module):
    """Scores frames that came after the like of what was heard last, further back than `PointerMixture` reaches.

    A frame is known again by its key, a unit vector made of the frames before it. Of keys with the same signs in one of several
    sets of random projections (locality-sensitive hashing: Charikar 2002; as in Reformer, Kitaev et al. 2020, section 2) the last few
    are compared: to draw a frame costs as much after hours as after seconds. What a frame weighs follows from the likeness and, for each
    level, from agreement with the coarser codes; one that several hashes find counts for each. The projection to keys is
    learnt, through what is compared.
    """

    planes: Tensor
    bits: Tensor
    coarser: Tensor

    def __init__(self, levels: int, vocabulary: int, codebook_size: int, width: int, key_size: int, reach: int) -> None:
        """Frames are found from an age of `reach` on."""
        super().__init__()
        self.vocabulary, self.codebook_size, self.reach = vocabulary, codebook_size, reach
        self.level_scale = nn.Parameter(LEVEL_DECAY ** torch.arange(levels))
        self.taps = nn.Parameter(torch.tensor(TAPS)[:, None].repeat(1, width))
        self.to_key = nn.Parameter(torch.randn(width, key_size) / width**0.5)
        self.sharpness = nn.Parameter(torch.full((levels,), SHARPNESS))
        self.agreement = nn.Parameter(torch.full((levels, levels), AGREEMENT))
        self.base_score = nn.Parameter(torch.full((levels,), BASE_SCORE))
        self.exact_score = nn.Parameter(torch.full((levels,), EXACT_SCORE))
        self.ablated = False  # it says nothing
        store_as(self, {"level_scale": "share", "agreement": "same", "base_score": "worth", "exact_score": "certainty"})
        planes = torch.randn(key_size, TABLES * BITS, generator=torch.Generator().manual_seed(0))
        self.register_buffer("planes", planes, persistent=False)
        bits = torch.block_diag(*[2.0 ** torch.arange(BITS)[:, None]] * TABLES)  # from signs to the hash of each table
        self.register_buffer("bits", bits, persistent=False)
        self.register_buffer("coarser", torch.ones(levels, levels).tril(-1), persistent=False)

    def initial_state(self, batch_size: int) -> RetrievalState:
        """Nothing heard yet."""
        new, (width, key_size) = self.to_key.new_zeros, self.to_key.shape
        frames = torch.zeros(batch_size, 0, len(self.base_score), dtype=torch.int64, device=self.to_key.device)
        key, tail = new(batch_size, key_size), new(batch_size, len(TAPS) - 1, width)
        return RetrievalState(new(batch_size, 0, key_size), frames, key, tail)

    def table(self, vectors: Tensor) -> Tensor:
        """Vectors of codes in keys, made of those that the network reads, `[Q, V + 2, D]`: how they differ from the mean."""
        return (vectors - vectors[:, : self.codebook_size].mean(dim=1, keepdim=True)) * self.level_scale[:, None, None]

    def run(
        self, table: Tensor, inputs: Tensor, targets: Tensor, state: RetrievalState
    ) -> tuple[Tensor, RetrievalState]:
        """What codes weigh in the frames after `inputs` `[B, T, Q]`, `[B, T, Q, V + 2]`; the state after them.

        `targets` `[B, T, Q]` are those frames, of which a level knows the coarser codes; `table` see there.
        """
        with torch.autocast(inputs.device.type, enabled=False):
            queries, after = self._append(table, inputs, state)
            if after.frames.shape[1] > self.reach:
                weights = self.weights(self._find(queries, after), targets)
            else:  # there is nothing to find; yet every parameter has a gradient, as processes that train together need it
                nothing = sum(0.0 * parameter.sum() for parameter in self.parameters())
                weights = nothing + queries.new_zeros(*targets.shape, self.vocabulary)
        return weights, after.recent()

    def update(self, table: Tensor, inputs: Tensor, state: RetrievalState) -> RetrievalState:
        """The state after `inputs`, as `run` has it."""
        with torch.autocast(inputs.device.type, enabled=False):
            return self._append(table, inputs, state)[1].recent()

    def candidate_weights(self, table: Tensor, last: Tensor, candidates: Tensor, state: RetrievalState) -> Tensor:
        """What codes weigh in each of the frames `candidates` `[B, N, Q]` that may follow `last` `[B, 1, Q]`: `[B, N, Q, V + 2]`."""
        with torch.autocast(last.device.type, enabled=False):
            found = self._find(*self._append(table, last, state))
            return self.weights(
                Found(*(part.expand(-1, candidates.shape[1], *part.shape[2:]) for part in found)), candidates
            )

    def weights(self, found: Found, targets: Tensor) -> Tensor:
        """What codes weigh in `targets` `[B, T, Q]`, of which a level knows the coarser ones: `[B, T, Q, V + 2]`."""
        agrees = (found.frames == targets[:, :, None]).to(found.similarity.dtype)  # [B, T, C, Q]
        scores = agrees @ self.coarser_agreement().T + self.similarity_scores(found.similarity[..., None])
        weights = self.exponentiate(scores, found.valid[..., None] & (found.frames < self.codebook_size))
        codes = weights.new_zeros(*targets.shape, self.vocabulary)
        if self.ablated:
            return codes
        return codes.scatter_add(3, found.frames.transpose(2, 3), weights.transpose(2, 3))

    @staticmethod
    def exponentiate(scores: Tensor, valid: Tensor) -> Tensor:
        """What scores weigh, 0 of what is not `valid`."""
        return scores.clamp_max(MAX_SCORE).masked_fill(~valid, -torch.inf).exp()

    def similarity_scores(self, similarity: Tensor) -> Tensor:
        """What likenesses `[..., 1]` are worth to each level, `[..., Q]`."""
        distance = 1 - similarity
        return self.base_score - self.sharpness * distance + self.exact_score * (-distance / EXACT_SCALE).exp()

    def coarser_agreement(self) -> Tensor:
        """What agreement of each coarser code is worth to a level, `[Q, Q]`; 0 for codes that are not coarser."""
        return self.agreement * self.coarser

    def key(self, inputs: Tensor) -> Tensor:
        """Keys `[B, T, d]` of inputs `[B, taps - 1 + T, D]`."""
        return nn.functional.normalize(sum_of_taps(inputs, self.taps) @ self.to_key, dim=2)

    def hashes(self, keys: Tensor) -> Tensor:
        """Of keys `[..., d]`, for each table: `[..., tables]`."""
        return ((keys.detach() @ self.planes > 0).to(keys.dtype) @ self.bits).long()

    def _append(self, table: Tensor, inputs: Tensor, state: RetrievalState) -> tuple[Tensor, RetrievalState]:
        """Keys `[B, T, d]` of what comes after each of `inputs`; and all that there is to retrieve then."""
        embedded = torch.cat([state.tail, look_up(table.to(self.taps.dtype), inputs).sum(dim=2)], dim=1)
        queries = self.key(embedded)
        keys = torch.cat([state.keys, state.key[:, None], queries[:, :-1]], dim=1)
        frames = torch.cat([state.frames, inputs], dim=1)
        return queries, RetrievalState(keys, frames, queries[:, -1], embedded[:, inputs.shape[1] :])

    def _find(self, queries: Tensor, embedded: RetrievalState) -> Found:
        """What T queries find in what was heard, of which the last came with the last frame."""
        keys, frames = embedded.keys, embedded.frames
        batch, count = frames.shape[:2]
        positions = torch.arange(count - queries.shape[1], count, device=frames.device)
        index = newest(self.hashes(keys).mT, self.hashes(queries).mT, positions - self.reach)  # [B, tables, T, slots]
        valid = (index >= 0) & (index > positions[:, None] - CAPACITY)
        index, valid = (part.transpose(1, 2).flatten(2) for part in (index.clamp_min(0), valid))
        rows = index + torch.arange(0, batch * count, count, device=frames.device)[:, None, None]
        similarity = nn.functional.embedding(rows, keys.flatten(0, 1)) @ queries[..., None]
        return Found(frames.flatten(0, 1)[rows], similarity[..., 0], valid)


def newest(hashes: Tensor, queries: Tensor, last_positions: Tensor) -> Tensor:
    """Places of the last `SLOTS` of `hashes` `[..., N]` that are as those `queries` `[..., T]`, up to the places `last_positions` `[T]`:
    `[..., T, slots]`, the newest first; below 0 where there are fewer."""
    count = hashes.shape[-1]
    ordered = (hashes * count + torch.arange(count, device=hashes.device)).contiguous().sort(dim=-1).values
    first = (queries * count).contiguous()
    last = torch.searchsorted(ordered, torch.where(last_positions >= 0, first + last_positions, first - 1), right=True)
    position = last[..., None] - 1 - torch.arange(SLOTS, device=hashes.device)
    valid = ordered.gather(-1, position.clamp_min(0).flatten(-2)).view_as(position) - first[..., None]
    return torch.where(position >= 0, valid, -1)
