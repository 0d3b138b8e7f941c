"""Memorisation check: held-out perplexity below a threshold, and near-duplicates across the split.

The threshold of the tier is compared with the perplexity of all codes but tone codes: the continuation of a held note is easy
to predict, and says nothing of what is known by heart. Fine codes are close to noise, which nobody learns by heart: where
they are many, they hide in it that all else is known. So the coarse levels are judged by themselves, too.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from pydantic import Field

from distill.codec.layout import FrameLayout
from distill.codes.store import Codes
from distill.novelty.search import CodeIndex
from distill.params import Settings, get_adaptive_prior_config
from distill.training.events import HOW_TO_STOP

JUDGED_LEVELS = 3  # the first levels but tones
MOST_PERPLEXITY = 1e9
Perplexity = Annotated[float, Field(ge=0, le=MOST_PERPLEXITY)]
Number = Annotated[int, Field(ge=0, le=1 << 31)]


class MemorizationCheck(NamedTuple):
    """The verdict, and where it is positive a message with the cause and the remedy."""

    is_memorizing: bool
    memorization_message: str


class Memorization(Settings):
    """Result of the check at the best epoch, with its figures, as artefact and model file keep it.

    `val_perplexity` and `threshold` are of all codes but tones, or of the first `JUDGED_LEVELS` levels but tones where the
    prior knows only those by heart.
    `alike` of `compared` held-out recordings have a near-duplicate among training recordings, which makes them easy to
    predict for a prior that generalises, too; null where that was not looked for. `codebook_size` is the perplexity of a
    prediction for which all codes of a level are alike: where levels differ in size, the geometric mean.
    """

    was_memorizing: bool
    val_perplexity: Perplexity
    threshold: Perplexity
    codebook_size: Number
    recordings: Number
    alike: Number | None = None
    compared: Number | None = None

    @property
    def is_of_copies(self) -> bool:
        """Whether half of the held-out recordings have a near-duplicate among training recordings, as far as is known."""
        return bool(self.compared) and 2 * (self.alike or 0) >= (self.compared or 0)

    @property
    def message(self) -> str:
        """Meaning and advice, worded alike wherever they are shown; "" if nothing was memorised."""
        if not self.was_memorizing:
            return ""
        return (
            f"the prior predicts held-out recordings almost exactly (perplexity {self.val_perplexity:.2f}, below "
            f"{self.threshold:g} for {self.recordings} recordings; a uniform prediction has {self.codebook_size}; of all "
            f"levels but tones or of the three coarsest): new sounds will repeat the recordings. {self._cause}. {HOW_TO_STOP}"
        )

    @property
    def _cause(self) -> str:
        if not self.compared:
            return (
                "Either it memorises, or recordings on both sides of the split are alike: look for copies among them, "
                "add more varied recordings, or lower prior.hidden_size or prior.epochs"
            )
        if self.is_of_copies:
            return (
                f"Near-duplicates explain it: {self.alike} of {self.compared} held-out recordings have a near-duplicate "
                "among training recordings, so that held-out figures mean nothing; remove copies or add other recordings"
            )
        return (
            f"Few held-out recordings ({self.alike or 0} of {self.compared}) have a near-duplicate among training "
            "recordings, so copies do not explain it: the sounds vary so little that the prior memorises them. Add more "
            "varied recordings, lower prior.hidden_size or prior.epochs, or stop now and use the best weights so far"
        )


def check_memorization(
    val_perplexity: float, codebook_size: int, dataset_file_count: int
) -> MemorizationCheck:
    """Compare held-out perplexity with the threshold of the tier: 2, 3 or 5 from small to large corpora."""
    threshold = get_adaptive_prior_config(dataset_file_count).memorization_perplexity
    memorization = Memorization(
        was_memorizing=val_perplexity < threshold,
        val_perplexity=min(val_perplexity, MOST_PERPLEXITY),
        threshold=threshold,
        codebook_size=codebook_size,
        recordings=dataset_file_count,
    )
    return MemorizationCheck(memorization.was_memorizing, memorization.message)


def judged(
    val_perplexity: float, coarse_perplexity: float, threshold: float
) -> tuple[float, float]:
    """Deciding perplexity and its threshold: of the coarse levels if they are memorised, else of all levels."""
    coarse_threshold = min(2.5, threshold)
    if coarse_perplexity < coarse_threshold:
        return coarse_perplexity, coarse_threshold
    return val_perplexity, threshold


def alike_recordings(
    train: Sequence[Codes], held_out: Sequence[Codes], layout: FrameLayout
) -> tuple[int, int]:
    """How many held-out recordings `[F, Q]` have a near-duplicate in training recordings, of how many compared.

    60 % of the codes of the two coarsest levels but tones are equal in it, at the best alignment.
    """
    coarse = layout.spectral[:2]
    queries = [codes[:256, coarse] for codes in held_out[:64]]
    matches = CodeIndex([codes[:, coarse] for codes in train]).match(queries)
    return sum(match.likeness >= 0.6 for match in matches), len(queries)
