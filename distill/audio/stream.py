"""A sound file that is read from front to back: what a reader of a format gives to all who read sound.

Shapes: `n` frames of the file, `C` channels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


class AudioStream(ABC):
    """Open sound file. Use as a context manager. A reader of a format is a function of a path that returns one.

    `watch` is called with True before each block, and with False when there are no more.
    """

    watch: ClassVar[Callable[[bool], None]] = staticmethod(lambda _: None)

    sample_rate: int  # Hz
    channels: int
    frames: int | None  # that can be read at most, None where that is not known

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        AudioStream.watch(False)

    @property
    @abstractmethod
    def announced(self) -> int | None:
        """Frames that the header announces, None where it does not."""

    @property
    def warning(self) -> str:
        """What else the file holds besides these frames, "" where it holds nothing."""
        return ""

    def read_block(self, most: int) -> tuple[F32, str]:
        """Up to `most` frames `[n, C]`, none at the end, and why there are no more: "" where nothing failed."""
        AudioStream.watch(True)
        return self._read(most)

    @abstractmethod
    def _read(self, most: int) -> tuple[F32, str]:
        """As `read_block`."""

    @abstractmethod
    def skip_to(self, frame: int) -> bool:
        """Go on with `frame`, which lies ahead. False where the file is damaged."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""
