"""Pointer mixture against a slow loop over frames."""

import copy
import math

import torch

from distill.prior.decode.pointer_mixture import PointerMixtureDecoder
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
    found = model(*parts).softmax(dim=-1)
    for row in range(2):
        for position in range(6):
            for level in range(LEVELS):
                expected = torch.tensor(slow_probabilities(model, *parts, (row, position, level)))
                torch.testing.assert_close(found[row, position, level], expected, rtol=1e-4, atol=1e-6)


def test_decoder_equals_the_mixture_level_by_level() -> None:
    model, (logits, hidden, inputs, targets) = model_and_inputs()
    whole = model(logits, hidden, inputs, targets)
    with torch.no_grad():
        decoder = PointerMixtureDecoder(model, inputs.shape[1] + 1)
        decoder.start_frame(inputs)
        for level in range(LEVELS):
            sentinel = model.sentinel(hidden[:, -1, level])[:, 0] + model.threshold[level]
            single = decoder.mix(logits[:, -1, level], sentinel, level)
            torch.testing.assert_close(single.softmax(-1), whole[:, -1, level].softmax(-1))
            decoder.update(level, targets[:, -1, level])


def test_a_level_can_be_left_to_the_network() -> None:
    model, (logits, hidden, inputs, targets) = model_and_inputs()
    before = model(logits, hidden, inputs, targets)
    model.copy_nothing(1)
    after = model(logits, hidden, inputs, targets)
    torch.testing.assert_close(after[:, :, 1].softmax(-1), logits[:, :, 1].softmax(-1))
    torch.testing.assert_close(after[:, :, 0::2], before[:, :, 0::2])
    after[:, :, 1].log_softmax(-1)[..., 0].sum().backward()
    for parameter in (model.age, model.agreement, model.threshold):
        assert float(parameter.grad.abs().max()) < 1e-5  # type: ignore[union-attr]


def test_gradients_are_finite_where_probabilities_vanish() -> None:
    model, (logits, hidden, inputs, targets) = model_and_inputs()
    logits[..., 2] = -1e4
    logits.requires_grad_()
    (-model(logits, hidden, inputs, targets).log_softmax(-1)[..., 0]).sum().backward()
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_windowed_mixture_equals_the_whole_one_with_a_wide_window() -> None:
    model, (logits, hidden, inputs, targets) = model_and_inputs(11)
    nothing = torch.zeros_like(logits)
    expected = model(logits, hidden, inputs, targets)
    no_prefix = inputs[:, :0]
    for reach in (11, 12, 40):
        found = model.forward_windowed(logits, hidden, inputs, targets, no_prefix, reach, nothing)
        torch.testing.assert_close(found, expected)


def test_windowed_mixture_copies_from_the_last_frames_only() -> None:
    """Frame by frame, with BOS for all frames beyond the window, since special tokens are never copied."""
    model, (logits, hidden, inputs, targets) = model_and_inputs(13)
    reach, retrieved = 4, torch.rand(logits.shape)
    for cut in (0, 3, 9):
        found = model.forward_windowed(
            logits[:, cut:],
            hidden[:, cut:],
            inputs[:, cut:],
            targets[:, cut:],
            inputs[:, :cut],
            reach,
            retrieved[:, cut:],
        )
        for position in range(cut, 13):
            window = inputs.clone()
            window[:, : max(0, position - reach)] = SIZE  # the frame before the oldest still counts
            single = model.forward_candidates(
                logits[:, position : position + 1],
                hidden[:, position : position + 1],
                window[:, : position + 1],
                targets[:, position : position + 1],
                retrieved[:, position : position + 1],
                reach,
            )
            torch.testing.assert_close(found[:, position - cut], single[:, 0])


def test_retrieval_weights_are_added() -> None:
    model, (logits, hidden, inputs, targets) = model_and_inputs(5)
    retrieved = torch.zeros_like(logits)
    before = model.forward_windowed(logits, hidden, inputs, targets, inputs[:, :0], 5, retrieved).exp()
    retrieved[..., 2] = 7.0
    after = model.forward_windowed(logits, hidden, inputs, targets, inputs[:, :0], 5, retrieved).exp()
    others = [code for code in range(SIZE + 2) if code != 2]
    torch.testing.assert_close(after[..., others], before[..., others])
    assert (after[..., 2] > before[..., 2]).all()
