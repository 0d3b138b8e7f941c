"""Near-duplicates: changed copies that must be found, and different recordings that must not."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import soundfile as sf
import soxr
from numpy.typing import NDArray

from distill.audio.near_duplicates import Fingerprint, find_near_duplicates, fingerprint

RATE = 24000
F32 = NDArray[np.float32]
Pcm = NDArray[np.int16]


@functools.cache
def sound(seed: int, seconds: float = 1.2) -> F32:
    """A short phrase: struck partials and noise bursts at random times, pitches and decays."""
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    mixed = np.zeros(len(t))
    for _ in range(random.integers(4, 9)):
        since = t - random.uniform(0, 0.8 * seconds)
        envelope = np.where(since >= 0, np.exp(-np.maximum(since, 0) * random.uniform(4, 40)), 0)
        hz = random.uniform(80, 900)
        for partial in range(1, random.integers(2, 12)):
            mixed += envelope ** (1 + 0.2 * partial) / partial * np.sin(2 * np.pi * hz * partial * since)
        mixed += random.uniform(0, 0.3) * envelope**2 * random.standard_normal(len(t))
    return np.asarray(0.8 * mixed / np.abs(mixed).max(), dtype=np.float32)


def pcm(samples: F32) -> Pcm:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


def coded(samples: F32, suffix: str, rate: int = 44100) -> F32:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{suffix}"
        sf.write(path, soxr.resample(samples, RATE, rate), rate)
        decoded, _ = sf.read(path, dtype="float32")
    return np.asarray(soxr.resample(decoded, rate, RATE), dtype=np.float32)


def shifted(samples: F32, milliseconds: float) -> F32:
    return np.concatenate([np.zeros(round(RATE * milliseconds / 1000), np.float32), samples])


CHANGES: dict[str, Callable[[F32], F32]] = {
    "gain -30 dB": lambda x: x * np.float32(0.0316),
    "mp3": lambda x: coded(x, "mp3"),
    "ogg": lambda x: coded(x, "ogg"),
    "via 48 kHz": lambda x: soxr.resample(soxr.resample(x, RATE, 48000), 48000, RATE),
    "27 ms later": lambda x: shifted(x, 27.3),
    "first 4 ms cut": lambda x: x[96:],
    "first half": lambda x: x[: len(x) // 2],
    "second half": lambda x: x[len(x) // 2 :],
    "middle half": lambda x: x[len(x) // 4 : 3 * len(x) // 4],
    "mp3 of the middle, quieter": lambda x: coded(x, "mp3")[len(x) // 4 + 137 : 3 * len(x) // 4] / 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def originals() -> list[Fingerprint]:
    return [fingerprint(pcm(sound(seed)), RATE) for seed in range(30)]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_finds_its_original_and_no_other(originals: list[Fingerprint], change: str) -> None:
    copies = [fingerprint(pcm(CHANGES[change](sound(seed))), RATE) for seed in range(30)]
    groups = find_near_duplicates([*originals, *copies]).groups
    assert groups[:30] == list(range(30))
    found = sum(group == seed for seed, group in enumerate(groups[30:]))
    assert all(group == seed or group == 30 + seed for seed, group in enumerate(groups[30:]))
    assert found >= (27 if "middle" in change or "half" in change else 30)


def test_different_tones_and_noises_with_the_same_envelope_stay_apart() -> None:
    t = np.arange(RATE) / RATE
    tones = [0.5 * np.sin(2 * np.pi * hz * t) for hz in (220, 221, 247, 440, 442, 880, 1760)]
    fading = [0.5 * np.exp(-3 * t) * np.sin(2 * np.pi * hz * t) for hz in (110, 220, 330, 440)]
    hits = [0.2 * np.exp(-8 * t) * np.random.default_rng(seed).standard_normal(RATE) for seed in range(20)]
    sounds = [fingerprint(pcm(each.astype(np.float32)), RATE) for each in [*tones, *fading, *hits]]
    assert find_near_duplicates(sounds).groups == list(range(len(sounds)))


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 96000])
def test_every_corpus_rate_works(rate: int) -> None:
    whole = soxr.resample(sound(0), RATE, rate)
    prints = [fingerprint(pcm(samples), rate) for samples in (whole, whole[rate // 5 :] / 2, whole[::-1])]
    assert find_near_duplicates(prints).groups == [0, 0, 2]


def test_too_short_or_silent_is_never_grouped() -> None:
    short = fingerprint(pcm(sound(0)[:2400]), RATE)
    empty = fingerprint(np.zeros(0, dtype=np.int16), RATE)
    silent = fingerprint(np.zeros(RATE, dtype=np.int16), RATE)
    assert find_near_duplicates([short, short, empty, empty, silent, silent]).groups == [0, 1, 2, 3, 4, 5]
    assert find_near_duplicates([]).groups == []
    assert find_near_duplicates([short]).groups == [0]


def test_groups_join_through_a_common_member_and_take_the_smallest_index(originals: list[Fingerprint]) -> None:
    whole = sound(3, 3.0)
    start, end = fingerprint(pcm(whole[: int(1.7 * RATE)]), RATE), fingerprint(pcm(whole[int(1.3 * RATE) :]), RATE)
    apart = find_near_duplicates([originals[0], start, end, originals[1]]).groups
    assert apart == [0, 1, 2, 3]
    joined = find_near_duplicates([originals[0], start, end, originals[1], fingerprint(pcm(whole), RATE)]).groups
    assert joined == [0, 1, 1, 3, 1]


@pytest.mark.parametrize("order", [range(6), range(5, -1, -1), (2, 4, 0, 5, 1, 3)])
def test_the_order_of_recordings_does_not_change_who_belongs_together(order: Sequence[int]) -> None:
    first, second = sound(0), sound(1)
    sounds = [first, second, shifted(first, 30), first / 3, second[2000:], sound(7)]
    groups = find_near_duplicates([fingerprint(pcm(sounds[index]), RATE) for index in order]).groups
    together = {frozenset(np.array(order)[np.array(groups) == group].tolist()) for group in groups}
    assert together == {frozenset({0, 2, 3}), frozenset({1, 4}), frozenset({5})}
    assert all(groups[group] == group <= position for position, group in enumerate(groups))
