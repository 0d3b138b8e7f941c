"""Results of `Model.generate`, `Model.vary` and `Model.morph`, with their tables, JSON and lines of text."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from distill.audio.output import Output
from distill.audio.side_info import SideInfo
from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.generate.context import GenerationContext, Recorded
from distill.generate.decoding import decode_sounds
from distill.generate.presentation.notebook import players_and_table
from distill.generate.selection.faults import Fault, FaultReport, Samples
from distill.generate.selection.rejection import IN_TUNE, Drafts, GeneratedSound
from distill.notes import CONCERT, Tuning, pitch_name
from distill.novelty.reference import Reference
from distill.novelty.report import SetReport
from distill.novelty.spectra import CodeSpectra, mean_difference, sound_difference
from distill.novelty.verdict import Novelty, NoveltyScorer, Verdict
from distill.storage.files import MARK
from distill.text import beside, one_line, several, table, terminal_width, wrapped

if TYPE_CHECKING:
    import pandas as pd

Json = dict[str, Any]
UNKNOWN = "novelty unknown: the model has no codes of its training recordings"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Result(ABC):
    """Sounds generated from a seed, and how many drafts were rejected."""

    KIND: ClassVar[str]  # word for a sound
    REDRAWN: ClassVar[str]  # name of the rejection criterion that `redrawn` counts

    draws: Drafts
    output: Output
    seed: int | None  # None if nothing is random
    tuning: Tuning = CONCERT  # for requested notes

    @property
    def sample_rate(self) -> int:
        """Sample rate of the sounds in Hz."""
        return self.output.sample_rate

    @property
    def sounds(self) -> list[Samples]:
        """Samples `[N]`, or `[N, 2]` in stereo, of each sound, in [-1, 1]; empty if `take` got them."""
        return [sound.samples for sound in self.draws.sounds if len(sound.samples)]

    @property
    def seconds(self) -> list[float]:
        """Length of each sound."""
        return [sound.seconds for sound in self.draws.sounds]

    @property
    def codes(self) -> list[Codes]:
        """Codes `[F, Q]` of each sound."""
        return [sound.codes for sound in self.draws.sounds]

    @property
    def side_info(self) -> list[SideInfo]:
        """Side information of each sound, which `Model.decode` needs next to its codes."""
        return [sound.side_info for sound in self.draws.sounds]

    @property
    def novelty(self) -> list[Novelty | None]:
        """Novelty of each sound against the training recordings; None if the model has no reference."""
        return [sound.novelty for sound in self.draws.sounds]

    @property
    def notes(self) -> list[float | None]:
        """Requested note of each sound in semitones (MIDI), or None."""
        return [sound.note for sound in self.draws.sounds]

    @property
    def pitches(self) -> list[float | None]:
        """Measured pitch of each sound if notes were requested; None if it is unclear."""
        return [sound.pitch for sound in self.draws.sounds]

    @property
    def redrawn(self) -> int:
        """Number of drafts rejected for lack of novelty, or of takes rejected as equal to another."""
        return self.draws.redrawn[self.REDRAWN]

    @property
    def redrawn_off_note(self) -> int:
        """Number of drafts rejected because they were not at their note."""
        return self.draws.redrawn["mistuned"]

    @property
    def off_note(self) -> int:
        """Number of sounds that are still not at their note."""
        return sum(not sound.is_at_note for sound in self.draws.sounds)

    def table(self) -> "pd.DataFrame":
        """Table with a row for each sound: `seconds`, `frames` and known scores, named as in `--json`."""
        import pandas as pd

        rows = [
            {
                "seconds": sound.seconds,
                "frames": len(sound.codes),
                **self._tuned(sound),
                **self._own(sound),
            }
            | (sound.novelty.json() if sound.novelty else {})
            | (sound.likeness.json if sound.likeness else {})
            for sound in self.draws.sounds
        ]
        return pd.json_normalize(rows).dropna(axis=1, how="all").rename_axis(self.KIND)

    def __repr__(self) -> str:
        """Table for `print`: length, requested note, label, faults and verdict of each sound."""
        most_rows = 32  # rows of a printed result, at most
        rows = [(self.KIND, "seconds", "note", "verdict")]
        for number, sound in enumerate(islice(self.draws.sounds, most_rows)):
            words = one_line("; ".join(filter(None, self._in_words(sound))))
            rows.append(
                (str(number), f"{sound.seconds:.2f}", self._tuned(sound).get("heard", ""), words)
            )
        columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
        more = len(self.draws.sounds) - most_rows
        return "\n".join(
            [
                *table(list(zip(*columns, strict=True)), terminal_width()),
                *[f"and {more} more"] * (more > 0),
            ]
        )

    def _repr_html_(self) -> str:
        """Players of the kept sounds, and their table, for notebooks."""
        wavs = (self.output.file(Path(self.KIND), sound, "wav", MARK) for sound in self.sounds)
        return players_and_table(wavs, self.table())

    def json(self, paths: Sequence[Path]) -> Json:
        """JSON report for `--json`, with the paths of the sounds' files."""
        rows: list[Json] = []
        for path, sound in zip(paths, self.draws.sounds, strict=True):
            novelty = sound.novelty
            judged: Json = {"novelty": None, "short": None, "explanation": None}
            if novelty is not None:
                judged = {
                    "novelty": novelty.json(),
                    "short": novelty.short,
                    "explanation": novelty.explanation,
                }
            alike = sound.likeness.json if sound.likeness else {}
            about = {
                "file": str(path),
                "seconds": sound.seconds,
                **self._levelled(sound),
                **self._tuned(sound),
            }
            rows.append({**about, **judged, **self._own(sound), **alike})
        shared: Json = {"seed": self.seed, "sample_rate": self.sample_rate, "redrawn": self.redrawn}
        if self.output.loudness is not None:
            shared["loudness"] = {"lufs": self.output.loudness, "in_words": self._loudness_lines()}
        if tuning := self._tuning_lines():
            counts = {"redrawn": self.redrawn_off_note, "off_note": self.off_note}
            shared["tuning"] = {"a4_hertz": self.tuning.hertz, **counts, "in_words": tuning}
        return {**shared, f"{self.KIND}s": rows, **self._together()}

    def lines(self, paths: Sequence[Path], width: int = 4000) -> list[str]:
        """Line for each sound, with the path of its file, then lines on all sounds; `width` columns."""
        seed = [] if self.seed is None else [f"seed {self.seed}"]
        sounds, end = [], ", ".join([*seed, f"{self.sample_rate} Hz"])
        for path, sound in zip(paths, self.draws.sounds, strict=True):
            words = "  ".join(
                filter(None, [self._tuned(sound).get("heard"), *self._in_words(sound)])
            )
            sounds.append(beside(f"{path}  {sound.seconds:.2f} s", words, width))
        return [
            *sounds,
            *wrapped([*self._tuning_lines(), *self._lines(), *self._loudness_lines(), end], width),
        ]

    def _loudness_lines(self) -> list[str]:
        """Line on sounds that are softer than requested, if any."""
        return self.output.lines([sound.under_db for sound in self.draws.sounds], self.KIND)

    def _levelled(self, sound: GeneratedSound) -> Json:
        """Level of a sound below the requested loudness; empty if none was requested."""
        return {} if self.output.loudness is None else {"under_db": sound.under_db}

    def _tuning_lines(self) -> list[str]:
        """Line on how many sounds are at their notes, if notes were requested."""
        asked = len(self.notes) - self.notes.count(None)
        if not asked:
            return []
        drawn = f"; {several(self.redrawn_off_note, 'other')} drawn again" * bool(
            self.redrawn_off_note
        )
        at_note = f"{asked - self.off_note} of {asked} {self.KIND}s at their note"
        return [
            f"{at_note} within {100 * IN_TUNE:.0f} cents{drawn}",
            *filter(None, [self.tuning.in_words]),
        ]

    def _tuned(self, sound: GeneratedSound) -> Json:
        """Note and pitch of a sound, also in words; empty if no note was requested."""
        if sound.note is None:
            return {}
        heard, offset = "no clear pitch", self.tuning.offset
        if sound.pitch is not None:
            away = sound.pitch - sound.note
            heard = (
                f"{100 * away:+.0f} cents"
                if abs(away) < 1
                else f"heard at {pitch_name(sound.pitch - offset)}"
            )
        return {
            "note": sound.note,
            "pitch": sound.pitch,
            "heard": f"{pitch_name(sound.note - offset)}: {heard}",
        }

    @abstractmethod
    def _own(self, sound: Any) -> Json:
        """Row fields of a sound that only this kind of result has."""

    @abstractmethod
    def _in_words(self, sound: Any) -> list[str | None]:
        """Words on a sound's line after name, length and note."""

    @abstractmethod
    def _together(self) -> Json:
        """Report fields for all sounds together."""

    @abstractmethod
    def _lines(self) -> list[str]:
        """Lines on all sounds together."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Generated(Result):
    """Generated sounds."""

    KIND, REDRAWN = "sound", "old"

    not_new: int = 0  # number of sounds that are still not new enough
    ended_at_once: int = 0  # number of sounds that add nothing to the prompt
    cut_short: str = ""  # sentence on sounds cut at the maximum length, which recordings exceed
    remarks: Sequence[str] = ()  # sentences on how an input was followed or changed
    report: SetReport | None = None  # on all sounds together
    fault_report: FaultReport | None = None  # None if the model has no reference

    @property
    def faults(self) -> list[tuple[Fault, ...] | None]:
        """Faults of each sound; None if the model has no reference."""
        return [sound.faults for sound in self.draws.sounds]

    def _own(self, sound: GeneratedSound) -> Json:
        label = {"label": sound.label} if sound.label else {}
        return {**label, "faults": None if sound.faults is None else list(sound.faults)}

    def _in_words(self, sound: GeneratedSound) -> list[str | None]:
        faulty = f"Faulty: {', '.join(sound.faults)}" if sound.faults else None
        return [sound.label, faulty, _short(sound), sound.likeness and sound.likeness.in_words]

    def _together(self) -> Json:
        return {
            "not_new": self.not_new,
            "ended_at_once": self.ended_at_once,
            **({"cut_short": self.cut_short} if self.cut_short else {}),
            **({"remarks": list(self.remarks)} if self.remarks else {}),
            "summary": self.report and self.report.json(),
            "faults": self.fault_report and self.fault_report.json(),
        }

    def _lines(self) -> list[str]:
        lines: list[str] = []
        if self.redrawn:
            left = f"; {self.not_new} still are not new enough" * bool(self.not_new)
            lines.append(f"{several(self.redrawn, 'sound')} drawn again for lack of novelty{left}")
        if self.ended_at_once:
            ends = "ends" if self.ended_at_once == 1 else "end"
            lines.append(
                f"{self.ended_at_once} of {len(self.seconds)} sounds {ends} where the prompt ends: the model adds nothing to "
                "it; a prompt that stops earlier, or a length in seconds, gives more"
            )
        lines += [self.cut_short] * bool(self.cut_short)
        lines += self.remarks
        if self.report is not None:
            lines += self.report.lines
        if self.fault_report is not None:
            lines += self.fault_report.lines
        elif None in self.novelty:
            lines.append(
                "novelty and faults unknown: the model has no codes of its training recordings"
            )
        return lines


def _short(sound: GeneratedSound) -> str | None:
    """Verdict in a few words, or None if novelty is unknown."""
    return None if sound.novelty is None else sound.novelty.short


@dataclass(frozen=True)
class Similarity:
    """Similarity of a take to the recording that it varies, frame by frame.

    `equal_codes` is the proportion of equal codes and `difference_db` the mean spectral difference, both from the coded
    recording, which itself differs from the recording by `coding_db`. `verdict` compares the take with this recording
    alone; None if the model has no reference.
    """

    equal_codes: float
    difference_db: float
    coding_db: float
    verdict: Verdict | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Take(GeneratedSound):
    """Take of a recording, with its similarity to the recording."""

    similarity: Similarity


def with_similarity(
    context: GenerationContext, drafts: Drafts, recording: Recorded, codes: Codes
) -> Drafts:
    """Make takes of sounds: add their similarity to a recording, whose codes `[F, Q]` may have been transposed."""
    decoded = decode_sounds(context.codec, [recording.codes])[0]
    coding_db = sound_difference(context.codec, recording.samples, decoded)
    takes = [own.codes for own in drafts.sounds]
    alike = similarities(context.codec, context.reference, codes, takes, coding_db)
    drafts.drawn = {
        number: Take(**vars(drafts.drawn[number]), similarity=similarity)
        for number, similarity in enumerate(alike)
    }
    return drafts


def similarities(
    codec: VQVAE,
    reference: Reference | None,
    recording: Codes,
    takes: Sequence[Codes],
    coding_db: float,
) -> list[Similarity]:
    """Similarity of takes to the recording that they vary; all are codes `[F, Q]` of equal length.

    `coding_db` is the spectral difference that coding makes. For verdicts the recording replaces the training
    recordings in `reference`, whose baseline stays.
    """
    spectra, verdicts = CodeSpectra(codec), list[Verdict | None]([None] * len(takes))
    if reference is not None:
        alone = replace(reference, names=["recording"], codes=[recording.astype(np.uint16)])
        verdicts = [novelty.verdict for novelty in NoveltyScorer(alone, codec)(takes)]
    alike = []
    for codes, verdict in zip(takes, verdicts, strict=True):
        difference = mean_difference(spectra(codes), spectra(recording))
        alike.append(Similarity(float((codes == recording).mean()), difference, coding_db, verdict))
    return alike


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Varied(Result):
    """Takes of a recording."""

    KIND, REDRAWN = "take", "equal"

    strength: float
    one_shot_remark: str = ""  # sentence if the model is one-shot, made without training

    @property
    def similarity(self) -> list[Similarity]:
        """Similarity of each take to the recording."""
        takes: list[Any] = self.draws.sounds
        return [take.similarity for take in takes]

    @property
    def equal(self) -> int:
        """Number of takes that still equal the recording or another take."""
        return list(self.draws.left.values()).count("equal")

    def _own(self, sound: Take) -> Json:
        return {"similarity": asdict(sound.similarity)}

    def _in_words(self, sound: Take) -> list[str | None]:
        changed = f"{1 - sound.similarity.equal_codes:.0%} of codes changed"
        return [changed, _short(sound)]

    def _together(self) -> Json:
        about = {"strength": self.strength, "equal": self.equal}
        return {**about, "untrained": self.one_shot_remark} if self.one_shot_remark else about

    def _lines(self) -> list[str]:
        lines = [
            f"the codec is not exact: takes at strength 0 differ from the recording by {coding:.1f} dB, others by more"
            for coding in {one.coding_db for one in self.similarity}
        ]
        if self.equal:
            lines.append(
                f"{several(self.equal, 'take')} the same as the recording or another take; "
                "a higher strength changes more"
            )
        if self.one_shot_remark:
            lines.append(self.one_shot_remark)
        elif None in self.novelty:
            lines.append(UNKNOWN)
        return lines


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Morphed(Result):
    """Steps from one sound to another, or a grid of steps, row by row, with `columns` in a row."""

    KIND, REDRAWN = "step", "equal"

    columns: int

    def _own(self, sound: GeneratedSound) -> Json:  # noqa: ARG002 - a step has no fields of its own
        return {}

    def _in_words(self, sound: GeneratedSound) -> list[str | None]:
        return [_short(sound)]

    def _together(self) -> Json:
        return {"columns": self.columns}

    def _lines(self) -> list[str]:
        return [UNKNOWN] if None in self.novelty else []
