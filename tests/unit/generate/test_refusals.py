"""Refusals: what each is for, and the loop that draws again."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from distill.generate.refusals import (
    COPY,
    FAULTY,
    MISTUNED,
    MOST_DRAWS,
    Choice,
    Draft,
    Refusal,
    Sound,
    draw_again,
    equal_to,
    too_old,
)
from distill.generate.sounds import NO_SAMPLES


def sound(code: int = 0, verdict: str = "", percentile: float = 0.0, faults: Any = None, pitch: Any = None) -> Sound:
    """A sound at C4 with these properties, of a single code."""
    novelty: Any = SimpleNamespace(verdict=verdict, percentile=percentile) if verdict else None
    return Sound(np.full((1, 1), code), novelty, faults, NO_SAMPLES, note=60.0, pitch=pitch)


def as_it_is(drawn: Sound) -> Sound:
    return drawn


@pytest.mark.parametrize(
    ("refusal", "refused", "accepted"),
    [
        (FAULTY, [sound(faults=("drone",))], [sound(faults=()), sound()]),
        (MISTUNED, [sound(pitch=60.25), sound(pitch=None)], [sound(pitch=59.81), sound(pitch=60.19)]),
        (COPY, [sound(verdict="copy")], [sound(verdict="close"), sound(verdict="new"), sound()]),
        (too_old("new"), [sound(verdict="close"), sound(verdict="copy")], [sound(verdict="new"), sound()]),
        (too_old("close"), [sound(verdict="copy")], [sound(verdict="close"), sound(verdict="new")]),
        (too_old(0.5), [sound(0, "new", 0.9), sound(0, "new", float("nan"))], [sound(0, "close", 0.5), sound()]),
        (equal_to({sound(1).codes.tobytes()}), [sound(1)], [sound(2), sound(3)]),
    ],
)
def test_a_refusal_is_for_what_its_name_says(refusal: Refusal, refused: list[Sound], accepted: list[Sound]) -> None:
    assert all(map(refusal.applies, refused))
    assert not any(map(refusal.applies, accepted))


def test_what_was_accepted_is_equal_the_next_time() -> None:
    refusal = equal_to(set())
    assert [refusal.applies(sound(code)) for code in (1, 2, 1, 2, 3)] == [False, False, True, True, False]


def test_only_what_is_refused_is_drawn_again_and_the_first_reason_counts() -> None:
    asked = []

    def draw(drafts: Sequence[Draft]) -> list[Sound]:
        asked.append([draft.number for draft in drafts])
        return [sound(10 * draft.number + draft.attempt) for draft in drafts]

    late = Refusal("late", lambda drawn: drawn.codes.item() in (10, 20, 21))
    odd = Refusal("odd", lambda drawn: drawn.codes.item() in (10, 22))
    draws = draw_again(range(3), draw, as_it_is, [late, odd])
    assert asked == [[0, 1, 2], [1, 2], [2], [2]]
    assert (draws.redrawn, draws.left) == ({"late": 3, "odd": 1}, {})
    assert [drawn.codes.item() for drawn in draws.accepted] == [0, 11, 23]


def test_draws_have_one_bound() -> None:
    attempts = []

    def draw(drafts: Sequence[Draft]) -> list[Sound]:
        attempts.append(drafts[0].attempt)
        return [sound(draft.number) for draft in drafts]

    draws = draw_again(range(2), draw, as_it_is, [Refusal("never", lambda drawn: bool(drawn.codes.item()))])
    assert attempts == list(range(MOST_DRAWS))
    assert (draws.left, draws.redrawn, draws.refused) == (
        {1: "never"},
        {"never": MOST_DRAWS - 1},
        {"never": MOST_DRAWS},
    )
    assert [drawn.codes.item() for drawn in draws.accepted] == [0]
    assert [drawn.codes.item() for drawn in draws.sounds] == [0, 1]


def test_the_first_draft_in_order_that_is_neither_refused_nor_avoided_is_taken() -> None:
    looked_at = []

    def draw(drafts: Sequence[Draft]) -> list[Sound]:
        return [sound(10 * draft.number + draft.attempt) for draft in drafts]

    def judged(drawn: Sound) -> Sound:
        looked_at.append(drawn.codes.item())
        return drawn

    refused = Refusal("odd", lambda drawn: drawn.codes.item() in (2, 10, 11, 12, 15))
    avoided = Refusal("poor", lambda drawn: drawn.codes.item() in (22, 14, 13))
    last_first = Choice(3, lambda _, drafts: drafts[::-1], [avoided])
    draws = draw_again(range(3), draw, judged, [refused], last_first)
    assert looked_at == [2, 1, 12, 11, 10, 22, 21, 15, 14, 13]
    assert [drawn.codes.item() for drawn in draws.sounds] == [1, 14, 21]
    assert (draws.redrawn, draws.left) == ({"odd": 5}, {})


def test_of_drafts_that_are_all_avoided_one_with_the_last_reason_is_taken() -> None:
    reasons = [
        Refusal("bad", lambda drawn: drawn.codes.item() < 2),
        Refusal("poor", lambda drawn: drawn.codes.item() < 4),
    ]
    drafts = Choice(4, lambda _, drafts: drafts, reasons)
    draws = draw_again(range(1), lambda asked: [sound(draft.attempt) for draft in asked], as_it_is, [], drafts)
    assert draws.sounds[0].codes.item() == 2
    assert (draws.redrawn, draws.left) == ({}, {})


def test_a_sound_whose_drafts_are_all_refused_is_the_last_of_them() -> None:
    drawn = draw_again(
        range(1),
        lambda drafts: [sound(draft.attempt) for draft in drafts],
        as_it_is,
        [Refusal("never", lambda _: True)],
        Choice(64, lambda _, drafts: drafts),
    )
    assert (drawn.left, drawn.redrawn, drawn.sounds[0].codes.item()) == ({0: "never"}, {"never": 63}, 63)
