"""Sounds, rejection criteria, and the loop that generates drafts until no criterion applies."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from posixpath import dirname
from typing import NamedTuple

from distill.audio.side_info import UNKNOWN, SideInfo
from distill.codes.store import Codes
from distill.generate.selection.critic import Likeness
from distill.generate.selection.faults import Fault, Samples
from distill.novelty.verdict import VERDICTS, Novelty

NO_REASON = ""  # no rejection criterion applies
MAX_DRAFTS = 20  # of a sound, after which no further round of drafts begins
IN_TUNE = 0.2  # maximum distance from the note in semitones


@dataclass(frozen=True, eq=False)
class GeneratedSound:
    """Generated sound: codes `[F, Q]`, novelty and faults (None if not scored), samples `[N]`, or `[N, 2]` in stereo.

    Before decoding, samples are empty, `seconds` is 0 and `side_info` has the length of the recording that it was taken
    from. Codes begin with the prompt; novelty is measured without it. `note` is the requested note and `pitch` the
    measured pitch, in semitones (MIDI), or None if it is unclear.
    """

    codes: Codes
    novelty: Novelty | None
    faults: tuple[Fault, ...] | None
    samples: Samples
    seconds: float = 0.0
    note: float | None = None
    pitch: float | None = None
    side_info: SideInfo = field(default_factory=lambda: UNKNOWN)
    label: str = ""  # only for a stem of a score
    under_db: float = 0.0  # dB below the requested loudness
    likeness: Likeness | None = None  # None before decoding, or if the model has no critic

    @property
    def verdict(self) -> str:
        """Verdict of novelty; "" where it is not known."""
        return self.novelty.verdict if self.novelty else ""

    @property
    def percentile(self) -> float:
        """Percentile of novelty; 0 where it is not known."""
        return self.novelty.percentile if self.novelty else 0.0

    @property
    def is_at_note(self) -> bool:
        """Whether the pitch is within IN_TUNE of the requested note, or no note was requested."""
        return self.note is None or (
            self.pitch is not None and abs(self.pitch - self.note) <= IN_TUNE
        )


Emit = Callable[[int, GeneratedSound], GeneratedSound]
"""Callback for each finished sound and its number; returns the sound to keep, for example without samples."""


def kept(_: int, sound: GeneratedSound) -> GeneratedSound:
    """Default `Emit`: keep the whole sound."""
    return sound


@dataclass(frozen=True)
class RejectionCriterion:
    """Rejection criterion: if it applies to a draft, the sound is generated again."""

    name: str
    applies: Callable[[GeneratedSound], bool]
    needs_audio: bool = False  # needs samples
    none_left: str = ""  # error if it rejects all first sounds, with {} for the number of drafts; "" for no error


FAULTY = RejectionCriterion("faulty", lambda sound: bool(sound.faults), needs_audio=True)
MISTUNED = RejectionCriterion("mistuned", lambda sound: not sound.is_at_note, needs_audio=True)
COPY = RejectionCriterion("copy", lambda sound: sound.verdict == "copy")


def of_other_label(label: str) -> RejectionCriterion:
    """Reject sounds whose nearest recording has another label."""
    return RejectionCriterion(
        "other label",
        lambda sound: sound.novelty is not None and dirname(sound.novelty.spectra.nearest) != label,
    )


def below_novelty(least: str | float) -> RejectionCriterion:
    """Reject sounds with a verdict worse than `least`, or whose novelty (1 minus percentile) is below a number."""
    if isinstance(least, str):
        rejected = VERDICTS[: VERDICTS.index(least)]
        return RejectionCriterion("old", lambda sound: sound.verdict in rejected)
    return RejectionCriterion("old", lambda sound: not 1 - sound.percentile >= least)


def equal_to(known: set[bytes]) -> RejectionCriterion:
    """Reject sounds whose codes are in `known`, as bytes. It adds the codes of each sound, so it must come last."""

    def is_known(sound: GeneratedSound) -> bool:
        codes = sound.codes.tobytes()
        before = len(known)
        known.add(codes)
        return len(known) == before

    return RejectionCriterion("equal", is_known)


@dataclass
class Drafts:
    """Generated sounds by number, counts of rejected drafts by reason, and the reasons of sounds still rejected."""

    drawn: dict[int, GeneratedSound] = field(default_factory=dict)  # in the order of generation
    redrawn: Counter[str] = field(default_factory=Counter)
    left: dict[int, str] = field(default_factory=dict)

    @property
    def sounds(self) -> list[GeneratedSound]:
        """All sounds, sorted by number."""
        return [self.drawn[number] for number in sorted(self.drawn)]

    @property
    def accepted(self) -> list[GeneratedSound]:
        """Sounds that are not rejected, in the order of generation."""
        return [sound for number, sound in self.drawn.items() if number not in self.left]

    @property
    def refused(self) -> Counter[str]:
        """Number of rejected drafts by reason, including those that stayed."""
        return self.redrawn + Counter(self.left.values())

    def deliver(self, number: int, sound: GeneratedSound, emit: Emit) -> None:
        """Emit a finished sound and store the result."""
        self.drawn[number] = emit(number, sound)

    def add(self, others: "Drafts") -> None:
        """Add sounds with other numbers."""
        self.drawn.update(others.drawn)
        self.redrawn.update(others.redrawn)
        self.left.update(others.left)


class DraftKey(NamedTuple):
    """Draft of the sound with this number; attempts count from 0."""

    number: int
    attempt: int


@dataclass(frozen=True)
class Choice:
    """Choice among drafts of a sound: `order` ranks them, given the sound's number; the first accepted draft is kept.

    A draft that an `avoided` criterion rejects is kept only if there is no other; later criteria are milder.
    """

    drafts: int
    order: Callable[[int, Sequence[GeneratedSound]], Sequence[GeneratedSound]]
    avoided: Sequence[RejectionCriterion] = ()


ONLY = Choice(1, lambda _, drafts: drafts)


def generate_until_accepted(
    numbers: Sequence[int],
    draw: Callable[[Sequence[DraftKey]], Sequence[GeneratedSound]],
    judged: Callable[[GeneratedSound], GeneratedSound],
    criteria: Sequence[RejectionCriterion],
    choice: Choice = ONLY,
) -> Drafts:
    """Generate drafts of each sound, `choice.drafts` a round, until one is accepted or at least MAX_DRAFTS are rejected.

    `judged` scores each draft only when its turn comes. The first of `criteria` that applies is the reason.
    """
    drafts, mildest = Drafts(), [NO_REASON, *(each.name for each in reversed(choice.avoided))]
    for first in range(0, MAX_DRAFTS, choice.drafts):
        attempts = range(first, first + choice.drafts)
        drafts.redrawn.update(drafts.left.values())
        drafts.left = {}
        drawn = iter(
            draw([DraftKey(number, attempt) for number in numbers for attempt in attempts])
        )
        for number in numbers:
            accepted: dict[str, GeneratedSound] = {}  # by the reason to avoid it
            rejected: list[str] = []
            for sound in map(judged, choice.order(number, [next(drawn) for _ in attempts])):
                if reason := _reason(criteria, sound):
                    rejected.append(reason)
                else:
                    accepted.setdefault(_reason(choice.avoided, sound), sound)
                if NO_REASON in accepted:
                    break
            best = [accepted[reason] for reason in mildest if reason in accepted]
            drafts.drawn.pop(number, None)  # moves the sound to the end
            drafts.drawn[number] = [*best, sound][0]
            if not accepted:
                drafts.left[number] = rejected.pop()
            drafts.redrawn.update(rejected)
        numbers = list(drafts.left)
        if not numbers:
            break
    return drafts


def _reason(criteria: Sequence[RejectionCriterion], sound: GeneratedSound) -> str:
    """Name of the first criterion that applies to a sound, or NO_REASON."""
    return next((criterion.name for criterion in criteria if criterion.applies(sound)), NO_REASON)
