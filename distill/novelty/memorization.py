"""Memorisation check: held-out perplexity below a threshold, and near-duplicates across the split."""

from collections.abc import Sequence
from typing import NamedTuple

from distill.codes.store import Codes
from distill.novelty.code_space import CodeIndex
from distill.params import default_tiers

ALIKE = 0.6  # share of a recording's coarse codes that are equal in a training recording at the best alignment
COARSE_LEVELS = 2
MOST_COMPARED, MOST_FRAMES = 64, 256  # held-out recordings, and frames of each


class Alike(NamedTuple):
    """Near-duplicates across the split: `found` of `compared` held-out recordings."""

    found: int
    compared: int


class MemorizationCheck(NamedTuple):
    """The verdict, and where it is positive a message with the cause and the remedy."""

    is_memorizing: bool
    memorization_message: str


def check_memorization(
    val_perplexity: float,
    codebook_size: int,
    dataset_file_count: int,
    threshold: float | None = None,
    alike: Alike | None = None,
) -> MemorizationCheck:
    """Compare held-out perplexity with `threshold`, by default the tier's: 2, 3 or 5 from small to large corpora.

    `alike` tells memorisation from near-duplicates on both sides of the split. Those make held-out recordings easy to
    predict for a prior that generalises, too.
    """
    if threshold is None:
        threshold = default_tiers().choose(dataset_file_count)[1].prior.memorization_perplexity
    if val_perplexity >= threshold:
        return MemorizationCheck(False, "")
    found = (
        f"the prior predicts held-out recordings almost exactly (perplexity {val_perplexity:.2f}, below {threshold:g} "
        f"for {dataset_file_count} recordings; a uniform prediction has {codebook_size}): new sounds will repeat the "
        "recordings."
    )
    if alike is None:
        why = (
            "Either it memorises, or recordings on both sides of the split are alike: look for copies among them, add "
            "more varied recordings, or lower prior.hidden_size or prior.epochs"
        )
    elif 2 * alike.found >= alike.compared:
        why = (
            f"Near-duplicates explain it: {alike.found} of {alike.compared} held-out recordings have a near-duplicate among "
            "training recordings, so that held-out figures mean nothing; remove copies or add other recordings"
        )
    else:
        why = (
            f"Few held-out recordings ({alike.found} of {alike.compared}) have a near-duplicate among training recordings, so "
            "copies do not explain it: the sounds vary so little that the prior memorises them. Add more varied "
            "recordings, lower prior.hidden_size or prior.epochs, or stop now and use the best weights so far"
        )
    return MemorizationCheck(True, f"{found} {why}")


def alike_recordings(train: Sequence[Codes], held_out: Sequence[Codes]) -> Alike:
    """Count held-out recordings `[F, Q]` with a near-duplicate among training recordings, by their coarse levels."""
    queries = [codes[:MOST_FRAMES, :COARSE_LEVELS] for codes in held_out[:MOST_COMPARED]]
    matches = CodeIndex([codes[:, :COARSE_LEVELS] for codes in train]).match(queries)
    return Alike(sum(match.likeness >= ALIKE for match in matches), len(queries))
