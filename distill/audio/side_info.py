"""What is kept of a recording beside its codes: how its sound lies between two channels, and how noisy its tones are.

A row of either is of a whole sound up to 1.5 s, or of one second of a longer one.
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

FILE = "side_info.safetensors"  # of recordings beside them, in their order
# Arrays in a file: names, columns, and how many steps there are for each column.
KINDS: Mapping[str, tuple[str, int, NDArray[np.integer]]] = {
    "image": ("image_lengths", 2 * BANDS, np.repeat([len(LEVEL_STEPS), len(COHERENCE_STEPS)], BANDS)),
    "noise": ("noise_lengths", NOISE_BANDS, np.repeat(len(STEPS), NOISE_BANDS)),
}
ARRAYS = {name for rows, (lengths, *_) in KINDS.items() for name in (rows, lengths)}


@dataclass(frozen=True, eq=False)
class SideInfo:
    """Stereo image `[T, 2, BANDS]`, of no rows for a mono sound, and noise floor `[T, bands]`."""

    image: Image = field(default_factory=lambda: MONO)
    noise: NoiseFloor = field(default_factory=lambda: TYPICAL)

    @property
    def is_stereo(self) -> bool:
        """Whether there is something between the channels."""
        return len(self.image) > 0

    def cut(self, start_seconds: float, seconds: float) -> Self:
        """What belongs to a part of a sound, with as many rows as a sound of its length has."""
        count = row_count(seconds)
        middles = start_seconds + np.arange(count) + min(seconds, 1.0 if count > 1 else seconds) / 2
        image = self.image[row_of_seconds(middles, len(self.image))] if self.is_stereo else self.image
        return replace(self, image=image, noise=self.noise[row_of_seconds(middles, len(self.noise))])

    @property
    def in_mono(self) -> Self:
        """The same without what is between the channels."""
        return replace(self, image=MONO)


UNKNOWN = SideInfo()  # mono, and as noisy as is typical


def side_info_arrays(sounds: Sequence[SideInfo]) -> dict[str, NDArray[Any]]:
    """Arrays for a file: all rows of a kind, one sound after another, and how many of them each sound has."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, (lengths, columns, _) in KINDS.items():
        rows = [getattr(sound, name) for sound in sounds]
        if any(map(len, rows)):
            arrays[name] = np.concatenate(rows).reshape(-1, columns)
            arrays[lengths] = np.array(list(map(len, rows)), np.int64)
    return arrays


def side_info_of(arrays: Mapping[str, NDArray[Any]], count: int) -> list[SideInfo]:
    """What `side_info_arrays` made of `count` sounds; without images all are mono. Raises ValueError."""
    noise = _checked(arrays, "noise", count)
    is_mono = not {"image", "image_lengths"} & arrays.keys()
    images = [MONO] * count if is_mono else _checked(arrays, "image", count)
    return [SideInfo(image.reshape(-1, 2, BANDS), floor) for image, floor in zip(images, noise, strict=True)]


def write_side_info(folder: Path, sounds: Sequence[SideInfo]) -> None:
    """Write the side information of recordings, in their order, into a folder."""
    write_bytes(folder / FILE, save(side_info_arrays(sounds)))


def read_side_info(folder: Path, count: int) -> list[SideInfo]:
    """What `write_side_info` wrote of `count` recordings. Raises ArtifactError."""
    path = folder / FILE
    try:
        return side_info_of(load_file(path), count) if count else []  # where no file of a block is usable
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(path, "stereo images and noise floors of recordings", error) from error


def _checked(arrays: Mapping[str, NDArray[Any]], name: str, count: int) -> list[NDArray[np.uint8]]:
    """The rows of each of `count` sounds. Raises ValueError."""
    lengths_name, columns, steps = KINDS[name]
    for key, dtype, dimensions in ((name, np.uint8, 2), (lengths_name, np.int64, 1)):
        if key not in arrays or arrays[key].dtype != dtype or arrays[key].ndim != dimensions:
            raise ValueError(f"{key} is missing or of another type or shape")
    rows, lengths = arrays[name], arrays[lengths_name]
    if rows.shape[1] != columns:
        raise ValueError(f"{name} has {rows.shape[1]} columns, not {columns}")
    if len(lengths) != count:
        raise ValueError(f"{lengths_name} has {len(lengths)} entries for {count} recordings")
    if not (count and lengths.min() >= 0 and lengths.max() <= len(rows) and lengths.sum() == len(rows)):
        raise ValueError(f"{lengths_name} do not add up to {name}")
    if (rows >= steps).any():
        raise ValueError(f"{name} holds numbers that are no steps of its scale")
    return np.split(rows, np.cumsum(lengths)[:-1])
