"""The listening page: which recordings are on it, its files, and what is said where there is nothing to hear."""

import json
import re
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks import listen
from benchmarks.listen import (
    HELD_OUT,
    KINDS,
    MADE,
    NOT_KNOWN,
    PAGE,
    PEAK,
    Material,
    from_artifacts,
    from_model,
    write_listening_page,
    write_made_page,
)
from distill.api import Model
from distill.audio.corpus import MANIFEST, load_corpus
from distill.audio.ingest import ingest
from distill.audio.write import write_audio
from distill.codec.data import CodecData
from distill.codec.training import train_codec
from distill.errors import ArtifactError, AudioError, ParamsError
from distill.execution import Execution
from distill.model_file.format import load_bundle, save_bundle
from distill.params import Params
from distill.storage.files import sha256_file
from unit.tiny import RATE, tiny_codec, write_model, write_prior_model, write_tone

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
    return Material(tiny_codec(), corpus, corpus.entries, HELD_OUT, corpus.entries)


def model_of(work: Path) -> Model:
    write_prior_model(work / "prior.distill")
    return Model(work / "prior.distill")


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
    assert text.count("<script") == text.count("</script") == 2


def test_of_a_pipeline_they_are_the_recordings_that_its_codec_held_out(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = {"codebook_size": 8, "num_quantizers": 6, "hidden_size": 16, "num_layers": 1, "latent_size": 8}
    settings = {"corpus": {"path": str(sounds)}, "seed": 3, "split": {"val_fraction": 0.5}}
    params = Params.model_validate({**settings, "vqvae": {**shape, "epochs": 1, "crop_seconds": 0.25}})
    material_of(sounds, tmp_path)
    execution, folders = Execution("cpu", "fp32"), tmp_path / "state"
    train_codec(tmp_path / "corpus", tmp_path / "vqvae", params, execution, folders)
    found = from_artifacts(tmp_path)
    held_out = CodecData.split(found.corpus, val_fraction=0.5, seed=3).held_out
    assert (found.entries, found.kind) == (held_out, HELD_OUT)
    assert {entry.path for entry in [*found.entries, *found.training]} == {f"{n}.wav" for n in range(RECORDINGS)}
    assert 0 < len(found.entries) < RECORDINGS
    flags = ["--artifacts", str(tmp_path), "--out", str(tmp_path / "page"), "--sounds", "1", "--seconds", "0.1"]
    monkeypatch.setattr(sys, "argv", ["listen", *flags])
    listen.main()
    assert "This page needs a prior, and there is a codec alone" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "page").iterdir()} == {PAGE, "00_original.wav", "00_decoded.wav"}
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


def made_trials(page: Path) -> list[dict[str, Any]]:
    data = re.search(r"^const DATA = (.*);$", (page / PAGE).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert data is not None
    trials: list[dict[str, Any]] = json.loads(data.group(1))["trials"]
    return trials


def test_the_second_page_has_as_many_sounds_of_each_kind_and_no_name_or_level_tells_which(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "EACH", 2)
    material, model, page = material_of(sounds, tmp_path), model_of(tmp_path), tmp_path / "page"
    made = write_made_page(page, model, material, SECONDS, seed=0)
    assert Counter(sound.kind for sound in made) == dict.fromkeys(KINDS, 2)
    assert [(sound.sound, *sound.pictures) for sound in made] == [
        (f"{n:02d}.wav", f"{n:02d}_512.png", f"{n:02d}_4096.png") for n in range(8)
    ]
    assert {path.name for path in page.iterdir()} == {PAGE, *(name for s in made for name in (s.sound, *s.pictures))}
    assert [trial["kind"] for trial in made_trials(page)] == [sound.kind for sound in made]
    assert len({sound.name for sound in made}) == 8  # no recording is there twice
    for sound in made:
        samples = soundfile.read(page / sound.sound)[0]
        assert np.abs(samples).max() == pytest.approx(PEAK, abs=1e-3)
        assert len(samples) == round(sound.seconds * RATE) <= SECONDS * RATE
        if sound.kind == "recorded":
            (entry,) = (entry for entry in material.corpus.entries if entry.path == sound.name)
            original = material.corpus.read(entry, 0, len(samples))
            assert np.corrcoef(samples, original)[0, 1] > 0.9999


def test_a_seed_draws_sounds_and_a_model_their_order(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "EACH", 1)
    material, model, pages = material_of(sounds, tmp_path), model_of(tmp_path), list[dict[str, bytes]]()
    for seed in (0, 0, 1):
        write_made_page(tmp_path / "page", model, material, SECONDS, seed)
        pages.append({path.name: path.read_bytes() for path in (tmp_path / "page").glob("*.wav")})
    assert pages[0] == pages[1] != pages[2]
    orders = []
    for digit in "123":
        metadata = model.metadata.model_copy(update={"payload_sha256": digit * 64})
        monkeypatch.setattr(Model, "metadata", metadata)
        orders.append([sound.kind for sound in write_made_page(tmp_path / "page", model, material, SECONDS, 0)])
    assert any(order != orders[0] for order in orders)


def test_few_recordings_are_there_twice_and_silence_or_another_folder_is_refused(sounds: Path, tmp_path: Path) -> None:
    model = model_of(tmp_path)
    for number in range(2):
        write_tone(tmp_path / "in" / f"{number}.wav", pitch=300.0 * (number + 1))
    material = material_of(tmp_path / "in", tmp_path)
    made = write_made_page(tmp_path / "page", model, material, SECONDS, seed=0)
    assert Counter(sound.kind for sound in made) == dict.fromkeys(KINDS, 2)
    with pytest.raises(ParamsError, match="expected a new folder or an earlier listening page, found something else"):
        write_made_page(sounds, model, material, SECONDS, seed=0)
    for number in range(2):
        late = np.float32([0] * RATE + [0.1, -0.1] * (RATE + number))
        write_audio(tmp_path / "late" / f"{number}.wav", late, RATE)
    (tmp_path / "late_corpus").mkdir()
    silent = material_of(tmp_path / "late", tmp_path / "late_corpus")
    with pytest.raises(
        AudioError, match=r"found silence in the first 0\.25 s; choose other recordings or more --seconds"
    ):
        write_made_page(tmp_path / "page", model, silent, SECONDS, seed=0)


def test_the_command_makes_a_page_or_says_what_to_do(
    sounds: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "m.distill")
    monkeypatch.chdir(tmp_path)
    write_prior_model(tmp_path / "p.distill")
    monkeypatch.setattr(listen, "EACH", 1)
    for flags, said in (
        (f"--model m.distill --folder {sounds} --sounds 2 --seconds 0.1", f"2 {NOT_KNOWN}; open"),
        (f"--model m.distill --folder {sounds} --sounds 2", "This page needs a prior, and there is a codec alone"),
        (f"--model p.distill --folder {sounds} --sounds 2", "4 sounds; open artifacts/listen/recorded-or-made/index"),
        ("", "vqvae: expected a trained codec, found none; run make repro first"),
        ("--model x", "--folder: expected it together with --model, found --model alone; give both or neither"),
        ("--seconds nan", "argument --seconds: expected seconds from 0.05 to 600, found nan"),
    ):
        monkeypatch.setattr(sys, "argv", ["listen", *flags.split()])
        with nullcontext() if "--folder" in flags else pytest.raises(SystemExit, match="2"):
            listen.main()
        assert said in capsys.readouterr().err
        if "--folder" in flags:
            made = Path("artifacts/listen") / MADE
            assert made.is_dir() == ("p.distill" in flags)
