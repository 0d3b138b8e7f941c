"""Shape of the `memory` prior."""

from typing import Annotated, Any, Literal

from pydantic import Field

from distill.codes.store import CodesConfig
from distill.errors import ParamsError
from distill.params import ChunkSize, KeySize, PriorConfig, ShardLength
from distill.prior.frame import DepthShape

WINDOWS_PER_SHARD = 8  # at least: gradients stop where a shard begins


class MemoryShape(DepthShape):
    """`PriorShape` of a `MemoryPrior`; sizes in frames, of a key in features.

    Attention sees `context_frames`; `span_frames` is the longest sequence that the prior is trained on.
    """

    architecture: Literal["memory"] = "memory"
    shard_length: ShardLength
    chunk_size: ChunkSize
    key_size: KeySize
    span_frames: Annotated[int, Field(ge=1, le=1 << 24)]

    @classmethod
    def values_of(cls, settings: PriorConfig, codes: CodesConfig, codeword_size: int) -> dict[str, Any]:
        """See `PriorShape`. Raises ParamsError for a context longer than an eighth of a shard."""
        values, memory = super().values_of(settings, codes, codeword_size), settings.memory
        assert memory is not None
        if WINDOWS_PER_SHARD * values["context_frames"] > memory.shard_length:
            seconds = memory.shard_length / WINDOWS_PER_SHARD / codes.frame_rate
            raise ParamsError(
                f"prior.context_seconds: expected at most {seconds:.1f} for architecture memory, an "
                f"{WINDOWS_PER_SHARD}th of prior.memory.shard_length ({memory.shard_length} frames), found "
                f"{values['context_frames'] / codes.frame_rate:.1f}; shorten it or raise prior.memory.shard_length"
            )
        return {
            **values,
            "shard_length": memory.shard_length,
            "chunk_size": memory.chunk_size,
            "key_size": memory.key_size,
            "span_frames": max(values["context_frames"], round(memory.span_seconds * codes.frame_rate)),
        }

    @property
    def parameters(self) -> int:
        """See `PriorShape`."""
        a_block = 4 * self.hidden_size**2 + 3 * self.num_heads * self.key_size * self.hidden_size
        return super().parameters + self.num_layers * a_block
