"""Encode a corpus: recordings through the codec to codes on disk.

Views of a run of recordings are a block, which is encoded at once and kept. Its codes are a function of its samples and
the codec alone, so the codes of a corpus depend neither on what was encoded before nor on who does it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor

from distill.audio.augment import View, views_of, waveform
from distill.audio.corpus import Corpus, ManifestRow, load_corpus
from distill.codec.coordinates import codewords_of
from distill.codec.model import VQVAE
from distill.codec.streaming import CHUNK_FRAMES, encode_from, encode_together, runs
from distill.codes.store import CodesConfig, CodesWriter, RecordingRow
from distill.errors import ArtifactError
from distill.execution import Execution
from distill.params import Params
from distill.progress import ProgressReport
from distill.split import split_groups
from distill.storage.files import atomic_folder, canonical_json, sha256_text, write_bytes
from distill.storage.work import Cache, Executor, cut_blocks, map_cached, work_folder, work_version
from distill.training.distributed import device_of

BLOCK_RECORDINGS = 64
BLOCK_FRAMES = 1 << 14  # about 6 minutes of sound

Coded = NDArray[np.uint16]  # [F, Q]
RecordingView = tuple[ManifestRow, View]


@dataclass(frozen=True)
class ViewBlock:
    """Views of a run of recordings, with the frames of each, and the key of what they are."""

    views: tuple[RecordingView, ...]
    frames: tuple[int, ...]
    key: str


@dataclass(frozen=True)
class CodesReport:
    """Codeword `counts` `[Q, V]` of the unmodified recordings, and the number of views of each training recording."""

    counts: Tensor
    views: int

    def metrics(self) -> dict[str, float]:
        """The metrics of `metrics/encode_codes.json`: among others codebook utilization and perplexity of each level."""
        shares = self.counts.double() / self.counts.sum(dim=1, keepdim=True)
        perplexity = torch.special.entr(shares).sum(dim=1).exp()
        used = (self.counts > 0).double().mean(dim=1)
        frames, levels = int(self.counts[0].sum()), range(len(self.counts))
        return {
            "frames": frames,
            "tokens": frames * len(levels),
            "views": self.views,
            **{f"level_{level}/utilization": float(used[level]) for level in levels},
            **{f"level_{level}/perplexity": float(perplexity[level]) for level in levels},
        }


def code_corpus(
    codec: VQVAE,
    codec_sha256: str,
    corpus_folder: Path,
    folder: Path,
    params: Params,
    execution: Execution,
    executor: Executor,
    kept: Path | None = None,
) -> CodesReport:
    """Encode a corpus with the settings `params` and write the artefact of codes `folder` atomically, with progress.

    Training recordings have several views, held-out ones are unmodified. The codec runs on the device of `execution`
    where `executor` works in this process, else on CPUs, and is moved back to the CPU. Codes of blocks are kept in
    `kept`, where one is given.
    """
    corpus = load_corpus(corpus_folder)
    seconds = sum(entry.samples for entry in corpus.entries) / corpus.sample_rate
    views, fraction = params.codes.resolve(seconds), params.split.resolve(len(corpus.entries))
    sides = split_groups((entry.group for entry in corpus.entries), params.seed, fraction)
    codec.to(device_of(execution) if executor.is_here else "cpu")
    shape, geometry = codec.architecture, codec.spectrogram
    codewords = codewords_of(codec)
    config = CodesConfig(
        codebook_size=shape.codebook_size,
        num_quantizers=shape.num_quantizers,
        frame_rate=geometry.frame_rate,
        codec_sha256=codec_sha256,
        shared_coordinates=codewords.are_shared,
    )
    has_labels = params.corpus.labels == "folder"
    named = [RecordingRow(one.recording_id, one.path, one.label * has_labels) for one in corpus.entries]

    made = [
        views_of(entry, views if sides[entry.group] == "train" else 1, geometry.samples_per_frame, params.seed)
        for entry in corpus.entries
    ]
    blocks = _blocks_of(corpus.entries, made, geometry.frames_for)
    counts = torch.zeros(shape.num_quantizers, shape.codebook_size, dtype=torch.int64)
    done, began = 0, time.monotonic()
    with ProgressReport("encode") as progress, atomic_folder(folder) as temporary, work_folder(kept, temporary) as work:

        def say(block: ViewBlock) -> None:
            nonlocal done
            done += sum(view.number == 0 for _, view in block.views)
            progress(done, len(corpus.entries), block.views[-1][0].path)

        cache = Cache(work, work_version("encode_codes", codec_sha256, codec.device.type))
        samples = Corpus(corpus.folder.absolute(), corpus.sample_rate, ())  # as it is sent to others, without its list
        function = partial(_encode_block, codec, samples)
        paths = map_cached(function, blocks, attrgetter("key"), executor, cache, say, [samples.folder])
        with CodesWriter(temporary, config, codewords.vectors.numpy(), named) as writer:
            for block, path in zip(blocks, paths, strict=True):
                for (entry, view), codes in zip(block.views, _read_block(path, block), strict=True):
                    writer.append(entry.recording_id, view.number, entry.group, codes)
                    if view.number == 0:
                        for level, column in enumerate(torch.from_numpy(codes.astype(np.int64)).T):
                            counts[level] += torch.bincount(column, minlength=shape.codebook_size)
        cache.keep_only(paths)
        frames, taken = int(counts[0].sum()), time.monotonic() - began
        progress.say(f"{frames} frames, {views} views of each training recording, {taken:.1f} s")
    codec.cpu()
    return CodesReport(counts, views)


def _blocks_of(
    entries: Sequence[ManifestRow], views: Sequence[Sequence[View]], frames_for: Callable[[int], int]
) -> list[ViewBlock]:
    """Cut the views of recordings into blocks; `frames_for` gives the frames of so many samples."""
    sizes = [len(own) * frames_for(entry.samples) for entry, own in zip(entries, views, strict=True)]
    blocks = []
    for indices in cut_blocks([one.recording_id for one in entries], sizes, BLOCK_RECORDINGS, BLOCK_FRAMES):
        own = tuple((entries[index], view) for index in indices for view in views[index])
        frames = tuple(frames_for(entry.samples - view.shift) for entry, view in own)
        made_of = [[entry.pcm_sha256, view.shift, view.gain] for entry, view in own]
        blocks.append(ViewBlock(own, frames, sha256_text(canonical_json(made_of))[:32]))
    return blocks


def _encode_block(codec: VQVAE, corpus: Corpus, block: ViewBlock, path: Path) -> None:
    batches = runs(zip(block.frames, block.views, strict=True), CHUNK_FRAMES)
    codes = [codes for batch in batches for codes in encode_views(codec, corpus, batch)]
    write_bytes(path, save({"codes": np.concatenate(codes)}))


def encode_views(codec: VQVAE, corpus: Corpus, batch: Sequence[RecordingView]) -> list[Coded]:
    """Codes `[F, Q]` of views of recordings: several in one batch, a single one in chunks, read as they are needed."""
    (entry, view), *others = batch

    def read(start: int, stop: int) -> Tensor:
        return waveform(corpus, entry, start, stop - start, view)[None].to(codec.device)

    if others:
        found = encode_together(codec, [waveform(corpus, entry, view=view) for entry, view in batch])
    else:
        found = list(encode_from(codec, read, entry.samples - view.shift))
    return [codes.cpu().numpy().astype(np.uint16) for codes in found]


def _read_block(path: Path, block: ViewBlock) -> list[Coded]:
    """Codes of the views of a block. Raises ArtifactError."""
    try:
        return np.split(load_file(path)["codes"], np.cumsum(block.frames)[:-1])
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: expected codes of recordings, found {error}; remove it and run again") from error
