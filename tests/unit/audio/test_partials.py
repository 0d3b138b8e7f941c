"""Partials of synthetic sounds, beside what is known of them and beside a slow search, frame by frame."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from distill.audio.partials import Partials, find_partials, match, steadiness

F64 = NDArray[np.float64]
RATE = 16_000
BIN = RATE / 2048


def glide(*parts: tuple[float, float], seconds: float = 1.0, cents: F64 | float = 0.0, rate: int = RATE) -> F64:
    """Sines of (Hz, amplitude), all of them bent by `cents` `[N]`."""
    bend = np.cumsum(np.broadcast_to(2 ** (np.asarray(cents) / 1200), round(seconds * rate))) / rate
    return np.asarray(sum(amplitude * np.sin(2 * np.pi * hertz * bend) for hertz, amplitude in parts))


def noise(seconds: float = 1.0, seed: int = 0) -> F64:
    return np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * 0.1


def string(hertz: float = 440.0) -> F64:
    """A burst of noise in a comb that decays."""
    period = round(RATE / hertz)
    burst = np.where(np.arange(RATE) < period, noise(seed=1), 0)
    return np.asarray(lfilter([1], [1, *[0] * (period - 1), -0.499, -0.499], burst))


STEPS = np.repeat([0.0, 400.0, -300.0], [RATE // 2, RATE // 4, RATE // 4])
TWO = ((440.0, 0.5), (1000.0, 0.05))
SOUNDS = {
    "sine": glide((440.0, 0.5)),
    "two sines": glide(*TWO),
    "near sines": glide((440.0, 0.5), (470.0, 0.4)),
    "noise": noise(),
    "string": string(),
    "string in noise": string() + 0.05 * noise(),
    "vibrato": glide(*TWO, cents=20 * np.sin(2 * np.pi * 5 * np.arange(RATE) / RATE)) + 0.1 * noise(),
    "sweep": glide((3000.0, 0.5), (200.0, 0.2), cents=np.linspace(0, 1200, RATE)),
    "steps with a rest": np.concatenate([glide(*TWO, cents=STEPS), 0 * noise(), string()]),
    "many sines": glide(*((300.0 * k, 0.1) for k in range(1, 26))),
    "ending in silence": np.concatenate([string(), np.zeros(RATE)]),
    "silence": np.zeros(RATE),
    "short": string()[:500],
}


@pytest.mark.parametrize(("rate", "hertz"), [(RATE, 440.0), (RATE, 3001.7), (44_100, 61.0), (48_000, 9999.0)])
def test_a_sine_has_one_partial_of_its_frequency_and_level(rate: int, hertz: float) -> None:
    found = find_partials(glide((hertz, 0.5), rate=rate), rate)
    assert found.hertz_per_bin == pytest.approx(rate / (4096 if rate > 30_000 else 2048))
    inner = slice(4, -8)  # whose windows lie in the sound
    assert np.isfinite(found.frequencies[inner]).sum(axis=1).tolist() == [1] * len(found.frequencies[inner])
    assert found.frequencies[inner, 0] == pytest.approx(hertz, abs=0.05 * found.hertz_per_bin)
    assert found.levels[inner, 0] == pytest.approx(20 * math.log10(0.5), abs=1.5)
    lobe = np.flatnonzero(found.lobes[10])
    assert len(lobe) == 5
    assert lobe[2] == round(hertz / found.hertz_per_bin)


def peaks_slowly(found: Partials, frame: int) -> list[float]:
    """Frequencies of a frame's partials."""
    levels, kept = 20 * np.log10(np.sqrt(found.powers[frame]) + 1e-7), []
    around = np.concatenate([np.full(20, levels[0]), levels, np.full(20, levels[-1])])
    for k in range(2, len(levels) - 2):
        beside = levels[[k - 2, k - 1, k + 1, k + 2]]
        loud = levels[k] > levels.max() - 40 and levels[k] - np.median(around[k : k + 41]) > 15
        if loud and np.all(levels[k] >= beside) and levels[k] > beside[2:].max():
            kept.append((levels[k], k))
    rows = []
    for _, k in sorted(kept)[-20:]:
        a, b, c = levels[k - 1 : k + 2]
        rows.append((k + 0.5 * (a - c) / (a - 2 * b + c)) * BIN)
    return sorted(rows)


def loud_slowly(found: Partials) -> list[bool]:
    peaks = np.sqrt(found.powers.max(axis=1)) + 1e-7
    return (peaks > peaks.max() / 100).tolist()


@pytest.mark.parametrize("name", SOUNDS)
def test_all_frames_at_once_give_the_partials_of_each(name: str) -> None:
    found = find_partials(SOUNDS[name], RATE)
    assert found.is_loud.tolist() == loud_slowly(found)
    for frame, row in enumerate(found.frequencies):
        assert row[np.isfinite(row)].tolist() == pytest.approx(peaks_slowly(found, frame), abs=1e-6), frame
        assert np.array_equal(np.isfinite(row), np.isfinite(found.levels[frame]))


def tracks_slowly(found: Partials) -> list[list[tuple[int, int]]]:
    """Partials that go on from frame to frame, as (frame, position)."""
    ended: list[list[tuple[int, int]]] = []
    alive: list[list[tuple[int, int]]] = []
    for frame, row in enumerate(found.frequencies):
        going = []
        for position, hertz in enumerate(row[np.isfinite(row)] if found.is_loud[frame] else ()):
            near = sorted(alive, key=lambda track: abs(math.log2(hertz / found.frequencies[track[-1]])))[:1]
            ratio = [hertz / found.frequencies[track[-1]] for track in near]
            if near and (abs(1200 * math.log2(ratio[0])) < 25 or abs(hertz - hertz / ratio[0]) < BIN / 2):
                alive.remove(near[0])
                going.append([*near[0], (frame, position)])
            else:
                going.append([(frame, position)])
        ended += alive
        alive = going
    return ended + alive


@pytest.mark.parametrize("name", SOUNDS)
def test_steadiness_is_that_of_partials_followed_one_by_one(name: str) -> None:
    found = find_partials(SOUNDS[name], RATE)
    made, tracks = steadiness(found), tracks_slowly(found)
    energies = [sum(10 ** (found.levels[at] / 10) for at in track) for track in tracks]
    life = np.average([len(track) for track in tracks], weights=energies) * 512 / len(SOUNDS[name]) if tracks else 0
    assert made.life == pytest.approx(life)
    powers = found.powers[found.is_loud]
    within = (powers * found.lobes[found.is_loud]).sum() / max(powers.sum(), 1e-20)
    assert made.share == pytest.approx(within)


def test_steady_partials_are_a_tone_and_noise_is_none() -> None:
    found = {name: steadiness(find_partials(sound, RATE)) for name, sound in SOUNDS.items()}
    tonal = {name for name, tone in found.items() if tone.is_tonal}
    assert tonal == {"sine", "two sines", "near sines", "vibrato"}
    assert found["noise"].share < 0.1 < 0.7 < found["string"].share  # of whose partials some are below the noise
    assert found["steps with a rest"].life < 0.5


def matched_slowly(one: Partials, other: Partials) -> tuple[int, int, int, float]:
    """How many partials of `one` there are, how many of `other` beside them, how many of these are the same, and by how
    many dB less of the energy is near them."""
    found = count = shown = 0
    shares: list[list[float]] = [[], []]
    for frame in np.flatnonzero(one.is_loud):
        here, there = ([hertz for hertz in of.frequencies[frame] if hertz == hertz] for of in (one, other))
        if not here:
            continue
        count, shown, left = count + len(here), shown + len(there), set(there)
        for hertz in here:
            nearest = min(there, key=lambda candidate: abs(candidate - hertz), default=math.inf)
            if abs(nearest - hertz) <= max(BIN / 2, hertz * (2 ** (15 / 1200) - 1)) and nearest in left:
                left.remove(nearest)
                found += 1
        near = sorted({k for hertz in here for k in range(round(hertz / BIN) - 2, round(hertz / BIN) + 3)})
        for of, into in zip((one, other), shares, strict=True):
            into.append(of.powers[frame, near].sum() / max(1e-20, of.powers[frame].sum()))
    tone = [float(np.mean(share)) if share else 0.0 for share in shares]
    ratios = [10 * math.log10((share + 1e-6) / (1 - share + 1e-6)) for share in tone]
    return count, shown, found, ratios[0] - ratios[1]


@pytest.mark.parametrize("name", SOUNDS)
def test_partials_are_found_again_as_one_by_one(name: str) -> None:
    sound = SOUNDS[name]
    one, resampled = find_partials(sound, RATE), np.interp(np.arange(len(sound)) * 1.008, np.arange(len(sound)), sound)
    for changed in (sound + 0.05 * noise(len(sound) / RATE, 3), resampled, 0 * resampled):
        other = find_partials(changed, RATE)
        count, shown, found, lost = matched_slowly(one, other)
        made = match(one, other)
        assert (made is None) is (count < 30)
        if made is not None:
            assert made.recall == pytest.approx(found / count)
            assert made.precision == pytest.approx(found / max(1, shown))
            assert made.tone_to_noise_lost == pytest.approx(lost)


@pytest.mark.parametrize(
    ("decoded", "expected"),
    [
        (glide(*TWO), {"recall": 1, "precision": 1, "f1": 1, "tone_to_noise_lost": 0, "cents": 0}),
        (glide(*TWO) * 0.5, {"f1": 1, "tone_to_noise_lost": 0, "cents": 0}),
        (glide(*TWO, cents=6.0), {"f1": 1, "cents": 6}),
        (glide(*TWO, cents=60.0), {"f1": 0, "cents": math.nan}),
        (glide(TWO[0]), {"recall": 0.5, "precision": 1, "f1": 2 / 3}),
        (glide(*TWO, (3000.0, 0.5)), {"recall": 1, "precision": 2 / 3}),
    ],
)
def test_a_match_says_what_was_lost_and_how_far_off_the_rest_is(decoded: F64, expected: dict[str, float]) -> None:
    inner = slice(RATE // 5, -RATE // 5)  # without the ends of the sounds, where partials of a window are wide
    made = match(find_partials(glide(*TWO, seconds=3)[:RATE][inner], RATE), find_partials(decoded[inner], RATE))
    assert made is not None
    for name, value in expected.items():
        assert getattr(made, name) == pytest.approx(value, abs=0.2, nan_ok=True), name


def test_noise_in_place_of_a_tone_is_a_loss_and_noise_has_no_tone_to_lose() -> None:
    tone, hiss = find_partials(SOUNDS["string"], RATE), find_partials(noise(), RATE)
    made = match(tone, hiss)
    assert made is not None
    assert made.tone_to_noise_lost > 10
    assert made.f1 < 0.1
    assert match(hiss, tone) is None
