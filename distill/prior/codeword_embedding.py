"""Vectors for codes that know what the codes sound like."""

import torch
from torch import Tensor, nn

from distill.codes.sequences import NUM_MARKS, begin_mark, end_mark
from distill.prior.transformer import INIT_STD

FREE_LEVELS = 1  # whose codes have a part of their own; on finer levels that learns the recordings by heart
BEND = 128  # hidden units between a codeword and the vector that it is guessed by
GUESS_STD = 0.1  # of the vectors that logits are products with


class CodeTable(nn.Module):
    """A vector for every code of every level: a function of its codeword, for the first level plus a part of its own.
    Marks have vectors of their own.

    What is learnt about one code so serves the codes that sound like it, which on minutes of sound is worth more than
    anything else (docs/decisions.md). The function is a projection or, with `bend` hidden units, an MLP: what is to be
    guessed is near a point, and a projection alone has no notion of how near. With `codeword_size` 0 every code has its
    own part and nothing else.
    """

    def __init__(self, levels: int, codebook_size: int, codeword_size: int, width: int, bend: int = 0) -> None:
        super().__init__()
        first, owned = bend or width, FREE_LEVELS if codeword_size else levels
        self.enter = nn.Parameter(torch.randn(levels, codeword_size, first) / max(1, codeword_size) ** 0.5)
        self.offset = nn.Parameter(torch.zeros(levels, 1, first)) if bend else None
        self.leave = nn.Parameter(torch.randn(levels, bend, width) * GUESS_STD / bend**0.5) if bend else None
        self.own = nn.Parameter(torch.randn(owned, codebook_size, width) * INIT_STD)
        self.marks = nn.Parameter(torch.randn(levels, NUM_MARKS, width) * INIT_STD)

    def forward(self, codewords: Tensor) -> Tensor:
        """Codewords `[Q, V, codeword_size]` to vectors `[Q, V + marks, width]`."""
        vectors: Tensor = self.own
        if codewords.shape[2]:
            known = torch.bmm(codewords, self.enter)
            if self.offset is not None and self.leave is not None:
                known = torch.bmm(nn.functional.gelu(known + self.offset), self.leave)
            vectors = torch.cat([known[:FREE_LEVELS] + self.own, known[FREE_LEVELS:]])
        return torch.cat([vectors, self.marks.to(vectors.dtype)], dim=1)


def unit_codewords(codebooks: Tensor) -> Tensor:
    """Codebooks `[Q, V, C]` with mean square 1 in each level: finer levels have smaller words that matter as much."""
    return codebooks / codebooks.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-6)


def looked_up(table: Tensor, codes: Tensor) -> Tensor:
    """The vectors `[..., Q, width]` of codes `[..., Q]` in a table `[Q, V + marks, width]`."""
    levels, size, width = table.shape
    numbers = codes + size * torch.arange(levels, device=codes.device)
    return nn.functional.embedding(numbers, table.reshape(levels * size, width))


def impossible_marks(levels: int, codebook_size: int) -> Tensor:
    """What to add to logits so that no begin mark is ever guessed, and an end mark at the first level only: `[Q, 1, V + marks]`."""
    logits = torch.zeros(levels, 1, codebook_size + NUM_MARKS)
    logits[:, :, begin_mark(codebook_size)] = -torch.inf
    logits[1:, :, end_mark(codebook_size)] = -torch.inf
    return logits
