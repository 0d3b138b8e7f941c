"""Blocks of views of recordings that are encoded together, and their codes, kept for a later or interrupted run.

The codes of a block are a function of its samples and the codec alone, so the codes of a corpus do not depend on which
of its blocks were encoded before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from distill.audio.augment import View
from distill.audio.corpus import CorpusEntry
from distill.storage.blocks import cut_blocks
from distill.storage.files import canonical_json, remove_other_folders, sha256_text, write_bytes

BLOCK_RECORDINGS = 64
# About 6 minutes of sound are encoded before their codes go to the writer: what it keeps of each recording, allocated
# between temporary tensors, would fragment the heap.
BLOCK_FRAMES = 1 << 14

Coded = NDArray[np.uint16]  # [F, Q]


class Take(NamedTuple):
    """One view of a recording."""

    entry: CorpusEntry
    view: View


@dataclass(frozen=True)
class Block:
    """Views of a run of recordings, with the frames of each, and the key of what they are."""

    takes: tuple[Take, ...]
    frames: tuple[int, ...]
    key: str

    @property
    def recordings(self) -> int:
        """Number of recordings, each of which has a view 0."""
        return sum(take.view.number == 0 for take in self.takes)


def blocks_of(
    entries: Sequence[CorpusEntry], views: Callable[[CorpusEntry], Sequence[View]], frames_for: Callable[[int], int]
) -> list[Block]:
    """Cut the views of recordings into blocks; `frames_for` gives the frames of so many samples."""
    chosen = [tuple(views(entry)) for entry in entries]
    sizes = [len(own) * frames_for(entry.samples) for entry, own in zip(entries, chosen, strict=True)]
    names = [entry.recording_id for entry in entries]
    blocks = []
    for indices in cut_blocks(names, sizes, BLOCK_RECORDINGS, BLOCK_FRAMES):
        takes = tuple(Take(entries[index], view) for index in indices for view in chosen[index])
        frames = tuple(frames_for(take.entry.samples - take.view.shift) for take in takes)
        made_of = [[take.entry.pcm_sha256, take.view.shift, take.view.gain] for take in takes]
        blocks.append(Block(takes, frames, sha256_text(canonical_json(made_of))[:32]))
    return blocks


class CodeStore:
    """Codes of blocks in a folder, of one version of code, codec and libraries."""

    def __init__(self, folder: Path, version: str) -> None:
        self._root, self.folder = folder.absolute(), folder.absolute() / version

    def path(self, block: Block) -> Path:
        """The file of a block's codes."""
        return self.folder / block.key[:2] / f"{block.key}.safetensors"

    def read(self, block: Block, num_quantizers: int) -> list[Coded] | None:
        """Codes of the views of a block, None where they are not there."""
        try:
            codes = load_file(self.path(block))["codes"]
        except (OSError, SafetensorError, KeyError):
            return None
        if codes.shape != (sum(block.frames), num_quantizers) or codes.dtype != np.uint16:
            return None
        return np.split(codes, np.cumsum(block.frames)[:-1])

    def write(self, block: Block, codes: Sequence[Coded]) -> None:
        """Keep the codes of the views of a block."""
        write_bytes(self.path(block), save({"codes": np.concatenate(codes).astype(np.uint16, copy=False)}))

    def keep_only(self, blocks: Sequence[Block]) -> None:
        """Remove the codes of all other blocks and versions."""
        kept = {self.path(block) for block in blocks}
        remove_other_folders(self._root, {self.folder})
        for path in self.folder.glob("*/*.safetensors"):
            if path not in kept:
                path.unlink(missing_ok=True)
