"""The layout of a frame's codes: which level codes the loudness, which its tone, and which the shape of the spectrum.

Shapes: Q levels, of which S code the shape.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

if TYPE_CHECKING:  # stages without networks know layouts, too
    from torch import Tensor

NOTES, TUNINGS = 128, 16  # note 0 is no tone, the others are MIDI notes; a tuning is a sixteenth of a semitone
LOUDNESS_RANGE = (-5.0, 2.0)  # log10 of an amplitude, from silence to full scale
LOUDNESS_STEP = 0.1  # 2 dB: smaller steps cost the prior bits
LOUDNESS_SIZE = 1 + round((LOUDNESS_RANGE[1] - LOUDNESS_RANGE[0]) / LOUDNESS_STEP)  # codes of the loudness
NOTE, TUNING, ATOM = 1, 2, 3  # levels of a tone

Kind = Literal["loudness", "note", "tuning", "atom", "shape"]


class Level(NamedTuple):
    """A level of codes: what it codes, how people call it, and its codebook size."""

    kind: Kind
    name: str
    size: int


@dataclass(frozen=True)
class FrameLayout:
    """What each level of a frame's codes is: the loudness, note, tuning and atom of its tone, then shapes, coarsest first.

    `codebook_sizes` `[Q]` are the numbers of codes, which files hold. They alone say whether there are tones: no shape
    levels differ in size as note and tuning do.
    """

    codebook_sizes: tuple[int, ...]

    @classmethod
    def of_codec(cls, atoms: int, codebook_size: int, num_quantizers: int) -> Self:
        """The layout of a codec of so many levels, whose shape levels have `codebook_size` codewords each."""
        first = (LOUDNESS_SIZE, NOTES, TUNINGS, atoms)
        return cls((*first, *[codebook_size] * (num_quantizers - len(first))))

    @property
    def tones(self) -> range:
        """Numbers of the levels of note, tuning and atom; none where codes have no tones."""
        has_tones = len(self.codebook_sizes) > ATOM and tuple(self.codebook_sizes[NOTE:ATOM]) == (NOTES, TUNINGS)
        return range(NOTE, ATOM + 1) if has_tones else range(NOTE, NOTE)

    @property
    def shapes(self) -> range:
        """Numbers of the levels of the shape."""
        return range(self.tones.stop, len(self.codebook_sizes))

    @property
    def spectral(self) -> list[int]:
        """Numbers of the levels of the spectrum, coarsest first: the loudness and the shapes."""
        return [0, *self.shapes]

    @property
    def first_shape(self) -> int:
        """Number of the level that says most about a spectrum: the first of the shape, or the only level."""
        return min(self.shapes.start, len(self.codebook_sizes) - 1)

    @property
    def names(self) -> tuple[str, ...]:
        """What people call each level; in metrics and files it is `level_0`, …."""
        return tuple(level.name for level in self)

    def __iter__(self) -> Iterator[Level]:
        """The levels, as frames hold them."""
        tones: tuple[Kind, ...] = ("note", "tuning", "atom")
        sizes = iter(self.codebook_sizes)
        for kind in ("loudness", *tones[: len(self.tones)]):
            yield Level(kind, kind, next(sizes))
        for number, size in enumerate(sizes, start=1):
            yield Level("shape", f"shape {number}", size)

    def split(self, codes: "Tensor") -> "tuple[Tensor, Tensor]":
        """Codes `[..., 1 + S]` of the spectrum and `[..., 3]` of tones, of all codes `[..., Q]`."""
        spectral = [level for level in range(codes.shape[-1]) if level not in self.tones]
        return codes[..., spectral], codes[..., self.tones.start : self.tones.stop]

    def join(self, spectral: "Tensor", tones: "Tensor") -> "Tensor":
        """Codes `[..., Q]` of the two parts that `split` gives."""
        after = NOTE + tones.shape[-1]
        codes = spectral.new_empty(*spectral.shape[:-1], spectral.shape[-1] + tones.shape[-1])
        codes[..., :NOTE], codes[..., NOTE:after], codes[..., after:] = (
            spectral[..., :NOTE],
            tones,
            spectral[..., NOTE:],
        )
        return codes
