"""Embeddings of codes that are functions of their codewords."""

import torch
from torch import Tensor, nn

from distill.codes.sequences import NUM_SPECIAL_TOKENS, bos_token, eos_token
from distill.prior.transformer import INIT_STD

FREE_LEVELS = 1  # levels with a free vector a code besides; on finer levels those memorise the recordings
OUTPUT_HIDDEN_SIZE = 128  # hidden units of the MLP from a codeword to its output vector
OUTPUT_STD = 0.1  # of output vectors


class CodewordEmbedding(nn.Module):
    """Embedding of every code of every level: a function of its codeword, plus a free vector on the first level.

    Codes that sound alike share what is learnt, which matters most on minutes of sound (docs/decisions). The
    function is a projection or, with `hidden_size` hidden units, an MLP: an output distribution lies around a point in
    codeword space, and a projection cannot express a distance. With `codeword_size` 0 every code has a free vector
    only. Special tokens always have free vectors.
    """

    def __init__(self, levels: int, codebook_size: int, codeword_size: int, width: int, hidden_size: int = 0) -> None:
        super().__init__()
        up_size, free_levels = hidden_size or width, FREE_LEVELS if codeword_size else levels
        self.up = nn.Parameter(torch.randn(levels, codeword_size, up_size) / max(1, codeword_size) ** 0.5)
        self.up_bias = nn.Parameter(torch.zeros(levels, 1, up_size)) if hidden_size else None
        self.down = (
            nn.Parameter(torch.randn(levels, hidden_size, width) * OUTPUT_STD / hidden_size**0.5)
            if hidden_size
            else None
        )
        self.free = nn.Parameter(torch.randn(free_levels, codebook_size, width) * INIT_STD)
        self.special = nn.Parameter(torch.randn(levels, NUM_SPECIAL_TOKENS, width) * INIT_STD)

    def forward(self, codewords: Tensor) -> Tensor:
        """Embedding tables `[Q, V + 2, D]` of codewords `[Q, V, codeword_size]`."""
        vectors: Tensor = self.free
        if codewords.shape[2]:
            projected = torch.bmm(codewords, self.up)
            if self.up_bias is not None and self.down is not None:
                projected = torch.bmm(nn.functional.gelu(projected + self.up_bias), self.down)
            vectors = torch.cat([projected[:FREE_LEVELS] + self.free, projected[FREE_LEVELS:]])
        return torch.cat([vectors, self.special.to(vectors.dtype)], dim=1)


def look_up(table: Tensor, codes: Tensor) -> Tensor:
    """Look up the vectors `[..., Q, D]` of codes `[..., Q]` in a table `[Q, V + 2, D]`."""
    levels, size, width = table.shape
    rows = codes + torch.arange(0, levels * size, size, device=codes.device)
    return nn.functional.embedding(rows, table.reshape(levels * size, width))


def special_token_mask(levels: int, codebook_size: int) -> Tensor:
    """Additive mask of logits `[Q, 1, V + 2]`: BOS is never predicted, EOS at the first level only."""
    logits = torch.zeros(levels, 1, codebook_size + NUM_SPECIAL_TOKENS)
    logits[:, :, bos_token(codebook_size)] = -torch.inf
    logits[1:, :, eos_token(codebook_size)] = -torch.inf
    return logits
