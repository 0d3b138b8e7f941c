"""Sampling: cached equals uncached, seeds decide, limits hold, sounds end."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.codes.sequences import begin_mark, end_mark
from distill.generate.sampler import Sampling, draw, sample_codes, sharpened
from distill.models.prior import Draw, Prior
from distill.models.priors import PriorShape, build_prior

LEVELS, SIZE = 3, 11


@pytest.fixture(scope="module", params=["frame", "delay", "flat"])
def prior(request: pytest.FixtureRequest) -> Prior:
    """Sharp enough that what it draws depends on what it has seen."""
    flat = request.param == "flat"
    shape = PriorShape(
        architecture=request.param,
        codebook_size=SIZE,
        num_quantizers=LEVELS,
        context_frames=8,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        depth_layers=2 if request.param == "frame" else 0,
        codeword_size=0 if flat else 5,
    )
    torch.manual_seed(0)
    model = build_prior(shape, torch.randn(LEVELS, SIZE, 5)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)
    return model


def test_what_is_drawn_is_what_recomputing_everything_would_draw(prior: Prior) -> None:
    """Within the context: every draw's logits are those of the whole sound seen at once."""
    frames = 8 - (LEVELS - 1)  # a delayed window knows no codes beyond its end
    drawn = torch.from_numpy(np.stack(sample_codes(prior, 4, 8, 5, Sampling(temperature=1e-5), natural_ending=False)))
    begin = torch.full((4, 1, LEVELS), begin_mark(SIZE))
    with torch.no_grad():
        logits = prior(torch.cat([begin, drawn[:, :-1]], dim=1), drawn, torch.zeros(4, dtype=torch.int64))
    assert torch.equal(logits[..., :SIZE].argmax(dim=-1)[:, :frames], drawn[:, :frames])


def test_the_same_seed_gives_the_same_codes_and_another_gives_others(prior: Prior) -> None:
    one, again, other = (
        np.stack(sample_codes(prior, 2, 30, seed, Sampling(10.0), natural_ending=False)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 20, 61])
def test_lengths_beyond_the_context_work_and_hold_codes_only(prior: Prior, frames: int) -> None:
    for codes in sample_codes(prior, 3, frames, 0, Sampling(), natural_ending=False):
        assert codes.shape == (frames, LEVELS)
        assert codes.min() >= 0
        assert codes.max() < SIZE


def ending(prior: Prior, chance: float) -> Prior:
    """The same prior with another opinion of when to end."""

    class Eager:
        codebook_size = SIZE
        spread = torch.zeros(LEVELS)

        def sampler(self, count: int) -> object:
            inner = prior.sampler(count)

            class Sampler:
                def next_frame(self, draw: Draw) -> torch.Tensor:
                    def drawn(logits: torch.Tensor, level: int, frame: int) -> torch.Tensor:
                        logits = logits.clone()
                        if level == 0:
                            rest = logits[:, :SIZE].logsumexp(dim=-1)
                            logits[:, end_mark(SIZE)] = rest + math.log(chance / (1 - chance))
                        return draw(logits, level, frame)

                    return inner.next_frame(drawn)

            return Sampler()

    return Eager()  # type: ignore[return-value]


def test_sounds_end_where_the_prior_says_so(prior: Prior) -> None:
    lengths = [len(codes) for codes in sample_codes(ending(prior, 0.1), 400, 200, 0, Sampling())]
    assert 1 <= min(lengths) < max(lengths) <= 200
    assert 8 < np.mean(lengths) < 12


def test_an_eager_end_still_leaves_one_frame(prior: Prior) -> None:
    assert [len(codes) for codes in sample_codes(ending(prior, 1 - 1e-12), 3, 50, 0, Sampling())] == [1, 1, 1]


def test_sharpening_undoes_smoothed_labels() -> None:
    labels = torch.tensor([[0.7, 0.2, 0.1, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5, 0.0]])
    codes = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]]) / 4  # the last column is a mark
    learnt = 0.6 * labels + 0.4 * codes
    torch.testing.assert_close(sharpened(learnt.log(), 0.4, 4).exp() / 0.6, labels, rtol=0, atol=1e-6)
    torch.testing.assert_close(sharpened(learnt.log(), 0.0, 4), learnt.log())
    assert torch.isfinite(sharpened(torch.zeros(1, 5), 1.0, 4)).any()


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
