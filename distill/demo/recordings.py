"""Demo corpus: a few dozen short synthesised recordings that sound like one musician's kit.

Pitches are natural notes only, so everything is in A minor by construction.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray
from scipy import signal

from distill.audio.write import audio_file
from distill.demo import instruments
from distill.demo.instruments import DEMO_SAMPLE_RATE, Samples
from distill.errors import AudioError
from distill.storage.files import write_bytes

__all__ = ["DEMO_SAMPLE_RATE", "DemoRecording", "demo_recordings", "write_demo"]

_DC_CUTOFF_HERTZ = 12.0
_FADE_IN_SECONDS = 0.0005
_FADE_OUT_SECONDS = 0.03

_MARIMBA = (1.0, 4.0, 9.8)  # undercut so that the second mode is two octaves up
_VIBRAPHONE = (1.0, 4.0, 10.0, 16.5)
# A uniform bar with free ends (Fletcher and Rossing, The Physics of Musical Instruments, ch. 2).
_GLOCKENSPIEL = (1.0, 2.756, 5.404, 8.933)


@dataclass(frozen=True)
class DemoRecording:
    """Recording of the demo corpus.

    `name` is its path within the corpus, `family/recording.flac`; `samples` lie in [-1, 1].
    """

    name: str
    samples: NDArray[np.float32]  # [N]
    sample_rate: int = DEMO_SAMPLE_RATE

    @property
    def family(self) -> str:
        """The instrument family, which is the folder of `name`."""
        return self.name.split("/", maxsplit=1)[0]


@dataclass(frozen=True)
class _Recipe:
    name: str  # without suffix
    peak_dbfs: float
    play: Callable[[Generator], Samples]


def demo_recordings(seed: int = 0) -> Iterator[DemoRecording]:
    """Synthesise the demo corpus, in a fixed order. The same `seed`, an integer from 0, gives the same samples.

    Each recording has a generator of its own, seeded by (`seed`, name): adding one leaves the others unchanged.
    """
    for recipe in _recipes():
        name = f"{recipe.name}.flac"
        entropy = int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "big")
        rng = Generator(PCG64(SeedSequence([seed, entropy])))
        yield DemoRecording(name, _master(recipe.play(rng), recipe.peak_dbfs))


def write_demo(folder: Path, seed: int = 0) -> list[Path]:
    """Write the demo corpus below `folder` as 16-bit mono FLAC and return the files' paths, in corpus order.

    Equal files may be there. Raises AudioError when `folder` is a file, or where it has another of such a name.
    """
    if folder.exists() and not folder.is_dir():
        raise AudioError(
            f"{folder}: expected a folder to write the demo recordings to, found a file; name another folder"
        )
    paths = []
    for recording in demo_recordings(seed):
        paths.append(folder / recording.name)
        write_recording(paths[-1], recording.samples)
    return paths


def write_recording(path: Path, samples: NDArray[np.float32]) -> None:
    """Write samples at `DEMO_SAMPLE_RATE` as 16-bit mono FLAC, atomically. Raises AudioError where another file is."""
    data = audio_file(path, samples, DEMO_SAMPLE_RATE, "flac", comment="")
    if (path.exists() or path.is_symlink()) and not (path.is_file() and path.read_bytes() == data):
        raise AudioError(f"{path}: expected no file, or this recording, found another; name another folder")
    write_bytes(path, data)


def _master(samples: Samples, peak_dbfs: float) -> NDArray[np.float32]:
    """Remove DC, fade both ends to zero and set the peak."""
    block = signal.butter(1, _DC_CUTOFF_HERTZ, "highpass", fs=DEMO_SAMPLE_RATE, output="sos")
    clean: Samples = signal.sosfilt(block, samples)
    for seconds, part in ((_FADE_IN_SECONDS, clean), (_FADE_OUT_SECONDS, clean[::-1])):
        ramp = np.linspace(0, np.pi, round(seconds * DEMO_SAMPLE_RATE))
        part[: ramp.size] *= 0.5 - 0.5 * np.cos(ramp)
    scale = 10 ** (peak_dbfs / 20) / np.abs(clean).max()
    return np.asarray(clean * scale, dtype=np.float32)


def _hertz(note: str) -> float:
    """Equal-tempered frequency of a natural note such as `a4` (440 Hz)."""
    semitones = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}[note[0]]
    octaves = int(note[1:]) - 4 + (semitones - 9) / 12
    return 440.0 * float(2.0**octaves)


def _recipes() -> Iterator[_Recipe]:
    yield from _strings()
    yield from _bars()
    yield from _drums()
    yield from _bells()
    yield from _sweeps()
    yield from _chords()


def _strings() -> Iterator[_Recipe]:
    for note, touch, seconds, brightness, pick_position, peak_dbfs in (
        ("a2", "soft", 1.8, 0.25, 0.31, -9.0),
        ("a2", "hard", 1.5, 0.90, 0.12, -2.0),
        ("c3", "soft", 1.5, 0.40, 0.27, -8.0),
        ("d3", "muted", 0.35, 0.30, 0.20, -7.0),
        ("e3", "hard", 1.3, 0.80, 0.15, -3.0),
        ("g3", "soft", 1.2, 0.45, 0.24, -10.0),
        ("a3", "bright", 1.1, 1.00, 0.09, -4.0),
        ("c4", "soft", 1.0, 0.35, 0.29, -11.0),
        ("e4", "hard", 0.9, 0.75, 0.17, -5.0),
        ("a4", "muted", 0.3, 0.55, 0.22, -8.0),
    ):
        play = partial(
            instruments.plucked_string,
            frequency=_hertz(note),
            seconds=seconds,
            brightness=brightness,
            pick_position=pick_position,
        )
        yield _Recipe(f"plucked_string/{note}_{touch}", peak_dbfs, play)


def _bars() -> Iterator[_Recipe]:
    for bar, ratios, tremolo, note, seconds, hardness, peak_dbfs in (
        ("marimba", _MARIMBA, 0.0, "a2", 0.90, 0.15, -6.0),
        ("marimba", _MARIMBA, 0.0, "e3", 0.70, 0.40, -5.0),
        ("marimba", _MARIMBA, 0.0, "c4", 0.50, 0.70, -3.0),
        ("marimba", _MARIMBA, 0.0, "g4", 0.40, 0.30, -9.0),
        ("vibraphone", _VIBRAPHONE, 0.6, "a3", 1.80, 0.30, -7.0),
        ("vibraphone", _VIBRAPHONE, 0.5, "d4", 1.50, 0.60, -5.0),
        ("glockenspiel", _GLOCKENSPIEL, 0.0, "a5", 1.20, 0.80, -6.0),
        ("glockenspiel", _GLOCKENSPIEL, 0.0, "e6", 0.90, 0.95, -8.0),
    ):
        play = partial(
            instruments.struck_bar,
            frequency=_hertz(note),
            seconds=seconds,
            ratios=ratios,
            hardness=hardness,
            tremolo=tremolo,
        )
        yield _Recipe(f"struck_bar/{bar}_{note}", peak_dbfs, play)


def _drums() -> Iterator[_Recipe]:
    low, high = _hertz("e1"), _hertz("a1")
    yield _Recipe("drum/kick_deep", -1.0, partial(instruments.kick, frequency=low, seconds=0.6, sweep=5.0, click=0.2))
    yield _Recipe("drum/kick_tight", -1.5, partial(instruments.kick, frequency=high, seconds=0.3, sweep=4.0, click=0.5))
    shell = _hertz("g3")
    yield _Recipe("drum/snare_tight", -2.0, partial(instruments.snare, frequency=shell, seconds=0.25, wires=0.5))
    yield _Recipe("drum/snare_loose", -4.0, partial(instruments.snare, frequency=shell, seconds=0.5, wires=0.9))
    for size, note, seconds, peak_dbfs in (
        ("low", "a2", 0.8, -3.0),
        ("mid", "d3", 0.6, -5.0),
        ("high", "g3", 0.45, -7.0),
    ):
        yield _Recipe(f"drum/tom_{size}", peak_dbfs, partial(instruments.tom, frequency=_hertz(note), seconds=seconds))
    yield _Recipe("drum/hat_closed", -12.0, partial(instruments.hat, seconds=0.15, cutoff=8000.0))
    yield _Recipe("drum/hat_pedal", -14.0, partial(instruments.hat, seconds=0.22, cutoff=6000.0))
    yield _Recipe("drum/hat_open", -10.0, partial(instruments.hat, seconds=0.9, cutoff=7000.0))
    yield _Recipe("drum/clap", -4.0, partial(instruments.clap, seconds=0.35, frequency=1100.0))


def _bells() -> Iterator[_Recipe]:
    for note, kind, seconds, ratio, index, peak_dbfs in (
        ("g3", "tubular", 1.8, 3.53, 3.0, -6.0),
        ("a3", "church", 2.2, 1.40, 7.0, -3.0),
        ("c4", "gong", 1.7, 1.73, 5.0, -8.0),
        ("e4", "church", 1.6, 1.40, 5.0, -5.0),
        ("a4", "hand", 1.2, 2.76, 3.5, -7.0),
        ("d5", "hand", 0.9, 2.76, 3.0, -11.0),
    ):
        play = partial(instruments.fm_bell, frequency=_hertz(note), seconds=seconds, ratio=ratio, index=index)
        yield _Recipe(f"fm_bell/{kind}_{note}", peak_dbfs, play)


def _sweeps() -> Iterator[_Recipe]:
    for name, seconds, centres, resonance, peak, peak_dbfs in (
        ("riser_long", 1.8, (250.0, 900.0, 7000.0), 5.0, 0.92, -5.0),
        ("riser_short", 0.9, (500.0, 9000.0), 3.0, 0.88, -8.0),
        ("faller", 1.4, (8000.0, 1500.0, 180.0), 4.0, 0.06, -6.0),
        ("whoosh_slow", 1.3, (400.0, 3000.0, 500.0), 3.0, 0.5, -9.0),
        ("whoosh_fast", 0.6, (800.0, 6000.0, 1000.0), 2.0, 0.4, -4.0),
    ):
        play = partial(instruments.noise_sweep, seconds=seconds, centres=centres, resonance=resonance, peak=peak)
        yield _Recipe(f"noise_sweep/{name}", peak_dbfs, play)


def _chords() -> Iterator[_Recipe]:
    for name, notes, seconds, brightness, attack, peak_dbfs in (
        ("a_minor", "a2 e3 a3 c4", 2.0, 0.5, 0.15, -6.0),
        ("f_major", "f3 a3 c4 f4", 1.7, 0.3, 0.25, -9.0),
        ("c_major", "c3 g3 c4 e4", 1.6, 0.7, 0.08, -4.0),
        ("g_seventh", "g2 d3 f3 b3", 1.8, 0.6, 0.12, -7.0),
        ("d_suspended", "d3 g3 a3 d4", 1.8, 0.2, 0.30, -12.0),
        ("e_minor_seventh", "e3 b3 d4 g4", 1.5, 0.8, 0.05, -5.0),
    ):
        frequencies = [_hertz(note) for note in notes.split()]
        play = partial(
            instruments.chord, frequencies=frequencies, seconds=seconds, brightness=brightness, attack=attack
        )
        yield _Recipe(f"chord/{name}", peak_dbfs, play)
