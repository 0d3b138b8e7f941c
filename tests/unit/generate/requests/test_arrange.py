"""Renditions of scores: each note at its time, at its pitch, as loud as it should be; loops that close."""

import json
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from distill.api import Model
from distill.audio.measure import level_db
from distill.errors import ParamsError
from distill.generate.decoding import PEAK
from distill.generate.requests.arrange import RELEASE_SECONDS, equally_loud, mixed, sounded
from distill.generate.scores.score import Contour, Note
from distill.generate.selection.rejection import GeneratedSound
from unit.command import CommandLine
from unit.pitched import RATE

KEYS = (48, 52, 56, 60)
CODES = np.zeros((1, 5), dtype=np.int64)


def melody(path: Path, *keys: int, velocity: int = 100) -> Path:
    """A MIDI file of notes of a beat, half a second, with as long rests between."""
    messages = []
    for key in keys:
        messages.append(mido.Message("note_on", note=key, velocity=velocity, time=480 if messages else 0))
        messages.append(mido.Message("note_off", note=key, time=480))
    file = mido.MidiFile(ticks_per_beat=480, tracks=[mido.MidiTrack(messages)])
    file.save(path)
    return path


def test_notes_of_a_file_are_played_at_their_times_and_pitches(model: Model, tmp_path: Path) -> None:
    made = model.generate(follow=melody(tmp_path / "a.mid", *KEYS), label="string", seed=1)
    (sound,) = made.sounds
    assert len(sound) >= 3 * RATE
    for number, key in enumerate(KEYS):
        start = number * RATE
        assert model.tuner.measure(sound[start : start + RATE // 2]) == pytest.approx(key, abs=0.25)
        before, after = (np.abs(sound[max(0, start + at) : start + at + 80]).max(initial=0.0) for at in (-80, 0))
        assert after > 4 * before  # it begins within 5 ms
    again = model.generate(follow=melody(tmp_path / "a.mid", *KEYS), label="string", seed=1)
    assert np.array_equal(sound, again.sounds[0])
    other = model.generate(follow=melody(tmp_path / "a.mid", *KEYS), label="string", seed=2)
    assert not np.array_equal(sound[:RATE], other.sounds[0][:RATE])


def test_a_note_that_comes_again_is_as_loud(model: Model, tmp_path: Path) -> None:
    made = model.generate(follow=melody(tmp_path / "a.mid", *[60] * 4), label="string", seed=1)
    levels = [level_db(made.sounds[0][number * RATE :][: RATE // 2], RATE) for number in range(4)]
    assert max(levels) - min(levels) < 0.5
    loud = np.sin(np.arange(RATE // 10, dtype=np.float32))
    sounds = {
        ("", 60, number): GeneratedSound(CODES, None, None, gain * loud, 0.1)
        for number, gain in enumerate((1, 0.01, 0))
    }
    sounds["", 61, 0] = GeneratedSound(CODES, None, None, 0.1 * loud, 0.1)
    same = equally_loud(sounds, RATE)
    assert np.abs(same["", 60, 0].samples).max() == pytest.approx(0.01, rel=1e-3)  # the median of the key
    np.testing.assert_allclose(same["", 60, 0].samples, same["", 60, 1].samples, atol=1e-6)
    assert not same["", 60, 2].samples.any()
    np.testing.assert_array_equal(same["", 61, 0].samples, sounds["", 61, 0].samples)


def test_notes_beyond_the_corpus_are_moved_by_octaves_and_said(model: Model, tmp_path: Path) -> None:
    high = model.generate(follow=melody(tmp_path / "a.mid", *[key + 36 for key in KEYS]), label="string", seed=1)
    assert high.remarks == ["moved down 2 octaves, to the notes of the recordings, C3 to C5"]
    one = model.generate(follow=melody(tmp_path / "b.mid", *KEYS, 108), label="string", seed=1)
    assert one.remarks == ["1 note more than an octave beyond these, moved by octaves"]
    noise = model.generate(follow=melody(tmp_path / "c.mid", *KEYS), label="hiss", seed=1)
    assert noise.remarks == ["few of the recordings have a pitch, so notes are at any"]


def test_notes_are_tuned_as_asked(model: Model, tmp_path: Path) -> None:
    made = model.generate(follow=melody(tmp_path / "a.mid", 60), label="string", seed=1, tuning=466.16)  # a semitone
    assert model.tuner.measure(made.sounds[0][: RATE // 2]) == pytest.approx(61, abs=0.25)
    assert made.remarks == ["notes at A = 466.16 Hz"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"loose": 0.5}, "loose: expected a recording to follow, found a MIDI file; leave loose out"),
        ({"track": 2}, "track 2: expected one of "),
    ],
)
def test_what_no_score_takes_is_a_sentence(
    model: Model, tmp_path: Path, given: dict[str, float], expected: str
) -> None:
    with pytest.raises(ParamsError, match=expected):
        model.generate(follow=melody(tmp_path / "a.mid", 60), label="string", **given)
    with pytest.raises(ParamsError, match="stems: expected a MIDI file to follow, found a recording; leave stems out"):
        model.generate(follow=np.ones(RATE, np.float32), stems=True)


def test_a_bent_note_has_the_pitch_that_it_is_bent_to(model: Model, tmp_path: Path) -> None:
    path = melody(tmp_path / "a.mid", 52, 55)
    file = mido.MidiFile(path)
    for place, pitch in ((2, -8192), (0, 6144)):  # two semitones down, one and a half up
        file.tracks[0].insert(place, mido.Message("pitchwheel", pitch=pitch))
    file.save(path)
    (sound,) = model.generate(follow=path, label="string", seed=1).sounds
    pitches = [model.tuner.measure(sound[start : start + RATE // 2]) for start in (0, RATE)]
    assert pitches == pytest.approx([53.5, 53], abs=0.25)  # as exact as sounds at notes


def test_a_bend_plays_a_sound_faster_or_slower() -> None:
    time = np.arange(RATE) / RATE
    sound = np.cos(2 * np.pi * 500 * time).astype(np.float32)
    octaves = Contour([0.0, 10.25, 10.5], [0.0, 12.0, -5.0], origin=0.0)
    played = sounded(sound, Note(10.0, 0.5, 1.0, 60, bend=octaves), RATE)
    quarter = RATE // 4
    for start, hertz in ((0, 500), (quarter + 200, 1000)):
        spectrum = np.abs(np.fft.rfft(played[start : start + RATE // 10]))
        assert 10 * spectrum.argmax() == hertz
    assert len(played) == pytest.approx(quarter + (RATE - quarter) / 2, abs=10)  # then the sound is over
    assert np.abs(np.diff(played)).max() < 2 * np.pi * 1000 / RATE * 1.01  # no clicks


def test_a_level_swells_within_a_note_and_is_steady_after_its_end() -> None:
    swell = Contour([0.0, 10.25, 10.5], [0.0, 0.5, 1.0])
    ones = np.ones(RATE, np.float32)
    played = sounded(ones, Note(10.0, 0.5, 0.5, 60, level=swell), RATE)
    quarter = RATE // 4
    assert not played[: quarter - 100].any()
    assert played[quarter + 100 : 2 * quarter] == pytest.approx(0.25)
    assert played.max() == pytest.approx(0.25)
    assert 0 < np.diff(played[: 2 * quarter]).max() < 0.01  # no clicks
    hit = sounded(ones, Note(10.0, None, 0.5, None, level=swell), RATE)
    assert (len(hit), hit[-1]) == (RATE, pytest.approx(0.5))


def test_remarks_on_a_midi_file_are_said_once(shell: CommandLine, path: Path, tmp_path: Path) -> None:
    whole = melody(tmp_path / "a.mid", 52, 57).read_bytes()
    Path("cut.mid").write_bytes(whole[:-6])
    done = shell("generate", str(path), "--follow", "cut.mid", "--label", "string", "--seed", "1", "--json")
    remark = "cut.mid: track 1 is cut off or damaged after 1.50 s: what comes before is played"
    assert (done.status, json.loads(done.out)["warnings"]) == (0, [remark])
    assert done.err.count(remark) == 1


def test_eight_voices_sound_at_once(model: Model, tmp_path: Path) -> None:
    keys = range(48, 72, 3)
    ons = [mido.Message("note_on", note=key, velocity=127) for key in keys]
    offs = [mido.Message("note_off", note=key, time=480 * (key == 48)) for key in keys]
    mido.MidiFile(tracks=[mido.MidiTrack(ons + offs)]).save(tmp_path / "a.mid")
    (chord,) = model.generate(follow=tmp_path / "a.mid", label="string", seed=1).sounds
    count = RATE // 4
    spectrum = np.abs(np.fft.rfft(chord[:count] * np.hanning(count)))
    for key in keys:
        place = 440 * 2 ** ((key - 69) / 12) * count / RATE
        near = spectrum[round(place) - 2 : round(place) + 3].max()
        assert near > 5 * np.median(spectrum)
    assert np.abs(chord).max() <= PEAK + 1e-6


def test_a_pattern_is_a_loop_of_so_many_samples(model: Model) -> None:
    made = model.generate(pattern="string:x... hiss:..x.", bpm=97, bars=2, seed=1)
    (loop,) = made.sounds
    assert len(loop) == round(2 * 4 * 60 / 97 * RATE)
    step = 60 / 97
    for beat, is_hit in enumerate([True, False, True, False] * 2):
        start = round(beat * step * RATE)
        power = np.square(loop[start : start + 400]).mean()
        if is_hit:
            assert power > 1e-6
    assert made.novelty == [None]
    assert len(model.generate(n=2, pattern="string:x", seed=1).sounds) == 2


def test_a_sound_begins_at_once_is_as_loud_as_its_note_and_ends_after_it() -> None:
    sound = np.concatenate([np.zeros(100), np.ones(RATE)]).astype(np.float32)
    held = sounded(sound, Note(0.0, 0.25, 0.5, 60), RATE)
    assert len(held) == round((0.25 + RELEASE_SECONDS) * RATE)
    assert held[0] == held[RATE // 4 - 1] == 0.5
    assert abs(held[-1]) < 1e-6
    assert len(sounded(sound, Note(0.0, None, 1.0, None), RATE)) == RATE
    late = np.concatenate([np.zeros(RATE), np.ones(10)]).astype(np.float32)
    assert len(sounded(late, Note(0.0, None, 1.0, None), RATE)) > 0.9 * RATE  # what swells later keeps its beginning
    both = np.stack([sound, sound], axis=1)
    assert sounded(both, Note(0.0, 0.25, 0.5, 60), RATE).shape == (len(held), 2)


def test_a_mix_is_the_sum_and_a_loop_goes_on_from_its_beginning() -> None:
    ones = np.full(6, 0.1, np.float32)

    def hit(start: int) -> Note:
        return Note(start / RATE, None, 1.0, None)

    assert mixed([(hit(0), ones), (hit(4), ones)], RATE) == pytest.approx([0.1] * 4 + [0.2] * 2 + [0.1] * 4)
    assert mixed([(hit(2), ones)], RATE, loop=4) == pytest.approx([0.1, 0.1, 0.2, 0.2])
    assert mixed([(hit(0), ones)], RATE, loop=10) == pytest.approx([0.1] * 6 + [0.0] * 4)
    stereo = np.array([[0.1, 0.3]] * 6, np.float32)
    assert mixed([(hit(0), ones), (hit(0), stereo)], RATE)[0] == pytest.approx([0.2, 0.4])


def test_stems_add_up_to_the_mix(model: Model) -> None:
    asked = {"pattern": "string:x.xx hiss:..x.", "seed": 1}
    (mix,) = model.generate(**asked).sounds
    stems = model.generate(**asked, stems=True)
    assert [sound.label for sound in stems.draws.sounds] == ["string", "hiss"]
    assert np.abs(mix).max() <= PEAK + 1e-6
    assert sum(stems.sounds) == pytest.approx(mix, abs=1e-5)
    assert stems.json([Path("a"), Path("b")])["sounds"][1]["label"] == "hiss"


def test_a_loop_in_a_file_tells_its_tempo(shell: CommandLine, path: Path, tmp_path: Path) -> None:
    asked = ("--pattern", "string:x..x", "--bpm", "97", "--bars", "2", "--seed", "1", "--out", "out")
    assert shell("generate", str(path), *asked).status == 0
    (file,) = (tmp_path / "out").iterdir()
    data, samples = file.read_bytes(), soundfile.info(file).frames
    acid, sampler = data.index(b"acid"), data.index(b"smpl")
    assert np.frombuffer(data[acid + 28 : acid + 32], "<f4")[0] == 97
    assert int.from_bytes(data[acid + 20 : acid + 24], "little") == 8
    assert int.from_bytes(data[sampler + 56 : sampler + 60], "little") == samples - 1
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
