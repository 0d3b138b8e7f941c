"""Generate the sounds of a kit on keys: one generated sound for each label or cluster and layer, and takes of it."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.errors import ParamsError
from distill.generate.context import GenerationContext, Recorded
from distill.generate.requests.generation import (
    GenerationRequest,
    Seeds,
    frames_for_seconds,
    generate_sounds,
)
from distill.generate.requests.take import TakeRequest
from distill.generate.sampling.processors import Sampling
from distill.generate.selection.choice import DRAFTS
from distill.generate.selection.rejection import (
    COPY,
    MISTUNED,
    GeneratedSound,
    RejectionCriterion,
    equal_to,
)
from distill.generate.settings import default_guidance
from distill.kit.clusters import MAX_CLUSTERS, distances, spectral_clusters, spectral_shapes
from distill.kit.keys import Place, assign_keys, read_keys
from distill.kit.settings import KitSettings
from distill.notes import CONCERT, Tuning
from distill.novelty.spectra import CodeSpectra
from distill.seeds import Stream, derive_seed
from distill.text import one_line

POOL = 2  # drafts to choose from, for each layer or take


class KeySounds(NamedTuple):
    """Sounds of a key, the number of missing sounds, and the numbers of rejected drafts by reason."""

    sounds: list[GeneratedSound]
    missing: int
    refused: Counter[str]


class Group(NamedTuple):
    """Sounds on a key, with their label; for an instrument at notes the lowest and highest key that plays them."""

    label: str
    place: Place
    generated: KeySounds
    keys: tuple[int, ...] = ()


class Step(NamedTuple):
    """Step of a kit's progress: the number of sounds before it and of the whole kit, and a title."""

    before: int
    total: int
    title: str


class KitGenerator(ABC):
    """Generates the sounds of a kit, counts rejected drafts, and reports progress."""

    remedy = "allow copies, or use another seed or temperature"  # if no sound is usable

    def __init__(
        self, context: GenerationContext, settings: KitSettings, labels: Mapping[int, str]
    ) -> None:
        """`labels` are the labels of the kit by number; 0 stands for the whole model. Raises ParamsError."""
        self.context, self.settings, self.labels = context, settings, labels
        self.refused = Counter[str]()
        self.rate = context.codec.spectrogram.sample_rate
        self.tuning: Tuning = CONCERT
        numbers = {context.label_number(label): key for label, key in settings.keys.items()}
        self.keys = read_keys({context.labels[number - 1]: key for number, key in numbers.items()})
        self._spectra = CodeSpectra(context.codec)

    @abstractmethod
    def instruments(self) -> Iterator[list[Group]]:
        """Groups of each instrument: sounds that are finished together."""

    @property
    def layers(self) -> int:
        """Number of velocity layers of a complete key."""
        return min(self.settings.velocity_layers, self.settings.each)

    def check_one_label(self, place: str) -> None:
        """Raise ParamsError if an instrument at this place has several labels."""
        if len(self.labels) > 1:
            known = one_line(", ".join(self.labels.values()), 1000)
            raise ParamsError(
                f"labels: expected one for an instrument {place}, found {known}; choose one of them"
            )

    def on_keys(
        self, names: Sequence[str], generated: Iterable[KeySounds]
    ) -> Iterator[list[Group]]:
        """Place the sounds of each name on a key of its own. Raises ParamsError for too many names."""
        places = assign_keys(names, self.context.labels or names, self.keys)
        for group in map(Group, names, places, generated):
            self.refused.update(group.generated.refused)
            yield [group]

    def distances(self, sounds: Sequence[GeneratedSound]) -> NDArray[np.float64]:
        """Distances between sounds, `[n, n]` in dB."""
        shapes = spectral_shapes([self._spectra(sound.codes) for sound in sounds])
        return distances(shapes, [len(sound.codes) for sound in sounds])

    def drafts(self, label: int, count: int, step: Step, notes: Sequence[float] = ()) -> KeySounds:
        """Generate up to `count` new sounds of a label, at pitches `notes` in semitones (MIDI) if given."""
        request = GenerationRequest(
            max_seconds=self.settings.seconds,
            drafts=DRAFTS,
            **self._shared(label, count, notes),
        )
        return self._generate(request, set(), step, label)

    def takes(
        self,
        original: Recorded | GeneratedSound,
        label: int,
        count: int,
        step: Step,
        *layer: int,
        notes: Sequence[float] = (),
    ) -> KeySounds:
        """Generate up to `count` takes of a sound, at pitches `notes` if given. Each `layer` has its own seeds."""
        recording = original.codes[: frames_for_seconds(self.context.codec, self.settings.seconds)]
        request = TakeRequest(
            max_seconds=len(recording) / self.context.codec.spectrogram.frame_rate,
            recording=recording,
            strength=self.context.strength,
            side_info=original.side_info,
            **self._shared(label, count, notes),
        )
        return self._generate(request, {recording.tobytes()}, step, label, *layer)

    def _shared(self, label: int, count: int, notes: Sequence[float]) -> dict[str, Any]:
        """Fields of all requests."""
        sampling = Sampling(self.settings.temperature, guidance=default_guidance(label))
        width = self.settings.width
        return {
            "count": count,
            "notes": notes,
            "label": label,
            "width": width,
            "sampling": sampling,
        }

    def _generate(
        self, request: GenerationRequest, known: set[bytes], step: Step, *stream: int
    ) -> KeySounds:
        """Generate sounds whose codes are not among `known`. Raises as `generate_sounds`."""

        def report(done: int, frames: int, text: str) -> None:
            sounds = step.before + request.count * done // frames
            self.settings.progress(sounds, step.total, f"{step.title}: {text}")

        silence = RejectionCriterion("silent", partial(is_silent, self.context), needs_audio=True)
        copies = [] if self.settings.allow_copies else [COPY]
        criteria = [silence, *copies, MISTUNED, equal_to(known)]
        seeds = Seeds(derive_seed(self.settings.seed or 0, Stream.KIT_SOUNDS, *stream))
        drafts = generate_sounds(self.context, request, seeds, criteria, report)
        longest = max(1, round(self.settings.seconds * self.rate))
        sounds = [replace(sound, samples=sound.samples[:longest]) for sound in drafts.accepted]
        return KeySounds(sounds, request.count - len(sounds), drafts.refused)

    def with_takes(self, label: int, anchors: Sequence[GeneratedSound], step: Step) -> KeySounds:
        """Sounds of a key: an anchor for each layer, from soft to loud, and takes of it."""
        sounds, refused, each = list[GeneratedSound](), Counter[str](), self.settings.each
        by_level = sorted(anchors, key=lambda sound: int(sound.codes[:, 0].max()))
        for layer, anchor in enumerate(by_level):
            first, last = (each * edge // len(by_level) for edge in (layer, layer + 1))
            within = step._replace(before=step.before + first)
            takes = self.takes(anchor, label, last - first - 1, within, layer + 1)
            sounds += [anchor, *takes.sounds]
            refused += takes.refused
        return KeySounds(sounds, each - len(sounds), refused)


class LabelKit(KitGenerator):
    """Kit with a key for each label."""

    def instruments(self) -> Iterator[list[Group]]:
        """Groups of each label. Raises ParamsError for too many labels."""
        return self.on_keys(list(self.labels.values()), self._keys())

    def _keys(self) -> Iterator[KeySounds]:
        size = POOL * self.layers + self.settings.each
        for position, (number, name) in enumerate(self.labels.items()):
            title = f"sounds, {one_line(name, 40)}"
            yield self.key(number, Step(position * size, len(self.labels) * size, title))

    def key(self, label: int, step: Step) -> KeySounds:
        """Sounds of a label: the most similar drafts, one for each layer, and takes of them."""
        pool = POOL * self.layers
        drafts = self.drafts(label, pool, step)
        after = step._replace(before=step.before + pool)
        key = self.with_takes(label, self._medoids(drafts.sounds), after)
        return key._replace(refused=drafts.refused + key.refused)

    def _medoids(self, drafts: Sequence[GeneratedSound]) -> list[GeneratedSound]:
        """Medoid of the drafts, and its nearest neighbours: a draft for each layer."""
        if not drafts:
            return []
        unlike = self.distances(drafts)
        nearest = unlike[unlike.sum(axis=0).argmin()].argsort(kind="stable")
        return [drafts[position] for position in nearest[: self.layers]]


class OneKeyKit(LabelKit):
    """Variations of one sound on one key."""

    def __init__(
        self, context: GenerationContext, settings: KitSettings, labels: Mapping[int, str]
    ) -> None:
        """Raises ParamsError for several labels."""
        super().__init__(context, settings, labels)
        self.check_one_label("on one key")


class OneShotKit(LabelKit):
    """Takes of one recording on one key."""

    def __init__(
        self,
        context: GenerationContext,
        settings: KitSettings,
        labels: Mapping[int, str],
        recording: Recorded,
    ) -> None:
        super().__init__(context, settings, labels)
        self._recording = recording

    def key(self, label: int, step: Step) -> KeySounds:
        """Takes of the recording."""
        return self.takes(self._recording, label, self.settings.each, step)


class ClusterKit(KitGenerator):
    """Kit of a model without labels: a key for each spectral cluster of its sounds."""

    def instruments(self) -> Iterator[list[Group]]:
        """Groups of each cluster."""
        names = [f"group {number}" for number in range(1, MAX_CLUSTERS + 1)]
        return self.on_keys(names, self._keys())

    def _keys(self) -> Iterator[KeySounds]:
        pool, each = 4 * self.layers * MAX_CLUSTERS, self.settings.each
        total = pool + MAX_CLUSTERS * each
        drafts = self.drafts(0, pool, Step(0, total, "sounds to choose from"))
        self.refused.update(drafts.refused)
        spectra = [self._spectra(sound.codes) for sound in drafts.sounds]
        for position, members in enumerate(spectral_clusters(spectra, self.layers)):
            anchors = [drafts.sounds[member] for member in members]
            step = Step(pool + position * each, total, f"sounds, group {position + 1}")
            yield self.with_takes(0, anchors, step)


def is_silent(context: GenerationContext, sound: GeneratedSound) -> bool:
    """Whether a sound is much softer than every recording."""
    if context.finder is not None:
        return context.finder.is_silent(sound.codes)
    peak = float(np.abs(sound.samples).max(initial=0.0)) * context.codec.architecture.input_gain
    return peak < 10 ** (-60.0 / 20)  # relative to the peak of the loudest recording
