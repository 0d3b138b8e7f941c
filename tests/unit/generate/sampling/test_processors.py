"""Policies of drawing: each by itself, and any of them together, which always leave something to draw from."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.codec.layout import NOTE, NOTES, TUNINGS, FrameLayout
from distill.codes.sequences import eos_token
from distill.codes.store import out_of_range
from distill.generate.following.processors import follow_loudness, without_tone
from distill.generate.requests.fill import near_loudness
from distill.generate.sampling.motion import Motions
from distill.generate.sampling.processors import (
    LogitsProcessor,
    Sampling,
    SamplingStep,
    cool_fine_shapes,
    first_possible,
    follow,
    keep,
    pull_to,
    truncation,
)
from distill.generate.sampling.sampler import (
    Sequences,
    classifier_free_guidance,
    draw,
    generators,
    sample_codes,
    undo_label_smoothing,
    uniform,
)
from distill.generate.sampling.tuner import NoteWeights, Tuner
from distill.prior.courses import Course
from unit.pitched import networks
from unit.tiny import any_codes

SIZES = (71, NOTES, TUNINGS, 7, 8, 8)
LAYOUT = FrameLayout(SIZES)
EOS = eos_token(max(SIZES))
COUNT, FRAMES = 4, 6
STRING = 2


def some_codes(seed: int, frames: int = FRAMES) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    levels = [torch.randint(0, size, (COUNT, frames), generator=generator) for size in SIZES]
    return torch.stack(levels, dim=2)


def processors(seed: int) -> dict[str, LogitsProcessor]:
    """Each policy, with random arguments, extreme ones among them."""
    rng = np.random.default_rng(seed)
    kept = some_codes(seed)
    kept[torch.from_numpy(rng.random(kept.shape) < 0.5)] = -1
    targets = torch.from_numpy(rng.choice([math.nan, 0.0, 3.3, 60.0, 127.0], (COUNT, int(rng.integers(1, FRAMES)))))
    intervals = torch.tensor([0.0, 1e3 if rng.random() < 0.5 else 7.02], dtype=torch.float64)
    sets = torch.from_numpy(rng.dirichlet([0.1, 0.1], NOTES)) * (rng.random() < 0.8)
    codebooks = [torch.randn(size, 3) * 10.0 ** rng.integers(-9, 9) for size in SIZES]
    courses = torch.from_numpy(rng.integers(0, 71, (COUNT, FRAMES)))
    courses[:, int(rng.integers(1, FRAMES)) :] = EOS
    loudness = courses.double().masked_fill(courses == EOS, math.nan)
    return {
        "cool": cool_fine_shapes(LAYOUT),
        "notes": NoteWeights(targets, intervals, sets),
        "pull": pull_to(codebooks, some_codes(seed + 1)[0], float(rng.random())),
        "kept": keep(kept),
        "courses": follow(courses, max(SIZES), (rng.random(COUNT) < 0.5).tolist()),
        "followed": follow_loudness(loudness, EOS, float(rng.choice([0.0, 0.3, 1.0]))),
        "toneless": without_tone(targets.isnan()[:, :1].expand(-1, FRAMES), float(rng.choice([0.0, 0.5]))),
        "between": near_loudness(loudness[0].nan_to_num(), 1.0 + torch.arange(FRAMES)),
        "truncation": truncation(
            float(rng.choice([0.01, 0.5, 1.0, 10.0])),
            int(rng.integers(0, 9)),
            float(rng.choice([1e-3, 0.5, 1.0])),
        ),
    }


def some_shares(level: int, is_first: bool, seed: int) -> torch.Tensor:
    """Probabilities of a network with finite logits, of which some codes are impossible, guided and with no smoothing."""
    rng = np.random.default_rng(seed)
    size = SIZES[level] if level or is_first else max(SIZES) + 2
    logits = torch.from_numpy(rng.normal(size=(2, COUNT, size)) * rng.choice([0.1, 1.0, 30.0, 1e4])).float()
    logits[:, torch.from_numpy(rng.random((COUNT, size)) < rng.choice([0.0, 0.5]))] = -torch.inf
    logits[:, :, int(rng.integers(SIZES[level]))] = 0.0
    guided = classifier_free_guidance(*logits, float(rng.choice([0.0, 1.0, 2.5, 20.0])))
    return undo_label_smoothing(guided, float(rng.choice([0.0, 0.4, 1.0])), SIZES[level])


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32), st.sets(st.sampled_from(sorted(processors(0)))), st.integers(0, 5), st.integers(0, 5))
def test_any_policies_together_leave_something_to_draw_from(
    seed: int, chosen: set[str], level: int, frame: int
) -> None:
    codes = some_codes(seed)
    if seed % 2:
        codes[:, :, NOTE] = 0  # no tone has begun
    codes[:, frame:] = 0
    step = SamplingStep(frame, level, torch.arange(COUNT), some_codes(seed)[:, frame, :level], codes)
    shares = some_shares(level, frame == 0, seed)
    for name, processor in processors(seed).items():
        if name in chosen:
            shares = processor(shares, step)
            assert shares.isfinite().all(), name
            assert (shares >= 0).all(), name
            assert (shares.sum(dim=1) > 0).all(), name
    drawn = draw(shares, uniform(torch.Generator().manual_seed(seed % 2**62), len(shares)))
    assert (shares.gather(1, drawn[:, None]) > 0).all()


PAIRS = list(
    itertools.combinations(("notes", "guidance", "courses", "prompt", "truncation", "length", "take", "motion"), 2)
)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_each_pair_of_what_a_sound_can_be_asked_for_gives_codes(pair: tuple[str, str]) -> None:
    codec, prior = networks()
    frames, recording = 12, np.zeros((12, prior.num_quantizers), np.int64)
    recording[:, 0], recording[:, NOTE : NOTE + 3] = 50, [60, 8, 1]
    wanted: dict[str, Any] = {"label": STRING, "natural_ending": not {"length", "take"} & {*pair}}
    guidance = 2.5 if "guidance" in pair else 1.0
    wanted["sampling"] = Sampling(0.7, 20, 0.9, guidance) if "truncation" in pair else Sampling(guidance=guidance)
    if "prompt" in pair:
        wanted["prompt"] = recording[:4]
    chosen: list[LogitsProcessor] = []
    if "notes" in pair:
        tuner = Tuner(codec, prior)
        chosen.append(tuner.following(recording, 3) if "take" in pair else tuner.weights([48, 60, 72]))
    if "take" in pair:
        kept = torch.from_numpy(np.where(np.arange(prior.num_quantizers) < 4, recording, -1)).expand(3, -1, -1)
        chosen += [pull_to(codec.code_vectors(), torch.from_numpy(recording), 0.5), keep(kept)]
    if "courses" in pair:
        chosen.append(follow(torch.full((3, frames), 40), prior.codebook_size, [False, True, False]))
    if "motion" in pair:
        loudness = torch.full((frames,), 50.0)
        courses = [Course(0, torch.arange(frames), loudness, in_time) for in_time in (True, False, True)]
        chosen.append(Motions(codec, [recording]).beats(courses))
    for codes in sample_codes(prior, Sequences(3, frames, **wanted), generators(range(3)), chosen):
        assert out_of_range(codes, prior.shape.codebook_sizes) == ""
        assert 1 <= len(codes) <= frames


def test_kept_codes_stay_and_the_others_are_drawn_given_them() -> None:
    """Through several windows; drawn codes follow what is kept before them, and not what is kept after them."""
    _, prior = networks()
    codes = any_codes(35, np.random.default_rng(1))
    kept = np.where(np.random.default_rng(2).random((6, *codes.shape)) < 0.6, codes, -1)
    late = kept.copy()
    late[:, 30:] = 0
    takes, again = (
        sample_codes(
            prior,
            Sequences(6, 35, natural_ending=False),
            generators(range(6)),
            [keep(torch.from_numpy(fixed))],
        )
        for fixed in (kept, late)
    )
    for take, own, other in zip(takes, kept, again, strict=True):
        np.testing.assert_array_equal(take[own >= 0], own[own >= 0])
        np.testing.assert_array_equal(take[:30], other[:30])
    assert len({take[kept[0] < 0].tobytes() for take in takes}) > 1


def test_a_pull_favours_codewords_near_the_recordings() -> None:
    codebook, recording = torch.arange(8.0)[:, None], torch.full((2, 1), 3)
    step = SamplingStep(
        1, 0, torch.arange(1), torch.zeros(1, 0, dtype=torch.int64), torch.zeros(1, 2, 1, dtype=torch.int64)
    )
    weak, strong = (
        pull_to([codebook], recording, strength)(torch.full((1, 8), 1 / 8), step)[0] for strength in (0.9, 0.1)
    )
    for weights in (weak, strong):
        assert (weights[:4].diff() > 0).all()
        assert (weights[3:].diff() < 0).all()
    assert strong[4] / strong[3] < weak[4] / weak[3] < 1


def test_weights_that_leave_nothing_do_not_count() -> None:
    shares, nothing = torch.tensor([[0.5, 0.5], [0.5, 0.5]]), torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    torch.testing.assert_close(first_possible(shares * nothing, shares), torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
