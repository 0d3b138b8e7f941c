"""The layout of a frame: which level is what, and its parts."""

import torch

from distill.codec.layout import LOUDNESS_SIZE, NOTES, TUNINGS, FrameLayout

SIZES = (LOUDNESS_SIZE, NOTES, TUNINGS, 7, 16, 16)


def test_levels_are_the_loudness_a_tone_and_shapes() -> None:
    layout = FrameLayout.of_codec(atoms=7, codebook_size=16, num_quantizers=6)
    assert layout == FrameLayout(SIZES)
    assert layout.names == ("loudness", "note", "tuning", "atom", "shape 1", "shape 2")
    assert (list(layout.tones), list(layout.spectral_levels), layout.spectral) == ([1, 2, 3], [4, 5], [0, 4, 5])


def test_parts_of_codes_join_to_codes() -> None:
    layout = FrameLayout(SIZES)
    for levels in (6, 8):  # of any number of levels
        codes = torch.arange(4 * levels).reshape(2, 2, levels)
        spectral, tones = layout.split(codes)
        assert torch.equal(spectral, codes[..., [0, *range(4, levels)]])
        assert torch.equal(tones, codes[..., 1:4])
        assert torch.equal(layout.join(spectral, tones), codes)
