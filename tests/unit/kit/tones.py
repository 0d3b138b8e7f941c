"""Synthesised tones, and an instrument that is made of them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from unit.tiny import SPECTROGRAM, tiny_codec

from distill.generate.sounds import Sound
from distill.kit import make
from distill.kit.kit import MISTUNED, Kit, KitSettings
from distill.kit.make import KitSource, make_kit


def tone(
    key: float,
    seconds: float,
    sample_rate: int,
    decay: float = 0.0,
    vibrato: float = 0.0,
    noise: float = 0.0,
    glide: float = 0.0,
) -> NDArray[np.float32]:
    """Partials of a MIDI key, which may be a fraction, with a soft start.

    `decay` is in nepers a second, `vibrato` and `glide`, over the whole, in semitones; `noise` is relative to the peak.
    """
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    pitch = key + vibrato * np.sin(2 * np.pi * 5 * time) + glide * time / seconds
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    phase = np.cumsum(frequency) / sample_rate
    partials = range(1, 1 + int(min(24, 0.45 * sample_rate / frequency.max())))
    sound = sum(np.sin(2 * np.pi * (k * phase + 0.618 * k * k)) / k for k in partials)
    sound = sound / np.abs(sound).max() * np.exp(-decay * time) * np.minimum(1, time / 0.01)
    sound += noise * np.random.default_rng(0).standard_normal(len(time))
    return (0.4 * sound).astype(np.float32)


def make_instrument(
    monkeypatch: pytest.MonkeyPatch, out: Path, notes: list[int], off: list[float], **tones: Any
) -> Kit:
    """An instrument of tones in place of sounds that a prior draws, a note `off` by so many semitones; none for NaN."""
    rate = SPECTROGRAM.sample_rate

    def draw(_: KitSource, settings: KitSettings, *__: Any) -> tuple[list[Sound], dict[float | None, Counter[str]]]:
        gains = np.linspace(1, 0.5, settings.per_label, dtype=np.float32)
        sounds = [
            Sound(
                np.zeros((1, 3), np.int64),
                None,
                None,
                gain * tone(note + by, settings.seconds, rate, **tones),
                0.0,
                note,
                note + by,
            )
            for note, by in zip(notes, off, strict=True)
            for gain in gains
            if not np.isnan(by)
        ]
        return sounds, {
            note: Counter({MISTUNED: 20} if np.isnan(by) else {}) for note, by in zip(notes, off, strict=True)
        }

    monkeypatch.setattr(make, "draw_sounds", draw)
    given = {"per_label": 1, "velocity_layers": 1, "seconds": 1.5, "seed": 0, "temperature": 1.0, "guidance": 1.0}
    settings = KitSettings.model_validate(
        {**given, "allow_copies": False, "by_label": False, "formats": ["sfz", "dspreset"], "notes": notes}
    )
    return make_kit(out, KitSource(tiny_codec(), None, None, None, "flute.distill", "", []), settings, [], {})
