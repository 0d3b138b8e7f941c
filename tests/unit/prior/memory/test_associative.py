"""The chunkwise memory against writes and reads position by position."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from distill.prior.memory.associative import (
    associate,
    chunk_by_chunk,
    chunks_in_parallel,
    feature_pairs,
    feature_size,
    features,
    sum_of_taps,
)

SHARD = 64
CHUNKS = (1, 8, 16, 32, 64)
LENGTHS = (1, 7, SHARD - 1, SHARD, SHARD + 1, 2 * SHARD + 2)


@given(st.integers(1, 12), st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_products_of_features_are_squares_of_products(size: int, seed: int) -> None:
    x, y = torch.randn(2, 5, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    assert features(x, 2).shape == (5, feature_size(size, 2))
    torch.testing.assert_close((features(x, 2) * features(y, 2)).sum(1), (x * y).sum(1) ** 2)
    first, second, weights = feature_pairs(size, x.device)
    torch.testing.assert_close(x[:, first] * x[:, second] * weights.double(), features(x, 2))
    assert features(x, 1) is x


def slow_association(query: Tensor, key: Tensor, value: Tensor, start: Tensor, degree: int) -> tuple[Tensor, Tensor]:
    sums, read = start, []
    for q, k, v in zip(query.unbind(2), key.unbind(2), value.unbind(2), strict=True):
        sums = sums + torch.einsum("bhf,bhe->bhfe", features(k, degree), v)
        read.append(torch.einsum("bhf,bhfe->bhe", features(q, degree), sums))
    return torch.stack(read, dim=2), sums


Run = Callable[..., tuple[Tensor, Tensor]]


def compare(fast: Run, slow: Run, parts: list[Tensor], towards: Tensor, tolerance: float) -> None:
    """Compare values and gradients of both outputs."""
    results = []
    for run in (fast, slow):
        given_ = [part.clone().requires_grad_() for part in parts]
        read, sums = run(*given_)
        ((read * towards).sum() + sums.square().sum()).backward()
        results.append([read.detach(), sums.detach(), *(part.grad for part in given_)])
    for found, expected in zip(*results, strict=True):
        scale = float(expected.abs().max().clamp_min(1.0))
        assert float((found - expected).abs().max()) <= tolerance * scale


def parts_of(length: int, degree: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(length)
    size, width = 5, 3

    def unit(*shape: int) -> Tensor:
        drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return torch.nn.functional.normalize(drawn, dim=-1).to(dtype)

    sums = torch.randn(2, 2, feature_size(size, degree), width, generator=generator, dtype=torch.float64).to(dtype)
    return [unit(2, 2, length, size), unit(2, 2, length, size), unit(2, 2, length, width), sums]


@pytest.mark.parametrize("run", [chunk_by_chunk, chunks_in_parallel])
@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_chunks_equal_position_by_position(
    run: Run, length: int, degree: int, dtype: torch.dtype, tolerance: float
) -> None:
    parts = parts_of(length, degree, dtype)
    towards = torch.randn(2, 2, length, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    for chunk in CHUNKS:
        compare(
            lambda *given, chunk=chunk: run(*given, chunk, degree),
            lambda *given: slow_association(*given, degree),
            parts,
            towards,
            tolerance,
        )


@pytest.mark.parametrize("run", [chunk_by_chunk, chunks_in_parallel])
def test_a_memory_computed_in_bf16_is_read_in_fp32(run: Run) -> None:
    query, key, value, sums = parts_of(20, 2, torch.float32)
    expected = run(query, key, value, sums.bfloat16().float(), 8, 2)
    torch.testing.assert_close(run(query, key, value, sums.bfloat16(), 8, 2), expected, rtol=0, atol=0)


@pytest.mark.parametrize("cut", [1, 8, 37])
def test_a_sequence_continues_from_its_state(cut: int) -> None:
    query, key, value, sums = parts_of(50, 2, torch.float64)
    read, after = associate(query, key, value, sums, 8, 2)
    first, between = associate(query[:, :, :cut], key[:, :, :cut], value[:, :, :cut], sums, 8, 2)
    second, end = associate(query[:, :, cut:], key[:, :, cut:], value[:, :, cut:], between, 8, 2)
    torch.testing.assert_close(torch.cat([first, second], dim=2), read)
    torch.testing.assert_close(end, after)


@pytest.mark.parametrize(("size", "tolerance"), [(16, 0.05), (32, 0.04)])
def test_retrieval_cosine_follows_the_formula(size: int, tolerance: float) -> None:
    """The cosine of one value of a hundred and one: (1 + 3 n / (d (d + 2))) ** -1/2 with features of degree 2."""
    generator, count = torch.Generator().manual_seed(0), 100
    cosines = []
    for _ in range(64):
        keys = torch.nn.functional.normalize(torch.randn(count + 1, size, generator=generator), dim=1)
        values = torch.nn.functional.normalize(torch.randn(count + 1, 64, generator=generator), dim=1)
        _, sums = associate(keys[None], keys[None], values[None], torch.zeros(1, feature_size(size, 2), 64), 16, 2)
        read = features(keys[:1], 2) @ sums[0]
        cosines.append(float(torch.nn.functional.cosine_similarity(read, values[:1])))
    expected = (1 + 3 * count / (size * (size + 2))) ** -0.5
    assert abs(sum(cosines) / len(cosines) - expected) < tolerance


def test_sum_of_taps_is_a_causal_convolution() -> None:
    inputs, taps = torch.randn(2, 9, 3), torch.randn(4, 3)
    expected = torch.stack([(inputs[:, position : position + 4] * taps).sum(dim=1) for position in range(6)], dim=1)
    torch.testing.assert_close(sum_of_taps(inputs, taps), expected)
