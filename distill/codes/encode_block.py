"""Encoding of a block of views of recordings, here or by the workers of a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distill.audio.augment import waveform
from distill.audio.corpus import Corpus
from distill.cluster import Cluster, check_worker
from distill.code_version import code_sha256
from distill.codec.model import CHUNK_FRAMES, VQVAE, VQVAEArchitecture
from distill.codec.packing import runs
from distill.codes.blocks import Block, Coded, CodeStore, Take
from distill.status import Progress
from distill.storage.files import canonical_json, sha256_text
from distill.storage.weights import load_weights, save_weights


def encoder_version(codec_sha256: str, device: str) -> str:
    """Key of codec, code, libraries and kind of device that encode."""
    made_by = [codec_sha256, code_sha256("encode_codes"), torch.__version__, np.__version__, device]
    return sha256_text(canonical_json(made_by))[:16]


def encode_block(codec: VQVAE, corpus: Corpus, block: Block) -> list[Coded]:
    """Codes of the views of a block."""
    batches = runs(zip(block.frames, block.takes, strict=True), CHUNK_FRAMES)
    return [codes for batch in batches for codes in encode_takes(codec, corpus, batch)]


def encode_takes(codec: VQVAE, corpus: Corpus, batch: Sequence[Take]) -> list[Coded]:
    """Codes `[F, Q]` of views of recordings: several in one batch, a single one in chunks."""
    if len(batch) > 1:
        sounds = [waveform(corpus, entry, view=view) for entry, view in batch]
        return [_at_rest(codes) for codes in codec.encode_together(sounds)]
    ((entry, view),) = batch

    def read(start: int, stop: int) -> Tensor:
        return waveform(corpus, entry, start, stop - start, view)[None].to(codec.device)

    return [_at_rest(codec.encode_from(read, entry.samples - view.shift)[0])]


def _at_rest(codes: Tensor) -> Coded:
    return codes.cpu().numpy().astype(np.uint16)


@dataclass(frozen=True)
class EncodeTask:
    """A block to encode into a store, by a worker with this version of the code."""

    weights: Path  # of the codec
    architecture: str  # of the codec, as JSON
    corpus: Path
    sample_rate: int
    block: Block
    store: CodeStore
    version: str


def encode_there(
    cluster: Cluster,
    codec: VQVAE,
    corpus: Corpus,
    blocks: Sequence[Block],
    store: CodeStore,
    progress: Progress | None,
) -> None:
    """Let the workers of a cluster encode blocks into a store. They encode on the CPU."""
    weights = store.folder / "codec.safetensors"
    save_weights(weights, codec)
    architecture, version = codec.architecture.model_dump_json(), _version(store)
    tasks = (
        EncodeTask(weights, architecture, corpus.folder.absolute(), corpus.sample_rate, block, store, version)
        for block in blocks
    )
    done = len(corpus.entries) - sum(block.recordings for block in blocks)
    for task, _ in cluster.map(encode_task, tasks):
        done += task.block.recordings
        if progress is not None:
            progress(done, len(corpus.entries), task.block.takes[-1].entry.path)
    weights.unlink()


def _version(store: CodeStore) -> str:
    return encoder_version(store.folder.name, "cpu")


def encode_task(task: EncodeTask) -> None:
    """Encode a block, on a worker."""
    check_worker(task.version, _version(task.store), task.corpus, task.store.folder)
    codec = _codec(task.weights, task.architecture)
    task.store.write(task.block, encode_block(codec, Corpus(task.corpus, task.sample_rate, ()), task.block))


@lru_cache(maxsize=1)
def _codec(weights: Path, architecture: str) -> VQVAE:
    return load_weights(weights, VQVAE(VQVAEArchitecture.model_validate_json(architecture)))
