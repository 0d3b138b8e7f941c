"""Pointer mixture against a slow loop over frames."""

import copy
import math
from typing import Any

import torch

from distill.prior.pointer_mixture import AGES, PointerMixture

LEVELS, SIZE, WIDTH = 3, 5, 4


def model_and_inputs(frames: int = 6) -> tuple[PointerMixture, list[torch.Tensor]]:
    torch.manual_seed(1)
    model = PointerMixture(LEVELS, SIZE, WIDTH)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    inputs = torch.randint(SIZE, (2, frames, LEVELS))
    inputs[:, 0] = SIZE  # BOS
    targets = torch.randint(SIZE, (2, frames, LEVELS))
    targets[:, :-1] = inputs[:, 1:]
    logits, hidden = torch.randn(2, frames, LEVELS, SIZE + 2), torch.randn(2, frames, LEVELS, WIDTH)
    return model, [logits, hidden, inputs, targets]


def slow_probabilities(
    model: PointerMixture,
    logits: torch.Tensor,
    hidden: torch.Tensor,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    index: tuple[int, int, int],
) -> list[float]:
    """Probabilities at one position, summed frame by frame."""
    model = copy.deepcopy(model).requires_grad_(False)
    row, position, level = index
    sentinel = float(model.sentinel(hidden[row, position, level])) + float(model.threshold[level])
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
    for row in range(2):
        for position in range(6):
            for level in range(LEVELS):
                expected = torch.tensor(slow_probabilities(model, *parts, (row, position, level)))
                torch.testing.assert_close(found[row, position, level], expected, rtol=1e-4, atol=1e-6)


def mixed(model: PointerMixture, parts: list[torch.Tensor], *more: Any) -> torch.Tensor:
    logits, hidden, inputs, targets = parts
    return model(logits, sentinel(model, hidden), model.history(inputs, logits.shape[1], *more), targets)


def sentinel(model: PointerMixture, hidden: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(model.sentinel(hidden))[..., 0]


def test_level_by_level_equals_all_at_once() -> None:
    model, parts = model_and_inputs()
    whole = mixed(model, parts)
    logits, hidden, _, targets = (part[:, -1:] for part in parts)
    history = model.history(parts[2], 1)
    for level in range(LEVELS):
        one = slice(level, level + 1)
        history = model.given(history, targets[:, 0, :level])
        single = model(logits[:, :, one], sentinel(model, hidden)[:, :, one], history, targets[..., :level], level)
        torch.testing.assert_close(single, whole[:, -1:, one])


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
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_a_wide_reach_equals_no_reach() -> None:
    model, parts = model_and_inputs(11)
    for reach in (11, 12, 40):
        torch.testing.assert_close(mixed(model, parts, reach), mixed(model, parts))


def test_reach_ends_what_is_copied_and_retrieved_weights_are_added() -> None:
    """Frame by frame, with BOS for all frames beyond the window, since special tokens are never copied."""
    model, (logits, hidden, inputs, targets) = model_and_inputs(13)
    reach, retrieved, sentinels = 4, torch.rand(logits.shape), sentinel(model, hidden)
    for cut in (0, 3, 9):
        later = slice(cut, None)
        history = model.history(inputs, 13 - cut, reach)
        found = model(logits[:, later], sentinels[:, later], history, targets[:, later], retrieved=retrieved[:, later])
        for position in range(cut, 13):
            window, one = inputs.clone(), slice(position, position + 1)
            window[:, : max(0, position - reach)] = SIZE  # the frame before the oldest still counts
            history = model.history(window[:, : position + 1], 1, reach)
            single = model(logits[:, one], sentinels[:, one], history, targets[:, one], retrieved=retrieved[:, one])
            torch.testing.assert_close(found[:, position - cut], single[:, 0])


def test_candidates_for_one_frame_are_mixed_as_if_each_came_alone() -> None:
    model, (logits, hidden, inputs, _) = model_and_inputs(9)
    candidates = torch.randint(SIZE, (2, 4, LEVELS))
    history, sentinels = model.history(inputs, 1), sentinel(model, hidden)
    together = model(logits[:, :4], sentinels[:, :4], history, candidates)
    for index in range(4):
        one = slice(index, index + 1)
        torch.testing.assert_close(
            model(logits[:, one], sentinels[:, one], history, candidates[:, one]), together[:, one]
        )
