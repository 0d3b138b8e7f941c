"""Vectors of tone codes, for networks that read codes: codes with similar sounds have near vectors.

Shapes: V codes of a level, S partial sets.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from distill.codec.layout import NOTES, TUNINGS
from distill.codec.tones.codes import FLOORS
from distill.codec.tones.layer import ToneLayer
from distill.seeds import STEP, mix

VECTOR = 64  # size of a code's vector


def tone_vectors(layer: ToneLayer) -> list[Tensor]:
    """Vectors `[V, VECTOR]` for the codes of note, fine pitch and partial set."""
    tables = (_note_vectors(), _tuning_vectors(), _atom_vectors(layer))
    return [_scaled(table) for table in tables]


def _note_vectors() -> Tensor:
    """Vectors of notes: no tone, or pitch class, octave and height."""
    notes = torch.arange(NOTES)
    is_note = (notes > 0)[:, None]
    classes, octaves = nn.functional.one_hot(notes % 12, 12), nn.functional.one_hot(notes // 12, 11)
    height = _waves(notes / NOTES)
    parts = [~is_note * 3.0, classes * is_note * 2.0, octaves * is_note * 1.0, height * is_note]
    return torch.cat(parts, dim=1)


def _tuning_vectors() -> Tensor:
    """Vectors of fine pitches: a one-hot part, and a part that is similar for near pitches."""
    tunings = torch.arange(TUNINGS)
    one_hot = nn.functional.one_hot(tunings, TUNINGS).float()
    return torch.cat([one_hot, _waves(tunings / TUNINGS)], dim=1)


def _atom_vectors(layer: ToneLayer, ratio_classes: int = 36, signs: int = 24) -> Tensor:
    """Vectors of partial-set codes: no tone, or a floor, loudness by ratio, and random signs that separate sets.

    Ratios are in classes of a whole tone, from an octave below the pitch.
    """
    ratios, loud = layer.ratios.cpu(), layer.amplitudes.cpu().sqrt()
    classes = ((ratios.clamp_min(0.25).log2() + 1) * 6).round().long().clamp(0, ratio_classes - 1)
    spectra = torch.zeros(len(ratios), ratio_classes)
    spectra = spectra.scatter_reduce(1, classes, loud * (ratios > 0), "amax")
    sets = torch.cat([spectra, _signs(len(ratios), signs)], dim=1)
    sets = sets.repeat_interleave(len(FLOORS), dim=0)
    floors = nn.functional.one_hot(torch.arange(len(sets)) % len(FLOORS), len(FLOORS)).float()
    atoms = torch.cat([torch.zeros(len(sets), 1), floors, sets], dim=1)
    none = nn.functional.one_hot(torch.tensor([0]), atoms.shape[1]) * 3.0
    return torch.cat([none, atoms])


def _scaled(table: Tensor) -> Tensor:
    """Scale a table `[V, n]` to mean square 1 and pad it to `[V, VECTOR]`."""
    scaled = table / table.square().mean().sqrt() * (table.shape[1] / VECTOR) ** -0.5
    return nn.functional.pad(scaled, (0, VECTOR - table.shape[1]))


def _waves(position: Tensor, count: int = 12) -> Tensor:
    """Cosines and sines `[n, 2 * count]` of positions `[n]` from 0 to 1; near positions have similar rows."""
    angles = math.pi * (torch.arange(count) + 0.5) * position[:, None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _signs(rows: int, columns: int) -> Tensor:
    """Pseudo-random signs `[rows, columns]`, the same on every machine."""
    words = mix(np.arange(1, rows * columns + 1, dtype=np.uint64) * np.uint64(STEP))
    signs = torch.from_numpy((words >> np.uint64(63)).astype(np.float32) * 2 - 1)
    return signs.reshape(rows, columns)
