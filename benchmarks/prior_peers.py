"""Peers of the prior: transformers of the same shape, written plainly or taken from a library."""

import importlib
import importlib.util
import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

Build = Callable[["Shape"], nn.Module]
OURS = "ours, CodePrior"


class Shape:
    """The compared shape: width 256, 4 layers, 4 heads, 128 codes."""

    width, layers, heads, codes, tokens, batch = 256, 4, 4, 128, 188, 32


def peers() -> dict[str, Build]:
    """Builders of networks from tokens `[B, T]` to logits `[B, T, V]`; x-transformers where it is installed."""
    found: dict[str, Build] = {"nanoGPT-style": PlainDecoder, "torch encoder": TorchEncoder}
    if importlib.util.find_spec("x_transformers") is not None:
        found["x-transformers"] = lambda shape: x_transformers(shape, shape.tokens)
    return found


class PlainDecoder(nn.Module):
    """nanoGPT-style decoder: learnt positions, fused attention, GELU, tied embedding, no dropout."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed = nn.Embedding(shape.codes, shape.width)
        self.position = nn.Embedding(shape.tokens, shape.width)
        self.layers = nn.ModuleList(_PlainLayer(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits `[B, T, V]` of tokens `[B, T]`."""
        x = self.embed(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        for layer in self.layers:
            x = layer(x)
        return cast(Tensor, self.norm(x) @ self.embed.weight.T)


class _PlainLayer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.first, self.second = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.qkv, self.out = nn.Linear(shape.width, 3 * shape.width), nn.Linear(shape.width, shape.width)
        self.up, self.down = nn.Linear(shape.width, 4 * shape.width), nn.Linear(4 * shape.width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        parts = self.qkv(self.first(x)).split(width, dim=2)
        query, key, value = (part.view(batch, count, self.heads, -1).transpose(1, 2) for part in parts)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, count, width))
        return cast(Tensor, x + self.down(nn.functional.gelu(self.up(self.second(x)))))


class TorchEncoder(nn.Module):
    """Encoder layers of torch with a causal mask."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed = nn.Embedding(shape.codes, shape.width)
        self.position = nn.Embedding(shape.tokens, shape.width)
        layer = nn.TransformerEncoderLayer(
            shape.width, shape.heads, 4 * shape.width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, shape.layers, nn.LayerNorm(shape.width), enable_nested_tensor=False)
        self.head = nn.Linear(shape.width, shape.codes, bias=False)
        self.register_buffer("mask", torch.full((shape.tokens, shape.tokens), -math.inf).triu(1), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits `[B, T, V]` of tokens `[B, T]`."""
        x = self.embed(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        mask = cast(Tensor, self.mask)
        return cast(Tensor, self.head(self.encoder(x, mask=mask, is_causal=True)))


def x_transformers(shape: Shape, positions: int) -> nn.Module:
    """Decoder of x-transformers for at most `positions` tokens."""
    library = importlib.import_module("x_transformers")
    decoder = library.Decoder(dim=shape.width, depth=shape.layers, heads=shape.heads, attn_flash=True)
    return cast(
        nn.Module, library.TransformerWrapper(num_tokens=shape.codes, max_seq_len=positions, attn_layers=decoder)
    )
