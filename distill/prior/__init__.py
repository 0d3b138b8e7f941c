"""The prior: networks over codes, their data, training and artefact."""

from typing import TYPE_CHECKING

from distill.exports import lazy_exports

if TYPE_CHECKING:
    from distill.codes.sequences import flatten_codes as flatten_codes
    from distill.codes.sequences import unflatten_codes as unflatten_codes
    from distill.prior.flat import CodePrior as CodePrior

__all__ = ["CodePrior", "flatten_codes", "unflatten_codes"]

__getattr__ = lazy_exports(
    __name__,
    {
        "distill.codes.sequences": ("flatten_codes", "unflatten_codes"),
        "distill.prior.flat": ("CodePrior",),
    },
)
