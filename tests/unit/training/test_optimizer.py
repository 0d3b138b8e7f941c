"""The moving average of weights, against a slow version."""

import torch
from torch import nn

from distill.training.optimizer import WeightAverage


def test_the_average_is_that_of_a_slow_version_and_swaps_in_and_out() -> None:
    model = nn.Linear(2, 1)
    average = WeightAverage(model, 0.6)
    expected = float(model.weight.detach()[0, 0])
    for step in range(1, 30):
        with torch.no_grad():
            model.weight.fill_(step)
        average.add(step)
        decay = min(0.6, (1 + step) / (4 + step))
        expected = decay * expected + (1 - decay) * step
    average.swap()
    assert abs(float(model.weight.detach()[0, 0]) - expected) < 1e-5
    average.swap()
    assert model.weight.tolist() == [[29.0, 29.0]]


def test_loading_averages_copies_them() -> None:
    model = nn.Linear(2, 1)
    average = WeightAverage(model, 0.5)
    kept = {name: value.clone() for name, value in average.values.items()}
    with torch.no_grad():
        model.weight.fill_(5)
    average.add(3)
    average.load(kept)
    average.add(3)
    assert not torch.equal(average.values["weight"], kept["weight"])
