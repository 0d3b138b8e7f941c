"""Encode a corpus: recordings through the codec to codes on disk.

Views of a run of recordings are a block, which is encoded at once and kept. Its codes are a function of its samples and
the codec alone, so the codes of a corpus depend neither on what was encoded before nor on who does it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor

from distill.audio.augment import View, views_of, waveform
from distill.audio.corpus import MANIFEST, Corpus, ManifestRow, load_corpus
from distill.codec.coordinates import codewords_of
from distill.codec.data import CodecData
from distill.codec.model import VQVAE
from distill.codec.quantizer import codebook_health, codeword_counts
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

BLOCK_RECORDINGS = 64
BLOCK_FRAMES = 1 << 14  # about 6 minutes of sound

Block = Sequence[tuple[ManifestRow, View]]  # views of a run of recordings


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
    """Encode a corpus with the settings `params` and write the artefact of codes `folder` atomically, with progress.

    Returns the metrics of `metrics/encode_codes.json`: among others use of each level by unmodified recordings.

    Training recordings have several views, held-out ones are unmodified. The codec runs on the device of `execution`
    where `executor` works in this process, else on CPUs, and is moved back to the CPU. Codes of blocks are kept in
    `kept`, where one is given. `by_label` is as in the codec's split.
    """
    corpus = load_corpus(corpus_folder)
    seconds = sum(entry.samples for entry in corpus.entries) / corpus.sample_rate
    views, fraction = params.codes.resolve(seconds), params.split.resolve(len(corpus.entries))
    transpose = params.prior_config(len(corpus.entries)).transpose
    data = CodecData.split(corpus, fraction, params.seed, by_label)
    rows: list[tuple[ManifestRow, Side]] = [(one, "train") for one in data.train]
    rows = sorted(rows + [(one, "val") for one in data.held_out], key=lambda row: row[0].path)  # as in the corpus
    codec.to(device_of(execution) if executor.is_here else "cpu")
    shape, geometry = codec.architecture, codec.spectrogram
    config = CodesConfig(
        codebook_sizes=shape.codebook_sizes,
        frame_rate=geometry.frame_rate,
        codec_sha256=codec_sha256,
        sample_rate=corpus.sample_rate,
        corpus_sha256=sha256_file(corpus_folder / MANIFEST),
        shared_coordinates=True,
    )
    has_labels = params.corpus.labels == "folder"
    named = [RecordingRow(one.recording_id, one.path, one.label * has_labels, side) for one, side in rows]

    made = [
        views_of(entry, views if side == "train" else 1, geometry.samples_per_frame, params.seed, transpose)
        for entry, side in rows
    ]
    above = [max(1.0, entry.peak * shape.input_gain / MOST_PEAK) for entry, _ in rows]  # see `within_full_scale`
    made = [[replace(view, gain=view.gain / by) for view in own] for own, by in zip(made, above, strict=True)]
    too_loud = sorted({entry.path for (entry, _), by in zip(rows, above, strict=True) if by > 1})
    sizes = [
        sum(geometry.frames_for(view.samples(one)) for view in own) for (one, _), own in zip(rows, made, strict=True)
    ]
    cuts = cut_blocks([one.recording_id for one, _ in rows], sizes, BLOCK_RECORDINGS, BLOCK_FRAMES)
    blocks: list[Block] = [[(rows[index][0], view) for index in cut for view in made[index]] for cut in cuts]
    counts = torch.zeros(shape.num_quantizers, max(shape.codebook_sizes), dtype=torch.float64)
    done, began = 0, time.monotonic()
    with ProgressReport("encode") as progress, atomic_folder(folder) as temporary, work_folder(kept, temporary) as work:
        if too_loud:
            progress.say(
                f"warning: {len(too_loud)} of {len(corpus.entries)} recordings are louder than those that the "
                f"codec learnt, such as {one_line(too_loud[0])}; made softer"
            )

        def say(block: Block) -> None:
            nonlocal done
            done += sum(view.number == 0 for _, view in block)
            progress(done, len(rows), block[-1][0].path)

        def coded() -> Iterator[tuple[str, int, str, NDArray[np.uint16]]]:
            for block, path in zip(blocks, paths, strict=True):
                for (entry, view), codes in zip(block, _read_block(path), strict=True):
                    if view.number == 0:
                        counts.add_(codeword_counts(torch.from_numpy(codes.astype(np.int64)), shape.codebook_sizes))
                    yield entry.recording_id, view.number, entry.group, codes

        def key(block: Block) -> str:
            views = [[entry.pcm_sha256, view.shift, view.gain, view.semitones, view.decibels] for entry, view in block]
            return sha256_json(views)[:32]

        cache = Cache(work, work_version("encode_codes", codec_sha256, codec.device.type))
        samples = Corpus(corpus.folder.absolute(), corpus.sample_rate, ())  # as it is sent to others, without its list
        function = partial(_encode_block, codec, samples)
        paths = map_cached(function, blocks, key, executor, cache, say, [samples.folder])
        write_corpus_codes(temporary, config, codewords_of(codec).numpy(), named, coded())
        cache.keep_only(paths)
        frames, taken = int(counts[0].sum()), time.monotonic() - began
        progress.say(f"{frames} frames, {views} views of each training recording, {taken:.1f} s")
    codec.cpu()
    health = codebook_health(counts, shape.codebook_sizes)
    used = {f"{level}/{name}": row[name] for name in ("utilization", "perplexity") for level, row in health.items()}
    return {"frames": frames, "tokens": frames * shape.num_quantizers, "views": views, **used}


def _encode_block(codec: VQVAE, corpus: Corpus, block: Block, path: Path) -> None:
    """Write the codes `[F, Q]` of each view of a block."""

    def sound(entry: ManifestRow, view: View) -> tuple[int, Callable[[int, int], Tensor]]:
        return view.samples(entry), lambda start, stop: waveform(corpus, entry, start, stop - start, view)

    found = encode_each_from(codec, (sound(entry, view) for entry, view in block))
    write_bytes(path, save({f"{n:05d}": codes.cpu().numpy().astype(np.uint16) for n, codes in enumerate(found)}))


def _read_block(path: Path) -> list[NDArray[np.uint16]]:
    """Codes of the views of a block. Raises ArtifactError."""
    try:
        return [codes for _, codes in sorted(load_file(path).items())]
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: expected codes of recordings, found {error}; remove it and run again") from error
