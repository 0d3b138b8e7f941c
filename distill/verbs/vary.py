"""Vary: takes of a recording."""

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from distill.errors import ParamsError
from distill.generate.settings import (
    UNCHECKED,
    Argument,
    Coolness,
    Count,
    DraftCount,
    Flag,
    Guided,
    RateOfRecording,
    Recording,
    Seconds,
    Seed,
    SoundSettings,
    TuningOfNotes,
    check_tuning,
    checked_notes,
)
from distill.notes import CONCERT, Notes, read_notes
from distill.params import Share
from distill.params.settings import Settings, validated
from distill.verbs.verb import Verb

if TYPE_CHECKING:
    from distill.generate.context import GenerationContext
    from distill.generate.presentation.results import Varied


class VarySettings(Guided, SoundSettings):
    """Settings of `vary`."""

    recording: Annotated[
        Recording, UNCHECKED, Argument("AUDIO", "after a model file, the recording to vary")
    ] = Field(kw_only=False)
    n: Annotated[Count, Flag("--count", "-n")] = Field(
        default=8, kw_only=False, description="how many takes"
    )
    strength: Annotated[Share | None, Flag(otherwise="0.3; of a recording alone 0.5")] = Field(
        default=None, kw_only=False, description="how much changes: 0 nothing, 1 everything"
    )
    seed: Seed = Field(default=None, kw_only=False)
    transpose: Annotated[
        Annotated[float, Field(ge=-48, le=48)] | None, Flag(metavar="SEMITONES")
    ] = Field(default=None, description="semitones up, or below 0 down")
    note: Annotated[
        Notes | None, BeforeValidator(checked_notes), Flag(metavar="NOTE", type=str)
    ] = Field(default=None, description="transpose it to one note, such as C3 or 48")
    tuning: TuningOfNotes = "corpus"
    temperature: Coolness = 1.0
    drafts: Annotated[DraftCount, Flag(otherwise="4 above a strength of 0.5, else 1")] = None
    sample_rate: RateOfRecording = None

    @model_validator(mode="after")
    def _check_note(self) -> Self:
        check_tuning(self.tuning, self.note)
        if self.note is None:
            return self
        if self.transpose is not None:
            raise ParamsError(
                f"note {self.note}: expected one note, or a number of semitones, found both; give one of them"
            )
        if len(notes := read_notes(self.note)) > 1:
            raise ParamsError(
                f"note {self.note}: expected one note for takes, found {len(notes)}; give one, or make an instrument of a "
                "recording at several with `distill kit`"
            )
        return self

    @property
    def is_moved(self) -> bool:
        """Whether takes are at other pitches than the recording."""
        return self.transpose is not None or self.note is not None


class _Length(Settings):
    """Bounds of the length of a recording that takes are made of."""

    seconds: Seconds


def vary(context: "GenerationContext", settings: VarySettings) -> "Varied":
    """Generate `n` takes of a recording, each of its length.

    `strength` is the proportion that is generated again: 0 gives the decoded recording, 1 gives `generate` with
    the same length and seed. The default is 0.3, and 0.5 for a model of a single recording, whose codes are more alike.
    Between 0 and 1 no two takes are equal, unless `equal` of the result counts some. `transpose` moves the tones by semitones, `note` to a
    note; what is generated follows. Takes have the recording's sample rate, unless another is given.
    See `generate` for the other arguments. Raises ArtifactError, AudioError, or ParamsError for arguments
    out of range, and for a recording without a pitch.
    """
    from distill.generate.inputs import recorded
    from distill.generate.presentation.results import Varied, with_similarity
    from distill.generate.requests.generation import generated, seed_or_any
    from distill.generate.requests.take import COARSE_FROM, TakeRequest
    from distill.generate.sampling.processors import Sampling
    from distill.generate.selection.choice import DRAFTS
    from distill.generate.selection.rejection import MISTUNED, equal_to

    label = context.label_number(settings.label)
    context.check_drafts(settings.drafts)
    strength = context.strength if settings.strength is None else settings.strength
    recording = recorded(context, settings.recording)
    seconds = len(recording.samples) / context.codec.spectrogram.sample_rate
    validated(_Length, {"seconds": seconds}, "vary: ")
    codes, notes, note, tuning = recording.codes, list[float](), None, CONCERT
    if settings.note is not None:
        tuning = context.tuner.tuning(settings.tuning)
        note = read_notes(settings.note)[0] + tuning.offset
    if settings.is_moved:
        codes, notes = context.transposed(recording, settings.transpose or 0.0, note)
    request = TakeRequest(
        count=settings.n,
        max_seconds=seconds,
        sampling=Sampling(settings.temperature, guidance=settings.guidance_scale),
        label=label,
        recording=codes,
        strength=strength,
        notes=notes,
        side_info=recording.side_info,
        width=settings.width,
        drafts=settings.drafts or (DRAFTS if strength > COARSE_FROM else 1),
        follow_tones=settings.is_moved,
    )
    seed = seed_or_any(settings.seed)
    # Generating again changes no pitch where tones are kept, and nothing where all codes are.
    criteria = [MISTUNED] * (strength > COARSE_FROM) + [equal_to({codes.tobytes()})] * (
        strength > 0
    )
    output = settings.output(recording.sample_rate)
    drafts = generated(context, request, seed, criteria, output, settings.delivery)
    return Varied(
        draws=with_similarity(context, drafts, recording, codes),
        output=output,
        seed=seed,
        strength=strength,
        one_shot_remark=context.one_shot_remark,
        tuning=tuning,
    )


VERB = Verb(
    vary,
    VarySettings,
    "Make new takes of a recording, and report how near each is to it and to the training recordings.\n\n"
    "With a recording alone nothing is trained: its codes are made with the shipped weights.",
    doing="making variations",
    out="varied",
    takes_recording_alone=True,
)
