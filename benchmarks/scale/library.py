"""A library of synthetic recordings, as large as asked: folders of 200 recordings of a few instruments each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from distill.audio.synthetic_sounds import Samples
from distill.audio.write import write_audio
from distill.storage.files import atomic_folder
from pretraining.instruments import resampled
from pretraining.recordings import synthetic_collection

PER_FOLDER = 200
SOURCES = 20  # sounds of which those of a folder are made, two at a time, at other pitches
SAMPLE_RATE = 44_100
SECONDS = (0.2, 1.3)
SEMITONES = 9.0


def write_library(
    folder: Path, recordings: int, seed: int = 0, say: Callable[[str], None] = print
) -> None:
    """Write a library of `recordings` recordings, a multiple of PER_FOLDER, as 16-bit WAV files.

    A folder depends on its number and the seed alone, so a library holds the smaller ones; folders that are there stay.
    """
    for number in range(recordings // PER_FOLDER):
        target = folder / f"set-{number:04d}"
        if not target.exists():
            with atomic_folder(target) as temporary:
                _write_folder(temporary, np.random.default_rng([seed, number]))
            say(f"{(number + 1) * PER_FOLDER} of {recordings} recordings")


def _write_folder(folder: Path, rng: np.random.Generator) -> None:
    most = SOURCES * SECONDS[1]
    sources: list[Samples] = []
    while len(sources) < SOURCES:
        made = synthetic_collection(rng, SAMPLE_RATE, SOURCES - len(sources), most)
        sources += [sound.astype(np.float64) for sound, _ in made]
    for number in range(PER_FOLDER):
        length = int(rng.uniform(*SECONDS) * SAMPLE_RATE)
        sound = np.zeros(length, dtype=np.float32)
        for level in (1.0, float(10 ** (-rng.uniform(0, 20) / 20))):
            source, semitones = (
                sources[int(rng.integers(SOURCES))],
                rng.uniform(-SEMITONES, SEMITONES),
            )
            part = resampled(source, 2 ** (semitones / 12))[:length].astype(np.float32)
            sound[: len(part)] += level * part
        sound *= 10 ** (-rng.uniform(0, 12) / 20) / max(1e-3, float(np.abs(sound).max()))
        fade = int(0.02 * SAMPLE_RATE)
        sound[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
        write_audio(folder / f"{number:03d}.wav", sound, SAMPLE_RATE)
