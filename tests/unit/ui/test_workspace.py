"""Names and archives from outside."""

import contextlib
import io
import os
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.errors import ParamsError
from distill.ui import workspace as module
from distill.ui.workspace import Added, Workspace

TEXT = st.text(max_size=300) | st.text("../\\\0-~ a.é\u0301", max_size=30)


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    (tmp_path / "work" / "models").mkdir(parents=True)
    return Workspace(tmp_path / "work")


def zipped(path: Path, files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """An archive of files with any names."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return path


def add(work: Workspace, *uploads: Path) -> Added:
    """Add uploads without folders."""
    return work.add_recordings("mine", [(upload, upload.name) for upload in uploads])


def found(work: Workspace, name: str = "mine") -> dict[str, bytes]:
    folder = work.sounds / name
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@settings(max_examples=50)
@given(TEXT)
def test_no_name_of_a_model_leads_elsewhere(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.getbasetemp() / "names"
    (root / "models").mkdir(parents=True, exist_ok=True)
    (root / "other.distill").touch()
    work = Workspace(root)
    for one in (name, "../other.distill", "", "a\0.distill", "a" * 300 + ".distill"):
        with pytest.raises(ParamsError) as caught:
            work.model(one)
        assert str(caught.value) == f"model {one!r}: expected one of the list, found none; choose one of the list"
    with contextlib.suppress(ParamsError):
        assert work.new_model(name).parent == work.models


@pytest.mark.parametrize("name", ["", "-x", "--out", ".x", "../x", "a/b", "a b", "é", "x\ny", "a" * 101, "<b>"])
def test_odd_names_of_new_models_are_refused(work: Workspace, name: str) -> None:
    with pytest.raises(ParamsError) as caught:
        work.new_model(name)
    assert str(caught.value).startswith(
        f"name {name!r}: expected up to 100 letters, digits, dots, dashes and underscores"
    )


def test_a_new_model_replaces_none(work: Workspace) -> None:
    assert work.new_model(" mine.distill ") == work.models / "mine.distill"
    (work.models / "mine.distill").touch()
    assert work.model("mine.distill") == work.models / "mine.distill"
    with pytest.raises(ParamsError, match="name 'mine': expected a new name, found a model of this name"):
        work.new_model("mine")


def test_corpora_are_folders_with_recordings(work: Workspace) -> None:
    for name in (
        *("sounds/b", "sounds/a/kick", "sounds/a/snare", "takes", ".hidden"),
        *("models", "generated/x", "deep/e/r/x"),
    ):
        (work.root / name).mkdir(parents=True, exist_ok=True)
        (work.root / name / "one.wav").touch()
    (work.root / "texts").mkdir()
    (work.root / "texts" / "one.txt").touch()
    assert work.corpora() == ["sounds/a", "sounds/b", "takes"]
    assert work.corpus("sounds/a") == work.root / "sounds" / "a"
    for name in ("../outside", "/", "", ".", "sounds/../takes", str(work.root / "takes")):
        with pytest.raises(ParamsError, match="expected a folder of the list, found another; choose one of the list"):
            work.corpus(name)


def test_recordings_are_copied_beside_others(work: Workspace, tmp_path: Path) -> None:
    one, text, odd = tmp_path / "one.WAV", tmp_path / "notes.txt", tmp_path / "-n.wav"
    one.write_bytes(b"1")
    text.touch()
    odd.touch()
    uploads = [one, one, text, odd, tmp_path / "none.wav"]
    added = work.add_recordings(" mine ", [(upload, upload.name) for upload in uploads])
    assert (added.folder, added.count, len(added.refused)) == ("sounds/mine", 2, 3)
    assert found(work) == {"one.WAV": b"1", "one 2.WAV": b"1"}
    assert added.refused[0].startswith("notes.txt: expected a recording (")
    assert added.refused[1].startswith("'-n.wav': expected a name of letters")
    assert added.refused[2] == "none.wav: expected a file that can be copied, found: No such file or directory"


def test_a_folder_keeps_its_subfolders(work: Workspace, tmp_path: Path) -> None:
    (tmp_path / "one.wav").write_bytes(b"1")
    places = ["kick/one.wav", "snare/Gro\u0308\u00dfe.wav", ".DS_Store", "../one.wav", "kick/../../one.wav"]
    added = work.add_recordings("mine", [(tmp_path / "one.wav", place) for place in places])
    assert (added.count, len(added.refused)) == (2, 2)
    assert found(work) == {"kick/one.wav": b"1", "snare/Gr\u00f6\u00dfe.wav": b"1"}


@pytest.mark.parametrize("name", ["", " ", "..", ".", "../x", "/x", "-x", "a/b", "a\0", "a" * 101, "字" * 100, "<b>"])
def test_odd_names_of_folders_are_refused(work: Workspace, name: str) -> None:
    with pytest.raises(ParamsError) as caught:
        work.add_recordings(name, [])
    assert str(caught.value).startswith(f"folder {name!r}: expected up to 100 letters, digits, spaces and dashes")


def test_an_archive_keeps_its_folders(work: Workspace, tmp_path: Path) -> None:
    files = {"kick/1.wav": b"1", "snare/1.flac": b"2", "__MACOSX/kick/._1.wav": b"", "kick/.DS_Store": b"", "a/": b""}
    added = add(work, zipped(tmp_path / "pack.ZIP", files))
    assert (added.count, added.refused) == (2, ())
    assert found(work) == {"kick/1.wav": b"1", "snare/1.flac": b"2"}


@settings(max_examples=50)
@pytest.mark.filterwarnings("ignore:Duplicate name")  # names that become one in an archive
@given(st.dictionaries(TEXT.filter(bool), st.binary(max_size=9), max_size=4))
def test_no_archive_writes_elsewhere(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    place = tmp_path_factory.mktemp("zip")
    (place / "work").mkdir()
    work = Workspace(place / "work")
    odd = ("../x", "a/../../x", "/x", "a\\..\\x", "C:x", "~/x", "a\nb", "<b>")
    try:
        archive = zipped(place / "a.zip", {f"{name}.wav": b"1" for name in (*files, *odd)})
    except ValueError:  # no name that an archive can hold
        return
    added = add(work, archive)
    written = [path for path in place.rglob("*") if path.is_file() and path != archive]
    assert len(written) == added.count
    assert len(added.refused) >= len(odd)
    assert all(path.is_relative_to(work.sounds / "mine") for path in written)


def test_what_is_no_recording_of_an_archive_is_refused(work: Workspace, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.wav")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/hostname")
        archive.writestr("inner.zip", b"PK")
    added = add(work, tmp_path / "a.zip")
    assert found(work) == {"link.wav": b"/etc/hostname"}  # a file with the link's text, and no link
    assert not (work.sounds / "mine" / "link.wav").is_symlink()
    assert [said.partition(" (")[0] for said in added.refused] == ["a.zip: inner.zip: expected a recording"]


@pytest.mark.parametrize(("name", "most"), [("MOST_FILES", 1), ("MOST_BYTES", 99)])
def test_archives_that_are_too_large_are_refused(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(module, name, most)
    (said,) = add(work, zipped(tmp_path / "a.zip", {"a.wav": bytes(50), "b.wav": bytes(50)})).refused
    assert said.startswith("a.zip: expected at most ")
    assert said.endswith(" GiB, found more; copy the folder below this one instead")
    assert found(work) == {}


def test_a_size_that_lies_is_held_to(work: Workspace, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.wav": os.urandom(3_000_000), "b.wav": b"2"})
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 1_000_000)
    path.write_bytes(content)
    added = add(work, path)
    assert (added.count, found(work), len(added.refused)) == (1, {"b.wav": b"2"}, 1)


def test_a_damaged_file_of_an_archive_is_named(work: Workspace, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.wav": bytes(range(256)) * 9, "b.wav": b"2"})
    content = bytearray(path.read_bytes())
    content[40:60] = bytes(20)
    path.write_bytes(content)
    added = add(work, path)
    assert (added.count, found(work)) == (1, {"b.wav": b"2"})
    assert added.refused[0].startswith("a.zip: a.wav: expected a file that can be unpacked, found: ")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x05\x06" + bytes(17), b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_archive_is_refused(work: Workspace, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    (said,) = add(work, tmp_path / "a.zip").refused
    assert said.startswith("a.zip: expected a zip archive that can be read, found: ")
    assert said.endswith("; pack it again")


@settings(max_examples=60)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=8), st.sampled_from([8, 12, 14]))
def test_any_damage_is_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, at: int, damage: bytes, method: int
) -> None:
    place = tmp_path_factory.mktemp("damage")
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.writestr("a.wav", b"sound" * 30)
        archive.writestr("kick/b.wav", b"sound" * 30)
    content = bytearray(made.getvalue())
    content[at : at + len(damage)] = damage
    (place / "a.zip").write_bytes(content)
    added = add(Workspace(place / "work"), place / "a.zip")
    assert all(said.startswith("a.zip: ") for said in added.refused)
    written = [path for path in place.rglob("*") if path.is_file() and path.name != "a.zip"]
    assert len(written) == added.count
