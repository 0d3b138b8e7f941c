"""Variations: what is kept stays, more strength keeps less, both ends are exact, takes differ."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from unit.tiny import PRIOR, networks, prior_shape, write_prior_model

from distill.codes.store import Codes
from distill.errors import ArtifactError
from distill.generate.sampling import FixedCodes, Sampling, sample_codes
from distill.generate.sounds import BATCH
from distill.generate.variations import Variation, draw_takes, drawn_shares, kept_codes, kept_levels, similarities
from distill.model_file.format import Bundle, load_bundle
from distill.prior.architectures import ARCHITECTURES
from distill.prior.artifact import build_prior
from distill.prior.base import Prior, PriorShape
from distill.seeds import derive_seed

CODEBOOKS = networks()[0].quantizer.codebooks


def built(shape: PriorShape) -> Prior:
    torch.manual_seed(0)
    return build_prior(shape, CODEBOOKS).eval()


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def prior(request: pytest.FixtureRequest) -> Prior:
    return built(prior_shape(request.param))


def some_codes(frames: int) -> Codes:
    return np.random.default_rng(1).integers(0, 8, (frames, 2))


def test_kept_codes_stay_and_the_others_are_drawn_given_them(prior: Prior) -> None:
    """Through several windows; drawn codes follow what is kept before them, and not what is kept after them."""
    codes = some_codes(35)
    kept = np.where(np.random.default_rng(2).random((6, 35, 2)) < 0.6, codes, -1)
    takes = sample_codes(prior, 6, 35, 0, Sampling(), False, kept=FixedCodes(torch.from_numpy(kept)))
    for take, one in zip(takes, kept, strict=True):
        np.testing.assert_array_equal(take[one >= 0], one[one >= 0])
    assert len({take[kept[0] < 0].tobytes() for take in takes}) > 1
    late = kept.copy()
    late[:, 30:] = 0
    again = sample_codes(prior, 6, 35, 0, Sampling(), False, kept=FixedCodes(torch.from_numpy(late)))
    for take, other in zip(takes, again, strict=True):
        np.testing.assert_array_equal(take[:30], other[:30])


def test_with_nothing_kept_it_is_a_free_draw(prior: Prior) -> None:
    free = sample_codes(prior, 3, 25, 4, Sampling(), False)
    nothing = FixedCodes(torch.full((3, 25, 2), -1))
    for one, two in zip(free, sample_codes(prior, 3, 25, 4, Sampling(), False, kept=nothing), strict=True):
        np.testing.assert_array_equal(one, two)


def test_drawn_codes_follow_their_weights(prior: Prior) -> None:
    one_each = FixedCodes(torch.full((2, 12, 2), -1), lambda level, frame: torch.eye(8)[(frame + 3 * level) % 8])
    expected = (np.arange(12)[:, None] + 3 * np.arange(2)) % 8
    for take in sample_codes(prior, 2, 12, 0, Sampling(), False, kept=one_each):
        np.testing.assert_array_equal(take, expected)
    none = FixedCodes(torch.full((2, 12, 2), -1), lambda level, frame: torch.zeros(8) * level * frame)
    free = sample_codes(prior, 2, 12, 0, Sampling(), False)
    for one, two in zip(free, sample_codes(prior, 2, 12, 0, Sampling(), False, kept=none), strict=True):
        np.testing.assert_array_equal(one, two)


@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1))
def test_more_strength_keeps_less_and_the_coarser_levels_longer(
    frames: int, levels: int, seed: int, one: float, two: float
) -> None:
    weaker, stronger = sorted((one, two))
    assert (kept_levels(frames, levels, weaker, seed) >= kept_levels(frames, levels, stronger, seed)).all()
    assert (np.diff(drawn_shares(one, levels)) >= 0).all()
    assert (kept_levels(frames, levels, 0, seed) == levels).all()
    assert (kept_levels(frames, levels, 1, seed) == 0).all()
    assert one == 0 or kept_levels(frames, levels, one, seed).min() < levels


def test_kept_levels_come_in_runs() -> None:
    kept = kept_levels(400, 2, 0.25, 0)
    assert set(kept) == {1, 2}
    assert (kept == 2).mean() == pytest.approx(0.5, abs=0.01)
    assert (np.diff(kept) != 0).sum() < 100  # independent frames would change 200 times
    codes = some_codes(400)
    masks = kept_codes(codes, 0.25, [0, 1]).numpy()
    np.testing.assert_array_equal(masks[0], np.where(np.arange(2) < kept[:, None], codes, -1))
    assert (masks[0] != masks[1]).any()


@pytest.mark.parametrize("strength", [0.05, 0.3, 0.7])
def test_no_two_takes_are_the_same_and_seeds_repeat_them(prior: Prior, strength: float) -> None:
    wanted = Variation(some_codes(20), 8, strength)
    takes = draw_takes(prior, CODEBOOKS, wanted, 5)
    assert {take.shape for take in takes.codes} == {(20, 2)}
    assert len({take.tobytes() for take in takes.codes} | {wanted.codes.tobytes()}) == 9
    assert takes.equal == 0
    again = draw_takes(prior, CODEBOOKS, wanted, 5)
    assert all(np.array_equal(one, two) for one, two in zip(takes.codes, again.codes, strict=True))
    other = draw_takes(prior, CODEBOOKS, wanted, 6)
    assert any((one != two).any() for one, two in zip(takes.codes, other.codes, strict=True))


def test_both_ends_are_the_recording_and_a_free_draw(prior: Prior) -> None:
    wanted = Variation(some_codes(15), 3, 0.0)
    takes = draw_takes(prior, CODEBOOKS, wanted, 2)
    assert all(np.array_equal(take, wanted.codes) for take in takes.codes)
    assert (takes.redrawn, takes.equal) == (0, 0)
    free = sample_codes(prior, 3, 15, derive_seed(2, 0), Sampling(), False)
    for one, two in zip(draw_takes(prior, CODEBOOKS, replace(wanted, strength=1.0), 2).codes, free, strict=True):
        np.testing.assert_array_equal(one, two)


def test_equal_codes_become_fewer_with_strength() -> None:
    codes, prior = some_codes(60), built(PRIOR)
    shares = [
        np.mean([take == codes for take in draw_takes(prior, CODEBOOKS, Variation(codes, 8, step / 10), 0).codes])
        for step in range(11)
    ]
    assert shares[0] == 1
    assert (np.diff(shares) < 0).all()


def test_takes_beyond_a_batch_differ_from_those_before() -> None:
    takes = draw_takes(built(PRIOR), CODEBOOKS, Variation(some_codes(12), BATCH + 3, 0.8), 0)
    assert len({take.tobytes() for take in takes.codes}) == BATCH + 3


def test_takes_that_must_be_equal_are_counted() -> None:
    takes = draw_takes(built(PRIOR), CODEBOOKS, Variation(some_codes(1), 20, 0.01), 0)
    assert len(takes.codes) == 20
    assert takes.redrawn > 0
    assert takes.equal == 20 - len({take.tobytes() for take in takes.codes} - {some_codes(1).tobytes()}) > 0


def test_a_broken_prior_is_an_error() -> None:
    prior = built(PRIOR)
    with torch.no_grad():
        prior.to_depth.bias.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(ArtifactError, match="expected finite logits of the prior, found NaN or infinite values"):
        draw_takes(prior, CODEBOOKS, Variation(some_codes(5), 2, 0.5), 0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("model") / "a.distill"
    write_prior_model(path)
    return load_bundle(path)


def test_the_recording_is_a_copy_of_itself_and_other_codes_are_not(bundle: Bundle) -> None:
    recording = np.random.default_rng(3).integers(0, 8, (40, 2))
    half = recording.copy()
    half[:, 1] = (half[:, 1] + 1) % 8
    other = (recording + 3) % 8
    same, halfway, apart = similarities(bundle.codec, bundle.reference, recording, [recording, half, other])
    assert (same.equal_codes, same.difference_db, same.verdict) == (1, 0, "copy")
    assert halfway.equal_codes == 0.5
    assert 0 < halfway.difference_db < apart.difference_db
    assert (apart.equal_codes, apart.verdict) == (0, "new")


def test_without_a_reference_there_is_no_verdict(bundle: Bundle) -> None:
    recording = np.zeros((9, 2), dtype=np.int64)
    (found,) = similarities(bundle.codec, None, recording, [recording])
    assert (found.equal_codes, found.verdict) == (1, None)
