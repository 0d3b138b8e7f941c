"""Synthesised tones, and an instrument that is made of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from distill.codec.layout import TUNINGS
from distill.codec.model import VQVAE
from distill.codec.tones.meter import PitchMeter
from distill.codes.store import Codes
from distill.generate.context import GenerationContext
from distill.generate.requests.generation import GenerationRequest, Seeds
from distill.generate.selection.rejection import (
    DraftKey,
    Drafts,
    GeneratedSound,
    RejectionCriterion,
    generate_until_accepted,
)
from distill.kit import generate as kit_generate
from distill.kit import instrument
from distill.kit.kit import Kit
from distill.kit.make import make_kit
from distill.kit.settings import KitSettings
from distill.notes import CONCERT
from unit.tiny import tiny_codec


def tone(
    key: float,
    seconds: float,
    sample_rate: int,
    decay: float = 0.0,
    vibrato: float = 0.0,
    noise: float = 0.0,
    glide: float = 0.0,
    partials: int = 24,
) -> NDArray[np.float32]:
    """Partials of a MIDI key, which may be a fraction, with a soft start.

    `decay` is in nepers a second, `vibrato` and `glide`, over the whole, in semitones; `noise` is relative to the peak.
    """
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    pitch = key + vibrato * np.sin(2 * np.pi * 5 * time) + glide * time / seconds
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    phase = np.cumsum(frequency) / sample_rate
    heard = range(1, 1 + int(min(partials, 0.45 * sample_rate / frequency.max())))
    sound = sum(np.sin(2 * np.pi * (k * phase + 0.618 * k * k)) / k for k in heard)
    sound = sound / np.abs(sound).max() * np.exp(-decay * time) * np.minimum(1, time / 0.01)
    sound += noise * np.random.default_rng(0).standard_normal(len(time))
    return (0.4 * sound).astype(np.float32)


def make_instrument(
    monkeypatch: pytest.MonkeyPatch,
    out: Path,
    off: dict[int, float],
    reach: int = 127,
    undrawn: tuple[int, ...] = (),
    **tones: Any,
) -> Kit:
    """An instrument of tones in place of what a prior draws and a codec decodes: at notes, `off` by so many semitones.

    A sound that is transposed by more than `reach` semitones is noise. What is drawn at the notes `undrawn` has no pitch.
    """
    codec = tiny_codec()
    layer, rate = codec.tone, codec.spectrogram.sample_rate

    def generate(
        _: GenerationContext,
        request: GenerationRequest,
        __: Seeds,
        criteria: Sequence[RejectionCriterion],
        ___: Callable[..., None],
    ) -> Drafts:
        (note,) = map(int, request.notes)
        pitch, samples = None if note in undrawn else note, tone(note, 1.5, rate)

        def draw(drafts: Sequence[DraftKey]) -> list[GeneratedSound]:
            codes = [np.array([[draft.number, note, TUNINGS // 2, 1, note, 0]]) for draft in drafts]
            return [GeneratedSound(own, None, None, samples, 1.5, note, pitch) for own in codes]

        return generate_until_accepted(range(request.count), draw, lambda sound: sound, criteria)

    def decode(_: VQVAE, sounds: list[Codes], *__: object) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        made = []
        for codes in sounds:
            pitch, drawn_at = float(codec.pitches(torch.from_numpy(codes))[0]), codes[0, 4]
            noise = {"noise": 9.0} if abs(pitch - drawn_at) > reach else {}
            made.append((tone(pitch + off[round(pitch)], 1.5, rate, **{**tones, **noise}),) * 2)
        return made

    monkeypatch.setattr(kit_generate, "generate_sounds", generate)
    monkeypatch.setattr(instrument, "decoded_sounds", decode)
    context = GenerationContext(codec, None, path=Path("flute.distill"))
    measure = PitchMeter(codec.spectrogram)
    vars(context)["tuner"] = SimpleNamespace(
        layer=layer, measure=measure, check=lambda *_: None, tuning=lambda _: CONCERT
    )
    return make_kit(context, KitSettings(out=out, per_label=1, seed=0, notes=[*off], every=1))
