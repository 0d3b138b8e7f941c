"""Layout of a frame's codes: levels of the loudness, the tone, and the spectrum.

Shapes: Q levels, S spectral levels.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:  # stages without networks import this module
    from torch import Tensor

# Note 0 is no tone, the others are MIDI notes; fine pitch in sixteenths of a semitone.
NOTES, TUNINGS = 128, 16
LOUDNESS_RANGE = (-5.0, 2.0)  # log10 amplitude, from silence to above full scale
LOUDNESS_STEP = 0.1  # 2 dB: smaller steps would cost the prior more bits
# Number of loudness codes.
LOUDNESS_SIZE = 1 + round((LOUDNESS_RANGE[1] - LOUDNESS_RANGE[0]) / LOUDNESS_STEP)
# Levels of a tone, and the first spectral level, the coarsest.
NOTE, TUNING, ATOM, SHAPE = 1, 2, 3, 4


def level_names(levels: int) -> tuple[str, ...]:
    """Names of levels for people; metrics and files use `level_0`, …."""
    spectral = (f"shape {number}" for number in range(1, levels - SHAPE + 1))
    return ("loudness", "note", "tuning", "atom", *spectral)


@dataclass(frozen=True)
class FrameLayout:
    """Levels of a frame's codes: loudness, note, fine pitch, partial set, then spectral levels, coarsest first.

    `codebook_sizes` `[Q]` are the numbers of codes per level, as in files.
    """

    codebook_sizes: tuple[int, ...]

    @classmethod
    def of_codec(cls, atoms: int, codebook_size: int, num_quantizers: int) -> Self:
        """Layout of a codec with `num_quantizers` levels, and `codebook_size` codewords in each spectral level."""
        first = (LOUDNESS_SIZE, NOTES, TUNINGS, atoms)
        return cls((*first, *[codebook_size] * (num_quantizers - len(first))))

    @property
    def tones(self) -> range:
        """Indices of the levels of note, fine pitch and partial set."""
        return range(NOTE, SHAPE)

    @property
    def spectral_levels(self) -> range:
        """Indices of the spectral levels."""
        return range(SHAPE, len(self.codebook_sizes))

    @property
    def spectral(self) -> list[int]:
        """Indices of the loudness level and the spectral levels, coarsest first."""
        return [0, *self.spectral_levels]

    @property
    def names(self) -> tuple[str, ...]:
        """See `level_names`."""
        return level_names(len(self.codebook_sizes))

    def split(self, codes: "Tensor") -> "tuple[Tensor, Tensor]":
        """Split codes `[..., Q]` into loudness and spectrum `[..., 1 + S]`, and tones `[..., 3]`; S may be any number."""
        return codes[..., [0, *range(SHAPE, codes.shape[-1])]], codes[..., NOTE:SHAPE]

    def join(self, spectral: "Tensor", tones: "Tensor") -> "Tensor":
        """Join the two parts of `split` into codes `[..., Q]`."""
        codes = spectral.new_empty(*spectral.shape[:-1], spectral.shape[-1] + tones.shape[-1])
        codes[..., [0, *range(SHAPE, codes.shape[-1])]], codes[..., NOTE:SHAPE] = spectral, tones
        return codes
