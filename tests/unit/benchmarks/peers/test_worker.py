"""The process of a network: windows of recordings, budgets of CPU time, and what is kept of a training."""

import json
import time
from pathlib import Path

import pytest
import soundfile
import torch

from benchmarks.peers import wavegan, worker
from benchmarks.peers.worker import WINDOW


def test_windows_are_short_recordings_from_their_beginning_and_parts_of_long_ones() -> None:
    torch.manual_seed(0)
    short, long = torch.arange(1.0, 1001.0), -torch.arange(1.0, WINDOW + 501.0)
    cut = worker.windows([short, long], 40)
    assert cut.shape == (40, 1, WINDOW)
    starts = set()
    for window in cut[:, 0]:
        if window[0] > 0:
            assert torch.equal(window[:1000], short)
            assert not window[1000:].any()
        else:
            starts.add(float(window[0]))
            assert torch.equal(window, window[0] - torch.arange(WINDOW))
    assert len(starts) > 5


def test_each_budget_is_kept_once_and_the_last_one_ends_the_training() -> None:
    kept: list[tuple[float, int]] = []
    go_on = worker.budget([0.0, 1e9], lambda minutes, _, steps: kept.append((minutes, steps)))
    assert [go_on() for _ in range(3)] == [True] * 3
    assert kept == [(0.0, 1)]
    ended = worker.budget([0.0, 0.0], lambda minutes, _, steps: kept.append((minutes, steps)))
    assert not ended()
    assert kept[1:] == [(0.0, 1), (0.0, 1)]


def test_the_time_of_keeping_a_network_is_no_part_of_a_budget() -> None:
    used: list[float] = []

    def keep(_: float, seconds: float, _steps: int) -> None:
        used.append(seconds)
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass

    go_on = worker.budget([0.0, 0.1 / 60], keep)
    assert go_on()
    assert go_on()  # more was used, but not by steps
    while go_on():
        pass
    assert used[1] >= 0.1


def test_a_network_is_kept_and_draws_the_same_sounds_from_a_seed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(wavegan, "BATCH", 1)
    torch.manual_seed(0)
    recordings = [0.1 * torch.randn(5_000)]
    worker.train("wavegan", recordings, 8_000, tmp_path, [0.0, 1e-9])
    trained = [json.loads((tmp_path / name / worker.TRAINED).read_text()) for name in ("0", "1e-09")]
    assert [figures["steps"] for figures in trained] == [1, 1]
    assert trained[0]["bytes"] == (tmp_path / "0" / worker.WEIGHTS).stat().st_size
    sounds = []
    for name in ("0", "1e-09"):
        torch.manual_seed(1)
        worker.draw("wavegan", recordings, 8_000, tmp_path / name, 2, 0.5)
        files = sorted((tmp_path / name / worker.SOUNDS).iterdir())
        sounds.append([soundfile.read(file)[0] for file in files])
        assert json.loads((tmp_path / name / worker.DRAWN).read_text())["sound_seconds"] == 1.0
    assert [len(sound) for sound in sounds[0]] == [4_000, 4_000]
    assert (sounds[0][0] == sounds[1][0]).all()
    assert (sounds[0][0] != sounds[0][1]).any()
