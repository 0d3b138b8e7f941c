"""Encode the recordings of a corpus with the codec and write their codes to disk.

The views of consecutive recordings form a block, which is encoded and cached as a whole. Its codes depend only on its
samples and the codec, so neither earlier runs nor the choice of worker changes the codes of a corpus.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor

from distill.audio.augment import View, views_of, waveform
from distill.audio.corpus import MANIFEST, Corpus, ManifestRow, load_corpus
from distill.audio.side_info import SideInfo
from distill.codec.coordinates import codewords_of
from distill.codec.data import CodecData
from distill.codec.layout import FrameLayout
from distill.codec.model import VQVAE
from distill.codec.quantizer import codebook_health, codeword_counts, utilization_warnings
from distill.codec.streaming import MOST_PEAK, encode_each_from
from distill.codes.store import CodesConfig, RecordingRow, write_corpus_codes
from distill.errors import ArtifactError
from distill.execution import Execution
from distill.params import Params
from distill.progress import ProgressReport
from distill.split import Side
from distill.storage.files import atomic_folder, sha256_file, sha256_json, write_bytes
from distill.storage.work import Cache, Executor, cut_blocks, map_cached, work_folder, work_version
from distill.text import one_line
from distill.training.distributed import device_of
from distill.training.events import CodebookHealth

BLOCK_RECORDINGS = 64
BLOCK_FRAMES = 1 << 14  # about 6 minutes of sound

Block = Sequence[tuple[ManifestRow, View]]  # views of consecutive recordings
# Recording id, view index, group, and codes [F, Q].
CodedView = tuple[str, int, str, NDArray[np.uint16]]


def code_corpus(
    codec: VQVAE,
    codec_sha256: str,
    corpus_folder: Path,
    folder: Path,
    params: Params,
    execution: Execution,
    executor: Executor,
    kept: Path | None = None,
    by_label: bool = False,
) -> dict[str, float]:
    """Encode a corpus with the settings `params` and write the codes artefact `folder` atomically, with progress.

    Returns the metrics of `metrics/encode_codes.json`, such as each level's codebook use by unmodified recordings.

    Training recordings have several views; held-out recordings are unmodified. The codec runs on the device of
    `execution` if `executor` works in this process, otherwise on CPUs; afterwards it is on the CPU. Blocks are cached
    in `kept`, if given. `by_label` must be as in the codec's split.
    """
    began, corpus = time.monotonic(), load_corpus(corpus_folder)
    plan = _plan(codec, corpus, params, by_label)
    config = _config(codec, codec_sha256, corpus_folder, corpus.sample_rate)
    codec.to(device_of(execution) if executor.is_here else "cpu")
    counts = _LevelCounts(codec.layout.codebook_sizes)
    with (
        ProgressReport("encode") as progress,
        atomic_folder(folder) as temporary,
        work_folder(kept, temporary) as work,
    ):
        if plan.too_loud:
            progress.say(
                f"warning: {len(plan.too_loud)} of {len(corpus.entries)} recordings are louder than those that the "
                f"codec learnt, such as {one_line(plan.too_loud[0])}; made softer"
            )
        cache = Cache(work, work_version("encode_codes", codec_sha256, codec.device.type))
        paths = _encode_blocks(codec, corpus, plan, executor, cache, progress)
        views = counts.counting(_coded_views(plan.blocks, paths))
        codewords = codewords_of(codec).numpy()
        write_corpus_codes(temporary, config, codewords, plan.recordings, views, plan.side_info)
        cache.keep_only(paths)
        taken = time.monotonic() - began
        for warning in counts.warnings(codec.layout):
            progress.say(f"warning: {warning}")
        progress.say(
            f"{counts.frames} frames, {plan.views} views of each training recording, {taken:.1f} s"
        )
    codec.cpu()
    tokens = counts.frames * codec.architecture.num_quantizers
    return {"frames": counts.frames, "tokens": tokens, "views": plan.views, **counts.use()}


def _config(codec: VQVAE, codec_sha256: str, corpus: Path, sample_rate: int) -> CodesConfig:
    """Geometry and origin of the codes of the corpus in this folder."""
    return CodesConfig(
        codebook_sizes=codec.layout.codebook_sizes,
        frame_rate=codec.spectrogram.frame_rate,
        codec_sha256=codec_sha256,
        sample_rate=sample_rate,
        corpus_sha256=sha256_file(corpus / MANIFEST),
    )


class _Plan(NamedTuple):
    """Encoding plan: recordings in corpus order, their side information, and blocks of their views.

    `views` is the number of views per training recording. `too_loud` lists paths of recordings that are attenuated.
    """

    recordings: list[RecordingRow]
    side_info: list[SideInfo]
    blocks: Sequence[Block]
    views: int
    too_loud: list[str]


def _plan(codec: VQVAE, corpus: Corpus, params: Params, by_label: bool) -> _Plan:
    """Split a corpus and group the views of its recordings into blocks."""
    seconds = sum(entry.samples for entry in corpus.entries) / corpus.sample_rate
    count, fraction = params.codes.resolve(seconds), params.split.resolve(len(corpus.entries))
    transpose = params.prior_config(len(corpus.entries)).transpose
    data = CodecData.split(corpus, fraction, params.seed, by_label)
    rows: list[tuple[ManifestRow, Side]] = [(entry, "train") for entry in data.train]
    # In the order of the corpus.
    rows = sorted(rows + [(entry, "val") for entry in data.held_out], key=lambda row: row[0].path)
    has_labels, geometry = params.corpus.labels == "folder", codec.spectrogram
    recordings = [
        RecordingRow(entry.recording_id, entry.path, entry.label * has_labels, side)
        for entry, side in rows
    ]
    side_info = [corpus.side_info(entry) for entry, _ in rows]
    own_views, sizes, too_loud = [], [], set()
    for entry, side in rows:
        views = views_of(
            entry,
            count if side == "train" else 1,
            geometry.samples_per_frame,
            params.seed,
            transpose,
        )
        # As `within_full_scale` attenuates.
        above = max(1.0, entry.peak * codec.architecture.input_gain / MOST_PEAK)
        if above > 1:
            too_loud.add(entry.path)
        own_views.append([replace(view, gain=view.gain / above) for view in views])
        sizes.append(sum(geometry.frames_for(view.samples(entry)) for view in own_views[-1]))
    cuts = cut_blocks(
        [row.recording_id for row in recordings], sizes, BLOCK_RECORDINGS, BLOCK_FRAMES
    )
    blocks = [
        [(rows[index][0], view) for index in cut for view in own_views[index]] for cut in cuts
    ]
    return _Plan(recordings, side_info, blocks, count, sorted(too_loud))


def _encode_blocks(
    codec: VQVAE,
    corpus: Corpus,
    plan: _Plan,
    executor: Executor,
    cache: Cache,
    progress: ProgressReport,
) -> list[Path]:
    """Encode the blocks that the cache lacks, with progress; returns the file of each block."""
    # Workers need no entries.
    samples = Corpus(corpus.folder.absolute(), corpus.sample_rate, ())
    encode, show = partial(_encode_block, codec, samples), _Shown(progress, len(plan.recordings))
    return map_cached(encode, plan.blocks, _key, executor, cache, show, [samples.folder])


class _LevelCounts:
    """Counts of each level's codewords in unmodified recordings."""

    def __init__(self, codebook_sizes: tuple[int, ...]) -> None:
        self._sizes = codebook_sizes
        self._counts = torch.zeros(len(codebook_sizes), max(codebook_sizes), dtype=torch.float64)

    def counting(self, views: Iterable[CodedView]) -> Iterator[CodedView]:
        """Pass views through, counting the codewords of each first view."""
        for view in views:
            _, number, _, codes = view
            if number == 0:
                self._counts.add_(
                    codeword_counts(torch.from_numpy(codes.astype(np.int64)), self._sizes)
                )
            yield view

    @property
    def frames(self) -> int:
        """Number of counted frames."""
        return int(self._counts[0].sum())

    def health(self) -> CodebookHealth:
        """Codebook health of each level."""
        return codebook_health(self._counts, self._sizes)

    def warnings(self, layout: FrameLayout) -> tuple[str, ...]:
        """Warnings of levels that use few of their codewords."""
        return utilization_warnings(self.health(), layout, self.frames, "all recordings")

    def use(self) -> dict[str, float]:
        """Utilization and perplexity of each level's codebook."""
        names, health = ("utilization", "perplexity"), self.health()
        return {f"{level}/{name}": row[name] for name in names for level, row in health.items()}


class _Shown:
    """Shows progress over blocks, in recordings."""

    def __init__(self, progress: ProgressReport, recordings: int) -> None:
        self._progress, self._recordings, self._done = progress, recordings, 0

    def __call__(self, block: Block) -> None:
        """Count a finished block."""
        self._done += sum(view.number == 0 for _, view in block)
        self._progress(self._done, self._recordings, block[-1][0].path)


def _key(block: Block) -> str:
    """Cache key of a block: hash of everything except the codec on which its codes depend."""
    views = [
        [entry.pcm_sha256, view.shift, view.gain, view.semitones, view.decibels]
        for entry, view in block
    ]
    return sha256_json(views)[:32]


def _coded_views(blocks: Sequence[Block], paths: Iterable[Path]) -> Iterator[CodedView]:
    """Read the coded views of blocks, whose files are `paths`."""
    for block, path in zip(blocks, paths, strict=True):
        for (entry, view), codes in zip(block, _read_block(path), strict=True):
            yield entry.recording_id, view.number, entry.group, codes


def _encode_block(codec: VQVAE, corpus: Corpus, block: Block, path: Path) -> None:
    """Write the codes `[F, Q]` of each view of a block."""

    def sound(entry: ManifestRow, view: View) -> tuple[int, Callable[[int, int], Tensor]]:
        return view.samples(entry), lambda start, stop: waveform(
            corpus, entry, start, stop - start, view
        )

    coded = encode_each_from(codec, (sound(entry, view) for entry, view in block))
    write_bytes(
        path,
        save({f"{n:05d}": codes.cpu().numpy().astype(np.uint16) for n, codes in enumerate(coded)}),
    )


def _read_block(path: Path) -> list[NDArray[np.uint16]]:
    """Read the codes of a block's views. Raises ArtifactError."""
    try:
        return [codes for _, codes in sorted(load_file(path).items())]
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{path}: expected codes of recordings, found {error}; remove it and run again"
        ) from error
