"""Result of `Model.vary`: takes of a recording, how new each is, and how similar to the recording itself."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.novelty.reference import Reference
from distill.novelty.spectral_space import CodeSpectra
from distill.novelty.verdict import Judge, Novelty, Verdict

if TYPE_CHECKING:
    import pandas as pd

ITSELF = "recording"  # its name in the verdict against itself


@dataclass(frozen=True)
class Similarity:
    """Similarity of a take to the recording that it varies, frame by frame.

    `equal_codes` is the share of equal codes, `difference_db` the mean spectral difference. `verdict` is that of a take
    compared with this recording alone; None where the model has no reference.
    """

    equal_codes: float
    difference_db: float
    verdict: Verdict | None


@dataclass(frozen=True, eq=False)
class Varied:
    """Takes of a recording: samples `[N]` in [-1, 1], lengths, codes `[F, Q]`, novelty, similarity to it, and their seed."""

    sounds: list[NDArray[np.float32]]  # empty where `take` was given
    seconds: list[float]
    codes: list[Codes]
    novelty: list[Novelty | None]  # against the training recordings; None where the model has no reference
    similarity: list[Similarity]  # to the recording itself
    sample_rate: int  # Hz
    seed: int
    strength: float
    redrawn: int = 0  # number of redraws of equal takes
    equal: int = 0  # number of takes that are still equal to another

    def table(self) -> "pd.DataFrame":
        """A row a take: `seconds`, `frames`, similarity, and its novelty where known, named as in `distill vary --json`."""
        import pandas as pd

        rows = [
            {
                "seconds": seconds,
                "frames": len(codes),
                "similarity": asdict(similarity),
                **({} if novelty is None else novelty.json()),
            }
            for seconds, codes, similarity, novelty in zip(
                self.seconds, self.codes, self.similarity, self.novelty, strict=True
            )
        ]
        return pd.json_normalize(rows).rename_axis("take")


def similarities(
    codec: VQVAE, reference: Reference | None, recording: Codes, takes: Sequence[Codes]
) -> list[Similarity]:
    """Similarity of takes to the recording that they vary; all are codes `[F, Q]` of one length.

    For the verdict the recording stands in for the training recordings of `reference`, and is judged by its baseline.
    """
    spectra = CodeSpectra(codec)
    own = spectra(recording)
    verdicts: list[Verdict | None] = [None] * len(takes)
    if reference is not None:
        alone = replace(reference, names=[ITSELF], codes=[recording.astype(np.uint16)])
        verdicts = [novelty.verdict for novelty in Judge(alone, codec).judge(takes)]
    return [
        Similarity(
            equal_codes=float((codes == recording).mean()),
            difference_db=float(np.sqrt(np.square(spectra(codes) - own, dtype=np.float64).mean(axis=1)).mean()),
            verdict=verdict,
        )
        for codes, verdict in zip(takes, verdicts, strict=True)
    ]
