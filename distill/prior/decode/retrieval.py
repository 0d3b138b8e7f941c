"""Step-by-step version of `Retrieval`, with hash tables in place of a search."""

import torch
from torch import Tensor

from distill.prior.codeword_embedding import look_up
from distill.prior.memory.retrieval import BITS, CAPACITY, SLOTS, TABLES, Retrieval, RetrievalState, newest


class RetrievalDecoder:
    """`Retrieval` for one frame at a time and one level at a time; its state changes in place."""

    def __init__(self, retrieval: Retrieval, input_embedding: Tensor, state: RetrievalState) -> None:
        """`input_embedding` `[Q, V + 2, D]` is that of the prior."""
        self._table = retrieval.table(input_embedding)
        self._retrieval, self._coarser_agreement = retrieval, retrieval.coarser_agreement()
        batch, count, levels = state.frames.shape
        self._frames = torch.zeros(batch, CAPACITY, levels, dtype=torch.int32, device=state.frames.device)
        self._keys = state.keys.new_zeros(batch, CAPACITY, state.keys.shape[2])
        self._frames[:, :count], self._keys[:, :count] = state.frames, state.keys
        self._count = count
        hashes = retrieval.hashes(state.keys).mT
        all_hashes = torch.arange(1 << BITS, device=state.frames.device).expand(batch, TABLES, -1)
        last_positions = torch.full_like(all_hashes[0, 0], count - 1 - retrieval.reach)
        if count:
            self._newest = newest(hashes, all_hashes, last_positions)
        else:
            self._newest = torch.full((*all_hashes.shape, SLOTS), -1, device=all_hashes.device)
        self._newest = self._newest.int()
        self._key, self._tail = state.key, state.tail

    @property
    def bytes(self) -> int:
        """Size of the state in bytes, the same for sequences of any length."""
        return sum(part.numel() * part.element_size() for part in self._state())

    def keep(self, rows: Tensor) -> None:
        """Keep only the sequences with these indices."""
        used = min(self._count, CAPACITY)
        for part in (self._frames, self._keys):
            part[: len(rows), :used] = part[rows, :used]
        self._frames, self._keys = self._frames[: len(rows)], self._keys[: len(rows)]
        self._newest, self._key, self._tail = (part[rows] for part in (self._newest, self._key, self._tail))

    def start_frame(self, frame: Tensor) -> None:
        """Append `frame` `[B, Q]` and find frames for the one after it."""
        retrieval, slot = self._retrieval, self._count % CAPACITY
        self._frames[:, slot], self._keys[:, slot] = frame, self._key
        inputs = torch.cat([self._tail, look_up(self._table, frame).sum(dim=1, keepdim=True)], dim=1)
        self._tail, self._key = inputs[:, 1:], retrieval.key(inputs)[:, 0]
        position = self._count - retrieval.reach
        if position >= 0:
            self._index(position)
        index = self._slots(retrieval.hashes(self._key)).flatten(1)  # [B, tables * slots]
        valid = (index >= 0) & (index > self._count - CAPACITY)
        index = index % CAPACITY
        rows = torch.arange(len(frame), device=frame.device)[:, None]
        self._found = self._frames[rows, index].long()  # [B, C, Q]
        similarity = torch.bmm(self._keys[rows, index], self._key[..., None])
        scores = retrieval.similarity_scores(similarity)
        self._valid = valid[..., None] & (self._found < retrieval.codebook_size)
        self._scores = scores
        self._count += 1

    def weights(self, level: int) -> Tensor:
        """Weights `[B, V + 2]` of the codes of a level."""
        weights = Retrieval.exponentiate(self._scores[:, :, level], self._valid[:, :, level])
        codes = weights.new_zeros(len(weights), self._retrieval.vocabulary)
        return codes if self._retrieval.ablated else codes.scatter_add_(1, self._found[:, :, level], weights)

    def update(self, level: int, codes: Tensor) -> None:
        """Condition finer levels on the codes `[B]` of this one."""
        agrees = (self._found[:, :, level] == codes[:, None])[:, :, None]
        self._scores = torch.addcmul(self._scores, agrees, self._coarser_agreement[:, level])

    def _index(self, position: int) -> None:
        """Add the frame at this position to the hash tables."""
        hashes = self._retrieval.hashes(self._keys[:, position % CAPACITY])
        slots = self._slots(hashes)
        newer = torch.cat([torch.full_like(slots[..., :1], position), slots[..., :-1]], dim=2)
        self._newest.scatter_(2, hashes[..., None, None].expand_as(newer[:, :, None]), newer[:, :, None].int())

    def _slots(self, hashes: Tensor) -> Tensor:
        """Newest positions `[B, tables, slots]` with hashes `[B, tables]`."""
        return self._newest.gather(2, hashes[..., None, None].expand(-1, -1, 1, SLOTS))[:, :, 0].long()

    def _state(self) -> tuple[Tensor, ...]:
        return self._frames, self._keys, self._newest, self._key, self._tail
