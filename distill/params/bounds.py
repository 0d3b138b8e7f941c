"""The range of every setting, shared by `params.yaml`, flags, Python arguments and model files."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distill.text import one_line

Auto = Literal["auto"]
TierName = Literal["small", "medium", "large"]
QualityName = Literal["small", "standard", "high"]
Quantizer = Literal["overlapping", "residual"]
Labels = Literal["none", "folder"]

Seed = Annotated[int, Field(ge=0, lt=2**32)]
SampleRate = Annotated[int, Field(ge=8_000, le=96_000)]
Count = Annotated[int, Field(ge=1)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
BudgetMinutes = Annotated[float, Field(ge=0, le=100_000)]
Patience = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Averaging = Annotated[float, Field(ge=0, lt=1)]
HistoryShare = Annotated[float, Field(ge=0, le=0.5)]
WeightDecay = Annotated[float, Field(ge=0, le=1)]
Clip = Annotated[float, Field(gt=0)]
LossWeight = Annotated[float, Field(ge=0, le=100)]

CodebookSize = Annotated[int, Field(ge=2, le=65_536)]
Levels = Annotated[int, Field(ge=1, le=16)]
LatentSize = Annotated[int, Field(ge=2, le=1024)]
CodecWidth = Annotated[int, Field(ge=8, le=4096)]
CodecLayers = Annotated[int, Field(ge=1, le=64)]
CropSeconds = Annotated[float, Field(ge=0.1, le=60)]
Views = Annotated[int, Field(ge=1, le=256)]

PriorWidth = Annotated[int, Field(ge=8, le=8192)]
PriorLayers = Annotated[int, Field(ge=1, le=128)]
Heads = Annotated[int, Field(ge=1, le=128)]
DepthLayers = Annotated[int, Field(ge=0, le=64)]
CodewordSize = Annotated[int, Field(ge=0, le=1024)]
ContextSeconds = Annotated[float, Field(ge=0.1, le=600)]
WarmupSteps = Annotated[int, Field(ge=0)]
Folds = Annotated[int, Field(ge=0, le=20)]
MemorizationPerplexity = Annotated[float, Field(ge=1)]
SpanSeconds = Annotated[float, Field(ge=0.1, le=7200)]
ShardLength = Annotated[int, Field(ge=8, le=1 << 20)]
ChunkSize = Annotated[int, Field(ge=1, le=4096)]
KeySize = Annotated[int, Field(ge=1, le=256)]

ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]

Sounds = Annotated[int, Field(ge=1, le=10_000)]
Seconds = Annotated[float, Field(ge=0.01, le=3600)]
SamplingSeed = Annotated[int, Field(ge=0, lt=2**63)]
Temperature = Annotated[float, Field(ge=0.01, le=10)]
TopK = Annotated[int, Field(ge=0)]
TopP = Annotated[float, Field(ge=0.001, le=1)]
Guidance = Annotated[float, Field(ge=0, le=20)]
Strength = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseModel):
    """Base of every settings class: frozen, strict about types, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def first_problem(error: ValidationError) -> str:
    """The first error of a validation, as `key: message`."""
    first = error.errors()[0]
    return one_line(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
