"""Codes by what came before them, against the rule written out."""

import torch

from distill.models.recollection import Recollection

LEVELS, SIZE, WIDTH, KEY = 2, 5, 16, 16


def recollection() -> Recollection:
    torch.manual_seed(0)
    return Recollection(LEVELS, SIZE + 2, SIZE, WIDTH, KEY).double()


def given(frames: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, frames, WIDTH, generator=generator, dtype=torch.float64)
    coarser = torch.randn(1, frames, LEVELS, WIDTH, generator=generator, dtype=torch.float64)
    coarser[:, :, 0] = 0
    return x, coarser, torch.randint(SIZE, (1, frames, LEVELS), generator=generator)


def test_what_came_after_the_same_frames_is_recollected_and_nothing_before_it_came() -> None:
    model = recollection()
    x, coarser, codes = given(30)
    state = model.begin(1)
    weights, state = model.run(x, coarser, codes, state, 8)
    assert (weights[0, 0] == 0).all()
    weights, _ = model.run(x, coarser, codes, state, 8)  # the same again
    known = weights.argmax(dim=3) == codes
    assert float(known[0, 3:].double().mean()) > 0.75  # by chance a fifth


def test_it_is_the_delta_rule() -> None:
    model = recollection()
    x, coarser, codes = given(12)
    found = model.run(x, coarser, codes, model.begin(1), 4)[0].detach()
    state = model.begin(1)
    with torch.no_grad():
        for place in range(12):
            read = model.read(x[:, place : place + 1], coarser[:, place : place + 1], state)
            torch.testing.assert_close(found[:, place : place + 1], read)
            _, state = model.run(
                x[:, place : place + 1],
                coarser[:, place : place + 1],
                codes[:, place : place + 1],
                state,
                1,
            )


def test_marks_and_padding_are_not_learnt() -> None:
    model = recollection()
    x, coarser, codes = given(6)
    _, state = model.run(x, coarser, torch.full_like(codes, SIZE), model.begin(1), 4)
    assert not state.sums.any()
    _, state = model.run(x, coarser, torch.full_like(codes, -100), model.begin(1), 4)
    assert not state.sums.any()
    assert state.tail.any()


def test_muted_it_says_nothing_and_goes_on_learning() -> None:
    model = recollection()
    x, coarser, codes = given(6)
    model.muted = True
    weights, state = model.run(x, coarser, codes, model.begin(1), 4)
    assert not weights.any()
    assert state.sums.any()
