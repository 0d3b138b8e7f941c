"""Find loops of steady sounds by correlation: the part that a sampler repeats while a note is held.

A loop lies where level and brightness are steady. Its remaining slow level contour would pulse once a loop, so the
level is made constant. Start and end of a loop are whole periods apart, where the waveforms are most similar. A
crossfade mixes the start into the end, so that the sound is smooth whether a sampler jumps back or plays on.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.audio.measure import window_energies
from distill.generate.decoding import folded

LEVEL_SECONDS, LEVEL_STEP = 0.08, 0.02  # window and hop of the level
MIN_SECONDS = 0.2  # of a loop
FADE_SECONDS = 0.03  # half of the crossfade, which is centred on the loop's end

Samples = NDArray[np.float32]  # [N] or, in stereo, [N, 2], in [-1, 1]
Doubles = NDArray[np.float64]


class Loop(NamedTuple):
    """First and last sample of a loop, and the correlation of the windows around them, from -1 to 1."""

    start: int
    end: int
    correlation: float


class Limits(NamedTuple):
    """Factor on the variation allowed in a steady part, and minimum correlation around start and end."""

    tolerance: float
    correlation: float


STEADY = Limits(1.0, 0.95)  # for a steady sound
AMONG_STEADY = Limits(
    2.0, 0.8
)  # in an instrument of steady sounds; at 0.8 a crossfade dips by 0.5 dB


def looped_alike(
    sounds: Sequence[Samples], sample_rate: int, fade: int
) -> list[tuple[Samples, Loop | None]]:
    """Loop all sounds `[N]` or `[N, 2]` of an instrument or none; return sounds and loops.

    All are looped if most have a steady part and each has a loop at least within the wider limits AMONG_STEADY. Loops
    leave out the last `fade` samples.
    """
    unlooped: list[tuple[Samples, Loop | None]] = [(samples, None) for samples in sounds]
    downmixes = [folded(samples, sample_rate) for samples in sounds]
    steady = sum(steady_part(own[: len(own) - fade], sample_rate)[1] > 0 for own in downmixes)
    if 2 * steady <= len(sounds):
        return unlooped
    made = []
    for samples, own in zip(sounds, downmixes, strict=True):
        tried = (
            looped(samples, own, sample_rate, len(samples) - fade, limits)
            for limits in (STEADY, AMONG_STEADY)
        )
        made.append(next((result for result in tried if result[1]), (samples, None)))
    return made if all(loop for _, loop in made) else unlooped


def looped(
    samples: Samples, downmix: Samples, sample_rate: int, end: int, limits: Limits = STEADY
) -> tuple[Samples, Loop | None]:
    """Loop samples before `end` if possible: constant level from the start of the loop, crossfade at its end.

    The search uses the `downmix` `[N]`. The peak may change.
    """
    first, last = steady_part(downmix[:end], sample_rate, limits.tolerance)
    level = level_contour(downmix[first:last], sample_rate)
    within = find_loop(downmix[first:last] / level, sample_rate, limits.correlation)
    if within is None:
        return samples, None
    loop = within._replace(start=first + within.start, end=first + within.end)
    gain = level[within.start] / level[within.start :]
    after = np.interp(
        np.arange(len(samples) - last), [0, LEVEL_SECONDS * sample_rate], [gain[-1], 1.0]
    )
    even = (samples.T * np.concatenate([np.ones(loop.start), gain, after])).T.astype(np.float32)
    return crossfaded(even, loop, sample_rate), loop


def level_contour(samples: Samples, sample_rate: int) -> Doubles:
    """Slow level contour of samples `[N]`, an amplitude for each sample; part of a tremolo stays."""
    from scipy.ndimage import uniform_filter1d  # loads slowly

    window = round(0.05 * sample_rate)
    once = uniform_filter1d(samples.astype(np.float64) ** 2, window, mode="reflect")
    contour: Doubles = np.sqrt(uniform_filter1d(once, window, mode="reflect"))
    return contour


def find_loop(sound: Doubles, sample_rate: int, min_correlation: float) -> Loop | None:
    """Best loop of a steady sound `[N]`, or None if no two windows are similar enough."""
    last, fade = len(sound), round(FADE_SECONDS * sample_rate)
    shortest = round(MIN_SECONDS * sample_rate)
    first = max(0, last - round(4.0 * sample_rate))  # the last 4 s are searched
    room = last - first - 2 * fade - shortest  # number of start positions
    if room <= 0:
        return None
    energy = window_energies(sound, 2 * fade)
    loops: list[Loop] = []
    tolerance, ends = (
        0.005,
        8,
    )  # in correlation, within which the longest loop is chosen; candidate ends
    for stop in last - fade - room * np.arange(ends) // (2 * ends):
        around = sound[stop - fade : stop + fade]
        starts = np.arange(first + fade, stop - shortest)
        searched = sound[first : stop - shortest + fade - 1]
        spectrum = np.fft.rfft(searched) * np.fft.rfft(around, len(searched)).conj()
        products = np.fft.irfft(spectrum, len(searched))[: len(starts)]
        energies = energy[starts - fade]
        own = float(around @ around)
        correlations = products / np.sqrt(energies * own)
        correlations[np.abs(10 * np.log10(energies / own)) > 0.5] = -1  # dB between start and end
        good = np.flatnonzero(correlations >= max(min_correlation, correlations.max() - tolerance))
        if len(good):
            loops.append(Loop(int(starts[good[0]]), int(stop) - 1, float(correlations[good[0]])))
    best = max((loop.correlation for loop in loops), default=0.0)
    good_loops = [loop for loop in loops if loop.correlation >= best - tolerance]
    return max(good_loops, key=lambda loop: loop.end - loop.start, default=None)


def crossfaded(samples: Samples, loop: Loop, sample_rate: int) -> Samples:
    """Crossfade the samples around the end of a loop with the samples around its start."""
    fade, stop = round(FADE_SECONDS * sample_rate), loop.end + 1
    weights = (
        np.cos(np.linspace(-np.pi / 2, np.pi / 2, 2 * fade, endpoint=False)) ** 2
    )  # 1 at the end of the loop
    mixed = samples.copy()
    around_start = samples[loop.start - fade : loop.start + fade]
    around_end = samples[stop - fade : stop + fade]
    mixed[stop - fade : stop + fade] = around_end + (weights * (around_start - around_end).T).T
    return mixed


def steady_part(samples: Samples, sample_rate: int, tolerance: float = 1.0) -> tuple[int, int]:
    """Longest part of samples `[N]` with steady level and brightness: start and end (exclusive), (0, 0) if none.

    It begins after its first window, which may contain the attack.
    """
    window, step = round(LEVEL_SECONDS * sample_rate), round(LEVEL_STEP * sample_rate)
    starts = np.arange(0, len(samples) - window + 1, step)
    levels = np.empty(
        (2, len(starts))
    )  # dB; the level of differences, which emphasise high partials, gives brightness
    for row, signal in zip(levels, (samples, np.diff(samples, prepend=samples[:1])), strict=True):
        row[:] = 10 * np.log10(np.maximum(window_energies(signal, window)[starts], 1e-12))
    levels[1] -= levels[0]
    is_soft = levels[0] < levels[0].max(initial=-np.inf) - 12.0  # dB
    max_variation = tolerance * np.array([6.0, 3.0])[:, None]  # dB, of level and brightness
    first = count = 0
    for begin in range(len(starts)):
        rest = levels[:, begin:]
        varies = np.maximum.accumulate(rest, axis=1) - np.minimum.accumulate(rest, axis=1)
        unsteady = (varies > max_variation).any(axis=0) | is_soft[begin:]
        length = int(np.append(unsteady, True).argmax())
        if length > count:
            first, count = begin, length
    steady = levels[0, first : first + count]
    max_decay = 4.0 * tolerance  # dB a second
    if count < 2 or np.polyfit(np.arange(count) * LEVEL_STEP, steady, 1)[0] < -max_decay:
        return 0, 0
    return int(starts[first]) + window, int(starts[first + count - 1]) + window
