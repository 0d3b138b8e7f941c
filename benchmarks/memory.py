"""Peak memory of encoding 1 and 10 hours of sound, as long recordings and as thousands of short ones.

`python -m benchmarks.memory CORPUS CODES` encodes a corpus in this process with an untrained codec and prints its peak
in MiB.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.audio.corpus import MANIFEST, PREFIX, REPORT
from distill.audio.manifest import ManifestRow, recording_id, write_manifest
from distill.storage.files import write_json
from distill.storage.shards import ShardWriter

HOURS = (1, 10)
LONG_SECONDS, SHORT_SECONDS = 3600, 4
SAMPLE_RATE = 24_000
LARGE_CORPUS = 1000  # recordings: enough for the large tier
TONES = 64


@dataclass(frozen=True)
class Peak:
    """Peak memory of a process that encoded `hours` of sound in recordings of `recording_seconds`."""

    hours: float
    recording_seconds: int
    recordings: int
    mebibytes: float
    baseline_mebibytes: float  # before the first recording: Python, PyTorch and the codec
    times_real_time: float


def measure_memory(hours: float, recording_seconds: int, seed: int) -> Peak:
    """Write a synthetic corpus to a temporary folder and encode it in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        recordings = write_synthetic_corpus(corpus, hours, recording_seconds, seed)
        command = [sys.executable, "-m", "benchmarks.memory", str(corpus), str(Path(folder) / "codes")]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    baseline, peak, seconds = (float(value) for value in printed)
    return Peak(hours, recording_seconds, recordings, peak, baseline, hours * 3600 / seconds)


def write_synthetic_corpus(folder: Path, hours: float, recording_seconds: int, seed: int) -> int:
    """Write noise and tones as a corpus for `load_corpus`. Returns the number of recordings."""
    generator = np.random.default_rng(seed)
    second = _tones(generator)
    shards = ShardWriter(folder, PREFIX)
    rows = []
    for index in range(round(hours * 3600 / recording_seconds)):
        pcm = np.empty((recording_seconds, SAMPLE_RATE), dtype=np.int16)
        for row in pcm:
            row[:] = second[generator.integers(TONES)] + generator.integers(-500, 500, SAMPLE_RATE, dtype=np.int16)
        shard, offset = shards.append(pcm.reshape(-1))
        name = f"{index:06d}.wav"
        rows.append(
            ManifestRow(
                recording_id=recording_id(name),
                path=name,
                status="used",
                reason="",
                sha256=f"{index:064d}",
                pcm_sha256=f"{index:064d}",
                duplicate_of="",
                group=f"{index:016d}",
                sample_rate=SAMPLE_RATE,
                channels=1,
                seconds=float(recording_seconds),
                frames_in_shard=pcm.size,
                shard=shard,
                offset=offset,
                label="",
            )
        )
    shards.close()
    write_json(folder / REPORT, {"sample_rate": SAMPLE_RATE})
    write_manifest(folder / MANIFEST, rows)
    return len(rows)


def encode_here(corpus_folder: Path, codes: Path) -> tuple[float, float, float]:
    """Encode the corpus. Returns peak memory in MiB before and after, and seconds."""
    from distill.audio.corpus import load_corpus
    from distill.codec.build import build_vqvae
    from distill.codes.encode import encode_corpus
    from distill.codes.store import CodesConfig, CodesWriter
    from distill.params import get_adaptive_vqvae_config

    codec = build_vqvae(SAMPLE_RATE, get_adaptive_vqvae_config(LARGE_CORPUS), seed=0).eval()
    shape = codec.architecture
    codes.mkdir()
    geometry = CodesConfig(
        codebook_size=shape.codebook_size,
        num_quantizers=shape.num_quantizers,
        frame_rate=shape.spectrogram.frame_rate,
        codec_sha256="",
    )
    corpus = load_corpus(corpus_folder)
    before, began = _peak_mebibytes(), time.perf_counter()
    encode_corpus(codec, corpus, CodesWriter(codes, geometry, codec.quantizer.codebooks.numpy()))
    return before, _peak_mebibytes(), time.perf_counter() - began


def _tones(generator: np.random.Generator) -> NDArray[np.int16]:
    """Tones of one second each, `[TONES, SAMPLE_RATE]`."""
    phase = 2 * np.pi * np.arange(SAMPLE_RATE) / SAMPLE_RATE
    pitches = generator.integers(40, 4000, (TONES, 1))
    return (8000 * np.sin(pitches * phase)).astype(np.int16)


def _peak_mebibytes() -> float:
    status = Path("/proc/self/status")
    if status.is_file():
        # The peak of getrusage includes that of the parent at the fork.
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 2**10
    maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maximum / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kibibytes elsewhere


def main() -> None:
    """Print peak before, peak after and seconds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("codes", type=Path)
    arguments = parser.parse_args()
    print(*encode_here(arguments.corpus, arguments.codes))


if __name__ == "__main__":
    main()
