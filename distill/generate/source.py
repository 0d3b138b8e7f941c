"""Sources of sounds: what a model file holds, or a model of a single recording, with what judges and tunes its sounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from posixpath import dirname

import numpy as np
import torch
from numpy.typing import NDArray

from distill.audio.side_info import UNKNOWN, SideInfo
from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.errors import ArtifactError, ParamsError
from distill.generate.faults import FaultFinder, Samples
from distill.generate.motion import Motions
from distill.generate.refusals import ONLY, Choice, of_other_label
from distill.generate.selection.choice import by_odds
from distill.generate.selection.critic import Critic, Likeness
from distill.generate.selection.traits import TraitMeter
from distill.generate.tuner import Tuner
from distill.notes import note_name
from distill.novelty.reference import Reference, evenly
from distill.novelty.verdict import Judge, Novelty
from distill.prior.base import Prior
from distill.prior.courses import MOST_COURSES
from distill.text import one_line, positions_of

TRAINED_STRENGTH = 0.3  # of takes, of a model that learnt more than the recording


@dataclass(frozen=True, eq=False)
class Recorded:
    """A recording to make takes of, or to continue: samples `[N]`, codes `[F, Q]`, and side information.

    `sample_rate` is that of its file, in Hz.
    """

    samples: NDArray[np.float32]
    codes: Codes
    side_info: SideInfo = field(default_factory=lambda: UNKNOWN)
    sample_rate: int = 0


@dataclass(frozen=True, eq=False)
class Source:
    """Codec and prior that sounds are drawn with, and the codes of the recordings that judge them, if they are known.

    `path` is that of the file. `single` is the recording that it was made of without training, if it was, and
    `untrained` the sentence that says so. `strength` is that of takes for which none is given.
    """

    codec: VQVAE
    prior: Prior
    reference: Reference | None = None
    labels: Sequence[str] = ()
    path: Path = Path("model")
    sha256: str = ""  # of the model file's weights
    strength: float = TRAINED_STRENGTH
    single: Recorded | None = None
    untrained: str = ""
    critic: Critic | None = None  # None where the model learnt few recordings

    @cached_property
    def judge(self) -> Judge | None:
        """Judge of novelty against the training recordings; None without a reference."""
        return None if self.reference is None else Judge(self.reference, self.codec)

    @cached_property
    def finder(self) -> FaultFinder | None:
        """Finder of faults, with limits from the training recordings; None without a reference."""
        return None if self.reference is None else FaultFinder(self.reference, self.codec)

    @cached_property
    def _traits(self) -> TraitMeter:
        return TraitMeter(self.codec.spectrogram.sample_rate)

    def likeness(self, sounds: Sequence[Samples]) -> Sequence[Likeness | None]:
        """How like the recordings each of some sounds `[N]` is, None without a critic."""
        if self.critic is None:
            return [None] * len(sounds)
        return self.critic(np.stack([*map(self._traits, sounds)]))

    def needed_reference(self, remedy: str = "") -> Reference:
        """Return the reference. Raises ArtifactError, which ends with a remedy, where the file has none."""
        if self.reference is None:
            raise ArtifactError(
                f"{self.path}: expected a model with the codes of its training recordings, to judge sounds by, found one "
                f"made without (bundle.reference: false){remedy}"
            )
        return self.reference

    def check_drafts(self, drafts: int | None) -> None:
        """Refuse several drafts of a sound where nothing chooses among them. Raises ParamsError."""
        if self.critic is None and (drafts or 1) > 1:
            raise ParamsError(
                f"drafts {drafts}: expected a model that learnt enough recordings to choose among drafts, some 10, found "
                f"{self.path.name}, which has no critic; leave drafts out"
            )

    def choice(self, drafts: int, seed_of: Callable[[int], int], label: int) -> Choice:
        """The choice among so many drafts of each sound with a label, 0 for none, with a seed for each number.

        Without a critic there is one draft.
        """
        others = [of_other_label(name) for name in self.labels[label - 1 : label]]
        return ONLY if self.critic is None or drafts == 1 else by_odds(drafts, seed_of, others)

    @cached_property
    def tuner(self) -> Tuner:
        """What brings sounds to notes."""
        return Tuner(self.codec, self.prior, self._recordings)

    @cached_property
    def motions(self) -> Motions | None:
        """How the recordings move that the prior has courses of; None where their codes are not known."""
        if self.prior.courses is None or not self._recordings:
            return None
        codes, frames = evenly(list(self._recordings.values()), MOST_COURSES), self.prior.courses.frames
        # A course may be longer: the end of its recording is held out.
        are_these = len(codes) == len(frames) and all(len(own) <= long for own, long in zip(codes, frames, strict=True))
        labels = list(map(int, self.prior.courses.labels.tolist()))
        return Motions(self.codec, codes, labels) if are_these else None

    @property
    def sample_rate(self) -> int:
        """Sample rate of its sounds, where no other is wanted: of a single recording its own, else the codec's."""
        return self.codec.spectrogram.sample_rate if self.single is None else self.single.sample_rate

    @cached_property
    def is_stereo(self) -> bool:
        """Whether some of the recordings that it was made of are stereo, so that recordings are read as stereo."""
        side_info = [] if self.reference is None else self.reference.side_info
        return any(about.is_stereo for about in side_info) or (
            self.single is not None and self.single.side_info.is_stereo
        )

    def side_info_like(self, followed: int | None, novelty: Novelty | None) -> SideInfo:
        """The side information of a new sound: that of the recording of `motions` that it moves as, else of the nearest to it."""
        if self.reference is None:
            return UNKNOWN
        if followed is not None:
            return evenly(self.reference.side_info, MOST_COURSES)[followed]
        return UNKNOWN if novelty is None else self.reference.side_info_of(novelty.nearest.nearest)

    @property
    def _recordings(self) -> Mapping[str, NDArray[np.integer]]:
        """Codes `[F, Q]` of the recordings that it was made of, by path; none where they are not known."""
        if self.single is not None:
            return {self.path.name: self.single.codes}
        return {} if self.reference is None else dict(zip(self.reference.names, self.reference.codes, strict=True))

    def labelled(self, number: int) -> list[NDArray[np.integer]]:
        """Codes `[F, Q]` of the recordings with a label, from 1 on."""
        label = self.labels[number - 1]
        return [codes for path, codes in self._recordings.items() if dirname(path) == label]

    def transposed(self, recorded: Recorded, semitones: float, note: float | None) -> tuple[Codes, list[float]]:
        """Codes `[F, Q]` of a recording that is moved by semitones, or to a pitch, and its pitch then, if it has a clear one.

        Raises ParamsError for a recording without tones, or without a clear pitch to bring to a note.
        """
        codes, pitch = torch.from_numpy(recorded.codes), self.tuner.measure(recorded.samples)
        if note is not None:
            if pitch is None:
                raise ParamsError(
                    f"note {note_name(round(note))}: expected a recording with a clear pitch, found none; transpose it by "
                    "a number of semitones"
                )
            semitones = note - pitch
        if not self.codec.pitches(codes).isfinite().any():
            raise ParamsError("transpose: expected a recording with tones, found none; leave transpose out")
        moved: Codes = self.codec.transposed(codes, semitones).numpy()
        return moved, [] if pitch is None else [pitch + semitones]

    def label_number(self, label: str | None) -> int:
        """Index of a label, from 1 on, 0 for none; the last part of a label is enough where that is unique.

        Accents may be written in any way of Unicode. Case counts where labels differ in it alone. Raises ParamsError
        that lists the labels.
        """
        if label is None:
            return 0
        if not self.labels:
            raise ParamsError(
                f"label {label}: expected a model trained with labels, found one without; train with --labels folder "
                "(corpus.labels: folder)"
            )
        ends = [name.split("/")[-1] for name in self.labels]
        positions = positions_of(label, self.labels, ends)
        if len(positions) == 1:
            return positions[0] + 1
        none = "none of them (a folder is none if all in it was rejected, held out or a copy)"
        fitting = "one that fits several" if positions else none
        known = one_line(", ".join(self.labels), 1000)
        raise ParamsError(f"label {label}: expected one of {known}; found {fitting}")
