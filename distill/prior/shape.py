"""What fixes the shape of a prior's tensors, whatever its architecture."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from distill.codes.store import CodesConfig
from distill.params import CodebookSize, Heads, Levels, PriorConfig, PriorLayers, PriorWidth, Settings
from distill.prior.architectures import ArchitectureName

Label = Annotated[str, Field(min_length=1, max_length=1000)]


class PriorShape(Settings):
    """`prior_config` of a model file: the settings that fix the shape of the prior's tensors.

    Each architecture has a class of its own. `labels` are the names that generation accepts.
    """

    architecture: ArchitectureName
    codebook_size: CodebookSize
    num_quantizers: Levels
    context_frames: Annotated[int, Field(ge=1, le=1 << 20)]
    hidden_size: PriorWidth
    num_layers: PriorLayers
    num_heads: Heads
    labels: Annotated[list[Label], Field(max_length=1000)]

    head_divisor: ClassVar[int] = 2  # of a head's size: rotary positions turn pairs of features

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        head = self.hidden_size // self.num_heads
        if self.hidden_size % self.num_heads or head % self.head_divisor:
            raise ValueError("expected num_heads to divide hidden_size into heads of even size")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("expected every label once")
        return self

    @classmethod
    def of(cls, settings: PriorConfig, codes: CodesConfig, codeword_size: int, labels: Sequence[str] = ()) -> Self:
        """The shape that the settings ask for, of codes whose codewords have so many numbers. Raises ParamsError."""
        return cls(**cls.values_of(settings, codes, codeword_size), labels=list(labels))

    @classmethod
    def values_of(cls, settings: PriorConfig, codes: CodesConfig, codeword_size: int) -> dict[str, Any]:  # noqa: ARG003
        """Its fields but the labels."""
        return {
            "architecture": settings.architecture,
            "codebook_size": codes.codebook_size,
            "num_quantizers": codes.num_quantizers,
            "context_frames": context_frames(settings, codes),
            "hidden_size": settings.hidden_size,
            "num_layers": settings.num_layers,
            "num_heads": settings.num_heads,
        }

    @property
    def seq_len(self) -> int:
        """Length of the context in codes."""
        return self.context_frames * self.num_quantizers

    @property
    def parameters(self) -> int:
        """Lower bound on the number of weights."""
        tables = 2 * self.codebook_size + len(self.labels)
        return tables * self.hidden_size + 12 * self.num_layers * self.hidden_size**2


def context_frames(settings: PriorConfig, codes: CodesConfig) -> int:
    """Context of the prior in frames."""
    return max(1, round(settings.context_seconds * codes.frame_rate))
