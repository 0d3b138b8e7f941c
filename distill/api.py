"""A model in Python: `distill.load` gives that of a file."""

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from distill import params
from distill.audio.decode import Decoder
from distill.codec.coordinates import codewords_of
from distill.codec.streaming import encode, within_full_scale
from distill.codes.store import Codes, out_of_range
from distill.errors import ArtifactError, ParamsError
from distill.generate.faults import FaultFinder, FaultReport
from distill.generate.results import Generated, Varied, similarities
from distill.generate.sampling import Sampling
from distill.generate.sounds import (
    MISTUNED,
    Checks,
    Draws,
    GenerationRequest,
    Samples,
    decode_sounds,
    frames_for_seconds,
    generate_sounds,
)
from distill.generate.tuner import Tuner
from distill.kit.kit import FORMATS, Kit, KitSettings, read_keys
from distill.kit.make import KitSource, make_kit
from distill.model_file.format import Bundle, BundleMetadata, load_bundle
from distill.notes import Notes, read_notes
from distill.novelty.reference import Reference
from distill.novelty.report import report_on
from distill.novelty.verdict import VERDICTS, Judge, Novelty
from distill.params import Settings, default_values, validated
from distill.prior.base import Prior
from distill.prior.pretrained import pretrained_prior
from distill.progress import Progress
from distill.storage.tables import read_frame
from distill.text import one_line, positions_of

if TYPE_CHECKING:
    import pandas as pd

MAX_NATURAL_SECONDS = 10.0  # of a sound that ends at EOS
NEAREST_SECONDS = 8.0
LEAST_CONTINUED = 0.1  # seconds after a prompt, below which nothing was added
COMPARED_FROM = 2  # sounds from which there is a report on the set


class SoundRequest(Settings):
    """Arguments of `Model.generate` and `Model.vary`, with the ranges of `distill.params`."""

    n: params.Sounds
    seed: params.SamplingSeed | None
    temperature: params.Temperature
    guidance: params.Guidance | None
    seconds: params.Seconds | None = None
    top_k: params.TopK = 0
    top_p: params.TopP = 1.0
    strength: params.Share = 0.0
    transpose: params.Semitones | None = None


class Model:
    """A model file: codec and prior in eval mode on the CPU."""

    untrained = ""  # sentence of a model for which nothing was trained
    default_strength = 0.3  # of `vary`

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read and check a model file. Raises ArtifactError."""
        self.path = Path(path)
        self.bundle: Bundle = load_bundle(self.path)

    @property
    def metadata(self) -> BundleMetadata:
        """Metadata of the model file."""
        return self.bundle.metadata

    @property
    def history(self) -> "pd.DataFrame":
        """Losses of codec and prior: a column for each curve, such as "vqvae/train_loss", and a row for each epoch.

        Of long trainings a file keeps about a thousand points; rows are then these.
        """
        import pandas as pd

        curves = self.metadata.loss_curve_history.items()
        return pd.DataFrame({name: pd.Series(values) for name, values in curves}).rename_axis("epoch")

    @property
    def sample_rate(self) -> int:
        """Sample rate of its sounds, in Hz."""
        return self.bundle.codec.spectrogram.sample_rate

    @property
    def labels(self) -> list[str]:
        """Labels of the prior, which `generate` takes."""
        return self.bundle.labels

    @cached_property
    def prior(self) -> Prior | None:
        """The file's prior. For a codec alone it is the pretrained one, None where that cannot read its codes."""
        codec = self.bundle.codec
        if self.bundle.prior is not None:
            return self.bundle.prior
        return pretrained_prior(codewords_of(codec), codec.architecture.codebook_sizes, codec.spectrogram.frame_rate)

    @property
    def note(self) -> str:
        """Sentence on what sounds are made with, where that is not a prior of the file, or what verdicts miss; else ""."""
        if self.untrained:
            return self.untrained
        trained = self.metadata.prior_metadata
        if trained is not None and trained.memorization.is_of_copies:
            return (
                f"{self.path} learned recordings that are near-duplicates of the held-out ones, which verdicts are measured "
                "by: a copy may be called new"
            )
        if self.bundle.prior is not None or self.prior is None:
            return ""
        return (
            f"{self.path} holds a codec and no prior: sounds are drawn by the pretrained prior, which has not heard its "
            f"recordings; for sounds like them, run `distill train-prior {self.path}`"
        )

    @cached_property
    def judge(self) -> Judge | None:
        """Judge of novelty against the training recordings; None where the file has no reference."""
        return None if self.bundle.reference is None else Judge(self.bundle.reference, self.bundle.codec)

    @cached_property
    def fault_finder(self) -> FaultFinder | None:
        """What finds faults of sounds, by the training recordings; None where the file has no reference."""
        return None if self.bundle.reference is None else FaultFinder(self.bundle.reference, self.bundle.codec)

    @cached_property
    def tuner(self) -> Tuner:
        """What brings sounds to notes. Raises ArtifactError for a model that cannot."""
        if self.prior is None:
            raise self._no_prior()
        return Tuner(self.bundle.codec, self.prior, self._learnt())

    def _learnt(self) -> Mapping[str, NDArray[np.integer]]:
        """Codes `[F, Q]` of the recordings that the model learnt, by path; none where the file has no reference."""
        reference = self.bundle.reference
        return {} if reference is None else dict(zip(reference.names, reference.codes, strict=True))

    def generate(
        self,
        n: int | None = None,
        seconds: float | None = None,
        seed: int | None = None,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        label: str | None = None,
        note: Notes | None = None,
        guidance: float | None = None,
        prompt: str | os.PathLike[str] | NDArray[np.floating] | None = None,
        prompt_rate: int | None = None,
        min_novelty: str | float | None = None,
        reject_faults: bool = False,
        progress: Progress | None = None,
        take: Callable[[int, Samples], None] | None = None,
    ) -> Generated:
        """Generate `n` sounds of `seconds` each; without `seconds` they end at EOS.

        With `note` they are at notes, in turn, by default one at each: a MIDI number (C4 is 60), a name such as "F#2", a
        range such as "C2:C4", or several of these in a sequence or with commas between. What is measured more than 20
        cents from its note, or without a clear pitch, is drawn again, and counted if it stays so.
        Equal seeds give equal sounds; without one the seed is random. `label` is one of `labels`; `guidance` is the
        scale of classifier-free guidance: 1 is none, the default with a label 2.5. `prompt` is a file or samples `[N]`
        at `prompt_rate` Hz, by default the model's rate; sounds continue it, and `seconds` leaves it out. `min_novelty`
        redraws sounds: "close" those that are copies, "new" those that are not new, a number from 0 to 1 those whose
        novelty percentile is above 1 - `min_novelty`. `reject_faults` redraws sounds with a fault, such as one that is
        cut off. `progress` is called with (done, of, text). `take` is called with the index and samples of every sound
        as soon as it is generated, and no samples are kept. Raises ArtifactError when the model lacks what is
        requested, ParamsError for arguments that are out of range.
        """
        notes = self.check_request(label, min_novelty, reject_faults, note)
        n = max(1, len(notes)) if n is None else n
        given = {"n": n, "seed": seed, "temperature": temperature, "guidance": guidance}
        validated(SoundRequest, {**given, "seconds": seconds, "top_k": top_k, "top_p": top_p}, "generate: ")
        request = GenerationRequest(
            count=n,
            max_seconds=MAX_NATURAL_SECONDS if seconds is None else seconds,
            natural_ending=seconds is None,
            sampling=Sampling(temperature, top_k, top_p, guidance_of(label, guidance)),
            label=self.label_number(label),
            prompt=None if prompt is None else self.encode(self.samples(prompt, prompt_rate)),
            notes=notes,
        )
        seed, is_new = seed_or_any(seed), new_enough(0 if min_novelty is None else min_novelty)
        checks = Checks(self.judge, is_new, self.fault_finder, reject_faults, self.tuner if notes else None)
        draws = generate_sounds(self.bundle.codec, self.prior, request, seed, checks, progress, take)
        sounds = list(draws.drawn.values())
        judged = [sound.novelty for sound in sounds if sound.novelty is not None]
        report = fault_report = None
        before = request.prompt_frames / self.bundle.codec.spectrogram.frame_rate
        if self.judge is not None and n >= COMPARED_FROM:
            drawn = [sound.codes[request.prompt_frames :] for sound in sounds]
            report = report_on(self.judge, drawn, [sound.seconds - before for sound in sounds], judged, seed)
        if self.fault_finder is not None:
            found, held_out = [sound.faults or () for sound in sounds], self.fault_finder.held_out(request.kinds)
            fault_report = FaultReport(found, held_out, draws.redrawn["faulty"])
        return Generated(
            **self._made(draws, seed, take is None),
            faults=[sound.faults for sound in sounds],
            redrawn=draws.redrawn["old"],
            not_new=sum(not is_new(novelty) for novelty in judged),
            ended_at_once=sum(
                seconds is None and sound.seconds - before < LEAST_CONTINUED for sound in sounds if before
            ),
            report=report,
            fault_report=fault_report,
        )

    def kit(
        self,
        out: str | os.PathLike[str],
        *,
        per_label: int = 4,
        formats: Sequence[str] = FORMATS,
        seed: int | None = None,
        seconds: float = MAX_NATURAL_SECONDS,
        temperature: float = 1.0,
        velocity_layers: int = 1,
        labels: Sequence[str] = (),
        keys: Mapping[str, int | str] = MappingProxyType({}),
        notes: Notes | None = None,
        every: int | None = None,
        allow_copies: bool = False,
        replace: bool = False,
        progress: Progress | None = None,
    ) -> Kit:
        """Make a sampler's instrument in the folder `out`: `per_label` new sounds for each of `labels`, all by default.

        `keys` gives labels other keys than by their names: MIDI numbers or notes, such as {"oh": "F#4"}. A model
        without labels gives clusters by spectrum. Sounds end at EOS, at the latest after `seconds`. Silent sounds and
        copies are drawn again, copies not with `allow_copies`. `out` is new, empty, or with `replace` a kit. The same
        seed gives the same files. Raises ParamsError and ArtifactError.

        With `notes`, as of `generate`, it is an instrument over all keys, of one label or of a model without labels: it
        has `per_label` sounds at every `every`-th of these, by default at each.
        """
        self.check_request()
        notes = self._own_note() if notes is None else notes
        numbers = dict.fromkeys(map(self.label_number, labels)) or range(1, len(self.labels) + 1)
        given = {
            "per_label": per_label,
            "velocity_layers": velocity_layers,
            "seconds": seconds,
            "seed": seed_or_any(seed),
            "temperature": temperature,
            "guidance": guidance_of(self.labels[0] if numbers else None, None),
            "allow_copies": allow_copies,
            "by_label": bool(numbers),
            "formats": list(formats),
            "notes": None if notes is None else ",".join(map(str, [notes] if isinstance(notes, int | str) else notes)),
            "every": every,
        }
        settings = validated(KitSettings, given, "kit: ")
        chosen = [(number, self.labels[number - 1]) for number in numbers]
        given_keys = read_keys({self.labels[self.label_number(label) - 1]: key for label, key in keys.items()})
        source = self._kit_source(self._instrument_tuner(settings, list(numbers), keys))
        if source.recording_at is not None:
            chosen = [(0, name) for name in source.labels]
        return make_kit(Path(out), source, settings, chosen, given_keys, replace, progress)

    def _own_note(self) -> int | None:
        """The note of a kit for which none were asked for; None for a kit of labels or clusters."""
        return None

    def _kit_source(self, tuner: Tuner | None) -> KitSource:
        """What a kit is made from."""
        judged_by, sha256 = (self.judge, self.fault_finder), self.metadata.payload_sha256
        return KitSource(self.bundle.codec, self.prior, *judged_by, self.path.name, sha256, self.labels, tuner)

    def _instrument_tuner(
        self, settings: KitSettings, numbers: Sequence[int], keys: Mapping[str, int | str]
    ) -> Tuner | None:
        """What brings a kit's sounds to its notes; None without notes. Raises ArtifactError and ParamsError."""
        if settings.notes is None:
            if settings.every is not None:
                raise ParamsError(
                    f"every {settings.every}: expected notes of which to take some, found none; give notes such as C1:C6"
                )
            return None
        notes = settings.sampled
        if len(numbers) > 1:
            known = one_line(", ".join(self.labels[number - 1] for number in numbers), 1000)
            raise ParamsError(f"labels: expected one for an instrument at notes, found {known}; choose one of them")
        if keys:
            raise ParamsError(
                f"keys {one_line(', '.join(keys), 60)}: expected none for an instrument at notes, which has all keys; leave "
                "keys or notes out"
            )
        self.tuner.check(notes, *numbers)
        return self.tuner

    def vary(
        self,
        recording: str | os.PathLike[str] | NDArray[np.floating],
        n: int = 8,
        strength: float | None = None,
        seed: int | None = None,
        *,
        recording_rate: int | None = None,
        transpose: float | None = None,
        note: int | str | None = None,
        temperature: float = 1.0,
        label: str | None = None,
        guidance: float | None = None,
        progress: Progress | None = None,
        take: Callable[[int, Samples], None] | None = None,
    ) -> Varied:
        """Make `n` takes of a recording, a file or samples `[N]` at `recording_rate` Hz, by default the model's rate.

        A take has the recording's length. `strength` says how much of it is drawn again: 0 nothing, which gives the
        decoded recording, 1 all, which gives `generate` with the same length and seed; 0.3 by default, 0.5 of a model of
        one recording, whose codes are more alike. Between, no two takes are the same, unless `equal` of the result says so.
        `transpose` moves its tones by so many semitones, `note` to a note: what is drawn again follows. The other arguments
        are those of `generate`. Raises ArtifactError, AudioError, or ParamsError for arguments that are out of range, and
        for a recording without a pitch.
        """
        self.check_request(label)
        strength = self.default_strength if strength is None else strength
        samples = self.samples(recording, recording_rate)
        seconds = len(samples) / self.sample_rate
        given = {"n": n, "strength": strength, "seed": seed, "temperature": temperature, "guidance": guidance}
        validated(SoundRequest, {**given, "seconds": seconds, "transpose": transpose}, "vary: ")
        recorded, pitch, moves = self.encode(samples), None, transpose is not None or note is not None
        if moves:
            recorded, pitch = self._transposed(recorded, samples, transpose, note)
        request = GenerationRequest(
            count=n,
            max_seconds=seconds,
            natural_ending=False,
            sampling=Sampling(temperature, guidance=guidance_of(label, guidance)),
            label=self.label_number(label),
            recording=recorded,
            strength=strength,
            notes=() if pitch is None else (pitch,),
            follow_tones=moves,
        )
        seed, checks = seed_or_any(seed), Checks(self.judge, tuner=self.tuner if moves else None)
        draws = generate_sounds(self.bundle.codec, self.prior, request, seed, checks, progress, take)
        takes = list(draws.drawn.values())
        codes = [one.codes for one in takes]
        return Varied(
            **self._made(draws, seed, take is None),
            untrained=self.untrained,
            similarity=similarities(self.bundle.codec, self.bundle.reference, recorded, codes),
            strength=strength,
            transposed=moves,
            redrawn=draws.redrawn["equal"],
            equal=list(draws.left.values()).count("equal"),
        )

    def _transposed(
        self, codes: Codes, samples: Samples, semitones: float | None, note: int | str | None
    ) -> tuple[Codes, float | None]:
        """Transposed codes `[F, Q]` of samples `[N]`, and their pitch, None where there is no clear one."""
        wanted = [] if note is None else read_notes(note)
        if wanted and semitones is not None:
            raise ParamsError(f"note {note}: expected one note, or a number of semitones, found both; give one of them")
        if len(wanted) > 1:
            raise ParamsError(
                f"note {note}: expected one note for takes, found {len(wanted)}; give one, or make an instrument of a "
                "recording at several with `distill kit`"
            )
        tuner, given = self.tuner, torch.from_numpy(codes)
        pitch = tuner.measure(samples)
        if wanted and pitch is None:
            raise ParamsError(
                f"note {note}: expected a recording with a clear pitch, found none; transpose it by a number of semitones"
            )
        if not self.bundle.codec.pitches(given).isfinite().any():
            raise ParamsError("transpose: expected a recording with tones, found none; leave transpose out")
        semitones = wanted[0] - (pitch or 0.0) if semitones is None else semitones
        moved: Codes = self.bundle.codec.transposed(given, semitones).numpy()
        return moved, None if pitch is None else pitch + semitones

    def _made(self, draws: Draws, seed: int, with_samples: bool) -> dict[str, Any]:
        """The fields that every result has."""
        sounds = list(draws.drawn.values())
        return {
            "sounds": [sound.samples for sound in sounds if with_samples],
            "seconds": [sound.seconds for sound in sounds],
            "codes": [sound.codes for sound in sounds],
            "novelty": [sound.novelty for sound in sounds],
            "notes": [sound.note for sound in sounds],
            "pitches": [sound.pitch for sound in sounds],
            "redrawn_off_note": draws.redrawn[MISTUNED],
            "off_note": sum(not sound.is_at_note for sound in sounds),
            "sample_rate": self.sample_rate,
            "seed": seed,
        }

    def check_request(
        self,
        label: str | None = None,
        min_novelty: str | float | None = None,
        reject_faults: bool = False,
        note: Notes | None = None,
    ) -> list[int]:
        """Check that the model can `generate` with these arguments; gives the notes. Raises ArtifactError or ParamsError."""
        if self.prior is None:
            raise self._no_prior()
        self.label_number(label)
        if min_novelty is not None:
            new_enough(min_novelty)
        if min_novelty is not None or reject_faults:
            self._reference("; leave min_novelty and reject_faults out")
        notes = [] if note is None else read_notes(note)
        if notes:
            self.tuner.check(notes, self.label_number(label))
        return notes

    def samples(
        self, recording: str | os.PathLike[str] | NDArray[np.floating], sample_rate: int | None = None
    ) -> Samples:
        """Samples `[N]` at the model's rate of a file, or of samples `[N]` at `sample_rate` Hz, by default the model's.

        A remark on a file is an AudioWarning; so is that a sound, louder than the recordings that the model learnt, was
        made softer. Raises AudioError, and ParamsError for samples that are not mono, empty, or hold NaN or infinite
        values.
        """
        if isinstance(recording, str | os.PathLike):
            with Decoder() as decoder:
                read = decoder.recording(Path(recording), self.sample_rate).samples
            return within_full_scale(self.bundle.codec, read, str(recording))
        sound = np.asarray(recording, dtype=np.float32)
        if sound.ndim != 1 or not len(sound) or not np.isfinite(sound).all():
            found = "NaN or infinite values" if sound.ndim == 1 and len(sound) else f"the shape {sound.shape}"
            raise ParamsError(f"samples: expected a mono sound [N] of finite numbers, found {found}")
        if sample_rate is not None and sample_rate != self.sample_rate:
            sound = soxr.resample(sound, sample_rate, self.sample_rate, "HQ")
        return within_full_scale(self.bundle.codec, sound, "samples")

    def encode(self, samples: NDArray[np.floating], sample_rate: int | None = None) -> Codes:
        """Encode samples `[N]` in [-1, 1] at `sample_rate` Hz, by default the model's, to codes `[F, Q]` int64.

        Raises ParamsError as `samples` does.
        """
        sound = self.samples(samples, sample_rate)
        codes: Codes = encode(self.bundle.codec, torch.from_numpy(sound)[None])[0].numpy()
        return codes

    def decode(self, codes: NDArray[np.integer]) -> Samples:
        """Decode codes `[F, Q]` to samples `[N]`, faded at both ends and limited in peak. Raises ParamsError."""
        given, codec = np.asarray(codes), self.bundle.codec.architecture
        if given.ndim != 2 or not len(given) or given.shape[1] != codec.num_quantizers or given.dtype.kind not in "iu":
            found = f"{given.dtype} {list(given.shape)}"
            raise ParamsError(f"codes: expected whole numbers [frames, {codec.num_quantizers}], found {found}")
        if problem := out_of_range(given, codec.codebook_sizes):
            raise ParamsError(f"codes: {problem}")
        return decode_sounds(self.bundle.codec, [given.astype(np.int64)])[0]

    def novelty(self, codes: Sequence[Codes]) -> list[Novelty]:
        """Novelty of sounds, given their codes `[F, Q]`. Raises ArtifactError when the file has no reference."""
        self._reference()
        assert self.judge is not None
        return self.judge(codes)

    def nearest(self, novelty: Novelty) -> Samples:
        """The training recording that a verdict is about, decoded from its codes, to listen to: samples `[N]`.

        Of a long recording, NEAREST_SECONDS from the passage on. Raises ArtifactError when the file has no reference.
        """
        reference = self._reference()
        codes = reference.codes[list(reference.names).index(novelty.nearest.nearest)]
        most = frames_for_seconds(self.bundle.codec, NEAREST_SECONDS)
        offset = round(novelty.nearest.offset_seconds * self.bundle.codec.spectrogram.frame_rate)
        start = max(0, offset) if len(codes) > most else 0
        return decode_sounds(self.bundle.codec, [codes[start : start + most].astype(np.int64)])[0]

    def label_number(self, label: str | None) -> int:
        """Index of a label, from 1 on, 0 for none; the last part of a label is enough where that is unique.

        Accents may be written in any way of Unicode. Case counts where labels differ in it alone. Raises ParamsError
        that lists the labels.
        """
        if label is None:
            return 0
        if not self.labels:
            raise ParamsError(
                f"label {label}: expected a model trained with labels, found one without; train with corpus.labels: folder"
            )
        ends = [name.split("/")[-1] for name in self.labels]
        places = positions_of(label, self.labels, ends)
        if len(places) == 1:
            return places[0] + 1
        none = "none of them (a folder is none if all in it was rejected, held out or a copy)"
        found = "one that fits several" if places else none
        known = one_line(", ".join(self.labels), 1000)
        raise ParamsError(f"label {label}: expected one of {known}; found {found}")

    def _no_prior(self) -> ArtifactError:
        return ArtifactError(
            f"{self.path}: expected a model with a prior, found a codec alone, which encodes and decodes and cannot "
            f"generate; give it one with `distill train-prior {self.path}`"
        )

    def _reference(self, remedy: str = "") -> Reference:
        """The reference. Raises ArtifactError where the file has none."""
        if self.bundle.reference is None:
            raise ArtifactError(
                f"{self.path}: expected a model with the codes of its training recordings, to judge sounds by, found one "
                f"made without (bundle.reference: false){remedy}"
            )
        return self.bundle.reference


def load(path: str | os.PathLike[str]) -> Model:
    """Load a model file on the CPU. Raises ArtifactError, and ParamsError for what is no path."""
    if not isinstance(path, str | os.PathLike):
        raise ParamsError(
            f"load: expected the path of a model file, found {path!r}; name one such as models/demo.distill"
        )
    return Model(path)


def read_table(path: str | os.PathLike[str]) -> "pd.DataFrame":
    """A table of the pipeline (manifest, index, recordings, split, history) as a data frame. Raises ArtifactError."""
    return read_frame(Path(path), "a table that the pipeline wrote")


def seed_or_any(seed: int | None) -> int:
    """The given seed, or a random one."""
    return secrets.randbelow(2**31) if seed is None else seed


def new_enough(least: str | float) -> Callable[[Novelty], bool]:
    """Build the test of a sound's novelty from `least`: "close", "new" or a number from 0 to 1. Raises ParamsError."""
    if least in VERDICTS:
        return lambda novelty: VERDICTS.index(novelty.verdict) >= VERDICTS.index(least)
    try:
        share = float(least)
    except ValueError:
        share = float("nan")
    if not 0 <= share <= 1:
        raise ParamsError(f"min_novelty {least}: expected close, new or a number from 0 to 1, found neither")
    return lambda novelty: 1 - novelty.percentile >= share


def guidance_of(label: str | None, guidance: float | None) -> float:
    """The scale of guidance, by default 1 without a label. Raises ParamsError for one without a label."""
    if guidance is None:
        return 1.0 if label is None else float(default_values()["audition"]["guidance"])
    if guidance != 1 and label is None:
        raise ParamsError(f"guidance {guidance:g}: expected a label to guide towards, found none; name a label")
    return guidance
