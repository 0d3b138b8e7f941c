"""Resumption of a prior's training after kills: the result must equal that of an uninterrupted one."""

import hashlib
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from distill.codes.store import CodesConfig
from distill.execution import Execution
from distill.params import PriorParams
from distill.prior.data import PriorData
from distill.prior.training import fit_prior
from distill.storage.files import canonical_json, write_json
from distill.storage.weights import weights_sha256
from distill.training import trainer
from distill.training.checkpoints import CheckpointStore
from distill.training.fabric import make_fabric

LONGEST = 4.0  # seconds after the start of training at which a process is killed, at most
RESULT = "result.json"


@dataclass(frozen=True)
class Kills:
    """Result of a training that was killed `kills` times."""

    kills: int
    seconds: float  # from its first start to its end
    equal: bool


def measure_kills(count: int, seed: int = 0) -> Kills:
    """Kill a training `count` times at random moments, let it end, and compare it with an uninterrupted one."""
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        alone, killed = Path(temporary) / "alone", Path(temporary) / "killed"
        _start(alone).wait()
        began, done = time.monotonic(), 0
        while not (killed / RESULT).exists():
            process = _start(killed)
            assert process.stdout is not None
            process.stdout.readline()  # training has begun
            if done < count:
                time.sleep(moments.uniform(0, LONGEST))
                process.kill()
                done += process.wait() != 0
            process.wait()
        seconds = time.monotonic() - began
        return Kills(done, seconds, (alone / RESULT).read_bytes() == (killed / RESULT).read_bytes())


def _start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "benchmarks.kills", str(folder)], stdout=subprocess.PIPE)


def _train(folder: Path) -> None:
    """Train for about 90 seconds on patterned, noisy codes, and write hashes of weights, history and log."""
    rng = np.random.default_rng(0)
    recordings = [
        np.stack([(rng.integers(64) + np.arange(90) * level) % 64 for level in (1, 3)], axis=1) for _ in range(60)
    ]
    noisy = [np.where(rng.random(codes.shape) < 0.2, rng.integers(0, 64, codes.shape), codes) for codes in recordings]
    data = PriorData(
        [[codes] for codes in noisy[:45]],
        [str(number) for number in range(45)],
        noisy[45:],
        [str(number) for number in range(45, 60)],
        torch.randn(2, 64, 16, generator=torch.Generator().manual_seed(0)),
        CodesConfig(codebook_size=64, num_quantizers=2, frame_rate=47.0, codec_sha256=""),
    )
    config = PriorParams.model_validate({"epochs": 150, "patience": 0, "batch_size": 8}).resolve(60)
    store = CheckpointStore(folder / "checkpoints")
    print("training", flush=True)
    with patch.object(trainer, "CHECKPOINT_SECONDS", 0.5), patch.object(trainer, "CHECKPOINT_SHARE", 0.5):
        training = fit_prior(data, config, 0, make_fabric(Execution("cpu")), store)
    reported = canonical_json({"history": training.result.history, "log": training.result.log})
    hashes = {"weights": weights_sha256(training.model), "reported": hashlib.sha256(reported.encode()).hexdigest()}
    write_json(folder / RESULT, hashes)


if __name__ == "__main__":
    _train(Path(sys.argv[1]))
