"""Reference of a model: training and held-out recordings that new sounds are compared with, and their measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from distill.audio.side_info import ARRAYS, UNKNOWN, SideInfo, side_info_arrays, side_info_of

R = TypeVar("R")

Coded = NDArray[np.uint16]  # [F, Q]
Scores = NDArray[np.float32]  # [n, SCORES]
Doubles = NDArray[np.float64]

SPACE = ("likeness", "copied_frames", "edit_distance")  # fields of a `Match` in a score
SPACES = ("codes", "spectra", "keys")  # keys: spectra of the sound, played faster or slower
ROW = np.dtype([("frames", "f4"), *((space, [(name, "f4") for name in SPACE]) for space in SPACES)])
SCORES = ROW.itemsize // 4  # columns
MAX_HELD_OUT = 256  # recordings, evenly spaced
MAX_FRAMES = 375  # of a held-out recording
LIMITS = 7  # limits on a whole sound, in addition to a limit for each band

TENSORS = {
    "codes": ("U16", 2),
    "lengths": ("I64", 1),
    "names": ("U8", 1),
    "held_out": ("U16", 2),
    "held_out_lengths": ("I64", 1),
    "scores": ("F32", 2),
    "reencoded": ("F32", 2),
    "heard": ("F64", 2),
    "held_out_statistics": ("F64", 2),
    "training_statistics": ("F64", 2),
    "limits": ("F64", 1),
    "faults": ("U8", 2),
}  # type and number of dimensions on disk
COLUMNS = {
    "scores": SCORES,
    "reencoded": SCORES,
    "heard": 6,  # whether a recording is tonal, and the fields of its `Motion`
    "held_out_statistics": 80,  # four of each band of spectra
    "training_statistics": 80,
    "faults": 7,  # kinds
}
MEASURES = (*COLUMNS, "limits")  # empty until a model file is made

_DTYPES = {"U16": np.uint16, "I64": np.int64, "U8": np.uint8, "F32": np.float32, "F64": np.float64}
_KINDS = {dtype: kind for kind, dtype in _DTYPES.items()}
SIDE_INFO = {name: "I64" if name.endswith("lengths") else "U8" for name in ARRAYS}


@dataclass(frozen=True, eq=False)
class Reference:
    """Names and codes of training recordings, codes of held-out recordings, and measures of both.

    `side_info` has an item for each training recording; an empty sequence means UNKNOWN for all.
    `scores` compare pieces of held-out recordings with the training recordings, `reencoded` re-encoded training
    recordings. `heard` has measures of decoded held-out recordings, NaN if a measure does not apply. Statistics
    describe spectra. `limits` of faults come from training recordings: LIMITS, then one for each band. `faults` of
    held-out recordings are 0 or 1.
    """

    names: Sequence[str]
    codes: Sequence[Coded]
    held_out: Sequence[Coded]
    scores: Scores
    reencoded: Scores
    heard: Doubles  # [n, 6]
    held_out_statistics: Doubles  # [n, 80]
    training_statistics: Doubles
    limits: Doubles
    faults: NDArray[np.uint8]  # [held-out recordings, 7]
    side_info: Sequence[SideInfo] = ()

    def side_info_of(self, name: str) -> SideInfo:
        """Side information of the training recording with this name, or UNKNOWN."""
        return dict(zip(self.names, self.side_info, strict=False)).get(name, UNKNOWN)

    def expect_measures(self, bands: int) -> None:
        """Raise ValueError if measures are missing, or limits for `bands` bands."""
        for name in COLUMNS:
            _expect(len(getattr(self, name)) > 0, f"{name} has no rows")
        _expect(
            len(self.limits) == LIMITS + bands,
            f"there are {len(self.limits)} limits, not {LIMITS + bands}",
        )
        rows, recordings = len(self.faults), len(self.held_out)
        _expect(rows == recordings, f"faults has {rows} rows for {recordings} held-out recordings")

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """Arrays of the file format, named and typed as in TENSORS and SIDE_INFO."""
        values = {
            "codes": np.concatenate(self.codes),
            "lengths": list(map(len, self.codes)),
            "names": np.frombuffer(bytearray("\n".join(self.names).encode()), dtype=np.uint8),
            "held_out": np.concatenate(self.held_out),
            "held_out_lengths": list(map(len, self.held_out)),
            **{name: getattr(self, name) for name in MEASURES},
        }
        arrays = {
            name: np.ascontiguousarray(values[name], dtype=_DTYPES[kind])
            for name, (kind, _) in TENSORS.items()
        }
        return {**arrays, **side_info_arrays(self.side_info or [UNKNOWN] * len(self.names))}


def rows(scores: Scores) -> NDArray[np.void]:
    """Scores `[n]` with names in place of columns."""
    return scores.view(ROW)[:, 0]


def evenly(recordings: Sequence[R], count: int) -> Sequence[R]:
    """At most `count` recordings, evenly spaced."""
    return recordings[:: -(-len(recordings) // count)]


def make_reference(
    names: Sequence[str],
    training: Sequence[NDArray[np.integer]],
    held_out: Sequence[NDArray[np.integer]],
    side_info: Sequence[SideInfo] = (),
) -> Reference:
    """Build a reference without measures from codes `[F, Q]` of both sides.

    It keeps at most MAX_HELD_OUT held-out recordings, each cut to MAX_FRAMES. `side_info` has an item for each training
    recording.
    """
    nothing: dict[str, Any] = {
        name: np.empty((0, columns), _DTYPES[TENSORS[name][0]]) for name, columns in COLUMNS.items()
    }
    return Reference(
        names=[name.replace("\n", " ") for name in names],
        codes=[codes.astype(np.uint16) for codes in training],
        held_out=[codes[:MAX_FRAMES].astype(np.uint16) for codes in evenly(held_out, MAX_HELD_OUT)],
        **nothing,
        limits=np.empty(0),
        side_info=side_info,
    )


def read_reference(
    tensors: Mapping[str, NDArray[np.generic]], codebook_sizes: Sequence[int]
) -> Reference:
    """Build and check a reference from the arrays of `Reference.tensors`. Raises ValueError."""
    arrays: dict[str, NDArray[Any]] = dict(tensors)
    for name, (kind, dimensions) in TENSORS.items():
        array = arrays.get(name, np.empty(()))
        is_valid = (array.dtype, array.ndim) == (np.dtype(_DTYPES[kind]), dimensions)
        _expect(is_valid, f"{name} is missing or of another type or shape")
    levels = len(codebook_sizes)
    for name, columns in {"codes": levels, "held_out": levels, **COLUMNS}.items():
        width = arrays[name].shape[1]
        _expect(width == columns, f"{name} has {width} columns, not {columns}")
    sides: list[list[Coded]] = []
    for name, lengths in (("codes", "lengths"), ("held_out", "held_out_lengths")):
        codes, counts = arrays[name], arrays[lengths].tolist()  # Python's numbers: no overflow
        is_sum = min(counts, default=0) >= 1 and sum(counts) == len(codes)
        _expect(is_sum, f"{lengths} do not add up to {name}")
        _expect(
            (codes.max(axis=0) < codebook_sizes).all(),
            f"{name} holds codewords that the codec does not have",
        )
        sides.append(np.split(codes, np.cumsum(counts)[:-1]))
    names = arrays["names"].tobytes().decode("utf-8", "replace").split("\n")
    _expect(
        len(names) == len(sides[0]), f"there are {len(names)} names for {len(sides[0])} recordings"
    )
    for name in ("scores", "reencoded", "held_out_statistics", "training_statistics", "limits"):
        _expect(np.isfinite(arrays[name]).all(), f"{name} holds NaN or infinite values")
        _expect((np.abs(arrays[name]) < 1e9).all(), f"{name} holds values out of range")
    for name in ("scores", "reencoded"):
        least = np.eye(1, SCORES)  # 1 frame, 0 in all else
        _expect((arrays[name] >= least).all(), f"{name} holds values out of range")
    _expect(np.isin(arrays["heard"][:, 0], (0, 1)).all(), "heard holds values out of range")
    _expect((arrays["faults"] <= 1).all(), "faults holds values out of range")
    measures = {name: arrays[name] for name in MEASURES}
    return Reference(
        names, sides[0], sides[1], **measures, side_info=side_info_of(arrays, len(names))
    )


def _expect(is_met: bool | np.bool_, problem: str) -> None:
    if not is_met:
        raise ValueError(problem)
