import math

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.measures import (
    interleaved_speeds,
    mel_distance,
    mel_loss,
    one_by_one,
    padded,
    paired_difference,
    reconstruct,
)


class HalfCodec:
    """Codes are the samples themselves, one too many; decoding halves them."""

    bits_per_second = 1.0

    def encode(self, sound: Tensor) -> Tensor:
        return torch.cat([sound, sound[-1:]])[:, None]

    def decode(self, codes: Tensor) -> Tensor:
        return codes[:, 0] / 2


def test_bootstrap_interval_is_that_of_the_normal_distribution_for_many_recordings() -> None:
    generator = np.random.default_rng(1)
    peer = generator.normal(2.0, 0.5, 400)
    ours = peer + generator.normal(-0.2, 0.3, 400)
    found = paired_difference(ours.tolist(), peer.tolist(), seed=0)
    error = np.std(ours - peer) / math.sqrt(400)
    assert found.mean == pytest.approx(np.mean(ours - peer))
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.004)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.004)
    assert found.ratio == pytest.approx(ours.mean() / peer.mean())


def test_bootstrap_depends_on_the_seed_alone() -> None:
    ours, peer = [1.0, 2.0, 4.0], [2.0, 2.5, 3.0]
    assert paired_difference(ours, peer, 3) == paired_difference(ours, peer, 3)


def test_bootstrap_leaves_out_pairs_without_a_figure() -> None:
    nan = math.nan
    assert paired_difference([1.0, nan, 3.0], [2.0, 5.0, 4.0], 0) == paired_difference([1.0, 3.0], [2.0, 4.0], 0)
    assert math.isnan(paired_difference([nan], [1.0], 0).mean)


def test_reconstruction_is_as_long_as_the_sound_and_the_distance_of_equals_is_zero() -> None:
    sound = padded(torch.randn(5000, generator=torch.Generator().manual_seed(0)), 512)
    assert len(sound) == 5120
    made = reconstruct(HalfCodec(), sound)
    assert torch.equal(made, sound / 2)
    assert mel_distance(mel_loss(8000), sound, sound) == 0
    assert mel_distance(mel_loss(8000), sound, made) == pytest.approx(
        7 * math.log10(2), rel=0.05
    )  # less where both are silent


def test_every_way_gets_a_speed() -> None:
    speeds = interleaved_speeds({name: one_by_one(HalfCodec()) for name in "ab"}, [torch.ones(8000)], 8000, rounds=3)
    assert all(speed.encode > 0 and speed.decode > 0 for speed in speeds.values())
    assert list(speeds) == ["a", "b"]
