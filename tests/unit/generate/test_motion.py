"""Motion: what is drawn bends, loses its treble and keeps time as the recording that it follows."""

import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from unit.pitched import networks

from distill.codec.layout import NOTE, SHAPE, TUNING
from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.generate.motion import Motions, Moving
from distill.generate.sampling import Sequences, follow_courses, generators, sample_codes
from distill.prior.courses import Course

FRAMES = 60
MIDDLE = 8  # tuning of a key


def recording(frames: int = FRAMES) -> Codes:
    """Codes of a steady tone that dies away, in the first codeword of each level."""
    _, prior = networks()
    codes = np.zeros((frames, prior.num_quantizers), np.int64)
    codes[:, 0] = np.linspace(60, 30, frames).round()
    codes[:, NOTE : NOTE + 3] = [60, MIDDLE, 1]
    return codes


def glide(semitones: int) -> Codes:
    codes = recording()
    steps = 60 * 16 + MIDDLE + np.linspace(0, 16 * semitones, FRAMES).round().astype(np.int64)
    codes[:, NOTE], codes[:, TUNING] = steps // 16, steps % 16
    return codes


def loop() -> Codes:
    """A beat each 12 frames."""
    codes = recording(96)
    codes[:, NOTE : NOTE + 3] = 0
    codes[:, 0] = np.tile([60, 50, 42, 36, 32, 30, 28, 26, 24, 22, 20, 18], 8)
    return codes


def darkening() -> Codes:
    """A tone whose spectrum goes from the brightest codeword to the darkest."""
    tilts = tilt_of_words()
    order = tilts.argsort(descending=True)
    codes = recording()
    codes[:, SHAPE] = order[torch.linspace(0, len(order) - 1, FRAMES).round().long()].numpy()
    return codes


def tilt_of_words() -> torch.Tensor:
    """Treble less bass of each codeword of the first shape level, in dB."""
    codec, _ = networks()
    words = Motions(codec, [recording()]).words[0]
    return words[:, -1] - words[:, 0]


def drawn(
    recordings: Sequence[Codes], count: int = 8, moves: bool = True, bends: bool = True, seconds: int = 0
) -> list[Codes]:
    """Sounds that follow recordings; with `seconds` so many frames of each."""
    codec, untouched = networks()
    prior = copy.deepcopy(untouched)
    prior.longest.fill_(max(map(len, recordings)))
    prior.begin_courses(list(map(len, recordings))).fit([(codes, 0) for codes in recordings])
    wanted, random = Sequences(count, seconds or 200, natural_ending=not seconds), generators(range(count))
    motions = Motions(codec, recordings) if moves else None
    return sample_codes(prior, wanted, random, follow_courses(prior, wanted, random, motions, bends))


def _spectra_of(codec: VQVAE, sounds: Sequence[Codes]) -> list[torch.Tensor]:
    motions = Motions(codec, sounds)
    return [motions.spectra_of(number) for number in range(len(sounds))]


def slopes(sounds: Sequence[Codes]) -> list[float]:
    """Semitones by which pitches rise over the whole of each sound that has some, once it has begun."""
    codec, _ = networks()
    found = []
    for codes in sounds:
        pitches = codec.pitches(torch.from_numpy(codes)).numpy()
        (there,) = np.isfinite(pitches[1:]).nonzero()
        if len(there) > 5:
            found.append(float(np.polyfit(there / len(codes), pitches[1:][there], 1)[0]))
    return found


def test_pitches_bend_from_where_they_are_drawn() -> None:
    sounds = drawn([glide(6)], 32)
    assert len(slopes(sounds)) > 4
    assert slopes(sounds) == pytest.approx([6] * len(slopes(sounds)), abs=0.3)
    assert len({int(codes[codes[:, NOTE] > 0, NOTE][0]) for codes in sounds if codes[:, NOTE].any()}) > 1
    free = slopes(drawn([glide(6)], 16, bends=False))
    assert len(free) > 0
    assert max(map(abs, free)) < 3


def test_straight_pitches_are_left_to_the_prior() -> None:
    codec, _ = networks()
    assert Motions(codec, [recording()]).bend_of(0).isnan().all()
    same = drawn([recording()]), drawn([recording()], bends=False)
    assert all(np.array_equal(one, other) for one, other in zip(*same, strict=True))


def test_the_octaves_that_a_glide_is_coded_in_are_no_jumps() -> None:
    codec, _ = networks()
    codes = glide(6)
    codes[20:40, NOTE] += 12
    bend = Motions(codec, [codes]).bend_of(0)
    assert float(bend[0]) == 0.0
    assert float(bend[-1]) == pytest.approx(6, abs=0.2)
    noise = glide(6)
    noise[::2, NOTE] += 5
    assert Motions(codec, [noise]).bend_of(0).isnan().all()


def test_treble_dies_as_in_the_recording() -> None:
    codec, _ = networks()

    def change(sounds: Sequence[Codes]) -> float:
        """Of treble less bass from beginning to end, as it is decoded."""
        motions, changes = Motions(codec, sounds), []
        for number in range(len(sounds)):
            spectra = motions.spectra_of(number)
            tilt = spectra[:, -1] - spectra[:, 0]
            changes.append(float(tilt[-5:].mean() - tilt[:5].mean()))
        return float(np.mean(changes))

    still, moving, wanted = (
        change(sounds) for sounds in (drawn([darkening()], 16, moves=False), drawn([darkening()], 16), [darkening()])
    )
    assert abs(still) < 0.3 * abs(wanted)
    assert moving == pytest.approx(wanted, rel=0.4)


def test_what_repeats_is_known_and_keeps_its_length_and_its_beats() -> None:
    codec, _ = networks()
    motions = Motions(codec, [loop(), recording(), glide(6)])
    assert [motions.repeats(number) for number in range(3)] == [True, False, False]
    beats = drawn([loop()])
    assert {len(codes) for codes in beats} == {96}
    assert len({len(codes) for codes in drawn([loop()], moves=False)}) > 1
    (wanted,) = _spectra_of(codec, [loop()])

    def apart(sounds: Sequence[Codes]) -> float:
        pairs = [(own, wanted[: len(own)]) for own in _spectra_of(codec, sounds)]
        return float(np.mean([float((own[: len(beat)] - beat).abs().mean()) for own, beat in pairs]))

    assert apart(beats) < 0.7 * apart(drawn([loop()], moves=False))  # dB
    long = drawn([loop()], seconds=150)
    for codes in long:
        rises = np.flatnonzero(np.diff(codes[:, 0]) > 20) + 1
        assert rises.tolist() == list(range(12, 150, 12))


def test_the_end_of_a_loop_that_is_held_out_is_the_priors_own() -> None:
    codec, _ = networks()
    moving = Moving(Motions(codec, [loop()]), [Course(0, torch.arange(120), torch.zeros(120))], [0.5])
    assert moving._spectra[0].isfinite().all(dim=1).tolist() == [True] * 96 + [False] * 24


def test_recordings_of_the_same_label_are_followed_alone() -> None:
    codec, _ = networks()
    motions = Motions(codec, [recording(), recording(), darkening(), darkening()], [1, 1, 2, 2])
    course = Course(3, torch.arange(FRAMES), torch.from_numpy(recording()[:, 0]).float())
    chosen = {motions.like(course, motions.spectra_of(0)[:2].mean(dim=0), chance) for chance in (0.0, 0.5)}
    assert chosen == {2, 3}


def test_of_several_recordings_the_one_that_begins_and_swells_alike_is_followed() -> None:
    codec, _ = networks()
    swelling = recording()
    swelling[:, 0] = swelling[::-1, 0]
    recordings = [recording(), swelling, loop(), darkening()]
    motions = Motions(codec, recordings)
    for number in (0, 1, 3):
        loudness = torch.from_numpy(recordings[number][:, 0]).float()
        course = Course(number, torch.arange(FRAMES), loudness)
        assert motions.like(course, motions.spectra_of(number)[:2].mean(dim=0), 0.0) == number
    assert math.isfinite(float(motions.spectra_of(2).sum()))
