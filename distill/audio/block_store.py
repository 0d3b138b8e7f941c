"""Decoded blocks of a folder of recordings, kept so that a later or interrupted `ingest` need not decode them again.

A block is a run of files. Its folder holds the samples of its recordings as shards, exact copies in the block once,
their fingerprints, and a row for each file. Everything is keyed by what it was made from: files, code and sample rate.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile as sf
import soxr
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from distill.audio.bandwidth import Bandwidth
from distill.audio.corpus import PREFIX
from distill.audio.decoding import Decoded
from distill.audio.fingerprint import Fingerprint
from distill.audio.read import Recording
from distill.audio.scan import AudioFile
from distill.code_version import code_sha256
from distill.storage.blocks import cut_blocks
from distill.storage.files import atomic_folder, canonical_json, remove_other_folders, sha256_text
from distill.storage.shards import ShardReader, ShardWriter
from distill.storage.tables import read_rows, write_rows

BLOCK_FILES = 512
BLOCK_BYTES = 256 << 20  # of files, compressed or not
_BANDWIDTHS, _ROWS, _FINGERPRINTS = "bandwidths.parquet", "rows.parquet", "fingerprints.safetensors"

_BANDWIDTH_SCHEMA = pa.schema([("sample_rate", pa.int64()), ("seconds", pa.float64()), ("has_treble", pa.bool_())])


@dataclass(frozen=True, slots=True)
class BlockRow:
    """What became of one file of a block. `shard` and `offset` are those of the block, "" and 0 if rejected."""

    path: str
    identity: str  # "" where it may decode another time
    reason: str
    sha256: str
    pcm_sha256: str  # "" if rejected
    sample_rate: int  # of the file
    channels: int
    seconds: float
    samples: int  # at the rate of the corpus
    shard: str
    offset: int
    first_frame: int  # of the fingerprint, in those of the block
    frames: int


_STRINGS = ("path", "identity", "reason", "sha256", "pcm_sha256", "shard")
_ROW_SCHEMA = pa.schema(
    [
        (name, pa.string() if name in _STRINGS else pa.float64() if name == "seconds" else pa.int64())
        for name in BlockRow.__dataclass_fields__
    ]
)


@dataclass(frozen=True)
class Block:
    """A run of files, and the key of what is known of them."""

    files: tuple[AudioFile, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Known:
    """Where a file was decoded before: the folder of a block and its row there."""

    folder: Path
    row: BlockRow


def blocks_of(files: Sequence[AudioFile]) -> list[Block]:
    """Cut files, sorted by path, into blocks."""
    cut = cut_blocks([file.path for file in files], [file.size for file in files], BLOCK_FILES, BLOCK_BYTES)
    return [_block(tuple(files[index] for index in indices)) for indices in cut]


def _block(files: tuple[AudioFile, ...]) -> Block:
    return Block(files, sha256_text(canonical_json([[file.path, file.identity] for file in files]))[:32])


def decoder_version() -> str:
    """Key of the code and the libraries that decode."""
    libraries = [np.__version__, sf.__version__, sf.__libsndfile_version__, soxr.__version__]
    return sha256_text(canonical_json([code_sha256("ingest"), *libraries]))[:16]


class BlockStore:
    """The decoded blocks in a folder. Blocks of files whose identity is not known are not kept."""

    def __init__(self, folder: Path, version: str) -> None:
        self._root, self._folder = folder, folder / version

    def near_duplicates(self, sample_rate: int) -> Path:
        """File of what the last search for near-duplicates at a rate found."""
        return self._folder / f"near-duplicates-{sample_rate}.safetensors"

    def make_folder(self) -> None:
        """Make the folder, which the workers of a cluster look for."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def bandwidths(self, block: Block) -> list[Bandwidth] | None:
        """Bandwidths of the files of a block, None where they were not measured."""
        path = self._folder / block.key / _BANDWIDTHS
        if not path.exists():
            return None
        return read_rows(path, Bandwidth, "bandwidths of recordings", _BANDWIDTH_SCHEMA)

    def keep_bandwidths(self, block: Block, bandwidths: Sequence[Bandwidth]) -> None:
        """Keep the bandwidths of the files of a block."""
        write_rows(self._folder / block.key / _BANDWIDTHS, bandwidths, _BANDWIDTH_SCHEMA)

    def folder(self, block: Block, sample_rate: int) -> Path:
        """Folder of a block that was decoded at a rate, or is to be."""
        return self._folder / block.key / str(sample_rate)

    def has(self, block: Block, sample_rate: int) -> bool:
        """Whether a block was decoded at a rate, with certainty of what became of each file."""
        folder = self.folder(block, sample_rate)
        return (folder / _ROWS).exists() and all(row.identity for row in read_block(folder))

    def others(self, blocks: Sequence[Block], sample_rate: int) -> dict[tuple[str, str], Known]:
        """Where files were decoded with certainty, but for these blocks, by path and identity."""
        current = {block.key for block in blocks}
        found: dict[tuple[str, str], Known] = {}
        for folder in sorted(self._folder.glob(f"*/{sample_rate}")):
            if folder.parent.name not in current and (folder / _ROWS).exists():
                found |= {(row.path, row.identity): Known(folder, row) for row in read_block(folder) if row.identity}
        return found

    def keep_only(self, blocks: Sequence[Block], sample_rate: int) -> None:
        """Remove all but these blocks at this rate."""
        kept = {self.folder(block, sample_rate) for block in blocks if all(file.identity for file in block.files)}
        remove_other_folders(self._root, {self._folder})
        remove_other_folders(self._folder, {folder.parent for folder in kept})
        for folder in kept:
            remove_other_folders(folder.parent, kept)


def write_block(folder: Path, files: Iterable[tuple[AudioFile, Decoded]]) -> None:
    """Write what became of the files of a block, atomically."""
    rows: list[BlockRow] = []
    prints: list[Fingerprint] = []
    frames = 0
    places: dict[str, tuple[str, int]] = {}
    with atomic_folder(folder) as temporary:
        with ShardWriter(temporary, PREFIX) as shards:
            for file, outcome in files:
                recording, own = outcome.recording, 0
                shard, offset = "", 0
                if recording is not None and outcome.fingerprint is not None:
                    if outcome.pcm_sha256 not in places:
                        places[outcome.pcm_sha256] = shards.append(recording.pcm)
                    shard, offset = places[outcome.pcm_sha256]
                    prints.append(outcome.fingerprint)
                    own = len(outcome.fingerprint.loud)
                rows.append(_row(file, outcome, shard, offset, frames, own))
                frames += own
        (temporary / _FINGERPRINTS).write_bytes(save(_joined(prints)))
        write_rows(temporary / _ROWS, rows, _ROW_SCHEMA)


def _row(file: AudioFile, outcome: Decoded, shard: str, offset: int, first_frame: int, frames: int) -> BlockRow:
    recording = outcome.recording
    return BlockRow(
        path=file.path,
        identity=file.identity if outcome.is_certain else "",
        reason=outcome.reason,
        sha256=outcome.sha256,
        pcm_sha256=outcome.pcm_sha256,
        sample_rate=recording.source_sample_rate if recording else 0,
        channels=recording.source_channels if recording else 0,
        seconds=recording.seconds if recording else 0.0,
        samples=len(recording.pcm) if recording else 0,
        shard=shard,
        offset=offset,
        first_frame=first_frame,
        frames=frames,
    )


def _joined(prints: Sequence[Fingerprint]) -> dict[str, NDArray[Any]]:
    empty = Fingerprint(np.empty(0, np.uint32), np.empty(0, np.uint32), np.empty(0, np.bool_))
    names = ("signs", "sure", "loud")
    return {name: np.concatenate([getattr(one, name) for one in (empty, *prints)]) for name in names}


def read_block(folder: Path) -> list[BlockRow]:
    """Rows of a block. Raises ArtifactError."""
    return read_rows(folder / _ROWS, BlockRow, "a block of decoded recordings", _ROW_SCHEMA)


def read_fingerprints(folder: Path) -> dict[str, NDArray[Any]]:
    """The fingerprints of a block, end to end: `signs`, `sure` and `loud`, `[F]`."""
    return load_file(folder / _FINGERPRINTS)


def fingerprint_of(row: BlockRow, fingerprints: Mapping[str, NDArray[Any]]) -> Fingerprint:
    """The fingerprint of a row, of those of its block."""
    own = slice(row.first_frame, row.first_frame + row.frames)
    return Fingerprint(**{name: frames[own] for name, frames in fingerprints.items()})


class KnownFiles:
    """Reads what was decoded before, of one block after another."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    def decoded(self, known: Known) -> Decoded:
        """What became of a file."""
        row = known.row
        if not row.pcm_sha256:
            return Decoded(row.reason, row.sha256)
        if known.folder != self._folder:
            self._folder, self._prints = known.folder, read_fingerprints(known.folder)
            self._shards = ShardReader(known.folder, PREFIX)
        pcm = np.asarray(self._shards.read(row.shard, row.offset, row.samples), dtype=np.int16)
        prints = fingerprint_of(row, self._prints)
        recording = Recording(pcm, row.sample_rate, row.channels, row.seconds, ())
        return Decoded(row.reason, row.sha256, row.pcm_sha256, recording, prints)
