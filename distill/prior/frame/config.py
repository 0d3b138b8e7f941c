"""Shape of the `frame` prior, and of those that share its network through the levels."""

from typing import Any, Literal

from distill.codes.store import CodesConfig
from distill.errors import ParamsError
from distill.params import CodewordSize, DepthLayers, PriorConfig
from distill.prior.shape import PriorShape

MOST_COUNT_BYTES = 512 << 20  # of tables of pairs of tokens: 2,000 codewords in 16 levels


class DepthShape(PriorShape):
    """`PriorShape` of a prior with a depth network over the levels of a frame.

    With `codeword_size` 0 codes are embedded by index alone. `count_experts`: it has counts of the training
    recordings, and of those of each label, where there are labels.
    """

    depth_layers: DepthLayers
    codeword_size: CodewordSize
    count_experts: bool

    @classmethod
    def values_of(cls, settings: PriorConfig, codes: CodesConfig, codeword_size: int) -> dict[str, Any]:
        """See `PriorShape`. Raises ParamsError for counts that take too much memory."""
        count_bytes = 2 * codes.num_quantizers * codes.codebook_size**2 * 4
        if settings.count_experts and count_bytes > MOST_COUNT_BYTES:
            raise ParamsError(
                f"prior.count_experts: expected false where the counts of {codes.num_quantizers} levels of "
                f"{codes.codebook_size} codewords would take {count_bytes >> 20} MB, found true; set it to false, or "
                "lower vqvae.codebook_size"
            )
        return {
            **super().values_of(settings, codes, codeword_size),
            "depth_layers": settings.depth_layers,
            "codeword_size": codeword_size if settings.geometry else 0,
            "count_experts": settings.count_experts,
        }

    @property
    def counted_labels(self) -> int:
        """Labels that have counts of their own."""
        return len(self.labels) if self.count_experts else 0

    @property
    def parameters(self) -> int:
        """See `PriorShape`."""
        codes = self.num_quantizers * self.codebook_size
        counts = codes * (2 * self.codebook_size * self.count_experts + self.counted_labels)
        depth = 8 * self.depth_layers * self.hidden_size**2
        return super().parameters + codes * self.codeword_size + counts + depth


class FrameShape(DepthShape):
    """`PriorShape` of a `FramePrior`. `calibrated`: it has a table of how loudness goes on."""

    architecture: Literal["frame"] = "frame"
    calibrated: bool

    @classmethod
    def values_of(cls, settings: PriorConfig, codes: CodesConfig, codeword_size: int) -> dict[str, Any]:
        """See `PriorShape`. A prior is calibrated after training."""
        return {**super().values_of(settings, codes, codeword_size), "calibrated": False}
