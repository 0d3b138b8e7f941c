"""`make judge` from a model file, or a folder to train on, to its tables; and what it says of unusable ones."""

import re
import sys
from pathlib import Path

import pytest

from benchmarks.judge import __main__ as command
from benchmarks.judge import sounds
from benchmarks.judge.measures import MEASURES
from benchmarks.report import Table, read
from distill.api import Model
from distill.execution import Execution
from distill.params import Params, default_params
from distill.pipeline.train import train_model
from distill.storage.work import Executor
from unit.tiny import RATE, write_tone

JUDGES = ["pitch", "speech", "effects", "spectra"]


def tiny_params(val_fraction: float = 0.4) -> Params:
    small = {"epochs": 1, "hidden_size": 16, "num_layers": 1}
    return default_params(
        seed=3,  # of four held-out tones it depends on the split which judge hears what
        corpus={"sample_rate": RATE},
        split={"val_fraction": val_fraction},
        vqvae={"codebook_size": 8, "num_quantizers": 6, "latent_size": 8, "crop_seconds": 0.25, **small},
        prior={
            "depth_layers": 1,
            "batch_size": 2,
            "num_heads": 2,
            "context_seconds": 0.5,
            "pretrained": False,
            **small,
        },
        codes={"views": 1},
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 14 recordings in `sounds`, a model of them, `a.distill`, and `others`."""
    folder = tmp_path_factory.mktemp("judged")
    for number in range(14):
        write_tone(folder / f"sounds/{number}.wav", 0.3 + 0.04 * number, pitch=150.0 * 1.15**number)
        write_tone(folder / f"others/{number}.wav", 0.4, pitch=170.0 * 1.15**number)
    train_model(
        folder / "sounds",
        folder / "a.distill",
        tiny_params(),
        Execution("cpu", "fp32", 1),
        Executor(1),
        True,
        folder / "s",
    )
    return folder


def judged(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str | Path) -> dict[str, Table]:
    given = [str(argument) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["judge", *given, "--count", "4", "--write", str(out)])
    command.main()
    return {path.stem: read(path) for path in out.iterdir()}


def test_a_model_is_judged_by_every_judge(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same again; of a decayed tone, noise with its bands is heard, and half its level is not."""
    monkeypatch.setattr("distill.progress.LINE_SECONDS", -1)  # every step has a line
    asked = (trained / "a.distill", "--folder", trained / "sounds")
    found = judged(monkeypatch, tmp_path / "first", *asked)
    kinds = ["null: 4 training recordings", "held out, decoded", "generated", "varied, strength 0.3", "counting"]
    assert [row[:2] for row in found["judged"].rows] == [("a", kind) for kind in kinds]
    assert found["judged"].columns[2:] == found["hearing"].columns[2:] == tuple(JUDGES)
    assert all(re.fullmatch(r"p [01]\.\d{3}", cell) for cell in found["judged"].rows[0][2:])
    hearing = {row[1]: [float(re.split(r"[,;] ", cell)[0]) for cell in row[2:]] for row in found["hearing"].rows}
    assert hearing["noise with their bands"][0] > 2 > abs(hearing["6 dB softer"][0])
    told = found["against_decoded"]
    sides = ["training recordings, decoded", "generated", "counting"]
    assert [row[1:3] for row in told.rows] == [(kind, judge) for judge in JUDGES for kind in sides]
    assert {row[3].split(", ")[1] for row in told.rows if row[1] == "generated"} == {"4"}
    assert all(float(row[4]) <= float(row[6]) for row in told.rows)
    figures = found["judges"]
    assert figures.columns == ("corpus", "judge", "sounds", *MEASURES, "p")
    assert [row[1:3] for row in figures.rows] == [(judge, kind) for judge in JUDGES for kind in (*kinds, *hearing)]
    steps = ["recordings varied", "sounds by counting", *(f"sets heard by {judge}" for judge in JUDGES)]
    lines = capsys.readouterr().err.splitlines()
    begins = [next(place for place, line in enumerate(lines) if re.fullmatch(f"a 0/\\d+ {one}", line)) for one in steps]
    assert begins == sorted(begins)
    assert judged(monkeypatch, tmp_path / "again", *asked) == found


def test_generators_make_as_many_sounds_as_asked_for_and_no_long_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trained: Path
) -> None:
    monkeypatch.setattr(sounds, "MAX_SECONDS", 0.35)
    model = Model(trained / "a.distill")
    made = sounds.made_by(
        model, command.trained_sides(model, trained / "sounds", tmp_path / "corpus"), 4, 0, lambda *_: None
    )
    assert {kind: len(own) for kind, own in made.items()} == {"generated": 4, "varied, strength 0.3": 4, "counting": 4}
    frame = model.bundle.codec.spectrogram.samples_per_frame
    assert all(0 < len(sound) <= 0.35 * RATE + frame for own in made.values() for sound in own)


def test_recordings_of_a_folder_judge_a_model_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trained: Path
) -> None:
    monkeypatch.setattr(command, "default_params", tiny_params)
    rows = judged(monkeypatch, tmp_path, trained / "sounds", "--take", "3", "4")["judged"].rows
    assert {row[0] for row in rows} == {"sounds, 3", "sounds, 4"}
    assert [row[1] for row in rows[:3]] == ["null: 2 other recordings", "training recordings", "held out, decoded"]


def test_what_is_taken_is_no_held_out_recording(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trained: Path) -> None:
    monkeypatch.setattr(command, "default_params", tiny_params)
    _, sides = command.taken_sides(trained / "sounds", 4, 0, tmp_path)
    names = [{one.path for one in side} for side in (sides.training, sides.null, sides.held_out)]
    assert [len(own) for own in names] == [4, 5, 5]
    assert len(set.union(*names)) == 14


def test_unusable_folders_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, trained: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    model = trained / "a.distill"
    for arguments, said in (
        (
            (model,),
            f"{model}: expected the folder of its recordings, found no record of it in .distill; name it with --folder",
        ),
        (
            (model, "--folder", trained / "others"),
            f"{trained / 'others'}: expected the recordings that {model} was trained on",
        ),
        (
            (trained / "others", "--take", "8"),
            f"{trained / 'others'}: expected at least 8 recordings beside the 8 that are",
        ),
    ):
        with pytest.raises(SystemExit) as ended:
            judged(monkeypatch, tmp_path / "out", *arguments)
        assert ended.value.code == 2
        assert f"judge: {said}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_too_few_held_out_recordings_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for number in range(4):
        write_tone(tmp_path / f"few/{number}.wav", 0.4, pitch=200.0 * 1.3**number)
    monkeypatch.setattr(command, "default_params", lambda: tiny_params(0.25))
    with pytest.raises(SystemExit):
        judged(monkeypatch, tmp_path / "out", tmp_path / "few")
    assert (
        "judge: few: expected at least 2 held-out recordings and 4 others to judge by, found 1 and 3"
        in capsys.readouterr().err
    )
