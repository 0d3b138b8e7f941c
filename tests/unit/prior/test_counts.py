"""Counts of codes: tables, what they leave out, how experts add them, and the model that predicts from counts alone."""

import math
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch

from distill.codes.sequences import possible_tokens
from distill.prior.counting_baseline import CACHE_DECAYS, CACHE_TRUST, CountingModel
from distill.prior.counts import (
    TRUST,
    CountExperts,
    count,
    count_folds,
    count_tables,
    fold_tables,
    given_tokens,
    unigrams,
)
from unit.training.coded import coded

SIZES = (4, 5, 3, 2, 5, 3)
SIZE, LEVELS = max(SIZES), len(SIZES)
BOS, EOS = SIZE, SIZE + 1
POSSIBLE = possible_tokens(SIZES)


def recordings(seed: int, number: int, frames: int = 12) -> list[np.ndarray]:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    return [rng.integers(0, SIZES, (int(rng.integers(1, frames)), LEVELS)) for _ in range(number)]


def slow_counts(codes: np.ndarray, level: int) -> list[tuple[int, int, int]]:  # type: ignore[type-arg]
    """(previous, given, token) of each token of a level, one after the other."""
    rows = [[BOS] * LEVELS, *codes.tolist(), [EOS] * LEVELS]
    found = []
    for before, frame in pairwise(rows):
        if level and frame[0] == EOS:
            continue
        given = [before[4], frame[0], frame[1], frame[1], frame[3], frame[4]][level]
        found.append((before[level], given, frame[level]))
    return found


def test_counts_are_those_of_a_slow_loop_and_views_share_one_count() -> None:
    several = recordings(0, 4)
    counts = count(coded(several, views=2), SIZES)
    for level in range(LEVELS):
        previous, given = np.zeros((SIZE + 2, SIZE + 2)), np.zeros((SIZE + 2, SIZE + 2))
        for codes in several:
            for before, other, token in slow_counts(codes, level):
                previous[before, token] += 1
                given[other, token] += 1
        np.testing.assert_allclose(counts.previous[level], previous)
        np.testing.assert_allclose(counts.given[level], given)
        np.testing.assert_allclose(counts.unigram[level], previous.sum(axis=0))


def test_tables_are_smoothed_into_unigrams_and_nothing_counted_says_nothing() -> None:
    counts = count(coded(recordings(1, 6)), SIZES)
    tables, single = count_tables(counts, SIZES), unigrams(counts, SIZES)
    single = np.where(POSSIBLE, single, 0)
    np.testing.assert_allclose(single.sum(axis=1), 1)
    for table, counted in ((tables.previous, counts.previous), (tables.given, counts.given)):
        probabilities = table.double().exp().numpy() * single[:, None]
        np.testing.assert_allclose(probabilities.sum(axis=2), 1, atol=1e-5)
        expected = (counted + TRUST * single[:, None]) / (counted.sum(axis=2, keepdims=True) + TRUST)
        np.testing.assert_allclose(probabilities, expected, rtol=1e-4)
    assert tables.labelled.shape == (1, LEVELS, SIZE + 2)
    assert all(not bool(table.any()) for table in count_tables(count([], SIZES), SIZES))


def test_recordings_of_a_label_are_counted_together_and_no_label_says_nothing() -> None:
    several = coded(recordings(4, 5), 2, [2, 0, 1, 2, 0])
    counts = count(several, SIZES, 3)
    tables, single = count_tables(counts, SIZES), unigrams(counts, SIZES)
    for label, members in ((1, [2]), (2, [0, 3]), (3, [])):
        own = count([several[index] for index in members], SIZES, 3).unigram
        np.testing.assert_allclose(counts.labelled[label], own)
        expected = (own + TRUST * single) / (own.sum(axis=1, keepdims=True) + TRUST)
        np.testing.assert_allclose(tables.labelled[label].double().exp().numpy() * single, expected, rtol=1e-4)
        np.testing.assert_allclose(tables.labelled_evidence[label], np.log1p(own.sum(axis=1)), rtol=1e-5)
    assert not bool(tables.labelled[0].any())
    assert not bool(tables.labelled_evidence[0].any())


def test_a_recording_is_left_out_of_the_counts_of_its_fold_and_so_are_its_duplicates() -> None:
    groups = [str(number % 20) for number in range(40)]
    folds = count_folds(groups, 3)
    assert folds == count_folds(reversed(groups), 3) != count_folds(groups, 4)
    assert sorted(set(folds.values())) == list(range(1, 9))
    several = [
        replace(one, group=group, fold=folds[group])
        for one, group in zip(coded(recordings(2, 40), 1, range(4)), groups, strict=True)
    ]
    whole, *without = fold_tables(several, SIZES, 3)
    assert len(without) == 8
    rest = [one for one in several if one.fold != 2]
    for name, table in count_tables(count(rest, SIZES, 3), SIZES)._asdict().items():
        torch.testing.assert_close(getattr(without[1], name), table)
        assert not torch.equal(getattr(whole, name), table)


def test_experts_add_weighted_logarithms_and_take_the_tables_of_the_fold() -> None:
    several = coded(recordings(5, 10), 1, range(3))
    folds = fold_tables(several, SIZES, 2)
    experts = CountExperts((SIZE,) * LEVELS, 4, 2)
    experts.set_tables(folds)
    with torch.no_grad():
        experts.weight.copy_(torch.rand(LEVELS, 4))
        experts.evidence.copy_(torch.rand(LEVELS, 3))
    generator = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randint(SIZE, (2, 6, LEVELS), generator=generator) for _ in range(2))
    hidden = torch.randn(2, 6, LEVELS, 4, generator=generator)
    logits = torch.randn(2, 6, LEVELS, SIZE + 2, generator=generator)
    labels = torch.tensor([1, 2])

    def with_counts(*given: torch.Tensor | None) -> torch.Tensor:
        return experts(logits, hidden, experts.choose(*given), inputs, targets)  # type: ignore[no-any-return]

    added = with_counts(labels, torch.tensor([0, 3]))
    assert torch.equal(with_counts(labels, None)[0], added[0])
    assert torch.equal(with_counts(torch.tensor([0, 0])), with_counts())
    assert not torch.equal(with_counts()[0], added[0])
    given = given_tokens(inputs, targets)
    for row, frame, level in product(range(2), range(6), range(LEVELS)):
        tables = folds[(0, 3)[row]]
        before, other = int(inputs[row, frame, level]), int(given[row, frame, level])
        evidence = [
            tables.previous_evidence[level, before],
            tables.given_evidence[level, other],
            tables.labelled_evidence[row + 1, level],
        ]
        weights = experts.weight[level] + experts.gate(hidden[row, frame, level])
        weights = weights + torch.cat([torch.zeros(1), experts.evidence[level] * torch.stack(evidence)])
        parts = [tables.unigram[level], tables.previous[level, before], tables.given[level, other]]
        parts.append(tables.labelled[row + 1, level])
        expected = logits[row, frame, level] + weights @ torch.stack(parts)
        torch.testing.assert_close(added[row, frame, level], expected)


def test_counting_predicts_what_repeats_and_is_no_worse_than_guessing() -> None:
    rng = np.random.default_rng(0)
    steady = [np.repeat(rng.integers(0, SIZES, (1, LEVELS)), 30, axis=0) for _ in range(20)]
    model = CountingModel(coded(steady[:15]), SIZES)
    assert np.mean([model.nats(codes)[1:] for codes in steady[15:]]) < 0.2 * math.log(SIZE)
    noise = recordings(7, 60, 40)
    model = CountingModel(coded(noise[:50], 1, [0, 1]), SIZES)
    nats = np.concatenate([model.nats(codes) for codes in noise[50:]])
    assert nats.mean() == pytest.approx(np.log(SIZES).mean(), rel=0.06)
    np.testing.assert_allclose(model.weights.sum(axis=1), 1)


def test_what_a_recording_had_lately_counts_less_with_each_frame_and_one_recording_is_enough() -> None:
    codes = recordings(5, 1, 40)[0]
    model = CountingModel(coded([codes]), SIZES)
    np.testing.assert_allclose(model.weights, 0.2)
    probabilities = model.probabilities(codes)
    for frame, level in np.ndindex(codes.shape):
        single = probabilities[frame, level, 0]
        for index, decay in enumerate(CACHE_DECAYS, start=3):
            shares = [decay ** (frame - 1 - other) for other in range(frame)]
            own = sum(share for other, share in enumerate(shares) if codes[other, level] == codes[frame, level])
            expected = (own + CACHE_TRUST * single) / (sum(shares) + CACHE_TRUST)
            assert probabilities[frame, level, index] == pytest.approx(expected)
