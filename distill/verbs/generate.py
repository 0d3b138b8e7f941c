"""Generate: new sounds, freely or at notes, after a prompt, or played by a pattern, a tempo, a voice or a MIDI file."""

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from distill.audio.output import Tempo
from distill.errors import AudioWarning, ParamsError
from distill.generate.settings import (
    LONGEST_SECONDS,
    UNCHECKED,
    Coolness,
    Count,
    DraftCount,
    Flag,
    Guided,
    Recording,
    Seconds,
    Seed,
    SomeNotes,
    SoundSettings,
    TuningOfNotes,
    check_tuning,
    least_novelty,
)
from distill.notes import CONCERT, read_notes
from distill.params import Share, TopK, TopP
from distill.verbs.verb import Verb

if TYPE_CHECKING:
    from distill.generate.context import GenerationContext
    from distill.generate.presentation.results import Generated
    from distill.generate.requests.generation import GenerationRequest
    from distill.generate.scores.score import Score
    from distill.generate.selection.rejection import Drafts

BEATS = 4  # of a bar


class GenerateSettings(Guided, SoundSettings):
    """Settings of `generate`."""

    n: Annotated[Count | None, Flag("--count", "-n", otherwise="1, or one for each note")] = Field(
        default=None, kw_only=False, description="how many sounds"
    )
    seconds: Seconds | None = Field(
        default=None,
        kw_only=False,
        description="length of each; without it sounds end by themselves, within 10 s",
    )
    seed: Seed = Field(default=None, kw_only=False)
    temperature: Coolness = 1.0
    top_k: TopK = Field(default=0, description="sample from the K likeliest codes; 0 = all")
    top_p: TopP = Field(default=1.0, description="sample from the likeliest codes that sum to this")
    note: SomeNotes = Field(
        default=None,
        description="notes of the sounds in turn, such as C3, 60, C3,E3,G3 or C2:C4; C4 is 60",
    )
    tuning: TuningOfNotes = "corpus"
    prompt: Annotated[Recording | None, UNCHECKED, Flag(metavar="AUDIO", type=Path)] = Field(
        default=None, description="a recording to continue; --seconds is what is added"
    )
    follow: Annotated[Recording | None, UNCHECKED, Flag(metavar="AUDIO|MIDI", type=Path)] = Field(
        default=None,
        description="a recording, such as a voice, whose loudness, pitch and onsets the sounds follow; or a MIDI file",
    )
    loose: Annotated[Share | None, Flag(otherwise="0")] = Field(
        default=None, description="with a recording to follow: 0 strictly, 1 freely"
    )
    track: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="track of a MIDI file, from 1; omit for all tracks"
    )
    program: Annotated[str | None, Flag(metavar="NUMBER=LABEL,...")] = Field(
        default=None,
        description="labels for the programs of a MIDI file, from 1, such as 1=piano,34=bass",
    )
    pattern: Annotated[str | None, Flag(metavar="LABEL:STEPS...")] = Field(
        default=None,
        description="a loop of hits, such as 'kick:x...x... snare:....x...': for each label the steps of a bar, x a hit, "
        "X a loud hit, o a soft hit",
    )
    bpm: Annotated[Annotated[float, Field(ge=20, le=400)] | None, Flag(otherwise="120")] = Field(
        default=None,
        description="tempo of a loop in beats a minute, four to a bar: of the pattern, or of recordings that repeat",
    )
    bars: Annotated[Annotated[int, Field(ge=1, le=256)] | None, Flag(otherwise="1")] = Field(
        default=None, description="number of bars of a loop"
    )
    swing: Annotated[Share | None, Flag(otherwise="0")] = Field(
        default=None, description="with a pattern: 0 straight, 1 triplet swing"
    )
    stems: bool = Field(
        default=False,
        description="for a pattern or a MIDI file: a sound for each label instead of their mix",
    )
    min_novelty: Annotated[
        str | float | None, AfterValidator(least_novelty), Flag(metavar="close|new|0...1")
    ] = Field(
        default=None,
        description="reject copies (close), everything that is not new (new), or sounds with a novelty percentile "
        "below X",
    )
    reject_faults: bool = Field(
        default=False, description="reject faulty sounds, and report how many"
    )
    drafts: Annotated[DraftCount, Flag(otherwise="4; with --follow 1")] = None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.follow is None:
            check_tuning(self.tuning, self.note)
        given = self._given
        for name, keys in NEEDED.items():
            if name in given and given.isdisjoint(keys):
                needed = " or ".join(keys)
                raise ParamsError(
                    f"{name}: expected {needed} with it, found none; name one, or leave it out"
                )
        for name in self.input.replaces:
            if name in given:
                key = next(key for key in self.input.keys if key in given)
                raise ParamsError(
                    f"{name}: expected none beside {key}, which has its own; leave one of them out"
                )
        return self

    @property
    def _given(self) -> set[str]:
        """Names of the settings that have a value other than None and False."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return {name for name, value in values.items() if value is not None and value is not False}

    @property
    def input(self) -> "Input":
        """Input that the sounds are generated from."""
        given = self._given
        return next((own for own in INPUTS if not given.isdisjoint(own.keys)), FREE)

    @property
    def tempo(self) -> Tempo | None:
        """Tempo of a loop; None for other sounds."""
        if self._given.isdisjoint({"pattern", "bpm", "bars"}):
            return None
        return Tempo(self.bpm or 120.0, BEATS * (self.bars or 1))

    @property
    def notes(self) -> list[int]:
        """MIDI keys of the sounds in turn; empty for sounds at any pitch."""
        return [] if self.note is None else read_notes(self.note)

    @property
    def count(self) -> int:
        """Number of sounds: by default one, or one for each note."""
        return max(1, len(self.notes)) if self.n is None else self.n


def generate(context: "GenerationContext", settings: GenerateSettings) -> "Generated":
    """Generate `n` sounds of `seconds` each; without `seconds` they end at EOS.

    With `note` the sounds are at notes, in turn, by default one sound at each note: a MIDI number (C4 is 60), a name such
    as "F#2", a range such as "C2:C4", or several of these in a sequence or with commas between. A sound that is measured
    more than 20 cents from its note, or without a clear pitch, is rejected, and counted if no attempt succeeds. `tuning`
    is A4 in Hz, or "corpus": as the recordings, where they agree within 5 cents, else 440.

    The same seed gives the same sounds, whatever their number; another number of threads or another batch size may change
    the last bits. `label` is one of `labels`; `guidance` is the scale of classifier-free guidance; 1 is off. `prompt` is a
    file, samples as in `samples`, or a `distill.Sound`; sounds continue it, and `seconds` does not count it. `follow` is a
    recording in any of these forms: sounds have its loudness, pitch and onsets, and the timbre of the model's recordings;
    `loose` says how strictly. `delivery` has callbacks that receive sounds as they are generated, see `distill.Delivery`.
    Samples are `[N]`, or all of them `[N, 2]` where the model is stereo. A sound that would clip at `loudness` stays
    softer, and the result says by how much. Raises ArtifactError when the model lacks what is requested, ParamsError for
    arguments that are out of range.
    """
    from distill.generate.presentation.results import Generated
    from distill.generate.requests.generation import generated, in_tune, seed_or_any
    from distill.generate.sampling.processors import Sampling
    from distill.generate.selection.choice import DRAFTS
    from distill.generate.selection.rejection import FAULTY, below_novelty

    label = context.label_number(settings.label)
    _check_context(context, settings, label)
    tuning = context.tuner.tuning(settings.tuning) if settings.notes else CONCERT
    common = {
        "count": settings.count,
        "sampling": Sampling(
            settings.temperature, settings.top_k, settings.top_p, settings.guidance_scale
        ),
        "label": label,
        "width": settings.width,
        "finds_faults": True,
        "drafts": settings.drafts or DRAFTS,
    }
    request, remarks = settings.input.request(context, settings, common)
    if settings.notes:
        request = replace(request, notes=[note + tuning.offset for note in settings.notes])
    seed, is_old = seed_or_any(settings.seed), below_novelty(settings.min_novelty or 0)
    criteria = (
        [FAULTY] * settings.reject_faults + [in_tune(request)] * bool(settings.notes) + [is_old]
    )
    output = settings.output(context.codec.spectrogram.sample_rate, tempo=settings.tempo)
    drafts = generated(context, request, seed, criteria, output, settings.delivery)
    made = Generated(
        draws=drafts,
        output=output,
        seed=seed,
        not_new=sum(map(is_old.applies, drafts.sounds)),
        tuning=tuning,
        cut_short=_cut_short(context, drafts, len(request.prompt))
        if request.natural_ending
        else "",
        remarks=remarks,
    )
    return _with_reports(context, made, request)


def _check_context(context: "GenerationContext", settings: GenerateSettings, label: int) -> None:
    """Raise ArtifactError or ParamsError where the model lacks what the settings need."""
    if settings.min_novelty is not None or settings.reject_faults:
        context.needed_reference("; leave min_novelty and reject_faults out")
    context.check_drafts(settings.drafts)
    if settings.notes:
        context.tuner.check(settings.notes, label)


Made = tuple["GenerationRequest", Sequence[str]]
"""A request and remarks on it."""


class Input(NamedTuple):
    """A kind of input of `generate`.

    It is chosen by the settings `keys`. Settings in `takes` need it, or another input that takes them. Settings in
    `replaces` are refused, since the input has its own. `request` makes the request from the arguments that all have.
    """

    keys: tuple[str, ...]
    takes: tuple[str, ...]
    replaces: tuple[str, ...]
    request: Callable[["GenerationContext", GenerateSettings, dict[str, Any]], Made]


def _free(context: "GenerationContext", settings: GenerateSettings, common: dict[str, Any]) -> Made:
    """Generate sounds freely, or after a prompt."""
    from distill.generate.inputs import recorded
    from distill.generate.requests.generation import GenerationRequest

    if settings.prompt is not None:
        prompt = recorded(context, settings.prompt)
        common |= {"prompt": prompt.codes, "side_info": prompt.side_info}
    seconds, ends_at_eos = settings.seconds or LONGEST_SECONDS, settings.seconds is None
    return GenerationRequest(**common, max_seconds=seconds, natural_ending=ends_at_eos), []


def _loop(context: "GenerationContext", settings: GenerateSettings, common: dict[str, Any]) -> Made:  # noqa: ARG001 - as others
    """Generate loops at a tempo."""
    from distill.generate.requests.loop import LoopRequest

    assert settings.tempo is not None
    bpm, beats = settings.tempo
    return LoopRequest(max_seconds=beats * 60 / bpm, bpm=bpm, beats=beats, **common), []


def _pattern(
    context: "GenerationContext", settings: GenerateSettings, common: dict[str, Any]
) -> Made:
    """Generate renditions of a pattern of hits."""
    from distill.generate.scores.pattern import read_pattern

    assert settings.pattern is not None
    assert settings.tempo is not None
    bpm, beats = settings.tempo
    return _rendition(
        context,
        read_pattern(settings.pattern, bpm, beats // BEATS, settings.swing or 0.0),
        settings,
        common,
    )


def _following(
    context: "GenerationContext", settings: GenerateSettings, common: dict[str, Any]
) -> Made:
    """Generate sounds that follow a recording, or renditions of a MIDI file."""
    from distill.generate.scores.performance import is_midi

    followed = settings.follow
    if isinstance(followed, str | os.PathLike) and is_midi(Path(followed)):
        return _midi(context, Path(followed), settings, common)
    return _voice(context, settings, common)


def _voice(
    context: "GenerationContext", settings: GenerateSettings, common: dict[str, Any]
) -> Made:
    """Generate sounds that follow a recording."""
    from distill.generate.inputs import recorded
    from distill.generate.requests.follow import follow_request

    check_tuning(settings.tuning, None)
    _refuse(settings, ("program", "stems", "track"), "a MIDI file to follow, found a recording")
    common["drafts"] = settings.drafts or 1  # each note has drafts of its own
    assert settings.follow is not None
    return follow_request(
        context, recorded(context, settings.follow), loose=settings.loose or 0.0, **common
    )


def _midi(
    context: "GenerationContext", path: Path, settings: GenerateSettings, common: dict[str, Any]
) -> Made:
    """Generate renditions of a MIDI file. A remark on the file is an AudioWarning."""
    from distill.generate.scores.performance import read_midi, read_programs

    _refuse(settings, ("loose",), "a recording to follow, found a MIDI file")
    programs = read_programs(settings.program) if settings.program else {}
    read = read_midi(path, settings.track, programs)
    for remark in read.remarks:
        warnings.warn(f"{path}: {remark}", AudioWarning, stacklevel=2)
    score, remarks = read.with_drums(context.labels)
    request, moved = _rendition(context, score, settings, common)
    return request, [*remarks, *moved]


def _refuse(settings: GenerateSettings, names: Sequence[str], expected: str) -> None:
    """Refuse settings that do not fit what is followed. Raises ParamsError."""
    for name in names:
        if getattr(settings, name) not in (None, False):
            raise ParamsError(f"{name}: expected {expected}; leave {name} out")


def _rendition(
    context: "GenerationContext", score: "Score", settings: GenerateSettings, common: dict[str, Any]
) -> Made:
    """Generate renditions of a score; notes without a label take the label of the settings."""
    from distill.generate.requests.arrange import ScoreRequest, fitted

    numbers = {
        name: context.label_number(name) if name else common["label"] for name in score.labels
    }
    played, remarks = fitted(score, context.tuner, numbers)
    tuning = (
        context.tuner.tuning(settings.tuning)
        if any(note.key is not None for note in played.notes)
        else CONCERT
    )
    request = ScoreRequest(
        max_seconds=LONGEST_SECONDS,
        score=played,
        numbers=numbers,
        tuning=tuning.offset,
        stems=settings.stems,
        **common,
    )
    return request, [*remarks, *filter(None, [tuning.in_words])]


LENGTH = ("note", "prompt", "seconds")
INPUTS = (
    Input(
        ("follow",),
        ("loose", "track", "program", "stems"),
        (*LENGTH, "pattern", "bpm", "bars"),
        _following,
    ),
    Input(("pattern",), ("swing", "stems"), (*LENGTH, "label"), _pattern),
    Input(("bpm", "bars"), (), LENGTH, _loop),
)
FREE = Input((), (), (), _free)
NEEDED = {
    name: [key for own in INPUTS if name in own.takes for key in own.keys]
    for kind in INPUTS
    for name in kind.takes
}
"""Settings that only some inputs take, and the settings that choose these inputs."""


def _cut_short(context: "GenerationContext", drafts: "Drafts", prompt_frames: int) -> str:
    """Return advice where sounds end at the longest length although most recordings are longer; else ""."""
    from distill.generate.requests.generation import frames_for_seconds

    longest = frames_for_seconds(context.codec, LONGEST_SECONDS)
    recorded = [] if context.reference is None else sorted(map(len, context.reference.codes))
    cut = sum(len(sound.codes) - prompt_frames >= longest for sound in drafts.sounds)
    median = recorded[len(recorded) // 2] if recorded else 0
    if not cut or median <= longest:
        return ""
    seconds = median / context.codec.spectrogram.frame_rate
    return (
        f"{cut} of {len(drafts.sounds)} sounds end at {LONGEST_SECONDS:.0f} s, where no more is drawn, and the recordings "
        f"at {seconds:.0f} s; ask for a length in seconds"
    )


def _with_reports(
    context: "GenerationContext", made: "Generated", request: "GenerationRequest"
) -> "Generated":
    """Add the reports on the set: novelty and faults, where the model has a reference."""
    compared_from = 2  # sounds, at least, for a report on the set
    least_continued = 0.1  # seconds after a prompt, below which nothing was added
    from distill.generate.selection.faults import FaultReport
    from distill.novelty.report import report_on

    before = len(request.prompt) / context.codec.spectrogram.frame_rate
    seconds = [length - before for length in made.seconds]  # generated, without the prompt
    if len(request.prompt) and request.natural_ending:
        made = replace(made, ended_at_once=sum(length < least_continued for length in seconds))
    if not context.scorer or not context.finder or None in made.faults:
        return made
    held_out, found = context.finder.held_out(request.kinds), made.faults
    faults = FaultReport([own or () for own in found], held_out, made.draws.redrawn["faulty"])
    if request.count < compared_from or not request.is_compared:
        return replace(made, fault_report=faults)
    added = [codes[len(request.prompt) :] for codes in made.codes]
    report = report_on(
        context.scorer, added, seconds, list(filter(None, made.novelty)), made.seed or 0
    )
    return replace(made, report=report, fault_report=faults)


VERB = Verb(
    generate,
    GenerateSettings,
    "Generate new sounds, and report how new each is compared with the training recordings, and which are faulty.",
    doing="making sounds",
    out="generated",
)
