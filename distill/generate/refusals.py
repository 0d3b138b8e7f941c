"""Sounds, the reasons to draw one again, as objects in a list, and the loop that draws until none applies."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from posixpath import dirname
from typing import NamedTuple

from distill.audio.side_info import UNKNOWN, SideInfo
from distill.codes.store import Codes
from distill.generate.faults import Fault, Samples
from distill.generate.selection.critic import Likeness
from distill.novelty.verdict import VERDICTS, Novelty

NO_REASON = ""  # to refuse a sound
MOST_DRAWS = 20  # attempts at a sound
IN_TUNE = 0.2  # semitones from the note, at most


@dataclass(frozen=True, eq=False)
class Sound:
    """A sound: codes `[F, Q]`, novelty and faults, None where they are not judged, and samples `[N]`, or `[N, 2]` in stereo.

    Until it is decoded, as it is for refusals that hear, samples are empty, seconds 0, and its side information is all of that of
    the recording that it is like. The codes begin with those of a prompt; the novelty is that of the rest. A sound at a
    note has the note that was asked for and the pitch that was measured, in semitones (MIDI), None where it is not clear.
    """

    codes: Codes
    novelty: Novelty | None
    faults: tuple[Fault, ...] | None
    samples: Samples
    seconds: float = 0.0
    note: float | None = None
    pitch: float | None = None
    side_info: SideInfo = field(default_factory=lambda: UNKNOWN)
    label: str = ""  # of a stem of a score
    under_db: float = 0.0  # dB below the loudness that was asked for
    likeness: Likeness | None = None  # None before it is decoded, and where the model has no critic

    @property
    def is_at_note(self) -> bool:
        """Whether it has no note that it should be at, or is at it."""
        return self.note is None or (self.pitch is not None and abs(self.pitch - self.note) <= IN_TUNE)


Emit = Callable[[int, Sound], Sound]
"""What gets each sound with its number as soon as it is ready, and gives back what is kept of it."""


def kept(_: int, sound: Sound) -> Sound:
    """Keep all of a sound."""
    return sound


@dataclass(frozen=True)
class Refusal:
    """A reason to draw a sound again."""

    name: str
    applies: Callable[[Sound], bool]
    hears: bool = False  # whether it needs samples
    remedy: str = ""  # where no sound of the first batch is without it, generation ends; "": it never does


FAULTY = Refusal("faulty", lambda sound: bool(sound.faults), hears=True)
MISTUNED = Refusal("mistuned", lambda sound: not sound.is_at_note, hears=True)
COPY = Refusal("copy", lambda sound: sound.novelty is not None and sound.novelty.verdict == "copy")


def of_other_label(label: str) -> Refusal:
    """Refuse sounds whose nearest recording has another label."""
    return Refusal(
        "other label", lambda sound: sound.novelty is not None and dirname(sound.novelty.spectra.nearest) != label
    )


def too_old(least: str | float) -> Refusal:
    """Refuse sounds that are less new than a verdict, or than a number from 0 to 1."""
    if isinstance(least, str):
        refused = VERDICTS[: VERDICTS.index(least)]
        return Refusal("old", lambda sound: sound.novelty is not None and sound.novelty.verdict in refused)
    return Refusal("old", lambda sound: sound.novelty is not None and not 1 - sound.novelty.percentile >= least)


def equal_to(known: set[bytes]) -> Refusal:
    """Refuse sounds whose codes are known, as bytes, or those of a sound that was not refused before: the last reason."""

    def is_known(sound: Sound) -> bool:
        codes = sound.codes.tobytes()
        before = len(known)
        known.add(codes)
        return len(known) == before

    return Refusal("equal", is_known)


@dataclass
class Draws:
    """Sounds by number; why others were drawn again, and why some are still refused."""

    drawn: dict[int, Sound] = field(default_factory=dict)  # in the order in which they were drawn
    redrawn: Counter[str] = field(default_factory=Counter)
    left: dict[int, str] = field(default_factory=dict)

    @property
    def sounds(self) -> list[Sound]:
        """All sounds, by number."""
        return [self.drawn[number] for number in sorted(self.drawn)]

    @property
    def accepted(self) -> list[Sound]:
        """The sounds that are not refused, in the order in which they were drawn."""
        return [sound for number, sound in self.drawn.items() if number not in self.left]

    @property
    def refused(self) -> Counter[str]:
        """Numbers of draws that were refused, the last ones included, by reason."""
        return self.redrawn + Counter(self.left.values())

    def hand_over(self, number: int, sound: Sound, emit: Emit) -> None:
        """Set a sound that is ready to what `emit` leaves of it."""
        self.drawn[number] = emit(number, sound)

    def add(self, others: "Draws") -> None:
        """Add those of other numbers."""
        self.drawn.update(others.drawn)
        self.redrawn.update(others.redrawn)
        self.left.update(others.left)


class Draft(NamedTuple):
    """A draw of the sound of a number: the first one has attempt 0."""

    number: int
    attempt: int


@dataclass(frozen=True)
class Choice:
    """Each sound has several drafts, which are looked at in the `order` that its number and they give until one is taken.

    What one of `avoided` applies to is taken where there is no other, and rather with a later one of these.
    """

    drafts: int
    order: Callable[[int, Sequence[Sound]], Sequence[Sound]]
    avoided: Sequence[Refusal] = ()


ONLY = Choice(1, lambda _, drafts: drafts)


def draw_again(
    numbers: Sequence[int],
    draw: Callable[[Sequence[Draft]], Sequence[Sound]],
    judged: Callable[[Sound], Sound],
    refusals: Sequence[Refusal],
    choice: Choice = ONLY,
) -> Draws:
    """Draw sounds, of some drafts each; those whose drafts are all refused again, of at most MOST_DRAWS drafts in all.

    Drafts are `judged` as they are looked at. The first of `refusals` that applies counts.
    """
    draws = Draws()
    for first in range(0, MOST_DRAWS, choice.drafts):
        attempts = range(first, first + choice.drafts)
        draws.redrawn.update(draws.left.values())
        drawn = iter(draw([Draft(number, attempt) for number in numbers for attempt in attempts]))
        draws.left = {}
        for number in numbers:
            accepted: dict[str, Sound] = {}  # the first draft without a refusal, by the first reason to avoid it
            refused: list[str] = []
            for sound in map(judged, choice.order(number, [next(drawn) for _ in attempts])):
                if reason := _reason(refusals, sound):
                    refused.append(reason)
                else:
                    accepted.setdefault(_reason(choice.avoided, sound), sound)
                if NO_REASON in accepted:
                    break
            draws.drawn.pop(number, None)  # so that it goes to the end
            mildest = [NO_REASON, *(each.name for each in reversed(choice.avoided))]
            draws.drawn[number] = next((accepted[reason] for reason in mildest if reason in accepted), sound)
            if not accepted:
                draws.left[number] = refused.pop()
            draws.redrawn.update(refused)
        numbers = list(draws.left)
        if not numbers:
            break
    return draws


def _reason(refusals: Sequence[Refusal], sound: Sound) -> str:
    """The name of the first refusal that applies to a sound."""
    return next((refusal.name for refusal in refusals if refusal.applies(sound)), NO_REASON)
