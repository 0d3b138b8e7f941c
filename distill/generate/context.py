"""Generation context: codec and prior of a model file, or of one recording, with novelty scorer, critic and tuner."""

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
from distill.generate.sampling.motion import Motions
from distill.generate.sampling.tuner import Tuner
from distill.generate.selection.choice import by_odds
from distill.generate.selection.critic import Critic, Likeness
from distill.generate.selection.faults import Fault, FaultFinder, Samples
from distill.generate.selection.rejection import ONLY, Choice, of_other_label
from distill.generate.selection.traits import TraitMeter
from distill.notes import note_name
from distill.novelty.reference import Reference, evenly
from distill.novelty.verdict import Novelty, NoveltyScorer
from distill.prior.base import Prior
from distill.prior.courses import MOST_COURSES
from distill.text import one_line, positions_of

TRAINED_STRENGTH = 0.3  # default strength of takes from a trained model


@dataclass(frozen=True, eq=False)
class Recorded:
    """Recording to vary or continue: samples `[N]`, codes `[F, Q]`, side information, and its file's rate in Hz."""

    samples: NDArray[np.float32]
    codes: Codes
    side_info: SideInfo = field(default_factory=lambda: UNKNOWN)
    sample_rate: int = 0


@dataclass(frozen=True, eq=False)
class GenerationContext:
    """Codec and prior for generation, and the reference of training recordings for scoring, if known.

    `path` is the model file. A one-shot model, made from one recording without training, has that recording in `single`
    and a sentence about it in `one_shot_remark`. `strength` is the default strength of takes.
    """

    codec: VQVAE
    prior: Prior
    reference: Reference | None = None
    labels: Sequence[str] = ()
    path: Path = Path("model")
    sha256: str = ""  # hash of the model file's weights
    strength: float = TRAINED_STRENGTH
    single: Recorded | None = None
    one_shot_remark: str = ""
    critic: Critic | None = None  # None if the model has few training recordings

    @cached_property
    def scorer(self) -> NoveltyScorer | None:
        """Novelty scorer against the training recordings; None without a reference."""
        return None if self.reference is None else NoveltyScorer(self.reference, self.codec)

    @cached_property
    def finder(self) -> FaultFinder | None:
        """Finder of faults, with limits from the training recordings; None without a reference."""
        return None if self.reference is None else FaultFinder(self.reference, self.codec)

    @cached_property
    def _traits(self) -> TraitMeter:
        return TraitMeter(self.codec.spectrogram.sample_rate)

    def likeness(self, sounds: Sequence[Samples]) -> Sequence[Likeness | None]:
        """Likeness to the recordings of each sound `[N]`, or None without a critic."""
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

    def novelty(self, sounds: Sequence[Codes]) -> Sequence[Novelty | None]:
        """Return the novelty of sounds, given their codes `[F, Q]`; None for each without a reference."""
        return [None] * len(sounds) if self.scorer is None else self.scorer(sounds)

    def faults(
        self, sounds: Sequence[Codes], samples: Sequence[Samples], kinds: Sequence[Fault]
    ) -> Sequence[tuple[Fault, ...] | None]:
        """Return the faults of sounds among `kinds`, given codes `[F, Q]` and samples `[N]`; None for each without a reference."""
        return [None] * len(sounds) if self.finder is None else self.finder(sounds, samples, kinds)

    def check_drafts(self, drafts: int | None) -> None:
        """Raise ParamsError for several drafts of a sound if there is no critic to choose among them."""
        if self.critic is None and (drafts or 1) > 1:
            raise ParamsError(
                f"drafts {drafts}: expected a model that learnt enough recordings to choose among drafts, some 10, found "
                f"{self.path.name}, which has no critic; leave drafts out"
            )

    def choice(self, drafts: int, seed_of: Callable[[int], int], label: int) -> Choice:
        """Choice among `drafts` of each sound with a label, 0 for none; `seed_of` gives a seed for a sound's number.

        Without a critic each sound has one draft.
        """
        others = [of_other_label(name) for name in self.labels[label - 1 : label]]
        return ONLY if self.critic is None or drafts == 1 else by_odds(drafts, seed_of, others)

    @cached_property
    def tuner(self) -> Tuner:
        """Tuner with the notes of the recordings."""
        return Tuner(self.codec, self.prior, self._recordings)

    @cached_property
    def motions(self) -> Motions | None:
        """Motion of the recordings of the prior's loudness contours; None if their codes are not known."""
        if self.prior.courses is None or not self._recordings:
            return None
        codes, frames = (
            evenly(list(self._recordings.values()), MOST_COURSES),
            self.prior.courses.frames,
        )
        # A contour may be longer than the codes, because the recording's end is held out.
        are_these = len(codes) == len(frames) and all(
            len(own) <= long for own, long in zip(codes, frames, strict=True)
        )
        labels = list(map(int, self.prior.courses.labels.tolist()))
        return Motions(self.codec, codes, labels) if are_these else None

    @property
    def sample_rate(self) -> int:
        """Default sample rate of sounds: the single recording's for a one-shot model, else the codec's."""
        return (
            self.codec.spectrogram.sample_rate if self.single is None else self.single.sample_rate
        )

    @cached_property
    def is_stereo(self) -> bool:
        """Whether any of the model's recordings is stereo, so that input recordings are read as stereo."""
        side_info = [] if self.reference is None else self.reference.side_info
        return any(about.is_stereo for about in side_info) or (
            self.single is not None and self.single.side_info.is_stereo
        )

    def side_info_like(self, followed: int | None, novelty: Novelty | None) -> SideInfo:
        """Side information for a new sound: from the recording whose motion it `followed`, else from the nearest."""
        if self.reference is None:
            return UNKNOWN
        if followed is not None:
            return evenly(self.reference.side_info, MOST_COURSES)[followed]
        return UNKNOWN if novelty is None else self.reference.side_info_of(novelty.nearest.nearest)

    @property
    def _recordings(self) -> Mapping[str, NDArray[np.integer]]:
        """Codes `[F, Q]` of the model's recordings by path; empty if not known."""
        if self.single is not None:
            return {self.path.name: self.single.codes}
        return (
            {}
            if self.reference is None
            else dict(zip(self.reference.names, self.reference.codes, strict=True))
        )

    def labelled(self, number: int) -> list[NDArray[np.integer]]:
        """Codes `[F, Q]` of the recordings with a label; labels count from 1."""
        label = self.labels[number - 1]
        return [codes for path, codes in self._recordings.items() if dirname(path) == label]

    def transposed(
        self, recorded: Recorded, semitones: float, note: float | None
    ) -> tuple[Codes, list[float]]:
        """Codes `[F, Q]` of a recording transposed by `semitones`, or to `note`, and its new pitch in a list.

        The list is empty if the pitch is unclear. Raises ParamsError if the recording has no tones, or if `note` is
        given and the pitch is unclear.
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
            raise ParamsError(
                "transpose: expected a recording with tones, found none; leave transpose out"
            )
        moved: Codes = self.codec.transposed(codes, semitones).numpy()
        return moved, [] if pitch is None else [pitch + semitones]

    def label_number(self, label: str | None) -> int:
        """Index of a label, from 1 on, 0 for none; the last part of a label is enough if it is unique.

        Unicode forms of accents are equivalent, and case matters only if labels differ by case alone. Raises
        ParamsError with a list of the labels.
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
