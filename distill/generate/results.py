"""What a model made: the results of `Model.generate` and `Model.vary`, with their tables, JSON and lines of text."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.generate.faults import Fault, FaultReport
from distill.generate.sounds import IN_TUNE
from distill.notes import pitch_name
from distill.novelty.reference import Reference
from distill.novelty.report import SetReport
from distill.novelty.spectra import CodeSpectra
from distill.novelty.verdict import Judge, Novelty, Verdict, explain

if TYPE_CHECKING:
    import pandas as pd

Json = dict[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Result(ABC):
    """Sounds: samples `[N]` in [-1, 1], lengths, codes `[F, Q]`, novelty, and their seed."""

    KIND: ClassVar[str]  # what one sound is called

    sounds: list[NDArray[np.float32]]  # empty where `take` was given
    seconds: list[float]
    codes: list[Codes]
    novelty: list[Novelty | None]  # against the training recordings; None where the model has no reference
    sample_rate: int  # Hz
    seed: int
    notes: list[float | None]  # asked for, in semitones (MIDI)
    pitches: list[float | None]  # that were measured, where notes were asked for; None where there is no clear one
    redrawn: int = 0  # number of redraws for lack of novelty, of takes for equality
    redrawn_off_note: int = 0  # number of redraws of sounds that were not at their note
    off_note: int = 0  # number of sounds that still are not

    def table(self) -> "pd.DataFrame":
        """A row a sound: `seconds`, `frames` and, where known, what it was judged by, named as in `--json`."""
        import pandas as pd

        rows = []
        judged = zip(self.seconds, self.codes, self.novelty, self._tuned(), self._each(), strict=True)
        for seconds, codes, novelty, (tuned, _), (own, _) in judged:
            rows.append(
                {"seconds": seconds, "frames": len(codes), **tuned, **own, **(novelty.json() if novelty else {})}
            )
        return pd.json_normalize(rows).dropna(axis=1, how="all").rename_axis(self.KIND)

    def json(self, paths: Sequence[Path]) -> Json:
        """What `--json` prints of sounds in files of these names."""
        rows: list[Json] = []
        each = zip(paths, self.seconds, self.novelty, self._tuned(), self._each(), strict=True)
        for path, seconds, novelty, (tuned, _), (own, _) in each:
            judged = {"novelty": novelty and novelty.json(), "explanation": novelty and explain(novelty)}
            rows.append({"file": str(path), "seconds": seconds, **tuned, **judged, **own})
        shared: Json = {"seed": self.seed, "sample_rate": self.sample_rate, "redrawn": self.redrawn}
        if tuning := self._tuning():
            shared["tuning"] = tuning
        return {**shared, f"{self.KIND}s": rows, **self._together()[0]}

    def lines(self, paths: Sequence[Path]) -> list[str]:
        """A line a sound, in files of these names, then lines on all of them."""
        each = zip(paths, self.seconds, self._tuned(), self._each(), strict=True)
        sounds = [f"{path}  {seconds:.2f} s{tuned}{text}" for path, seconds, (_, tuned), (_, text) in each]
        return [*sounds, *(self._tuning() or {"in_words": []})["in_words"], *self._together()[1], f"seed {self.seed}"]

    def _tuned(self) -> Iterator[tuple[Json, str]]:
        """Note and pitch of each as fields, and what follows its length on its line; nothing where none was asked for."""
        for note, pitch in zip(self.notes, self.pitches, strict=True):
            if note is None:
                yield {}, ""
            else:
                heard = f"{pitch_name(note)}: {_heard(note, pitch)}"
                yield {"note": note, "pitch": pitch, "heard": heard}, f"  {heard}"

    def _tuning(self) -> Json | None:
        """How many sounds are at their notes, where these were asked for."""
        if not (asked := len(self.notes) - self.notes.count(None)):
            return None
        again = self.redrawn_off_note
        drawn = f"; {again} other{'s' * (again != 1)} drawn again" if again else ""
        said = f"{asked - self.off_note} of {asked} {self.KIND}s at their note within {100 * IN_TUNE:.0f} cents{drawn}"
        return {"redrawn": self.redrawn_off_note, "off_note": self.off_note, "in_words": [said]}

    @abstractmethod
    def _each(self) -> Iterator[tuple[Json, str]]:
        """What only such sounds have: fields of each, and what follows its name and length on its line."""

    @abstractmethod
    def _together(self) -> tuple[Json, list[str]]:
        """Fields and lines on all sounds."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Generated(Result):
    """Generated sounds: samples `[N]` in [-1, 1], lengths, codes `[F, Q]`, novelty, faults, and their seed."""

    KIND = "sound"

    faults: list[tuple[Fault, ...] | None]  # None where the model has no reference
    not_new: int = 0  # number of sounds that are still not new enough
    ended_at_once: int = 0  # number of sounds to which nothing was added after the prompt
    report: SetReport | None = None  # on all sounds together
    fault_report: FaultReport | None = None  # None where the model has no reference

    def _each(self) -> Iterator[tuple[Json, str]]:
        for novelty, faults in zip(self.novelty, self.faults, strict=True):
            judged = "" if novelty is None else f"  {explain(novelty)}"
            faulty = f"  Faulty: {', '.join(faults)}" if faults else ""
            yield {"faults": None if faults is None else list(faults)}, judged + faulty

    def _together(self) -> tuple[Json, list[str]]:
        lines: list[str] = []
        if self.redrawn:
            left = f"; {self.not_new} still are not new enough" if self.not_new else ""
            lines.append(f"{self.redrawn} sound{'s' * (self.redrawn != 1)} drawn again for lack of novelty{left}")
        if self.ended_at_once:
            ends = "ends" if self.ended_at_once == 1 else "end"
            lines.append(
                f"{self.ended_at_once} of {len(self.seconds)} sounds {ends} where the prompt ends: the model adds nothing to "
                "it; a prompt that stops earlier, or a length in seconds, gives more"
            )
        if self.report is not None:
            lines += self.report.lines
        unknown = ["novelty and faults unknown: the model has no codes of its training recordings"]
        lines += unknown if self.fault_report is None else self.fault_report.lines
        faults = self.fault_report and self.fault_report.json()
        counts = {"not_new": self.not_new, "ended_at_once": self.ended_at_once}
        return {**counts, "summary": self.report and self.report.json(), "faults": faults}, lines


def _heard(note: float, pitch: float | None) -> str:
    """What was measured of a sound that should be at a note."""
    if pitch is None:
        return "no clear pitch"
    return f"{100 * (pitch - note):+.0f} cents" if abs(pitch - note) < 1 else f"heard at {pitch_name(pitch)}"


@dataclass(frozen=True)
class Similarity:
    """Similarity of a take to the recording that it varies, frame by frame.

    `equal_codes` is the share of equal codes, `difference_db` the mean spectral difference. `verdict` is that of a take
    compared with this recording alone; None where the model has no reference.
    """

    equal_codes: float
    difference_db: float
    verdict: Verdict | None


def similarities(
    codec: VQVAE, reference: Reference | None, recording: Codes, takes: Sequence[Codes]
) -> list[Similarity]:
    """Similarity of takes to the recording that they vary; all are codes `[F, Q]` of one length.

    For the verdict the recording stands in for the training recordings of `reference`, and is judged by its baseline.
    """
    spectra, verdicts = CodeSpectra(codec), list[Verdict | None]([None] * len(takes))
    if reference is not None:
        alone = replace(reference, names=["recording"], codes=[recording.astype(np.uint16)])
        verdicts = [novelty.verdict for novelty in Judge(alone, codec)(takes)]
    found = []
    for codes, verdict in zip(takes, verdicts, strict=True):
        difference = np.square(spectra(codes) - spectra(recording), dtype=np.float64).mean(axis=1)
        found.append(Similarity(float((codes == recording).mean()), float(np.sqrt(difference).mean()), verdict))
    return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Varied(Result):
    """Takes of a recording: samples `[N]` in [-1, 1], lengths, codes `[F, Q]`, novelty, similarity to it, and their seed."""

    KIND = "take"

    similarity: list[Similarity]  # to the recording itself
    strength: float
    transposed: bool = False  # which the recording that they are compared with is, too
    equal: int = 0  # number of takes that are still equal to another
    untrained: str = ""  # sentence of a model that nothing was trained for

    def _each(self) -> Iterator[tuple[Json, str]]:
        for one, novelty in zip(self.similarity, self.novelty, strict=True):
            is_itself = self.transposed and not self.strength
            verdict = "" if one.verdict is None or is_itself else f"{one.verdict}: "
            alike = f"{verdict}{one.equal_codes:.0%} of codes equal, {one.difference_db:.1f} dB"
            own = f"  beside the {'transposed ' * self.transposed}recording {alike}"
            among = "" if novelty is None else f"; among the training recordings: {explain(novelty)}"
            yield {"similarity": asdict(one)}, own + among

    def _together(self) -> tuple[Json, list[str]]:
        lines = []
        if self.equal:
            lines.append(
                f"{self.equal} take{'s' * (self.equal != 1)} the same as the recording or another take; "
                "a higher strength changes more"
            )
        if self.untrained:
            lines.append(self.untrained)
        elif None in self.novelty:
            lines.append("novelty unknown: the model has no codes of its training recordings")
        about = {"untrained": self.untrained} if self.untrained else {}
        return {"strength": self.strength, "equal": self.equal, **about}, lines
