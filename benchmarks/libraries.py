"""Peers of the prior for the same shape: transformers of libraries, to train and to sample."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Shape:
    """The compared shape: width 256, 4 layers, 4 heads, 128 codes."""

    width, layers, heads, codes, tokens, batch = 256, 4, 4, 128, 188, 32


def to_train() -> dict[str, Callable[[], nn.Module]]:
    """For each library that is installed: a builder of a network from tokens `[B, T]` to logits `[B, T, V]`."""
    return (
        {"x-transformers": lambda: _x_transformers(Shape.tokens)}
        if _is_installed("x_transformers")
        else {}
    )


def to_sample() -> dict[str, Callable[[int], Callable[[], object]]]:
    """For each library that is installed: from a batch size to a function that samples with a cache of keys and values."""
    peers = {
        "transformers": ("transformers, Llama", _sample_llama),
        "x_transformers": ("x-transformers", _sample_x_transformers),
    }
    return dict(peer for package, peer in peers.items() if _is_installed(package))


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _x_transformers(positions: int) -> Any:
    """Decoder of x-transformers for at most `positions` tokens."""
    library = importlib.import_module("x_transformers")
    decoder = library.Decoder(
        dim=Shape.width, depth=Shape.layers, heads=Shape.heads, attn_flash=True
    )
    return library.TransformerWrapper(
        num_tokens=Shape.codes, max_seq_len=positions, attn_layers=decoder
    )


def _sample_x_transformers(batch: int) -> Callable[[], None]:
    library = importlib.import_module("x_transformers")
    model = library.AutoregressiveWrapper(_x_transformers(2 * Shape.tokens)).eval()

    @torch.inference_mode()
    def sample() -> None:
        tokens: Tensor = model.generate(
            torch.zeros(batch, 1, dtype=torch.long), Shape.tokens, cache_kv=True
        )
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
            tokens, past = (
                torch.multinomial(output.logits[:, -1].softmax(-1), 1),
                output.past_key_values,
            )

    return sample
