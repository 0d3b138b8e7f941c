"""Shape of the `flat` prior."""

from typing import ClassVar, Literal

from distill.prior.shape import PriorShape


class FlatShape(PriorShape):
    """`PriorShape` of a `FlatPrior`."""

    architecture: Literal["flat"] = "flat"

    head_divisor: ClassVar[int] = 1

    @property
    def parameters(self) -> int:
        """See `PriorShape`."""
        return super().parameters + self.seq_len * self.hidden_size
