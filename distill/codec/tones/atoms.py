"""Partial sets: some known from acoustics, others fitted to the recordings.

Shapes: F frames, S partial sets, K partials, P peaks.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.codec.scales import APART_CENTS, CHORD_CENTS
from distill.codec.scales import hertz as hertz_of
from distill.codec.tones.analysis import RANGE_DB, Candidates, Peaks, PitchAnalysis
from distill.codec.tones.layer import PARTIALS, ToneLayer

FITTED = 14  # maximum number of sets that are fitted to the recordings

CHORDS = (  # semitones above the lowest note
    *((3,), (4,), (5,), (7,), (8,), (9,)),
    *((4, 7), (3, 7), (5, 7), (3, 8), (4, 9), (5, 9), (5, 8)),
    *((4, 7, 10), (3, 7, 10), (4, 7, 11), (7, 16), (7, 15)),
)

Doubles = NDArray[np.float64]


class PartialSet(NamedTuple):
    """Ratios `[k]` of partials to the pitch, ascending, and their amplitudes `[k]`."""

    ratios: Doubles
    amplitudes: Doubles


def shipped_sets() -> list[PartialSet]:
    """Partial sets known from acoustics.

    Strings with stiffness (f_n = n f_0 sqrt(1 + B n^2)), pipes closed at one end, sines, bars, membranes, bells
    (Fletcher and Rossing, The Physics of Musical Instruments), and chords of harmonic sounds.
    """
    n = np.arange(1, PARTIALS + 1, dtype=np.float64)
    sets = [
        PartialSet(n * np.sqrt((1 + b * n * n) / (1 + b)), 1 / n) for b in (0.0, 1e-4, 4e-4, 1.2e-3)
    ]
    sets.append(PartialSet(n[::2], 1 / n[::2]))
    for ratios in (
        (1.0,),
        (1.0, 2.756, 5.404, 8.933, 13.34),
        (1.0, 3.98, 9.9, 16.5),
        (1.0, 1.59, 2.14, 2.3, 2.65, 2.92, 3.5, 3.6),
        (0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 2.67, 3.0, 4.0, 5.33, 6.67),
    ):
        sets.append(PartialSet(np.array(ratios), 1 / np.arange(1.0, len(ratios) + 1)))
    return sets + [_chord(steps) for steps in CHORDS]


def _chord(steps: tuple[int, ...]) -> PartialSet:
    """Partials of a chord: a harmonic sound and others `steps` semitones above it.

    A partial within `CHORD_CENTS` of the next lower partial is left out.
    """
    n = np.arange(1, 25, dtype=np.float64)
    ratios = np.concatenate([n * 2 ** (step / 12) for step in (0, *steps)])
    amplitudes = np.concatenate([1 / n] * (1 + len(steps)))
    order = np.argsort(ratios)
    ratios, amplitudes = ratios[order], amplitudes[order]
    apart = np.diff(np.log2(ratios), prepend=-1.0) > CHORD_CENTS / 1200
    return PartialSet(ratios[apart][:PARTIALS], amplitudes[apart][:PARTIALS])


def set_partials(layer: ToneLayer, sets: list[PartialSet], first: int = 0) -> None:
    """Write sets into a layer from index `first` on, and clear the sets after them.

    A set of more than `PARTIALS` partials keeps the loudest.
    """
    layer.ratios[first:], layer.amplitudes[first:] = 0.0, 0.0
    for row, (own, loud) in enumerate(sets, start=first):
        kept = np.sort(np.argsort(-loud, kind="stable")[:PARTIALS])
        layer.ratios[row, : len(kept)] = torch.from_numpy(own[kept])
        layer.amplitudes[row, : len(kept)] = torch.from_numpy(loud[kept] / loud.max())


@torch.no_grad()
def fit_sets(
    layer: ToneLayer,
    analysis: PitchAnalysis,
    sounds: list[tuple[Tensor, Tensor]],
    generator: torch.Generator,
) -> None:
    """Fit partial sets that explain frames of sounds better than the shipped sets, greedily, the best first.

    `sounds` are samples `[margin + F * samples_per_frame + margin]` and log-mel frames `[F, n_mels]`. The fit uses up
    to 1500 random frames with more than half of their energy in peaks. It writes the shipped and fitted sets into
    `layer`.
    """
    shipped = shipped_sets()
    set_partials(layer, shipped)
    each = [analysis.peaks(analysis.power(audio[None])) for audio, _ in sounds]
    peaks = Peaks(*(torch.cat(parts) for parts in zip(*each, strict=True)))
    log_mel = torch.cat([frames for _, frames in sounds])
    tonal = (peaks.energies.sum(dim=1) > 0.5).nonzero()[:, 0]
    tonal = tonal[torch.randperm(len(tonal), generator=generator)[:1500].sort().values]
    if not len(tonal):
        return
    peaks = Peaks(*(part[tonal] for part in peaks))
    evidence = analysis.evidence(peaks, log_mel[tonal])
    known = analysis.candidates(layer, peaks, evidence)
    proposals = _proposals(peaks, known)
    trial = ToneLayer(layer.config, 1)
    scores = []
    for proposal in proposals:
        set_partials(trial, [proposal])
        scores.append(_best_scores(analysis.candidates(trial, peaks, evidence)))
    most = len(layer.ratios) - len(shipped)
    chosen = _greedy(torch.stack(scores), _best_scores(known), most)
    set_partials(layer, [proposals[index] for index in chosen], len(shipped))


def _best_scores(candidates: Candidates) -> Tensor:
    """Score `[F]` of each frame's best candidate, 0 without a candidate."""
    return candidates.scores[:, 0].clamp_min(0.0)


def _proposals(peaks: Peaks, known: Candidates) -> list[PartialSet]:
    """Partial sets made of the peaks of the 192 frames that known sets explain worst."""
    proposals = []
    for frame in _best_scores(known).argsort(stable=True)[:192].tolist():
        there = peaks.weights[frame] > 0
        hertz = 2.0 ** peaks.octaves[frame][there].double().numpy()
        loud = 10.0 ** ((peaks.weights[frame][there].double().numpy() - 1) * RANGE_DB / 20)
        is_explained = known.scores[frame, 0] > -torch.inf
        base = float(hertz_of(known.pitches[frame, 0])) if is_explained else hertz[loud.argmax()]
        kept = _apart(np.log2(hertz), loud)
        ratios, loud = hertz[kept] / base, loud[kept]
        near = (ratios >= 1 / 8) & (ratios <= PARTIALS)
        proposals.append(PartialSet(ratios[near], loud[near]))
    return proposals


def _apart(octaves: Doubles, loud: Doubles) -> list[int]:
    """Indices of peaks, in ascending order of `octaves` `[P]`; only the loudest of near peaks is kept."""
    kept: list[int] = []
    for index in np.argsort(-loud, kind="stable").tolist():
        if (np.abs(octaves[kept] - octaves[index]) > APART_CENTS / 1200).all():
            kept.append(index)
    return sorted(kept, key=lambda index: octaves[index])


def _greedy(scores: Tensor, reached: Tensor, most: int) -> list[int]:
    """Indices of up to `most` proposals, each of which raises the frames' best scores `reached` `[F]` most.

    `scores` are `[proposals, F]`. Each proposal raises the mean over frames by at least 0.002.
    """
    chosen: list[int] = []
    while len(chosen) < most:
        gain = (scores - reached).clamp_min(0.0).mean(dim=1)
        best = int(gain.argmax())
        if gain[best] < 0.002:
            break
        chosen.append(best)
        reached = torch.maximum(reached, scores[best])
    return chosen
