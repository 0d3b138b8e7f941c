"""Decoded blocks that are kept: what is new is decoded, and the corpus is that of a fresh `ingest`."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from unit.audio.test_corpus import contents, write

from distill.audio import blocks
from distill.audio.bandwidth import Bandwidth, measure_bandwidth
from distill.audio.decode import Decoded, decode
from distill.audio.decoder import Decoder
from distill.audio.ingest import IngestReport, ingest
from distill.storage.work import HERE

RATE = 24_000


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were decoded, in this process, in blocks of about two files."""
    names: list[str] = []

    def in_this_process(_: Decoder, path: Path, sample_rate: int) -> Decoded:
        names.append(path.name)
        return decode(path, sample_rate)

    monkeypatch.setattr(Decoder, "decoded", in_this_process)
    monkeypatch.setattr(Decoder, "bandwidth", lambda _, path: measure_bandwidth(path))
    monkeypatch.setattr(blocks, "BLOCK_FILES", 2)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        write(tmp_path / "in" / f"{number:02d}.wav", number)
    return tmp_path / "in"


def kept(folder: Path) -> IngestReport:
    return ingest(folder, folder.parent / "out", RATE, 0.5, kept=folder.parent / "kept")


def same_as_fresh(folder: Path) -> bool:
    ingest(folder, folder.parent / "fresh", RATE, 0.5)
    return contents(folder.parent / "fresh") == contents(folder.parent / "out")


def test_nothing_is_decoded_twice(folder: Path, decoded: list[str]) -> None:
    first = kept(folder)
    assert len(decoded) == 12
    before = contents(folder.parent / "out")
    assert len(before) > 5  # several blocks
    decoded.clear()
    assert kept(folder) == first
    assert decoded == []
    assert contents(folder.parent / "out") == before
    assert same_as_fresh(folder)


def test_what_is_new_or_changed_is_decoded(folder: Path, decoded: list[str]) -> None:
    kept(folder)
    for change in (
        lambda: write(folder / "05b.wav", 50),
        lambda: write(folder / "03.wav", 51),
        lambda: (folder / "07.wav").unlink(),
        lambda: write(folder / "zz" / "more.wav", 52),
        lambda: write(folder / "08b.wav", 2),  # an exact copy of a recording in another block
        lambda: (folder / "02.wav").unlink(),  # the copy is now the only one
        lambda: (folder / "bad.wav").write_bytes(b"RIFF"),
    ):
        decoded.clear()
        change()
        kept(folder)
        assert len(decoded) <= 1
        assert same_as_fresh(folder)


def test_a_touched_file_and_a_renamed_one_are_decoded_again(folder: Path, decoded: list[str]) -> None:
    kept(folder)
    decoded.clear()
    os.utime(folder / "03.wav", ns=(1, 1))
    (folder / "04.wav").rename(folder / "04 renamed.wav")
    kept(folder)
    assert sorted(decoded) == ["03.wav", "04 renamed.wav"]
    assert same_as_fresh(folder)


def test_an_interrupted_run_goes_on(folder: Path, decoded: list[str]) -> None:
    def stop(done: int, total: int, path: str) -> None:  # noqa: ARG001 - the signature of progress
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(folder, folder.parent / "out", RATE, 0.5, HERE, stop, folder.parent / "kept")
    assert sorted(path.name for path in folder.parent.iterdir()) == ["in", "kept"]
    first = len(decoded)
    kept(folder)
    assert len(decoded) - first < 9
    assert same_as_fresh(folder)


def test_another_rate_or_another_code_decodes_again(
    folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(folder)
    ingest(folder, folder.parent / "out", 16_000, 0.5, kept=folder.parent / "kept")
    assert len(decoded) == 24
    monkeypatch.setattr("distill.audio.ingest.work_version", lambda *_: "other")
    kept(folder)
    assert len(decoded) == 36
    assert [path.name for path in (folder.parent / "kept").glob("*/*")] == ["other", "other"]  # the rest is gone


def test_what_may_decode_another_time_is_tried_again(
    folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Decoder.decoded
    killed = Decoded("ends its decoder (SIGKILL)", "", is_certain=False)
    monkeypatch.setattr(
        Decoder, "decoded", lambda one, path, rate: killed if path.name == "03.wav" else before(one, path, rate)
    )
    assert kept(folder).rejected == 1
    monkeypatch.setattr(Decoder, "decoded", before)
    decoded.clear()
    assert kept(folder).rejected == 0
    assert decoded == ["03.wav"]  # others of its block are known
    assert same_as_fresh(folder)


def test_copies_take_no_room(folder: Path, decoded: list[str]) -> None:
    sf.write(folder / "01 again.flac", sf.read(folder / "10.wav", dtype="int16")[0], RATE)
    report = kept(folder)
    assert (report.duplicates, len(decoded)) == (1, 13)
    samples = sum((path.stat().st_size - 192) // 2 for path in (folder.parent / "out").glob("pcm-*.safetensors"))
    assert samples == round(report.seconds * RATE)
    assert np.isclose(report.seconds, 12 * 0.6)
    assert same_as_fresh(folder)


def test_a_bandwidth_that_could_not_be_measured_is_tried_again(
    folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def bandwidth(_: Decoder, path: Path) -> Bandwidth | None:
        asked.append(path.name)
        return None if len(asked) == 4 else measure_bandwidth(path)

    (folder / "bad.wav").write_bytes(b"RIFF")  # that it cannot be measured is certain
    monkeypatch.setattr(Decoder, "bandwidth", bandwidth)
    first = kept(folder)
    assert len(asked) == 13
    assert kept(folder) == first  # at a rate that is set, the bandwidth decides nothing
    assert "03.wav" in asked[13:]
    assert len(asked) <= 13 + 4  # those of its block
    assert len(decoded) == 13
