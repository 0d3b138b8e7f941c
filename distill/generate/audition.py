"""What a trained model sounds like, on a page: new sounds beside the training recordings nearest to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.audio.corpus import Corpus
from distill.audio.pictures import write_spectrograms
from distill.audio.writing import write_audio
from distill.bundle import Bundle
from distill.codes.matching import AlignmentIndex
from distill.codes.store import Codes
from distill.encoding import waveform
from distill.files import write_json
from distill.generate.distance import KernelDistance, kernel_distance, sound_statistics
from distill.generate.novelty import Calibration, Novelty
from distill.generate.page import write_page
from distill.generate.sampler import Sampling
from distill.generate.synthesis import Sound, decode_sounds, frames_for_seconds, generate_sounds
from distill.params import AuditionParams

MAX_NEAREST_SECONDS = 8.0
MAX_COMPARED = 200  # recordings of each side that distance and calibration look at


@dataclass(frozen=True)
class AuditionReport:
    """What `report.json` says, without the rows of single sounds."""

    sounds: int
    seconds: float
    mean_seconds: float
    held_out_mean_seconds: float
    new: int
    close: int
    copies: int
    mean_agreement: float
    held_out_agreement_95: float
    distance: KernelDistance | None
    generation_seconds: float  # wall time; never written to disk

    def metrics(self) -> dict[str, float]:
        """The figures that compare runs; none depends on the clock."""
        values: dict[str, float] = {
            "sounds": self.sounds,
            "seconds": self.seconds,
            "mean_seconds": self.mean_seconds,
            "held_out_mean_seconds": self.held_out_mean_seconds,
            "new": self.new,
            "close": self.close,
            "copies": self.copies,
            "mean_agreement": self.mean_agreement,
            "held_out_agreement_95": self.held_out_agreement_95,
        }
        if self.distance is not None:
            values |= {
                "kernel_distance": self.distance.value,
                "kernel_distance_null_mean": self.distance.null_mean,
                "kernel_distance_null_deviation": self.distance.null_deviation,
            }
        return values


def audition(
    bundle: Bundle,
    corpus: Corpus,
    training: Mapping[str, Codes],
    held_out: Mapping[str, Codes],
    params: AuditionParams,
    seed: int,
    output: Path,
    clock: Callable[[], float],
) -> AuditionReport:
    """Generate from the bundle alone, compare with the coded recordings, and write sounds, pictures, page and report.

    `training` and `held_out` are codes `[F, Q]` by recording id; the corpus gives the nearest recordings their sound.
    """
    began = clock()
    sampling = Sampling(params.temperature, params.top_k, params.top_p)
    sounds = generate_sounds(bundle, params.count, params.max_seconds, seed, sampling)
    generation_seconds = clock() - began
    longest = frames_for_seconds(bundle.codec, params.max_seconds)
    compared = [codes[:longest] for codes in _some(held_out)]
    index = AlignmentIndex(list(training.items()), longest)
    calibration = Calibration([index.match(codes) for codes in compared])
    novelties = [calibration.judge(index.match(sound.codes)) for sound in sounds]
    report = _report(bundle, sounds, novelties, calibration, training, held_out, longest, seed, generation_seconds)
    rows = [
        _write_sound(output, number, sound, novelty, corpus)
        for number, (sound, novelty) in enumerate(zip(sounds, novelties, strict=True))
    ]
    write_json(output / "report.json", {**report.metrics(), "seed": seed, "generated": rows})
    write_page(output / "index.html", report.metrics(), rows)
    return report


def _write_sound(output: Path, number: int, sound: Sound, novelty: Novelty, corpus: Corpus) -> dict[str, Any]:
    rate, match = corpus.sample_rate, novelty.match
    frame = len(sound.samples) // len(sound.codes)
    entry = next(entry for entry in corpus.entries if entry.recording_id == match.recording_id)
    # Of a long recording, the part that the sound was aligned with.
    start = max(0, match.offset * frame) if entry.samples > MAX_NEAREST_SECONDS * rate else 0
    nearest = waveform(corpus, entry, start, min(entry.samples - start, int(MAX_NEAREST_SECONDS * rate))).numpy()
    name = f"sound_{number:03d}"
    write_audio(output / f"{name}.wav", sound.samples, rate)
    write_audio(output / f"{name}_nearest.wav", nearest, rate)
    pictures = [(f"generated {number}", sound.samples), (f"nearest training recording: {entry.path}", nearest)]
    write_spectrograms(output / f"{name}.png", pictures, rate)
    return {
        "file": f"{name}.wav",
        "nearest_file": f"{name}_nearest.wav",
        "picture": f"{name}.png",
        "seconds": len(sound.samples) / rate,
        "nearest_recording": match.recording_id,
        "nearest_path": entry.path,
        "agreement": match.agreement,
        "copied_seconds": match.copied_frames * frame / rate,
        "percentile": novelty.percentile,
        "verdict": novelty.verdict,
    }


def _report(
    bundle: Bundle,
    sounds: Sequence[Sound],
    novelties: Sequence[Novelty],
    calibration: Calibration,
    training: Mapping[str, Codes],
    held_out: Mapping[str, Codes],
    longest: int,
    seed: int,
    generation_seconds: float,
) -> AuditionReport:
    config = bundle.codec.spectrogram
    verdicts = [novelty.verdict for novelty in novelties]
    seconds = [len(sound.codes) / config.frame_rate for sound in sounds]
    held_out_seconds = [len(codes) / config.frame_rate for codes in held_out.values()]
    generated, real, known = (
        [sound_statistics(samples, config) for samples in side]
        for side in (
            [sound.samples for sound in sounds],
            decode_sounds(bundle.codec, (codes[:longest] for codes in _some(held_out))),
            decode_sounds(bundle.codec, (codes[:longest] for codes in _some(training))),
        )
    )
    return AuditionReport(
        sounds=len(sounds),
        seconds=sum(seconds),
        mean_seconds=sum(seconds) / len(seconds),
        held_out_mean_seconds=sum(held_out_seconds) / len(held_out_seconds),
        new=verdicts.count("new"),
        close=verdicts.count("close"),
        copies=verdicts.count("copy"),
        mean_agreement=sum(novelty.match.agreement for novelty in novelties) / len(novelties),
        held_out_agreement_95=calibration.close_above,
        distance=kernel_distance(generated, real, known, seed),
        generation_seconds=generation_seconds,
    )


def _some(recordings: Mapping[str, Codes]) -> list[Codes]:
    """At most MAX_COMPARED recordings, evenly taken."""
    codes = list(recordings.values())
    stride = -(-len(codes) // MAX_COMPARED)
    return codes[::stride]
