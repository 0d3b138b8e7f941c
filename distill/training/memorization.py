"""Whether a prior predicts held-out recordings too well to have learnt anything but these recordings."""

from typing import NamedTuple

from distill.params import tier_for


class MemorizationCheck(NamedTuple):
    """The verdict, and for a positive one what it means and what to do."""

    is_memorizing: bool
    memorization_message: str


def check_memorization(
    val_perplexity: float, codebook_size: int, dataset_file_count: int, threshold: float | None = None
) -> MemorizationCheck:
    """Compare held-out perplexity with `threshold`, by default the tier's: 2, 3 or 5 for small, medium or large corpora."""
    if threshold is None:
        threshold = tier_for(dataset_file_count).prior["memorization_perplexity"]
    if val_perplexity >= threshold:
        return MemorizationCheck(False, "")
    return MemorizationCheck(
        True,
        f"the prior predicts held-out recordings almost exactly (perplexity {val_perplexity:.2f}, below {threshold:g} "
        f"for {dataset_file_count} recordings; guessing would give {codebook_size}): new sounds will repeat the "
        "recordings. Either it memorises, or recordings on both sides of the split are alike: look for copies in "
        "artifacts/corpus/report.json, add more varied recordings, or lower prior.hidden_size or prior.epochs",
    )
