"""The layout of a frame: which level is what, from sizes alone, and its parts."""

import torch

from distill.codec.layout import LOUDNESS_SIZE, NOTES, TUNINGS, FrameLayout

SIZES = (LOUDNESS_SIZE, NOTES, TUNINGS, 7, 16, 16)


def test_levels_are_the_loudness_a_tone_and_shapes() -> None:
    layout = FrameLayout.of_codec(atoms=7, codebook_size=16, shapes=2)
    assert layout == FrameLayout(SIZES)
    assert [level.size for level in layout] == list(SIZES)
    assert layout.names == ("loudness", "note", "tuning", "atom", "shape 1", "shape 2")
    assert [level.kind for level in layout][-2:] == ["shape", "shape"]
    assert (list(layout.tones), list(layout.shapes), layout.spectral) == ([1, 2, 3], [4, 5], [0, 4, 5])
    assert layout.first_shape == 4


def test_sizes_tell_levels_without_tones() -> None:
    for sizes, first_shape in (((8,), 0), ((8, 8, 8, 8, 8), 1), ((71, NOTES, TUNINGS), 1)):
        layout = FrameLayout(sizes)
        assert not layout.tones
        assert layout.spectral == list(range(len(sizes)))
        assert layout.first_shape == first_shape


def test_parts_of_codes_join_to_codes() -> None:
    codes = torch.arange(24).reshape(2, 2, 6)
    for layout in (FrameLayout(SIZES), FrameLayout((8,) * 6)):
        spectral, tones = layout.split(codes)
        assert torch.equal(spectral, codes[..., layout.spectral])
        assert torch.equal(tones, codes[..., list(layout.tones)])
        assert torch.equal(layout.join(spectral, tones), codes)
