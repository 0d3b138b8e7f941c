"""`make bench` from a folder to its tables, with a small codec and small priors."""

import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import training
from benchmarks.report import read
from benchmarks.scale import library
from benchmarks.scale.library import write_library
from distill.params import Params
from unit.tiny import write_tone

SHAPE = {"codebook_size": 8, "num_quantizers": 6, "hidden_size": 16, "num_layers": 1, "latent_size": 8}
CODEC = {**SHAPE, "crop_seconds": 0.25}
PRIOR = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "epochs": 2, "pretrained": False}


def test_a_folder_becomes_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for number in range(6):
        write_tone(tmp_path / "mine" / f"{number}.wav", 0.4, pitch=150.0 * (number + 1))
    sections = {"vqvae": CODEC, "prior": PRIOR, "codes": {"views": 1}, "split": {"val_fraction": 0.5}}
    params = Params.model_validate({"corpus": {"path": str(tmp_path / "mine")}, **sections})
    monkeypatch.setattr(command, "load_params", lambda _: params)
    monkeypatch.setattr(training, "PACE_STEPS", 2)
    for flags in ((), ("--prior",)):
        given = [str(tmp_path / "mine"), "--seconds", "4", *flags, "--write", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["benchmarks", *given])
        command.main()
    tables = {path.stem: read(path) for path in (tmp_path / "out").iterdir()}
    assert set(tables) == {"codebooks", "codec", "corpora", "fidelity", "prior", "speed", "step", "tone"}
    for table in tables.values():
        assert all(row[0] == "mine" and len(row) == len(table.columns) for row in table.rows)
    assert [row[1] for row in tables["tone"].rows][:2] == ["ours", "no network"]
    assert all(float(row[7]) > 0 for row in tables["tone"].rows)  # the originals are tones


def test_a_larger_library_holds_the_smaller_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "PER_FOLDER", 6)
    monkeypatch.setattr(library, "SOURCES", 2)
    write_library(tmp_path / "small", 6)
    write_library(tmp_path / "large", 12)
    small, large = (sorted((tmp_path / name).rglob("*.wav")) for name in ("small", "large"))
    assert [path.read_bytes() for path in small] == [path.read_bytes() for path in large[:6]]
    assert len({path.read_bytes() for path in large}) == 12
