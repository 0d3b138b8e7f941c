"""One network in a process of its own: it learns recordings for some minutes of CPU time, or makes sounds.

It runs in the environment of the peers, which has neither Distill nor what Distill needs. CPU time is that of all threads
of this process, so that what else a computer does takes no part of a budget.
"""

import argparse
import importlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

WINDOW = 1 << 16  # samples of a sound that is learnt and made: 1.49 s at 44.1 kHz
THREADS = 2
WEIGHTS, TRAINED, DRAWN, SOUNDS = "weights.pt", "trained.json", "drawn.json", "sounds"


class Network(Protocol):
    """What learns recordings. A module of this package has one as `Network`, which takes a sample rate."""

    kept: nn.Module  # what sounds are made with

    def learn(self, recordings: Sequence[Tensor], go_on: Callable[[], bool]) -> None:
        """Learn recordings `[N]` as long as `go_on`, which is called after each step, says so."""

    def draw(self, count: int, samples: int, recordings: Sequence[Tensor]) -> list[Tensor]:
        """New sounds `[N]` of so many samples, WINDOW at most; `recordings` `[N]` are those that it learnt."""


def windows(recordings: Sequence[Tensor], count: int) -> Tensor:
    """Draw windows `[count, 1, WINDOW]` of recordings `[N]`: short ones from their beginnings, and then silence."""
    chosen = []
    for number in torch.randint(len(recordings), (count,)).tolist():
        recording = recordings[number]
        start = int(torch.randint(max(1, len(recording) - WINDOW + 1), ()))
        cut = recording[start : start + WINDOW]
        chosen.append(nn.functional.pad(cut, (0, WINDOW - len(cut))))
    return torch.stack(chosen)[:, None]


def budget(
    minutes: Sequence[float], keep: Callable[[float, float, int], None]
) -> Callable[[], bool]:
    """A `go_on` that says so until the last of ascending budgets is used, in minutes of CPU time from now on.

    At the end of each budget `keep` is called with it, the seconds used and the steps done. Its time does not count.
    """
    left, steps, began = list(minutes), 0, time.process_time()

    def go_on() -> bool:
        nonlocal steps, began
        steps += 1
        used = time.process_time() - began
        while left and used >= 60 * left[0]:
            keep(left.pop(0), used, steps)
        began = time.process_time() - used
        return bool(left)

    return go_on


def train(
    name: str, recordings: Sequence[Tensor], rate: int, work: Path, minutes: Sequence[float]
) -> None:
    """Train a network, and keep it after each budget in a folder of `work` that is named after it."""
    network = network_of(name, rate)

    def keep(budget_minutes: float, seconds: float, steps: int) -> None:
        folder = work / f"{budget_minutes:g}"
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(network.kept.state_dict(), folder / WEIGHTS)
        write(
            folder / TRAINED,
            cpu_seconds=seconds,
            steps=steps,
            bytes=(folder / WEIGHTS).stat().st_size,
        )

    network.learn(recordings, budget(minutes, keep))


def draw(
    name: str, recordings: Sequence[Tensor], rate: int, folder: Path, count: int, seconds: float
) -> None:
    """Make sounds with the network that a folder keeps of a training on recordings `[N]`, and write them there."""
    network = network_of(name, rate)
    network.kept.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
    network.kept.eval()
    samples, began = min(WINDOW, round(seconds * rate)), time.process_time()
    with torch.no_grad():
        sounds = network.draw(count, samples, recordings)
    took = time.process_time() - began
    shutil.rmtree(folder / SOUNDS, ignore_errors=True)
    (folder / SOUNDS).mkdir()
    for number, sound in enumerate(sounds):
        soundfile.write(folder / SOUNDS / f"{number:03d}.wav", sound.numpy(), rate, subtype="FLOAT")
    write(folder / DRAWN, cpu_seconds=took, sound_seconds=sum(map(len, sounds)) / rate)


def network_of(name: str, rate: int) -> Network:
    """A network before its training."""
    network: Network = importlib.import_module(f"benchmarks.peers.{name}").Network(rate)
    return network


def read(folder: Path) -> Iterator[tuple[Tensor, int]]:
    """The recordings `[N]` of a folder of mono files, with their rates, by name."""
    for path in sorted(folder.glob("*.wav")):
        samples, rate = soundfile.read(path, dtype="float32")
        yield torch.from_numpy(samples), rate


def write(path: Path, **values: float) -> None:
    """Write figures as JSON."""
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Train or draw, as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.worker", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    trainer, drawer = commands.add_parser("train"), commands.add_parser("draw")
    for command in (trainer, drawer):
        command.add_argument("name", help="module of the network")
        command.add_argument("recordings", type=Path, help="folder of mono WAV files of one rate")
        command.add_argument("folder", type=Path, help="where the network is kept")
        command.add_argument("--seed", type=int, default=0)
    trainer.add_argument("--minutes", type=float, nargs="+", required=True)
    drawer.add_argument("--count", type=int, required=True)
    drawer.add_argument("--seconds", type=float, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(asked.seed)
    np.random.seed(asked.seed)  # noqa: NPY002 - RAVE's data draws from it
    files = list(read(asked.recordings))
    recordings, rate = [sound for sound, _ in files], files[0][1]
    if asked.command == "train":
        train(asked.name, recordings, rate, asked.folder, sorted(asked.minutes))
    else:
        draw(asked.name, recordings, rate, asked.folder, asked.count, asked.seconds)


if __name__ == "__main__":
    main()
