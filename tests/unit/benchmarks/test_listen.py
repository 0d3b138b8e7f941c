"""The listening page: which recordings are on it, its files, and what is said where there is nothing to hear."""

import json
import re
import sys
from contextlib import nullcontext
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
from distill.codec.data import CodecData
from distill.codec.training import train_codec
from distill.errors import ArtifactError, ParamsError
from distill.execution import Execution
from distill.model_file.format import load_bundle, save_bundle
from distill.params import Params
from distill.storage.files import sha256_file

RECORDINGS, SECONDS = 6, 0.25


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    for number in range(RECORDINGS):
        write_tone(folder / f"{number}.wav", 0.3 + 0.02 * number, pitch=150.0 * (number + 1))
    return folder


def material_of(folder: Path, work: Path) -> Material:
    ingest(folder, work / "corpus", RATE, 0.0, trim=False)
    corpus = load_corpus(work / "corpus")
    return Material(tiny_codec(), corpus, corpus.entries, HELD_OUT)


def test_a_page_has_recordings_and_their_decodes_and_replaces_an_earlier_page_alone(
    sounds: Path, tmp_path: Path
) -> None:
    material, page = material_of(sounds, tmp_path), tmp_path / "page"
    write_listening_page(page, material, RECORDINGS, SECONDS)
    trials = write_listening_page(page, material, 3, SECONDS)
    assert [trial.name for trial in trials] == ["0.wav", "2.wav", "5.wav"]
    text = (page / PAGE).read_text(encoding="utf-8")
    assert "://" not in text
    data = re.search(r"^const DATA = (.*);$", text, flags=re.MULTILINE)
    assert data is not None
    assert json.loads(data.group(1))["sounds"] == [vars(trial) for trial in trials]
    for trial, entry in zip(trials, [material.corpus.entries[number] for number in (0, 2, 5)], strict=True):
        original, decoded = (soundfile.read(page / name)[0] for name in (trial.original, trial.decoded))
        assert np.abs(original - material.corpus.read(entry, 0, len(original))).max() <= 1 / 32768
        assert original.shape == decoded.shape == (round(SECONDS * RATE),)
        assert not np.array_equal(original, decoded)
    assert len(list(page.iterdir())) == 7
    with pytest.raises(ParamsError, match="expected a new folder or an earlier listening page, found something else"):
        write_listening_page(sounds, material, 2, SECONDS)


def test_silent_recordings_are_left_out_and_no_name_ends_the_script(tmp_path: Path) -> None:
    write_tone(tmp_path / "in" / "<script> & 'quotes'.wav")
    write_audio(tmp_path / "in" / "late.wav", np.float32([0] * (RATE // 2) + [0.1, -0.1] * RATE), RATE)
    material = material_of(tmp_path / "in", tmp_path)
    trials = write_listening_page(tmp_path / "page", material, 9, SECONDS)
    assert [trial.name for trial in trials] == ["<script> & 'quotes'.wav"]
    text = (tmp_path / "page" / PAGE).read_text(encoding="utf-8")
    assert text.count("<script") == text.count("</script") == 1


def test_of_a_pipeline_they_are_the_recordings_that_its_codec_held_out(sounds: Path, tmp_path: Path) -> None:
    shape = {"codebook_size": 8, "num_quantizers": 6, "hidden_size": 16, "num_layers": 1, "latent_size": 8}
    settings = {"corpus": {"path": str(sounds)}, "seed": 3, "split": {"val_fraction": 0.5}}
    params = Params.model_validate({**settings, "vqvae": {**shape, "epochs": 1, "crop_seconds": 0.25}})
    material_of(sounds, tmp_path)
    execution, folders = Execution("cpu", "fp32"), tmp_path / "state"
    train_codec(tmp_path / "corpus", tmp_path / "vqvae", params, execution, folders)
    found = from_artifacts(tmp_path)
    held_out = CodecData.split(found.corpus, val_fraction=0.5, seed=3).held_out
    assert (found.entries, found.kind) == (held_out, HELD_OUT)
    assert 0 < len(found.entries) < RECORDINGS
    ingest(sounds, tmp_path / "corpus", 8_000, 0.0)
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
    assert known.kind == HELD_OUT
    assert 0 < len(known.entries) < RECORDINGS


def test_the_command_makes_a_page_or_says_what_to_do(
    sounds: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "m.distill")
    monkeypatch.chdir(tmp_path)
    for flags, said in (
        (f"--model m.distill --folder {sounds} --sounds 2 --seconds 0.1", f"2 {NOT_KNOWN}; open"),
        ("", "vqvae: expected a trained codec, found none; run make repro first"),
        ("--model x", "--folder: expected it together with --model, found --model alone; give both or neither"),
        ("--seconds nan", "argument --seconds: expected seconds from 0.05 to 600, found nan"),
    ):
        monkeypatch.setattr(sys, "argv", ["listen", *flags.split()])
        with nullcontext() if "--folder" in flags else pytest.raises(SystemExit, match="2"):
            listen.main()
        assert said in capsys.readouterr().err
