"""Random choice among several drafts, with probabilities in proportion to a critic's odds.

Always choosing the best draft would narrow the model's range: kernel distances rise and coverage falls. Choice by odds
makes the critic part of the model's distribution (Azadi et al. 2019, "Discriminator rejection sampling").
"""

from collections.abc import Callable, Sequence

import numpy as np

from distill.generate.selection.rejection import (
    COPY,
    FAULTY,
    Choice,
    GeneratedSound,
    RejectionCriterion,
)

DRAFTS = 4  # default number of drafts of a sound


def by_odds(
    drafts: int, seed_of: Callable[[int], int], others: Sequence[RejectionCriterion] = ()
) -> Choice:
    """Choice among scored `drafts` of a sound; `seed_of` gives a seed for each sound's number.

    Faulty drafts, copies, and drafts that match a criterion of `others` are kept only if there is no better draft.
    Sorting log odds plus Gumbel noise samples drafts by odds, without replacement (Yellott 1977).
    """

    def order(number: int, scored: Sequence[GeneratedSound]) -> Sequence[GeneratedSound]:
        scores = np.array([draft.likeness.score for draft in scored if draft.likeness is not None])
        noisy = scores + np.random.default_rng(seed_of(number)).gumbel(size=len(scores))
        return [scored[place] for place in np.argsort(-noisy, kind="stable")]

    return Choice(drafts, order, (FAULTY, COPY, *others))
