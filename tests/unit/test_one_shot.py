"""Models of one recording: takes and kits of it without training, and sentences for what makes none."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import distill
from distill.codec.tones.meter import PitchMeter
from distill.errors import ArtifactError, AudioError, AudioWarning, ParamsError
from distill.generate.context import GenerationContext
from distill.generate.selection.rejection import GeneratedSound
from distill.kit import generate, instrument
from distill.one_shot import ModelOfOne

RATE = 22_050
MADE_OF = (
    "made from {} alone with the shipped weights; nothing was trained: takes are compared with this recording alone"
)


def hit(seconds: float = 0.3) -> NDArray[np.float64]:
    time = np.arange(round(seconds * RATE)) / RATE
    return 0.5 * np.random.default_rng(0).uniform(-1, 1, len(time)) * np.exp(-12 * time)


def note(hertz: float = 220.0, seconds: float = 0.7) -> NDArray[np.float64]:
    time = np.arange(round(seconds * RATE)) / RATE
    return 0.3 * sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 9)) * np.exp(-2 * time)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, NDArray[np.float64]], ModelOfOne]:
    """Makes a model of a sound in a file of this name."""
    folder = tmp_path_factory.mktemp("recordings")

    def make(name: str, sound: NDArray[np.float64]) -> ModelOfOne:
        soundfile.write(folder / name, sound, RATE, subtype="FLOAT")
        return distill.model_of(folder / name)

    return make


@pytest.fixture(scope="module")
def of_note(made: Callable[..., ModelOfOne]) -> ModelOfOne:
    return made("glass.wav", note())


@pytest.fixture(scope="module")
def of_hit(made: Callable[..., ModelOfOne]) -> ModelOfOne:
    return made("my snare.wav", hit())


def waves(seconds: float, rate: int, *parts: tuple[float, float]) -> NDArray[np.float64]:
    """A sum of sines of such frequencies in Hz and amplitudes."""
    time = np.arange(round(seconds * rate)) / rate
    return np.sum([loud * np.sin(2 * np.pi * hertz * time) for hertz, loud in parts], axis=0)


NOISE = np.random.default_rng(0).standard_normal(20_000)
ORDERS = np.arange(1, 173)
CHORD = [(order * 130 * step, 0.2 / order) for order in range(1, 9) for step in (1, 1.26, 1.5)]
STEADY = {
    "low sine": (waves(0.4, 24_000, (40, 0.5)), 24_000),
    "sine": (waves(0.5, 22_050, (3000, 0.5)), 22_050),
    "high sine": (waves(0.6, 24_000, (9000, 0.5)), 24_000),
    "higher sine": (waves(0.7, 48_000, (10_000, 0.5)), 48_000),
    "saw": (waves(0.5, 44_100, *zip(110 * ORDERS, 0.3 / ORDERS, strict=True)), 44_100),
    "square": (np.sign(waves(0.5, 44_100, (1001, 0.5))) * 0.4, 44_100),
    "clipped sine": (waves(0.5, 44_100, (440, 2.0)).clip(-0.9, 0.9), 44_100),
    "beep": (waves(0.5, 24_000, (3000, 0.4), (3600, 0.3)), 24_000),
    "chord": (waves(0.5, 44_100, *CHORD), 44_100),
    "fm": (0.5 * np.sin(np.arange(20_000) * 0.1 + 4 * np.sin(np.arange(20_000) * 0.35)), 44_100),
    "brown noise": (np.diff(NOISE) / 9, 24_000),
    "soft noise": (1e-3 * NOISE, 44_100),
}


@pytest.mark.parametrize("name", STEADY)
def test_takes_of_any_steady_sound_are_as_loud_as_it(name: str, tmp_path: Path) -> None:
    sound, rate = STEADY[name]
    soundfile.write(tmp_path / "steady.wav", sound, rate, subtype="FLOAT")
    model = distill.model_of(tmp_path / "steady.wav")
    middle = slice(len(model.recording) // 5, 4 * len(model.recording) // 5)
    kept, varied = (model.vary(model.recording, 1, strength, seed=1).sounds[0] for strength in (0, None))
    levels = [20 * np.log10(np.linalg.norm(samples[middle])) for samples in (model.recording, kept, varied)]
    assert levels[1:] == pytest.approx([levels[0]] * 2, abs=1.0)


def test_takes_are_near_the_recording_and_none_is_another(of_hit: ModelOfOne) -> None:
    varied = of_hit.vary(of_hit.recording, n=6, seed=1)
    assert (of_hit.sample_rate, varied.strength, varied.equal) == (24_000, 0.5, 0)
    assert len({sound.tobytes() for sound in varied.sounds}) == 6
    assert {len(sound) for sound in varied.sounds} == {len(of_hit.recording)}
    assert all(0.4 < one.equal_codes < 1 and one.difference_db < 4 for one in varied.similarity)
    of_file = of_hit.vary(of_hit.path, n=6, seed=1)
    assert (of_file.sample_rate, {len(sound) for sound in of_file.sounds}) == (RATE, {len(hit())})
    assert all(np.array_equal(*pair) for pair in zip(of_file.codes, varied.codes, strict=True))
    again = distill.model_of(of_hit.path).vary(of_hit.recording, n=6, seed=1)
    assert all(np.array_equal(*pair) for pair in zip(varied.sounds, again.sounds, strict=True))


def test_it_is_said_that_nothing_was_trained(of_hit: ModelOfOne) -> None:
    varied, sentence = of_hit.vary(of_hit.recording, n=1, seed=1), MADE_OF.format("my snare.wav")
    (line,) = [line for line in varied.lines([Path("a.wav")]) if line.startswith(sentence)]
    assert varied.json([Path("a.wav")])["untrained"] == of_hit.note == line
    assert "unknown" not in "".join(varied.lines([Path("a.wav")]))


def test_a_soft_recording_and_a_loud_one_keep_their_levels_and_a_note_its_pitch(
    of_note: ModelOfOne, made: Callable[..., ModelOfOne]
) -> None:
    with pytest.warns(AudioWarning, match="above full scale"):
        loud = made("loud.wav", 20 * note())
    for model in (of_note, made("soft.wav", 0.002 * note()), loud):
        (sound,) = model.vary(model.recording, n=1, strength=0.0).sounds
        levels = [20 * np.log10(np.abs(one).max()) for one in (sound, model.recording)]
        assert levels[0] == pytest.approx(levels[1], abs=2.5)
        pitch = PitchMeter(model.bundle.codec.spectrogram)(sound)
        assert pitch == pytest.approx(57, abs=0.1)


def test_a_kit_of_a_hit_has_takes_on_the_key_of_its_name(of_hit: ModelOfOne, tmp_path: Path) -> None:
    kit = of_hit.kit(tmp_path / "kit", per_label=3, seed=1)
    (group,) = kit.groups
    assert (group.key, group.label, group.is_drum, group.keys) == (38, "my snare", True, ())
    assert [sound.position for sound in group.sounds] == [1, 2, 3]
    assert len({(tmp_path / "kit" / sound.file).read_bytes() for sound in group.sounds}) == 3
    assert kit.verdict_line == f"none: {of_hit.note}"
    assert json.loads((tmp_path / "kit" / "kit.json").read_text())["untrained"] == of_hit.note
    assert "SHA-256" not in (tmp_path / "kit" / "kit.txt").read_text()


def test_a_kit_of_a_note_is_an_instrument_over_all_keys(of_note: ModelOfOne, tmp_path: Path) -> None:
    (group,) = of_note.kit(tmp_path / "kit", per_label=2, seed=1).groups
    assert (group.key, group.label, group.keys, len(group.sounds)) == (57, "glass", (0, 127), 2)
    kit = of_note.kit(tmp_path / "scale", per_label=1, notes="A3:D#4", every=3, seed=1, sample_rate=24_000)
    assert [(group.key, group.keys) for group in kit.groups] == [(57, (0, 58)), (60, (59, 61)), (63, (62, 127))]
    for group in kit.groups:
        samples, rate = soundfile.read(tmp_path / "scale" / group.sounds[0].file, dtype="float32")
        assert rate == of_note.sample_rate
        assert PitchMeter(of_note.bundle.codec.spectrogram)(samples) == pytest.approx(group.key, abs=0.2)


def test_notes_that_a_recording_does_not_hold_are_said_before_takes_are_made(
    of_note: ModelOfOne, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are made; where it holds none, nothing is, and its own note is on one key."""
    at_notes, said = instrument.at_notes, list[str]()

    def held(notes: set[int]) -> None:
        def at_some(
            context: GenerationContext, voice: GeneratedSound, keys: Sequence[int], *more: float
        ) -> dict[int, GeneratedSound]:
            return at_notes(context, voice, sorted(notes & {*keys}), *more)

        monkeypatch.setattr(instrument, "at_notes", at_some)

    def progress(_: int, __: int, text: str) -> None:
        said.append(text)

    held({57, 59})
    with pytest.warns(AudioWarning) as caught:
        kit = of_note.kit(tmp_path / "kit", notes="G3:B3", per_label=1, seed=1)
    assert str(caught[0].message) == (
        "glass: expected notes at which it keeps a clear pitch when it is coded, found that G3 to G#3, A#3 are none; these "
        "keys play other notes"
    )
    assert [(group.key, len(group.sounds), group.keys) for group in kit.groups] == [
        *((55, 0, ()), (56, 0, ()), (57, 1, (0, 57)), (58, 0, ()), (59, 1, (58, 127))),
    ]
    held(set())
    with pytest.raises(
        ArtifactError,
        match="glass: expected notes at which it keeps a clear pitch when it is coded, found none among G3 to B3; choose "
        "other notes, or leave notes out",
    ):
        of_note.kit(tmp_path / "none", notes="G3:B3", seed=1, progress=progress)
    assert said == []
    assert not (tmp_path / "none").exists()
    (group,) = of_note.kit(tmp_path / "own", per_label=2, seed=1).groups
    assert (group.key, group.keys, len(group.sounds)) == (24, (), 2)


def test_where_all_takes_at_notes_are_silent_no_kit_is_made(
    of_note: ModelOfOne, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.generate.selection.rejection.MAX_DRAFTS", 2)
    monkeypatch.setattr(generate, "is_silent", lambda *_: True)
    with pytest.raises(
        ArtifactError,
        match=r"glass\.wav: expected sounds for the kit, found none among 4 drafts \(4 silent\); choose",
    ):
        of_note.kit(tmp_path / "kit", notes="A3", per_label=1, seed=1)
    assert not any(tmp_path.iterdir())


def test_a_bass_that_is_coded_as_noise_is_refused_at_notes(made: Callable[..., ModelOfOne], tmp_path: Path) -> None:
    """A bass with noise; of a clean one the pitch stays, too, at notes."""
    time = np.arange(round(1.5 * RATE)) / RATE
    clean = sum(np.sin(2 * np.pi * 33 * k * time) / k for k in range(1, 41)) * np.exp(-1.5 * time)
    bass = clean + np.random.default_rng(0).standard_normal(len(time)) * np.exp(-1.5 * time) / 3
    with pytest.raises(ArtifactError, match=r"bass: expected notes at which it keeps .* found none among C2; choose"):
        made("bass.wav", 0.3 * bass).kit(tmp_path / "kit", notes="C2", per_label=1, seed=1)
    kit = made("clean.wav", 0.3 * clean).kit(tmp_path / "clean", notes="C1", per_label=1, seed=1)
    assert [group.note for group in kit.groups] == ["C1"]


def test_a_drum_that_falls_is_refused_at_notes(made: Callable[..., ModelOfOne], tmp_path: Path) -> None:
    """Its codes have tones, but it has no clear pitch."""
    time = np.arange(RATE) / RATE
    kick = 0.8 * np.sin(2 * np.pi * (50 * time + 20 * (1 - np.exp(-30 * time)))) * np.exp(-8 * time)
    with pytest.raises(
        ArtifactError, match=r"boom: expected notes at which it keeps a clear pitch .* found none among C2"
    ):
        made("boom.wav", kick).kit(tmp_path / "kit", notes="C2", per_label=1, seed=1)


def test_one_key_has_takes_of_the_recording_though_it_has_a_pitch(of_note: ModelOfOne, tmp_path: Path) -> None:
    kit = of_note.kit(tmp_path / "kit", one_key=True, round_robins=3, seed=1)
    assert [(group.key, group.keys, len(group.sounds)) for group in kit.groups] == [(24, (), 3)]


def test_notes_of_a_hit_are_refused(of_hit: ModelOfOne, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"note: expected recordings with a pitch, found that \d+% of them have"):
        of_hit.kit(tmp_path / "kit", notes=60)
    assert not any(tmp_path.iterdir())


def test_what_makes_no_model_is_said(made: Callable[..., ModelOfOne]) -> None:
    with pytest.raises(AudioError, match=r"silent\.wav: expected a recording, found a file that is silent \(peak 0\)"):
        made("silent.wav", np.zeros(RATE))
    with (
        pytest.raises(
            AudioError, match=r"blip\.wav: expected at least 0\.025 s of sound, found 0\.020 s; name a longer"
        ),
        pytest.warns(AudioWarning, match="very short"),
    ):
        made("blip.wav", hit(0.02))
    with pytest.raises(ParamsError, match=r"model_of: expected the path of an audio file, found 3; name one such as"):
        distill.model_of(3)  # type: ignore[arg-type]


def test_takes_and_kits_of_a_stereo_recording_are_stereo(tmp_path: Path) -> None:
    wide = np.stack([note(), 0.5 * note() + 0.1 * hit(0.7)], axis=1)
    soundfile.write(tmp_path / "wide.wav", wide, RATE, subtype="FLOAT")
    model = distill.model_of(tmp_path / "wide.wav")
    made = model.vary(model.recording, 2, seed=0)
    assert [sound.shape for sound in made.sounds] == [(len(model.recording), 2)] * 2
    for about in made.side_info:
        np.testing.assert_array_equal(about.image, model.own_side_info.image)
        np.testing.assert_array_equal(about.noise, model.own_side_info.noise)
    assert model.vary(tmp_path / "wide.wav", 1, seed=0, width=0).sounds[0].ndim == 1
    kit = model.kit(tmp_path / "kit", per_label=1, seed=0, notes="C3,E3")
    for sound in kit.sounds:
        samples, _ = soundfile.read(kit.folder / sound.file)
        assert samples.shape[1] == 2
        loop = sound.json().get("loop")
        assert loop is None or loop["end"] < len(samples)
