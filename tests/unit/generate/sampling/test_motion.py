"""Motion: what is drawn bends, loses its treble and keeps time as the recording that it follows."""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from distill.codec.layout import ATOM, NOTE, SHAPE, TUNING
from distill.codec.model import VQVAE
from distill.codec.tones.codes import FLOORS
from distill.codes.store import Codes
from distill.generate.sampling import motion
from distill.generate.sampling.motion import BANDS, Motions
from distill.generate.sampling.processors import SamplingStep
from distill.generate.sampling.sampler import Sequences, generators, sample_along_courses
from distill.prior.courses import Course
from unit.pitched import networks

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
    codec, _ = networks()
    words = [tilt(codec, recording()[:, :SHAPE], word) for word in range(codec.architecture.codebook_size)]
    order = torch.tensor(words).argsort(descending=True)
    codes = recording()
    codes[:, SHAPE] = order[torch.linspace(0, len(order) - 1, FRAMES).round().long()].numpy()
    return codes


def tilt(codec: VQVAE, first: Codes, word: int) -> float:
    """Treble less bass in dB of a sound whose first shape level is this codeword throughout."""
    shapes = np.zeros((len(first), codec.architecture.num_quantizers - SHAPE), np.int64)
    shapes[:, 0] = word
    (spectra,) = spectra_of(codec, [np.concatenate([first, shapes], axis=1)])
    return float(tilts(spectra).mean())


def tilts(spectra: torch.Tensor) -> torch.Tensor:
    """Treble less bass of spectra `[F, M]`, in dB."""
    return spectra[:, -BANDS // 2 :].mean(dim=1) - spectra[:, : BANDS // 2].mean(dim=1)


def spectra_of(codec: VQVAE, sounds: Sequence[Codes]) -> list[torch.Tensor]:
    motions = Motions(codec, sounds)
    return [motions._spectra_of(number, BANDS) for number in range(len(sounds))]


def along(recording: Codes, frames: int | None = None, chance: float = 0.0) -> Course:
    """A course with the loudness of a recording, which is the first of several."""
    loudness = torch.from_numpy(recording[:, 0]).float()[:frames]
    return Course(0, torch.arange(len(loudness)), loudness, chance=chance)


def drawn(recordings: Sequence[Codes], count: int = 8, moves: bool = True, seconds: int = 0) -> list[Codes]:
    """Sounds that follow recordings; with `seconds` so many frames of each."""
    codec, untouched = networks()
    prior = copy.deepcopy(untouched)
    prior.longest.fill_(max(map(len, recordings)))
    prior.begin_courses(list(map(len, recordings))).fit([(codes, 0) for codes in recordings])
    wanted, random = Sequences(count, seconds or 200, natural_ending=not seconds), generators(range(count))
    drawn = sample_along_courses(prior, wanted, random, motions=Motions(codec, recordings) if moves else None)
    return [sound.codes for sound in drawn]


def pitches(codes: Codes) -> Codes:
    codec, _ = networks()
    return codec.pitches(torch.from_numpy(codes)).numpy()


def test_a_tone_bends_from_where_it_was_drawn() -> None:
    codec, _ = networks()
    low, motions = recording(), Motions(codec, [glide(6)])
    low[:, NOTE] = 48
    moved = motions.moved(low, along(low))[0]
    assert pitches(moved) - 48 == pytest.approx(pitches(glide(6)) - 60, abs=0.07)
    at_its_note = motions.moved(low, along(low), bends=False)[0]
    assert np.array_equal(at_its_note[:, NOTE:ATOM], low[:, NOTE:ATOM])


def test_a_tone_that_wavers_is_as_straight_as_its_recording_and_its_jumps_stay() -> None:
    codec, _ = networks()
    wavering = recording()
    wavering[:, TUNING] += np.arange(FRAMES) % 3
    wavering[30:, NOTE] += 7
    moved = Motions(codec, [recording()]).moved(wavering, along(recording()))[0]
    assert np.ptp(pitches(moved)[:30]) == 0
    assert np.ptp(pitches(moved)[30:]) == 0
    assert pitches(moved)[-1] - pitches(moved)[0] == pytest.approx(7, abs=0.13)


def test_what_cannot_be_coded_stays_as_it_was_drawn() -> None:
    codec, _ = networks()
    highest = recording()
    highest[:, NOTE] = 125
    moved = pitches(Motions(codec, [glide(6)]).moved(highest, along(highest))[0])
    assert moved.max() < 128
    assert moved[-1] == pytest.approx(125)


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


def test_noise_is_beside_a_tone_where_it_is_in_the_recording() -> None:
    codec, _ = networks()
    noisy_at_first, clean = recording(), recording()
    noisy_at_first[:10, ATOM] = len(FLOORS)
    moved = Motions(codec, [noisy_at_first]).moved(clean, along(clean))[0]
    assert np.array_equal(moved[:, ATOM], noisy_at_first[:, ATOM])
    without_tone = recording()
    without_tone[:, NOTE : NOTE + 3] = 0
    assert not Motions(codec, [noisy_at_first]).moved(without_tone, along(clean))[0][:, NOTE : NOTE + 3].any()


def test_below_its_lowest_partial_a_tone_has_no_more_noise_than_its_recording() -> None:
    """The same bright spectrum for three octaves more: what was between the two tones is as soft as below the lower."""
    codec, _ = networks()
    low = recording()
    words = [tilt(codec, low[:, :SHAPE], word) for word in range(codec.architecture.codebook_size)]
    low[:, SHAPE] = int(np.argmax(words))
    high, silent = low.copy(), low.copy()
    high[:, NOTE], silent[:, NOTE : ATOM + 1] = 96, 0
    motions = Motions(codec, [low])
    latents = motions._latents(torch.from_numpy(low))

    def quiet(own: Codes, followed: Codes) -> torch.Tensor:
        tones, theirs = (torch.from_numpy(codes[:, NOTE:SHAPE]) for codes in (own, followed))
        return motions._quiet_below(latents, tones, latents, theirs)

    change = codec.unproject(latents + quiet(high, low)) - codec.unproject(latents)
    coarse = change[:, : codec.spectrogram.coarse_features].unflatten(1, (codec.spectrogram.stack, -1))
    below = codec.tone.comb_bands.centres < 0.85 * 2093
    assert coarse[..., below].mean() < coarse[..., ~below].mean() - 0.01
    for own, followed in ((low, low), (high, silent), (silent, low)):
        assert quiet(own, followed).abs().max() < 1e-5


def test_no_band_is_louder_beside_the_loudest_than_in_any_recording() -> None:
    codec, _ = networks()
    dark = recording()
    words = [tilt(codec, dark[:, :SHAPE], word) for word in range(codec.architecture.codebook_size)]
    bright = dark.copy()
    dark[:, SHAPE], bright[:, SHAPE] = int(np.argmin(words)), int(np.argmax(words))
    motions = Motions(codec, [dark])
    latents, own = motions._latents(torch.from_numpy(bright)), motions._latents(torch.from_numpy(dark))

    def over(latents: torch.Tensor) -> float:
        bands = motions._smoothed(codec.unproject(latents))
        return 20 * float((bands - bands.max() - motions._ceilings[:, None]).max())

    softer = latents + motions._within_ceilings(latents)
    assert over(latents) > 10  # dB
    assert over(softer) < 0.6 * over(latents)  # the latents of this codec say little of a spectrum
    assert not motions._within_ceilings(own).any()
    with_bright = Motions(codec, [dark, bright])
    assert with_bright._within_ceilings(latents).abs().max() == 0


def test_treble_dies_as_gradually_as_in_the_recording() -> None:
    codec, _ = networks()
    still, dark = recording(), darkening()
    still[:, SHAPE] = dark[0, SHAPE]
    moved = Motions(codec, [dark]).moved(still, along(dark))[0]
    assert np.array_equal(moved[:, : NOTE + 3], still[:, : NOTE + 3])
    own, wanted, before = (tilts(spectra) for spectra in spectra_of(codec, [moved, dark, still]))
    assert float((before[10:] - wanted[10:]).abs().mean()) > 3  # dB
    assert float((own - wanted).abs().mean()) < 0.3 * float((before - wanted).abs().mean())


def test_a_sound_that_is_stretched_or_ends_early_moves_as_fast_as_its_course() -> None:
    codec, _ = networks()
    motions, low = Motions(codec, [glide(6)]), recording(2 * FRAMES)
    slow = pitches(motions.moved(low, along(low))[0])
    assert slow[-1] - slow[0] == pytest.approx(6, abs=0.1)
    early = pitches(motions.moved(low[:FRAMES], along(low))[0])
    assert early[-1] - early[0] == pytest.approx(3, abs=0.1)


def test_what_bands_do_not_say_is_half_the_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, prior = networks()
    sizes, rng = prior.shape.layout.codebook_sizes, np.random.default_rng(0)
    sounds = [recording() for _ in range(3)]
    for codes in sounds:
        codes[:, SHAPE:] = rng.integers(sizes[SHAPE:], size=codes[:, SHAPE:].shape)
    motions = Motions(codec, sounds[:2])

    def apart(share: float) -> float:
        monkeypatch.setattr(motion, "FINE_SHARE", share)
        moved, followed = (
            motions._latents(torch.from_numpy(codes))
            for codes in (motions.moved(sounds[2], along(sounds[0]))[0], sounds[1])
        )
        return float((moved - followed)[:, 1:].var(dim=0).mean())

    as_it_is = motion.FINE_SHARE
    none, half, every = map(apart, (0.0, as_it_is, 1.0))
    assert none > half > every


def test_what_repeats_is_known_and_keeps_its_length_and_its_beats() -> None:
    codec, _ = networks()
    motions = Motions(codec, [loop(), recording(), glide(6)])
    assert [motions.repeats(number) for number in range(3)] == [True, False, False]
    beats = drawn([loop()])
    assert {len(codes) for codes in beats} == {96}
    assert len({len(codes) for codes in drawn([loop()], moves=False)}) > 1
    (wanted,) = spectra_of(codec, [loop()])

    def apart(sounds: Sequence[Codes]) -> float:
        pairs = [(own, wanted[: len(own)]) for own in spectra_of(codec, sounds)]
        return float(np.mean([float((own[: len(beat)] - beat).abs().mean()) for own, beat in pairs]))

    assert apart(beats) < 0.7 * apart(drawn([loop()], moves=False))  # dB
    long = drawn([loop()], seconds=150)
    for codes in long:
        rises = np.flatnonzero(np.diff(codes[:, 0]) > 20) + 1
        assert rises.tolist() == list(range(12, 150, 12))


def test_the_end_of_a_loop_that_is_held_out_is_the_priors_own() -> None:
    codec, prior = networks()
    course = Course(0, torch.arange(120), torch.zeros(120), in_time=True)
    processor = Motions(codec, [loop()]).beats([course])
    shares, tones = torch.ones(1, codec.architecture.codebook_size), torch.zeros(1, SHAPE, dtype=torch.int64)
    codes = torch.zeros(1, 120, prior.num_quantizers, dtype=torch.int64)
    weighs = [
        not processor(shares, SamplingStep(frame, SHAPE, torch.arange(1), tones, codes)).equal(shares)
        for frame in range(120)
    ]
    assert weighs == [True] * 96 + [False] * 24


def test_recordings_of_the_same_label_are_followed_alone() -> None:
    codec, _ = networks()
    motions = Motions(codec, [recording(), recording(), darkening(), darkening(), darkening()], [1, 1, 2, 2, 2])
    begun = motions._spectra_of(0, BANDS)[:2].mean(dim=0)
    courses = [along(recording(), chance=chance)._replace(recording=3) for chance in (0.0, 0.5)]
    assert {motions.like(course, begun) for course in courses} == {2, 4}


def test_of_other_recordings_the_one_that_begins_and_swells_alike_is_followed() -> None:
    codec, _ = networks()
    swelling = recording()
    swelling[:, 0] = swelling[::-1, 0]
    recordings = [recording(), swelling, loop(), darkening()]
    motions = Motions(codec, [*recordings, recording()])
    for number in (0, 1, 3):
        begun = motions._spectra_of(number, BANDS)[:2].mean(dim=0)
        assert motions.like(along(recordings[number])._replace(recording=4), begun) == number


def test_it_is_known_which_recording_a_sound_moves_as() -> None:
    codec, _ = networks()
    motions = Motions(codec, [recording(), glide(6), recording(2 * FRAMES)])
    drawn = recording()
    moved, followed = motions.moved(drawn, along(drawn))
    assert followed in (1, 2)
    alone = Motions(codec, [recording(), motions._recordings[followed].numpy()])
    assert np.array_equal(moved, alone.moved(drawn, along(drawn))[0])
    assert motions.moved(drawn, along(drawn)._replace(in_time=True))[1] == 0


def test_a_sound_has_its_loudness_and_its_motion_of_two_recordings_where_there_are_two() -> None:
    codec, _ = networks()
    for labels, followed in (([0, 0], 1), ([1, 2], 0)):
        motions = Motions(codec, [darkening(), recording()], labels)
        begun = motions._spectra_of(0, BANDS)[:2].mean(dim=0)
        assert {motions.like(along(darkening(), chance=chance), begun) for chance in (0.0, 0.9)} == {followed}
