"""The choice of one of several drafts, at random by the odds that a critic gives them.

The best of many would be a corner of what a model makes: kernel distances rise and coverage falls. By odds drafts come out
as if the critic's doubts were part of the model (Azadi et al. 2019, "Discriminator rejection sampling").
"""

from collections.abc import Callable, Sequence

import numpy as np

from distill.generate.refusals import COPY, FAULTY, Sound

DRAFTS = 4  # of a sound where nothing else is asked for


def by_odds(seed_of: Callable[[int], int]) -> Callable[[int, Sequence[Sound]], Sound]:
    """A choice among scored drafts of the sound of a number, with a seed for each number.

    Drafts with a fault and copies are left out where there are others.
    """

    def choose(number: int, drafts: Sequence[Sound]) -> Sound:
        possible = [draft for draft in drafts if not (FAULTY.applies(draft) or COPY.applies(draft))] or drafts
        scores = np.array([draft.likeness.score for draft in possible if draft.likeness is not None])
        odds = np.exp(scores - scores.max())
        return possible[int(np.random.default_rng(seed_of(number)).choice(len(possible), p=odds / odds.sum()))]

    return choose
