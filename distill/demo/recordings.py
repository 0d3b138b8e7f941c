"""Demo corpus: a few dozen short synthesised recordings that sound like one musician's kit.

Pitches are natural notes only, so everything is in A minor by construction.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray
from scipy import signal

from distill.audio.write import audio_file
from distill.demo import instruments
from distill.demo.instruments import DEMO_SAMPLE_RATE, Samples
from distill.errors import AudioError
from distill.storage.files import write_bytes

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
    yield from _table(
        *("plucked_string", instruments.plucked_string, "frequency seconds brightness pick_position"),
        ("a2_soft", -9.0, _hertz("a2"), 1.8, 0.25, 0.31),
        ("a2_hard", -2.0, _hertz("a2"), 1.5, 0.90, 0.12),
        ("c3_soft", -8.0, _hertz("c3"), 1.5, 0.40, 0.27),
        ("d3_muted", -7.0, _hertz("d3"), 0.35, 0.30, 0.20),
        ("e3_hard", -3.0, _hertz("e3"), 1.3, 0.80, 0.15),
        ("g3_soft", -10.0, _hertz("g3"), 1.2, 0.45, 0.24),
        ("a3_bright", -4.0, _hertz("a3"), 1.1, 1.00, 0.09),
        ("c4_soft", -11.0, _hertz("c4"), 1.0, 0.35, 0.29),
        ("e4_hard", -5.0, _hertz("e4"), 0.9, 0.75, 0.17),
        ("a4_muted", -8.0, _hertz("a4"), 0.3, 0.55, 0.22),
    )
    yield from _table(
        *("struck_bar", instruments.struck_bar, "frequency seconds ratios hardness tremolo"),
        ("marimba_a2", -6.0, _hertz("a2"), 0.90, _MARIMBA, 0.15, 0.0),
        ("marimba_e3", -5.0, _hertz("e3"), 0.70, _MARIMBA, 0.40, 0.0),
        ("marimba_c4", -3.0, _hertz("c4"), 0.50, _MARIMBA, 0.70, 0.0),
        ("marimba_g4", -9.0, _hertz("g4"), 0.40, _MARIMBA, 0.30, 0.0),
        ("vibraphone_a3", -7.0, _hertz("a3"), 1.80, _VIBRAPHONE, 0.30, 0.6),
        ("vibraphone_d4", -5.0, _hertz("d4"), 1.50, _VIBRAPHONE, 0.60, 0.5),
        ("glockenspiel_a5", -6.0, _hertz("a5"), 1.20, _GLOCKENSPIEL, 0.80, 0.0),
        ("glockenspiel_e6", -8.0, _hertz("e6"), 0.90, _GLOCKENSPIEL, 0.95, 0.0),
    )
    yield from _drums()
    yield from _table(
        *("fm_bell", instruments.fm_bell, "frequency seconds ratio index"),
        ("tubular_g3", -6.0, _hertz("g3"), 1.8, 3.53, 3.0),
        ("church_a3", -3.0, _hertz("a3"), 2.2, 1.40, 7.0),
        ("gong_c4", -8.0, _hertz("c4"), 1.7, 1.73, 5.0),
        ("church_e4", -5.0, _hertz("e4"), 1.6, 1.40, 5.0),
        ("hand_a4", -7.0, _hertz("a4"), 1.2, 2.76, 3.5),
        ("hand_d5", -11.0, _hertz("d5"), 0.9, 2.76, 3.0),
    )
    yield from _table(
        *("noise_sweep", instruments.noise_sweep, "seconds centres resonance peak"),
        ("riser_long", -5.0, 1.8, (250.0, 900.0, 7000.0), 5.0, 0.92),
        ("riser_short", -8.0, 0.9, (500.0, 9000.0), 3.0, 0.88),
        ("faller", -6.0, 1.4, (8000.0, 1500.0, 180.0), 4.0, 0.06),
        ("whoosh_slow", -9.0, 1.3, (400.0, 3000.0, 500.0), 3.0, 0.5),
        ("whoosh_fast", -4.0, 0.6, (800.0, 6000.0, 1000.0), 2.0, 0.4),
    )
    yield from _table(
        *("chord", instruments.chord, "frequencies seconds brightness attack"),
        ("a_minor", -6.0, _chord("a2 e3 a3 c4"), 2.0, 0.5, 0.15),
        ("f_major", -9.0, _chord("f3 a3 c4 f4"), 1.7, 0.3, 0.25),
        ("c_major", -4.0, _chord("c3 g3 c4 e4"), 1.6, 0.7, 0.08),
        ("g_seventh", -7.0, _chord("g2 d3 f3 b3"), 1.8, 0.6, 0.12),
        ("d_suspended", -12.0, _chord("d3 g3 a3 d4"), 1.8, 0.2, 0.30),
        ("e_minor_seventh", -5.0, _chord("e3 b3 d4 g4"), 1.5, 0.8, 0.05),
    )


def _drums() -> Iterator[_Recipe]:
    yield from _table(
        *("drum", instruments.kick, "frequency seconds sweep click"),
        ("kick_deep", -1.0, _hertz("e1"), 0.6, 5.0, 0.2),
        ("kick_tight", -1.5, _hertz("a1"), 0.3, 4.0, 0.5),
    )
    yield from _table(
        *("drum", instruments.snare, "frequency seconds wires"),
        ("snare_tight", -2.0, _hertz("g3"), 0.25, 0.5),
        ("snare_loose", -4.0, _hertz("g3"), 0.5, 0.9),
    )
    yield from _table(
        *("drum", instruments.tom, "frequency seconds"),
        ("tom_low", -3.0, _hertz("a2"), 0.8),
        ("tom_mid", -5.0, _hertz("d3"), 0.6),
        ("tom_high", -7.0, _hertz("g3"), 0.45),
    )
    yield from _table(
        *("drum", instruments.hat, "seconds cutoff"),
        ("hat_closed", -12.0, 0.15, 8000.0),
        ("hat_pedal", -14.0, 0.22, 6000.0),
        ("hat_open", -10.0, 0.9, 7000.0),
    )
    yield from _table("drum", instruments.clap, "seconds frequency", ("clap", -4.0, 0.35, 1100.0))


def _table(family: str, play: Callable[..., Samples], settings: str, *rows: tuple[Any, ...]) -> Iterator[_Recipe]:
    """Recipes of an instrument. A row is a name, the peak in dBFS, and the values of `settings`."""
    for name, peak_dbfs, *values in rows:
        yield _Recipe(f"{family}/{name}", peak_dbfs, partial(play, **dict(zip(settings.split(), values, strict=True))))


def _chord(notes: str) -> list[float]:
    return [_hertz(note) for note in notes.split()]
