"""Refusals: what each is for, and the loop that draws again."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from distill.generate.refusals import COPY, FAULTY, MISTUNED, MOST_DRAWS, Refusal, Sound, draw_again, equal_to, too_old
from distill.generate.sounds import NO_SAMPLES


def sound(code: int = 0, verdict: str = "", percentile: float = 0.0, faults: Any = None, pitch: Any = None) -> Sound:
    """A sound at C4 with these properties, of a single code."""
    novelty: Any = SimpleNamespace(verdict=verdict, percentile=percentile) if verdict else None
    return Sound(np.full((1, 1), code), novelty, faults, NO_SAMPLES, note=60.0, pitch=pitch)


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

    def draw(numbers: Sequence[int], attempt: int) -> list[Sound]:
        asked.append([*numbers])
        return [sound(10 * number + attempt) for number in numbers]

    late = Refusal("late", lambda drawn: drawn.codes.item() in (10, 20, 21))
    odd = Refusal("odd", lambda drawn: drawn.codes.item() in (10, 22))
    draws = draw_again(range(3), draw, [late, odd])
    assert asked == [[0, 1, 2], [1, 2], [2], [2]]
    assert (draws.redrawn, draws.left) == ({"late": 3, "odd": 1}, {})
    assert [drawn.codes.item() for drawn in draws.accepted] == [0, 11, 23]


def test_draws_have_one_bound() -> None:
    attempts = []

    def draw(numbers: Sequence[int], attempt: int) -> list[Sound]:
        attempts.append(attempt)
        return [sound(number) for number in numbers]

    draws = draw_again(range(2), draw, [Refusal("never", lambda drawn: bool(drawn.codes.item()))])
    assert attempts == list(range(MOST_DRAWS))
    assert (draws.left, draws.redrawn, draws.refused) == (
        {1: "never"},
        {"never": MOST_DRAWS - 1},
        {"never": MOST_DRAWS},
    )
    assert [drawn.codes.item() for drawn in draws.accepted] == [0]
    assert [drawn.codes.item() for drawn in draws.sounds] == [0, 1]
