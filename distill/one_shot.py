"""One-shot model of a single recording: made in a second with the pretrained weights, without training."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from distill.api import Model
from distill.audio.ingest import corpus_of_one
from distill.audio.side_info import SideInfo
from distill.codec.coordinates import codewords_of
from distill.codec.initialise import build_vqvae, initialise
from distill.codec.model import VQVAE
from distill.codec.streaming import decode, encode, noise_of, within_full_scale
from distill.codes.sequences import CodedRecording
from distill.codes.store import Codes
from distill.errors import AudioError, ParamsError
from distill.generate.context import GenerationContext, Recorded
from distill.generate.requests.take import COARSE_FROM
from distill.generate.selection.faults import Samples
from distill.model_file.format import Bundle, BundleMetadata
from distill.params import default_params
from distill.prior.pretrained import pretrained_prior
from distill.storage.weights import weights_sha256
from distill.training.distributed import usual_tensors

SHORTEST_SECONDS = 0.025  # one frame of codes; shorter takes would be near silence


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit PyTorch to one thread: on a busy computer, threads that wait for each other are far slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class ModelOfOne(Model):
    """One-shot model of a single recording, with the pretrained weights, on the CPU.

    The recording in the file `path` has samples `recording` `[N]`, `codes` `[F, Q]`, side information `own_side_info`
    and sample rate `own_rate`. Takes of the file have the same rate.
    """

    @usual_tensors()
    def __init__(self, path: Path) -> None:
        """Make the model from an audio file. Remarks on the file are AudioWarnings. Raises AudioError.

        The codec has the pretrained decoder. Projection, codebooks and sets of partials are initialised as in training,
        but from this recording alone: adding synthetic sounds, as in training, decodes it no better.
        """
        codec, self.recording, self.own_side_info, self.own_rate = _fitted(path)
        audio = torch.from_numpy(self.recording)[None]
        codes = encode(codec, audio)
        noise = noise_of(codec, self.own_side_info, codes.shape[1])
        codec.texture_head.amplify(
            float(audio.norm() / decode(codec, codes, noise).norm())
        )  # codes have loudness in steps of 2 dB
        self.codes: Codes = codes[0].numpy()
        self.path, sizes = path, codec.architecture.codebook_sizes
        counted = [CodedRecording([self.codes], path=path.name)]
        prior = pretrained_prior(codewords_of(codec), sizes, codec.spectrogram.frame_rate, counted)
        metadata = BundleMetadata(
            vqvae_config=codec.architecture,
            spectrogram_config=codec.spectrogram,
            metadata={"recordings": 1},
            codec_sha256=weights_sha256(codec),
        )
        self.bundle = Bundle(codec, prior, metadata)
        self.context = GenerationContext(
            codec,
            prior,
            path=path,
            strength=COARSE_FROM,  # maximum strength that keeps tones and coarse spectra
            single=Recorded(self.recording, self.codes, self.own_side_info, self.own_rate),
            one_shot_remark=(
                f"made from {path.name} alone with the shipped weights; nothing was trained: takes are compared with this "
                "recording alone, and are meant to be near it"
            ),
        )


class _Fitted(NamedTuple):
    """Codec fitted to an audio file, samples `[N]`, side information, and the sample rate of the file."""

    codec: VQVAE
    samples: Samples
    side_info: SideInfo
    sample_rate: int


def _fitted(path: Path) -> _Fitted:
    """Fit a codec to an audio file. Raises AudioError."""
    params = default_params()
    with TemporaryDirectory() as folder:
        corpus = corpus_of_one(path, Path(folder))
        (entry,) = corpus.entries
        if entry.seconds < SHORTEST_SECONDS:
            raise AudioError(
                f"{path}: expected at least {SHORTEST_SECONDS} s of sound, found {entry.seconds:.3f} s; name a longer "
                "recording"
            )
        codec = build_vqvae(
            corpus.sample_rate, params.vqvae_config(len(corpus.entries)), params.seed
        )
        with one_thread():
            initialise(codec, corpus, corpus.entries, params.seed, synthetic=False)
        samples = within_full_scale(codec, corpus.read(entry), str(path))
        return _Fitted(codec.eval(), samples, corpus.side_info(entry), entry.sample_rate)


def model_of(recording: str | os.PathLike[str]) -> ModelOfOne:
    """Make a one-shot model of an audio file, in a second and without training; `vary` and `kit` make takes of it.

    Equal files give equal models. Remarks on the file are AudioWarnings. Raises AudioError, and ParamsError if
    `recording` is not a path.
    """
    if not isinstance(recording, str | os.PathLike):
        raise ParamsError(
            f"model_of: expected the path of an audio file, found {recording!r}; name one such as take1.wav"
        )
    return ModelOfOne(Path(recording))
