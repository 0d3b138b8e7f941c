"""Peers of the prior for the same shape: transformers written plainly or taken from a library, to train and to sample."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn


class Shape:
    """The compared shape: width 256, 4 layers, 4 heads, 128 codes."""

    width, layers, heads, codes, tokens, batch = 256, 4, 4, 128, 188, 32


def to_train() -> dict[str, Callable[[], nn.Module]]:
    """Builders of networks from tokens `[B, T]` to logits `[B, T, V]`; x-transformers where it is installed."""
    x_transformers = (
        {"x-transformers": lambda: _x_transformers(Shape.tokens)} if _is_installed("x_transformers") else {}
    )
    return {"nanoGPT-style": PlainDecoder, **x_transformers}


def to_sample() -> dict[str, Callable[[int], Callable[[], object]]]:
    """For each library that is installed: from a batch size to a function that samples with a cache of keys and values."""
    peers = {
        "transformers": ("transformers, Llama", _sample_llama),
        "x_transformers": ("x-transformers", _sample_x_transformers),
    }
    return dict(peer for package, peer in peers.items() if _is_installed(package))


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


class PlainDecoder(nn.Module):
    """nanoGPT-style decoder: learnt positions, fused attention, GELU, tied embedding, no dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(Shape.codes, Shape.width)
        self.position = nn.Embedding(Shape.tokens, Shape.width)
        self.layers = nn.ModuleList(_PlainLayer() for _ in range(Shape.layers))
        self.norm = nn.LayerNorm(Shape.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits `[B, T, V]` of tokens `[B, T]`."""
        x = self.embed(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        for layer in self.layers:
            x = layer(x)
        return cast(Tensor, self.norm(x) @ self.embed.weight.T)


class _PlainLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = Shape.width
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        parts = self.qkv(self.first(x)).split(width, dim=2)
        query, key, value = (part.view(batch, count, Shape.heads, -1).transpose(1, 2) for part in parts)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, count, width))
        return cast(Tensor, x + self.down(nn.functional.gelu(self.up(self.second(x)))))


def _x_transformers(positions: int) -> Any:
    """Decoder of x-transformers for at most `positions` tokens."""
    library = importlib.import_module("x_transformers")
    decoder = library.Decoder(dim=Shape.width, depth=Shape.layers, heads=Shape.heads, attn_flash=True)
    return library.TransformerWrapper(num_tokens=Shape.codes, max_seq_len=positions, attn_layers=decoder)


def _sample_x_transformers(batch: int) -> Callable[[], None]:
    library = importlib.import_module("x_transformers")
    model = library.AutoregressiveWrapper(_x_transformers(2 * Shape.tokens)).eval()

    @torch.inference_mode()
    def sample() -> None:
        tokens: Tensor = model.generate(torch.zeros(batch, 1, dtype=torch.long), Shape.tokens, cache_kv=True)
        assert tokens.shape[1] == Shape.tokens

    return sample


def _sample_llama(batch: int) -> Callable[[], None]:
    """Llama of transformers with its KV cache in a minimal loop: its own `generate` is no faster."""
    library = importlib.import_module("transformers")
    config = library.LlamaConfig(
        vocab_size=Shape.codes,
        hidden_size=Shape.width,
        intermediate_size=688,  # three matrices of this width have as many weights as two of width 4 x 256
        num_hidden_layers=Shape.layers,
        num_attention_heads=Shape.heads,
        num_key_value_heads=Shape.heads,
        max_position_embeddings=2 * Shape.tokens,
    )
    model = library.LlamaForCausalLM(config).eval()

    @torch.inference_mode()
    def sample() -> None:
        tokens, past = torch.zeros(batch, 1, dtype=torch.long), None
        for _ in range(Shape.tokens):
            output = model(input_ids=tokens, past_key_values=past, use_cache=True)
            tokens, past = torch.multinomial(output.logits[:, -1].softmax(-1), 1), output.past_key_values

    return sample
