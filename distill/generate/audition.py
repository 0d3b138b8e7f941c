"""The audition page: generated sounds beside their nearest training recordings, in one HTML file without a server."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from distill.audio.augment import waveform
from distill.audio.corpus import Corpus, ManifestRow
from distill.audio.plots import write_codes, write_spectrograms
from distill.audio.write import write_audio
from distill.codec.model import VQVAE
from distill.generate.faults import FaultFinder, FaultReport
from distill.generate.sampling import Sampling
from distill.generate.sounds import GenerationRequest, Sound, frames_for_seconds, generate_sounds
from distill.novelty.reference import Reference
from distill.novelty.report import Comparison, SetReport
from distill.novelty.verdict import Novelty, explain
from distill.params import AuditionConfig
from distill.prior.base import Prior
from distill.seeds import Stream, derive_seed
from distill.storage.files import write_bytes, write_json

MAX_NEAREST_SECONDS = 8.0

Row = Mapping[str, Any]
Space = Mapping[str, Any]


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
        wanted = GenerationRequest(
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
    entries: dict[str, ManifestRow],
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


def write_page(path: Path, figures: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Write the page for the rows and figures of `report.json`."""
    template = Template(files("distill.generate").joinpath("audition.html").read_text(encoding="utf-8"))
    sounds = "\n".join(_section(number, row) for number, row in enumerate(rows))
    write_bytes(path, template.substitute(summary=_summary(figures), sounds=sounds).encode("utf-8"))


def _section(number: int, row: Row) -> str:
    verdict = escape(str(row["verdict"]))
    label = f", {row['label']}" if row["label"] else ""
    return f"""<section>
<h2>Sound {number}{escape(label)} <span class="badge {verdict}">{verdict}</span></h2>
<p class="verdict">{escape(str(row["explanation"]))}.{_faults(row)}</p>
<div class="players">
<label>the new sound, {row["seconds"]:.2f} s <audio controls preload="none" src="{escape(row["file"])}"></audio></label>
<label>your nearest recording, {escape(str(row["nearest_path"]))} <audio controls preload="none" src="{escape(row["nearest_file"])}"></audio></label>
</div>
<img loading="lazy" src="{escape(row["picture"])}" alt="spectrograms of sound {number} and of the nearest training recording">
<details>
<summary>Figures and codes</summary>
<table>
<thead><tr><th scope="col">term</th><th scope="col">in codes</th><th scope="col">in spectra</th></tr></thead>
{_terms(row)}
</table>
<img loading="lazy" src="{escape(row["codes_picture"])}" alt="codes of sound {number}">
</details>
</section>"""


def _faults(row: Row) -> str:
    return f" Faulty: {escape(', '.join(row['faults']))}." if row["faults"] else ""


def _terms(row: Row) -> str:
    """A body for each term: its two figures, and below them what it means."""
    bodies = []
    for term, in_codes, in_spectra, meaning in TERMS:
        cells = f"<td>{escape(in_codes(row['codes']))}</td><td>{escape(in_spectra(row['spectra']))}</td>"
        bodies.append(
            f'<tbody><tr><th scope="row">{escape(term)}</th>{cells}</tr>'
            f'<tr class="meaning"><td colspan="3">{escape(meaning)}</td></tr></tbody>'
        )
    return "\n".join(bodies)


def _both(key: str, show: Callable[[float], str]) -> tuple[Callable[[Space], str], Callable[[Space], str]]:
    return (lambda space: show(space[key])), (lambda space: show(space[key]))


def _name(space: Space) -> str:
    return str(space["nearest"])


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _share(value: float) -> str:
    return f"{value:.0%}"


TERMS: tuple[tuple[str, Callable[[Space], str], Callable[[Space], str], str], ...] = (
    ("nearest recording", _name, _name, "The training recording that is most like the sound, wherever the two lie."),
    (
        "best alignment",
        lambda space: f"{space['likeness']:.0%} equal",
        lambda space: f"{space['difference_db']:.1f} dB apart",
        "Laid over that recording where they agree most: the share of codes that are the same, and the mean difference "
        "of the spectra.",
    ),
    (
        "longest copied run",
        *_both("copied_seconds", _seconds),
        "The longest stretch without a gap that is as in some training recording.",
    ),
    (
        "edit distance",
        *_both("edit_distance", _share),
        "The share of the sound's frames to replace, leave out or insert until it is a passage of that recording: 0% is "
        "a copy, 100% has nothing in common with it.",
    ),
    (
        "novelty percentile",
        *_both("percentile", _share),
        "The share of held-out recordings, which the model never heard, that are less like a training recording: 50% is "
        "as new as they are, near 100% is suspicious.",
    ),
)


def _summary(figures: Mapping[str, Any]) -> str:
    lines = [
        f"{figures['sounds']:.0f} sounds: {figures['new']:.0f} new, {figures['close']:.0f} close, "
        f"{figures['copies']:.0f} copies of training recordings.",
        f"Mean length {figures['mean_seconds']:.2f} s; held-out recordings, which the model never heard, "
        f"{figures['held_out_mean_seconds']:.2f} s.",
        f"On average {figures['mean_percentile_codes']:.0%} (in codes) and {figures['mean_percentile_spectra']:.0%} (in "
        "spectra) of the held-out recordings are less like a training recording than a sound of these. 50% is as new as "
        "held-out recordings; near 100% the model repeats what it learned.",
        f"{_sentence(str(figures['kernel_distance_in_words']))} The distance is small where the sounds as a set are like "
        "your recordings.",
    ]
    if "diversity" in figures:
        lines.append(
            f"Diversity (Vendi score, the effective number of different sounds) {figures['diversity']:.1f}; as many "
            f"training recordings have {figures['diversity_of_recordings']:.1f}."
        )
    lines += [line.strip() for line in figures["faults"]["in_words"]]
    return "\n".join(f"<p>{escape(line)}</p>" for line in lines)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
