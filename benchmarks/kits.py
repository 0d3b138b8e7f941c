"""How alike the sounds of kits are, and whether a cliff hides in low ones.

`python -m benchmarks.kits KIT... [--recordings FOLDER]`. A row for the round robins of a key, one for neighbouring keys:
medians over pairs of how much they differ in length, in loudness and in spectrum. Beside them stand pairs of recordings.

Partials above the 128th are in no code, so that what a low note has above 129 times its pitch is noise. Where the level
falls there at once, a cliff is in the spectrum: its height is measured beside the slope on both sides.
"""

import argparse
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import lfilter

from benchmarks.arguments import refusals_said
from distill.audio.image import mono
from distill.codec.scales import hertz
from distill.codec.tones.layer import PARTIALS

BANDS_PER_OCTAVE, LOWEST_HERTZ = 1.5, 50.0
BESIDE = 16  # partials on each side of a cliff
LEAST_BESIDE = 6  # that have to be below half the sample rate
FLOOR_DB = -110.0  # of a band, relative to full scale

Samples = NDArray[np.floating]  # [N]


class Difference(NamedTuple):
    """By how much two sounds differ: in length (a factor of 1 or more), in LUFS, and in the levels of bands in dB."""

    length: float
    loudness: float
    spectrum: float


def difference(one: Samples, other: Samples, rate: int) -> Difference:
    """By how much two sounds `[N]` differ."""
    lengths, bands = (
        sorted((len(one), len(other))),
        [band_levels(own, rate) for own in (one, other)],
    )
    shapes = [levels - levels.max() for levels in bands]
    loud = [loudness(own, rate) for own in (one, other)]
    heard = np.maximum(*shapes) > -60
    return Difference(
        lengths[1] / lengths[0],
        abs(loud[0] - loud[1]),
        float(np.abs(shapes[0] - shapes[1])[heard].mean()),
    )


def loudness(sound: Samples, rate: int) -> float:
    """Loudness in LUFS of the loudest 0.4 s of a sound `[N]`, or of all of a shorter one (ITU-R BS.1770-4, K-weighted)."""
    for b, a in k_weighting(rate):
        sound = lfilter(b, a, sound)
    window = min(len(sound), round(0.4 * rate))
    sums = np.concatenate([[0.0], np.cumsum(sound**2)])
    return float(
        -0.691 + 10 * np.log10(max((sums[window:] - sums[:-window]).max() / window, 1e-12))
    )


def k_weighting(rate: int) -> Iterable[tuple[list[float], list[float]]]:
    """The shelf and the high-pass of BS.1770 at any sample rate, as coefficients of two biquads."""
    tangent, quality, gain = (
        np.tan(np.pi * 1681.974450955533 / rate),
        0.7071752369554196,
        10 ** (3.999843853973347 / 20),
    )
    middle = gain**0.4996667741545416
    first = 1 + tangent / quality + tangent**2
    yield (
        [
            (gain + middle * tangent / quality + tangent**2) / first,
            2 * (tangent**2 - gain) / first,
            (gain - middle * tangent / quality + tangent**2) / first,
        ],
        [1.0, 2 * (tangent**2 - 1) / first, (1 - tangent / quality + tangent**2) / first],
    )
    tangent, quality = np.tan(np.pi * 38.13547087602444 / rate), 0.5003270373238773
    first = 1 + tangent / quality + tangent**2
    yield (
        [1.0, -2.0, 1.0],
        [1.0, 2 * (tangent**2 - 1) / first, (1 - tangent / quality + tangent**2) / first],
    )


def band_levels(sound: Samples, rate: int) -> NDArray[np.float64]:
    """Levels in dB of a sound `[N]` in bands of two thirds of an octave."""
    power = np.abs(np.fft.rfft(sound)) ** 2 / len(sound) ** 2
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(sound), 1 / rate), 1e-9) / LOWEST_HERTZ)
    edges = np.arange(0, np.log2(rate / 2 / LOWEST_HERTZ), 1 / BANDS_PER_OCTAVE)
    sums = [power[(octaves >= low) & (octaves < low + 1 / BANDS_PER_OCTAVE)].sum() for low in edges]
    return 10 * np.log10(np.maximum(sums, 10 ** (FLOOR_DB / 10)))


def cliff_db(sound: Samples, rate: int, pitch: float) -> float:
    """By how many dB a sound `[N]` at a pitch, in Hz, falls at once after the last of its partials; NaN if that is too high.

    A line over log frequency, and a step, are fitted to the levels around each of the partials on both sides.
    """
    numbers = np.arange(PARTIALS + 1 - BESIDE, PARTIALS + 1 + BESIDE)
    numbers = numbers[(numbers + 0.5) * pitch < rate / 2]
    is_above = numbers > PARTIALS
    if is_above.sum() < LEAST_BESIDE:
        return float("nan")
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    sums = np.concatenate([[0.0], np.cumsum(power)])
    low, high = (
        ((numbers + way) * pitch * len(sound) / rate).round().astype(int) for way in (-0.5, 0.5)
    )
    levels = 10 * np.log10(np.maximum((sums[high] - sums[low]) / (high - low), 1e-20))
    fitted = np.stack([np.ones(len(numbers)), np.log2(numbers), is_above], axis=1)
    return -float(np.linalg.lstsq(fitted, levels)[0][2])


def pairs_of(kit: Path) -> tuple[list[Difference], list[Difference]]:
    """Differences of the round robins of each key of a kit, and of the first sounds of neighbouring keys."""
    groups = [
        group for group in json.loads((kit / "kit.json").read_bytes())["groups"] if group["sounds"]
    ]
    read = [[soundfile.read(kit / sound["file"]) for sound in group["sounds"]] for group in groups]
    sounds, rate = [[mono(samples) for samples, _ in group] for group in read], read[0][0][1]
    within = [
        difference(*pair, rate) for group in sounds for pair in itertools.combinations(group, 2)
    ]
    return within, [
        difference(left[0], right[0], rate) for left, right in itertools.pairwise(sounds)
    ]


def cliffs_of(kit: Path) -> list[tuple[str, float]]:
    """The cliff of each sound of a kit at notes, by file."""
    index = json.loads((kit / "kit.json").read_bytes())
    rows = []
    for group in index["groups"] if "notes" in index["settings"] else []:
        pitch = float(hertz(float(group["key"])))
        for sound in group["sounds"]:
            samples, rate = soundfile.read(kit / sound["file"])
            rows.append((sound["file"], cliff_db(mono(samples), rate, pitch)))
    return rows


def row(name: str, found: Sequence[Difference]) -> str:
    """A row of medians, and of the largest differences in brackets."""
    length, loud, spectrum = (
        (f"{np.median(own):.2f} ({max(own):.2f})" for own in zip(*found, strict=True))
        if found
        else ("–",) * 3
    )
    return f"| {name} | {len(found)} | {length} | {loud} | {spectrum} |"


def main() -> None:
    """Print the tables. Exit status 2 for a folder that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kits", description=__doc__)
    parser.add_argument("kits", nargs="*", type=Path, help="folders of kits")
    parser.add_argument(
        "--recordings",
        type=Path,
        action="append",
        default=[],
        help="a folder of recordings to pair",
    )
    asked = parser.parse_args()
    with refusals_said("kits"):
        print(
            "| pairs | number | length, factor | loudness, LU | spectrum, dB |\n|---|---|---|---|---|"
        )
        for kit in asked.kits:
            within, beside = pairs_of(kit)
            print(row(f"{kit.name}, round robins", within))
            print(row(f"{kit.name}, neighbouring keys", beside))
        for folder in asked.recordings:
            read = [
                soundfile.read(path)
                for path in sorted(folder.iterdir())
                if path.suffix in (".wav", ".flac")
            ]
            same = [pair for pair in itertools.pairwise(read) if pair[0][1] == pair[1][1]]
            found = [difference(mono(one), mono(other), rate) for (one, rate), (other, _) in same]
            print(row(f"{folder.name}, neighbouring files", found))
        print(f"\n| low sound | cliff at {PARTIALS + 1} times the pitch, dB |\n|---|---|")
        for kit in asked.kits:
            for name, cliff in cliffs_of(kit):
                if np.isfinite(cliff):
                    print(f"| {kit.name}/{name} | {cliff:+.1f} |")


if __name__ == "__main__":
    main()
