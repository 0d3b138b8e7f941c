"""The shape of a prior, which fixes its tensors, and the class that each architecture builds."""

from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from distill.params import (
    WITH_DEPTH,
    Architecture,
    ChunkSize,
    CodebookSize,
    CodewordSize,
    DepthLayers,
    Heads,
    KeySize,
    Levels,
    PriorLayers,
    PriorWidth,
    Settings,
    ShardLength,
)
from distill.prior.base import Prior
from distill.prior.flat import FlatPrior
from distill.prior.frame import FramePrior
from distill.prior.memory.block import MemorySize
from distill.prior.memory.network import MemoryPrior

SpanFrames = Annotated[int, Field(ge=1, le=1 << 24)]

Label = Annotated[str, Field(min_length=1, max_length=1000)]


class MemoryShape(Settings):
    """Sizes of the memories of `architecture: memory`, in frames.

    `span_frames` is the longest sequence that they are trained on.
    """

    shard_length: ShardLength
    chunk_size: ChunkSize
    key_size: KeySize
    span_frames: SpanFrames


class PriorShape(Settings):
    """`prior_config` of a model file: the settings that fix the shape of the prior's tensors.

    With `codeword_size` 0 codes are embedded by index alone. `labels` are the names that generation accepts.
    """

    architecture: Architecture
    codebook_size: CodebookSize
    num_quantizers: Levels
    context_frames: Annotated[int, Field(ge=1, le=1 << 20)]
    hidden_size: PriorWidth
    num_layers: PriorLayers
    num_heads: Heads
    depth_layers: DepthLayers
    codeword_size: CodewordSize
    labels: Annotated[list[Label], Field(max_length=1000)] = []
    memory: MemoryShape | None = None
    count_experts: Annotated[bool, Field(exclude_if=lambda value: not value)] = False
    label_counts: Annotated[bool, Field(exclude_if=lambda value: not value)] = False
    calibrated: Annotated[bool, Field(exclude_if=lambda value: not value)] = False

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        head = self.hidden_size // self.num_heads
        if self.hidden_size % self.num_heads or (head % 2 and self.architecture != "flat"):
            raise ValueError("expected num_heads to divide hidden_size into heads of even size")
        if self.depth_layers and self.architecture not in WITH_DEPTH:
            raise ValueError(f"expected depth_layers 0 but for {' and '.join(WITH_DEPTH)}")
        if (self.memory is not None) != (self.architecture == "memory"):
            raise ValueError("expected memory exactly where the architecture is memory")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("expected every label once")
        if self.count_experts and self.architecture not in WITH_DEPTH:
            raise ValueError(f"expected count_experts false but for {' and '.join(WITH_DEPTH)}")
        if self.label_counts and not (self.count_experts and self.labels):
            raise ValueError("expected label_counts false where there are no labels or no count_experts")
        if self.calibrated and self.architecture != "frame":
            raise ValueError("expected calibrated false but for frame")
        if self.codeword_size and self.architecture == "flat":
            raise ValueError("expected codeword_size 0 for flat")
        return self

    @property
    def seq_len(self) -> int:
        """Length of the context in codes."""
        return self.context_frames * self.num_quantizers

    @property
    def parameters(self) -> int:
        """Lower bound on the number of weights."""
        tables = (
            2 * self.codebook_size * self.hidden_size + self.num_quantizers * self.codebook_size * self.codeword_size
        )
        if self.architecture == "flat":
            tables += self.seq_len * self.hidden_size
        keys = 0 if self.memory is None else 3 * self.num_heads * self.memory.key_size
        if self.count_experts:
            tables += 2 * self.num_quantizers * self.codebook_size**2
        if self.label_counts:
            tables += len(self.labels) * self.num_quantizers * self.codebook_size
        tables += self.num_layers * (4 * self.hidden_size**2 + keys * self.hidden_size) if keys else 0
        return (
            tables
            + len(self.labels) * self.hidden_size
            + (12 * self.num_layers + 8 * self.depth_layers) * self.hidden_size**2
        )


def build_prior(
    shape: PriorShape, codewords: Tensor | None = None, dropout: float = 0.0, history_dropout: float = 0.0
) -> Prior:
    """Build a prior of this shape, with weights drawn from torch's global generator.

    Without `codewords` `[Q, V, C]` they are zeros, for a state dict to fill.
    """
    sizes = (shape.context_frames, shape.hidden_size, shape.num_layers, shape.num_heads, dropout)
    if shape.architecture == "flat":
        return FlatPrior(shape.codebook_size, shape.num_quantizers, *sizes, len(shape.labels))
    if codewords is None or not shape.codeword_size:
        codewords = torch.zeros(shape.num_quantizers, shape.codebook_size, shape.codeword_size)
    more = (shape.depth_layers, len(shape.labels), history_dropout, shape.count_experts, shape.label_counts)
    if shape.memory is not None:
        memory = shape.memory
        size = MemorySize(shape.context_frames, memory.shard_length, memory.chunk_size, memory.key_size)
        return MemoryPrior(codewords, *sizes, *more, size, memory.span_frames)
    return FramePrior(codewords, *sizes, *more, calibrated=shape.calibrated)
