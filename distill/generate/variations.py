"""Variations of a recording: a part of its codes is kept, the prior draws the rest given what is kept.

Kept are the coarser levels of a frame first. With strength finer levels go before coarser ones, in runs of frames, and
of equal seeds the codes that a greater strength keeps are among those that a smaller one keeps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.generate.constants import COARSE_FROM, MOST_DRAWS, PULL, RUN_FRAMES
from distill.generate.sampling import FixedCodes, Sampling, sample_codes
from distill.generate.sounds import BATCH, DEFAULT
from distill.novelty.reference import Reference
from distill.novelty.spectra import CodeSpectra
from distill.novelty.verdict import Judge, Verdict
from distill.prior.base import Prior
from distill.seeds import Stream, derive_seed
from distill.status import Progress


@dataclass(frozen=True, eq=False)
class Variation:
    """A request for `count` takes of a recording with codes `[F, Q]`; strength in [0, 1], label from 1 on or 0 for none."""

    codes: Codes
    count: int
    strength: float
    sampling: Sampling = DEFAULT
    label: int = 0


@dataclass(frozen=True, eq=False)
class Takes:
    """Codes `[F, Q]` of takes, the number of redraws of equal takes, and of takes that are still equal to another."""

    codes: list[Codes]
    redrawn: int = 0
    equal: int = 0


def draw_takes(
    prior: Prior, codebooks: Tensor, wanted: Variation, seed: int, progress: Progress | None = None
) -> Takes:
    """Draw takes of the codes that `wanted` gives; `codebooks` `[Q, V, D]` are those of the codec.

    At strength 0 all are the recording's codes. At strength 1 they are those of `generate_sounds` with the same length
    and seed. Above 0 a take that equals the recording or an earlier take is drawn again, at most MOST_DRAWS times.
    Raises ArtifactError where the prior gives NaN or infinite values.
    """
    if wanted.strength == 0:
        return Takes([wanted.codes.copy() for _ in range(wanted.count)])
    codebooks = codebooks.detach().cpu()
    takes: list[Codes] = []
    redrawn = equal = 0
    known = {wanted.codes.tobytes()}
    for first in range(0, wanted.count, BATCH):
        numbers = list(range(first, min(first + BATCH, wanted.count)))
        drawn = _draw(prior, codebooks, wanted, numbers, derive_seed(seed, first), seed, 0, progress)
        repeated = _repeated(drawn, known)
        for attempt in range(1, MOST_DRAWS):
            if not repeated:
                break
            again = [numbers[index] for index in repeated]
            draws = derive_seed(seed, Stream.REDRAWN_TAKES, first, attempt)
            for index, codes in zip(
                repeated, _draw(prior, codebooks, wanted, again, draws, seed, attempt, progress), strict=True
            ):
                drawn[index] = codes
            redrawn += len(repeated)
            repeated = _repeated(drawn, known)
        equal += len(repeated)
        known |= {codes.tobytes() for codes in drawn}
        takes += drawn
    return Takes(takes, redrawn, equal)


def _draw(
    prior: Prior,
    codebooks: Tensor,
    wanted: Variation,
    numbers: Sequence[int],
    draws_seed: int,
    seed: int,
    attempt: int,
    progress: Progress | None,
) -> list[Codes]:
    """Takes with these numbers: what each keeps follows from `seed`, its number and the attempt."""
    seeds = [derive_seed(seed, Stream.VARIED_FRAMES, number, attempt) for number in numbers]
    kept = FixedCodes(kept_codes(wanted.codes, wanted.strength, seeds), _pull(codebooks, wanted))
    frames = len(wanted.codes)
    return sample_codes(
        prior, len(numbers), frames, draws_seed, wanted.sampling, False, progress, wanted.label, kept=kept
    )


def _repeated(takes: Sequence[Codes], known: set[bytes]) -> list[int]:
    """Indices of takes that equal an earlier one or one of `known`."""
    seen, found = set(known), []
    for index, codes in enumerate(takes):
        if codes.tobytes() in seen:
            found.append(index)
        seen.add(codes.tobytes())
    return found


def drawn_shares(strength: float, levels: int) -> NDArray[np.float64]:
    """Share of frames in which each level is drawn again, `[Q]`: it rises with strength and towards finer levels.

    All are 0 at strength 0 and 1 at strength 1.
    """
    fineness = np.linspace(0.0, 1.0, levels) if levels > 1 else np.ones(1)
    starts = COARSE_FROM * (1 - fineness)
    shares: NDArray[np.float64] = ((strength - starts) / (1 - COARSE_FROM if levels > 1 else 1.0)).clip(0.0, 1.0)
    return shares


def kept_levels(frames: int, levels: int, strength: float, seed: int) -> NDArray[np.int64]:
    """How many of the coarsest levels of each frame are kept, `[F]`; never more with a greater strength.

    Above strength 0 at least one code is drawn again.
    """
    noise = np.random.default_rng(seed).standard_normal(frames + RUN_FRAMES - 1)
    ranks = np.convolve(noise, np.ones(RUN_FRAMES), mode="valid").argsort().argsort() / frames  # [F], in [0, 1)
    kept: NDArray[np.int64] = (ranks[:, None] >= drawn_shares(strength, levels)).sum(axis=1)
    return kept


def kept_codes(codes: Codes, strength: float, seeds: Sequence[int]) -> Tensor:
    """The codes `[B, F, Q]` that a take for each seed keeps of codes `[F, Q]`; -1 where to draw."""
    frames, levels = codes.shape
    kept = np.stack([kept_levels(frames, levels, strength, seed) for seed in seeds])
    return torch.from_numpy(np.where(np.arange(levels) < kept[..., None], codes, -1))


def _pull(codebooks: Tensor, wanted: Variation) -> Callable[[int, int], Tensor] | None:
    """Weights `[V]` of a level's codewords at a frame, by their squared distance to the recording's; None at strength 1.

    The unit of distance is the mean squared distance of two codewords of the level.
    """
    if wanted.strength >= 1:
        return None
    exponent = PULL * (1 - wanted.strength)
    spreads = 2 * (codebooks - codebooks.mean(dim=1, keepdim=True)).square().sum(dim=2).mean(dim=1)  # [Q]

    def weights(level: int, frame: int) -> Tensor:
        book = codebooks[level]
        distances = (book - book[int(wanted.codes[frame, level])]).square().sum(dim=1)
        return (-exponent * distances / spreads[level].clamp_min(1e-12)).exp()

    return weights


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
