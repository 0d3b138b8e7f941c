"""Model files in Python: `distill.load` opens a file as a `Model`."""

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distill.audio.side_info import UNKNOWN, SideInfo
from distill.codec.coordinates import codewords_of
from distill.codes.store import Codes, out_of_range
from distill.errors import ParamsError
from distill.generate.context import GenerationContext
from distill.generate.decoding import NEAREST_SECONDS, decode_sounds
from distill.generate.inputs import read, recorded
from distill.generate.requests.generation import frames_for_seconds
from distill.generate.sampling.tuner import Tuner
from distill.generate.selection.faults import FaultFinder, Samples
from distill.generate.settings import Recording, Sound, SoundSettings
from distill.model_file.format import Bundle, BundleMetadata, load_bundle
from distill.novelty.verdict import Novelty, NoveltyScorer
from distill.params.settings import validated
from distill.prior.base import Prior
from distill.prior.pretrained import pretrained_prior
from distill.progress import Progress, silent
from distill.storage.tables import read_frame
from distill.training.distributed import usual_tensors
from distill.verbs import VERBS

if TYPE_CHECKING:
    import pandas as pd

    from distill.generate.presentation.results import Generated


class Model:
    """A model file: codec and prior in eval mode on the CPU."""

    if TYPE_CHECKING:  # verbs are methods, see `distill.verbs`

        def __getattr__(self, verb: str) -> Callable[..., Any]: ...

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

        A file keeps about a thousand points of a long training, so rows can be several epochs apart.
        """
        import pandas as pd

        curves = self.metadata.loss_curve_history.items()
        return pd.DataFrame({name: pd.Series(values) for name, values in curves}).rename_axis(
            "epoch"
        )

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
        if self.context.one_shot_remark:
            return self.context.one_shot_remark
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
    def context(self) -> GenerationContext:
        """Networks, reference and critic that sounds are generated and scored with."""
        known = (self.bundle.reference, self.labels, self.path, self.metadata.payload_sha256)
        return GenerationContext(self.bundle.codec, self.prior, *known, critic=self.metadata.critic)

    @property
    def scorer(self) -> NoveltyScorer | None:
        """Judge of novelty against the training recordings; None where the file has no reference."""
        return self.context.scorer

    @property
    def fault_finder(self) -> FaultFinder | None:
        """Fault finder with limits from the training recordings, or None if the file has no reference."""
        return self.context.finder

    @property
    def tuner(self) -> Tuner:
        """Tuner that brings sounds to notes."""
        return self.context.tuner

    def follow(self, recording: Recording, **settings: Any) -> "Generated":
        """Generate sounds that follow a recording or a MIDI file: `generate` with `follow`, and its other arguments."""
        followed: Generated = self.generate(follow=recording, **settings)
        return followed

    @usual_tensors()
    def export(
        self, out: str | os.PathLike[str], replace: bool = False, progress: Progress = silent
    ) -> list[Path]:
        """Write the decoder and a step of the prior as ONNX files into the folder `out`; return their paths.

        The prior of the architecture `frame` alone is written. Raises ParamsError for files that are there already, and
        where the packages of the extra `export` are missing.
        """
        from distill.generate.export import export

        recordings = self.bundle.reference.side_info if self.bundle.reference else ()
        return export(self.bundle.codec, self.prior, Path(out), replace, progress, recordings)

    def samples(self, recording: Recording) -> Samples:
        """Read a file or samples as mono samples `[N]` at the model's sample rate.

        Samples are `[N]` of a mono sound or `[N, 2]` of a stereo sound, left and right, wherever they go in or come out. An
        array is at the model's sample rate; a `distill.Sound` has a sample rate of its own. Codes hold mono sound: the
        downmix of a stereo sound has in each band the mean power of both channels, and `side_info` holds what is between
        the channels. A remark on a file is an AudioWarning, for example that a sound, louder than the recordings that the
        model learned, was made softer. Raises AudioError, and ParamsError for samples of another shape, that are empty, or
        hold NaN or infinite values.
        """
        return read(self.context, recording).samples

    def side_info(self, recording: Recording) -> SideInfo:
        """Measure the side information of a file or of samples, as in `samples`; `decode` takes it next to their codes.

        Its stereo `image` is uint8 `[T, 2, 20]`, without rows where it is mono: `image[:, 0]` are steps of the level
        difference in 20 bands, `image[:, 1]` of the coherence. Its `noise` is uint8 `[T, 8]`, steps of the noise floor in 8
        bands. A row covers the whole sound, or one second of a sound longer than 1.5 s.
        """
        return read(self.context, recording).side_info

    @usual_tensors()
    def encode(self, recording: Recording, sample_rate: int | None = None) -> Codes:
        """Encode a file or samples, as in `samples`, to codes `[F, Q]` int64; `sample_rate` applies to samples, in Hz.

        Raises AudioError and ParamsError.
        """
        given = recording if sample_rate is None else Sound(recording, sample_rate)
        return recorded(self.context, given).codes

    @usual_tensors()
    def decode(
        self, codes: NDArray[np.integer], side_info: SideInfo = UNKNOWN, width: float = 1.0
    ) -> Samples:
        """Decode codes `[F, Q]` to samples, faded at both ends and limited in peak; `[N, 2]` if `side_info` is stereo, else `[N]`.

        Without side information the tones are as noisy as is typical, and what was stereo is mono.
        `width`, from 0 to 1.5, scales what is between the channels. Raises ParamsError.
        """
        given, codec = np.asarray(codes), self.bundle.codec.architecture
        if (
            given.ndim != 2
            or not len(given)
            or given.shape[1] != codec.num_quantizers
            or given.dtype.kind not in "iu"
        ):
            raise ParamsError(
                f"codes: expected whole numbers [frames, {codec.num_quantizers}], found {given.dtype} {list(given.shape)}"
            )
        if problem := out_of_range(given, codec.codebook_sizes):
            raise ParamsError(f"codes: {problem}")
        validated(SoundSettings, {"width": width}, "decode: ")
        if not isinstance(side_info, SideInfo):
            raise ParamsError(
                f"side_info: expected what `Model.side_info` gives, found {type(side_info).__name__}"
            )
        return decode_sounds(
            self.bundle.codec, [given.astype(np.int64)], side_info=[side_info], width=width
        )[0]

    @usual_tensors()
    def novelty(self, codes: Sequence[Codes]) -> list[Novelty]:
        """Novelty of sounds, given their codes `[F, Q]`. Raises ArtifactError when the file has no reference."""
        self.context.needed_reference()
        assert self.scorer is not None
        return self.scorer(codes)

    @usual_tensors()
    def nearest(self, novelty: Novelty) -> Samples:
        """The training recording that a verdict is about, decoded from its codes, to listen to: samples `[N]` or `[N, 2]`.

        A long recording is cut to NEAREST_SECONDS from the nearest passage on. Raises ArtifactError when the file has no reference.
        """
        reference = self.context.needed_reference()
        codes = reference.codes[list(reference.names).index(novelty.nearest.nearest)]
        most = frames_for_seconds(self.bundle.codec, NEAREST_SECONDS)
        offset = round(novelty.nearest.offset_seconds * self.bundle.codec.spectrogram.frame_rate)
        start = max(0, offset) if len(codes) > most else 0
        part, rate = (
            codes[start : start + most].astype(np.int64),
            self.bundle.codec.spectrogram.frame_rate,
        )
        side_info = reference.side_info_of(novelty.nearest.nearest).cut(
            start / rate, len(part) / rate
        )
        return decode_sounds(self.bundle.codec, [part], side_info=[side_info])[0]

    def label_number(self, label: str | None) -> int:
        """Index of a label, from 1 on, 0 for none. Raises ParamsError that lists the labels. See `Source.label_number`."""
        return self.context.label_number(label)


for _verb in VERBS.values():
    setattr(Model, _verb.name, _verb.method)


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
