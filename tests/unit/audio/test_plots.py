"""Pictures of sounds: soft ones are seen as well as loud ones."""

from pathlib import Path

import matplotlib
import numpy as np

from distill.audio.plots import write_spectrograms


def test_soft_sounds_have_the_picture_of_loud_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sounds = [(name, (peak * rng.uniform(-1, 1, 4000)).astype(np.float32)) for name, peak in (("a", 0.9), ("b", 0.1))]
    pictures = []
    for gain in (1, 256):
        write_spectrograms(tmp_path / "a.png", [(name, samples / gain) for name, samples in sounds], 16_000)
        pictures.append((tmp_path / "a.png").read_bytes())
    assert pictures[0] == pictures[1]
    write_spectrograms(tmp_path / "a.png", [("silence", np.zeros(4000, np.float32))], 16_000)


def test_a_style_of_the_user_changes_no_picture(tmp_path: Path) -> None:
    """Such as that of a `matplotlibrc`: LaTeX, which is perhaps not installed, other fonts and colours."""
    sound = ("a", np.sin(np.arange(4000) * 0.2).astype(np.float32))
    write_spectrograms(tmp_path / "a.png", [sound], 16_000)
    style = {"text.usetex": True, "font.family": "serif", "figure.facecolor": "black", "savefig.bbox": "tight"}
    with matplotlib.rc_context(style):
        write_spectrograms(tmp_path / "b.png", [sound], 16_000)
        assert matplotlib.rcParams["text.usetex"]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
