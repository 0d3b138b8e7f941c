"""The choice among drafts: by odds, from a seed, of those without a fault that are no copies."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from distill.generate.decoding import NO_SAMPLES
from distill.generate.selection.choice import by_odds
from distill.generate.selection.critic import Likeness
from distill.generate.selection.rejection import GeneratedSound


def draft(score: float, faults: Any = (), verdict: str = "new") -> GeneratedSound:
    novelty: Any = SimpleNamespace(verdict=verdict)
    return GeneratedSound(np.zeros((1, 1)), novelty, faults, NO_SAMPLES, likeness=Likeness(score, 0.5))


def test_drafts_come_in_an_order_by_their_odds() -> None:
    drafts = [draft(np.log(odds)) for odds in (1.0, 2.0, 7.0)]
    order = by_odds(3, lambda number: number).order
    places = [[drafts.index(one) for one in order(number, drafts)] for number in range(2000)]
    first = Counter(one[0] for one in places)
    assert [first[place] / 2000 for place in range(3)] == pytest.approx([0.1, 0.2, 0.7], abs=0.04)
    second = [one[1] for one in places if one[0] == 2]
    assert second.count(1) / len(second) == pytest.approx(2 / 3, abs=0.04)


def test_equal_seeds_choose_the_same() -> None:
    drafts = [draft(score) for score in (0.0, 0.1, 0.2)]
    first, again = ([by_odds(3, lambda number: number).order(number, drafts) for number in range(20)] for _ in range(2))
    assert first == again


@pytest.mark.parametrize("left_out", [draft(0.0, ("drone",)), draft(0.0, verdict="copy")])
def test_faulty_drafts_and_copies_are_avoided(left_out: GeneratedSound) -> None:
    avoided = by_odds(4, lambda number: number).avoided
    assert any(reason.applies(left_out) for reason in avoided)
    assert not any(reason.applies(draft(0.0)) for reason in avoided)
