"""Blocks of files: measure their bandwidths, and decode them to shards, here or on other machines.

A decoded block is a folder with a manifest of its files, and shards, side information and fingerprints of its
recordings, with exact copies stored once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from distill.audio.bandwidth import (
    UNREADABLE,
    Bandwidth,
)
from distill.audio.corpus import (
    MANIFEST,
    PREFIX,
    SCHEMA,
    ManifestRow,
    recording_id,
)
from distill.audio.decode import Decoder
from distill.audio.read import Recording
from distill.audio.side_info import SideInfo, write_side_info
from distill.audio.source import (
    AudioFile,
    open_source,
)
from distill.storage.files import atomic_folder
from distill.storage.shards import ShardWriter
from distill.storage.tables import schema_of, write_rows
from distill.storage.work import (
    Executor,
    R,
    T,
)

FINGERPRINTS = "fingerprints.safetensors"
BANDWIDTH_COLUMNS = schema_of(Bandwidth)
FileBlock = tuple[AudioFile, ...]  # consecutive files


class BlockWorker(Executor):
    """Measures and decodes blocks of files from one source, with its own decoders until it is closed.

    `said` is called with files that were measured (False) or decoded (True). As an executor it processes several blocks
    in parallel, since a block may be one large file. Pickled for another machine, a worker has one decoder.
    """

    def __init__(
        self, place: str, decoders: int, said: Callable[[FileBlock, bool], object] = lambda *_: None
    ) -> None:
        """`place` is an absolute folder or a URL."""
        super().__init__(decoders)
        self._place, self._said, self._source = place, said, open_source(place)
        self._decoders = [Decoder(decoders) for _ in range(decoders)]
        self._idle = [*self._decoders]
        self._threads = ThreadPoolExecutor(decoders)  # one for each decoder

    def __reduce__(self) -> tuple[Any, ...]:
        return BlockWorker, (self._place, 1)

    def close(self) -> None:
        """End the decoders at once."""
        for decoder in self._decoders:
            decoder.close()
        self._threads.shutdown(cancel_futures=True)

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        folders: Sequence[Path],  # noqa: ARG002 - for subclasses
    ) -> Iterator[tuple[T, R]]:
        """`Executor.map` with results in order. Ends the decoders on any exception."""
        items = [*items]
        with ThreadPoolExecutor(self.processors) as threads:
            try:
                yield from zip(items, threads.map(function, items), strict=True)
            except BaseException:
                self.close()
                raise

    def measure(self, block: FileBlock, path: Path) -> bool:
        """Write the bandwidths of a block's files. False if measuring again may give other results."""
        measured = [bandwidth for _, bandwidth in self._each(block, False, Decoder.bandwidth)]
        write_rows(path, [bandwidth or UNREADABLE for bandwidth in measured], BANDWIDTH_COLUMNS)
        return None not in measured

    def decode(
        self, sample_rate: int, trim: bool, stereo: bool, block: FileBlock, folder: Path
    ) -> bool:
        """Write a decoded block. False if decoding again may give other results."""
        rows: list[ManifestRow] = []
        prints: dict[str, NDArray[Any]] = {}
        side_info: dict[str, SideInfo] = {}
        places: dict[str, tuple[str, int]] = {
            "": ("", 0)
        }  # by pcm_sha256, which is empty without samples
        is_certain = True
        with atomic_folder(folder) as temporary:
            with ShardWriter(temporary, PREFIX) as shards:
                call = partial(
                    Decoder.decoded,
                    sample_rate=sample_rate,
                    trim=trim,
                    channels="fold" if stereo else "mono",
                )
                for file, recording in self._each(block, True, call):
                    sha256 = recording.pcm_sha256
                    if sha256 not in places:
                        places[sha256] = shards.append(recording.pcm)
                        side_info[sha256] = recording.side_info
                        assert recording.fingerprint
                        for name, values in recording.fingerprint._asdict().items():
                            prints[f"{sha256} {name}"] = values
                    rows.append(block_row(file, recording, sample_rate, *places[sha256]))
                    is_certain &= recording.is_certain
            (temporary / FINGERPRINTS).write_bytes(save(prints))
            write_side_info(temporary, [*side_info.values()])
            write_rows(temporary / MANIFEST, rows, SCHEMA)
        return is_certain

    def _each(
        self, block: FileBlock, is_decoded: bool, call: Callable[[Decoder, Path], R]
    ) -> Iterator[tuple[AudioFile, R]]:
        """Yield each file of a block, in order, with the result of `call` on a decoder and the file."""

        def called(file: AudioFile) -> R:
            decoder = self._idle.pop()
            try:
                with self._source.local(file) as path:
                    return call(decoder, path)
            finally:
                self._idle.append(decoder)

        for file, result in zip(block, self._threads.map(called, block), strict=True):
            yield file, result
            self._said((file,), is_decoded)


def block_row(
    file: AudioFile, decoded: Recording, sample_rate: int, shard: str, offset: int
) -> ManifestRow:
    """Manifest row of a file within its block, before duplicates in other blocks are known."""
    return ManifestRow(
        recording_id=recording_id(file.relative),
        path=file.path,
        status="rejected" if not decoded.pcm_sha256 else "warned" if decoded.reason else "used",
        reason=decoded.reason,
        sha256=decoded.sha256,
        pcm_sha256=decoded.pcm_sha256,
        duplicate_of="",
        group="",
        sample_rate=decoded.sample_rate,
        channels=decoded.channels,
        channels_used=decoded.channels_used,
        trimmed_before=decoded.trimmed_before,
        trimmed_after=decoded.trimmed_after,
        seconds=len(decoded.pcm) / sample_rate,
        peak=float(np.abs(decoded.samples).max(initial=0.0)),
        frames_in_shard=len(decoded.pcm),
        shard=shard,
        offset=offset,
        exponent=decoded.exponent,
        label=file.label,
    )
