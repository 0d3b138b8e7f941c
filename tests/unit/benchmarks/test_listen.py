"""The listening page: which recordings are on it, its files, and what is said where there is nothing to hear."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from unit.tiny import RATE, tiny_codec, write_model, write_tone

from benchmarks import listen
from benchmarks.listen import HELD_OUT, NOT_KNOWN, PAGE, Material, from_artifacts, from_model, write_listening_page
from distill.audio.corpus import MANIFEST, load_corpus
from distill.audio.ingest import ingest
from distill.audio.write import write_audio
from distill.codec.run import train_codec
from distill.errors import ArtifactError, AudioError, ParamsError
from distill.execution import Execution
from distill.model_file.format import load_bundle, save_bundle
from distill.params import Params
from distill.split import split_groups
from distill.storage.files import sha256_file
from distill.training.folders import RunFolders

RECORDINGS, SECONDS = 6, 0.25


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    for number in range(RECORDINGS):
        write_tone(folder / f"{number}.wav", 0.3 + 0.02 * number, pitch=150.0 * (number + 1))
    return folder


@pytest.fixture(scope="module")
def material(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("corpus") / "corpus"
    ingest(sounds, folder, RATE, 0.0, 1)
    corpus = load_corpus(folder)
    return Material(tiny_codec(), corpus, corpus.entries, HELD_OUT)


def data(page: Path) -> dict[str, object]:
    found = re.search(r"^const DATA = (.*);$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert found is not None
    values: dict[str, object] = json.loads(found.group(1))
    return values


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["listen", *arguments])
    try:
        listen.main()
    except SystemExit as stopped:
        return int(str(stopped.code))
    return 0


def test_sounds_are_recordings_and_their_decodes_with_their_levels(material: Material, tmp_path: Path) -> None:
    trials = write_listening_page(tmp_path / "page", material, 3, SECONDS)
    assert [trial.name for trial in trials] == ["0.wav", "2.wav", "5.wav"]
    assert [vars(trial) for trial in trials] == data(tmp_path / "page" / PAGE)["sounds"]
    for trial, entry in zip(trials, [material.corpus.entries[number] for number in (0, 2, 5)], strict=True):
        original, rate = soundfile.read(tmp_path / "page" / trial.original, dtype="int16")
        decoded, _ = soundfile.read(tmp_path / "page" / trial.decoded, dtype="int16")
        assert rate == RATE
        assert np.abs(original - material.corpus.pcm(entry, 0, len(original)).astype(int)).max() <= 1
        assert original.shape == decoded.shape == (round(SECONDS * RATE),)
        assert trial.seconds == SECONDS
        assert not np.array_equal(original, decoded)
    assert len(list((tmp_path / "page").iterdir())) == 7


def test_the_page_asks_for_nothing_elsewhere_and_names_cannot_end_its_script(sounds: Path, tmp_path: Path) -> None:
    names = ["<script> & 'quotes'.wav", "b.wav"]
    for name, number in zip(names, (0, 1), strict=True):
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(sounds / f"{number}.wav", tmp_path / "in" / name)
    ingest(tmp_path / "in", tmp_path / "corpus", RATE, 0.0, 1)
    corpus = load_corpus(tmp_path / "corpus")
    write_listening_page(tmp_path / "page", Material(tiny_codec(), corpus, corpus.entries, HELD_OUT), 9, SECONDS)
    text = (tmp_path / "page" / PAGE).read_text(encoding="utf-8")
    assert "://" not in text
    assert text.count("<script") == text.count("</script") == 1
    found = data(tmp_path / "page" / PAGE)["sounds"]
    assert isinstance(found, list)
    assert sorted(one["name"] for one in found) == sorted(names)


def test_an_earlier_page_is_replaced_and_nothing_else(material: Material, tmp_path: Path) -> None:
    page = tmp_path / "page"
    write_listening_page(page, material, 6, SECONDS)
    write_listening_page(page, material, 2, SECONDS)
    assert len(list(page.glob("*.wav"))) == 4
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "song.wav").write_bytes(b"mine")
    (tmp_path / "file").write_bytes(b"mine")
    for other in ("mine", "file"):
        with pytest.raises(
            ParamsError, match="expected a new folder or an earlier listening page, found something else"
        ):
            write_listening_page(tmp_path / other, material, 2, SECONDS)
    assert (tmp_path / "mine" / "song.wav").read_bytes() == b"mine"


def test_silent_recordings_are_left_out(tmp_path: Path) -> None:
    write_tone(tmp_path / "in" / "tone.wav")
    quiet = np.concatenate([np.zeros(RATE // 2), 0.1 * np.sin(np.arange(RATE // 2))]).astype(np.float32)
    write_audio(tmp_path / "in" / "late.wav", quiet, RATE)
    ingest(tmp_path / "in", tmp_path / "corpus", RATE, 0.0, 1)
    corpus = load_corpus(tmp_path / "corpus")
    material = Material(tiny_codec(), corpus, corpus.entries, HELD_OUT)
    assert [trial.name for trial in write_listening_page(tmp_path / "page", material, 9, SECONDS)] == ["tone.wav"]
    late = Material(material.codec, corpus, tuple(e for e in corpus.entries if e.path == "late.wav"), HELD_OUT)
    with pytest.raises(AudioError, match=r"late\.wav: expected held-out recordings with sound, found silence"):
        write_listening_page(tmp_path / "other", late, 9, SECONDS)
    assert not (tmp_path / "other").exists()


def test_of_a_pipeline_they_are_the_recordings_that_its_codec_held_out(sounds: Path, tmp_path: Path) -> None:
    shape = {"codebook_size": 8, "num_quantizers": 2, "hidden_size": 16, "num_layers": 1, "latent_size": 8}
    params = Params.model_validate(
        {
            "corpus": {"path": str(sounds)},
            "seed": 3,
            "vqvae": {**shape, "epochs": 1, "crop_seconds": 0.25},
            "split": {"val_fraction": 0.5},
        }
    )
    ingest(sounds, tmp_path / "corpus", RATE, 0.0, 1)
    execution, folders = Execution("cpu", "fp32"), RunFolders.below(tmp_path / "state")
    training = train_codec(tmp_path / "corpus", tmp_path / "vqvae", params, execution, folders).trained
    found = from_artifacts(tmp_path)
    assert found.entries == training.held_out
    assert found.kind == HELD_OUT
    assert 0 < len(found.entries) < RECORDINGS
    ingest(sounds, tmp_path / "corpus", 8_000, 0.0, 1)
    with pytest.raises(ArtifactError, match="expected the corpus that the codec was trained on, found another"):
        from_artifacts(tmp_path)


def test_of_a_model_they_are_held_out_where_the_folder_is_that_of_its_training(sounds: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "m.distill")
    other = from_model(tmp_path / "m.distill", sounds, tmp_path / "one")
    assert (len(other.entries), other.kind) == (RECORDINGS, NOT_KNOWN)
    bundle = load_bundle(tmp_path / "m.distill")
    trained_on = sha256_file(tmp_path / "one" / "corpus" / MANIFEST)
    provenance = bundle.metadata.provenance.model_copy(update={"data_sha256": trained_on})
    metadata = bundle.metadata.model_copy(update={"provenance": provenance})
    save_bundle(tmp_path / "n.distill", bundle.codec, None, metadata)
    known = from_model(tmp_path / "n.distill", sounds, tmp_path / "two")
    sides = split_groups((entry.group for entry in known.corpus.entries), 0, 0.5)
    assert known.kind == HELD_OUT
    assert known.entries == tuple(entry for entry in known.corpus.entries if sides[entry.group] == "val")


def test_without_a_codec_it_is_said_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--artifacts", str(tmp_path), "--out", str(tmp_path / "page")) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'vqvae'}: expected a trained codec, found none; run make repro first" in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(("given", "missing"), [("--model", "--folder"), ("--folder", "--model")])
def test_a_model_needs_a_folder(
    given: str, missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, given, "x") == 2
    expected = f"listen: {missing}: expected it together with {given}, found {given} alone; give both or neither"
    assert capsys.readouterr().err.strip() == expected


def test_a_model_and_a_folder_make_a_page(
    sounds: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "m.distill")
    flags = ("--model", str(tmp_path / "m.distill"), "--folder", str(sounds), "--out", str(tmp_path / "page"))
    assert run(monkeypatch, *flags, "--sounds", "2", "--seconds", "0.1") == 0
    assert f"2 {NOT_KNOWN}; open {tmp_path / 'page' / PAGE} in a browser" in capsys.readouterr().err
    assert len(list((tmp_path / "page").glob("*.wav"))) == 4


@pytest.mark.parametrize(
    ("flag", "value"), [("--sounds", "0"), ("--seconds", "0"), ("--seconds", "nan"), ("--seconds", "x")]
)
def test_wrong_flags_are_said(
    flag: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, flag, value) == 2
    assert f"argument {flag}: expected " in capsys.readouterr().err
