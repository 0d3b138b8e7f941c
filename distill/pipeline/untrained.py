"""A model of one recording, made in a second: with the shipped weights, and nothing trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from distill.audio.ingest import corpus_of_one
from distill.codec.coordinates import codewords_of
from distill.codec.initialise import build_vqvae, initialise
from distill.codec.streaming import encode, within_full_scale
from distill.codes.sequences import CodedRecording
from distill.codes.store import Codes
from distill.errors import AudioError
from distill.generate.sounds import Samples
from distill.model_file.format import Bundle, BundleMetadata
from distill.params import default_params
from distill.prior.pretrained import pretrained_prior
from distill.storage.weights import weights_sha256

SHORTEST_SECONDS = 0.025  # a frame of codes: takes of less are near silence


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute in one thread: in small steps, two that wait for each other on a busy computer take far longer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, eq=False)
class UntrainedModel:
    """A codec fitted to a recording and the pretrained prior with counts of it, without a reference.

    `recording` are its samples `[N]`, and `codes` `[F, Q]` what they are coded to.
    """

    bundle: Bundle
    recording: Samples
    codes: Codes


def untrained_model(path: Path) -> UntrainedModel:
    """Make a model of the recording in the file `path`.

    The codec has the pretrained decoder, and projection, codebooks and sets of partials as training begins with, fitted
    to this recording alone: with synthetic sounds, as in training, it would decode it no better. Equal files give equal
    models. Remarks on the file are AudioWarnings. Raises AudioError.
    """
    params = default_params()
    with TemporaryDirectory() as folder:
        corpus = corpus_of_one(path, Path(folder))
        (entry,) = corpus.entries
        if entry.seconds < SHORTEST_SECONDS:
            raise AudioError(
                f"{path}: expected at least {SHORTEST_SECONDS} s of sound, found {entry.seconds:.3f} s; name a longer recording"
            )
        codec = build_vqvae(corpus.sample_rate, params.vqvae_config(len(corpus.entries)), params.seed)
        with one_thread():
            initialise(codec, corpus, corpus.entries, params.seed, synthetic=False)
        recording = within_full_scale(codec.eval(), corpus.read(entry), str(path))
    codes: Codes = encode(codec, torch.from_numpy(recording)[None])[0].numpy()
    sizes = codec.architecture.codebook_sizes
    counted = [CodedRecording([codes], path=path.name)]
    prior = pretrained_prior(codewords_of(codec), sizes, codec.spectrogram.frame_rate, counted)
    metadata = BundleMetadata(
        vqvae_config=codec.architecture,
        spectrogram_config=codec.spectrogram,
        metadata={"recordings": 1},
        codec_sha256=weights_sha256(codec),
    )
    return UntrainedModel(Bundle(codec, prior, metadata), recording, codes)
