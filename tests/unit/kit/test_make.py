"""Kits on disk: complete, repeatable, without copies, written as a whole or not at all; sounds trimmed, at one peak."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

import distill
from distill.api import Model
from distill.audio.measure import level_db
from distill.audio.write import write_audio
from distill.codec.model import VQVAE
from distill.errors import ArtifactError, ParamsError
from distill.generate.context import GenerationContext
from distill.generate.selection.rejection import MAX_DRAFTS, GeneratedSound
from distill.kit.clusters import OCTAVE_DB, distances, spectral_clusters
from distill.kit.finish import FADE_SECONDS, LEAD_SECONDS, PEAK_DB, at_one_level, finish
from distill.kit.folder import kit_folder
from distill.kit.generate import ClusterKit, Step, is_silent
from distill.kit.instrument import kit_generator
from distill.kit.kit import Kit, KitGroup, KitSound
from distill.kit.make import write_picture
from distill.kit.settings import KitSettings
from distill.model_file.build import measured
from distill.novelty.reference import make_reference
from unit.tiny import SIZES, any_codes, networks, tiny_codec, write_prior_model

RATE = 16_000
PEAK = 10 ** (PEAK_DB / 20)
LABELS = ["drum/kick", "drum/snare", "open hat", "closed hat", "../x", 'a"b<c>&d', "line\nsample=evil.wav $x", "ドラム"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("model") / "a.distill"
    write_prior_model(path, labels=LABELS)
    return distill.load(path)


@pytest.fixture(scope="module")
def kit(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """A kit of all labels with two layers, of which a soft one has a round robin and a loud one two."""
    out = tmp_path_factory.mktemp("out") / "kit"
    return model.kit(out, per_label=3, velocity_layers=2, seconds=0.3, seed=1)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_that_is_named_is_there_and_no_other(kit: Kit) -> None:
    assert sorted(content(kit.folder)) == kit.files
    named = {sound.file for sound in kit.sounds}
    assert {"kit.json", "kit.png", "kit.txt", "kit.sfz", "kit.dspreset", *named} == set(kit.files)
    assert all(re.fullmatch(r"samples/\d{3}_[a-z0-9-]{1,40}_\d\d\.wav", name) for name in named)
    for sound in kit.sounds:
        samples, rate = soundfile.read(kit.folder / sound.file)
        assert (rate, samples.ndim) == (kit.sample_rate, 1)
        assert len(samples) / rate == sound.seconds <= 0.3
        assert samples[-1] == 0
    for group in kit.groups:
        read = [soundfile.read(kit.folder / sound.file)[0] for sound in group.sounds]
        assert max(20 * np.log10(np.abs(samples).max()) for samples in read) == pytest.approx(-1, abs=0.01)
        assert np.ptp([level_db(samples, kit.sample_rate) for samples in read]) < 0.05
    assert soundfile.info(kit.folder / kit.sounds[0].file).subtype == "PCM_16"


def test_drums_are_on_their_keys_and_layers_by_level(kit: Kit) -> None:
    assert [(group.label, group.key) for group in kit.groups[:2]] == [("../x", 24), ('a"b<c>&d', 26)]
    drums = {group.label: group.key for group in kit.groups if group.json()["is_drum"]}
    assert drums == {"drum/kick": 36, "drum/snare": 38, "closed hat": 42, "open hat": 46}
    for group in kit.groups:
        assert [(one.low_velocity, one.high_velocity) for one in group.sounds] == [(1, 63), (64, 127), (64, 127)]
        assert [(one.position, one.round_robins) for one in group.sounds] == [(1, 1), (1, 2), (2, 2)]
        assert [one.level_db for one in group.sounds] == sorted(one.level_db for one in group.sounds)


def test_text_index_and_table_say_what_is_in_it(kit: Kit, model: Model) -> None:
    text, counts = (kit.folder / "kit.txt").read_text(encoding="utf-8"), kit.verdicts()
    assert f"{counts['new']} new, {counts['close']} close, 0 copies" in text
    assert f"weights with SHA-256 {model.metadata.payload_sha256}\n" in text
    assert "\nseed            1\n" in text
    assert "line sample=evil.wav $x" in text
    assert all(f"{sound.file}  {sound.seconds:.2f} s  velocity " in text for sound in kit.sounds)
    assert json.loads((kit.folder / "kit.json").read_text(encoding="utf-8")) == kit.json()
    assert not {"one_key", "width", "tuning"} & kit.recorded.keys()
    assert list(kit.table()["file"]) == [sound.file for sound in kit.sounds]
    assert {"label", "key", "note", "verdict", "seconds", "novelty.percentile"} <= set(kit.table().columns)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(model: Model, tmp_path: Path) -> None:
    one, again, other = (
        content(model.kit(tmp_path / name, per_label=2, seconds=0.1, seed=seed, labels=["kick"]).folder)
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    )
    assert again == one
    assert other["samples/036_drum-kick_01.wav"] != one["samples/036_drum-kick_01.wav"]


def test_a_model_without_labels_gives_clusters_from_dark_to_bright(tmp_path: Path) -> None:
    write_prior_model(tmp_path / "m.distill", reference=False)
    kit = distill.load(tmp_path / "m.distill").kit(tmp_path / "kit", per_label=2, seconds=0.1, seed=0)
    count = len(kit.groups)
    assert 2 <= count <= 8
    assert [group.label for group in kit.groups] == [f"group {number}" for number in range(1, count + 1)]
    assert [group.key for group in kit.groups] == [24, 26, 28, 29, 31, 33, 35, 36][:count]
    assert all(1 <= len(group.sounds) <= 2 for group in kit.groups)
    assert kit.verdicts() == {"new": 0, "close": 0, "copy": 0, "unknown": len(kit.sounds)}
    text = (kit.folder / "kit.txt").read_text(encoding="utf-8")
    assert "unknown: the model has no codes of its training recordings, so no copy could be left out" in text


def test_copies_and_repeats_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, prior = networks()
    others = [any_codes(30, np.random.default_rng(seed)) for seed in range(3)]

    def drawn(known: list[np.ndarray], allow_copies: bool = False, count: int = 4) -> tuple[list[bytes], Counter[str]]:
        names = [f"{number}.wav" for number in range(len(known))]
        reference = measured(make_reference(names, known, others), codec) if known else None
        settings = KitSettings(out="kit", seconds=0.3, seed=0, allow_copies=allow_copies)
        sounds, missing, refused = ClusterKit(GenerationContext(codec, prior, reference), settings, {}).drafts(
            0, count, Step(0, count, "")
        )
        assert len(sounds) + missing == count
        assert not known or allow_copies == any(sound.novelty.verdict == "copy" for sound in sounds if sound.novelty)
        return [sound.codes.tobytes() for sound in sounds], refused

    first, refused = drawn([])
    codes = [np.frombuffer(one, np.int64).reshape(-1, len(SIZES)) for one in first]
    assert (len(first), refused) == (4, {})
    kept, refused = drawn(codes)
    assert refused["copy"] >= 4
    assert not set(kept) & set(first)
    assert drawn(codes, allow_copies=True)[0] == first
    monkeypatch.setattr("distill.generate.requests.generation.derive_seed", lambda *_: 0)  # all sounds are drawn alike
    same, _ = drawn([])
    assert len(set(same)) == len(same)
    (alone,), _ = drawn([], count=1)
    assert drawn([np.frombuffer(alone, np.int64).reshape(-1, len(SIZES))], count=1) == ([], {"copy": MAX_DRAFTS})


def test_places_that_stay_empty_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec whose sounds are all silent gives nothing to use, and no folder."""
    monkeypatch.setattr("distill.generate.selection.rejection.MAX_DRAFTS", 3)
    write_prior_model(tmp_path / "m.distill", labels=["kick"])
    model = distill.load(tmp_path / "m.distill")
    assert model.fault_finder is not None  # which has heard the recordings
    model.bundle.codec.mean.fill_(-30)
    model.bundle.codec.components.zero_()
    with pytest.raises(
        ArtifactError,
        match=r"m\.distill: expected sounds for the kit, found none among 6 drafts \(6 silent\); allow copies",
    ):
        model.kit(tmp_path / "kit", per_label=1, seconds=0.1)
    assert [path.name for path in tmp_path.iterdir()] == ["m.distill"]


def test_a_label_without_a_sound_is_said_and_the_others_are_made(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two layers, too: of the four sounds of the first label none can be used."""
    monkeypatch.setattr("distill.generate.selection.rejection.MAX_DRAFTS", 3)
    calls = itertools.count()
    monkeypatch.setattr("distill.kit.generate.is_silent", lambda *_: next(calls) < 4 * 3)
    kit = model.kit(tmp_path / "kit", labels=["kick", "snare"], per_label=2, velocity_layers=2, seconds=0.1, seed=1)
    assert [(group.label, len(group.sounds)) for group in kit.groups] == [("drum/kick", 0), ("drum/snare", 2)]
    assert kit.missing_lines == ["drum/kick: 0 of 2 sounds; refused draws: 12 silent"]
    assert "drum-kick" not in (kit.folder / "kit.sfz").read_text()


def test_silence_is_judged_beside_the_recordings() -> None:
    """By their codes where they are known, else by the gain of the codec that was fitted to them."""
    codec, codes = tiny_codec(), np.zeros((20, len(SIZES)), np.int64)
    louder = np.eye(1, len(SIZES), dtype=np.int64)  # by a step of 2 dB
    recordings = [codes + louder * level for level in (12, 14, 20)]
    context = GenerationContext(
        codec, None, measured(make_reference(["a", "b"], recordings[:2], recordings[2:]), codec)
    )

    def sound(level: int, peak: float = 0.0) -> GeneratedSound:
        return GeneratedSound(codes + louder * level, None, None, np.full(9, peak, np.float32))

    assert [is_silent(context, sound(level)) for level in (4, 8, 12, 30)] == [True, False, False, False]
    soft = VQVAE(codec.architecture.model_copy(update={"input_gain": 1024}), codec.spectrogram)
    for of, quiet in ((codec, 0.0005), (soft, 0.0005 / 1024)):
        unknown = GenerationContext(of, None)
        assert is_silent(unknown, sound(0, quiet))
        assert not is_silent(unknown, sound(0, 4 * quiet))


def test_an_interrupted_kit_leaves_what_was_there(model: Model, tmp_path: Path) -> None:
    asked: dict[str, object] = {"per_label": 1, "seconds": 0.2, "labels": ["kick", "snare"]}
    old = model.kit(tmp_path / "kit", seed=0, **asked)  # type: ignore[arg-type]
    before = content(tmp_path)

    def interrupt(done: int, of: int, text: str) -> None:  # noqa: ARG001
        if done:
            raise KeyboardInterrupt

    for out, replace in ((old.folder, True), (tmp_path / "new", False)):
        with pytest.raises(KeyboardInterrupt):
            model.kit(out, seed=1, replace=replace, progress=interrupt, **asked)  # type: ignore[arg-type]
        assert content(tmp_path) == before
        assert [path.name for path in tmp_path.iterdir()] == ["kit"]
    new = model.kit(old.folder, seed=1, replace=True, **asked)  # type: ignore[arg-type]
    assert sorted(content(new.folder)) == new.files
    assert content(tmp_path) != before


def test_spectra_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ArtifactError, match="expected finite spectra of the codec, found NaN or infinite values"):
        spectral_clusters([np.full((6, 20), np.nan, dtype=np.float32)] * 3, 2)


def tone(seconds: float, gain: float = 0.5) -> np.ndarray:
    return (gain * np.cos(np.arange(round(seconds * RATE)) * 0.3)).astype(np.float32)


def test_silence_is_cut_at_both_ends_and_the_ends_faded() -> None:
    rest = np.full(3000, 1e-4, dtype=np.float32)
    given = np.concatenate([rest, tone(0.2), rest, tone(0.2), rest])
    done = finish(given, RATE)
    assert len(done) == pytest.approx(3200 + 3000 + 3200 + LEAD_SECONDS * RATE, abs=4)
    assert np.abs(done[3300:6100]).max() < 1e-3  # silence within is kept
    for gain in (0.004, 0.5, 0.98):
        done = finish(tone(0.5, gain), RATE)
        assert np.abs(done).max() == pytest.approx(gain, rel=1e-3)
        fade = np.abs(done[-int(FADE_SECONDS * RATE) :])
        assert fade[-80:].max() < 0.3 * gain < fade[:80].max()
        assert level_db(tone(0.5, gain), RATE) == pytest.approx(20 * np.log10(gain / np.sqrt(2)), abs=0.1)
    done = finish(np.concatenate([np.full(400, 4e-4, dtype=np.float32), tone(0.1)]), RATE)
    assert done[0] == done[-1] == 0
    assert (np.diff(done[:16]) >= 0).all()
    for count in (1, 2, 3, 50, 400):  # a peak within the fade
        (done,) = at_one_level([finish(np.linspace(0.1, 0.9, count, dtype=np.float32), RATE)], RATE)
        assert np.abs(done).max() == pytest.approx(PEAK, rel=1e-5)


def test_sounds_of_an_instrument_have_one_level_and_the_loudest_peak_that_all_can_have() -> None:
    peaky = 0.001 * tone(0.5)
    peaky[100] = 0.01
    stereo = np.stack([tone(0.5, 0.02), tone(0.5, 0.4)], axis=1)
    even = at_one_level([tone(0.5), peaky, stereo], RATE)
    assert [level_db(samples, RATE) for samples in even] == pytest.approx([level_db(even[0], RATE)] * 3, abs=1e-3)
    assert [float(np.abs(samples).max()) for samples in even] == pytest.approx([0.048, PEAK, 0.07], abs=0.03)
    assert at_one_level([], RATE) == []


def test_the_sounds_of_a_key_are_takes_of_one_draft(model: Model) -> None:
    """They are as long, most of their codes are equal, and no two are the same; without labels, too."""
    settings = KitSettings(out="kit", labels=["kick", "../x"], seconds=0.3, seed=2)
    for (group,) in kit_generator(model.context, settings).instruments():
        first, *takes = (sound.codes for sound in group.generated.sounds)
        assert len(takes) == 3
        assert len({first.tobytes(), *(take.tobytes() for take in takes)}) == 4
        for take in takes:
            assert take.shape == first.shape
            assert (take == first).mean() > 0.5
    other = kit_generator(model.context, settings.model_copy(update={"seed": 3}))
    (loose,) = (sound.codes for sound in other.drafts(1, 1, Step(0, 1, "")).sounds)
    frames = min(len(loose), len(first))
    assert (loose[:frames] == first[:frames]).mean() < 0.3


def test_layers_are_drafts_that_are_alike_from_soft_to_loud(model: Model) -> None:
    settings = KitSettings(out="kit", labels=["kick"], seconds=0.3, seed=2, per_label=5, velocity_layers=2)
    ((group,),) = kit_generator(model.context, settings).instruments()
    codes = [sound.codes for sound in group.generated.sounds]
    alike = [[(one == other).mean() > 0.5 for other in codes if one.shape == other.shape] for one in codes]
    assert [sum(own) for own in alike] == [2, 2, 3, 3, 3]
    assert codes[0][:, 0].max() <= codes[2][:, 0].max()
    shapes = np.array([[0.0] * 20, [0.0] * 20, [3.0] * 20])
    assert distances(shapes, [10, 20, 10])[0] == pytest.approx([0, OCTAVE_DB, 3])


def test_one_key_has_variations_of_one_sound(model: Model, tmp_path: Path) -> None:
    made = model.kit(
        tmp_path / "kit", one_key=True, round_robins=3, velocity_layers=2, labels=["kick"], seconds=0.2, seed=1
    )
    files = [f"samples/036_drum-kick_{number:02d}.wav" for number in range(1, 7)]
    assert [sound.file for sound in made.sounds] == files
    assert [(sound.low_velocity, sound.position, sound.round_robins) for sound in made.sounds] == [
        (low, position, 3) for low in (1, 64) for position in (1, 2, 3)
    ]
    assert len({(made.folder / file).read_bytes() for file in files}) == 6
    assert (made.recorded["one_key"], made.recorded["round_robins"]) == (True, 3)
    with pytest.raises(
        ParamsError, match="labels: expected one for an instrument on one key, found drum/kick, drum/sn"
    ):
        model.kit(tmp_path / "none", one_key=True)


def test_one_key_of_a_model_without_labels(tmp_path: Path) -> None:
    write_prior_model(tmp_path / "steps.distill", reference=False)
    made = distill.load(tmp_path / "steps.distill").kit(tmp_path / "kit", one_key=True, seconds=0.3, seed=0)
    assert [(group.label, group.key, len(group.sounds)) for group in made.groups] == [("steps", 24, 4)]


def write_kit(folder: Path, files: list[str]) -> Path:
    (folder / "samples").mkdir(parents=True)
    for name in files:
        (folder / name).write_text("\0made with Distill" if name.endswith("01.wav") else "")
    (folder / "kit.json").write_text(json.dumps({"format": "distill_kit", "files": [*files, "kit.json"]}))
    return folder


def test_a_new_an_empty_and_a_linked_folder_are_taken_and_a_kit_when_asked(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    assert kit_folder(tmp_path / "new" / "deep", False) == tmp_path / "new" / "deep"
    assert kit_folder(tmp_path / "empty", False) == kit_folder(tmp_path / "link", False) == tmp_path / "empty"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "link"]
    (tmp_path / "empty" / ".DS_Store").touch()
    assert kit_folder(tmp_path / "empty", False) == tmp_path / "empty"
    out = write_kit(tmp_path / "kit", ["kit.sfz", "samples/036_kick_01.wav"])
    with pytest.raises(
        ParamsError, match="expected a new or an empty folder, found one with files in it; name another, or"
    ):
        kit_folder(out, False)
    (out / "samples" / ".DS_Store").touch()
    assert kit_folder(out, True) == out


@pytest.mark.parametrize(
    "own", ["song.als", "samples/036_kick_01.wav", "samples/mine.wav", "samples/036_kick_02.wav", "listed.wav", "link"]
)
def test_a_kit_with_files_of_ones_own_is_kept(tmp_path: Path, own: str) -> None:
    out = write_kit(tmp_path / "kit", ["kit.sfz", "samples/036_kick_01.wav", "listed.wav", "kit.txt"])
    if own != "listed.wav":
        (out / "listed.wav").unlink()
        (out / own).write_text("mine")
    if own == "link":
        (out / own).rename(out / "kit.txt")
        (out / "kit.txt").unlink()
        (out / "kit.txt").symlink_to("kit.sfz")
        own = "kit.txt"
    with pytest.raises(ParamsError, match=f"a kit that Distill made and nothing else, to replace it, found {own}; "):
        kit_folder(out, True)


@pytest.mark.parametrize("index", [None, "", "[]", "{}", '{"format": "distill_kit"}', '{"files": []}', "[" * 100_000])
def test_another_folder_is_not_replaced(tmp_path: Path, index: str | None) -> None:
    (tmp_path / "song").mkdir()
    (tmp_path / "song" / "kit.sfz").touch()
    if index is not None:
        (tmp_path / "song" / "kit.json").write_text(index)
    with pytest.raises(ParamsError, match=r"found no kit\.json of Distill; move your own files away"):
        kit_folder(tmp_path / "song", True)


def test_places_that_cannot_be_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    own = "expected a folder of its own, found the current folder or one above it; name a folder in it"
    for out, message in (
        (tmp_path / "file", "expected a folder to write to, found Not a directory; name another folder"),
        (tmp_path / "file" / "x", "expected a folder to write to, found Not a directory; name another folder"),
        (Path(), own),
        (tmp_path, own),
        (Path("x" * 300), "expected a folder to write to, found File name too long; name another folder"),
    ):
        with pytest.raises(ParamsError, match=f"^out {out}: {message}"):
            kit_folder(out, True)


@pytest.mark.parametrize("label", ["$\\frac{1}{$", "\x1b[31m\ud800"])
def test_a_picture_is_drawn_under_any_title(tmp_path: Path, label: str) -> None:
    write_audio(tmp_path / "a.wav", np.full(1, 0.5, dtype=np.float32), RATE)
    write_picture(
        tmp_path / "kit.png",
        [KitGroup(label, 36, True, False, (KitSound("a.wav", 1, 127, 1, 1, 1, 0, None),), 0, Counter())],
    )
    assert (tmp_path / "kit.png").read_bytes().startswith(b"\x89PNG")
