"""Loops of steady sounds: the part that a sampler repeats while a note is held, found by correlation.

A loop lies where level and brightness stay. The slow course that the level has left would pulse once a loop: it is
levelled. A loop begins where the waveform is most alike to that around its end, some whole periods later. Around the end
the samples are mixed with those around the start, so that a sampler that jumps from the end to the start, and one that
goes on past the end, both play samples that follow each other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.audio.measure import window_energies
from distill.generate.sounds import folded

LEVEL_SECONDS, LEVEL_STEP = 0.08, 0.02  # of a window of the level, and from one to the next
STEADY_DB = (6.0, 3.0)  # by which level and brightness of a steady part vary at most
FALL_DB_A_SECOND = 4.0  # by which its level falls at most
SOFTEST_DB = -12.0  # of a steady part, relative to the loudest window
LEAST_SECONDS, MOST_SECONDS = 0.2, 4.0  # of a loop at least, of the steady part in which it is sought at most
FADE_SECONDS = 0.03  # of the crossfade, on each side of the loop's end
ENDS = 8  # places tried for the end
ALIKE = 0.005  # of correlations: of loops that are as good the longest is taken
SEAM_DB = 0.5  # by which the level at the start differs from that at the end at most

Samples = NDArray[np.float32]  # [N] or, in stereo, [N, 2], in [-1, 1]
Doubles = NDArray[np.float64]


class Loop(NamedTuple):
    """A loop: its first and last sample, and the correlation, from -1 to 1, of what is around its start and its end."""

    start: int
    end: int
    correlation: float


class Limits(NamedTuple):
    """Factor of what a steady part may vary by, and the least correlation of the samples around start and end."""

    tolerance: float
    correlation: float


STEADY = Limits(1.0, 0.95)  # of a steady sound
AMONG_STEADY = Limits(2.0, 0.8)  # of one in an instrument of steady sounds: a crossfade dips by half a decibel at 0.8


def looped_alike(sounds: Sequence[Samples], sample_rate: int, fade: int) -> list[tuple[Samples, Loop | None]]:
    """Sounds `[N]` or `[N, 2]` of an instrument, all of them with a loop or none, and their loops.

    They have one where most of them have a steady part, and each has a loop within wider limits at least. The last `fade`
    samples of a sound are in no loop.
    """
    heard, ends = [folded(samples, sample_rate) for samples in sounds], [len(samples) - fade for samples in sounds]
    steady = sum(steady_part(own[:end], sample_rate)[1] > 0 for own, end in zip(heard, ends, strict=True))
    made = list[tuple[Samples, Loop | None]]()
    for samples, own, end in zip(sounds, heard, ends, strict=True):
        tried = (looped(samples, own, sample_rate, end, limits) for limits in (STEADY, AMONG_STEADY))
        found = next((made for made in tried if made[1]), None)
        if found is None or 2 * steady <= len(sounds):
            return [(samples, None) for samples in sounds]
        made.append(found)
    return made


def looped(
    samples: Samples, heard: Samples, sample_rate: int, end: int, limits: Limits = STEADY
) -> tuple[Samples, Loop | None]:
    """Samples with a loop before `end`, if there is one: levelled from its start on, and mixed at its end.

    It is found in `heard` `[N]`, what is heard of both channels together; of a mono sound the samples themselves. The peak
    may change.
    """
    first, last = steady_part(heard[:end], sample_rate, limits.tolerance)
    level = level_course(heard[first:last], sample_rate)
    within = find_loop(heard[first:last] / level, sample_rate, limits.correlation)
    if within is None:
        return samples, None
    loop = within._replace(start=first + within.start, end=first + within.end)
    gain = level[within.start] / level[within.start :]
    after = np.interp(np.arange(len(samples) - last), [0, LEVEL_SECONDS * sample_rate], [gain[-1], 1.0])
    even = (samples.T * np.concatenate([np.ones(loop.start), gain, after])).T.astype(np.float32)
    return crossfaded(even, loop, sample_rate), loop


def level_course(samples: Samples, sample_rate: int) -> Doubles:
    """The slow course of the level of samples `[N]`, an amplitude at each of them: tremolo stays in part."""
    from scipy.ndimage import uniform_filter1d  # it takes a while to load

    window = round(0.05 * sample_rate)
    once = uniform_filter1d(samples.astype(np.float64) ** 2, window, mode="reflect")
    course: Doubles = np.sqrt(uniform_filter1d(once, window, mode="reflect"))
    return course


def find_loop(sound: Doubles, sample_rate: int, least_correlation: float) -> Loop | None:
    """The loop of a steady sound `[N]`; None where no part of it is alike enough to another."""
    last, fade, least = len(sound), round(FADE_SECONDS * sample_rate), round(LEAST_SECONDS * sample_rate)
    first = max(0, last - round(MOST_SECONDS * sample_rate))
    room = last - first - 2 * fade - least  # of starts
    if room <= 0:
        return None
    energy = window_energies(sound, 2 * fade)
    loops: list[Loop] = []
    for stop in last - fade - room * np.arange(ENDS) // (2 * ENDS):
        around = sound[stop - fade : stop + fade]
        starts = np.arange(first + fade, stop - least)
        searched = sound[first : stop - least + fade - 1]
        spectrum = np.fft.rfft(searched) * np.fft.rfft(around, len(searched)).conj()
        products = np.fft.irfft(spectrum, len(searched))[: len(starts)]
        energies = energy[starts - fade]
        own = float(around @ around)
        correlations = products / np.sqrt(energies * own)
        correlations[np.abs(10 * np.log10(energies / own)) > SEAM_DB] = -1
        good = np.flatnonzero(correlations >= max(least_correlation, correlations.max() - ALIKE))
        if len(good):
            loops.append(Loop(int(starts[good[0]]), int(stop) - 1, float(correlations[good[0]])))
    best = max((loop.correlation for loop in loops), default=0.0)
    good_loops = [loop for loop in loops if loop.correlation >= best - ALIKE]
    return max(good_loops, key=lambda loop: loop.end - loop.start, default=None)


def crossfaded(samples: Samples, loop: Loop, sample_rate: int) -> Samples:
    """Samples, mixed around the end of a loop with those around its start."""
    fade, stop = round(FADE_SECONDS * sample_rate), loop.end + 1
    weights = np.cos(np.linspace(-np.pi / 2, np.pi / 2, 2 * fade, endpoint=False)) ** 2  # 1 at the end
    mixed = samples.copy()
    around_start = samples[loop.start - fade : loop.start + fade]
    around_end = samples[stop - fade : stop + fade]
    mixed[stop - fade : stop + fade] = around_end + (weights * (around_start - around_end).T).T
    return mixed


def steady_part(samples: Samples, sample_rate: int, tolerance: float = 1.0) -> tuple[int, int]:
    """The longest part of samples `[N]` whose level and brightness are steady: its first sample, and that after its last.

    The part begins after its first window, which may have the attack in it. (0, 0) for none.
    """
    window, step = round(LEVEL_SECONDS * sample_rate), round(LEVEL_STEP * sample_rate)
    starts = np.arange(0, len(samples) - window + 1, step)
    levels = np.empty((2, len(starts)))  # dB; brightness is that of differences, where high partials are louder
    for row, signal in zip(levels, (samples, np.diff(samples, prepend=samples[:1])), strict=True):
        row[:] = 10 * np.log10(np.maximum(window_energies(signal, window)[starts], 1e-12))
    levels[1] -= levels[0]
    is_soft = levels[0] < levels[0].max(initial=-np.inf) + SOFTEST_DB
    first = count = 0
    for begin in range(len(starts)):
        rest = levels[:, begin:]
        varies = np.maximum.accumulate(rest, axis=1) - np.minimum.accumulate(rest, axis=1)
        unsteady = (varies > tolerance * np.array(STEADY_DB)[:, None]).any(axis=0) | is_soft[begin:]
        length = int(np.append(unsteady, True).argmax())
        if length > count:
            first, count = begin, length
    steady = levels[0, first : first + count]
    if count < 2 or np.polyfit(np.arange(count) * LEVEL_STEP, steady, 1)[0] < -tolerance * FALL_DB_A_SECOND:
        return 0, 0
    return int(starts[first]) + window, int(starts[first + count - 1]) + window
