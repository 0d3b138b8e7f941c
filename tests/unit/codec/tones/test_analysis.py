"""Analysis of tones: known notes, tunings and sets of partials are found, and nothing where there is no tone."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from distill.codec.layout import TUNINGS
from distill.codec.model import VQVAE
from distill.codec.streaming import decode
from distill.codec.tones.analysis import CANDIDATES, CHANGE, JUMP, ONSET, REACH, SLOPE, Candidates, best_path
from distill.codec.tones.atoms import CHORDS, shipped_sets
from distill.codec.tones.codes import FLOORS
from unit.codec.tonal import RATE, padded, sound_of, sweep, untrained

SETS = shipped_sets()
STRINGS, PIPE, SINE, BARS, MEMBRANE, BELL = range(4), 4, 5, (6, 7), 8, 9
CHORD = range(10, len(SETS))
NOISE = torch.randn(RATE, generator=torch.Generator().manual_seed(0)) * 0.1
TIME = torch.arange(RATE) / RATE


@pytest.fixture(scope="module")
def codec() -> VQVAE:
    return untrained()


def tones_of(codec: VQVAE, sound: Tensor) -> Tensor:
    """Codes `[F, 3]` of note, tuning and atom of a sound."""
    return codec.flat_features(padded(codec, sound))[1][0]


def pitches(tones: Tensor) -> Tensor:
    return tones[:, 0] + (tones[:, 1] - TUNINGS // 2) / TUNINGS


def chosen_sets(tones: Tensor) -> Tensor:
    return (tones[:, 2] - 1) // len(FLOORS)


def test_the_sets_are_as_this_module_numbers_them() -> None:
    assert len(CHORD) == len(CHORDS)
    assert SETS[SINE].ratios.tolist() == [1.0]
    assert SETS[PIPE].ratios.tolist()[:3] == [1.0, 3.0, 5.0]
    assert SETS[BELL].ratios.tolist()[:3] == [0.5, 1.0, 1.2]


@pytest.mark.parametrize(
    ("number", "lowest", "highest"),
    [
        *((number, 36, 76) for number in STRINGS),
        (PIPE, 36, 66),
        (BARS[0], 36, 92),
        (BARS[1], 36, 76),
        (MEMBRANE, 54, 92),
        (BELL, 47, 92),
        *((number, 57, 73) for number in CHORD),
    ],
)
def test_note_tuning_and_set_of_known_sounds_are_found(codec: VQVAE, number: int, lowest: int, highest: int) -> None:
    """Whatever the pitch, on a code or between two."""
    for place, pitch in enumerate(range(lowest, highest, 4)):
        exact = pitch + place % 5 / 5 + 0.02
        tones = tones_of(codec, sound_of(SETS[number], exact))[2:-4]
        assert bool((tones[:, 0] > 0).all())
        assert float((chosen_sets(tones) == number).float().mean()) > 0.9, exact
        errors = 100 * (pitches(tones) - exact).abs()
        assert float(errors.median()) < 3.3, exact  # half of what a tuning is wide
        assert float(errors.max()) < 6.3, exact


@pytest.mark.parametrize("frequency", [65.0, 220.0, 440.0, 1000.0, 2500.0, 6000.0])
def test_a_partial_of_what_is_found_is_where_a_sine_is(codec: VQVAE, frequency: float) -> None:
    pitch = 69 + 12 * math.log2(frequency / 440)
    tones = tones_of(codec, sound_of(SETS[SINE], pitch))[2:-4]
    comb = codec.tone.comb(tones[None])[0]
    cents = 1200 * (comb.clamp_min(1) / frequency).log2()
    assert float(cents.abs().amin(dim=1).max()) < 5


@pytest.mark.parametrize(
    "sound",
    [
        NOISE,
        0.001 * NOISE,
        NOISE * torch.exp(-20 * TIME),
        torch.where(torch.arange(RATE) % 2500 == 0, 0.9, 0.0),
        torch.where(torch.rand(RATE, generator=torch.Generator().manual_seed(1)) < 1e-3, 0.9, 0.0),
        torch.zeros(RATE),
        torch.full((RATE,), 0.3),
    ],
    ids=["noise", "soft noise", "decaying noise", "clicks", "crackle", "silence", "a constant"],
)
def test_what_has_no_tone_gets_none(codec: VQVAE, sound: Tensor) -> None:
    assert int(tones_of(codec, sound).abs().sum()) == 0


@pytest.mark.parametrize(
    "course",
    [
        50 + 20 * TIME,
        70 - 25 * TIME,
        60 - 24 * (1 - torch.exp(-3 * TIME)),
        64 + 0.4 * torch.sin(2 * math.pi * 5.5 * TIME),
        57 + 0.7 * torch.sin(2 * math.pi * 6 * TIME),
    ],
    ids=["rising", "falling", "kick", "vibrato", "wide vibrato"],
)
def test_glides_and_vibrato_are_followed(codec: VQVAE, course: Tensor) -> None:
    tones, step = tones_of(codec, sweep(course))[2:-3], codec.spectrogram.samples_per_frame
    middles = course[step // 2 :: step][2:][: len(tones)]
    assert bool((tones[:, 0] > 0).all())
    cents = 100 * (pitches(tones) - middles).abs()
    assert float(cents.median()) < 3
    assert float(cents.max()) < 10


def test_a_note_beside_silence_has_a_tone_only_where_it_sounds(codec: VQVAE) -> None:
    step, note = codec.spectrogram.samples_per_frame, sound_of(SETS[0], 60, 0.4)
    silence = torch.zeros(20 * step)
    found = tones_of(codec, torch.cat([silence, note, silence]))[:, 0] > 0
    frames = len(note) // step
    assert not bool(found[:18].any())
    assert bool(found[21 : 19 + frames].all())
    assert not bool(found[23 + frames :].any())


@pytest.mark.parametrize(("number", "pitch"), [(0, 45), (20, 60), (24, 60)], ids=["note", "three notes", "four notes"])
@pytest.mark.parametrize(("gain", "floor"), [(0.0, 0), (0.1, 1), (0.3, 1)])
def test_noise_between_partials_decides_the_floor(
    codec: VQVAE, number: int, pitch: float, gain: float, floor: int
) -> None:
    """Also where partials are so close that bands do not tell the noise between them."""
    atoms = tones_of(codec, sound_of(SETS[number], pitch, 1.0, 0.0) + gain * NOISE)[4:-4, 2]
    floors = (atoms[atoms > 0] - 1) % len(FLOORS)
    assert len(floors) > 0.9 * len(atoms)
    assert bool((floors == floor).all())


def test_noise_as_loud_as_a_tone_gives_it_the_highest_floor_or_the_next(codec: VQVAE) -> None:
    atoms = tones_of(codec, sound_of(SETS[0], 45, 1.0, 0.0) + NOISE)[4:-4, 2]
    floors = (atoms[atoms > 0] - 1) % len(FLOORS)
    assert set(floors.tolist()) == {1, 2}


@torch.no_grad()
def test_a_frame_needs_its_context_and_no_more(codec: VQVAE) -> None:
    """Of two voices in noise, where candidates are near each other."""
    sound = sweep(60 + 3 * TIME) + 0.9 * sweep(67 - 4 * TIME) + NOISE
    audio, step, margin = padded(codec, sound)[0], codec.spectrogram.samples_per_frame, codec.margin
    frames = codec.spectrogram.frames_for(len(sound))

    def tones(first: int, last: int) -> Tensor:
        piece = audio[first * step : last * step + 2 * margin]
        return codec.pitch(codec.tone, piece[None], codec.features(piece[None]))[0][0]

    whole = tones(0, frames)
    for context, is_enough in ((codec.pitch.context, True), (1, False)):
        alone = [tones(max(0, t - context), min(frames, t + context + 1))[min(t, context)] for t in range(frames)]
        assert torch.equal(torch.stack(alone), whole) is is_enough


@pytest.mark.parametrize("inside", [None, [1.0, 1.0, 0.0, 1.0]])
@pytest.mark.parametrize("seed", range(6))
def test_candidates_of_neighbours_are_chosen_together(seed: int, inside: list[float] | None) -> None:
    """Against all choices of four frames, one after another."""
    generator = torch.Generator().manual_seed(seed)
    frames = 4
    assert frames <= REACH
    pitch = 60 + torch.randint(40, (1, frames, CANDIDATES), generator=generator) / 8
    sets = torch.randint(3, (1, frames, CANDIDATES), generator=generator)
    score = torch.rand(1, frames, CANDIDATES, generator=generator) / 3
    pitches, kinds, scores = (part[0].tolist() for part in (pitch, sets, score))

    def cost(path: tuple[int, ...]) -> float:
        total = -sum(scores[t][c] for t, c in enumerate(path) if c < CANDIDATES and (not inside or inside[t]))
        for t, (before, after) in enumerate(itertools.pairwise(path)):
            if inside and not (inside[t] and inside[t + 1]):
                continue
            if (before < CANDIDATES) != (after < CANDIDATES):
                total += ONSET
            elif before < CANDIDATES:
                semitones = abs(pitches[t][before] - pitches[t + 1][after])
                total += min(JUMP, SLOPE * semitones) + CHANGE * (kinds[t][before] != kinds[t + 1][after])
        return total

    best = min(itertools.product(range(CANDIDATES + 1), repeat=frames), key=cost)
    mask = None if inside is None else torch.tensor(inside)
    found = best_path(Candidates(pitch, sets, score), mask)[0].tolist()
    assert [found[t] for t in range(frames) if not inside or inside[t]] == [
        choice for t, choice in enumerate(best) if not inside or inside[t]
    ]


@pytest.mark.parametrize("ratio", [1e-30, 1e-4, 1e4, 1e30])
def test_ratios_of_any_file_are_analysed_and_sound(ratio: float) -> None:
    codec = untrained()
    codec.tone.ratios[:, ::3] = ratio
    sound = sound_of(SETS[STRINGS[0]], 60.0, 0.3)
    tones = tones_of(codec, sound)
    frames = torch.zeros(1, len(tones), len(codec.architecture.codebook_sizes), dtype=torch.int64)
    spectral, _ = codec.layout.split(frames)
    assert decode(codec, codec.layout.join(spectral, tones[None]))[0].isfinite().all()
