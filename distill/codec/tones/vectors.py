"""Vectors for the codes of tones, with which a prior's embeddings begin: near for similar sounds."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from distill.codec.layout import NOTES, TUNINGS
from distill.codec.tones.codes import FLOORS
from distill.seeds import STEP, mix

VECTOR = 64  # size of a code's vector
WAVES = 12  # cosines in a vector, and sines
RATIO_CLASSES = 36  # in the vector of a partial set: whole tones from an octave below the pitch
SIGNS = 24  # in the vector of a partial set


def note_vectors() -> Tensor:
    """Vectors of notes: no tone, or pitch class, octave and height."""
    notes = torch.arange(NOTES)
    is_note = (notes > 0)[:, None]
    classes, octaves = nn.functional.one_hot(notes % 12, 12), nn.functional.one_hot(notes // 12, 11)
    height = _waves(notes / NOTES)
    return torch.cat(
        [~is_note * 3.0, classes * is_note * 2.0, octaves * is_note * 1.0, height * is_note], dim=1
    )


def partial_set_vectors(ratios: Tensor, amplitudes: Tensor) -> Tensor:
    """Vectors of partial-set codes: no tone, or a floor, loudness by ratio, and random signs that separate sets."""
    ratios, loud = ratios.cpu(), amplitudes.cpu().sqrt()
    classes = ((ratios.clamp_min(0.25).log2() + 1) * 6).round().long().clamp(0, RATIO_CLASSES - 1)
    spectra = torch.zeros(len(ratios), RATIO_CLASSES).scatter_reduce(
        1, classes, loud * (ratios > 0), "amax"
    )
    sets = torch.cat([spectra, signs(len(ratios), SIGNS)], dim=1).repeat_interleave(
        len(FLOORS), dim=0
    )
    floors = nn.functional.one_hot(torch.arange(len(sets)) % len(FLOORS), len(FLOORS)).float()
    atoms = torch.cat([torch.zeros(len(sets), 1), floors, sets], dim=1)
    none = nn.functional.one_hot(torch.tensor([0]), atoms.shape[1]) * 3.0
    return torch.cat([none, atoms])


def tuning_vectors() -> Tensor:
    """Vectors of fine pitches: a one-hot part, and a part that is similar for near pitches."""
    tunings = torch.arange(TUNINGS)
    return torch.cat(
        [nn.functional.one_hot(tunings, TUNINGS).float(), _waves(tunings / TUNINGS)], dim=1
    )


def scaled(table: Tensor) -> Tensor:
    """Scale a table `[V, n]` to mean square 1 and pad it to `[V, VECTOR]`."""
    scaled = table / table.square().mean().sqrt() * (table.shape[1] / VECTOR) ** -0.5
    return nn.functional.pad(scaled, (0, VECTOR - table.shape[1]))


def _waves(position: Tensor) -> Tensor:
    """Cosines and sines `[n, 2 * WAVES]` of positions `[n]` from 0 to 1; near positions have similar rows."""
    angles = math.pi * (torch.arange(WAVES) + 0.5) * position[:, None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def signs(rows: int, columns: int) -> Tensor:
    """Pseudo-random signs `[rows, columns]`, the same on every machine."""
    words = mix(np.arange(1, rows * columns + 1, dtype=np.uint64) * np.uint64(STEP))
    return torch.from_numpy((words >> np.uint64(63)).astype(np.float32) * 2 - 1).reshape(
        rows, columns
    )
