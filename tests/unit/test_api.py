"""A model file in Python: sounds and their novelty, codes there and back, sentences for what cannot be."""

import math
import re
from base64 import b64decode
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import distill
from distill import Delivery, Sound
from distill.api import Model
from distill.audio.write import write_audio
from distill.codec.layout import ATOM, NOTE
from distill.codec.tones.atoms import shipped_sets
from distill.codec.tones.meter import PitchMeter
from distill.codes.file import encode_files, load_codes
from distill.errors import ArtifactError, AudioError, AudioWarning, ParamsError
from distill.generate.presentation.results import Result
from distill.generate.requests.generation import BATCH
from distill.generate.sampling.sampler import Sequences
from distill.generate.sampling.tuner import Tuner
from distill.generate.selection.faults import FaultFinder
from distill.generate.selection.rejection import MAX_DRAFTS
from distill.notes import Tuning
from distill.novelty.spectra import band_levels
from distill.novelty.verdict import VERDICTS
from unit.codec.tonal import sound_of
from unit.pitched import write_pitched_model
from unit.tiny import SIZES, TRAINED, write_prior_model, write_tone

COMPOSED, DECOMPOSED = "Gl\u00f6ckchen", "Glo\u0308ckchen"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("model") / "a.distill"
    write_prior_model(path, labels=["drums/kick", "drums/snare", "bells/snare"])
    return distill.load(path)


def same(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))


def test_sounds_come_with_their_novelty_and_can_be_had_again(model: Model) -> None:
    made = model.generate(n=3, seconds=0.3, seed=5)
    assert [(sound.shape, sound.dtype) for sound in made.sounds] == [((4800,), np.dtype(np.float32))] * 3
    assert all(novelty is not None and novelty.verdict in VERDICTS for novelty in made.novelty)
    assert made.report is not None
    assert (made.report.sounds, made.report.mean_seconds) == (3, pytest.approx(0.3))  # not that of whole frames
    again = model.generate(n=3, seconds=0.3, seed=made.seed)
    assert same(made.sounds, again.sounds)
    assert made.novelty == again.novelty
    anything = model.generate()
    assert same(model.generate(seed=anything.seed).sounds, anything.sounds)


def test_a_sound_of_a_seed_is_the_same_whatever_the_number_of_sounds(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as the sums of other batches round alike: of codes hardly ever another, of samples the last bits."""
    monkeypatch.setattr("distill.generate.requests.generation.BATCH", 4)

    def codes(made: Result) -> list[bytes]:
        return [own.tobytes() for own in made.codes]

    for wanted in ({}, {"seconds": 0.3}, {"label": "kick"}, {"reject_faults": True}, {"min_novelty": 0.5}):
        one, some, many = (codes(model.generate(n, seed=6, **wanted)) for n in (1, 3, 6))
        assert one + some[1:] == many[:3]
        assert len({*many}) > 1
    tone = np.sin(np.arange(6000) * 0.2)
    some, more = (codes(model.vary(tone, n, 0.6, seed=6)) for n in (3, 9))
    assert some == more[:3]


def test_a_model_of_near_duplicates_says_what_its_verdicts_miss(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.note == ""
    of_copies = TRAINED.memorization.model_copy(update={"was_memorizing": True, "alike": 3, "compared": 4})
    monkeypatch.setattr("unit.tiny.TRAINED", TRAINED.model_copy(update={"memorization": of_copies}))
    write_prior_model(tmp_path / "m.distill")
    assert distill.load(tmp_path / "m.distill").note.endswith(
        "which verdicts are measured by: a copy may be called new"
    )


def test_codes_go_there_and_back(model: Model) -> None:
    tone, step = np.sin(np.arange(8000) * 0.2).astype(np.float32), model.bundle.codec.spectrogram.samples_per_frame
    codes = model.encode(tone)
    assert codes.shape == (-(-8000 // step), len(SIZES))
    assert len(model.decode(codes)) == codes.shape[0] * step
    assert len(model.encode(Sound(tone, 2 * model.sample_rate))) == pytest.approx(len(codes) / 2, abs=1)
    assert 0 <= model.novelty([codes])[0].percentile <= 1


def test_what_is_louder_than_the_recordings_is_made_softer_with_a_warning(model: Model, tmp_path: Path) -> None:
    wave = (0.8 * np.sin(np.arange(8000) * 0.3)).astype(np.float32)
    write_audio(tmp_path / "loud.wav", wave, model.sample_rate)
    codec = model.bundle.codec
    loud = codec.architecture
    codec.architecture = loud.model_copy(update={"input_gain": 32.0})
    try:
        message = r"loud\.wav: louder than the recordings that the model learnt; made 22\.1 dB softer"
        with pytest.warns(AudioWarning, match=message):
            limited = model.samples(tmp_path / "loud.wav")
        assert np.abs(limited).max() == pytest.approx(2 / 32, rel=1e-3)
        with pytest.warns(AudioWarning, match=r"^samples: louder than"):
            np.testing.assert_allclose(model.samples(wave), limited, atol=1e-5)
        with pytest.warns(AudioWarning, match=message):
            encode_files(codec, [tmp_path / "loud.wav"], tmp_path / "loud.codes")
        assert np.array_equal(load_codes(codec, tmp_path / "loud.codes")[0][2], model.encode(limited))
        assert np.array_equal(model.samples(wave / 16), wave / 16)
    finally:
        codec.architecture = loud


def test_a_prompt_is_samples_or_a_file(model: Model, tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.wav", seconds=0.4)
    from_file = model.generate(seconds=0.2, seed=1, prompt=path)
    samples, _ = soundfile.read(path, dtype="float32")
    from_samples = model.generate(seconds=0.2, seed=1, prompt=samples)
    np.testing.assert_array_equal(from_file.sounds[0], from_samples.sounds[0])
    given = model.encode(samples)
    np.testing.assert_array_equal(from_file.codes[0][: len(given)], given)
    assert len(from_file.sounds[0]) == len(given) * model.bundle.codec.spectrogram.samples_per_frame + 3200


@pytest.mark.parametrize("rate", [0, -1, 44_100.5, "44100", 10**9])
def test_a_rate_that_no_samples_have_is_refused_wherever_samples_go_in(model: Model, rate: Any) -> None:
    tone = np.sin(np.arange(8000) * 0.2).astype(np.float32)
    with pytest.raises(ParamsError, match=r"sample rate .*expected a whole number from 100 to 768000 Hz"):
        model.encode(Sound(tone, rate))
    for into in (
        lambda: model.generate(prompt=Sound(tone, rate)),
        lambda: model.vary(Sound(tone, rate), 1),
    ):
        with pytest.raises(ParamsError, match="sample rate"):
            into()


def test_a_sound_has_a_sample_rate_of_its_own(model: Model) -> None:
    tone = np.sin(np.arange(8000) * 0.2).astype(np.float32)
    doubled = 2 * model.sample_rate
    coded = model.encode(tone, sample_rate=np.int64(doubled))
    assert len(coded) == len(model.vary(Sound(tone, doubled), 1, 0.0).codes[0])
    assert len(coded) < len(model.encode(tone))


def test_labels_are_given_by_name_or_by_its_last_part(model: Model) -> None:
    assert model.labels == ["drums/kick", "drums/snare", "bells/snare"]
    assert (model.label_number("drums/snare"), model.label_number("kick")) == (2, 1)
    plain, usual, strong, default = (
        model.generate(seconds=1.0, seed=0, label="kick", guidance=guidance).codes[0] for guidance in (1, 2.5, 20, None)
    )
    np.testing.assert_array_equal(default, usual)
    assert not np.array_equal(plain, strong)
    with pytest.raises(ParamsError, match="found one that fits several"):
        model.generate(label="snare")


@pytest.mark.parametrize(
    ("asked", "number"),
    [
        (COMPOSED, 1),  # as keyboards write it
        (DECOMPOSED, 1),  # as macOS writes it on disk
        (f"Bells/{COMPOSED}", 1),
        (COMPOSED.upper(), 1),
        ("Tom", 2),  # as it is, before what differs in case
        ("tom", 3),
        ("TOM", 2),  # the whole name, before the last part of another
        ("glocke", None),
    ],
)
def test_labels_are_compared_in_one_normal_form(tmp_path: Path, asked: str, number: int | None) -> None:
    labels = [f"bells/{DECOMPOSED}", "Tom", "drums/tom"]
    write_prior_model(tmp_path / "m.distill", labels=labels)
    model = Model(tmp_path / "m.distill")
    assert model.labels == labels  # as they are on disk
    if number is not None:
        assert model.label_number(asked) == number
        return
    with pytest.raises(ParamsError, match=f"label {asked}: expected one of bells/{DECOMPOSED}, Tom, drums/tom; found"):
        model.label_number(asked)


def test_sounds_that_end_with_the_prompt_are_counted(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def sampled(_: object, wanted: Sequences, *__: object) -> list[np.ndarray]:
        return [np.zeros((1 + number % 10, len(SIZES)), np.int64) for number in range(wanted.count)]

    monkeypatch.setattr("distill.generate.sampling.sampler.sample_codes", sampled)
    prompt = model.decode(np.zeros((20, len(SIZES)), dtype=np.int64))
    made = model.generate(n=20, seed=3, prompt=prompt)
    begun = len(model.encode(prompt))
    added = [(len(codes) - begun) / model.bundle.codec.spectrogram.frame_rate for codes in made.codes]
    ended = sum(seconds < 0.1 for seconds in added)
    assert 0 < ended == made.ended_at_once < 20
    paths = [Path(f"{number}.wav") for number in range(20)]
    assert made.json(paths)["ended_at_once"] == ended
    assert (
        f"{ended} of 20 sounds end where the prompt ends: the model adds nothing to it; a prompt that stops earlier, or a "
        "length in seconds, gives more"
    ) in made.lines(paths)
    for freely in (model.generate(n=20, seed=3), model.generate(n=20, seconds=0.05, seed=3, prompt=prompt)):
        assert freely.ended_at_once == 0
        assert "where the prompt ends" not in " ".join(freely.lines(paths))


def test_sounds_that_are_not_new_enough_are_drawn_again(model: Model) -> None:
    freely = model.generate(n=20, seconds=0.3, seed=3)
    assert (freely.redrawn, freely.not_new) == (0, 0)
    wanted = model.generate(n=20, seconds=0.3, seed=3, min_novelty=0.5)
    newer = [novelty is not None and 1 - novelty.percentile >= 0.5 for novelty in wanted.novelty]
    before = [novelty is not None and 1 - novelty.percentile >= 0.5 for novelty in freely.novelty]
    assert wanted.redrawn >= before.count(False) > 0
    assert newer.count(False) == wanted.not_new < before.count(False)
    for number, kept in enumerate(before):
        assert kept == np.array_equal(wanted.sounds[number], freely.sounds[number])


def test_faulty_sounds_are_reported_and_drawn_again(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all("length" not in (faults or ()) for faults in model.generate(n=20, seconds=0.02, seed=3).faults)

    def odd(_: object, sounds: Sequence[np.ndarray], *__: object) -> list[tuple[str, ...]]:
        return [("drone",) if codes[0, 0] % 2 else () for codes in sounds]

    monkeypatch.setattr(FaultFinder, "__call__", odd)
    freely = model.generate(n=20, seed=3)
    assert freely.fault_report is not None
    assert freely.fault_report.rejected == 0
    assert list(freely.fault_report.sounds) == freely.faults
    assert len(freely.fault_report.held_out) == 3
    wanted = model.generate(n=20, seed=3, reject_faults=True)
    assert wanted.fault_report is not None
    assert wanted.fault_report.rejected >= freely.fault_report.faulty > wanted.fault_report.faulty
    assert list(freely.table()["faults"]) == [list(one or ()) for one in freely.faults]


@pytest.mark.parametrize("count", [1, 2, 5, BATCH + 2])
def test_the_first_sound_can_be_handed_over_alone(model: Model, count: int) -> None:
    taken: dict[int, Any] = {}
    before = set[int]()  # numbers of sounds that were handed over while others were drawn
    kept = model.generate(n=count, seconds=0.1, seed=3)
    delivery = Delivery(lambda *_: before.add(len(taken)), taken.__setitem__, first_alone=True)
    model.generate(n=count, seconds=0.1, seed=3, delivery=delivery)
    assert list(taken) == list(range(count))
    for number, samples in taken.items():  # another batch may round otherwise
        np.testing.assert_allclose(samples, kept.sounds[number], atol=1e-4)
    assert before == {done for done in (0, 1, BATCH + 1) if done < count}


def test_sounds_are_handed_over_batch_by_batch(model: Model) -> None:
    kept = model.generate(n=BATCH + 2, seconds=0.1, seed=3)
    taken: dict[int, np.ndarray] = {}
    seen: list[tuple[int, str]] = []

    def progress(done: int, of: int, text: str) -> None:  # noqa: ARG001
        seen.append((len(taken), text))

    made = model.generate(n=BATCH + 2, seconds=0.1, seed=3, delivery=Delivery(progress, taken.__setitem__))
    assert (made.sounds, made.seconds, made.novelty) == ([], [0.1] * (BATCH + 2), kept.novelty)
    assert same([taken[number] for number in range(BATCH + 2)], kept.sounds)
    assert {count for count, _ in seen} == {0, BATCH}
    assert seen[0][1].startswith(f"sounds 1 to {BATCH} of {BATCH + 2}: ")
    assert seen[-1][1].startswith(f"sounds {BATCH + 1} to {BATCH + 2} of {BATCH + 2}: ")


def test_what_makes_no_sense_is_a_sentence(model: Model, tmp_path: Path) -> None:
    for bad, found in (
        (np.zeros((2, 100)), r"the shape \(2, 100\)"),
        (np.zeros(0), r"the shape \(0,\)"),
        (np.full(100, np.nan), "NaN or infinite values"),
    ):
        with pytest.raises(
            ParamsError,
            match=rf"samples: expected a sound, mono \[N\] or stereo \[N, 2\], of finite numbers, found {found}$",
        ):
            model.encode(bad)
    with pytest.raises(ParamsError, match=r"^label tom: expected one of drums/kick"):
        model.generate(label="tom")
    with pytest.raises(
        ParamsError, match=r"^out .*: expected a new or an empty folder, .* or replace a kit with --replace .*$"
    ):
        model.kit(write_tone(tmp_path / "mine" / "a.wav").parent)
    with pytest.raises(ParamsError, match=r"^load: expected the path of a model file, found None; name one"):
        distill.load(None)  # type: ignore[arg-type]
    with pytest.raises(ParamsError, match=r"codes: expected whole numbers \[frames, 6\], found float64 \[3, 2\]"):
        model.decode(np.zeros((3, 2)))
    with pytest.raises(ParamsError, match="codes: expected codes from 0 to 6 at level 3, found 7"):
        model.decode(np.array([[0, 0, 0, 7, 0, 0]]))
    (tmp_path / "a.wav").write_text("no sound")
    with pytest.raises(AudioError, match=r"a\.wav: expected a recording, found a file that"):
        model.generate(prompt=tmp_path / "a.wav")


def test_models_that_lack_what_is_requested_are_refused(tmp_path: Path) -> None:
    write_prior_model(tmp_path / "b.distill", reference=False)
    model = distill.load(tmp_path / "b.distill")
    made = model.generate(seconds=0.1)
    assert (made.novelty, made.faults, made.fault_report) == ([None], [None], None)
    with pytest.raises(ArtifactError, match=r"b\.distill: expected a model with the codes"):
        model.novelty([np.zeros((3, 2), np.int64)])


def mean_level_difference(model: Model, recording: Path, sound: np.ndarray) -> float:
    """Mean spectral difference in dB of a sound and the recording."""
    codec, levels = model.bundle.codec, list[np.ndarray]()
    for samples in (soundfile.read(recording, dtype="float32")[0], sound):
        with torch.no_grad():
            features = codec.features(codec.spectrogram.padded(torch.from_numpy(samples), codec.margin))
            levels.append(band_levels(codec, features)[0].numpy())
    return float(np.sqrt(np.square(levels[0] - levels[1]).mean(axis=1)).mean())


def test_takes_of_a_recording_are_as_long_as_it_and_can_be_had_again(model: Model, tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.wav", seconds=0.337)
    made = model.vary(path, n=8, strength=0.4, seed=3)
    assert [sound.shape for sound in made.sounds] == [(round(0.337 * 16_000),)] * 8
    assert (made.seconds, made.seed, made.strength, made.equal) == ([0.337] * 8, 3, 0.4, 0)
    assert len({sound.tobytes() for sound in made.sounds}) == 8
    assert all(0 < one.equal_codes < 1 and one.difference_db > 0 and one.verdict in VERDICTS for one in made.similarity)
    assert all(novelty is not None and novelty.verdict in VERDICTS for novelty in made.novelty)
    as_coded = model.vary(path, n=1, strength=0)
    (coding,) = {one.coding_db for one in (*made.similarity, *as_coded.similarity)}
    assert as_coded.similarity[0].equal_codes == 1  # no code is changed, and yet it is another sound
    assert coding == pytest.approx(mean_level_difference(model, path, as_coded.sounds[0]), rel=0.05)
    table = made.table()
    assert list(table["similarity.equal_codes"]) == [one.equal_codes for one in made.similarity]
    assert {"seconds", "frames", "verdict", "similarity.verdict", "spectra.difference_db"} <= set(table)
    taken: dict[int, np.ndarray] = {}
    assert model.vary(path, n=8, strength=0.4, seed=3, delivery=Delivery(on_sound=taken.__setitem__)).sounds == []
    assert same(made.sounds, list(taken.values()))


def test_strength_goes_from_the_decoded_recording_to_a_free_draw(model: Model) -> None:
    tone = np.sin(np.arange(6000) * 0.2).astype(np.float32)
    codes = model.encode(tone)
    whole = model.vary(tone, n=2, strength=0.0)
    assert same(whole.codes, [codes, codes])
    alike = np.corrcoef(whole.sounds[1][:5900], model.decode(codes)[:5900])[0, 1]  # then it fades
    assert alike > 0.9999  # high peaks are cut
    for label in (None, "kick"):
        free = model.generate(n=2, seconds=6000 / 16_000, seed=4, label=label)
        assert same(model.vary(tone, n=2, strength=1.0, seed=4, label=label).sounds, free.sounds)
    at_its_rate = model.vary(Sound(tone, 32_000), n=1)
    assert (at_its_rate.sample_rate, len(at_its_rate.sounds[0])) == (32_000, 6000)
    assert len(model.vary(Sound(tone, 32_000), n=1, sample_rate=16_000).sounds[0]) == 3000


def test_sounds_are_at_notes_and_say_their_pitch(tmp_path: Path) -> None:
    model = Model(write_pitched_model(tmp_path / "pitched.distill"))
    made = model.generate(note="C3, E3,60", label="string", seed=3)
    assert made.notes == [48, 52, 60]
    assert all(abs(pitch - note) <= 0.2 for pitch, note in zip(made.pitches, made.notes, strict=True))
    assert list(made.table()["pitch"]) == made.pitches
    assert model.generate(5, note=["C3", 52], label="string", seconds=0.4, seed=2).notes == [48, 52, 48, 52, 48]
    rows = made.json([Path("a.wav")] * 3)
    assert [(row["note"], row["pitch"]) for row in rows["sounds"]] == list(zip(made.notes, made.pitches, strict=True))
    assert rows["tuning"]["in_words"] == ["3 of 3 sounds at their note within 20 cents"]
    plain = model.generate(2, label="string", seed=2)
    assert (plain.notes, plain.pitches) == ([None, None], [None, None])
    assert not {"note", "pitch", "heard", "tuning"} & {*plain.table(), *plain.json([Path("a.wav")] * 2)}


def test_a_prompt_is_continued_at_the_note(tmp_path: Path) -> None:
    model = Model(write_pitched_model(tmp_path / "pitched.distill"))
    prompt = sound_of(shipped_sets()[0], 52.0, 0.2).numpy()
    made = model.generate(2, 0.5, note="C4", label="string", prompt=prompt, seed=1)
    begun = len(model.encode(prompt))
    for codes, pitch in zip(made.codes, made.pitches, strict=True):
        np.testing.assert_array_equal(codes[:begun], model.encode(prompt))
        assert codes[begun, NOTE] == 60
        assert pitch == pytest.approx(60, abs=0.2)


def test_sounds_of_long_recordings_that_end_where_no_more_is_drawn_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of pads of a minute; a length that is asked for is no cut."""
    write_prior_model(tmp_path / "a.distill")
    model = Model(tmp_path / "a.distill")
    assert not model.generate(n=2, seed=1).cut_short
    frame = 1 / model.bundle.codec.spectrogram.frame_rate
    monkeypatch.setattr("distill.verbs.generate.LONGEST_SECONDS", 2 * frame)
    made = model.generate(n=2, seed=1)
    cut = sum(len(codes) == 2 for codes in made.codes)
    assert cut
    assert made.cut_short.startswith(f"{cut} of 2 sounds end at 0 s, where no more is drawn, and the recordings at ")
    assert made.cut_short in made.lines([Path("a.wav")] * 2)
    assert made.json([Path("a.wav")] * 2)["cut_short"] == made.cut_short
    assert not model.generate(n=2, seconds=2 * frame, seed=1).cut_short


def test_notebooks_show_players_and_a_table_of_what_was_made(tmp_path: Path) -> None:
    write_prior_model(tmp_path / "a.distill", labels=["<b>kick"])
    model = Model(tmp_path / "a.distill")
    made = model.generate(n=2, seconds=0.2, seed=1)
    kit = model.kit(tmp_path / "kit", per_label=2, seconds=0.2, seed=1, allow_copies=True)
    for shown, rate in ((made, made.sample_rate), (kit, kit.sample_rate)):
        page = shown._repr_html_()
        sounds = re.findall(r"<audio controls [^>]*src='data:audio/wav;base64,([^']+)'", page)
        assert len(sounds) == 2
        assert soundfile.read(BytesIO(b64decode(sounds[0])))[1] == rate
        assert "<table" in page
        assert "seconds" in page
        assert "<b>kick" not in page
    np.testing.assert_allclose(
        soundfile.read(BytesIO(b64decode(re.findall("base64,([^']+)'", made._repr_html_())[1])))[0],
        made.sounds[1],
        atol=2**-15,
    )
    taken = model.generate(
        n=2, seconds=0.2, seed=1, delivery=Delivery(on_sound=lambda *_: None)
    )  # which keeps no samples
    assert "<audio" not in taken._repr_html_()
    assert "<table" in taken._repr_html_()


def test_takes_are_transposed_by_semitones_or_to_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(write_pitched_model(tmp_path / "pitched.distill"))
    recording = sound_of(shipped_sets()[0], 55.25, 0.4).numpy()
    codes = model.encode(recording)
    up, to_note, half = (
        model.vary(recording, 1, 0.0, seed=1, **moved)
        for moved in ({"transpose": 3}, {"note": "D4"}, {"transpose": -0.5})
    )
    for made, wanted in ((up, 58.25), (to_note, 62.0), (half, 54.75)):
        assert made.notes == [pytest.approx(wanted, abs=0.07)]
        assert made.pitches == [pytest.approx(wanted, abs=0.13)]
        assert len(made.sounds[0]) == len(recording)
        np.testing.assert_array_equal(made.codes[0][:, ATOM:], codes[:, ATOM:])
    for strength in (0.8, 1.0):
        drawn = model.vary(recording, 3, strength, seed=1, note=64, label="string")
        notes = np.stack(drawn.codes)[..., NOTE]
        assert set(notes[notes > 0]) <= {63, 64, 65}
    monkeypatch.setattr(PitchMeter, "__call__", lambda *_: 50.0)
    kept, drawn = (model.vary(recording, 2, strength, seed=1, transpose=1) for strength in (0.5, 0.6))
    assert (kept.off_note, kept.redrawn_off_note) == (2, 0)  # tones that are kept stay where they are
    assert (drawn.off_note, drawn.redrawn_off_note) == (2, 2 * (MAX_DRAFTS - 1))
    same_as_before = model.vary(recording, 2, 0.4, seed=1)
    assert (same_as_before.notes, same_as_before.pitches) == ([None, None], [None, None])


def test_notes_are_tuned_as_asked_or_as_the_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(write_pitched_model(tmp_path / "pitched.distill"))
    c4 = 60 + 12 * math.log2(436 / 440)
    asked = model.generate(note="C4", label="string", seed=1, tuning=436)
    taken = model.vary(sound_of(shipped_sets()[0], 62.3, 0.4).numpy(), 1, 0.0, seed=1, note="C4", tuning="436")
    monkeypatch.setattr(Tuner, "corpus_tuning", Tuning(436.0, True))
    own = model.generate(note="C4", label="string", seed=1)
    for made in (asked, own, taken):
        assert made.notes == [pytest.approx(c4)]
        assert made.off_note == 0
        assert made.json([Path("a.wav")])["tuning"]["a4_hertz"] == 436
        assert made.lines([Path("a.wav")])[0].split("  ")[2].startswith("C4: ")
    assert taken.pitches == [pytest.approx(c4, abs=0.13)]
    np.testing.assert_array_equal(own.codes[0], asked.codes[0])
    assert "notes at A = 436 Hz" in asked.lines([Path("a.wav")])
    assert "notes at A = 436 Hz, as the recordings" in own.lines([Path("a.wav")])
    other = model.generate(note="C4", label="string", seed=1, tuning=440)
    assert other.notes == [60]
    assert not [line for line in other.lines([Path("a.wav")]) if "notes at" in line]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"transpose": 3}, "transpose: expected a recording with tones, found none; leave transpose out"),
        (
            {"note": "C3"},
            "note C3: expected a recording with a clear pitch, found none; transpose it by a number of semitones",
        ),
    ],
)
def test_what_has_no_pitch_is_not_transposed(tmp_path: Path, given: dict[str, Any], expected: str) -> None:
    model = Model(write_pitched_model(tmp_path / "pitched.distill"))
    hiss = 0.1 * np.random.default_rng(0).standard_normal(6000).astype(np.float32)
    with pytest.raises(ParamsError) as caught:
        model.vary(hiss, 1, **given)
    assert str(caught.value).startswith(expected)


def test_samples_are_taken_as_programs_have_them(model: Model) -> None:
    """Of whole numbers, as files hold them, with their full scale at 1; reversed, read-only, of a tensor in training."""
    sound = np.round(0.4 * np.sin(np.arange(8000) * 0.2) * 128) / 128
    codes = model.encode(sound)
    for coding, silence, scale in (("uint8", 128, 128), ("int16", 0, 1 << 15), ("int32", 0, 1 << 31)):
        assert np.array_equal(model.encode((sound * scale + silence).astype(coding)), codes), coding
    assert np.array_equal(model.encode(sound[::-1][::-1]), codes)
    assert np.array_equal(model.encode(sound[::-1]), model.encode(sound[::-1].copy()))
    assert np.array_equal(model.encode(np.frombuffer(sound.astype(np.float32).tobytes(), np.float32)), codes)
    assert np.array_equal(model.encode(torch.from_numpy(sound)), codes)
    with pytest.raises(
        ParamsError, match=r"samples: expected a sound, .* found Tensor of something else; give samples"
    ):
        model.encode(torch.from_numpy(sound).requires_grad_())


@pytest.mark.parametrize("device", ["cpu", "meta"])  # meta stands for a GPU: what is made there has no values
def test_other_defaults_of_pytorch_change_nothing(model: Model, tmp_path: Path, device: str) -> None:
    """As a program has them that computes in float64 or on a GPU, or a library that it imports."""
    tone = np.sin(np.arange(4000) * 0.2).astype(np.float32)
    write_audio(tmp_path / "a.wav", np.tile(tone, 3), 16_000)

    def made() -> list[np.ndarray]:
        opened, codes = distill.load(model.path), model.encode(tone)
        one = distill.model_of(tmp_path / "a.wav")
        sounds = [*opened.generate(seconds=0.2, seed=1).sounds, *one.vary(one.recording, n=1, seed=1).sounds]
        return [codes, model.decode(codes), *sounds, model.nearest(model.novelty([codes])[0])]

    usual = made()
    torch.set_default_dtype(torch.float64)
    torch.set_default_device(device)
    try:
        assert same(made(), usual)
        assert torch.ones(1).dtype == torch.float64
        assert torch.ones(1).device.type == device
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
