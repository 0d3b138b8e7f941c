"""Morphs: the ends are both sounds, and what lies between is between them in pitch, spectrum and length."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.api import Model
from distill.codec.tones.atoms import shipped_sets
from distill.errors import ParamsError
from distill.generate.requests.morph import End, morphed
from unit.codec.tonal import RATE, sound_of
from unit.command import CommandLine
from unit.pitched import networks


def string(pitch: float, seconds: float = 0.5) -> np.ndarray:
    return sound_of(shipped_sets()[0], pitch, seconds, 3.0).numpy()


def hiss(seconds: float = 0.3) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).normal(size=round(seconds * RATE))).astype(np.float32)


def test_steps_go_from_one_sound_to_the_other(model: Model) -> None:
    first, last = string(48, 0.4), string(60, 0.8)
    made = model.morph(first, last, 5)
    assert np.array_equal(made.codes[0], model.encode(first))
    assert np.array_equal(made.codes[-1], model.encode(last))
    assert np.array_equal(made.sounds[0], model.decode(made.codes[0], model.side_info(first)))
    pitches = [model.tuner.measure(sound) for sound in made.sounds]
    assert pitches == pytest.approx([48, 51, 54, 57, 60], abs=0.15)
    lengths = [len(sound) for sound in made.sounds]
    assert lengths == sorted(lengths)


def test_partials_move_and_are_not_crossfaded(model: Model) -> None:
    middle = model.morph(string(48), string(60), 3).sounds[1]
    power = np.square(np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 4 * RATE)))

    def at(pitch: float) -> float:
        place = round(440 * 2 ** ((pitch - 69) / 12) * 4)
        return float(power[place - 12 : place + 13].sum())

    assert at(54) > 10 * at(48)
    assert at(54) > 10 * at(60)


def test_attacks_are_aligned(model: Model) -> None:
    late = np.concatenate([np.zeros(round(0.4 * RATE), np.float32), string(60, 0.4)])
    middle = model.morph(string(48, 0.4), late, 3).sounds[1]
    loud = np.abs(middle) > 0.3 * np.abs(middle).max()
    assert int(loud.argmax()) / RATE == pytest.approx(0.2, abs=0.05)


def test_a_tone_and_a_noise_have_sounds_between_them(model: Model) -> None:
    for ends in ((string(60), hiss()), (hiss(), string(60)), (hiss(), hiss(0.1))):
        for sound in model.morph(*ends, 4).sounds:
            assert np.isfinite(sound).all()
            assert np.abs(sound).max() > 0


def test_four_sounds_are_the_corners_of_a_grid(model: Model) -> None:
    corners = [string(48), string(60), string(54, 0.3), string(66)]
    made = model.morph(*corners[:2], 3, below=corners[2:])
    assert made.columns == 3
    for place, corner in zip((0, 2, 6, 8), corners, strict=True):
        assert np.array_equal(made.codes[place], model.encode(corner))
    pitches = [model.tuner.measure(sound) for sound in made.sounds]
    assert pitches == pytest.approx([48, 54, 60, 51, 57, 63, 54, 60, 66], abs=0.2)
    above = model.morph(*corners[:2], 3)
    assert all(np.array_equal(one, other) for one, other in zip(made.codes, above.codes, strict=False))
    with pytest.raises(ParamsError, match="expected two recordings, or four as the corners of a grid, found 3; give"):
        model.morph(*corners[:2], below=corners[2:3])
    for wrong, found in (("bell.wav", "str"), (corners[2], "ndarray"), (3, "int")):
        with pytest.raises(ParamsError, match=f"below: expected a list of two recordings, found one {found}; give two"):
            model.morph(*corners[:2], below=wrong)
    with pytest.raises(
        ParamsError, match=r"samples: expected a sound, .* found list of something else; give samples or"
    ):
        model.morph(["x"], corners[1])
    assert len(model.morph(*corners[:2], 2, below=None).sounds) == 2


@pytest.mark.parametrize("frames", [(1, 1), (1, 9), (9, 1), (2, 30)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_sounds_of_any_lengths_are_morphed(frames: tuple[int, int], share: float) -> None:
    codec, _ = networks()
    sizes = torch.tensor(codec.architecture.codebook_sizes)
    first, last = ((torch.rand(count, len(sizes)) * sizes).long().numpy() for count in frames)
    intervals = torch.zeros(len(codec.tone.ratios)).double()
    ends = [End.of(codec, intervals, codes) for codes in (first, last)]
    made = morphed(codec, intervals, ends, [1 - share, share])
    assert len(made) == max(1, round((1 - share) * frames[0] + share * frames[1]))
    assert ((made >= 0) & (made < sizes.numpy())).all()


def test_steps_are_files_with_the_names_of_both(shell: CommandLine, path: Path) -> None:
    from distill.audio.write import write_audio

    for name, sound in (("low", string(48)), ("high", string(60))):
        write_audio(Path(f"{name}.wav"), sound, RATE)
    done = shell("morph", str(path), "low.wav", "high.wav", "--steps", "3")
    assert done.status == 0
    assert "seed" not in done.out
    assert sorted(file.name for file in Path("morphed").iterdir()) == [f"low_to_high_{n:03d}.wav" for n in range(3)]
    assert "--steps: expected greater than or equal to 2, found 1" in shell.refused(
        "morph", str(path), "low.wav", "high.wav", "--steps", "1"
    )
    grid = shell(
        "morph", str(path), "low.wav", "high.wav", "high.wav", "low.wav", "--steps", "2", "--json", "--out", "grid"
    )
    assert json.loads(grid.out)["columns"] == 2
    assert len(list(Path("grid").iterdir())) == 4
    assert "expected two recordings, or four as the corners of a grid, found 3; give two or four" in shell.refused(
        "morph", str(path), "low.wav", "high.wav", "high.wav"
    )
    assert "none.wav: expected a recording, found nothing there; check the path" in shell.refused(
        "morph", str(path), "low.wav", "none.wav"
    )
