"""Pointer mixture against a slow loop over frames."""

import copy
import math
from itertools import product
from typing import Any

import torch
from torch import Tensor

from distill.prior.pointer_mixture import AGES, PointerMixture

LEVELS, SIZE, WIDTH = 3, 5, 4


def model_and_inputs(frames: int = 6) -> tuple[PointerMixture, list[Tensor]]:
    """A mixture, and logits, sentinels, inputs and targets."""
    torch.manual_seed(1)
    model = PointerMixture(LEVELS, SIZE, WIDTH)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    inputs = torch.randint(SIZE, (2, frames, LEVELS))
    inputs[:, 0] = SIZE  # BOS
    targets = torch.randint(SIZE, (2, frames, LEVELS))
    targets[:, :-1] = inputs[:, 1:]
    sentinel = model.sentinel(torch.randn(2, frames, LEVELS, WIDTH))[..., 0]
    return model, [torch.randn(2, frames, LEVELS, SIZE + 2), sentinel.detach(), inputs, targets]


def mixed(model: PointerMixture, parts: list[Tensor], *more: Any) -> Tensor:
    logits, sentinel, inputs, targets = parts
    return torch.as_tensor(model(logits, sentinel, model.history(inputs, logits.shape[1], *more), targets))


def slow_probabilities(model: PointerMixture, parts: list[Tensor], row: int, position: int, level: int) -> list[float]:
    """Probabilities at one position, summed frame by frame."""
    model = copy.deepcopy(model).requires_grad_(False)
    logits, sentinels, inputs, targets = parts
    sentinel = float(sentinels[row, position, level] + model.threshold[level])
    total = (logits[row, position, level].softmax(0) * math.exp(sentinel)).tolist()
    for past in range(position + 1):
        code = int(inputs[row, past, level])
        if code >= SIZE:
            continue
        score = float(model.age[level, max(i for i, age in enumerate(AGES) if age <= position - past)])
        for other in range(LEVELS):
            if other < level and inputs[row, past, other] == targets[row, position, other]:
                score += float(model.agreement[level, other])
            if past > 0 and inputs[row, past - 1, other] == inputs[row, position, other]:
                score += float(model.agreement[level, LEVELS + other])
        total[code] += math.exp(score)
    return [value / sum(total) for value in total]


def test_mixture_equals_a_slow_loop() -> None:
    model, parts = model_and_inputs()
    found = mixed(model, parts).softmax(dim=-1)
    for index in product(range(2), range(6), range(LEVELS)):
        expected = torch.tensor(slow_probabilities(model, parts, *index))
        torch.testing.assert_close(found[index], expected, rtol=1e-4, atol=1e-6)


def test_a_level_can_be_left_to_the_network() -> None:
    model, parts = model_and_inputs()
    before = mixed(model, parts)
    model.copy_nothing(1)
    after = mixed(model, parts)
    torch.testing.assert_close(after[:, :, 1].softmax(-1), parts[0][:, :, 1].softmax(-1))
    torch.testing.assert_close(after[:, :, 0::2], before[:, :, 0::2])
    after[:, :, 1].log_softmax(-1)[..., 0].sum().backward()
    for parameter in (model.age, model.agreement, model.threshold):
        assert float(parameter.grad.abs().max()) < 1e-5  # type: ignore[union-attr]


def test_gradients_are_finite_where_probabilities_vanish() -> None:
    model, parts = model_and_inputs()
    logits = parts[0]
    logits[..., 2] = -1e4
    logits.requires_grad_()
    (-mixed(model, parts).log_softmax(-1)[..., 0]).sum().backward()
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


def test_a_wide_reach_equals_no_reach() -> None:
    model, parts = model_and_inputs(11)
    for reach in (11, 12, 40):
        torch.testing.assert_close(mixed(model, parts, reach), mixed(model, parts))


def test_reach_ends_what_is_copied_and_retrieved_weights_are_added() -> None:
    """Frame by frame, with BOS for all frames beyond the window, since special tokens are never copied."""
    model, parts = model_and_inputs(13)
    logits, sentinels, inputs, targets = parts
    reach, retrieved = 4, torch.rand(logits.shape)
    for cut in (0, 3, 9):
        later = slice(cut, None)
        history = model.history(inputs, 13 - cut, reach)
        found = model(logits[:, later], sentinels[:, later], history, targets[:, later], retrieved[:, later])
        for position in range(cut, 13):
            window, one = inputs.clone(), slice(position, position + 1)
            window[:, : max(0, position - reach)] = SIZE  # the frame before the oldest still counts
            history = model.history(window[:, : position + 1], 1, reach)
            single = model(logits[:, one], sentinels[:, one], history, targets[:, one], retrieved[:, one])
            torch.testing.assert_close(found[:, position - cut], single[:, 0])


def test_candidates_for_one_frame_are_mixed_as_if_each_came_alone() -> None:
    model, (logits, sentinels, inputs, _) = model_and_inputs(9)
    candidates = torch.randint(SIZE, (2, 4, LEVELS))
    history = model.history(inputs, 1)
    together = model(logits[:, :4], sentinels[:, :4], history, candidates)
    for index in range(4):
        one = slice(index, index + 1)
        alone = model(logits[:, one], sentinels[:, one], history, candidates[:, one])
        torch.testing.assert_close(alone, together[:, one])
