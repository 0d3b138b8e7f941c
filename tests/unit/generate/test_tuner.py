"""Sounds at given notes: weights of codes, what recordings without a pitch are told, and what is drawn."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from distill.codec.layout import ATOM, NOTE, NOTES, TUNING, TUNINGS
from distill.codec.streaming import encode_each
from distill.codec.tones.atoms import PartialSet, set_partials, shipped_sets
from distill.codec.tones.codes import FLOORS
from distill.codec.tones.meter import PitchMeter
from distill.errors import ArtifactError, ParamsError
from distill.generate.context import GenerationContext
from distill.generate.processors import SamplingStep
from distill.generate.rejection import MISTUNED
from distill.generate.sampling import Sequences, generators, sample_codes
from distill.generate.sounds import GenerationRequest, Seeds, generate_sounds, in_tune
from distill.generate.tuner import SPREAD, NoteWeights, Tuner, heard_intervals
from distill.notes import CONCERT, Tuning
from distill.prior.artifact import build_prior
from unit.codec.tonal import hertz, sound_of, untrained
from unit.pitched import LABELS, PITCHES, networks

HISS, STRING = 1, 2
FIFTH = torch.tensor([0.0, 7.0])  # the second set is heard a fifth above what is coded
BOTH = torch.full((NOTES, 2), 0.5)
BEGUN, NOT_YET = 5, 0  # frames that have a tone


def code(note: int, tuning: int | None = None) -> torch.Tensor:
    return torch.tensor([[3, note, *([] if tuning is None else [tuning])]])


def shares(size: int) -> torch.Tensor:
    return torch.full((1, size), 1 / size)


def step(coarser: torch.Tensor, frame: int) -> SamplingStep:
    """The next level of a frame, after frames with a tone."""
    codes = torch.ones(1, 20, 4, dtype=torch.int64)
    return SamplingStep(frame, coarser.shape[1], torch.tensor([0]), coarser, codes)


def weighted(weights: NoteWeights, coarser: torch.Tensor, size: int, frame: int = BEGUN) -> dict[int, float]:
    """Probabilities of the codes that are left, of codes that were all alike."""
    found = weights(shares(size), step(coarser, frame))[0]
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)
    return {index: float(share) for index, share in enumerate(found) if share > 1e-6}


@pytest.mark.parametrize("interval", [0.0, 7.02, -12.0, 19.0])
def test_sets_that_are_found_in_recordings_are_heard_at_their_interval(interval: float) -> None:
    """And those of noise at none."""
    codec, string = untrained(spare_sets=2), shipped_sets()[0]
    noise = np.sort(np.random.default_rng(0).uniform(1, 16, 60))
    own = PartialSet(string.ratios[:12] * 2 ** (interval / 12), string.amplitudes[:12])
    set_partials(codec.tone, [own, PartialSet(noise, np.ones(60))], len(shipped_sets()))
    intervals = heard_intervals(codec.tone, PitchMeter(codec.spectrogram))
    assert float(intervals[-2]) == pytest.approx(interval, abs=0.1)
    assert math.isnan(intervals[-1])


def test_a_sound_begins_at_its_note_in_any_way_that_it_is_heard_there() -> None:
    weights = NoteWeights(torch.tensor([[60.0]]), FIFTH, BOTH)
    assert weighted(weights, torch.tensor([[3]]), NOTES, NOT_YET) == pytest.approx({53: 0.5, 60: 0.5}, abs=1e-5)
    assert weighted(weights, code(53), TUNINGS, NOT_YET) == pytest.approx({TUNINGS // 2: 1.0}, abs=1e-5)
    second = range(1 + len(FLOORS), 1 + 2 * len(FLOORS))
    assert list(weighted(weights, code(53, TUNINGS // 2), 1 + 2 * len(FLOORS), NOT_YET)) == list(second)


def test_sets_count_as_often_as_recordings_have_them_at_a_note() -> None:
    sets = BOTH.clone()
    sets[53] = torch.tensor([0.9, 0.1])
    weights = NoteWeights(torch.tensor([[60.0]]), FIFTH, sets)
    assert weighted(weights, torch.tensor([[3]]), NOTES, NOT_YET) == pytest.approx({53: 1 / 6, 60: 5 / 6}, abs=1e-5)


def test_a_note_between_two_begins_at_the_nearest_tuning() -> None:
    weights = NoteWeights(torch.tensor([[60.44]]), torch.zeros(1), torch.ones(NOTES, 1))
    assert list(weighted(weights, code(60), TUNINGS, NOT_YET)) == [TUNINGS // 2 + 7]


def test_later_frames_stay_near_or_have_no_tone_as_often_as_before() -> None:
    weights = NoteWeights(torch.tensor([[60.0]]), torch.zeros(1), torch.ones(NOTES, 1))
    notes = weighted(weights, torch.tensor([[3]]), NOTES)
    assert notes[0] == pytest.approx(1 / NOTES, abs=1e-5)
    assert set(notes) <= {0, 59, 60, 61}
    tunings = weighted(weights, code(60), TUNINGS)
    step = 1 / TUNINGS / SPREAD
    assert tunings[TUNINGS // 2 + 2] / tunings[TUNINGS // 2] == pytest.approx(
        math.exp(-0.5 * (2 * step) ** 2), abs=1e-4
    )
    assert weighted(weights, code(0), TUNINGS) == pytest.approx(dict.fromkeys(range(TUNINGS), 1 / TUNINGS))


def test_a_code_that_is_far_away_leaves_the_others_as_they_are() -> None:
    """A take keeps codes of its recording, whatever weights say."""
    weights = NoteWeights(torch.tensor([[60.0]]), torch.zeros(1), torch.ones(NOTES, 1))
    assert weighted(weights, code(90), TUNINGS) == pytest.approx(dict.fromkeys(range(TUNINGS), 1 / TUNINGS))


def test_frames_without_a_target_are_free_and_the_last_one_goes_on() -> None:
    weights = NoteWeights(torch.tensor([[math.nan, 60.0]]), torch.zeros(1), torch.ones(NOTES, 1))
    coarser = torch.tensor([[3]])
    assert torch.equal(weights(shares(NOTES), step(coarser, 0)), shares(NOTES))
    first, later = (weights(shares(NOTES), step(coarser, frame)) for frame in (1, 9))
    assert torch.equal(first, later)
    assert not torch.equal(first, shares(NOTES))


def test_sequences_are_drawn_each_at_its_note_also_after_some_have_ended() -> None:
    codec, prior = networks()
    notes = [48, 52, 56, 60, 64, 68, 72] * 4
    tuner = Tuner(codec, prior)
    wanted = Sequences(len(notes), 40, label=STRING)
    drawn = sample_codes(prior, wanted, generators(range(len(notes))), [tuner.weights(notes)])
    assert len({len(codes) for codes in drawn}) > 1
    for note, codes in zip(notes, drawn, strict=True):
        pitches = codec.pitches(torch.from_numpy(codes)[None])[0].numpy()
        assert pitches[0] == note
        assert np.nanmax(np.abs(pitches - note)) <= 1


def test_a_take_follows_the_tones_of_its_recording() -> None:
    codec, prior = networks()
    recording = np.zeros((12, prior.num_quantizers), np.int64)
    recording[:, [NOTE, TUNING, ATOM]] = np.repeat([[52, 8, 1], [0, 0, 0], [64, 8, 1]], 4, axis=0)
    following = Tuner(codec, prior).following(recording, 5)
    wanted = Sequences(5, 12, natural_ending=False, label=STRING)
    drawn = sample_codes(prior, wanted, generators(range(5)), [following])
    notes = np.stack(drawn)[..., NOTE]
    assert (notes[:, :4] == 52).all()
    assert (notes[:, 8:] == 64).all()


def test_what_is_not_at_its_note_is_drawn_again_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, prior = networks()
    context = GenerationContext(codec, prior)
    tuner = context.tuner
    heard = iter([None, 60.25, 59.75])
    measure = PitchMeter.__call__
    monkeypatch.setattr(PitchMeter, "__call__", lambda self, samples: next(heard, measure(self, samples)))
    request = GenerationRequest(7, 1.0, label=STRING, notes=list(PITCHES))
    made = generate_sounds(context, request, Seeds(8), [MISTUNED])
    sounds = made.sounds
    assert sorted(made.drawn) == list(range(7))
    assert all(sound.is_at_note and sound.note == PITCHES[number] for number, sound in made.drawn.items())
    assert made.redrawn == {"mistuned": 3}
    assert not made.left
    assert [sound.pitch for sound in sounds] == [tuner.measure(sound.samples) for sound in sounds]


@pytest.mark.parametrize(
    ("tonal", "found"), [(None, "3%"), (0, "0%"), (1, "25%"), (2, "")], ids=["counts", "none", "a quarter", "half"]
)
def test_without_a_pitch_in_recordings_notes_are_refused(tonal: int | None, found: str) -> None:
    """Noise has one in soft frames, which do not count; counts tell frames alone."""
    codec, prior = networks()
    noise = np.zeros((9, prior.num_quantizers), np.int64)
    noise[:, 0], noise[3:, 0] = 50, 20
    noise[3:, [NOTE, TUNING, ATOM]] = 60, 8, 1
    tone = noise.copy()
    tone[:, 0] = tone[::-1, 0]
    names = [f"{LABELS[0]}/{number}.wav" for number in range(4)]
    recordings = {} if tonal is None else dict(zip(names, [tone] * tonal + [noise] * (4 - tonal), strict=True))
    tuner = Tuner(codec, prior, {**recordings, f"{LABELS[1]}/a.wav": tone})
    tuner.check([60], STRING)
    if not found:
        tuner.check([60], HISS)
        return
    with pytest.raises(ArtifactError) as caught:
        tuner.check([60], HISS)
    assert str(caught.value) == (
        f"note: expected recordings with the label {LABELS[0]} with a pitch, found that {found} of them have one; "
        "leave the note out"
    )


def test_the_range_is_that_of_recordings_with_a_pitch() -> None:
    codec, prior = networks()
    tone = np.zeros((9, prior.num_quantizers), np.int64)
    tone[:, 0] = 50
    tone[:, [NOTE, TUNING, ATOM]] = 60, 8, 1
    noise = tone.copy()
    noise[3:, 0], noise[:3, [NOTE, TUNING, ATOM]], noise[3:, NOTE] = 20, 0, 10
    tuner = Tuner(codec, prior, {"a.wav": tone, "b.wav": noise})
    tuner.check([48, 72])
    for note in (47, 73):
        with pytest.raises(
            ParamsError, match="expected one from C3 to C5, at most an octave from those of the recordings"
        ):
            tuner.check([note])


def tuned(*hertz_of_a4: float) -> Tuner:
    """The tuner of a model of strings, each at another key, and tuned to one of these."""
    codec, prior = networks()
    keys = zip(range(48, 72, 3), hertz_of_a4, strict=False)
    strings = [sound_of(shipped_sets()[0], key + Tuning(a4).offset, 0.4, 3.0) for key, a4 in keys]
    coded = [codes.numpy() for codes in encode_each(codec, strings)]
    return Tuner(codec, prior, {f"{number}.wav": codes for number, codes in enumerate(coded)})


@pytest.mark.parametrize(
    ("hertz_of_a4", "found"),
    [
        ([432.0] * 8, Tuning(432.0, True)),
        ([442.5] * 8, Tuning(442.0, True)),  # coded in sixteenths of a semitone
        ([452.0] * 4, Tuning(452.0, True)),  # 47 cents higher
        ([440.0] * 8, CONCERT),
        ([440.6] * 8, CONCERT),
        ([432.0] * 4 + [440.0] * 4, CONCERT),
        ([452.0, 432.0, 445.0, 437.0, 428.0, 440.0, 434.0, 448.0], CONCERT),
        ([432.0] * 3, CONCERT),  # too few to agree
        ([432.0] * 7 + [440.0], Tuning(432.0, True)),
    ],
)
def test_recordings_that_agree_tell_what_notes_are_tuned_to(hertz_of_a4: list[float], found: Tuning) -> None:
    tuner = tuned(*hertz_of_a4)
    own = tuner.tuning("corpus")
    assert own.is_of_recordings == found.is_of_recordings
    assert own.hertz == pytest.approx(found.hertz, abs=1.0)
    assert tuner.tuning(415.0) == Tuning(415.0)


def test_hits_glides_and_noise_do_not_tell_a_tuning() -> None:
    codec, prior = networks()
    glide = np.zeros((32, prior.num_quantizers), np.int64)
    glide[:, 0], glide[:, NOTE], glide[:, ATOM] = 50, 60, 1
    glide[:, TUNING] = np.arange(32) // 2
    noise = glide.copy()
    noise[4:, NOTE], noise[:, TUNING] = 0, 3
    alike = dict.fromkeys("abcd", noise) | dict.fromkeys("efgh", glide)
    assert Tuner(codec, prior, alike).corpus_tuning == CONCERT
    steady = glide.copy()
    steady[:, TUNING] = 3
    assert Tuner(codec, prior, dict.fromkeys("abcd", steady)).corpus_tuning.is_of_recordings


def test_sounds_that_never_are_at_their_note_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, prior = networks()
    context = GenerationContext(codec, prior)
    monkeypatch.setattr(PitchMeter, "__call__", lambda *_: None)
    taken: list[int] = []
    request = GenerationRequest(2, 0.1, natural_ending=False, label=STRING, notes=[60])
    prompted = replace(request, natural_ending=True, prompt=np.zeros((2, prior.num_quantizers), dtype=np.int64))
    for one, remedy in ((request, "choose another label"), (prompted, "give a length: what goes on may be short")):
        with pytest.raises(ArtifactError) as caught:
            generate_sounds(context, one, Seeds(0), [in_tune(one)], emit=lambda number, _: taken.append(number))
        found = "found none among 40 that were drawn; leave the note out, or"
        assert str(caught.value) == f"note: expected a sound at its note within 20 cents, {found} {remedy}"
    assert not taken


@pytest.mark.parametrize(("note", "is_known"), [(24, False), (36, True), (84, True), (96, False)])
def test_notes_far_from_those_of_the_recordings_are_refused(note: int, is_known: bool) -> None:
    tuner = Tuner(*networks())
    if is_known:
        tuner.check([note], STRING)
        return
    with pytest.raises(
        ParamsError, match=r"^note C[17]: expected one from .* the label string, C3 to C5; choose another"
    ):
        tuner.check([60, note], STRING)


def test_a_prior_that_counts_nothing_knows_all_notes_alike() -> None:
    codec, prior = networks()
    plain = build_prior(prior.shape.model_copy(update={"count_experts": False}), None)
    Tuner(codec, plain).check([1, 127])
    assert hertz(69) == 440
