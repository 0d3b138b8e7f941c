"""The layout of a frame's codes: which level codes the loudness, which its tone, and which the shape of the spectrum.

Shapes: Q levels, S of them shape levels.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:  # stages without networks know layouts, too
    from torch import Tensor

NOTES, TUNINGS = (
    128,
    16,
)  # note 0 is no tone, the others are MIDI notes; a tuning is a sixteenth of a semitone
LOUDNESS_RANGE = (-5.0, 2.0)  # log10 of an amplitude, from silence to full scale
LOUDNESS_STEP = 0.1  # 2 dB: smaller steps cost the prior bits
LOUDNESS_SIZE = 1 + round(
    (LOUDNESS_RANGE[1] - LOUDNESS_RANGE[0]) / LOUDNESS_STEP
)  # codes of the loudness
NOTE, TUNING, ATOM, SHAPE = (
    1,
    2,
    3,
    4,
)  # levels of a tone, and the first of the shape, which says most of a spectrum


def level_names(levels: int) -> tuple[str, ...]:
    """Names of levels for people; metrics and files say `level_0`, …."""
    shapes = (f"shape {number}" for number in range(1, levels - SHAPE + 1))
    return ("loudness", "note", "tuning", "atom", *shapes)


@dataclass(frozen=True)
class FrameLayout:
    """Kind of each level of a frame's codes: the loudness, note, tuning and atom of its tone, then shapes, coarsest first.

    `codebook_sizes` `[Q]` are the numbers of codes, which files hold.
    """

    codebook_sizes: tuple[int, ...]

    @classmethod
    def of_codec(cls, atoms: int, codebook_size: int, num_quantizers: int) -> Self:
        """Layout of a codec with `num_quantizers` levels, whose shape levels have `codebook_size` codewords each."""
        first = (LOUDNESS_SIZE, NOTES, TUNINGS, atoms)
        return cls((*first, *[codebook_size] * (num_quantizers - len(first))))

    @property
    def tones(self) -> range:
        """Numbers of the levels of note, tuning and atom."""
        return range(NOTE, SHAPE)

    @property
    def shapes(self) -> range:
        """Numbers of the levels of the shape."""
        return range(SHAPE, len(self.codebook_sizes))

    @property
    def spectral(self) -> list[int]:
        """Numbers of the levels of the spectrum, coarsest first: the loudness and the shapes."""
        return [0, *self.shapes]

    @property
    def names(self) -> tuple[str, ...]:
        """See `level_names`."""
        return level_names(len(self.codebook_sizes))

    def split(self, codes: "Tensor") -> "tuple[Tensor, Tensor]":
        """Codes `[..., 1 + S]` of the spectrum and `[..., 3]` of tones, of all codes `[..., Q]`, with any number of levels."""
        return codes[..., [0, *range(SHAPE, codes.shape[-1])]], codes[..., NOTE:SHAPE]

    def join(self, spectral: "Tensor", tones: "Tensor") -> "Tensor":
        """Codes `[..., Q]` of the two parts that `split` gives."""
        codes = spectral.new_empty(*spectral.shape[:-1], spectral.shape[-1] + tones.shape[-1])
        codes[..., [0, *range(SHAPE, codes.shape[-1])]], codes[..., NOTE:SHAPE] = spectral, tones
        return codes
