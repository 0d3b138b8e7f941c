"""Loops of recordings that repeat: exactly as long as asked, at the tempo, and closed."""

import copy
from functools import cache

import numpy as np
import pytest
import torch

from distill.audio.output import Output
from distill.codes.store import Codes
from distill.errors import ParamsError
from distill.generate.context import GenerationContext, Recorded
from distill.generate.requests.generation import Seeds, emitted
from distill.generate.requests.loop import LoopRequest, closed
from distill.generate.selection.faults import Samples
from distill.generate.selection.rejection import Drafts, kept
from distill.progress import silent
from unit.generate.sampling.test_motion import loop, recording
from unit.pitched import RATE, networks

BEAT = 12  # frames of the recording


@cache
def context(repeats: bool = True) -> GenerationContext:
    """A model of a single recording."""
    codec, prior = networks()
    prior, codes = copy.deepcopy(prior), loop() if repeats else recording()
    prior.begin_courses([len(codes)]).fit([(codes, 0)])
    return GenerationContext(codec, prior, single=Recorded(np.zeros(100, np.float32), codes))


def tempo() -> float:
    motions = context().motions
    assert motions is not None
    return motions.tempo_of(0)


def made(faster: float, beats: int = 4, count: int = 1, seed: int = 1, of: GenerationContext | None = None) -> Drafts:
    request = LoopRequest(count=count, max_seconds=1.0, bpm=faster * tempo(), beats=beats)
    return request.make(of or context(), Seeds(seed), [], silent, kept, False)


@pytest.mark.parametrize("faster", [0.8, 1.0, 1.25])
@pytest.mark.parametrize("beats", [4, 12])
def test_loops_have_exactly_their_length_and_their_beats(faster: float, beats: int) -> None:
    (sound,) = made(faster, beats).sounds
    assert len(sound.samples) == round(beats * 60 / (faster * tempo()) * RATE)
    rises = np.flatnonzero(np.diff(sound.codes[:, 0]) > 20) + 1
    steps = np.diff(rises) * networks()[0].spectrogram.samples_per_frame / RATE
    # A tempo is counted at its half or its double where that is nearer.
    per_beat = 60 / tempo()
    assert steps / (per_beat / faster) == pytest.approx(np.round(steps / (per_beat / faster) * 4) / 4, abs=0.08)


def test_equal_seeds_give_equal_loops() -> None:
    first, again = (made(1.0, count=2).sounds for _ in range(2))
    assert all(np.array_equal(own.samples, other.samples) for own, other in zip(first, again, strict=True))
    assert not np.array_equal(first[0].codes, first[1].codes)


def test_what_is_too_far_from_every_tempo_is_a_sentence() -> None:
    with pytest.raises(ParamsError, match=r"bpm .*: expected 3/4 to 4/3 of a tempo of the recordings, .* found a"):
        made(2**0.5)


def test_recordings_that_do_not_repeat_give_no_loop() -> None:
    with pytest.raises(
        ParamsError, match="bpm: expected recordings that repeat, to draw loops along them, found none; gi"
    ):
        made(1.0, of=context(repeats=False))


def waves(count: int) -> Samples:
    return np.sin(np.arange(count) * 0.1).astype(np.float32)


def test_the_end_of_a_loop_leads_into_its_beginning() -> None:
    sound = waves(1500)
    looped = closed(sound, 1000, 200)
    assert len(looped) == 1000
    assert looped[0] == pytest.approx(sound[1000], abs=1e-6)  # what came after the end
    assert looped[199:] == pytest.approx(sound[199:1000], abs=1e-5)
    steps = np.abs(np.diff(np.concatenate([looped, looped[:1]])))
    assert steps[-1] <= 0.11
    noise = np.random.default_rng(0).normal(size=(1500, 2)).astype(np.float32)
    mixed = closed(noise, 1000, 500)
    assert mixed.shape == (1000, 2)
    assert float(mixed[:500].std()) == pytest.approx(1.0, abs=0.1)  # as loud as elsewhere
    assert len(closed(waves(1010), 1000, 200)) == 1000
    assert len(closed(waves(20), 10, 200)) == 10


def test_loops_are_handed_over_closed() -> None:
    taken: list[tuple[int, Samples]] = []
    emit = emitted(Output(RATE), RATE, lambda *given: taken.append(given))
    request = LoopRequest(count=2, max_seconds=1.0, bpm=tempo(), beats=4)
    draws = request.make(context(), Seeds(1), [], silent, emit, False)
    assert [number for number, _ in taken] == [0, 1]
    assert all(not len(sound.samples) for sound in draws.sounds)
    codes: Codes = draws.sounds[0].codes
    assert torch.from_numpy(codes).shape[1] == networks()[1].num_quantizers
