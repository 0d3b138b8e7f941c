"""The prior: a causal transformer over flattened codes (`architecture: flat`), with a cache for sampling."""

from typing import cast

import torch
from torch import Tensor, nn

from distill.codes.patterns import flatten_codes, unflatten_codes

__all__ = ["CodePrior", "KeyValueCache", "flatten_codes", "unflatten_codes"]

INIT_STD = 0.02


class KeyValueCache:
    """Keys and values of the positions seen so far, preallocated: `[layers, 2, B, H, seq_len, D / H]`."""

    def __init__(self, prior: "CodePrior", batch_size: int) -> None:
        shape = (prior.num_layers, 2, batch_size, prior.num_heads, prior.seq_len, prior.hidden_size // prior.num_heads)
        weight = prior.head.weight
        self.memory = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        self.length = 0


class CodePrior(nn.Module):
    """GPT-style decoder: token, position and level embeddings, pre-norm causal blocks with 4x MLP, final norm, bias-free head.

    Position `i` belongs to level `i % num_quantizers`. Tokens `codebook_size` and up are `num_special_tokens` marks
    (begin, end) that have embeddings and logits of their own; V counts them.
    """

    def __init__(
        self,
        codebook_size: int,
        seq_len: int,
        num_quantizers: int,
        hidden_size: int = 256,
        num_layers: int = 4,
        num_heads: int = 4,
        dropout: float = 0.1,
        num_special_tokens: int = 0,
    ) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size {hidden_size} is no multiple of num_heads {num_heads}")
        self.codebook_size, self.seq_len, self.num_quantizers = codebook_size, seq_len, num_quantizers
        self.hidden_size, self.num_layers, self.num_heads = hidden_size, num_layers, num_heads
        vocabulary = codebook_size + num_special_tokens
        self.token_embedding = nn.Embedding(vocabulary, hidden_size)
        self.position_embedding = nn.Embedding(seq_len, hidden_size)
        self.level_embedding = nn.Embedding(num_quantizers, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(hidden_size, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)
        self.head = nn.Linear(hidden_size, vocabulary, bias=False)
        self._initialise()

    def forward(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Tokens `[B, T]` to logits `[B, T, V]` of what follows each.

        With a cache the tokens come after those it holds, which they attend to; it takes them up. Raises ValueError
        when more than `seq_len` positions come together.
        """
        start = cache.length if cache is not None else 0
        stop = start + tokens.shape[1]
        if stop > self.seq_len:
            raise ValueError(f"expected at most {self.seq_len} tokens, found {stop}")
        positions = torch.arange(start, stop, device=tokens.device)
        x = self.token_embedding(tokens) + self.position_embedding(positions)
        x = self.dropout(x + self.level_embedding(positions % self.num_quantizers))
        for layer, block in enumerate(self.blocks):
            x = block(x, None if cache is None else cache.memory[layer], start)
        if cache is not None:
            cache.length = stop
        return cast(Tensor, self.head(self.norm(x)))

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                # Each block adds two terms to the residual stream: scale them so that depth does not inflate it.
                residual = name.endswith(("project.weight", "contract.weight"))
                std = INIT_STD / (2 * self.num_layers) ** 0.5 if residual else INIT_STD
                nn.init.normal_(parameter, std=std)


class Block(nn.Module):
    """Pre-norm causal self-attention and MLP."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout_rate = num_heads, dropout
        self.attention_norm = nn.LayerNorm(width)
        self.attend = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor | None = None, start: int = 0) -> Tensor:
        """`[B, T, D]` to `[B, T, D]`; `memory` `[2, B, H, seq_len, D / H]` holds `start` earlier positions and takes up these."""
        x = x + self.dropout(self.project(self._attention(self.attention_norm(x), memory, start)))
        y = self.contract(nn.functional.gelu(self.expand(self.mlp_norm(x))))
        return x + cast(Tensor, self.dropout(y))

    def _attention(self, x: Tensor, memory: Tensor | None, start: int) -> Tensor:
        batch, count, width = x.shape
        heads = self.attend(x).view(batch, count, 3, self.num_heads, width // self.num_heads).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        mask = None
        if memory is not None:
            stop = start + count
            memory[0, :, :, start:stop], memory[1, :, :, start:stop] = key, value
            key, value = memory[0, :, :, :stop], memory[1, :, :, :stop]
            if start and count > 1:
                mask = torch.ones(count, stop, dtype=torch.bool, device=x.device).tril(start)
        mixed = nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=start == 0 and count > 1,
            dropout_p=self.dropout_rate if self.training else 0.0,
        )
        return mixed.transpose(1, 2).reshape(batch, count, width)
