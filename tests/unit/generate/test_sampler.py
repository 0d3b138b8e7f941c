"""Sampling: cached equals uncached, seeds decide, limits hold, sounds end."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.codes.sequences import begin_token, end_token
from distill.generate.sampler import Sampling, draw, sample_codes
from distill.models.prior import CodePrior

LEVELS, SIZE = 3, 11


@pytest.fixture(scope="module")
def prior() -> CodePrior:
    torch.manual_seed(0)
    model = CodePrior(SIZE, 24, LEVELS, 32, 2, 4, 0.0, num_special_tokens=2).eval()
    with torch.no_grad():
        model.head.weight.mul_(40)
    return model


def uncached(prior: CodePrior, count: int, frames: int, seed: int) -> torch.Tensor:
    """Every step recomputes its window from nothing; only valid within `seq_len`."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.full((count, 1), begin_token(SIZE))
    for _ in range(frames * LEVELS):
        with torch.no_grad():
            logits = prior(tokens)[:, -1]
        logits[:, SIZE:] = -torch.inf
        tokens = torch.cat([tokens, draw(logits, Sampling(), generator)[:, None]], dim=1)
    return tokens[:, 1:].reshape(count, frames, LEVELS)


def test_the_cache_draws_what_recomputing_draws(prior: CodePrior) -> None:
    drawn = sample_codes(prior, 4, 8, seed=5, sampling=Sampling(), natural_ending=False)
    np.testing.assert_array_equal(np.stack(drawn), uncached(prior, 4, 8, 5).numpy())


def test_the_same_seed_gives_the_same_codes_and_another_gives_others(prior: CodePrior) -> None:
    one, again, other = (
        np.stack(sample_codes(prior, 2, 30, seed, Sampling(), natural_ending=False)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 20, 61])
def test_lengths_beyond_the_context_work_and_hold_codes_only(prior: CodePrior, frames: int) -> None:
    for codes in sample_codes(prior, 3, frames, 0, Sampling(), natural_ending=False):
        assert codes.shape == (frames, LEVELS)
        assert codes.min() >= 0
        assert codes.max() < SIZE


def test_sounds_end_where_the_prior_says_so(prior: CodePrior) -> None:
    lengths = [len(codes) for codes in sample_codes(prior, 64, 200, 0, Sampling())]
    assert 1 <= min(lengths) < max(lengths) <= 200


def test_an_eager_end_still_leaves_one_frame(prior: CodePrior) -> None:
    def end_at_once(_: CodePrior, __: object, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.clone()
        logits[..., end_token(SIZE)] = 1e9
        return logits

    handle = prior.register_forward_hook(end_at_once)
    try:
        assert [len(codes) for codes in sample_codes(prior, 3, 50, 0, Sampling())] == [1, 1, 1]
    finally:
        handle.remove()


@given(st.integers(1, 11), st.floats(0.05, 1.0), st.integers(0, 100))
def test_drawn_tokens_are_among_the_likeliest(top_k: int, top_p: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 11, generator=generator)
    drawn = draw(logits, Sampling(0.8, top_k, top_p), generator)
    for row, token in zip((logits / 0.8).softmax(dim=-1), drawn, strict=True):
        order = row.argsort(descending=True)
        rank = int((order == token).nonzero())
        kept = row[order[:top_k]] / row[order[:top_k]].sum()
        assert rank < top_k
        assert float(kept[:rank].sum()) < top_p + 1e-5


def test_low_temperature_is_greedy() -> None:
    logits = torch.tensor([[0.0, 1.0, 0.5]])
    assert draw(logits, Sampling(temperature=0.01), torch.Generator().manual_seed(0)).item() == 1
