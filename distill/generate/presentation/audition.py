"""Audition page: generated sounds next to their nearest training recordings, in one HTML file without a server."""

import time
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from distill.audio.augment import waveform
from distill.audio.corpus import Corpus, ManifestRow
from distill.audio.partial_noise import own_partial_noise, own_partial_noise_line
from distill.audio.plots import write_codes, write_spectrograms
from distill.audio.side_info import SideInfo
from distill.audio.upmix import upmixed
from distill.audio.write import write_audio
from distill.codec.layout import level_names
from distill.codec.model import VQVAE
from distill.codec.streaming import decode_each, encode_each
from distill.generate.context import GenerationContext
from distill.generate.decoding import NEAREST_SECONDS, folded
from distill.generate.requests.generation import (
    GenerationRequest,
    Seeds,
    by_label,
    frames_for_seconds,
    generate_sounds,
)
from distill.generate.sampling.processors import Sampling
from distill.generate.selection.choice import DRAFTS
from distill.generate.selection.faults import FaultReport
from distill.generate.selection.rejection import GeneratedSound
from distill.novelty.reference import Reference, evenly
from distill.novelty.report import report_on
from distill.novelty.scores import MAX_DECODED
from distill.novelty.verdict import Novelty
from distill.params import AuditionConfig
from distill.seeds import Stream, derive_seed
from distill.storage.files import write_bytes, write_json

# Metrics that compare runs; `report.json` has all.
COMPARED = (
    *(
        "new",
        "close",
        "copies",
        "mean_agreement",
        "mean_percentile_codes",
        "mean_percentile_spectra",
    ),
    *("tonal_rate", "tonal_rate_originals", "fault_rate", "fault_rate_held_out"),
    *(
        "damping",
        "damping_held_out",
        "pitch_range",
        "pitch_range_held_out",
        "pulse",
        "pulse_held_out",
    ),
    *("flatness", "flatness_held_out"),
)


def audition(
    context: GenerationContext,
    corpus: Corpus,
    params: AuditionConfig,
    seed: int,
    output: Path,
) -> tuple[dict[str, float], float]:
    """Generate sounds, compare them with the recordings, and write sounds, pictures, page and report into `output`.

    The context needs a reference, and the corpus the audio of the nearest recordings. Sounds are divided evenly among
    labels. Returns the metrics in COMPARED, and the generation speed in seconds of sound per second. Raises
    ArtifactError if a network gives NaN or infinite values.
    """
    codec, reference = context.codec, context.reference
    scorer, finder = context.scorer, context.finder  # built before timing starts
    assert reference is not None
    assert scorer is not None
    assert finder is not None
    began = time.monotonic()
    sounds = _generated(context, params, seed)
    generation_seconds = time.monotonic() - began
    codes = [sound.codes for _, sound in sounds]
    novelty = [sound.novelty for _, sound in sounds if sound.novelty is not None]
    lengths = [sound.seconds for _, sound in sounds]
    longest = round(min(params.max_seconds, NEAREST_SECONDS) * corpus.sample_rate)
    recorded = [*_held_out(codec, reference, corpus, longest)]
    most_frames = frames_for_seconds(codec, params.max_seconds)
    report = report_on(
        scorer, codes, lengths, novelty, seed, most_frames, [samples for samples, _ in recorded]
    )
    heard = [folded(sound.samples, corpus.sample_rate) for _, sound in sounds]
    noise = _partial_noise(codec, heard, recorded, corpus)
    faults = FaultReport([sound.faults or () for _, sound in sounds], finder.held_out())
    rows = [*_rows(output, sounds, novelty, faults, corpus)]
    critic = {} if context.critic is None else {"critic/auc": context.critic.auc}
    figures = {
        **report.json(),
        **noise,
        **critic,
        "faults": faults.json(),
        "seed": seed,
        "generated": rows,
    }
    write_json(output / "report.json", figures)
    lines = [
        *report.lines,
        own_partial_noise_line(noise),
        *faults.lines,
        context.critic.line if context.critic else "",
    ]
    write_page(output / "index.html", [*filter(None, lines)], rows)
    metrics = {**report.metrics(), **faults.metrics()}
    return {
        **{name: metrics[name] for name in COMPARED if name in metrics},
        **noise,
        **critic,
    }, report.seconds / generation_seconds


def _rows(
    output: Path,
    sounds: Sequence[tuple[str, GeneratedSound]],
    novelty: Sequence[Novelty],
    faults: FaultReport,
    corpus: Corpus,
) -> Iterator[dict[str, Any]]:
    """Write each sound with its pictures, and yield its row of the report."""
    entries = {entry.path: entry for entry in corpus.entries}
    for number, ((label, sound), new, faulty) in enumerate(
        zip(sounds, novelty, faults.sounds, strict=True)
    ):
        entry, offset = entries[new.nearest.nearest], new.nearest.offset_seconds
        yield {
            **_write_sound(output, number, sound, corpus, entry, offset),
            "label": label,
            "short": new.short,
            "explanation": new.explanation,
            **new.json(),
            "faults": list(faulty),
            **(sound.likeness.json if sound.likeness else {}),
        }


def _generated(
    context: GenerationContext, params: AuditionConfig, seed: int
) -> list[tuple[str, GeneratedSound]]:
    """Generated sounds with the names of their labels, divided evenly among labels."""
    sounds: list[tuple[str, GeneratedSound]] = []
    for place, (label, count) in enumerate(by_label(params.count, len(context.labels))):
        wanted = GenerationRequest(
            count=count,
            max_seconds=params.max_seconds,
            sampling=Sampling(params.temperature, params.top_k, params.top_p, params.guidance),
            label=label,
            drafts=DRAFTS,
            finds_faults=True,
        )
        own_seed = (
            derive_seed(seed, Stream.AUDITION_LABELS, place) if len(context.labels) > 1 else seed
        )
        name = context.labels[label - 1] if label else ""
        sounds += [
            (name, sound) for sound in generate_sounds(context, wanted, Seeds(own_seed)).sounds
        ]
    return sounds


def _held_out(
    codec: VQVAE, reference: Reference, corpus: Corpus, longest: int
) -> Iterator[tuple[NDArray[np.float32], SideInfo]]:
    """Samples `[N]` and mono side information of evenly spaced held-out recordings.

    The part of a long recording that the reference leaves out is held out, too.
    """
    step, rate = codec.spectrogram.samples_per_frame, corpus.sample_rate
    trained = {
        name: step * len(codes)
        for name, codes in zip(reference.names, reference.codes, strict=True)
    }
    begins = [(entry, trained.get(entry.path, 0)) for entry in corpus.entries]
    for entry, start in evenly(
        [(entry, start) for entry, start in begins if start < entry.samples], MAX_DECODED
    ):
        samples = waveform(corpus, entry, start, min(entry.samples - start, longest)).numpy()
        yield samples, corpus.side_info(entry).cut(start / rate, len(samples) / rate).in_mono


def _partial_noise(
    codec: VQVAE,
    generated: Sequence[NDArray[np.float32]],
    recorded: Sequence[tuple[NDArray[np.float32], SideInfo]],
    corpus: Corpus,
) -> dict[str, float]:
    """Metrics of noise between partials of generated sounds `[N]`, of recordings, and of re-encoded recordings."""
    originals = [samples for samples, _ in recorded]
    codes = encode_each(codec, map(torch.from_numpy, originals))
    made = decode_each(codec, codes, (about for _, about in recorded))
    decoded = [sound[: len(one)].cpu().numpy() for sound, one in zip(made, originals, strict=True)]
    sounds = {"generated": generated, "decoded": decoded, "recorded": originals}
    own = {name: [corpus.gain * one for one in each] for name, each in sounds.items()}
    return own_partial_noise(own, corpus.sample_rate)


def _write_sound(
    output: Path,
    number: int,
    sound: GeneratedSound,
    corpus: Corpus,
    entry: ManifestRow,
    offset_seconds: float,
) -> dict[str, Any]:
    """Write a sound, its pictures and its nearest recording, cut to the aligned part if long; return card fields."""
    rate, name = corpus.sample_rate, f"sound_{number:03d}"
    most = int(NEAREST_SECONDS * rate)
    start = max(0, round(offset_seconds * rate)) if entry.samples > most else 0
    recording = waveform(corpus, entry, start, min(entry.samples - start, most)).numpy()
    side_info = corpus.side_info(entry).cut(start / rate, len(recording) / rate)
    if side_info.is_stereo:
        recording = upmixed(
            recording, recording, side_info.image, rate
        )  # a corpus holds the downmix
    write_audio(output / f"{name}.wav", sound.samples, rate)
    write_audio(output / f"{name}_nearest.wav", recording, rate)
    pictures = [
        (f"generated {number}", sound.samples),
        (f"nearest training recording: {entry.path}", recording),
    ]
    write_spectrograms(output / f"{name}.png", pictures, rate)
    write_codes(output / f"{name}_codes.png", sound.codes, level_names(sound.codes.shape[1]))
    return {
        "file": f"{name}.wav",
        "nearest_file": f"{name}_nearest.wav",
        "picture": f"{name}.png",
        "codes_picture": f"{name}_codes.png",
        "seconds": len(sound.samples) / rate,
        "nearest_recording": entry.recording_id,
        "nearest_path": entry.path,
    }


def write_page(path: Path, lines: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the page with summary `lines`, and a card for each of the rows of `report.json`."""
    names = ("audition.html", "audition_card.html")
    page, card = (
        files("distill.generate.presentation").joinpath(name).read_text(encoding="utf-8")
        for name in names
    )
    cards = []
    for number, row in enumerate(rows):
        label = f", {row['label']}" * bool(row["label"])
        spaces = {
            space: {**row[space], "newer": 1 - row[space]["percentile"]}
            for space in ("codes", "spectra")
        }
        faults = f"Faulty: {', '.join(row['faults'])}" if row["faults"] else None
        judged = ". ".join(filter(None, [row["short"], faults, row.get("like_recordings")]))
        cards.append(
            card.format(
                number=number, **_escaped({**row, **spaces, "label": label, "judged": judged})
            )
        )
    summary = "\n".join(f"<p>{escape(line.strip())}</p>" for line in lines)
    text = Template(page).substitute(summary=summary, sounds="\n".join(cards))
    write_bytes(path, text.encode("utf-8"))


def _escaped(value: Any) -> Any:
    """Copy of a JSON value with its strings escaped for HTML."""
    if isinstance(value, dict):
        return {name: _escaped(inner) for name, inner in value.items()}
    return escape(value) if isinstance(value, str) else value
