"""Demo corpus: a few dozen short synthesised recordings that sound like one musician's kit.

Pitches are natural notes only, so everything is in A minor by construction.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray
from scipy import signal

from distill.audio.write import audio_file
from distill.demo.instruments import (
    DEMO_SAMPLE_RATE,
    Samples,
    blown_pipe,
    chord,
    clap,
    fm_bell,
    glide,
    hat,
    kick,
    noise_sweep,
    plucked_string,
    snare,
    struck_bar,
    tom,
)
from distill.errors import AudioError
from distill.storage.files import holds, write_new

MARIMBA = (1.0, 4.0, 9.8)  # undercut so that the second mode is two octaves up
_VIBRAPHONE = (1.0, 4.0, 10.0, 16.5)
# A uniform bar with free ends (Fletcher and Rossing, The Physics of Musical Instruments, ch. 2).
_GLOCKENSPIEL = (1.0, 2.756, 5.404, 8.933)


class DemoRecording(NamedTuple):
    """Recording of the demo corpus: its path within it, `family/recording.flac`, and samples `[N]` in [-1, 1]."""

    name: str
    samples: NDArray[np.float32]
    sample_rate: int = DEMO_SAMPLE_RATE


def demo_recordings(seed: int = 0) -> Iterator[DemoRecording]:
    """Synthesise the demo corpus, in a fixed order. The same `seed`, an integer from 0, gives the same samples.

    Each recording has a generator of its own, seeded by (`seed`, name): adding one leaves the others unchanged.
    """
    for recording, peak_dbfs, play, *settings in _RECIPES:
        name = f"{recording}.flac"
        entropy = int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "big")
        rng = Generator(PCG64(SeedSequence([seed, entropy])))
        yield DemoRecording(name, _master(play(rng, *settings), peak_dbfs))


def write_demo(folder: Path, seed: int = 0) -> list[Path]:
    """Write the demo corpus below `folder` as 16-bit mono FLAC and return the files' paths, in corpus order.

    Equal files may be there. Raises AudioError where `folder` has another file of one of the names.
    """
    made = {folder / recording.name: recording.samples for recording in demo_recordings(seed)}
    files = {path: _flac(path, samples) for path, samples in made.items()}
    for path, data in files.items():
        if os.path.lexists(path) and not holds(path, data):
            raise _another(path)  # before the first is written
    for path, data in files.items():
        _write(path, data)
    return list(files)


def write_recording(path: Path, samples: NDArray[np.float32]) -> None:
    """Write samples at `DEMO_SAMPLE_RATE` as 16-bit mono FLAC, atomically. Raises AudioError where another file is."""
    _write(path, _flac(path, samples))


def _write(path: Path, data: bytes) -> None:
    if not write_new(path, data):
        raise _another(path)


def _flac(path: Path, samples: NDArray[np.float32]) -> bytes:
    return audio_file(path, samples, DEMO_SAMPLE_RATE, "flac", comment="")


def _another(path: Path) -> AudioError:
    return AudioError(
        f"{path}: expected no file, or this recording, found another; name another folder"
    )


def _master(samples: Samples, peak_dbfs: float) -> NDArray[np.float32]:
    """Remove DC, fade both ends to zero and set the peak."""
    block = signal.butter(1, 12.0, "highpass", fs=DEMO_SAMPLE_RATE, output="sos")
    clean: Samples = signal.sosfilt(block, samples)
    for seconds, part in ((0.0005, clean), (0.03, clean[::-1])):
        ramp = np.linspace(0, np.pi, round(seconds * DEMO_SAMPLE_RATE))
        part[: ramp.size] *= 0.5 - 0.5 * np.cos(ramp)
    return np.asarray(clean * (10 ** (peak_dbfs / 20) / np.abs(clean).max()), dtype=np.float32)


def _hertz(note: str) -> float:
    """Equal-tempered frequency of a natural note such as `a4` (440 Hz)."""
    semitones = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}[note[0]]
    return 440.0 * float(2.0 ** (int(note[1:]) - 4 + (semitones - 9) / 12))


def _chord(notes: str) -> list[float]:
    return [_hertz(note) for note in notes.split()]


# Name, peak in dBFS, instrument and its settings in the order of its arguments.
_RECIPES: tuple[tuple[Any, ...], ...] = (
    ("plucked_string/a2_soft", -9.0, plucked_string, _hertz("a2"), 1.8, 0.25, 0.31),
    ("plucked_string/a2_hard", -2.0, plucked_string, _hertz("a2"), 1.5, 0.90, 0.12),
    ("plucked_string/c3_soft", -8.0, plucked_string, _hertz("c3"), 1.5, 0.40, 0.27),
    ("plucked_string/d3_muted", -7.0, plucked_string, _hertz("d3"), 0.35, 0.30, 0.20),
    ("plucked_string/e3_hard", -3.0, plucked_string, _hertz("e3"), 1.3, 0.80, 0.15),
    ("plucked_string/g3_soft", -10.0, plucked_string, _hertz("g3"), 1.2, 0.45, 0.24),
    ("plucked_string/a3_bright", -4.0, plucked_string, _hertz("a3"), 1.1, 1.00, 0.09),
    ("plucked_string/c4_soft", -11.0, plucked_string, _hertz("c4"), 1.0, 0.35, 0.29),
    ("plucked_string/e4_hard", -5.0, plucked_string, _hertz("e4"), 0.9, 0.75, 0.17),
    ("plucked_string/a4_muted", -8.0, plucked_string, _hertz("a4"), 0.3, 0.55, 0.22),
    ("struck_bar/marimba_a2", -6.0, struck_bar, _hertz("a2"), 0.90, MARIMBA, 0.15, 0.0),
    ("struck_bar/marimba_e3", -5.0, struck_bar, _hertz("e3"), 0.70, MARIMBA, 0.40, 0.0),
    ("struck_bar/marimba_c4", -3.0, struck_bar, _hertz("c4"), 0.50, MARIMBA, 0.70, 0.0),
    ("struck_bar/marimba_g4", -9.0, struck_bar, _hertz("g4"), 0.40, MARIMBA, 0.30, 0.0),
    ("struck_bar/vibraphone_a3", -7.0, struck_bar, _hertz("a3"), 1.80, _VIBRAPHONE, 0.30, 0.6),
    ("struck_bar/vibraphone_d4", -5.0, struck_bar, _hertz("d4"), 1.50, _VIBRAPHONE, 0.60, 0.5),
    ("struck_bar/glockenspiel_a5", -6.0, struck_bar, _hertz("a5"), 1.20, _GLOCKENSPIEL, 0.80, 0.0),
    ("struck_bar/glockenspiel_e6", -8.0, struck_bar, _hertz("e6"), 0.90, _GLOCKENSPIEL, 0.95, 0.0),
    ("drum/kick_deep", -1.0, kick, _hertz("e1"), 0.6, 5.0, 0.2),
    ("drum/kick_tight", -1.5, kick, _hertz("a1"), 0.3, 4.0, 0.5),
    ("drum/snare_loose", -4.0, snare, _hertz("g3"), 0.5, 0.9),
    ("drum/tom_low", -3.0, tom, _hertz("a2"), 0.8),
    ("drum/tom_mid", -5.0, tom, _hertz("d3"), 0.6),
    ("drum/tom_high", -7.0, tom, _hertz("g3"), 0.45),
    ("drum/hat_closed", -12.0, hat, 0.15, 8000.0),
    ("drum/hat_open", -10.0, hat, 0.9, 7000.0),
    ("drum/clap", -4.0, clap, 0.35, 1100.0),
    ("fm_bell/tubular_g3", -6.0, fm_bell, _hertz("g3"), 1.8, 3.53, 3.0),
    ("fm_bell/church_a3", -3.0, fm_bell, _hertz("a3"), 2.2, 1.40, 7.0),
    ("fm_bell/gong_c4", -8.0, fm_bell, _hertz("c4"), 1.7, 1.73, 5.0),
    ("fm_bell/church_e4", -5.0, fm_bell, _hertz("e4"), 1.6, 1.40, 5.0),
    ("fm_bell/hand_a4", -7.0, fm_bell, _hertz("a4"), 1.2, 2.76, 3.5),
    ("fm_bell/hand_d5", -11.0, fm_bell, _hertz("d5"), 0.9, 2.76, 3.0),
    ("noise_sweep/riser_long", -5.0, noise_sweep, 1.8, (250.0, 900.0, 7000.0), 5.0, 0.92),
    ("noise_sweep/faller", -6.0, noise_sweep, 1.4, (8000.0, 1500.0, 180.0), 4.0, 0.06),
    ("noise_sweep/whoosh_slow", -9.0, noise_sweep, 1.3, (400.0, 3000.0, 500.0), 3.0, 0.5),
    ("noise_sweep/whoosh_fast", -4.0, noise_sweep, 0.6, (800.0, 6000.0, 1000.0), 2.0, 0.4),
    ("chord/a_minor", -6.0, chord, _chord("a2 e3 a3 c4"), 2.0, 0.5, 0.15),
    ("chord/f_major", -9.0, chord, _chord("f3 a3 c4 f4"), 1.7, 0.3, 0.25),
    ("chord/c_major", -4.0, chord, _chord("c3 g3 c4 e4"), 1.6, 0.7, 0.08),
    ("chord/g_seventh", -7.0, chord, _chord("g2 d3 f3 b3"), 1.8, 0.6, 0.12),
    ("chord/d_suspended", -12.0, chord, _chord("d3 g3 a3 d4"), 1.8, 0.2, 0.30),
    ("chord/e_minor_seventh", -5.0, chord, _chord("e3 b3 d4 g4"), 1.5, 0.8, 0.05),
    ("blown_pipe/d4_airy", -9.0, blown_pipe, _hertz("d4"), 1.6, 0.50, 0.40),
    ("blown_pipe/g4_soft", -8.0, blown_pipe, _hertz("g4"), 1.4, 0.15, 0.20),
    ("blown_pipe/c5_bright", -5.0, blown_pipe, _hertz("c5"), 1.1, 0.12, 0.90),
    ("glide/lead_a3_e4", -5.0, glide, _chord("a3 e4"), 1.4, 0.7, 1.5),
    ("glide/siren_a4", -8.0, glide, _chord("a4 d5 a4 d5 a4"), 1.8, 0.2, 0.1),
    ("glide/drop_e5_a2", -4.0, glide, _chord("e5 a2"), 0.6, 0.4, 0.1),
)
