"""Faults: each is found in a sound that has it, none in recordings, and limits come from the recordings alone."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from distill.codec.initialise import build_vqvae
from distill.codec.model import VQVAE
from distill.codec.streaming import encode
from distill.codes.store import Codes
from distill.generate.decoding import decode_sounds
from distill.generate.selection.faults import (
    FAULTS,
    FLOOR_DB,
    RETURN_DB,
    SMOOTHED_FRAMES,
    STILL_DB,
    FaultFinder,
    FaultReport,
    Limits,
    Measures,
    count_returns,
    heard_bands,
    longest_still,
    with_limits,
)
from distill.novelty.reference import make_reference
from distill.params import get_adaptive_vqvae_config

RATE = 16_000
Samples = NDArray[np.float32]
Coder = Callable[[Samples], Codes]
Found = Callable[..., list[tuple[str, ...]]]
SPECTRA = arrays(np.float64, st.tuples(st.integers(1, 20), st.just(3)), elements=st.integers(-2, 2))
LEVELS = arrays(np.float64, st.integers(1, 30), elements=st.integers(-8, 8).map(lambda step: 10.0 * step))


def tone(seconds: float, pitch: float, decay: float) -> Samples:
    """A tone with harmonics that decays by `decay` nepers a second and fades out at its end."""
    time = np.arange(round(seconds * RATE)) / RATE
    waves = sum(np.sin(2 * np.pi * pitch * part * time) / part for part in range(1, 6))
    faded = np.minimum(1.0, (seconds - time) / 0.15) ** 4
    sound: Samples = (0.3 * waves * np.exp(-decay * time) * faded).astype(np.float32)
    return sound


def with_whistle(sound: Samples, hertz: float, level_db: float = -20.0) -> Samples:
    """A sound with a sine that follows its level, so much softer than it."""
    time = np.arange(len(sound)) / RATE
    level = np.sqrt(np.convolve(np.square(sound), np.full(801, 1 / 801), mode="same"))
    whistling: Samples = (sound + 10 ** (level_db / 20) * 2**0.5 * level * np.sin(2 * np.pi * hertz * time)).astype(
        np.float32
    )
    return whistling


RECORDINGS = [tone(0.5 + 0.05 * number, 110 * 2 ** (number / 12), 5 + number % 3) for number in range(20)]
SILENCE = np.zeros(RATE // 4, dtype=np.float32)
FAULTY: dict[str, Samples] = {
    "drone": tone(2.5, 220, 0),
    "stutter": np.concatenate([RECORDINGS[3], SILENCE, RECORDINGS[3], SILENCE, RECORDINGS[3]]),
    "attack": np.concatenate([SILENCE, SILENCE, RECORDINGS[4]]),
    "loud": 3 * RECORDINGS[5],
    "band": with_whistle(RECORDINGS[6], 6_000),
    "ending": tone(1.0, 220, 3)[: RATE // 2],
    "length": tone(0.21, 220, 30),
}


@pytest.fixture(scope="module")
def codec() -> VQVAE:
    model = build_vqvae(RATE, get_adaptive_vqvae_config(20), 0, warm=False).eval()
    margin, step = model.margin, model.spectrogram.samples_per_frame
    pieces = []
    for sound in (*RECORDINGS, *FAULTY.values()):
        padded = np.pad(sound, (margin, margin + model.spectrogram.frames_for(len(sound)) * step - len(sound)))
        pieces.append(model.features(torch.from_numpy(padded)[None])[0])
    model.fit_projection(torch.cat(pieces))
    model.quantizer.fit([model.project(piece) for piece in pieces], torch.Generator().manual_seed(0), rounds=1)
    return model


@pytest.fixture(scope="module")
def coded(codec: VQVAE) -> Coder:
    return lambda sound: encode(codec, torch.from_numpy(sound)[None])[0].numpy()


def finder_of(codec: VQVAE, training: list[Codes], held_out: list[Codes]) -> FaultFinder:
    names = [str(number) for number in range(len(training))]
    return FaultFinder(with_limits(make_reference(names, training, held_out), codec), codec)


@pytest.fixture(scope="module")
def finder(codec: VQVAE, coded: Coder) -> FaultFinder:
    codes = list(map(coded, RECORDINGS))
    return finder_of(codec, codes[:15], codes[15:])


@pytest.fixture(scope="module")
def found(finder: FaultFinder, codec: VQVAE) -> Found:
    """The faults of codes, as they are decoded."""
    return lambda codes, kinds=FAULTS: finder(codes, decode_sounds(codec, codes), kinds)


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_found(found: Found, coded: Coder, kind: str) -> None:
    assert found([coded(FAULTY[kind])]) == [(kind,)]


def test_recordings_have_none_but_soft_sounds_and_single_frames(
    finder: FaultFinder, found: Found, coded: Coder
) -> None:
    assert found([*map(coded, RECORDINGS)]) == [()] * len(RECORDINGS)
    assert finder.held_out() == [()] * 5
    assert found([coded(0.1 * RECORDINGS[0])]) == [("attack",)]
    assert found([coded(1.7 * RECORDINGS[0])]) == [()]
    assert finder.is_silent(coded(0.1 * RECORDINGS[0]))
    assert not finder.is_silent(coded(0.4 * RECORDINGS[0]))
    (faults,) = found([coded(RECORDINGS[0])[:1]])
    assert set(faults) == {"band", "ending", "length"}  # a hard cut is heard in all bands


@pytest.mark.parametrize(
    ("hertz", "level_db", "expected"),
    [
        (7_960, -40, ("band",)),  # beyond the centre of the last band, of which codes say nothing
        (7_960, -70, ()),  # not heard
        (20, -20, ()),
        (2_200, -25, ()),  # less than an octave above recordings
        (4_500, -25, ("band",)),
    ],
)
def test_what_the_decoder_adds_is_found_where_no_recording_sounds(
    finder: FaultFinder, codec: VQVAE, coded: Coder, hertz: float, level_db: float, expected: tuple[str, ...]
) -> None:
    codes = coded(RECORDINGS[6])
    (samples,) = decode_sounds(codec, [codes])
    assert finder([codes], [with_whistle(samples, hertz, level_db)]) == [expected]


def test_silence_sounds_in_no_band(codec: VQVAE) -> None:
    assert heard_bands(codec, SILENCE).tolist() == [-FLOOR_DB] * (codec.spectrogram.n_mels + 1)


def test_what_recordings_do_and_what_is_not_asked_for_is_no_fault(found: Found, codec: VQVAE, coded: Coder) -> None:
    sounds = [coded(FAULTY[kind]) for kind in FAULTS]
    assert found(sounds, ("drone", "length")) == [("drone",), (), (), (), (), (), ("length",)]
    for codes, kind in zip(sounds, FAULTS, strict=True):
        alone = finder_of(codec, [codes], [codes])
        assert alone([codes], [FAULTY[kind]]) == alone.held_out() == [()]


@given(SPECTRA)
def test_the_longest_still_stretch_is_that_of_the_slow_search(spectra: NDArray[np.float64]) -> None:
    window = min(SMOOTHED_FRAMES, len(spectra))
    smooth = [spectra[start : start + window].mean(axis=0) for start in range(len(spectra) - window + 1)]
    longest = max(
        stop - start + 1
        for start in range(len(smooth))
        for stop in range(start, len(smooth))
        if all(np.sqrt(np.mean((one - smooth[start]) ** 2)) <= STILL_DB for one in smooth[start : stop + 1])
    )
    assert longest_still(spectra) == longest - 1 + window


@given(LEVELS)
def test_returns_are_those_of_the_slow_count(levels: NDArray[np.float64]) -> None:
    heard = list(np.maximum(levels, levels.max() - FLOOR_DB))
    returns, start = 0, 0
    while True:  # the first frame by which the level fell, then the first by which it rose again
        fall = next((i for i in range(start, len(heard)) if max(heard[start : i + 1]) - heard[i] >= RETURN_DB), None)
        if fall is None:
            break
        rise = next((i for i in range(fall, len(heard)) if heard[i] - min(heard[fall : i + 1]) >= RETURN_DB), None)
        if rise is None:
            break
        returns, start = returns + 1, rise
    assert count_returns(levels) == returns


def test_a_fall_that_a_recording_nearly_has_is_no_stutter(codec: VQVAE, coded: Coder) -> None:
    def with_dip(by_db: float) -> Codes:
        return coded(tone(1.5, 440, 0.5) * np.repeat([1.0, 10 ** (-by_db / 20), 1.0], RATE // 2).astype(np.float32))

    deep = with_dip(24)
    for recording, expected in ((with_dip(17), False), (with_dip(8), True)):
        of_it = finder_of(codec, [recording], [recording])
        ((*faults,),) = of_it([deep], decode_sounds(codec, [deep]))
        assert ("stutter" in faults) == expected


def measures(still: int = 10, returns: float = 0.0, loudest: float = 20.0, end: float = -50.0) -> Measures:
    return Measures(np.array([loudest, loudest + end]), 30, still, returns, returns, end, np.array([0.0, -FLOOR_DB]))


def test_limits_come_from_most_recordings_and_a_sound_need_not_end_as_softly() -> None:
    many = [measures(still=10 + number % 7) for number in range(999)]
    with_one_more = Limits.of([*many, measures(still=2000, returns=9.0, end=0.0)])
    assert with_one_more == Limits.of(many) == Limits.read(Limits.of(many).row)
    faded = Limits.of([measures(end=-120.0)])
    assert faded.faults(measures(end=-40.0)) == ()
    assert faded.faults(measures(end=-30.0)) == ("ending",)


def test_the_report_says_the_rates_of_faults() -> None:
    report = FaultReport([(), ()], [(), ("drone",), (), ()])
    assert report.lines == ["faults: 0 of 2 sounds, 0%; of 4 held-out recordings 25%"]
    assert report.metrics()["fault_rate_held_out"] == report.metrics()["drone_rate_held_out"] == 0.25
    report = FaultReport([("drone", "ending"), (), ("ending",), ()], [(), ()], rejected=3)
    assert report.lines == [
        "3 faulty sounds drawn again",
        "faults: 2 of 4 sounds, 50%; of 2 held-out recordings 0%",
        "  drone 25%, held-out 0%: it stands still for longer than recordings do",
        "  ending 50%, held-out 0%: it is cut off while it is loud",
    ]
    figures = report.json()
    assert (figures["faulty"], figures["rejected"], figures["ending_rate"]) == (2, 3, 0.5)
    assert FaultReport([()], [()], rejected=1).lines[0] == "1 faulty sound drawn again"
