"""Refusals: what each is for, and the loop that draws again."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from distill.generate.decoding import NO_SAMPLES
from distill.generate.selection.rejection import (
    COPY,
    FAULTY,
    MAX_DRAFTS,
    MISTUNED,
    Choice,
    DraftKey,
    GeneratedSound,
    RejectionCriterion,
    below_novelty,
    equal_to,
    generate_until_accepted,
)


def sound(
    code: int = 0, verdict: str = "", percentile: float = 0.0, faults: Any = None, pitch: Any = None
) -> GeneratedSound:
    """A sound at C4 with these properties, of a single code."""
    novelty: Any = SimpleNamespace(verdict=verdict, percentile=percentile) if verdict else None
    return GeneratedSound(np.full((1, 1), code), novelty, faults, NO_SAMPLES, note=60.0, pitch=pitch)


def as_it_is(drawn: GeneratedSound) -> GeneratedSound:
    return drawn


@pytest.mark.parametrize(
    ("criterion", "refused", "accepted"),
    [
        (FAULTY, [sound(faults=("drone",))], [sound(faults=()), sound()]),
        (MISTUNED, [sound(pitch=60.25), sound(pitch=None)], [sound(pitch=59.81), sound(pitch=60.19)]),
        (COPY, [sound(verdict="copy")], [sound(verdict="close"), sound(verdict="new"), sound()]),
        (below_novelty("new"), [sound(verdict="close"), sound(verdict="copy")], [sound(verdict="new"), sound()]),
        (below_novelty("close"), [sound(verdict="copy")], [sound(verdict="close"), sound(verdict="new")]),
        (below_novelty(0.5), [sound(0, "new", 0.9), sound(0, "new", float("nan"))], [sound(0, "close", 0.5), sound()]),
        (equal_to({sound(1).codes.tobytes()}), [sound(1)], [sound(2), sound(3)]),
    ],
)
def test_a_refusal_is_for_what_its_name_says(
    criterion: RejectionCriterion, refused: list[GeneratedSound], accepted: list[GeneratedSound]
) -> None:
    assert all(map(criterion.applies, refused))
    assert not any(map(criterion.applies, accepted))


def test_what_was_accepted_is_equal_the_next_time() -> None:
    criterion = equal_to(set())
    assert [criterion.applies(sound(code)) for code in (1, 2, 1, 2, 3)] == [False, False, True, True, False]


def test_only_what_is_refused_is_drawn_again_and_the_first_reason_counts() -> None:
    asked = []

    def draw(drafts: Sequence[DraftKey]) -> list[GeneratedSound]:
        asked.append([draft.number for draft in drafts])
        return [sound(10 * draft.number + draft.attempt) for draft in drafts]

    late = RejectionCriterion("late", lambda drawn: drawn.codes.item() in (10, 20, 21))
    odd = RejectionCriterion("odd", lambda drawn: drawn.codes.item() in (10, 22))
    draws = generate_until_accepted(range(3), draw, as_it_is, [late, odd])
    assert asked == [[0, 1, 2], [1, 2], [2], [2]]
    assert (draws.redrawn, draws.left) == ({"late": 3, "odd": 1}, {})
    assert [drawn.codes.item() for drawn in draws.accepted] == [0, 11, 23]


def test_draws_have_one_bound() -> None:
    attempts = []

    def draw(drafts: Sequence[DraftKey]) -> list[GeneratedSound]:
        attempts.append(drafts[0].attempt)
        return [sound(draft.number) for draft in drafts]

    draws = generate_until_accepted(
        range(2), draw, as_it_is, [RejectionCriterion("never", lambda drawn: bool(drawn.codes.item()))]
    )
    assert attempts == list(range(MAX_DRAFTS))
    assert (draws.left, draws.redrawn, draws.refused) == (
        {1: "never"},
        {"never": MAX_DRAFTS - 1},
        {"never": MAX_DRAFTS},
    )
    assert [drawn.codes.item() for drawn in draws.accepted] == [0]
    assert [drawn.codes.item() for drawn in draws.sounds] == [0, 1]


def test_the_first_draft_in_order_that_is_neither_refused_nor_avoided_is_taken() -> None:
    looked_at = []

    def draw(drafts: Sequence[DraftKey]) -> list[GeneratedSound]:
        return [sound(10 * draft.number + draft.attempt) for draft in drafts]

    def judged(drawn: GeneratedSound) -> GeneratedSound:
        looked_at.append(drawn.codes.item())
        return drawn

    refused = RejectionCriterion("odd", lambda drawn: drawn.codes.item() in (2, 10, 11, 12, 15))
    avoided = RejectionCriterion("poor", lambda drawn: drawn.codes.item() in (22, 14, 13))
    last_first = Choice(3, lambda _, drafts: drafts[::-1], [avoided])
    draws = generate_until_accepted(range(3), draw, judged, [refused], last_first)
    assert looked_at == [2, 1, 12, 11, 10, 22, 21, 15, 14, 13]
    assert [drawn.codes.item() for drawn in draws.sounds] == [1, 14, 21]
    assert (draws.redrawn, draws.left) == ({"odd": 5}, {})


def test_of_drafts_that_are_all_avoided_one_with_the_last_reason_is_taken() -> None:
    reasons = [
        RejectionCriterion("bad", lambda drawn: drawn.codes.item() < 2),
        RejectionCriterion("poor", lambda drawn: drawn.codes.item() < 4),
    ]
    drafts = Choice(4, lambda _, drafts: drafts, reasons)
    draws = generate_until_accepted(
        range(1), lambda asked: [sound(draft.attempt) for draft in asked], as_it_is, [], drafts
    )
    assert draws.sounds[0].codes.item() == 2
    assert (draws.redrawn, draws.left) == ({}, {})


def test_a_sound_whose_drafts_are_all_refused_is_the_last_of_them() -> None:
    drawn = generate_until_accepted(
        range(1),
        lambda drafts: [sound(draft.attempt) for draft in drafts],
        as_it_is,
        [RejectionCriterion("never", lambda _: True)],
        Choice(64, lambda _, drafts: drafts),
    )
    assert (drawn.left, drawn.redrawn, drawn.sounds[0].codes.item()) == ({0: "never"}, {"never": 63}, 63)
