"""From a folder to the tables of `make bench ARGS=--peers`, with a small model and the peers that need no training."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks import __main__ as command
from benchmarks.judge.features import panel
from benchmarks.peers import measure, peer
from benchmarks.peers.worker import SOUNDS, TRAINED
from benchmarks.report import Table, read
from distill.api import Model
from distill.errors import ArtifactError
from distill.execution import Execution
from distill.pipeline.train import train_model
from distill.storage.work import Executor
from unit.benchmarks.judge.test_main import tiny_params
from unit.tiny import RATE, write_tone

QUICK = tuple(one for one in peer.PEERS if one.name in ("Distill", "counting", "grains"))


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `mine` of 14 recordings, and below `.peers` a run of Distill on it, as an earlier bench leaves it."""
    folder = tmp_path_factory.mktemp("peers")
    for number in range(14):
        write_tone(folder / f"mine/{number}.wav", 0.3 + 0.04 * number, pitch=150.0 * 1.15**number)
    run = folder / ".peers/mine/distill"
    run.mkdir(parents=True)
    settings = (tiny_params(), Execution("cpu", "fp32", 1), Executor(1), True, folder / "state")
    train_model(folder / "mine", run / peer.MODEL, *settings)
    (run / TRAINED).write_text(json.dumps({"cpu_seconds": 90.0, "bytes": 2_500_000}))
    return folder


def measured(folder: Path, peers: tuple[peer.Peer, ...] = QUICK) -> dict[str, Table]:
    tables = measure.measure_peers(folder / "mine", [2.0], 4, peers, folder / ".peers")
    return {table.name: table for table in tables}


def test_a_folder_becomes_tables_and_sounds_that_are_judged_again_alike(mine: Path) -> None:
    found = measured(mine)
    kinds = ["held-out recordings", "training recordings", "Distill", "counting", "grains"]
    for table in found.values():
        assert [row[:2] for row in table.rows] == [("mine", kind) for kind in kinds]
        assert all(len(row) == len(table.columns) for row in table.rows)
    judges = list(panel(Model(mine / ".peers/mine/distill" / peer.MODEL).bundle.codec))
    assert list(found["peers"].columns[-len(judges) :]) == judges
    rows = {row[1]: dict(zip(found["peers"].columns, row, strict=True)) for row in found["peers"].rows}
    assert (rows["Distill"]["CPU minutes"], rows["Distill"]["MB"]) == ("1.5", "2.5")
    assert (rows["grains"]["CPU minutes"], rows["held-out recordings"]["MB"]) == ("–", "–")
    cell = r"([+-]\d+\.\d|–), ([+-]\d+\.\d|–); p [01]\.\d{3}"
    assert all(re.fullmatch(cell, row[judge]) for row in list(rows.values())[1:] for judge in judges)
    copies = {kind: list(map(int, row["copy/close/new"].split("/"))) for kind, row in rows.items()}
    assert [sum(copies[kind]) for kind in kinds[2:]] == [4, 4, 4]
    assert copies["training recordings"][0] == sum(copies["training recordings"])
    assert measured(mine) == found


def test_sounds_are_drawn_again_where_another_number_is_asked_for(mine: Path) -> None:
    measured(mine)
    sounds = mine / ".peers/mine/grains" / SOUNDS
    kept = soundfile.read(sounds / "000.wav")[0]
    soundfile.write(sounds / "004.wav", np.zeros(100), RATE)
    measured(mine)
    assert len([*sounds.iterdir()]) == 4
    assert np.array_equal(soundfile.read(sounds / "000.wav")[0], kept)


def test_an_environment_that_is_not_set_up_is_told(mine: Path, tmp_path: Path) -> None:
    missing = peer.TrainedNetwork("RAVE", "rave", tmp_path / "python")
    with pytest.raises(ArtifactError, match="expected the environment of the peers, found none; run make bench"):
        measured(mine, (missing,))


def test_the_flag_measures_what_its_folders_hold(monkeypatch: pytest.MonkeyPatch, mine: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "PEERS", QUICK)
    monkeypatch.chdir(mine)
    asked = [str(mine / "mine"), "--peers", "--count", "4", "--write", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *asked])
    (mine / "params.yaml").write_text((peer.ROOT / "params.yaml").read_text())
    command.main()
    assert {path.stem: read(path) for path in tmp_path.iterdir()} == measured(mine)
