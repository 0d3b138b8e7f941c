"""Pretrained weights of a prior, adapted to the user's codec, levels and labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from distill.codec.layout import NOTE, SHAPE
from distill.codes.sequences import CodedRecording
from distill.params import PRETRAINED_SIZES
from distill.prior.counts import count, count_tables
from distill.prior.frame import FramePrior, FrameShape, look_up

PATH = Path(__file__).parent / "pretrained" / "frame.safetensors"
LABELS = "label_projection"
MAX_LEVELS = 16  # number of levels in the pretrained weights
CONTEXT_SECONDS = 4.0  # context of the pretrained prior without training
LABEL_GAIN = 3.0  # scale of label embeddings: a label's recordings differ more than an instrument's in pre-training


def is_own(name: str) -> bool:
    """Whether a parameter is specific to one codec or its recordings, so that it has no pretrained value."""
    return name == "bias" or name == "label" or name.endswith(".free")


def for_levels(parameters: Mapping[str, Tensor], levels: int) -> dict[str, Tensor]:
    """Select the parameters for `levels` levels from `MAX_LEVELS`, where the levels of tones come last."""
    per_level = (
        "input_embedding.",
        "coarser_embedding.",
        "output_embedding.",
        "pointer_mixture.age",
        "pointer_mixture.threshold",
        "level",
        "count_experts.weight",
        "count_experts.evidence",
    )
    rows = [0, *range(MAX_LEVELS - SHAPE + NOTE, MAX_LEVELS), *range(1, levels - SHAPE + NOTE)]
    chosen = {
        name: value[rows] if name.startswith(per_level) else value
        for name, value in parameters.items()
    }
    agreement = "pointer_mixture.agreement"
    coarser, before = chosen[agreement][rows].split(MAX_LEVELS, dim=1)
    chosen[agreement] = torch.cat([coarser[:, rows], before[:, rows]], dim=1)
    return chosen


def label_summaries(table: Tensor, recordings: Sequence[CodedRecording], num_labels: int) -> Tensor:
    """Mean embeddings `[num_labels, 2 * D]` of each label's recordings: over the first 8 frames, then over all frames.

    `table` `[Q, V + 2, D]` is the input embedding table. Recordings without a label are skipped.
    """
    sums = torch.zeros(num_labels + 1, 2 * table.shape[2])
    counts = torch.zeros(num_labels + 1, 1)
    for recording in recordings:
        frames = look_up(table, torch.from_numpy(recording.codes)).sum(dim=1)
        summary = torch.cat([frames[:8].mean(0), frames.mean(0)])
        sums = sums.index_add(0, torch.tensor([recording.label]), summary[None])
        counts[recording.label] += 1
    return (sums / counts.clamp_min(1))[1:]


def label_vectors(projection: Tensor, summaries: Tensor) -> Tensor:
    """Project summaries `[labels, 2 * D]` to label embeddings `[labels + 1, D]`; row 0, no label, is zero."""
    return nn.functional.pad(summaries @ projection.T, (0, 0, 1, 0))


@torch.no_grad()
def load_pretrained_prior(model: FramePrior, recordings: Sequence[CodedRecording] = ()) -> None:
    """Load the pretrained weights into a prior of matching size; parameters specific to a codec become 0.

    Memory and retrieval parameters keep their values, and so does the first level's copy threshold. Label embeddings
    are computed from `recordings`, the training recordings.
    """
    stored = {name: value.float() for name, value in load_file(PATH).items()}
    projection = stored.pop(LABELS)
    threshold = model.pointer_mixture.threshold[0].clone()
    pretrained = for_levels(stored, model.num_quantizers)
    for name, parameter in model.named_parameters():
        if is_own(name):
            parameter.zero_()
        elif name in pretrained:
            # The last expert is for labels; a prior without labels does not have it.
            parameter.copy_(pretrained[name][tuple(slice(size) for size in parameter.shape)])
    model.pointer_mixture.threshold[0] = threshold
    if model.label is not None:
        summaries = label_summaries(model.tables().input, recordings, len(model.label) - 1)
        model.label.copy_(LABEL_GAIN * label_vectors(projection, summaries))


def pretrained_prior(
    codewords: Tensor,
    codebook_sizes: tuple[int, ...],
    frame_rate: float,
    counted: Sequence[CodedRecording] = (),
) -> FramePrior:
    """Pretrained prior for codewords `[Q, V, C]`, with counts of the recordings `counted`."""
    shape = FrameShape(
        codebook_sizes=codebook_sizes,
        context_frames=round(CONTEXT_SECONDS * frame_rate),
        codeword_size=codewords.shape[2],
        count_experts=True,
        labels=[],
        **PRETRAINED_SIZES,
    )
    prior = FramePrior(shape, codewords)
    load_pretrained_prior(prior)
    prior.pointer_mixture.copy_nothing(0)
    if counted:
        assert prior.count_experts is not None
        prior.count_experts.set_tables(
            [count_tables(count(counted, codebook_sizes), codebook_sizes)]
        )
    return prior.eval()
