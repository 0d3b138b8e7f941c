"""Search of parts of a library by the workers of a cluster."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save

from distill.cluster import Cluster, SharedCluster, check_worker
from distill.code_version import code_sha256
from distill.codec.model import VQVAE, VQVAEArchitecture
from distill.codes.store import Codes
from distill.novelty.part_index import Found, Matches, Part, PartIndex, Passages, best_found, passages_of
from distill.novelty.spectral_space import CodeSpectra
from distill.storage.files import canonical_json, remove_folder, sha256_text, write_bytes
from distill.storage.weights import load_weights, save_weights

R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class SearchTask:
    """A `Part` to search, by a worker with this version of the code: some of the recordings in the files of `folder`."""

    folder: Path
    architecture: str  # of the codec, as JSON
    first: int
    start: int
    lengths: Sequence[int]  # frames of each recording
    version: str
    found: Found | None = None  # what to align


def search_there(
    shared: SharedCluster, codec: VQVAE, parts: Sequence[Part], passages: Sequence[Codes]
) -> list[Matches]:
    """The matches of passages in each of the parts, by the workers of a cluster. Raises ClusterError."""
    with Cluster(shared.address) as cluster, _tasks(shared.folder, codec, parts, passages) as tasks:
        found = best_found(_in_order(cluster, find_task, tasks))
        chosen = [replace(task, found=one) for task, one in zip(tasks, found, strict=True)]
        return _in_order(cluster, align_task, chosen)


def find_task(task: SearchTask) -> Found:
    """Find where passages may lie, on a worker."""
    return PartIndex.find(*_read(task))


def align_task(task: SearchTask) -> Matches:
    """Align passages where they may lie, on a worker."""
    assert task.found is not None, "what was found comes with the task"
    return PartIndex.align(*_read(task), task.found)


@contextmanager
def _tasks(folder: Path, codec: VQVAE, parts: Sequence[Part], passages: Sequence[Codes]) -> Iterator[list[SearchTask]]:
    """A task for each part; what they read is in the folder `search` meanwhile."""
    inside = folder.absolute() / "search"
    remove_folder(inside)  # a killed process may have left it
    inside.mkdir(parents=True)
    try:
        save_weights(inside / "codec.safetensors", codec)
        _write(inside / "recordings.safetensors", [codes for part in parts for codes in part.recordings])
        _write(inside / "passages.safetensors", passages)
        architecture, version = codec.architecture.model_dump_json(), _version()
        yield [
            SearchTask(inside, architecture, part.first, part.start, tuple(map(len, part.recordings)), version)
            for part in parts
        ]
    finally:
        remove_folder(inside)


def _in_order(cluster: Cluster, function: Callable[[SearchTask], R], tasks: Sequence[SearchTask]) -> list[R]:
    done = {id(task): result for task, result in cluster.map(function, tasks)}
    return [done[id(task)] for task in tasks]


def _read(task: SearchTask) -> tuple[PartIndex, Passages]:
    check_worker(task.version, _version(), task.folder)
    architecture = VQVAEArchitecture.model_validate_json(task.architecture)
    spectra = CodeSpectra(load_weights(task.folder / "codec.safetensors", VQVAE(architecture)))
    with safe_open(task.folder / "recordings.safetensors", "numpy") as file:
        codes = file.get_slice("codes")[task.start : task.start + sum(task.lengths)]
    asked = load_file(task.folder / "passages.safetensors")
    passages = [one.astype(np.int64) for one in _split(asked["codes"], asked["lengths"].tolist())]
    part = Part(task.first, task.start, _split(codes, task.lengths))
    return PartIndex(spectra, part), passages_of(spectra, passages)


def _write(path: Path, pieces: Sequence[NDArray[np.integer]]) -> None:
    codes = np.concatenate(pieces).astype(np.uint16)
    write_bytes(path, save({"codes": codes, "lengths": np.array([len(one) for one in pieces])}))


def _split(codes: NDArray[np.integer], lengths: Sequence[int]) -> list[NDArray[np.integer]]:
    return np.split(codes, np.cumsum(lengths)[:-1])


def _version() -> str:
    return sha256_text(canonical_json([code_sha256("bundle"), torch.__version__, np.__version__]))
