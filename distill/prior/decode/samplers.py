"""The table of step-by-step samplers: which one a prior is drawn from with."""

from typing import cast

from torch import Tensor

from distill.prior.base import Prior, Sampler
from distill.prior.decode.delay import DelaySampler
from distill.prior.decode.flat import FlatSampler
from distill.prior.decode.frame import FrameSampler
from distill.prior.decode.memory import MemorySampler
from distill.prior.delay import DelayPrior
from distill.prior.flat import FlatPrior
from distill.prior.frame import FramePrior
from distill.prior.memory.network import MemoryPrior

SAMPLERS = {FlatPrior: FlatSampler, DelayPrior: DelaySampler, FramePrior: FrameSampler, MemoryPrior: MemorySampler}


def sampler_of(prior: Prior, count: int, history: Tensor | None = None, labels: Tensor | None = None) -> Sampler:
    """Start `count` sequences, or continue `history` `[count, F, Q]`; `labels` `[count]` as for `Prior.forward`.

    Raises TypeError for a prior that has no sampler.
    """
    make = SAMPLERS.get(type(prior))
    if make is None:
        raise TypeError(
            f"expected a prior of {', '.join(kind.__name__ for kind in SAMPLERS)}, found {type(prior).__name__}"
        )
    return cast(Sampler, make(prior, count, history, labels))
