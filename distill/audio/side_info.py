"""Side information of a recording, kept next to its codes: parametric-stereo parameters and noise floor.

Each has one row for a sound up to 1.5 s, and one row a second for a longer sound.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from distill.audio.image import BANDS, COHERENCE_STEPS, LEVEL_STEPS, MONO, Image
from distill.audio.measure import row_count, row_of_seconds
from distill.audio.noise_floor import BANDS as NOISE_BANDS
from distill.audio.noise_floor import STEPS, TYPICAL, NoiseFloor
from distill.storage.files import damaged, write_bytes

FILE = "side_info.safetensors"  # in the folder of the recordings, in their order
# Arrays in a file: name of the lengths, number of columns, and number of steps of each column.
KINDS: Mapping[str, tuple[str, int, NDArray[np.integer]]] = {
    "image": (
        "image_lengths",
        2 * BANDS,
        np.repeat([len(LEVEL_STEPS), len(COHERENCE_STEPS)], BANDS),
    ),
    "noise": ("noise_lengths", NOISE_BANDS, np.repeat(len(STEPS), NOISE_BANDS)),
}
ARRAYS = {name for rows, (lengths, *_) in KINDS.items() for name in (rows, lengths)}


@dataclass(frozen=True, eq=False)
class SideInfo:
    """Stereo image `[T, 2, BANDS]`, without rows for a mono sound, and noise floor `[T, NOISE_BANDS]`."""

    image: Image = field(default_factory=lambda: MONO)
    noise: NoiseFloor = field(default_factory=lambda: TYPICAL)

    @property
    def is_stereo(self) -> bool:
        """Whether the sound has a stereo image."""
        return len(self.image) > 0

    def cut(self, start_seconds: float, seconds: float) -> Self:
        """Side information of a part of a sound, with the row count of its length."""
        count = row_count(seconds)
        middles = start_seconds + np.arange(count) + min(seconds, 1.0 if count > 1 else seconds) / 2
        image = (
            self.image[row_of_seconds(middles, len(self.image))] if self.is_stereo else self.image
        )
        return replace(
            self, image=image, noise=self.noise[row_of_seconds(middles, len(self.noise))]
        )

    @property
    def in_mono(self) -> Self:
        """The same side information without the stereo image."""
        return replace(self, image=MONO)


UNKNOWN = SideInfo()  # mono, with a typical noise floor


def side_info_arrays(sounds: Sequence[SideInfo]) -> dict[str, NDArray[Any]]:
    """Arrays for a file: for each kind the concatenated rows of all sounds, and the row count of each sound."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, (lengths, columns, _) in KINDS.items():
        rows = [getattr(sound, name) for sound in sounds]
        if any(map(len, rows)):
            arrays[name] = np.concatenate(rows).reshape(-1, columns)
            arrays[lengths] = np.array(list(map(len, rows)), np.int64)
    return arrays


def side_info_of(arrays: Mapping[str, NDArray[Any]], count: int) -> list[SideInfo]:
    """Side information of `count` sounds from `side_info_arrays`; mono if there are no images. Raises ValueError."""
    noise = _checked(arrays, "noise", count)
    is_mono = not {"image", "image_lengths"} & arrays.keys()
    images = [MONO] * count if is_mono else _checked(arrays, "image", count)
    return [
        SideInfo(image.reshape(-1, 2, BANDS), floor)
        for image, floor in zip(images, noise, strict=True)
    ]


def write_side_info(folder: Path, sounds: Sequence[SideInfo]) -> None:
    """Write the side information of recordings, in their order, into a folder."""
    write_bytes(folder / FILE, save(side_info_arrays(sounds)))


def read_side_info(folder: Path, count: int) -> list[SideInfo]:
    """Read the side information of `count` recordings. Raises ArtifactError."""
    path = folder / FILE
    try:
        return (
            side_info_of(load_file(path), count) if count else []
        )  # 0 if no file of a block is usable
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(path, "stereo images and noise floors of recordings", error) from error


def _checked(arrays: Mapping[str, NDArray[Any]], name: str, count: int) -> list[NDArray[np.uint8]]:
    """Rows of each of `count` sounds, validated. Raises ValueError."""
    lengths_name, columns, steps = KINDS[name]
    for key, dtype, dimensions in ((name, np.uint8, 2), (lengths_name, np.int64, 1)):
        if key not in arrays or arrays[key].dtype != dtype or arrays[key].ndim != dimensions:
            raise ValueError(f"{key} is missing or of another type or shape")
    rows, lengths = arrays[name], arrays[lengths_name]
    if rows.shape[1] != columns:
        raise ValueError(f"{name} has {rows.shape[1]} columns, not {columns}")
    if len(lengths) != count:
        raise ValueError(f"{lengths_name} has {len(lengths)} entries for {count} recordings")
    if not (
        count and lengths.min() >= 0 and lengths.max() <= len(rows) and lengths.sum() == len(rows)
    ):
        raise ValueError(f"{lengths_name} do not add up to {name}")
    if (rows >= steps).any():
        raise ValueError(f"{name} holds numbers that are no steps of its scale")
    return np.split(rows, np.cumsum(lengths)[:-1])
