"""The mixture of what the network would say and what was said, against a slow loop."""

import copy
import math

import torch

from distill.prior.decode.pointer_mixture import PointerMixtureDecoder
from distill.prior.pointer_mixture import AGES, PointerMixture

LEVELS, SIZE, WIDTH = 3, 5, 4


def mixture(frames: int = 6) -> tuple[PointerMixture, list[torch.Tensor]]:
    torch.manual_seed(1)
    recall = PointerMixture(LEVELS, SIZE, WIDTH)
    for parameter in recall.parameters():
        torch.nn.init.normal_(parameter)
    inputs = torch.randint(SIZE, (2, frames, LEVELS))
    inputs[:, 0] = SIZE  # the begin mark
    targets = torch.randint(SIZE, (2, frames, LEVELS))
    targets[:, :-1] = inputs[:, 1:]
    logits, deep = torch.randn(2, frames, LEVELS, SIZE + 2), torch.randn(2, frames, LEVELS, WIDTH)
    return recall, [logits, deep, inputs, targets]


def slow(
    recall: PointerMixture,
    logits: torch.Tensor,
    deep: torch.Tensor,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    where: tuple[int, int, int],
) -> list[float]:
    """Probabilities of one place, frame by frame."""
    recall = copy.deepcopy(recall).requires_grad_(False)
    row, place, level = where
    sentinel = float(recall.sentinel(deep[row, place, level])) + float(recall.threshold[level])
    total = (logits[row, place, level].softmax(0) * math.exp(sentinel)).tolist()
    for past in range(place + 1):
        code = int(inputs[row, past, level])
        if code >= SIZE:
            continue
        score = float(recall.age[level, max(i for i, age in enumerate(AGES) if age <= place - past)])
        for other in range(LEVELS):
            if other < level and inputs[row, past, other] == targets[row, place, other]:
                score += float(recall.same[level, other])
            if past > 0 and inputs[row, past - 1, other] == inputs[row, place, other]:
                score += float(recall.same[level, LEVELS + other])
        total[code] += math.exp(score)
    return [value / sum(total) for value in total]


def test_it_is_what_a_slow_loop_makes() -> None:
    recall, parts = mixture()
    found = recall(*parts).softmax(dim=-1)
    for row in range(2):
        for place in range(6):
            for level in range(LEVELS):
                expected = torch.tensor(slow(recall, *parts, (row, place, level)))
                torch.testing.assert_close(found[row, place, level], expected, rtol=1e-4, atol=1e-6)


def test_level_by_level_of_one_frame_it_is_the_same() -> None:
    recall, (logits, deep, inputs, targets) = mixture()
    whole = recall(logits, deep, inputs, targets)
    with torch.no_grad():
        recalled = PointerMixtureDecoder(recall, inputs.shape[1] + 1)
        recalled.begin(inputs)
        for level in range(LEVELS):
            sentinel = recall.sentinel(deep[:, -1, level])[:, 0] + recall.threshold[level]
            alone = recalled.mixed(logits[:, -1, level], sentinel, level)
            torch.testing.assert_close(alone.softmax(-1), whole[:, -1, level].softmax(-1))
            recalled.say(level, targets[:, -1, level])


def test_gradients_are_finite_where_probabilities_are_nothing() -> None:
    recall, (logits, deep, inputs, targets) = mixture()
    logits[..., 2] = -1e4
    logits.requires_grad_()
    (-recall(logits, deep, inputs, targets).log_softmax(-1)[..., 0]).sum().backward()
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]
    assert all(torch.isfinite(parameter.grad).all() for parameter in recall.parameters())


def test_what_is_near_is_the_whole_where_it_reaches_as_far() -> None:
    recall, (logits, deep, inputs, targets) = mixture(11)
    nothing = torch.zeros_like(logits)
    expected = recall(logits, deep, inputs, targets)
    none_before = inputs[:, :0]
    for reach in (11, 12, 40):
        found = recall.near(logits, deep, inputs, targets, none_before, reach, nothing)
        torch.testing.assert_close(found, expected)


def test_what_is_near_is_what_a_window_of_the_last_frames_holds() -> None:
    """Frame by frame: all but the last frames before it are marks, which nobody recalls."""
    recall, (logits, deep, inputs, targets) = mixture(13)
    reach, far = 4, torch.rand(logits.shape)
    for cut in (0, 3, 9):
        found = recall.near(
            logits[:, cut:], deep[:, cut:], inputs[:, cut:], targets[:, cut:], inputs[:, :cut], reach, far[:, cut:]
        )
        for place in range(cut, 13):
            window = inputs.clone()
            window[:, : max(0, place - reach)] = SIZE  # the frame before the oldest is still known
            alone = recall.of_choices(
                logits[:, place : place + 1],
                deep[:, place : place + 1],
                window[:, : place + 1],
                targets[:, place : place + 1],
                far[:, place : place + 1],
                reach,
            )
            torch.testing.assert_close(found[:, place - cut], alone[:, 0])


def test_what_codes_weigh_besides_is_added() -> None:
    recall, (logits, deep, inputs, targets) = mixture(5)
    far = torch.zeros_like(logits)
    before = recall.near(logits, deep, inputs, targets, inputs[:, :0], 5, far).exp()
    far[..., 2] = 7.0
    after = recall.near(logits, deep, inputs, targets, inputs[:, :0], 5, far).exp()
    others = [code for code in range(SIZE + 2) if code != 2]
    torch.testing.assert_close(after[..., others], before[..., others])
    assert (after[..., 2] > before[..., 2]).all()
