"""RAVE and the diffusion model in the environment of their own: a step of training, and sounds."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.peers.peer import PEERS_PYTHON, ROOT, environment
from benchmarks.peers.worker import DRAWN, SOUNDS, TRAINED

RATE = 44_100
needs_peers = pytest.mark.skipif(
    not PEERS_PYTHON.is_file(), reason="needs .venv-peers, which make bench ARGS=--peers installs"
)


def work(command: str, module: str, recordings: Path, folder: Path, *flags: str) -> None:
    arguments = [command, module, str(recordings), str(folder), *flags]
    worker = [str(PEERS_PYTHON), "-W", "ignore", "-m", "benchmarks.peers.worker", *arguments]
    subprocess.run(worker, check=True, cwd=ROOT, env=environment())


@needs_peers
@pytest.mark.parametrize("module", ["rave", "diffusion"])
def test_a_step_is_learnt_and_sounds_are_drawn_from_a_seed(tmp_path: Path, module: str) -> None:
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for number in range(3):
        tone = np.sin(0.02 * (number + 1) * np.arange(40_000)) / 4
        soundfile.write(recordings / f"{number}.wav", tone, RATE, subtype="FLOAT")
    work("train", module, recordings, tmp_path / "run", "--minutes", "1e-9")
    run = tmp_path / "run/1e-09"
    assert json.loads((run / TRAINED).read_text())["steps"] == 1
    drawn = []
    for seed in ("0", "0", "1"):
        work("draw", module, recordings, run, "--count", "2", "--seconds", "0.5", "--seed", seed)
        drawn.append(np.stack([soundfile.read(file)[0] for file in sorted((run / SOUNDS).iterdir())]))
    assert drawn[0].shape == (2, RATE // 2)
    assert np.isfinite(drawn[0]).all()
    assert np.allclose(drawn[0], drawn[1], atol=1e-5)
    assert not np.allclose(drawn[0], drawn[2], atol=1e-5)
    assert not np.allclose(drawn[0][0], drawn[0][1], atol=1e-5)
    assert json.loads((run / DRAWN).read_text())["sound_seconds"] == pytest.approx(1.0)
