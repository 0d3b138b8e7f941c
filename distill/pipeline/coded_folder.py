"""A folder of recordings as training data of a prior: encoded and split."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distill.audio.corpus import Corpus, load_corpus
from distill.audio.ingest import ingest_folder
from distill.codec.model import VQVAE
from distill.codes.encode import code_corpus
from distill.codes.held_out import split_codes
from distill.execution import Execution
from distill.params import Params
from distill.pipeline.folders import PipelineFolders
from distill.prior.data import PriorData, read_prior_data
from distill.storage.weights import weights_sha256
from distill.storage.work import Executor, Here


@dataclass(frozen=True, eq=False)
class CodedFolder:
    """Encoded recordings and their codec."""

    data: PriorData
    codec: VQVAE


def code_folder(
    folder: Path | str, work: Path, params: Params, execution: Execution, train: Callable[[Corpus], VQVAE]
) -> CodedFolder:
    """Encode the recordings in `folder` with the codec that `train` returns for them, for benchmarks and `train_prior`.

    `folder` may be a URL. All files go to `work`, and may be deleted then. Raises DistillError.
    """
    folders, executor = PipelineFolders.below(work), Here(execution.workers)
    ingest_folder(folder, folders.corpus, params.corpus, executor)
    codec = train(load_corpus(folders.corpus))
    code_and_split(codec, weights_sha256(codec), folders, params, execution, executor)
    return CodedFolder(read_prior_data(folders.codes, folders.split).in_memory(), codec)


def code_and_split(
    codec: VQVAE, codec_sha256: str, folders: PipelineFolders, params: Params, execution: Execution, executor: Executor
) -> None:
    """Encode the corpus in `folders` and assign its recordings to training and held-out data."""
    made, kept = (folders.corpus, folders.codes), folders.codes.with_name("coded")
    code_corpus(codec, codec_sha256, *made, params, execution, executor, kept)
    split_codes(folders.codes, folders.split, params)
