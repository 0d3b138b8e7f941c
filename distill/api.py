"""A model in Python: `distill.load` reads that of a file."""

import os
import secrets
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from distill.audio.output import Output
from distill.audio.read import Original
from distill.audio.side_info import UNKNOWN, SideInfo
from distill.codec.coordinates import codewords_of
from distill.codec.streaming import encode
from distill.codes.store import Codes, out_of_range
from distill.errors import ArtifactError, ParamsError
from distill.generate.asked import request_of
from distill.generate.faults import FaultFinder, FaultReport, Samples
from distill.generate.fill import FillRequest
from distill.generate.given import Given, read, read_as_it_is, side_info_taken
from distill.generate.morph import morphs
from distill.generate.policies import Sampling
from distill.generate.refusals import FAULTY, MISTUNED, Draws, Refusal, equal_to, too_old
from distill.generate.requests import (
    LONGEST_SECONDS,
    ExtendSettings,
    FillSettings,
    GenerateSettings,
    KitSettings,
    MorphSettings,
    Recording,
    VarySettings,
    takes,
)
from distill.generate.results import Generated, Morphed, Take, Varied, similarities
from distill.generate.selection.choice import DRAFTS
from distill.generate.sounds import (
    COARSE_FROM,
    NEAREST_SECONDS,
    GenerationRequest,
    Seeds,
    TakeRequest,
    decode_sounds,
    emitted,
    frames_for_seconds,
    in_tune,
    output_of,
)
from distill.generate.source import Recorded, Source
from distill.generate.tuner import Tuner
from distill.kit.kit import Kit
from distill.kit.make import make_kit
from distill.model_file.format import Bundle, BundleMetadata, load_bundle
from distill.notes import CONCERT, read_notes
from distill.novelty.reference import Reference
from distill.novelty.report import report_on
from distill.novelty.spectra import sound_difference
from distill.novelty.verdict import Judge, Novelty
from distill.params.settings import validated
from distill.prior.base import Prior
from distill.prior.pretrained import pretrained_prior
from distill.progress import Progress, silent
from distill.storage.tables import read_frame
from distill.training.distributed import usual_tensors

if TYPE_CHECKING:
    import pandas as pd

LEAST_CONTINUED = 0.1  # seconds after a prompt, below which nothing was added
COMPARED_FROM = 2  # sounds from which there is a report on the set


class Model:
    """A model file: codec and prior in eval mode on the CPU."""

    @usual_tensors()
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
    def prior(self) -> Prior:
        """The file's prior; for a codec alone it is the pretrained prior."""
        codec = self.bundle.codec
        sizes, rate = codec.architecture.codebook_sizes, codec.spectrogram.frame_rate
        return self.bundle.prior or pretrained_prior(codewords_of(codec), sizes, rate)

    @property
    def note(self) -> str:
        """Sentence on what sounds are made with, where that is not a prior of the file, or what verdicts miss; else ""."""
        if self.source.untrained:
            return self.source.untrained
        trained = self.metadata.prior_metadata
        if trained is not None and trained.memorization.is_of_copies:
            return (
                f"{self.path} learned recordings that are near-duplicates of the held-out ones, which verdicts are measured "
                "by: a copy may be called new"
            )
        if self.bundle.prior is not None:
            return ""
        return (
            f"{self.path} holds a codec and no prior: sounds are drawn by the pretrained prior, which has not heard its "
            f"recordings; for sounds like them, run `distill train-prior {self.path}`"
        )

    @cached_property
    def source(self) -> Source:
        """What sounds are drawn from and judged by."""
        known = (self.bundle.reference, self.labels, self.path, self.metadata.payload_sha256)
        return Source(self.bundle.codec, self.prior, *known, critic=self.metadata.critic)

    @property
    def judge(self) -> Judge | None:
        """Judge of novelty against the training recordings; None where the file has no reference."""
        return self.source.judge

    @property
    def fault_finder(self) -> FaultFinder | None:
        """What finds faults of sounds, by the training recordings; None where the file has no reference."""
        return self.source.finder

    @property
    def tuner(self) -> Tuner:
        """What brings sounds to notes."""
        return self.source.tuner

    @takes(GenerateSettings)
    def generate(self, request: GenerateSettings) -> Generated:
        """Generate `n` sounds of `seconds` each; without `seconds` they end at EOS.

        With `note` they are at notes, in turn, by default one at each: a MIDI number (C4 is 60), a name such as "F#2", a
        range such as "C2:C4", or several of these in a sequence or with commas between. What is measured more than 20
        cents from its note, or without a clear pitch, is drawn again, and counted if it stays so. `tuning` is A4 in Hz,
        or "corpus": as the recordings, where they agree within 5 cents, else 440.
        Equal seeds give equal sounds, however many, up to rounding, which differs with threads and batches; without one
        the seed is random. `label` is one of `labels`; `guidance` is the
        scale of classifier-free guidance: 1 is none. `prompt` is a file or samples as of `samples`, at `prompt_rate` Hz;
        sounds continue it, and `seconds` leaves it out. `follow` is a recording, given alike, whose loudness, pitch and
        beginnings sounds have, with the sound of the model's recordings, more or less, as `loose` says. A number as `min_novelty` redraws sounds whose
        novelty percentile is above 1 - `min_novelty`. `progress` is called with (done, of, text). `take` is called with
        the index and samples of every sound as soon as it is generated, and no samples are kept; with `first_alone` it
        has the first one sooner, and all of them a little later. `on_output` is called before, with an object that has
        their `sample_rate` and `loudness`. Samples are `[N]`, or all of them `[N, 2]` where the model is stereo. A sound
        that would clip at `loudness` stays softer, and the result says by how much. Raises ArtifactError when the model
        lacks what is requested, ParamsError for arguments that are out of range.
        """
        label = self.label_number(request.label)
        if request.min_novelty is not None or request.reject_faults:
            self._reference("; leave min_novelty and reject_faults out")
        self.source.check_drafts(request.drafts)
        tuning = CONCERT
        if request.notes:
            self.tuner.check(request.notes, label)
            tuning = self.tuner.tuning(request.tuning)
        notes = [note + tuning.offset for note in request.notes]
        wanted, remarks = request_of(self.source, request, label, notes, self._recorded)
        seed, is_old = seed_or_any(request.seed), too_old(request.min_novelty or 0)
        refusals = [FAULTY] * request.reject_faults + [in_tune(wanted)] * bool(request.notes) + [is_old]
        output = output_of(request, self.sample_rate)
        draws = self._draws(wanted, seed, refusals, request, output)
        made = Generated(
            draws=draws,
            output=output,
            seed=seed,
            not_new=sum(map(is_old.applies, draws.sounds)),
            tuning=tuning,
            cut_short=self._cut_short(draws, len(wanted.prompt)) if wanted.natural_ending else "",
            remarks=remarks,
        )
        return self._reported(made, wanted)

    def follow(self, recording: Recording, **asked: Any) -> Generated:
        """Generate sounds that follow a recording or a MIDI file: `generate` with `follow`, and its other arguments."""
        return self.generate(follow=recording, **asked)

    @takes(KitSettings)
    def kit(self, request: KitSettings) -> Kit:
        """Make a sampler's instrument in the folder `out`: a new sound for each of `labels`, all by default, and takes of it.

        They are `per_label` together. `keys` gives labels other keys than by their names: MIDI numbers or notes, such as
        {"oh": "F#4"}. A model without labels gives clusters by spectrum. Sounds end at EOS, at the latest after `seconds`. Silent sounds and
        copies are drawn again, copies not with `allow_copies`. `out` is new, empty, or with `replace` a kit. The same
        seed gives the same files on as many threads. Raises ParamsError and ArtifactError.

        With `notes`, as of `generate`, it is an instrument over all keys, of one label or of a model without labels: it
        has `per_label` sounds at every `every`-th of these, by default at each. Notes that it cannot hold are an
        AudioWarning where it is of a recording. With `one_key` it is `round_robins` variations of one sound on one key.
        """
        return make_kit(self.source, request.model_copy(update={"seed": seed_or_any(request.seed)}))

    @usual_tensors()
    def export(self, out: str | os.PathLike[str], replace: bool = False, progress: Progress = silent) -> list[Path]:
        """Write the decoder and a step of the prior as ONNX files into the folder `out`; return their paths.

        The prior of the architecture `frame` alone is written. Raises ParamsError for files that are there already, and
        where the packages of the extra `export` are missing.
        """
        from distill.generate.export import export

        recordings = self.bundle.reference.side_info if self.bundle.reference else ()
        return export(self.bundle.codec, self.prior, Path(out), replace, progress, recordings)

    @takes(VarySettings)
    def vary(self, request: VarySettings) -> Varied:
        """Make `n` takes of a recording, a file or samples as of `samples`, at `recording_rate` Hz.

        A take has the recording's length. `strength` says how much of it is drawn again: 0 nothing, which gives the
        decoded recording, 1 all, which gives `generate` with the same length and seed; 0.3 by default, 0.5 of a model of
        a single recording, whose codes are more alike. Between, no two takes are the same, unless `equal` of the result
        says so. `transpose` moves its tones by so many semitones, `note` to a note: what is drawn again follows. Takes
        are at the recording's sample rate, unless another is asked for. The other arguments are those of `generate`.
        Raises ArtifactError, AudioError, or ParamsError for arguments that are out of range, and for a recording without a
        pitch.
        """
        label = self.label_number(request.label)
        self.source.check_drafts(request.drafts)
        strength = self.source.strength if request.strength is None else request.strength
        recording = self._recorded(request.recording, request.recording_rate)
        seconds = len(recording.samples) / self.sample_rate
        validated(GenerateSettings, {"seconds": seconds}, "vary: ")  # the same bounds
        recorded, notes, note, tuning = recording.codes, list[float](), None, CONCERT
        if request.note is not None:
            tuning = self.tuner.tuning(request.tuning)
            note = read_notes(request.note)[0] + tuning.offset
        if request.is_moved:
            recorded, notes = self.source.transposed(recording, request.transpose or 0.0, note)
        wanted = TakeRequest(
            count=request.n,
            max_seconds=seconds,
            sampling=Sampling(request.temperature, guidance=request.guidance_scale),
            label=label,
            recording=recorded,
            strength=strength,
            notes=notes,
            side_info=recording.side_info,
            width=request.width,
            drafts=request.drafts or (DRAFTS if strength > COARSE_FROM else 1),
            follow_tones=request.is_moved,
        )
        seed = seed_or_any(request.seed)
        # Drawing again changes no pitch where tones are kept, and nothing where all is.
        refusals = [MISTUNED] * (strength > COARSE_FROM) + [equal_to({recorded.tobytes()})] * (strength > 0)
        output = output_of(request, recording.sample_rate)
        draws = self._draws(wanted, seed, refusals, request, output)
        takes = [take.codes for take in draws.sounds]
        coding = sound_difference(self.bundle.codec, recording.samples, self.decode(recording.codes))
        alike = similarities(self.bundle.codec, self.bundle.reference, recorded, takes, coding)
        draws.drawn = {number: Take(**vars(draws.drawn[number]), similarity=own) for number, own in enumerate(alike)}
        return Varied(
            draws=draws,
            output=output,
            seed=seed,
            strength=strength,
            untrained=self.source.untrained,
            tuning=tuning,
        )

    @takes(ExtendSettings)
    def extend(self, request: ExtendSettings) -> Generated:
        """Draw `before` and `after` seconds beside a recording, a file or samples as of `samples`, at `recording_rate` Hz.

        The recording stays as it is, to the sample, but for 10 ms at each seam: sounds are at its sample rate, unless
        another is asked for, and their peak may be above full scale. Novelty is that of what is drawn. Raises
        ArtifactError, AudioError and ParamsError.
        """
        given = read_as_it_is(self.source, request.recording, request.recording_rate)
        rate, recorded = given.sample_rate, len(given.samples)
        before, after = (round(seconds * rate) for seconds in (request.before, request.after))
        whole = np.pad(given.samples, [(before, after), (0, 0)][: given.samples.ndim])
        parts = [(before + recorded, len(whole)), (0, before)]
        if not before + after:
            raise ParamsError(
                "extend: expected seconds before or after the recording, found less than a sample; give more"
            )
        side_info = side_info_taken(self.source, given).cut(-request.before, len(whole) / rate)
        kept = replace(given, samples=whole)
        return self._filled(request, kept, [(start, end) for start, end in parts if start < end], side_info)

    @takes(FillSettings)
    def fill(self, request: FillSettings) -> Generated:
        """Draw a part of a recording again, from `start` to `end`, in seconds. See `extend`."""
        given = read_as_it_is(self.source, request.recording, request.recording_rate)
        rate, recorded = given.sample_rate, len(given.samples)
        start, end = (round(seconds * rate) for seconds in (request.start, request.end))
        if end > recorded:
            raise ParamsError(
                f"to {request.end:g}: expected a part of the recording, which lasts {recorded / rate:g} s, "
                "found a later end; give an earlier one"
            )
        return self._filled(request, given, [(start, end)], side_info_taken(self.source, given))

    def _filled(
        self,
        request: ExtendSettings | FillSettings,
        given: Original,
        parts: Sequence[tuple[int, int]],
        side_info: SideInfo,
    ) -> Generated:
        """Sounds with parts of what is given drawn."""
        wanted = FillRequest(
            count=request.n,
            max_seconds=len(given.samples) / given.sample_rate,
            sampling=Sampling(request.temperature, guidance=request.guidance_scale),
            label=self.label_number(request.label),
            given=given.samples,
            sample_rate=given.sample_rate,
            parts=parts,
            side_info=side_info,
            width=request.width,
        )
        seed, output = seed_or_any(request.seed), output_of(request, given.sample_rate, given.bits)
        draws = self._draws(wanted, seed, [], request, output, given.sample_rate)
        changes = {
            f"resampled from {given.sample_rate} to {output.sample_rate} Hz": output.sample_rate != given.sample_rate,
            "brought to another loudness": output.loudness is not None,
        }
        remarks = [f"what stays of the recording is {change}" for change, is_true in changes.items() if is_true]
        return Generated(draws=draws, output=output, seed=seed, remarks=remarks)

    @takes(MorphSettings)
    def morph(self, request: MorphSettings) -> Morphed:
        """Make `steps` sounds from `first` to `last`, recordings as of `samples`, at `first_rate` and `last_rate` Hz.

        The ends are both recordings, decoded from their codes. Between them pitch, spectrum and length go from one to the
        other, aligned at attacks: partials move. With two more recordings `below`, those that are samples at `below_rate`
        Hz, there are `steps` times `steps` sounds, row by row: the first row goes from `first` to `last`, the last one
        between those below. Raises ArtifactError, AudioError and ParamsError.
        """
        corners = [
            self._recorded(request.first, request.first_rate),
            self._recorded(request.last, request.last_rate),
            *(
                self._recorded(one, None if isinstance(one, str | os.PathLike) else request.below_rate)
                for one in request.below
            ),
        ]
        output = output_of(request, self.sample_rate)
        emit = emitted(output, self.sample_rate, request.take)
        draws = morphs(self.source, corners, request.steps, request.width, request.progress or silent, emit)
        return Morphed(draws=draws, output=output, seed=None, columns=request.steps)

    def _draws(
        self,
        wanted: GenerationRequest,
        seed: int,
        refusals: Sequence[Refusal],
        request: GenerateSettings | VarySettings | ExtendSettings | FillSettings,
        output: Output,
        made_at: int | None = None,
    ) -> Draws:
        """Make sounds, at the model's rate or another in Hz, and bring them to an output."""
        report, seeds = request.progress or silent, Seeds(seed)
        emit = emitted(output, made_at or self.sample_rate, request.take)
        return wanted.make(self.source, seeds, refusals, report, emit, request.first_alone)

    def _cut_short(self, draws: Draws, prompt_frames: int) -> str:
        """What to do where sounds end only because no more is drawn, and most recordings are longer; else ""."""
        most = frames_for_seconds(self.bundle.codec, LONGEST_SECONDS)
        recorded = [] if self.bundle.reference is None else sorted(map(len, self.bundle.reference.codes))
        cut = sum(len(sound.codes) - prompt_frames >= most for sound in draws.sounds)
        median = recorded[len(recorded) // 2] if recorded else 0
        if not cut or median <= most:
            return ""
        seconds = median / self.bundle.codec.spectrogram.frame_rate
        return (
            f"{cut} of {len(draws.sounds)} sounds end at {LONGEST_SECONDS:.0f} s, where no more is drawn, and the recordings "
            f"at {seconds:.0f} s; ask for a length in seconds"
        )

    def _reported(self, made: Generated, wanted: GenerationRequest) -> Generated:
        """Sounds with what is said of all of them together; little where the file has no reference."""
        before = len(wanted.prompt) / self.bundle.codec.spectrogram.frame_rate
        seconds = [length - before for length in made.seconds]  # of what was added to the prompt
        if len(wanted.prompt) and wanted.natural_ending:
            made = replace(made, ended_at_once=sum(length < LEAST_CONTINUED for length in seconds))
        if self.judge is None or self.fault_finder is None:
            return made
        held_out, found = self.fault_finder.held_out(wanted.kinds), made.faults
        faults = FaultReport([own or () for own in found], held_out, made.draws.redrawn["faulty"])
        if None in found:
            return made
        if wanted.count < COMPARED_FROM or not wanted.is_compared:
            return replace(made, fault_report=faults)
        added = [codes[len(wanted.prompt) :] for codes in made.codes]
        report = report_on(self.judge, added, seconds, list(filter(None, made.novelty)), made.seed or 0)
        return replace(made, report=report, fault_report=faults)

    def samples(self, recording: Recording, sample_rate: int | None = None) -> Samples:
        """Samples `[N]` at the model's rate of a file, or of samples at `sample_rate` Hz, by default the model's.

        Samples are `[N]` of a mono sound or `[N, 2]` of a stereo one, left and right, wherever they go in or come out. What
        codes are made of is mono: of a stereo sound it has in each band the mean power of both channels, and `side_info`
        has what is between them. An array knows no rate, so one that is not given is the model's. A file is stereo where it
        is, and some of the recordings that the model learnt. A remark on a file is an AudioWarning; so is that a sound,
        louder than the recordings that the model learnt, was made softer. Raises AudioError, and ParamsError for samples
        of another shape, that are empty, or hold NaN or infinite values.
        """
        return self._read(recording, sample_rate).samples

    def side_info(self, recording: Recording, sample_rate: int | None = None) -> SideInfo:
        """The side information of a file or of samples, as of `samples`, which `decode` takes beside their codes.

        Its stereo `image` is uint8 `[T, 2, 20]`, of no rows where it is mono: `image[:, 0]` are steps of the level difference
        in 20 bands, `image[:, 1]` of the coherence. Its `noise` is uint8 `[T, 8]`, steps of the noise floor in 8 bands. A row
        is for the whole sound, or for one second of a sound longer than 1.5 s.
        """
        return self._read(recording, sample_rate).side_info

    def _read(self, recording: Recording, sample_rate: int | None) -> Given:
        """Samples `[N]`, side information and own rate of a recording. Raises as `samples` does."""
        return read(self.source, recording, sample_rate)

    def _recorded(self, recording: Recording, sample_rate: int | None) -> Recorded:
        given = self._read(recording, sample_rate)
        return Recorded(given.samples, self.encode(given.samples), given.side_info, given.sample_rate)

    @usual_tensors()
    def encode(self, samples: NDArray[np.floating], sample_rate: int | None = None) -> Codes:
        """Encode samples `[N]` or `[N, 2]` in [-1, 1] at `sample_rate` Hz, by default the model's, to codes `[F, Q]` int64.

        Raises ParamsError as `samples` does.
        """
        sound = self.samples(samples, sample_rate)
        codes: Codes = encode(self.bundle.codec, torch.from_numpy(sound)[None])[0].numpy()
        return codes

    @usual_tensors()
    def decode(self, codes: NDArray[np.integer], side_info: SideInfo = UNKNOWN, width: float = 1.0) -> Samples:
        """Decode codes `[F, Q]` to samples, faded at both ends and limited in peak; `[N, 2]` if `side_info` is stereo, else `[N]`.

        Without side information the tones are as noisy as is typical, and what was stereo is mono.
        `width`, from 0 to 1.5, scales what is between the channels. Raises ParamsError.
        """
        given, codec = np.asarray(codes), self.bundle.codec.architecture
        if given.ndim != 2 or not len(given) or given.shape[1] != codec.num_quantizers or given.dtype.kind not in "iu":
            raise ParamsError(
                f"codes: expected whole numbers [frames, {codec.num_quantizers}], found {given.dtype} {list(given.shape)}"
            )
        if problem := out_of_range(given, codec.codebook_sizes):
            raise ParamsError(f"codes: {problem}")
        validated(GenerateSettings, {"width": width}, "decode: ")
        if not isinstance(side_info, SideInfo):
            raise ParamsError(f"side_info: expected what `Model.side_info` gives, found {type(side_info).__name__}")
        return decode_sounds(self.bundle.codec, [given.astype(np.int64)], side_info=[side_info], width=width)[0]

    @usual_tensors()
    def novelty(self, codes: Sequence[Codes]) -> list[Novelty]:
        """Novelty of sounds, given their codes `[F, Q]`. Raises ArtifactError when the file has no reference."""
        self._reference()
        assert self.judge is not None
        return self.judge(codes)

    @usual_tensors()
    def nearest(self, novelty: Novelty) -> Samples:
        """The training recording that a verdict is about, decoded from its codes, to listen to: samples `[N]` or `[N, 2]`.

        Of a long recording, NEAREST_SECONDS from the passage on. Raises ArtifactError when the file has no reference.
        """
        reference = self._reference()
        codes = reference.codes[list(reference.names).index(novelty.nearest.nearest)]
        most = frames_for_seconds(self.bundle.codec, NEAREST_SECONDS)
        offset = round(novelty.nearest.offset_seconds * self.bundle.codec.spectrogram.frame_rate)
        start = max(0, offset) if len(codes) > most else 0
        part, rate = codes[start : start + most].astype(np.int64), self.bundle.codec.spectrogram.frame_rate
        side_info = reference.side_info_of(novelty.nearest.nearest).cut(start / rate, len(part) / rate)
        return decode_sounds(self.bundle.codec, [part], side_info=[side_info])[0]

    def label_number(self, label: str | None) -> int:
        """Index of a label, from 1 on, 0 for none. Raises ParamsError that lists the labels. See `Source.label_number`."""
        return self.source.label_number(label)

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
