"""The choice of one of several drafts, at random by the odds that a critic gives them.

The best of many would be a corner of what a model makes: kernel distances rise and coverage falls. By odds drafts come out
as if the critic's doubts were part of the model (Azadi et al. 2019, "Discriminator rejection sampling").
"""

from collections.abc import Callable, Sequence

import numpy as np

from distill.generate.refusals import COPY, FAULTY, Choice, Refusal, Sound

DRAFTS = 4  # of a sound where nothing else is asked for


def by_odds(drafts: int, seed_of: Callable[[int], int], others: Sequence[Refusal] = ()) -> Choice:
    """A choice among so many scored drafts of the sound of a number, with a seed for each number.

    Drafts with a fault, copies, and those that `others` apply to are left out where there are any else. To add Gumbel noise to logarithms of odds and to
    sort is to draw by odds, again and again, among those that are left (Yellott 1977).
    """

    def order(number: int, scored: Sequence[Sound]) -> Sequence[Sound]:
        scores = np.array([draft.likeness.score for draft in scored if draft.likeness is not None])
        noisy = scores + np.random.default_rng(seed_of(number)).gumbel(size=len(scores))
        return [scored[place] for place in np.argsort(-noisy, kind="stable")]

    return Choice(drafts, order, (FAULTY, COPY, *others))
