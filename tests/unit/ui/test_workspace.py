"""Names and archives from outside."""

import contextlib
import io
import os
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distill.errors import ParamsError
from distill.ui import workspace as module
from distill.ui.workspace import Workspace, _checked

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


def found(work: Workspace, name: str = "mine") -> dict[str, bytes]:
    folder = work.sounds / name
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@given(TEXT)
@example("e\u0301" * 90)
@example("字" * 100)
@example("a\n")
def test_a_checked_name_is_a_name_of_a_file(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    try:
        checked = _checked(name)
    except ParamsError:
        return
    assert checked == unicodedata.normalize("NFC", name)
    path = tmp_path_factory.getbasetemp() / checked
    path.touch()
    assert path.parent == tmp_path_factory.getbasetemp()
    assert not checked.startswith(("-", ".", "~"))
    assert checked.isprintable()
    path.unlink()


@settings(max_examples=50)
@given(TEXT)
def test_no_name_of_a_model_leads_elsewhere(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.getbasetemp() / "names"
    (root / "models").mkdir(parents=True, exist_ok=True)
    (root / "other.distill").touch()
    work = Workspace(root)
    with pytest.raises(ParamsError, match="expected one of the list, found none; choose one of the list"):
        work.model(name)
    with contextlib.suppress(ParamsError):
        assert work.new_model(name).parent == work.models


@pytest.mark.parametrize(
    "name", ["../other.distill", "", ".", "..", "a\0.distill", "a" * 300 + ".distill", "folder.distill"]
)
def test_what_is_no_model_of_the_list_is_refused(work: Workspace, name: str) -> None:
    (work.root / "other.distill").touch()
    (work.models / "folder.distill").mkdir()
    with pytest.raises(ParamsError) as caught:
        work.model(name)
    assert str(caught.value) == f"model {name!r}: expected one of the list, found none; choose one of the list"


def test_links_among_models_are_refused(work: Workspace, tmp_path: Path) -> None:
    (tmp_path / "other.distill").touch()
    (work.models / "link.distill").symlink_to(tmp_path / "other.distill")
    with pytest.raises(ParamsError, match="expected one of the list"):
        work.model("link.distill")
    work.models.rename(tmp_path / "moved")
    (tmp_path / "moved" / "own.distill").touch()
    work.models.symlink_to(tmp_path / "moved")
    with pytest.raises(ParamsError, match="expected one of the list"):
        work.model("own.distill")


def test_a_model_is_found_by_its_name(work: Workspace) -> None:
    (work.models / "mine.distill").touch()
    assert work.model("mine.distill") == work.models / "mine.distill"


@pytest.mark.parametrize("name", ["", "-x", "--out", ".x", "../x", "a/b", "a b", "é", "x\ny", "a" * 101, "<b>"])
def test_odd_names_of_new_models_are_refused(work: Workspace, name: str) -> None:
    with pytest.raises(ParamsError) as caught:
        work.new_model(name)
    assert str(caught.value).startswith(
        f"name {name!r}: expected up to 100 letters, digits, dots, dashes and underscores"
    )


def test_a_new_model_replaces_none(work: Workspace, tmp_path: Path) -> None:
    assert work.new_model(" mine.distill ") == work.models / "mine.distill"
    (work.models / "mine.distill").touch()
    (work.models / "link.distill").symlink_to(tmp_path / "nothing")
    for name in ("mine", "link"):
        with pytest.raises(ParamsError, match=f"name '{name}': expected a new name, found a model of this name"):
            work.new_model(name)


def test_corpora_are_folders_with_recordings(work: Workspace, tmp_path: Path) -> None:
    for name in (
        "sounds/b",
        "sounds/a/kick",
        "sounds/a/snare",
        "takes",
        ".hidden",
        "models",
        "generated/x",
        "deep/e/r/x",
    ):
        (work.root / name).mkdir(parents=True, exist_ok=True)
        (work.root / name / "one.wav").touch()
    (work.root / "texts").mkdir()
    (work.root / "texts" / "one.txt").touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "one.wav").touch()
    (work.root / "link").symlink_to(tmp_path / "outside")
    assert work.corpora() == ["sounds/a", "sounds/b", "takes"]
    assert work.corpus("sounds/a") == work.root / "sounds" / "a"
    for name in ("link", "../outside", "/", "", ".", "sounds/../takes", str(work.root / "takes")):
        with pytest.raises(ParamsError, match="expected a folder of the list, found another; choose one of the list"):
            work.corpus(name)


def test_recordings_are_copied_beside_others(work: Workspace, tmp_path: Path) -> None:
    one, text = tmp_path / "one.WAV", tmp_path / "notes.txt"
    one.write_bytes(b"1")
    text.touch()
    (tmp_path / "-n.wav").touch()
    added = work.add_recordings(" mine ", [one, one, text, tmp_path / "-n.wav", tmp_path / "none.wav"])
    assert (added.folder, added.count, len(added.refused)) == ("sounds/mine", 2, 3)
    assert found(work) == {"one.WAV": b"1", "one 2.WAV": b"1"}
    assert added.refused[0].startswith("notes.txt: expected a recording (")
    assert added.refused[1].startswith("'-n.wav': expected a name of letters")
    assert added.refused[2] == "none.wav: expected a file that can be copied, found: No such file or directory"


@pytest.mark.parametrize(
    "name", ["", " ", "..", ".", "../x", "/x", "-x", "a/b", "x.", "a\0", "a" * 101, "字" * 100, "<b>"]
)
def test_odd_names_of_folders_are_refused(work: Workspace, name: str) -> None:
    with pytest.raises(ParamsError) as caught:
        work.add_recordings(name, [])
    assert str(caught.value).startswith(f"folder {name!r}: expected up to 100 letters, digits, spaces and dashes")


@pytest.mark.parametrize("link", ["sounds", "sounds/mine"])
def test_recordings_are_not_written_through_links(work: Workspace, tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (work.root / link).parent.mkdir(exist_ok=True)
    (work.root / link).symlink_to(outside)
    with pytest.raises(ParamsError, match="folder 'mine': expected a folder, found a link; choose another name"):
        work.add_recordings("mine", [])


def test_an_archive_is_not_unpacked_through_links(work: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (work.sounds / "mine").mkdir(parents=True)
    (work.sounds / "mine" / "kick").symlink_to(outside)
    added = work.add_recordings("mine", [zipped(tmp_path / "a.zip", {"kick/a.wav": b"1", "b.wav": b"2"})])
    assert added.refused == ("a.zip: a.wav: expected a folder, found a link that leads elsewhere",)
    assert (added.count, list(outside.iterdir())) == (1, [])


def test_an_archive_keeps_its_folders(work: Workspace, tmp_path: Path) -> None:
    files = {"kick/1.wav": b"1", "snare/1.flac": b"2", "__MACOSX/kick/._1.wav": b"", "kick/.DS_Store": b"", "a/": b""}
    added = work.add_recordings("mine", [zipped(tmp_path / "pack.ZIP", files)])
    assert (added.count, added.refused) == (2, ())
    assert found(work) == {"kick/1.wav": b"1", "snare/1.flac": b"2"}


def test_accents_are_spelt_one_way(work: Workspace, tmp_path: Path) -> None:
    added = work.add_recordings("mine", [zipped(tmp_path / "a.zip", {"Gro\u0308\u00dfe.wav": b"1"})])
    assert (added.refused, list(found(work))) == ((), ["Gr\u00f6\u00dfe.wav"])


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../x.wav",
            "a/../../x.wav",
            "/x.wav",
            "//x.wav",
            "a\\..\\x.wav",
            "C:\\x.wav",
            "C:x.wav",
            "~/x.wav",
            "-x.wav",
        ),
        *("a/./../x.wav", "a\nb.wav", "a\x1bb.wav", "<b>.wav", "/".join("abcdefghij") + ".wav", "a" * 300 + ".wav"),
    ],
)
def test_odd_names_in_archives_are_refused(work: Workspace, tmp_path: Path, name: str) -> None:
    added = work.add_recordings("mine", [zipped(tmp_path / "a.zip", {name: b"1", "good.wav": b"2"})])
    assert (added.count, len(added.refused)) == (1, 1)
    assert added.refused[0].startswith("a.zip: ")
    assert found(work) == {"good.wav": b"2"}
    assert not list(tmp_path.rglob("x.wav"))


@settings(max_examples=50)
@pytest.mark.filterwarnings("ignore:Duplicate name")  # names that become one in an archive
@given(st.dictionaries(TEXT.filter(bool), st.binary(max_size=9), max_size=4))
def test_no_archive_writes_elsewhere(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    place = tmp_path_factory.mktemp("zip")
    (place / "work").mkdir()
    work = Workspace(place / "work")
    try:
        archive = zipped(place / "a.zip", {name + ".wav": content for name, content in files.items()})
    except ValueError:  # no name that an archive can hold
        return
    added = work.add_recordings("mine", [archive])
    written = [path for path in place.rglob("*") if path.is_file() and path != archive]
    assert len(written) == added.count
    assert all(path.is_relative_to(work.sounds / "mine") for path in written)


def test_a_file_that_is_there_twice_is_unpacked_once(work: Workspace, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.wav", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.wav", b"2")
    added = work.add_recordings("mine", [tmp_path / "a.zip"])
    assert (added.count, found(work)) == (1, {"a.wav": b"1"})
    assert added.refused == ("a.zip: a.wav: expected files in few folders, each once, found others",)


def test_links_and_other_kinds_in_archives_are_refused(work: Workspace, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.wav")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/hostname")
        archive.writestr("inner.zip", b"PK")
        archive.writestr("run.py", b"")
    added = work.add_recordings("mine", [tmp_path / "a.zip"])
    assert (added.count, found(work)) == (0, {})
    assert added.refused == (
        "a.zip: link.wav: expected a file inside the archive, found a link or another place",
        "a.zip: inner.zip: expected a recording, found another kind of file",
        "a.zip: run.py: expected a recording, found another kind of file",
    )


def test_bombs_are_refused(work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zipped(tmp_path / "bomb.zip", {"a.wav": bytes(5_000_000)})
    assert work.add_recordings("mine", [bomb]).refused == (
        "bomb.zip: a.wav: expected sound, found a file that unpacks to 1000 times its size",
    )
    monkeypatch.setattr(module, "MOST_BYTES", 4_000_000)
    (said,) = work.add_recordings("mine", [bomb]).refused
    assert said.startswith("bomb.zip: expected at most 100000 files and 0 GiB, found more")
    monkeypatch.setattr(module, "MOST_FILES", 1)
    (said,) = work.add_recordings("mine", [zipped(tmp_path / "many.zip", {"a.wav": b"", "b.wav": b""})]).refused
    assert "expected at most 1 files" in said
    assert found(work) == {}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_bounds_are_refused(work: Workspace, tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.wav", b"sound")
    (said,) = work.add_recordings("mine", [tmp_path / "a.zip"]).refused
    assert said == "a.zip: a.wav: expected a file packed as usual, found another method; pack it again"


def test_files_that_share_their_bytes_are_refused(work: Workspace, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.wav": os.urandom(1000), "b.wav": os.urandom(1000), "c.wav": b"3"})
    content = bytearray(path.read_bytes())
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    content[second + 42 : second + 46] = struct.pack("<I", 0)  # where the first one is
    path.write_bytes(content)
    added = work.add_recordings("mine", [path])
    assert added.refused == ("a.zip: expected files side by side, found some within each other; pack it again",)
    assert found(work) == {}


def test_a_list_of_millions_of_files_is_not_read(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "a.zip", {f"{number}.wav": b"" for number in range(100)})
    monkeypatch.setattr(module, "MOST_LIST", 1000)
    monkeypatch.setattr(zipfile.ZipFile, "infolist", lambda _: pytest.fail("it was read"))
    (said,) = work.add_recordings("mine", [path]).refused
    assert said.startswith("a.zip: expected a list of at most 100000 files, found one of 0 MiB; copy the folder")


def test_an_archive_for_which_there_is_no_room_is_refused(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPARE", 1 << 80)
    (said,) = work.add_recordings("mine", [zipped(tmp_path / "a.zip", {"a.wav": b"1"})]).refused
    assert said == "a.zip: expected 0 MiB of free disk, found 0 MiB; free some space"


@pytest.mark.parametrize("name", ["CON.wav", "nul.flac", "com1.wav", "LPT9 .wav", "aux/a.wav", "prn.a.wav"])
def test_devices_of_windows_are_no_names(work: Workspace, tmp_path: Path, name: str) -> None:
    added = work.add_recordings("mine", [zipped(tmp_path / "a.zip", {name: b"1", "console.wav": b"2"})])
    assert (added.count, found(work)) == (1, {"console.wav": b"2"})


def test_names_that_differ_in_their_case_are_all_kept(work: Workspace, tmp_path: Path) -> None:
    added = work.add_recordings("mine", [zipped(tmp_path / "a.zip", {"a.wav": b"1", "A.wav": b"2"})])
    assert (added.count, sorted(found(work).values())) == (2, [b"1", b"2"])


@pytest.mark.parametrize("name", [".distill", ".distill/jobs", ".distill/ui", ".distill/ui/uploads", ".distill/stop"])
def test_a_folder_whose_own_files_are_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").mkdir()
    link = tmp_path / "work" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "outside")
    with pytest.raises(ParamsError) as caught:
        Workspace(tmp_path / "work").check()
    assert str(caught.value) == (
        f"--folder: expected {name} to be no link, found one; remove the link or choose another folder"
    )


def test_no_model_is_made_through_a_link(work: Workspace, tmp_path: Path) -> None:
    work.models.rename(tmp_path / "moved")
    work.models.symlink_to(tmp_path / "moved")
    with pytest.raises(ParamsError, match="models: expected a folder, found a link; put a folder there"):
        work.new_model("mine")


def test_a_size_that_lies_is_held_to(work: Workspace, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.wav": os.urandom(3_000_000), "b.wav": b"2"})
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 1_000_000)
    path.write_bytes(content)
    added = work.add_recordings("mine", [path])
    assert (added.count, found(work)) == (1, {"b.wav": b"2"})
    assert len(added.refused) == 1


def test_a_damaged_file_of_an_archive_is_named(work: Workspace, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.wav": bytes(range(256)) * 9, "b.wav": b"2"})
    content = bytearray(path.read_bytes())
    content[40:60] = bytes(20)
    path.write_bytes(content)
    added = work.add_recordings("mine", [path])
    assert (added.count, found(work)) == (1, {"b.wav": b"2"})
    assert added.refused[0].startswith("a.zip: a.wav: expected a file that can be unpacked, found: ")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x05\x06" + bytes(17), b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_archive_is_refused(work: Workspace, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    (said,) = work.add_recordings("mine", [tmp_path / "a.zip"]).refused
    assert said.startswith("a.zip: expected a zip archive that can be read, found: ")
    assert said.endswith("; pack it again")


@settings(max_examples=60)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_any_damage_is_a_sentence(tmp_path_factory: pytest.TempPathFactory, at: int, damage: bytes) -> None:
    place = tmp_path_factory.mktemp("damage")
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", b"sound" * 30)
        archive.writestr("kick/b.wav", b"sound" * 30)
    content = bytearray(made.getvalue())
    content[at : at + len(damage)] = damage
    (place / "a.zip").write_bytes(content)
    added = Workspace(place / "work").add_recordings("mine", [place / "a.zip"])
    assert all(said.startswith("a.zip: ") for said in added.refused)
    written = [path for path in place.rglob("*") if path.is_file() and path.name != "a.zip"]
    assert len(written) == added.count
