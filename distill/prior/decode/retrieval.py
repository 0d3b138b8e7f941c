"""`Retrieval` step by step, with tables in place of a search."""

import torch
from torch import Tensor

from distill.prior.codeword_embedding import look_up
from distill.prior.memory.retrieval import BITS, CAPACITY, SLOTS, TABLES, Retrieval, RetrievalState, newest


class RetrievalDecoder:
    """`Retrieval` for drawing, frame after frame and level after level, with tables in place of a search; its state changes in place."""

    def __init__(self, retrieval: Retrieval, read: Tensor, state: RetrievalState) -> None:
        """`read` as in `Retrieval.table`."""
        self._table = retrieval.table(read)
        self._recollection, self._of_coarser = retrieval, retrieval.of_coarser()
        batch, count, levels = state.frames.shape
        self._frames = torch.zeros(batch, CAPACITY, levels, dtype=torch.int32, device=state.frames.device)
        self._keys = state.keys.new_zeros(batch, CAPACITY, state.keys.shape[2])
        self._frames[:, :count], self._keys[:, :count] = state.frames, state.keys
        self._count = count
        hashes = retrieval.hashes(state.keys).mT
        every = torch.arange(1 << BITS, device=state.frames.device).expand(batch, TABLES, -1)
        until = torch.full_like(every[0, 0], count - 1 - retrieval.reach)
        if count:
            self._newest = newest(hashes, every, until)
        else:
            self._newest = torch.full((*every.shape, SLOTS), -1, device=every.device)
        self._newest = self._newest.int()
        self._key, self._tail = state.key, state.tail

    @property
    def bytes(self) -> int:
        """How much memory the state takes: the same however long the sequences are."""
        return sum(part.numel() * part.element_size() for part in self._state())

    def keep(self, rows: Tensor) -> None:
        """Go on with these sequences alone."""
        used = min(self._count, CAPACITY)
        for part in (self._frames, self._keys):
            part[: len(rows), :used] = part[rows, :used]
        self._frames, self._keys = self._frames[: len(rows)], self._keys[: len(rows)]
        self._newest, self._key, self._tail = (part[rows] for part in (self._newest, self._key, self._tail))

    def begin(self, frame: Tensor) -> None:
        """Go on to the frame after `frame` `[B, Q]`."""
        retrieval, place = self._recollection, self._count % CAPACITY
        self._frames[:, place], self._keys[:, place] = frame, self._key
        inputs = torch.cat([self._tail, look_up(self._table, frame).sum(dim=1, keepdim=True)], dim=1)
        self._tail, self._key = inputs[:, 1:], retrieval.key(inputs)[:, 0]
        old = self._count - retrieval.reach
        if old >= 0:
            self._publish(old)
        index = self._slots(retrieval.hashes(self._key)).flatten(1)  # [B, tables * slots]
        there = (index >= 0) & (index > self._count - CAPACITY)
        index = index % CAPACITY
        rows = torch.arange(len(frame), device=frame.device)[:, None]
        self._said = self._frames[rows, index].long()  # [B, C, Q]
        likeness = torch.bmm(self._keys[rows, index], self._key[..., None])
        scores = retrieval.of_likeness(likeness)
        self._there = there[..., None] & (self._said < retrieval.codebook_size)
        self._scores = scores
        self._count += 1

    def weights(self, level: int) -> Tensor:
        """What codes of a level weigh, `[B, V + 2]`."""
        weights = Retrieval.of_scores(self._scores[:, :, level], self._there[:, :, level])
        codes = weights.new_zeros(len(weights), self._recollection.vocabulary)
        return codes if self._recollection.ablated else codes.scatter_add_(1, self._said[:, :, level], weights)

    def say(self, level: int, codes: Tensor) -> None:
        """Go on to the next level: these are the codes `[B]` of this one."""
        agree = (self._said[:, :, level] == codes[:, None])[:, :, None]
        self._scores = torch.addcmul(self._scores, agree, self._of_coarser[:, level])

    def _publish(self, place: int) -> None:
        """Let the frame of this place be found."""
        hashes = self._recollection.hashes(self._keys[:, place % CAPACITY])
        slots = self._slots(hashes)
        newer = torch.cat([torch.full_like(slots[..., :1], place), slots[..., :-1]], dim=2)
        self._newest.scatter_(2, hashes[..., None, None].expand_as(newer[:, :, None]), newer[:, :, None].int())

    def _slots(self, hashes: Tensor) -> Tensor:
        """The newest places of hashes `[B, tables]`: `[B, tables, slots]`."""
        return self._newest.gather(2, hashes[..., None, None].expand(-1, -1, 1, SLOTS))[:, :, 0].long()

    def _state(self) -> tuple[Tensor, ...]:
        return self._frames, self._keys, self._newest, self._key, self._tail
