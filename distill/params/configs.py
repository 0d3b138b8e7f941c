"""Settings with every `auto` resolved, as used by a training and kept in its artefact."""

from distill.params.bounds import (
    Auto,
    Averaging,
    BudgetMinutes,
    ChunkSize,
    Clip,
    CodebookSize,
    CodecLayers,
    CodecWidth,
    ContextSeconds,
    Count,
    CropSeconds,
    DepthLayers,
    Dropout,
    Epochs,
    Folds,
    Fraction,
    Heads,
    HistoryShare,
    KeySize,
    LatentSize,
    Levels,
    LossWeight,
    MemorizationPerplexity,
    Patience,
    PriorLayers,
    PriorWidth,
    Quantizer,
    Rate,
    Settings,
    ShardLength,
    Share,
    SpanSeconds,
    WarmupSteps,
    WeightDecay,
)
from distill.params.tiers import PRETRAINED_SIZES
from distill.prior.architectures import ARCHITECTURES, ArchitectureName


class VQVAEConfig(Settings):
    """Settings of the codec and its training."""

    codebook_size: CodebookSize
    num_quantizers: Levels
    quantizer: Quantizer = "overlapping"  # missing in files written before there was a choice
    epochs: Epochs
    learning_rate: Rate
    dropout: Dropout
    ema_decay: Fraction
    commitment_weight: LossWeight
    batch_size: Count
    crop_seconds: CropSeconds
    hidden_size: CodecWidth
    num_layers: CodecLayers
    latent_size: LatentSize
    weight_decay: WeightDecay
    gradient_clip: Clip
    encoder_rate: Share
    patience: Patience
    budget_minutes: BudgetMinutes | Auto = 0.0  # `auto` is decided by the number of steps, when training begins


class MemoryConfig(Settings):
    """Settings of the memory of `architecture: memory` and its training. Lengths are in frames."""

    span_seconds: SpanSeconds
    shard_length: ShardLength
    chunk_size: ChunkSize
    key_size: KeySize
    polarisation: LossWeight
    polarisation_warmup: Share
    motif_share: Share
    fast_fail: bool


class PriorConfig(Settings):
    """Settings of the prior and its training. `memorization_perplexity` is the tier's threshold for a warning."""

    architecture: ArchitectureName
    hidden_size: PriorWidth
    num_layers: PriorLayers
    num_heads: Heads
    depth_layers: DepthLayers
    geometry: bool
    pretrained: bool
    count_experts: bool
    dropout: Dropout
    label_smoothing: Share
    label_dropout: Share = 0.1
    history_dropout: HistoryShare = 0.0
    weight_averaging: Averaging
    epochs: Epochs
    learning_rate: Rate
    batch_size: Count
    context_seconds: ContextSeconds
    weight_decay: WeightDecay
    gradient_clip: Clip
    warmup_steps: WarmupSteps
    patience: Patience
    budget_minutes: BudgetMinutes | Auto = 0.0
    folds: Folds
    val_fraction: Fraction
    memorization_perplexity: MemorizationPerplexity
    memory: MemoryConfig | None = None  # for `architecture: memory` only

    @property
    def fits_pretrained(self) -> bool:
        """Whether pretrained weights may be the start and have these sizes."""
        sizes = {name: getattr(self, name) for name in PRETRAINED_SIZES._fields}
        can_read = "pretrained" in ARCHITECTURES[self.architecture].settings and self.geometry and self.count_experts
        return self.pretrained and can_read and sizes == PRETRAINED_SIZES._asdict()
