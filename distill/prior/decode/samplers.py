"""The step-by-step sampler of each class of prior."""

from functools import singledispatch

from torch import Tensor

from distill.prior.base import Prior, Sampler
from distill.prior.decode.flat import FlatSampler
from distill.prior.decode.frame import FrameSampler
from distill.prior.decode.memory import MemorySampler
from distill.prior.flat.network import FlatPrior
from distill.prior.frame.network import FramePrior
from distill.prior.memory.network import MemoryPrior


@singledispatch
def sampler_of(prior: Prior, count: int, history: Tensor | None = None, labels: Tensor | None = None) -> Sampler:
    """Start `count` sequences, or continue `history` `[count, F, Q]`; `labels` `[count]` as for `Prior.forward`.

    The sampler is that of the prior's class, or of the nearest class it inherits from. Raises TypeError without one.
    """
    raise TypeError(f"expected a prior with a sampler, found {type(prior).__name__} {count} {history} {labels}")


sampler_of.register(FlatPrior, FlatSampler)
sampler_of.register(FramePrior, FrameSampler)
sampler_of.register(MemoryPrior, MemorySampler)
