"""Ingestion: contents of the manifest, errors, what is kept of earlier runs, and that nothing is left half-written."""

import functools
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from distill.audio import blocks
from distill.audio import ingest as ingestion
from distill.audio.bandwidth import Bandwidth, measure_bandwidth
from distill.audio.corpus import ManifestRow, load_corpus, read_manifest
from distill.audio.decode import Decoder, decode
from distill.audio.ingest import ingest, ingest_folder
from distill.audio.ingest_report import corpus_warnings, label_warnings
from distill.audio.read import Recording, read_recording
from distill.audio.side_info import FILE
from distill.codec.data import parted
from distill.errors import ArtifactError, AudioError
from distill.params import CorpusConfig
from distill.storage.shards import ShardWriter
from distill.storage.work import Executor

RATE = 24000
COLUMNS = {
    "recording_id": "string", "path": "string", "status": "string", "reason": "string", "sha256": "string",
    "pcm_sha256": "string", "duplicate_of": "string", "group": "string", "sample_rate": "int32", "channels": "int32",
    "channels_used": "string", "trimmed_before": "double", "trimmed_after": "double", "seconds": "double", "peak": "double",
    "frames_in_shard": "int64", "shard": "string", "offset": "int64", "exponent": "int32", "label": "string",
}  # fmt: skip


def pluck(seed: int, seconds: float = 0.6) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    hz, decay = random.uniform(100, 500), random.uniform(5, 20)
    tones = sum(np.sin(2 * np.pi * hz * k * t) * np.exp(-decay * k**0.5 * t) / k for k in range(1, 12))
    noise = random.standard_normal(len(t)) * np.exp(-t * random.uniform(10, 60))
    return np.asarray(0.2 * tones + 0.1 * noise, dtype=np.float32).clip(-1, 1)


def write(path: Path, seed: int, gain: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, gain * pluck(seed), RATE)
    return path


def write_session(path: Path, count: int, gain: float = 1.0, seconds_before: float = 0.0) -> None:
    """The sounds of `write` one after the other, after silence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    silence = np.zeros(round(seconds_before * RATE))
    sf.write(path, gain * np.concatenate([silence, *(pluck(seed) for seed in range(count))]), RATE)


def write_loop(path: Path, tempo: float, seed: int, after: float) -> None:
    """Eight beats of noise, and silence after them."""
    beat, rng = 60 / tempo, np.random.default_rng(seed)
    sound = np.zeros(round((8 * beat + after) * RATE))
    for number in range(8):
        hit = 0.5 * rng.standard_normal(800) * np.exp(-np.arange(800) / 200)
        sound[round(number * beat * RATE) :][:800] = hit
    path.parent.mkdir(exist_ok=True)
    sf.write(path, sound, RATE)


@pytest.mark.parametrize(
    ("tempos", "said"),
    [
        ([97, 100, 120], "3 of 4 recordings of 1.5 s or more repeat, at 97 to 120 beats a minute"),
        ([120, 120, 120], "3 of 4 recordings of 1.5 s or more repeat, at 120 beats a minute"),
        ([97, 120], ""),
    ],
)
def test_ingest_says_the_tempo_of_recordings_that_repeat(
    tempos: list[float], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, tempo in enumerate(tempos):
        write_loop(tmp_path / f"loops/{number}.wav", tempo, number, after=0.4)
    sf.write(tmp_path / "loops/noise.wav", 0.1 * np.random.default_rng(9).standard_normal(3 * RATE), RATE)
    sf.write(tmp_path / "loops/short.wav", pluck(1, 1.0), RATE)
    heard = []
    for trim in (True, False):
        config = CorpusConfig(path="loops", sample_rate=RATE, labels="none", max_rejected=0.5, trim=trim)
        ingest_folder(tmp_path / "loops", tmp_path / "out", config, Executor(1))
        heard.append(capsys.readouterr().err)
    for text in heard:
        assert said in text
        assert ("beats a minute" in text) == bool(said)
    trimmed = "silence at the ends of 3 was trimmed: corpus.trim: false keeps it"
    assert [trimmed in text for text in heard] == [bool(said), False]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four sounds in two folders and at the top."""
    write(tmp_path / "in" / "b.wav", 0)
    write(tmp_path / "in" / "drums" / "kick.flac", 1)
    write(tmp_path / "in" / "drums" / "low" / "tom.aiff", 2)
    write(tmp_path / "in" / "a.wav", 3)
    return tmp_path / "in"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded, in this process."""
    names: list[str] = []

    def in_this_process(_: Decoder, path: Path, **settings: Any) -> Recording:
        names.append(path.name)
        return decode(path, **settings)

    monkeypatch.setattr(Decoder, "decoded", in_this_process)
    monkeypatch.setattr(Decoder, "bandwidth", lambda _, path: measure_bandwidth(path))
    return names


@pytest.fixture
def many(tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve sounds, decoded in this process in blocks of about two."""
    monkeypatch.setattr(ingestion, "BLOCK_FILES", 2)
    for number in range(12):
        write(tmp_path / "in" / f"{number:02d}.wav", number)
    assert not decoded
    return tmp_path / "in"


def run(folder: Path, max_rejected: float = 0.5, workers: int = 1, output: str = "out") -> dict[str, Any]:
    return ingest(folder, folder.parent / output, RATE, max_rejected, Executor(workers))


def rows(folder: Path, output: str = "out") -> dict[str, ManifestRow]:
    return {row.path: row for row in read_manifest(folder.parent / output / "manifest.parquet")}


def counts(report: dict[str, Any], names: str) -> tuple[int, ...]:
    return tuple(report["counts"][name] for name in names.split())


def report_of(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder.parent / "out" / "report.json").read_text(encoding="utf-8"))
    return found


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def refusal(folder: Path, max_rejected: float = 0.5) -> str:
    """The message of a failed ingest, after checking that nothing was left behind."""
    before = set(folder.parent.iterdir())
    with pytest.raises(AudioError) as caught:
        run(folder, max_rejected)
    assert set(folder.parent.iterdir()) == before
    return str(caught.value)


def test_manifest_and_report_of_a_clean_folder(folder: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    report = ingest(folder, folder.parent / "out", RATE, 0.5, Executor(2), lambda *call: calls.append(call))
    assert report == report_of(folder)
    assert counts(report, "used warned rejected duplicates near_duplicates groups ignored") == (4, 0, 0, 0, 0, 4, 0)
    assert (report["seconds"], report["sample_rate"], report["treble_share"]) == (pytest.approx(2.4), RATE, 0.0)
    assert report["sample_rate_reason"] == "24000 Hz, as set: 0 % of the sound has energy above 10 kHz"
    paths = ["a.wav", "b.wav", "drums/kick.flac", "drums/low/tom.aiff"]
    assert calls == [(0, 4, path) for path in paths] + [(done, 4, path) for done, path in enumerate(paths, start=1)]
    table = pq.read_table(folder.parent / "out" / "manifest.parquet")
    assert {field.name: str(field.type) for field in table.schema} == COLUMNS
    assert table.schema.names == list(COLUMNS)
    found = rows(folder)
    assert list(found) == paths
    assert [row.label for row in found.values()] == ["", "", "drums", "drums/low"]
    kick = found["drums/kick.flac"]
    assert kick.recording_id == hashlib.sha256(b"drums/kick.flac").hexdigest()[:16]
    assert kick.sha256 == hashlib.sha256((folder / "drums" / "kick.flac").read_bytes()).hexdigest()
    assert (kick.status, kick.reason, kick.duplicate_of) == ("used", "", "")
    assert (kick.sample_rate, kick.channels, kick.seconds, kick.frames_in_shard) == (RATE, 1, 0.6, 14400)
    assert kick.peak == pytest.approx(np.abs(sf.read(folder / "drums" / "kick.flac")[0]).max(), abs=1e-4)
    assert kick.group == kick.pcm_sha256[:16]
    files = ["manifest.parquet", "pcm-00000.safetensors", "report.json", FILE]
    assert sorted(contents(folder.parent / "out")) == files


@pytest.fixture
def stereo(folder: Path) -> Path:
    """The folder with two stereo recordings more: a third of all."""
    for number, name in enumerate(("drums/wide.wav", "c.wav"), start=4):
        sound = np.tile(pluck(number, 1.0), 3)
        sf.write(folder / name, np.stack([sound, np.roll(0.5 * sound, 7000)], axis=1), RATE)
    return folder


@pytest.mark.usefixtures("decoded")
def test_recordings_of_a_stereo_corpus_have_images(stereo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = CorpusConfig(path=str(stereo), sample_rate=RATE, labels="none", max_rejected=0.5, trim=True)
    report = ingest_folder(stereo, stereo.parent / "out", params, Executor(1))
    said = "stereo: 2 of 6 recordings have two channels that differ"
    assert (report["channels"], report["channels_reason"]) == ("stereo", said)
    assert said in capsys.readouterr().err
    corpus = load_corpus(stereo.parent / "out")
    assert corpus.is_stereo
    for entry in corpus.entries:
        whole = read_recording(stereo / entry.path, RATE, trim=True, channels="fold")
        np.testing.assert_array_equal(corpus.side_info(entry).image, whole.image)
        np.testing.assert_array_equal(corpus.side_info(entry).noise, whole.noise)
        assert (
            (len(whole.image) == 3) == (entry.channels_used == "stereo") == (entry.path in ("c.wav", "drums/wide.wav"))
        )
    first, end = parted(rows(stereo)["c.wav"], RATE)
    about = corpus.side_info(rows(stereo)["c.wav"])
    np.testing.assert_array_equal(corpus.side_info(first).image, about.image[:2])
    np.testing.assert_array_equal(corpus.side_info(first).noise, about.noise[:2])
    np.testing.assert_array_equal(corpus.side_info(end).image, about.image[2:])
    np.testing.assert_array_equal(corpus.side_info(end).noise, about.noise[2:])


@pytest.mark.usefixtures("decoded")
def test_side_information_does_not_depend_on_blocks_and_copies(stereo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(stereo)
    one_block = contents(stereo.parent / "out")[FILE]
    monkeypatch.setattr(ingestion, "BLOCK_FILES", 2)
    for _ in range(2):  # decoded, and kept
        kept(stereo)
        assert contents(stereo.parent / "out")[FILE] == one_block
    shutil.copy(stereo / "c.wav", stereo / "aa.wav")
    kept(stereo)
    corpus = load_corpus(stereo.parent / "out")
    assert {entry.path for entry in corpus.entries if corpus.side_info(entry).is_stereo} == {"aa.wav", "drums/wide.wav"}


@pytest.mark.usefixtures("decoded")
def test_a_corpus_is_mono_where_it_is_to_be(stereo: Path) -> None:
    report = ingest(stereo, stereo.parent / "out", RATE, 0.5, channels="mono")
    assert report["channels_reason"] == "mono, as set: 2 of 6 recordings have two channels that differ"
    corpus = load_corpus(stereo.parent / "out")
    assert not corpus.is_stereo
    assert load_file(stereo.parent / "out" / FILE).keys() == {"noise", "noise_lengths"}
    assert {entry.channels_used for entry in corpus.entries} == {"1", "1,2"}
    stereo_report = ingest(stereo, stereo.parent / "out", RATE, 0.5)
    (stereo / "c.wav").unlink()
    (stereo / "drums/wide.wav").unlink()
    report = ingest(stereo, stereo.parent / "out", RATE, 0.5)
    assert stereo_report.keys() - report.keys() == {"channels", "channels_reason"}


@pytest.mark.usefixtures("decoded")
def test_damaged_side_information_of_a_corpus_is_an_error(stereo: Path) -> None:
    run(stereo)
    path = stereo.parent / "out" / FILE
    whole, noise = path.read_bytes(), {name: load_file(path)[name] for name in ("noise", "noise_lengths")}
    for damage in (
        b"",
        whole[:-1],
        save({**noise, "image": np.zeros((6, 40), np.uint8), "image_lengths": np.ones(5, np.int64)}),
    ):
        path.write_bytes(damage)
        expected = r"side_info.safetensors: expected stereo images and noise floors of recordings, found"
        with pytest.raises(ArtifactError, match=expected):
            load_corpus(stereo.parent / "out")


def test_samples_come_back_by_slices(folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "ShardWriter", functools.partial(ShardWriter, shard_bytes=60_000))
    run(folder)
    assert len(decoded) == 4
    assert sorted({row.shard for row in rows(folder).values()}) == ["pcm-00000.safetensors", "pcm-00001.safetensors"]
    corpus = load_corpus(folder.parent / "out")
    assert corpus.sample_rate == RATE
    assert [entry.path for entry in corpus.entries] == ["a.wav", "b.wav", "drums/kick.flac", "drums/low/tom.aiff"]
    for entry in corpus.entries:
        whole = read_recording(folder / entry.path, RATE).samples
        assert entry.samples == len(whole)
        for start, length in ((0, None), (100, None), (14300, 100), (5, 0)):
            stop = None if length is None else start + length
            np.testing.assert_array_equal(corpus.read(entry, start, length), whole[start:stop])
        with pytest.raises(ValueError, match="samples 14300 to 14401 asked for, it has 14400"):
            corpus.read(entry, 14300, 101)


def test_equal_input_gives_equal_bytes_with_any_workers_and_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion, "BLOCK_FILES", 2)
    write(folder / "copy.wav", 0)
    write(folder / "quiet.wav", 1, 0.3)
    (folder / "broken.wav").write_text("no sound")
    run(folder, workers=1, output="one")
    run(folder, workers=3, output="three")
    elsewhere = folder.parent / "elsewhere" / "music"
    elsewhere.mkdir(parents=True)
    for path in sorted(folder.rglob("*"), reverse=True):  # other creation order
        if path.is_file():
            (elsewhere / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, elsewhere / path.relative_to(folder))
    run(elsewhere)
    expected = contents(folder.parent / "one")
    assert contents(folder.parent / "three") == contents(elsewhere.parent / "out") == expected
    assert str(folder.parent) not in (folder.parent / "one" / "report.json").read_text()


def test_exact_copies_are_kept_once(folder: Path, decoded: list[str]) -> None:
    shutil.copyfile(folder / "a.wav", folder / "same bytes.wav")
    sf.write(folder / "same samples.flac", sf.read(folder / "a.wav", dtype="int16")[0], RATE)
    report = run(folder)
    assert counts(report, "used warned duplicates near_duplicates groups") == (4, 2, 2, 0, 4)
    assert (report["seconds"], len(decoded)) == (pytest.approx(2.4), 6)
    found = rows(folder)
    for name in ("same bytes.wav", "same samples.flac"):
        copy, original = found[name], found["a.wav"]
        assert (copy.status, copy.reason) == ("warned", "exact copy of a.wav")
        assert copy.duplicate_of == original.recording_id
        assert (copy.group, copy.shard, copy.offset) == (original.group, original.shard, original.offset)
    assert len(load_corpus(folder.parent / "out").entries) == 4
    assert (folder.parent / "out" / "pcm-00000.safetensors").stat().st_size < 4 * 14400 * 2 + 200


@pytest.mark.usefixtures("decoded")
def test_silence_is_trimmed_unless_it_is_to_stay_and_what_was_not_entered_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silence = np.zeros(5 * RATE)
    sf.write(folder / "late.wav", np.concatenate([silence, pluck(7)]), RATE)
    sf.write(folder / "padded.wav", np.concatenate([silence[:RATE], pluck(3), silence[:10]]), RATE)
    (folder / "drive").symlink_to("taken out")
    params = CorpusConfig(path=str(folder), sample_rate=RATE, labels="none", max_rejected=0.5, trim=True)
    report = ingest_folder(folder, folder.parent / "out", params, Executor(1))
    found = rows(folder)
    assert (report["trim"], load_corpus(folder.parent / "out").trim) == (True, True)
    trimmed = sum(row.trimmed_before + row.trimmed_after for row in found.values())
    assert report["trimmed_seconds"] == pytest.approx(trimmed)
    said = capsys.readouterr().err
    assert f"{trimmed:.1f} s of silence at beginnings and ends trimmed (corpus.trim)" in said
    assert "folders not entered: drive is a link that leads nowhere" in said
    late = found["late.wav"]
    assert (late.status, late.trimmed_before) == ("used", pytest.approx(4.99, abs=0.005))
    assert late.seconds == pytest.approx(5.6 - late.trimmed_before - late.trimmed_after)
    assert found["padded.wav"].group == found["a.wav"].group
    report = ingest_folder(folder, folder.parent / "out", params.model_copy(update={"trim": False}), Executor(1))
    assert (report["trim"], report["trimmed_seconds"]) == (False, 0)
    assert not load_corpus(folder.parent / "out").trim
    assert rows(folder)["late.wav"].seconds == pytest.approx(5.6)


@pytest.mark.usefixtures("decoded")
def test_a_softer_copy_is_a_near_duplicate_with_all_of_its_resolution(folder: Path) -> None:
    sound = pluck(3)
    for name, level in (("half.wav", 0.5), ("soft.wav", 2.0**-10)):
        sf.write(folder / name, level * sound, RATE, subtype="FLOAT")
    run(folder)
    found, corpus = rows(folder), load_corpus(folder.parent / "out")
    for name, level in (("half.wav", 0.5), ("soft.wav", 2.0**-10)):
        entry = found[name]
        assert (entry.duplicate_of, entry.group) == ("", found["a.wav"].group)
        error = corpus.read(entry) / level - sound
        assert 20 * np.log10(sound.std() / error.std()) > 65
    assert (found["a.wav"].exponent, found["soft.wav"].exponent) == (0, int(np.frexp(np.abs(sound).max())[1]) - 10)


@pytest.mark.usefixtures("decoded")
def test_near_duplicates_are_kept_and_share_a_group_that_names_do_not_move(folder: Path) -> None:
    write(folder / "quiet.wav", 3, 0.3)
    report = run(folder)
    assert counts(report, "used warned duplicates near_duplicates groups") == (4, 1, 0, 1, 4)
    found = rows(folder)
    assert (found["quiet.wav"].status, found["quiet.wav"].reason) == ("warned", "near-duplicate of a.wav")
    group = found["quiet.wav"].group
    assert found["a.wav"].group == group == min(found[name].pcm_sha256[:16] for name in ("a.wav", "quiet.wav"))
    assert found["a.wav"].status == "used"
    assert report_of(folder)["groups"] == [{"group": group, "paths": ["a.wav", "quiet.wav"]}]
    (folder / "a.wav").rename(folder / "z.wav")
    run(folder, output="renamed")
    moved = rows(folder, "renamed")
    assert moved["quiet.wav"].group == moved["z.wav"].group == group
    assert moved["z.wav"].reason == "near-duplicate of quiet.wav"


@pytest.mark.usefixtures("decoded")
def test_report_lists_what_was_rejected_or_ignored(folder: Path) -> None:
    (folder / ".git").mkdir()
    write(folder / ".git" / "inside.wav", 8)
    for name in ("notes.txt", "README", ".hidden.wav"):
        (folder / name).write_text("x")
    (folder / "broken.wav").write_text("no sound")
    (folder / "dangling.wav").symlink_to("nowhere")
    sf.write(folder / "tick.wav", pluck(9)[:480], RATE)
    run(folder)
    written = report_of(folder)
    assert written["counts"] == {
        "audio_files": 7, "used": 4, "warned": 1, "rejected": 2, "duplicates": 0, "near_duplicates": 0, "groups": 5,
        "ignored": 4,
    }  # fmt: skip
    message = "is text, not audio: it begins with 'no sound'"
    reasons = {"broken.wav": message, "dangling.wav": "is a link that leads nowhere"}
    assert written["rejected"] == [{"path": path, "reason": reason} for path, reason in reasons.items()]
    assert written["warned"] == [{"path": "tick.wav", "reason": "very short: 0.020 s"}]
    assert written["left_out"] == {"(no suffix)": 1, ".txt": 1}
    assert written["ignored_by_suffix"] == {"(hidden)": 2, "(no suffix)": 1, ".txt": 1}
    assert written["durations"] == {"min": 0.02, "median": 0.6, "max": 0.6}
    assert written["sample_rate"] == RATE
    broken = rows(folder)["broken.wav"]
    assert (broken.status, broken.reason, broken.frames_in_shard, broken.seconds) == ("rejected", message, 0, 0.0)
    assert broken.pcm_sha256 == broken.group == broken.shard == ""
    assert broken.sha256 == hashlib.sha256(b"no sound").hexdigest()


def test_no_folder_a_file_and_no_audio(tmp_path: Path) -> None:
    missing = tmp_path / "in"
    assert refusal(missing) == f"{missing}: expected a folder of recordings, found nothing there; check the path"
    missing.write_text("x")
    assert refusal(missing) == (
        f"{missing}: expected a folder of recordings, found a file; give the folder that holds it"
    )
    empty = tmp_path / "empty"
    (empty / "deep").mkdir(parents=True)
    found = refusal(empty)
    assert found == (
        f"{empty}: expected audio files such as .wav, .aiff, .flac, .mp3 or .m4a, found an empty folder; "
        "put recordings there or name another folder"
    )
    for name in ("a.txt", "b.TXT", "deep/c.mid", ".DS_Store"):
        (empty / name).write_text("x")
    assert ", found no audio in it, only 1 (hidden), 1 .mid, 2 .txt; put" in refusal(empty)


@pytest.mark.usefixtures("decoded")
def test_too_many_unusable_files_leave_the_earlier_corpus(folder: Path) -> None:
    for index in range(23):
        (folder / f"{index:02d}.wav").write_bytes(b"\x00\x01\x02" * (index + 5))
    assert run(folder, max_rejected=23 / 27)["counts"]["rejected"] == 23
    before = contents(folder.parent / "out")
    lines = refusal(folder, max_rejected=0.4).split("\n")
    assert lines[0] == (
        f"{folder}: expected at most 40% of the audio files to be unusable, found 23 of 27; "
        "remove or repair these files, or raise corpus.max_rejected:"
    )
    assert lines[1] == "  00.wav: is not audio in a known format (suffix .wav, 15 bytes)"
    assert (len(lines), lines[-1]) == (22, "  and 3 more")
    for path in ("a.wav", "b.wav", "drums/kick.flac", "drums/low/tom.aiff"):
        (folder / path).unlink()
    assert refusal(folder, max_rejected=1.0).startswith(
        f"{folder}: expected at least 2 usable recordings, found none among 23 audio files; "
        "replace or repair these files:\n"
    )
    assert contents(folder.parent / "out") == before


@pytest.mark.usefixtures("decoded")
def test_one_usable_recording_and_many_copies_of_one(tmp_path: Path) -> None:
    rest = "at least 2 are needed, or one of 10 s, so that sound can be held out, 5 or more recommended"
    write(tmp_path / "in" / "a.wav", 0)
    (tmp_path / "in" / "b.wav").write_bytes(b"")
    assert refusal(tmp_path / "in") == f"{tmp_path / 'in'}: found 1 usable recording of 0.6 s; {rest}"
    write(tmp_path / "in" / "c.wav", 0)
    write(tmp_path / "in" / "d.wav", 0)
    assert refusal(tmp_path / "in") == (
        f"{tmp_path / 'in'}: found 3 usable recordings that are all copies of one sound of 0.6 s; {rest}"
    )
    write(tmp_path / "in" / "soft.wav", 0, 0.3)
    assert counts(run(tmp_path / "in"), "used warned duplicates near_duplicates groups") == (1, 3, 2, 1, 1)


@pytest.mark.usefixtures("decoded")
def test_fewer_than_five_recordings_are_warned_of(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "in" / f"{number}.wav", number)
    write(tmp_path / "in" / "copy.wav", 0)
    assert corpus_warnings(run(tmp_path / "in"), has_labels=False) == [
        "4 recordings, fewer than 5: too little sound is held out to tell well which epoch is best and how new a sound is; "
        "add recordings"
    ]
    write(tmp_path / "in" / "4.wav", 4)
    assert corpus_warnings(run(tmp_path / "in"), has_labels=False) == []


@pytest.mark.usefixtures("decoded")
def test_parts_of_a_session_are_told_from_copies_and_placed_in_its_file(tmp_path: Path) -> None:
    write_session(tmp_path / "in" / "session soft.wav", 17, 0.3, seconds_before=5.0)
    assert counts(run(tmp_path / "in"), "used warned groups") == (1, 0, 1)  # it has ten seconds, and may be alone
    write_session(tmp_path / "in" / "session.wav", 17)
    for number in range(5):
        write(tmp_path / "in" / f"hit {number}.wav", number)
    write(tmp_path / "in" / "hit 9.wav", 3, 0.4)
    write(tmp_path / "in" / "other.wav", 20)
    report, found = run(tmp_path / "in"), rows(tmp_path / "in")
    for number in range(5):
        assert found[f"hit {number}.wav"].reason == f"part of session soft.wav, at {5 + 0.6 * number:.1f} s"
    assert found["hit 9.wav"].reason == "part of session soft.wav, at 6.8 s"
    assert found["session.wav"].reason == "near-duplicate of session soft.wav"
    assert (found["session soft.wav"].status, found["other.wav"].status) == ("used", "used")
    assert len({row.group for row in found.values()}) == 2
    assert counts(report, "used warned near_duplicates groups") == (2, 7, 7, 2)


@pytest.mark.usefixtures("decoded")
def test_folders_without_a_recording_of_their_own_are_named(folder: Path) -> None:
    write(folder / "kit" / "same.wav", 3)
    (folder / "bass").mkdir()
    (folder / "bass" / "1.wav").write_text("no sound")
    (folder / "notes.wav").write_text("no sound")
    assert label_warnings(run(folder)) == [
        "label bass: expected recordings of its own, found none (bass/1.wav: is text, not audio: it begins with 'no "
        "sound'); nothing can be asked for by it",
        "label kit: expected recordings of its own, found none (kit/same.wav: exact copy of a.wav); nothing can be asked "
        "for by it",
    ]


@pytest.mark.usefixtures("decoded")
def test_links_are_followed_once_and_loops_are_reported(folder: Path) -> None:
    (folder / "drums" / "again").symlink_to("..")
    (folder / "a folder").symlink_to("drums")  # sorts before the real one
    outside = folder.parent / "outside"
    write(outside / "far.wav", 6)
    (outside / "back").symlink_to("../in")
    (folder / "linked").symlink_to(outside)
    (folder / "link to a.wav").symlink_to("a.wav")
    (folder / "drive").symlink_to(outside / "taken out")
    report = run(folder)
    assert report["left_out"] == {}
    found = rows(folder)
    assert list(found) == [
        "a.wav", "b.wav", "drums/kick.flac", "drums/low/tom.aiff", "link to a.wav", "linked/far.wav"
    ]  # fmt: skip
    assert (found["link to a.wav"].reason, report["counts"]["duplicates"]) == ("exact copy of a.wav", 1)
    assert report_of(folder)["skipped_folders"] == [
        {"path": "a folder", "reason": "leads to the same folder as drums, which was read once"},
        {"path": "drive", "reason": "is a link that leads nowhere"},
        {"path": "drums/again", "reason": "leads to the same folder as the folder itself, which was read once"},
        {"path": "linked/back", "reason": "leads to the same folder as the folder itself, which was read once"},
    ]


@pytest.mark.usefixtures("decoded")
def test_unreadable_folders_are_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: str | int) -> object:
        if not isinstance(path, int) and Path(path).name in ("low", "secret"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr("os.scandir", scandir)
    run(folder)
    assert report_of(folder)["skipped_folders"] == [
        {"path": "drums/low", "reason": "cannot be read: Permission denied"}
    ]
    secret, only = folder.parent / "secret", folder.parent / "only"
    secret.mkdir()
    assert refusal(secret) == f"{secret}: expected a folder that can be read, found: Permission denied"
    (only / "secret").mkdir(parents=True)
    assert "found an empty folder (folders not entered: secret cannot be read: Permission denied); put" in refusal(only)


@pytest.mark.usefixtures("decoded")
def test_a_missing_or_damaged_corpus_is_an_error(folder: Path) -> None:
    output = folder.parent / "out"

    def fails(match: str) -> None:
        with pytest.raises(ArtifactError, match=match):
            load_corpus(output)

    fails(r"expected the manifest of a corpus, found no such file; run `dvc repro`")
    run(folder)
    corpus, manifest = load_corpus(output), output / "manifest.parquet"
    (output / "pcm-00000.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ArtifactError, match="expected rows 0 to 14400 of pcm"):
        corpus.read(corpus.entries[0])
    (output / "report.json").write_text("{}")
    fails("expected a corpus sample rate, found none")
    (output / "report.json").unlink()
    fails("expected the report of a corpus, found no such file")
    pq.write_table(pq.read_table(manifest).drop_columns(["group"]), manifest)
    fails(r"expected the manifest of a corpus with the columns recording_id, .* found recording_id")
    manifest.write_bytes(manifest.read_bytes()[:500])
    fails("found a damaged file")


def kept(folder: Path) -> dict[str, Any]:
    return ingest(folder, folder.parent / "out", RATE, 0.5, kept=folder.parent / "kept")


def same_as_fresh(folder: Path) -> bool:
    ingest(folder, folder.parent / "fresh", RATE, 0.5)
    return contents(folder.parent / "fresh") == contents(folder.parent / "out")


def test_nothing_is_decoded_twice(many: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = kept(many)
    assert len(decoded) == 12
    before = contents(many.parent / "out")
    assert len(before) > 5  # several blocks
    decoded.clear()
    assert kept(many) == first
    assert decoded == []
    assert contents(many.parent / "out") == before
    ingest(many, many.parent / "out", 16_000, 0.5, kept=many.parent / "kept")
    assert len(decoded) == 12
    monkeypatch.setattr(ingestion, "work_version", lambda *_: "other")
    kept(many)
    assert len(decoded) == 24
    assert [path.name for path in (many.parent / "kept").glob("*/*")] == ["other", "other"]  # the rest is gone


def test_a_change_decodes_its_block_again(many: Path, decoded: list[str]) -> None:
    kept(many)
    for change in (
        lambda: write(many / "05b.wav", 50),
        lambda: write(many / "03.wav", 51),
        lambda: os.utime(many / "03.wav", ns=(1, 1)),
        lambda: (many / "07.wav").unlink(),
        lambda: (many / "04.wav").rename(many / "04 renamed.wav"),
        lambda: write(many / "zz" / "more.wav", 52),
        lambda: write(many / "08b.wav", 2),  # an exact copy of a recording in another block
        lambda: (many / "02.wav").unlink(),  # the copy is now the only one
        lambda: (many / "bad.wav").write_bytes(b"RIFF"),
    ):
        decoded.clear()
        change()
        kept(many)
        assert len(decoded) <= 8  # one block, or two
        assert same_as_fresh(many)


def test_what_may_be_something_else_another_time_is_tried_again(
    many: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, asked = Decoder.decoded, []

    def killed(one: Decoder, path: Path, **settings: Any) -> Recording:
        found = decoder(one, path, **settings)
        return Recording("ends its decoder (SIGKILL)", is_certain=False) if path.name == "03.wav" else found

    def bandwidth(_: Decoder, path: Path) -> Bandwidth | None:
        asked.append(path.name)
        return None if len(asked) == 4 else measure_bandwidth(path)

    monkeypatch.setattr(Decoder, "bandwidth", bandwidth)
    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "decoded", killed)
        assert kept(many)["counts"]["rejected"] == 1
    decoded.clear()
    assert kept(many)["counts"]["rejected"] == 0
    for names in (decoded, asked[12:]):
        assert "03.wav" in names
        assert len(names) <= 4  # those of its block
    assert same_as_fresh(many)


def test_interrupted_it_keeps_the_blocks_that_were_decoded(many: Path, decoded: list[str]) -> None:
    def stop(done: int, *_: object) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(many, many.parent / "out", RATE, 0.5, Executor(2), stop, many.parent / "kept")
    assert not (many.parent / "out").exists()
    decoded.clear()
    kept(many)
    assert 0 < len(decoded) < 12
    assert same_as_fresh(many)
