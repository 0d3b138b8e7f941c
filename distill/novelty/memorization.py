"""Memorisation check: held-out perplexity below a threshold, and near-duplicates across the split.

The check leaves out tone codes: a held note is easy to predict, with or without memorisation. Two
perplexities have a threshold: all other levels together, and the coarse levels alone. Fine levels are close to noise and
cannot be memorised: many of them raise the perplexity of all levels, even if the coarse levels are memorised.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from pydantic import Field

from distill.codec.layout import FrameLayout
from distill.codes.store import Codes
from distill.novelty.search import CodeIndex
from distill.params import Settings, get_adaptive_prior_config
from distill.training.events import HOW_TO_STOP

COARSE_LEVELS = 3  # the first levels without tones
MAX_PERPLEXITY = 1e9
Perplexity = Annotated[float, Field(ge=0, le=MAX_PERPLEXITY)]
Number = Annotated[int, Field(ge=0, le=1 << 31)]


class MemorizationCheck(NamedTuple):
    """Verdict, and if it is positive a message with cause and remedy."""

    is_memorizing: bool
    memorization_message: str


class Memorization(Settings):
    """Result of the check at the best epoch, as artefact and model file keep it.

    `val_perplexity` and `threshold` belong to all levels without tones, or to the coarse levels if only these are
    memorised. `alike` of `compared` held-out recordings have a near-duplicate among the training recordings; null if
    nothing was compared. A near-duplicate is easy to predict, with or without memorisation. `codebook_size` is the
    perplexity of a uniform prediction: the geometric mean of the levels' sizes.
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
        """Whether at least half of the compared recordings have a near-duplicate among the training recordings."""
        return 0 < (self.compared or 0) <= 2 * (self.alike or 0)

    @property
    def message(self) -> str:
        """Meaning and advice for the user; "" if nothing was memorised."""
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
        val_perplexity=min(val_perplexity, MAX_PERPLEXITY),
        threshold=threshold,
        codebook_size=codebook_size,
        recordings=dataset_file_count,
    )
    return MemorizationCheck(memorization.was_memorizing, memorization.message)


def deciding_perplexity(
    val_perplexity: float, coarse_perplexity: float, threshold: float
) -> tuple[float, float]:
    """Perplexity that decides, and its threshold: of the coarse levels if they are memorised, else of all levels."""
    coarse_threshold = min(2.5, threshold)
    if coarse_perplexity < coarse_threshold:
        return coarse_perplexity, coarse_threshold
    return val_perplexity, threshold


def near_duplicates(
    train: Sequence[Codes], held_out: Sequence[Codes], layout: FrameLayout
) -> tuple[int, int]:
    """Number of held-out recordings `[F, Q]` with a near-duplicate among training recordings, and number compared.

    In a near-duplicate 60 % of the codes of the two coarsest levels without tones are equal, at the best alignment.
    """
    coarse = layout.spectral[:2]
    queries = [codes[:256, coarse] for codes in held_out[:64]]
    matches = CodeIndex([codes[:, coarse] for codes in train]).match(queries)
    return sum(match.likeness >= 0.6 for match in matches), len(queries)
