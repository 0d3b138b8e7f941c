"""Dropout by random bytes has the right statistics; history dropout drops finer levels first."""

import pytest
import torch

from distill.prior.frame.network import HistoryDropout
from distill.prior.transformer import Dropout


@pytest.mark.parametrize("probability", [0.01, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_are_dropped_independently_at_the_given_rate(probability: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    dropped = Dropout(probability).train()(torch.ones(999, 1001, dtype=dtype)) == 0
    assert float(dropped.float().mean()) == pytest.approx(probability, abs=0.004)
    both = float((dropped[1:] & dropped[:-1]).float().mean()), float((dropped[:, 1:] & dropped[:, :-1]).float().mean())
    assert both == pytest.approx((probability**2, probability**2), abs=0.008)


def test_mean_is_kept_and_gradients_follow_the_mask() -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 1000, requires_grad=True)
    y = Dropout(0.3).train()(x)
    assert float(y.detach().mean()) == pytest.approx(1, abs=0.01)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


@pytest.mark.parametrize(("probability", "training"), [(0.0, True), (0.5, False)])
def test_dropout_is_the_identity_without_training_or_rate(probability: float, training: bool) -> None:
    x = torch.ones(3)
    assert Dropout(probability).train(training)(x) is x


def test_the_same_seed_drops_the_same() -> None:
    drop, found = Dropout(0.5).train(), []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(drop(torch.ones(77)))
    assert torch.equal(*found)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_frames_lose_their_finer_levels_but_never_the_first_frame(share: float) -> None:
    torch.manual_seed(0)
    kept = HistoryDropout(share).train()(torch.ones(400, 200, 4, 3))
    assert set(kept.unique().tolist()) == {0, 1}
    assert (kept == kept[..., :1]).all()
    assert (kept[:, 0] == 1).all()
    levels = kept[:, 1:, :, 0]
    assert (levels[:, :, 1:] <= levels[:, :, :-1]).all()
    counts = torch.bincount(levels.sum(dim=2).long().flatten(), minlength=5) / levels[:, :, 0].numel()
    assert counts[:4].tolist() == pytest.approx([share / 4] * 4, abs=0.01)
    by_window = (levels.sum(dim=2) < 4).float().mean(dim=1)
    assert float(by_window.min()) < 0.25 * share < 1.75 * share < float(by_window.max())


@pytest.mark.parametrize(("share", "training"), [(0.0, True), (0.3, False)])
def test_history_dropout_is_the_identity_without_training_or_rate(share: float, training: bool) -> None:
    x = torch.ones(2, 5, 3, 4)
    assert HistoryDropout(share).train(training)(x) is x
