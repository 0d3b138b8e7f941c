"""The choice among drafts: by odds, from a seed, of those without a fault that are no copies."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from distill.generate.refusals import Sound
from distill.generate.selection.choice import by_odds
from distill.generate.selection.critic import Likeness
from distill.generate.sounds import NO_SAMPLES


def draft(score: float, faults: Any = (), verdict: str = "new") -> Sound:
    novelty: Any = SimpleNamespace(verdict=verdict)
    return Sound(np.zeros((1, 1)), novelty, faults, NO_SAMPLES, likeness=Likeness(score, 0.5))


def test_drafts_are_chosen_as_often_as_their_odds_say() -> None:
    drafts = [draft(np.log(odds)) for odds in (1.0, 2.0, 7.0)]
    choose = by_odds(lambda number: number)
    counts = Counter(drafts.index(choose(number, drafts)) for number in range(2000))
    assert [counts[place] / 2000 for place in range(3)] == pytest.approx([0.1, 0.2, 0.7], abs=0.04)


def test_equal_seeds_choose_the_same() -> None:
    drafts = [draft(score) for score in (0.0, 0.1, 0.2)]
    first, again = ([by_odds(lambda number: number)(number, drafts) for number in range(20)] for _ in range(2))
    assert all(one is other for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize("left_out", [draft(50.0, ("drone",)), draft(50.0, verdict="copy")])
def test_faulty_drafts_and_copies_are_left_out_unless_there_are_no_others(left_out: Sound) -> None:
    other = draft(0.0)
    choose = by_odds(lambda number: number)
    assert choose(0, [left_out, other]) is other
    assert choose(0, [left_out, left_out]) is left_out
