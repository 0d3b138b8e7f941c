"""The reference of a model: codes of training and held-out recordings that new sounds are compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

R = TypeVar("R")

Coded = NDArray[np.uint16]  # [F, Q]
Scores = NDArray[np.float32]  # [n, SCORES]

SPACE = ("likeness", "copied_frames", "edit_distance")  # what a score holds of a `Match`
SPACES = ("codes", "spectra", "keys")  # keys: spectra of sounds that are as if played faster or slower
ROW = np.dtype([("frames", "f4"), *((space, [(name, "f4") for name in SPACE]) for space in SPACES)])
SCORES = ROW.itemsize // 4  # columns
MOST_HELD_OUT = 256  # recordings, evenly spaced
MOST_FRAMES = 375  # kept of a held-out recording

TENSORS = {
    "codes": ("U16", 2),
    "lengths": ("I64", 1),
    "names": ("U8", 1),
    "held_out": ("U16", 2),
    "held_out_lengths": ("I64", 1),
    "scores": ("F32", 2),
    "reencoded": ("F32", 2),
}  # type and number of dimensions on disk

_DTYPES = {"U16": np.uint16, "I64": np.int64, "U8": np.uint8, "F32": np.float32}


@dataclass(frozen=True, eq=False)
class Reference:
    """Names and codes of training recordings, codes of held-out recordings, and scores against the training recordings.

    `scores` are those of pieces of held-out recordings, `reencoded` those of re-encoded training recordings.
    """

    names: Sequence[str]
    codes: Sequence[Coded]
    held_out: Sequence[Coded]
    scores: Scores
    reencoded: Scores

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """The arrays of the file format, named and typed as in TENSORS."""
        values = {
            "codes": np.concatenate(self.codes),
            "lengths": list(map(len, self.codes)),
            "names": np.frombuffer(bytearray("\n".join(self.names).encode()), dtype=np.uint8),
            "held_out": np.concatenate(self.held_out),
            "held_out_lengths": list(map(len, self.held_out)),
            "scores": self.scores,
            "reencoded": self.reencoded,
        }
        return {name: np.ascontiguousarray(values[name], dtype=_DTYPES[kind]) for name, (kind, _) in TENSORS.items()}


def rows(scores: Scores) -> NDArray[np.void]:
    """The scores `[n]` with names, in place of columns."""
    return scores.view(ROW)[:, 0]


def evenly(recordings: Sequence[R], most: int) -> Sequence[R]:
    """At most `most` recordings, evenly spaced."""
    return recordings[:: -(-len(recordings) // most)]


def make_reference(
    names: Sequence[str], training: Sequence[NDArray[np.integer]], held_out: Sequence[NDArray[np.integer]]
) -> Reference:
    """Build a reference without scores from codes `[F, Q]`; many or long held-out recordings are thinned out or cut."""
    no_scores = np.empty((0, SCORES), dtype=np.float32)
    return Reference(
        [name.replace("\n", " ") for name in names],
        [codes.astype(np.uint16) for codes in training],
        [codes[:MOST_FRAMES].astype(np.uint16) for codes in evenly(held_out, MOST_HELD_OUT)],
        no_scores,
        no_scores,
    )


def read_reference(tensors: Mapping[str, NDArray[np.generic]], codebook_sizes: Sequence[int]) -> Reference:
    """Build and check a reference from the arrays of `Reference.tensors`. Raises ValueError."""
    arrays: dict[str, NDArray[Any]] = dict(tensors)
    levels = len(codebook_sizes)
    columns = {"codes": levels, "held_out": levels, "scores": SCORES, "reencoded": SCORES}
    for name, (kind, dimensions) in TENSORS.items():
        if name not in arrays or arrays[name].dtype != _DTYPES[kind] or arrays[name].ndim != dimensions:
            raise ValueError(f"{name} is missing or of another type or shape")
        if name in columns and arrays[name].shape[1] != columns[name]:
            raise ValueError(f"{name} has {arrays[name].shape[1]} columns, not {columns[name]}")
    sides: list[list[Coded]] = []
    for name, lengths in (("codes", "lengths"), ("held_out", "held_out_lengths")):
        codes, counts = arrays[name], arrays[lengths]
        if len(counts) == 0 or counts.min() < 1 or counts.max() > len(codes) or counts.sum() != len(codes):
            raise ValueError(f"{lengths} do not add up to {name}")
        if (codes.max(axis=0) >= codebook_sizes).any():
            raise ValueError(f"{name} holds codewords that the codec does not have")
        sides.append(np.split(codes, np.cumsum(counts)[:-1]))
    names = arrays["names"].tobytes().decode("utf-8", "replace").split("\n")
    if len(names) != len(sides[0]):
        raise ValueError(f"there are {len(names)} names for {len(sides[0])} recordings")
    for name in ("scores", "reencoded"):
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} holds NaN or infinite values")
        if (arrays[name] < 0).any() or (arrays[name][:, 0] < 1).any():
            raise ValueError(f"{name} holds values out of range")
    return Reference(names, sides[0], sides[1], arrays["scores"], arrays["reencoded"])
