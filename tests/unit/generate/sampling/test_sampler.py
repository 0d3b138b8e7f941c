"""Sampling: cached equals uncached, seeds decide, limits hold, sounds end."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.codec.layout import ATOM, NOTE, NOTES, TUNING, TUNINGS
from distill.codes.sequences import Batch, bos_token, eos_token, window_start
from distill.codes.store import Codes, out_of_range
from distill.generate.sampling.processors import (
    FINEST_TEMPERATURE,
    TONE_TOP_P,
    LogitsProcessor,
    SamplingStep,
    truncation,
)
from distill.generate.sampling.sampler import (
    Sampling,
    Sequences,
    classifier_free_guidance,
    draw,
    generators,
    sample_codes,
    undo_label_smoothing,
    uniform,
)
from distill.prior.architectures import ArchitectureName
from distill.prior.artifact import build_prior
from distill.prior.base import Prior, Sampler
from distill.prior.frame import FramePrior
from unit.tiny import prior_shape

SIZES = (7, 11, 9, 6, 8)
LEVELS, SIZE, CONTEXT = len(SIZES), max(SIZES), 8


def sharp_prior(kind: ArchitectureName, labels: list[str], scale: float = 6) -> Prior:
    """A prior sharp enough that its samples depend on its inputs."""
    sizes = {"codebook_sizes": SIZES, "context_frames": CONTEXT, "hidden_size": 32}
    more = {"depth_layers": 2, "codeword_size": 5, "count_experts": True} if kind == "frame" else {}
    shape = prior_shape(kind, **sizes, num_layers=2, num_heads=4, labels=labels, **more)
    torch.manual_seed(0)
    model = build_prior(shape, torch.randn(LEVELS, SIZE, 5)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
        if model.label is not None:
            model.label.normal_()
        if isinstance(model, FramePrior) and model.count_experts is not None:
            for table in model.count_experts.buffers():
                table.normal_(std=0.05)
    return model


def sampled(prior: Prior, seed: int = 0, *processors: LogitsProcessor, **wanted: Any) -> list[Codes]:
    """Sequences of a prior from a seed."""
    sequences = Sequences(**wanted)
    return sample_codes(prior, sequences, generators(1000 * seed + row for row in range(sequences.count)), processors)


LABELLED = {kind: sharp_prior(kind, ["a", "b"]) for kind in ("frame", "flat", "memory")}


@pytest.fixture(scope="module", params=["frame", "flat"])
def kind(request: pytest.FixtureRequest) -> ArchitectureName:
    return request.param


@pytest.fixture(scope="module")
def prior(kind: ArchitectureName) -> Prior:
    return sharp_prior(kind, [])


def recomputed(prior: Prior, codes: torch.Tensor, frame: int, labels: torch.Tensor | None = None) -> torch.Tensor:
    """Logits `[B, Q, V + 2]` of frame `frame` of `codes` `[B, F, Q]`, from all of its window at once."""
    begin = torch.full((len(codes), 1, LEVELS), bos_token(SIZE))
    start = window_start(frame + 1, CONTEXT)
    frames = torch.cat([begin, codes], dim=1)[:, start:]
    inputs, targets = frames[:, : frame + 1 - start], frames[:, 1 : frame + 2 - start]
    positions = torch.full((len(codes),), start)
    return prior(Batch(inputs, targets, positions, labels))[:, -1]


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("prompted", [0, 1, 5, 7, 8, 9, 40])
def test_cached_logits_are_those_of_the_window_at_every_frame(kind: str, labelled: bool, prompted: int) -> None:
    """Through several windows, and after prompts of any length."""
    prior = sharp_prior(kind, ["a", "b"] if labelled else [], 1.5)
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 2]) if labelled else None
    past = torch.randint(0, SIZE, (3, prompted, LEVELS), generator=generator)
    sampler = Sampler(prior, past, torch.zeros(3, dtype=torch.int64) if labels is None else labels)
    seen: dict[tuple[int, int], torch.Tensor] = {}

    def draw_any(logits: torch.Tensor, coarser: torch.Tensor, frame: int) -> torch.Tensor:
        seen[frame, coarser.shape[1]] = logits.clone()
        return torch.randint(0, SIZE, (3,), generator=generator)

    with torch.no_grad():
        drawn = torch.stack([sampler.next_frame(draw_any) for _ in range(26)], dim=1)
        codes = torch.cat([past, drawn], dim=1)
        for frame in range(prompted, prompted + 26 - LEVELS):
            whole = recomputed(prior, codes, frame, labels)
            for level in range(LEVELS):
                torch.testing.assert_close(seen[frame, level][:, :SIZE], whole[:, level, :SIZE], rtol=0, atol=1e-5)


def test_sounds_that_are_left_out_change_nothing_for_the_others(kind: str) -> None:
    prior = sharp_prior(kind, ["a", "b"], 1.5)
    generator = torch.Generator().manual_seed(0)
    labels, kept = torch.tensor([0, 1, 2, 1]), torch.tensor([1, 2])
    past = torch.randint(0, SIZE, (4, 3, LEVELS), generator=generator)
    codes = torch.randint(0, SIZE, (4, 40, LEVELS), generator=generator)
    seen: list[list[torch.Tensor]] = [[], []]
    with torch.no_grad():
        for number, logits_of_frames in enumerate(seen):
            sampler, rows = Sampler(prior, past, labels), torch.arange(4)

            def draw_given(logits: torch.Tensor, coarser: torch.Tensor, frame: int) -> torch.Tensor:
                logits_of_frames.append(logits[-2:] if len(logits) == 2 else logits[1:3])  # noqa: B023
                return codes[rows, frame, coarser.shape[1]]  # noqa: B023

            for frame in range(20):
                if number and frame == 6:
                    sampler.keep(kept)
                    rows = kept
                sampler.next_frame(draw_given)
    for one, two in zip(*seen, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-5)


def test_labels_and_prompts_change_what_is_drawn(kind: str) -> None:
    prior = sharp_prior(kind, ["a", "b"])
    prompt = np.full((5, LEVELS), 3)

    def drawn(sampling: Sampling = Sampling(), **others: object) -> np.ndarray:  # noqa: B008
        wanted = {"count": 3, "max_frames": 6, "sampling": sampling, "natural_ending": False, **others}
        return np.stack(sampled(prior, 2, **wanted))

    plain, one, two, guided = drawn(), drawn(label=1), drawn(label=2), drawn(Sampling(guidance=4.0), label=1)
    assert len({codes.tobytes() for codes in (plain, one, two, guided, drawn(prompt=prompt))}) == 5
    np.testing.assert_array_equal(drawn(Sampling(guidance=4.0)), plain)
    assert guided.shape == plain.shape == (3, 6, LEVELS)


def test_guidance_amplifies_what_a_label_changes() -> None:
    labelled, plain = torch.randn(1, 5), torch.randn(1, 5)
    for strength, same in ((1.0, labelled), (0.0, plain)):
        torch.testing.assert_close(classifier_free_guidance(labelled, plain, strength).softmax(1), same.softmax(1))
    change = classifier_free_guidance(labelled, plain, 3.0) - plain.log_softmax(1)
    torch.testing.assert_close(change, 3 * (labelled.log_softmax(1) - plain.log_softmax(1)))
    labelled[0, 1] = -torch.inf
    assert classifier_free_guidance(labelled, plain, 3.0)[0, 1] == -torch.inf


@pytest.mark.parametrize("frames", [1, 7, 8, 61])
def test_seeds_decide_and_lengths_beyond_the_context_hold_codes_only(prior: Prior, frames: int) -> None:
    one, again, other = (
        np.stack(sampled(prior, seed, count=3, max_frames=frames, natural_ending=False, sampling=Sampling(10.0)))
        for seed in (0, 0, 1)
    )
    assert one.shape == (3, frames, LEVELS)
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert torch.backends.mkldnn.enabled  # as before


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 10.0), st.integers(0, 15), st.floats(0.001, 1.0), st.floats(0.0, 20.0), st.integers(0, 2**50))
def test_codes_are_those_of_their_level_whatever_the_settings(
    kind: ArchitectureName, temperature: float, top_k: int, top_p: float, guidance: float, seed: int
) -> None:
    settings, prompt = Sampling(temperature, top_k, top_p, guidance), np.array([[size - 1 for size in SIZES]] * 3)
    given = {"label": 1, "prompt": prompt} if seed % 2 else {}
    wanted = {"count": 4, "max_frames": 12, "sampling": settings, "natural_ending": seed % 4 > 1, **given}
    for codes in sampled(LABELLED[kind], seed, **wanted):
        assert out_of_range(codes, SIZES) == ""


def ending(prior: Prior, chance: float) -> Prior:
    """The same prior with another probability of EOS."""
    eager = copy.deepcopy(prior)

    def next_logits(codes: torch.Tensor, state: Any) -> torch.Tensor:
        logits = prior.next_logits(codes, state).clone()
        if not codes.shape[1]:
            rest = logits[:, :SIZE].logsumexp(dim=-1)
            logits[:, eos_token(SIZE)] = rest + math.log(chance / (1 - chance))
        return logits

    eager.next_logits = next_logits  # type: ignore[method-assign]
    return eager


def test_sounds_end_where_the_prior_says_so(prior: Prior) -> None:
    lengths = [len(codes) for codes in sampled(ending(prior, 0.1), count=400, max_frames=200)]
    assert 1 <= min(lengths) < max(lengths) <= 200
    assert 8 < np.mean(lengths) < 12
    assert [len(codes) for codes in sampled(ending(prior, 1 - 1e-12), count=3, max_frames=50)] == [1, 1, 1]


def test_sharpening_undoes_smoothed_labels() -> None:
    labels = torch.tensor([[0.7, 0.2, 0.1, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5, 0.0]])
    codes = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]]) / 4  # the last column is a special token
    smoothed = 0.6 * labels + 0.4 * codes
    torch.testing.assert_close(undo_label_smoothing(smoothed.log(), 0.4, 4) / 0.6, labels, rtol=0, atol=1e-6)
    torch.testing.assert_close(undo_label_smoothing(smoothed.log(), 0.0, 4), smoothed)
    assert undo_label_smoothing(torch.zeros(1, 4), 1.0, 4).sum() > 0


@given(st.integers(1, 11), st.floats(0.05, 1.0), st.integers(0, 100))
def test_drawn_tokens_are_among_the_likeliest(top_k: int, top_p: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 11, generator=generator)
    step = SamplingStep(
        0, 0, torch.arange(6), torch.zeros(6, 0, dtype=torch.int64), torch.zeros(6, 1, 1, dtype=torch.int64)
    )
    drawn = draw(truncation(0.8, top_k, top_p)(logits.softmax(dim=-1), step), uniform(generator, 6))
    for row, token in zip((logits / 0.8).softmax(dim=-1), drawn, strict=True):
        order = row.argsort(descending=True)
        rank = int((order == token).nonzero())
        kept = row[order[:top_k]] / row[order[:top_k]].sum()
        assert rank < top_k
        assert float(kept[:rank].sum()) < top_p + 1e-5


def test_tones_are_drawn_from_the_likeliest_and_others_from_all() -> None:
    sizes = (5, NOTES, TUNINGS, 6, 4)
    prior = build_prior(prior_shape("flat", codebook_sizes=sizes, context_frames=4, hidden_size=8), None).eval()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.zero_()  # all codes are equally likely
    codes = np.concatenate(sampled(prior, count=400, max_frames=4, natural_ending=False))
    found = [len(np.unique(codes[:, level])) for level in range(len(sizes))]
    assert found == [5, *(math.ceil(TONE_TOP_P[level] * sizes[level]) for level in (NOTE, TUNING, ATOM)), 4]


def test_fine_shapes_beside_a_tone_are_drawn_cooler() -> None:
    sizes = (2, NOTES, TUNINGS, 6, 2, 2, 2)
    more = {"depth_layers": 1, "codeword_size": 3, "count_experts": False}
    prior = build_prior(
        prior_shape("frame", codebook_sizes=sizes, context_frames=4, hidden_size=8, **more), None
    ).eval()
    assert isinstance(prior, FramePrior)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.zero_()
        prior.bias[:, 0, 0] = 1.0
        prior.bias[NOTE, 0, 0] = math.log(NOTES)  # half of the frames have no tone
        for level in range(len(sizes)):
            prior.pointer_mixture.copy_nothing(level)
    codes = np.concatenate(sampled(prior, count=8000, max_frames=4, natural_ending=False))
    temperatures = {True: [1.0, 1.0, 2 / (1 + 1 / FINEST_TEMPERATURE), FINEST_TEMPERATURE], False: [1.0] * 4}
    for has_tone, expected in temperatures.items():
        drawn = codes[(codes[:, NOTE] > 0) == has_tone][:, [0, 4, 5, 6]]
        assert len(drawn) > 1000
        shares = [1 / (1 + math.exp(-1 / temperature)) for temperature in expected]
        assert (drawn == 0).mean(axis=0) == pytest.approx(shares, abs=0.01)


def test_no_sound_outlasts_the_longest_that_was_learnt() -> None:
    endless, prompt = sharp_prior("frame", []), np.zeros((4, LEVELS), dtype=np.int64)
    lengths = [len(codes) for codes in sampled(endless, count=40, max_frames=20)]
    endless.longest.fill_(6)
    limited = [len(codes) for codes in sampled(endless, count=40, max_frames=20)]
    assert max(lengths) > 6
    assert limited == [min(6, length) for length in lengths]
    assert [len(codes) for codes in sampled(endless, count=2, max_frames=20, natural_ending=False)] == [20, 20]
    assert max(len(codes) for codes in sampled(endless, count=40, max_frames=20, prompt=prompt)) > 6


def test_tokens_are_drawn_as_often_as_they_weigh() -> None:
    weights = torch.tensor([0.0, 0.5, 0.0, 1.5, 0.25, 0.0])
    drawn = draw(weights.expand(100_000, -1), uniform(torch.Generator().manual_seed(0), 100_000))
    shares = torch.bincount(drawn, minlength=6) / len(drawn)
    torch.testing.assert_close(shares, weights / weights.sum(), rtol=0, atol=0.005)
    assert not shares[weights == 0].any()
