"""The audition page: generated sounds beside their nearest training recordings."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.audio.augment import waveform
from distill.audio.corpus import Corpus, CorpusEntry
from distill.audio.plots import write_codes, write_spectrograms
from distill.audio.write import write_audio
from distill.codec.model import VQVAE
from distill.generate.audition_page import write_page
from distill.generate.faults import FaultFinder, FaultReport
from distill.generate.sampling import Sampling
from distill.generate.sounds import Sound, Wanted, frames_for_seconds, generate_sounds
from distill.novelty.reference import Reference
from distill.novelty.report import Comparison, SetReport
from distill.novelty.verdict import Novelty, explain
from distill.params import AuditionConfig
from distill.prior.base import Prior
from distill.seeds import Stream, derive_seed
from distill.storage.files import write_json

MAX_NEAREST_SECONDS = 8.0


@dataclass(frozen=True)
class Audition:
    """The report of `report.json`, and the seconds that generation took, which are never written to disk."""

    report: SetReport
    faults: FaultReport
    generation_seconds: float

    def metrics(self) -> dict[str, float]:
        """All figures by metric name."""
        return {**self.report.metrics(), **self.faults.metrics()}

    @property
    def times_real_time(self) -> float:
        """Real-time factor: seconds of sound generated in a second."""
        return self.report.seconds / self.generation_seconds


def audition(
    codec: VQVAE,
    prior: Prior | None,
    labels: Sequence[str],
    reference: Reference,
    corpus: Corpus,
    params: AuditionConfig,
    seed: int,
    output: Path,
) -> Audition:
    """Generate sounds, compare them with `reference`, and write sounds, pictures, page and report into `output`.

    The corpus holds the audio of the nearest recordings. With labels, the sounds are divided among them in turn. Raises
    ArtifactError when there is no prior, or when a network gives NaN or infinite values.
    """
    began = time.monotonic()
    labels = labels or [""]
    sounds, label_names = [], []
    for number, label in enumerate(labels[: params.count]):
        wanted = Wanted(
            count=len(range(number, params.count, len(labels))),
            max_seconds=params.max_seconds,
            sampling=Sampling(params.temperature, params.top_k, params.top_p, params.guidance),
            label=number + 1 if label else 0,
        )
        sounds += generate_sounds(
            codec, prior, wanted, seed if len(labels) == 1 else derive_seed(seed, Stream.AUDITION_LABELS, number)
        )
        label_names += [label] * wanted.count
    generation_seconds = time.monotonic() - began
    comparison = Comparison(reference, codec)
    codes = [sound.codes for sound in sounds]
    novelty = comparison.novelty(codes)
    report = comparison.report(codes, novelty, seed, frames_for_seconds(codec, params.max_seconds))
    finder = FaultFinder(reference, codec)
    faults = FaultReport(finder(codes), finder.held_out())
    entries = {entry.path: entry for entry in corpus.entries}
    rows = [
        {**_write_sound(output, number, sound, label, one, corpus, entries), "faults": list(found)}
        for number, (sound, label, one, found) in enumerate(
            zip(sounds, label_names, novelty, faults.sounds, strict=True)
        )
    ]
    figures = {**report.json(), "faults": faults.json()}
    write_json(output / "report.json", {**figures, "seed": seed, "generated": rows})
    write_page(output / "index.html", figures, rows)
    return Audition(report, faults, generation_seconds)


def _write_sound(
    output: Path,
    number: int,
    sound: Sound,
    label: str,
    novelty: Novelty,
    corpus: Corpus,
    entries: dict[str, CorpusEntry],
) -> dict[str, Any]:
    rate, name = corpus.sample_rate, f"sound_{number:03d}"
    nearest = novelty.nearest
    entry = entries[nearest.nearest]
    # Of a long recording, the part that the sound was aligned with.
    is_long = entry.samples > MAX_NEAREST_SECONDS * rate
    start = max(0, round(nearest.offset_seconds * rate)) if is_long else 0
    recording = waveform(corpus, entry, start, min(entry.samples - start, int(MAX_NEAREST_SECONDS * rate))).numpy()
    write_audio(output / f"{name}.wav", sound.samples, rate)
    write_audio(output / f"{name}_nearest.wav", recording, rate)
    pictures = [(f"generated {number}", sound.samples), (f"nearest training recording: {entry.path}", recording)]
    write_spectrograms(output / f"{name}.png", pictures, rate)
    write_codes(output / f"{name}_codes.png", sound.codes)
    return {
        "file": f"{name}.wav",
        "label": label,
        "nearest_file": f"{name}_nearest.wav",
        "picture": f"{name}.png",
        "codes_picture": f"{name}_codes.png",
        "seconds": len(sound.samples) / rate,
        "nearest_recording": entry.recording_id,
        "nearest_path": entry.path,
        "explanation": explain(novelty),
        **novelty.json(),
    }
