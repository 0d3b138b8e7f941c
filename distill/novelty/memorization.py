"""Whether a prior predicts held-out recordings too well to have learnt anything but these recordings."""

from collections.abc import Sequence
from typing import NamedTuple

from distill.codes.store import Codes
from distill.novelty.code_space import CodeIndex
from distill.params import default_tiers

ALIKE = 0.6  # share of a recording's coarse codes that stand in a training recording at the same place
COARSE_LEVELS = 2
MOST_COMPARED, MOST_FRAMES = 64, 256  # held-out recordings, and frames of each


class Alike(NamedTuple):
    """How many of so many held-out recordings stand almost whole on the training side."""

    found: int
    compared: int


class MemorizationCheck(NamedTuple):
    """The verdict, and for a positive one what it means and what to do."""

    is_memorizing: bool
    memorization_message: str


def check_memorization(
    val_perplexity: float,
    codebook_size: int,
    dataset_file_count: int,
    threshold: float | None = None,
    alike: Alike | None = None,
) -> MemorizationCheck:
    """Compare held-out perplexity with `threshold`, by default the tier's: 2, 3 or 5 for small, medium or large corpora.

    `alike` tells memory from near-duplicates on both sides of the split, which make held-out recordings easy to predict
    for a prior that has learnt well, too.
    """
    if threshold is None:
        threshold = default_tiers().choose(dataset_file_count)[1].prior.memorization_perplexity
    if val_perplexity >= threshold:
        return MemorizationCheck(False, "")
    found = (
        f"the prior predicts held-out recordings almost exactly (perplexity {val_perplexity:.2f}, below {threshold:g} "
        f"for {dataset_file_count} recordings; guessing would give {codebook_size}): new sounds will repeat the "
        "recordings."
    )
    if alike is None:
        why = (
            "Either it memorises, or recordings on both sides of the split are alike: look for copies among them, add "
            "more varied recordings, or lower prior.hidden_size or prior.epochs"
        )
    elif 2 * alike.found >= alike.compared:
        why = (
            f"Near-duplicates explain it: {alike.found} of {alike.compared} held-out recordings stand almost whole in "
            "training recordings, so that the held-out figures say nothing; remove copies or add other recordings"
        )
    else:
        why = (
            f"Few held-out recordings ({alike.found} of {alike.compared}) stand in training recordings, so copies do not "
            "explain it: the sounds follow so narrow a pattern that the prior has it by heart. Add more varied "
            "recordings, lower prior.hidden_size or prior.epochs, or stop now and use the best weights so far"
        )
    return MemorizationCheck(True, f"{found} {why}")


def alike_recordings(train: Sequence[Codes], held_out: Sequence[Codes]) -> Alike:
    """How many held-out recordings `[F, Q]` stand almost whole, by their coarse levels, in a training recording."""
    asked = [codes[:MOST_FRAMES, :COARSE_LEVELS] for codes in held_out[:MOST_COMPARED]]
    matches = CodeIndex([codes[:, :COARSE_LEVELS] for codes in train]).match(asked)
    return Alike(sum(match.likeness >= ALIKE for match in matches), len(asked))
