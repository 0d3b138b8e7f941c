"""Stereo models: sounds with the image of the recording that they are like, in two channels; nothing else of them changes."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import distill
from distill import Sound
from distill.api import Model
from distill.audio.corpus import load_corpus
from distill.audio.image import BANDS, MONO, dequantised, fold, image_of
from distill.audio.ingest import ingest
from distill.audio.measure import level_db
from distill.audio.noise_floor import noise_floor
from distill.audio.side_info import UNKNOWN, SideInfo
from distill.errors import ParamsError
from distill.generate.decoding import PEAK
from distill.generate.presentation.audition import audition
from distill.params import default_params
from unit.command import CommandLine
from unit.tiny import RATE, any_side_info, write_prior_model

Samples = NDArray[np.float32]


def side_info() -> list[SideInfo]:
    """An image and a noise floor for each recording: wider and further to the right from one to the next; the last one is mono."""
    made = []
    for number in range(4):
        image = np.empty((1 + number, 2, BANDS), np.uint8)
        image[:, 0], image[:, 1] = 9 - number, 2 + number
        made.append(image)
    return [SideInfo(image, any_side_info(len(image), n).noise) for n, image in enumerate([*made, MONO])]


def is_same(one: SideInfo, other: SideInfo) -> bool:
    return np.array_equal(one.image, other.image) and np.array_equal(one.noise, other.noise)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Model]:
    """A stereo model, and the same of mono recordings."""
    folder = tmp_path_factory.mktemp("models")
    write_prior_model(folder / "stereo.distill", side_info=side_info())
    write_prior_model(folder / "mono.distill")
    return distill.load(folder / "stereo.distill"), distill.load(folder / "mono.distill")


@pytest.fixture(scope="module")
def model(models: tuple[Model, Model]) -> Model:
    return models[0]


def wide(seconds: float = 0.5) -> Samples:
    """Two noises, the right one softer."""
    noise = 0.2 * np.random.default_rng(3).standard_normal((round(seconds * RATE), 2))
    return (noise * [1, 0.4]).astype(np.float32)


def test_a_drawn_sound_has_the_image_of_its_nearest_recording(model: Model) -> None:
    made, known = model.generate(16, seconds=0.6, seed=1), side_info()
    for sound, about, novelty in zip(made.sounds, made.side_info, made.novelty, strict=True):
        assert novelty is not None
        own = known[int(novelty.nearest.nearest.removesuffix(".wav"))]
        assert sound.shape == (9600, 2)
        assert (sound[:, 0] == sound[:, 1]).all() == (not own.is_stereo)
        assert is_same(about, own.cut(0.0, 0.6))
        assert np.abs(sound).max() <= PEAK + 1e-6
    assert {about.is_stereo for about in made.side_info} == {False, True}


def test_a_sound_that_moves_as_a_recording_is_as_wide_and_as_noisy(models: tuple[Model, Model]) -> None:
    for number, about in enumerate(side_info()):
        assert is_same(models[0].context.side_info_like(number, None), about)
        assert is_same(models[1].context.side_info_like(number, None), UNKNOWN)


def test_what_the_codes_are_is_as_without_images(models: tuple[Model, Model]) -> None:
    floors = [about.in_mono for about in side_info()]
    write_prior_model(path := models[1].path.with_name("noisy.distill"), side_info=floors)
    stereo, mono = (model.generate(8, seconds=0.4, seed=2) for model in (models[0], distill.load(path)))
    flat = models[0].generate(8, seconds=0.4, seed=2, width=0)
    for one, other, flattened in zip(stereo.codes, mono.codes, flat.codes, strict=True):
        assert np.array_equal(one, other)
        assert np.array_equal(one, flattened)
    assert stereo.faults == mono.faults == flat.faults
    for one, other in zip(flat.sounds, mono.sounds, strict=True):
        assert np.array_equal(one, other)  # [N], of the same bytes
    for one, other, about in zip(stereo.sounds, mono.sounds, stereo.side_info, strict=True):
        if not about.is_stereo:
            assert np.array_equal(one, np.stack([other, other], axis=1))
        else:
            assert np.square(one).mean() == pytest.approx(np.square(other).mean(), rel=0.3)  # peaks are cut


def test_codes_and_side_information_are_the_sound(model: Model) -> None:
    made = model.generate(4, seed=3)
    for codes, about, sound in zip(made.codes, made.side_info, made.sounds, strict=True):
        own = sound.T if about.is_stereo else sound[:, 0]
        np.testing.assert_allclose(model.decode(codes, about).T, own, atol=1e-4)
        assert model.decode(codes).ndim == 1
    wider = model.generate(4, seed=3, width=1.5).sounds
    for one, other, about in zip(made.sounds, wider, made.side_info, strict=True):
        if about.is_stereo:
            sides = [np.square(sound[:, 0] - sound[:, 1]).sum() for sound in (one, other)]
            assert sides[1] > sides[0] > 0


def test_a_take_has_the_image_of_its_recording(model: Model, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "wide.wav", wide(), RATE, subtype="FLOAT")
    of_array, of_file = (model.vary(recording, 2, 0.6, seed=4) for recording in (wide(), tmp_path / "wide.wav"))
    for made in (of_array, of_file):
        for sound, about in zip(made.sounds, made.side_info, strict=True):
            assert sound.shape == (len(wide()), 2)
            assert is_same(about, SideInfo(image_of(wide(), RATE), noise_floor(fold(wide(), RATE), RATE)))
            level = 10 * np.log10(np.divide(*np.square(sound).sum(axis=0)))
            assert level == pytest.approx(20 * np.log10(1 / 0.4), abs=3.5)  # peaks are cut
    assert model.vary(wide()[:, 0], 2, 0.6, seed=4).sounds[0].ndim == 1
    assert model.vary(wide(), 2, 0.6, seed=4, width=0).sounds[0].ndim == 1
    equal = np.repeat(wide()[:, :1], 2, axis=1)
    assert np.array_equal(model.encode(equal), model.encode(wide()[:, 0]))


def test_what_continues_a_recording_has_its_side_information(model: Model) -> None:
    made = model.generate(1, seconds=0.4, seed=5, prompt=wide())
    (sound,), (about,) = made.sounds, made.side_info
    assert sound.shape[1:] == (2,)
    assert is_same(about, model.side_info(wide()).cut(0.0, len(sound) / RATE))
    assert model.generate(1, seconds=0.4, seed=5, prompt=wide()[:, 1]).sounds[0].ndim == 1


def test_steps_from_a_stereo_recording_to_a_mono_one_are_all_stereo(model: Model) -> None:
    made = model.morph(wide(), wide()[:, 0], steps=3)
    assert [sound.ndim for sound in made.sounds] == [2] * 3
    assert [about.is_stereo for about in made.side_info] in ([True, False, False], [True, True, False])
    assert {sound.ndim for sound in model.morph(wide(), wide()[:, 0], steps=3, width=0).sounds} == {1}


def test_a_model_of_mono_recordings_makes_mono_of_stereo_files(models: tuple[Model, Model], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "wide.wav", wide(), RATE, subtype="FLOAT")
    _, mono = models
    assert mono.vary(tmp_path / "wide.wav", 1, 0.6, seed=4).sounds[0].ndim == 1
    assert np.allclose(mono.samples(tmp_path / "wide.wav"), wide().mean(axis=1), atol=1e-4)


def test_samples_and_side_information_of_a_sound(model: Model) -> None:
    assert np.array_equal(model.samples(wide()), fold(wide(), RATE))
    levels, coherence = dequantised(model.side_info(wide()).image)
    assert np.median(levels) == pytest.approx(7, abs=0.1)
    assert np.median(np.abs(coherence)) < 0.1
    assert len(model.side_info(wide()[:, 0]).image) == 0
    assert model.side_info(Sound(wide(2.0), 2 * RATE)).image.shape == (1, 2, BANDS)
    assert (about := model.side_info(wide(3.0))).image.shape == (3, 2, BANDS)
    assert np.array_equal(about.noise, noise_floor(fold(wide(3.0), RATE), RATE))


def test_the_nearest_recording_is_heard_with_its_image(model: Model) -> None:
    made = model.generate(16, seconds=0.6, seed=1)
    for novelty in made.novelty:
        assert novelty is not None
        assert model.nearest(novelty).ndim == (1 if novelty.nearest.nearest == "4.wav" else 2)


def test_what_makes_no_sense_is_a_sentence(model: Model) -> None:
    codes = model.generate(1, seed=0).codes[0]
    with pytest.raises(ParamsError, match=r"^side_info: expected what `Model.side_info` gives, found ndarray$"):
        model.decode(codes, np.zeros((1, 2, BANDS), np.uint8))  # type: ignore[arg-type]
    with pytest.raises(ParamsError, match=r"^decode: width: expected less than or equal to 1.5, found 2"):
        model.decode(codes, width=2)
    with pytest.raises(ParamsError, match=r"^generate: width: expected .*, found -1"):
        model.generate(width=-1)
    for shape in ((4, 3), (2, 2, 2), ()):
        with pytest.raises(ParamsError, match=r"^samples: expected a sound, mono \[N\] or stereo \[N, 2\]"):
            model.samples(np.zeros(shape))


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_files_have_two_channels(models: tuple[Model, Model], shell: CommandLine, kind: str) -> None:
    path = str(models[0].path)
    for width, channels in (([], {2}), (["--width", "0"], {1})):
        out = Path(f"{kind}{len(width)}")
        asked = ("-n", "12", "--seconds", "0.3", "--seed", "1", "--format", kind, *width)
        assert shell("generate", path, *asked, "-o", str(out)).status == 0
        written = [soundfile.info(file) for file in sorted(out.glob(f"*.{kind}"))]
        assert len(written) == 12
        assert {file.channels for file in written} == channels


def test_pictures_and_players_show_stereo(models: tuple[Model, Model], shell: CommandLine) -> None:
    out = Path("made")
    asked = ("-n", "2", "--seconds", "0.3", "--seed", "3", "--pictures")
    assert shell("generate", str(models[0].path), *asked, "-o", "made").status == 0
    assert len(list(out.glob("*.png"))) == 2
    assert len(list(out.glob("*_nearest.wav"))) == 2
    made = models[0].generate(2, seconds=0.3, seed=3)
    assert made._repr_html_().count("<audio") == 2
    assert "side_info" not in made.json([Path("a"), Path("b")])


def test_a_kit_has_two_channels_at_one_level(model: Model, tmp_path: Path) -> None:
    kit = model.kit(tmp_path / "kit", per_label=4, seed=1, seconds=0.4, allow_copies=True)
    read = {sound.file: soundfile.read(kit.folder / sound.file) for sound in kit.sounds}
    assert {samples.ndim for samples, _ in read.values()} == {2}
    are_mono = {bool((samples[:, 0] == samples[:, 1]).all()) for samples, _ in read.values()}
    assert are_mono == {False, True}  # some are like a mono recording
    for samples, _ in read.values():
        assert np.abs(samples[-1]).max() < 1e-3
    for group in kit.groups:
        own = [read[sound.file][0] for sound in group.sounds]
        assert max(20 * np.log10(np.abs(samples).max()) for samples in own) == pytest.approx(-1, abs=0.01)
        assert np.ptp([level_db(samples, kit.sample_rate) for samples in own]) < 0.05
    assert (kit.folder / "kit.png").stat().st_size > 0
    assert "width" not in kit.recorded
    flat = model.kit(tmp_path / "flat", per_label=4, seed=1, seconds=0.4, allow_copies=True, width=0)
    assert {soundfile.info(flat.folder / sound.file).channels for sound in flat.sounds} == {1}
    assert flat.recorded["width"] == 0


def test_an_audition_plays_both_channels(model: Model, tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    for number in range(5):
        name, seed = f"{number}.wav", np.random.default_rng(number)
        both = (0.2 * seed.standard_normal((RATE, 2)) * [1, 0.3]).astype(np.float32)
        soundfile.write(tmp_path / "sounds" / name, both if number < 4 else both[:, 0], RATE, subtype="FLOAT")
    ingest(tmp_path / "sounds", tmp_path / "corpus", RATE, 0.0)
    assert model.bundle.reference is not None
    settings = default_params().audition.model_copy(update={"count": 4, "max_seconds": 0.5})
    figures, _ = audition(model.context, load_corpus(tmp_path / "corpus"), settings, 0, tmp_path / "out")
    assert np.isfinite(figures["fault_rate"])
    for number in range(4):
        made, nearest = (tmp_path / "out" / f"sound_{number:03d}{end}.wav" for end in ("", "_nearest"))
        assert soundfile.info(made).channels == 2
        if soundfile.info(nearest).channels == 2:
            level = 10 * np.log10(np.divide(*np.square(soundfile.read(nearest)[0]).sum(axis=0)))
            assert level == pytest.approx(10, abs=1)
