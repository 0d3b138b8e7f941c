"""Names from outside, and the folder's models."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.audio.source import LocalFolder
from distill.errors import ParamsError
from distill.text import one_line
from distill.ui.library_tab import move
from distill.ui.workspace import Workspace

TEXT = st.text(max_size=300) | st.text("../\\\0-~ a.é\u0301", max_size=30)


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    (tmp_path / "work" / "models").mkdir(parents=True)
    return Workspace(tmp_path / "work")


def added(work: Workspace, name: str, uploads: list[tuple[Path, str]]) -> tuple[str, int, list[str]]:
    """The folder that uploads were added to, the number of recordings, and the sentences for what was refused."""
    target = work.recordings_to(name)
    target.add(uploads)
    return target.folder.relative_to(work.root).as_posix(), target.count, target.refused


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
        expected = "expected one of the list, found none; train or import one first"
        assert str(caught.value) == f"model {one[:100]!r}: {expected}"
    with contextlib.suppress(ParamsError):
        assert work.new_model(name).parent == work.models


@pytest.mark.parametrize("name", ["", "-x", "--out", ".x", "../x", "a/b", "a b", "é", "x\ny", "a" * 101, "<b>"])
def test_odd_names_of_new_models_are_refused(work: Workspace, name: str) -> None:
    with pytest.raises(ParamsError) as caught:
        work.new_model(name)
    said = f"name {name!r}: expected up to 100 letters, digits, dots and dashes; choose another name"
    assert str(caught.value) == said


ELSEWHERE = "expected a name of a file or folder, found one that leads elsewhere; rename it"


@pytest.mark.parametrize(
    ("name", "said"),
    [(name, ELSEWHERE) for name in ("", "..", "../x", "a/b", "/", "x\0y", "\ud800")]
    + [(".x", "expected a name that does not begin with a dot; choose another name")],
)
def test_a_folder_of_recordings_is_one_of_the_page(work: Workspace, name: str, said: str) -> None:
    with pytest.raises(ParamsError) as caught:
        added(work, name, [])
    assert str(caught.value) == f"{name!r}: {said}"


@pytest.mark.parametrize("name", ["a.wav ", "a.WAV  ", "a.FLAC"])
def test_what_a_folder_would_be_read_for_is_added(work: Workspace, tmp_path: Path, name: str) -> None:
    (tmp_path / "sound").write_bytes(b"sound")
    assert added(work, "mine", [(tmp_path / "sound", name)]) == ("sounds/mine", 1, [])
    assert [file.relative for file in LocalFolder(work.sounds / "mine").scan().audio] == [name]
    assert work.corpora() == ["sounds/mine"]


def test_a_new_model_replaces_none(work: Workspace, tmp_path: Path) -> None:
    target = work.new_model(" mine.distill ")
    assert target == work.models / "mine.distill"
    target.write_bytes(b"trained")  # such as by a terminal, while an import is checked
    assert work.model("mine.distill") == target
    (tmp_path / "upload.distill").write_bytes(b"imported")
    said = "name 'mine': expected a new name, found a model of this name; choose another name"
    with pytest.raises(ParamsError, match=said):
        work.new_model("mine")
    with pytest.raises(ParamsError, match=said):
        move(tmp_path / "upload.distill", target)
    assert target.read_bytes() == b"trained"
    move(tmp_path / "upload.distill", work.models / "other.distill")
    assert (work.models / "other.distill").read_bytes() == b"imported"


def test_corpora_are_folders_with_recordings(work: Workspace) -> None:
    assert (work.listed(), work.names(), work.known("x")) == ([], [], {})
    held = "sounds/b sounds/a/kick sounds/a/snare sounds/models takes -n ~ .hidden models generated/x deep/e/r/x"
    for name in (*held.split(), "data/one"):
        (work.root / name).mkdir(parents=True, exist_ok=True)
        (work.root / name / "one.wav").touch()
    (work.root / "texts").mkdir()
    (work.root / "texts" / "one.txt").touch()
    assert work.corpora() == ["sounds/a", "sounds/b", "sounds/models", "data/one", "-n", "deep", "takes", "~"]
    (work.sounds / "one.wav").touch()
    assert "sounds" in work.corpora()
    assert work.corpus("sounds/a") == work.root / "sounds" / "a"
    found = [work.argument(work.corpus(name)) for name in ("-n", "~", "sounds/a")]
    assert found == ["./-n", "./~", "sounds/a"]  # never a flag or the home folder
    for name in ("../outside", "/", "", ".", "sounds/../takes", str(work.root / "takes")):
        with pytest.raises(
            ParamsError, match="expected a folder of the list, found none of this name; choose one of the list"
        ):
            work.corpus(name)


def written(work: Workspace) -> set[str]:
    """The files in the folder "mine"."""
    return {path.relative_to(work.sounds / "mine").as_posix() for path in work.sounds.rglob("*") if path.is_file()}


def test_names_are_compared_in_one_normal_form(work: Workspace) -> None:
    composed, decomposed = "Gl\u00f6ckchen", "Glo\u0308ckchen"
    (work.sounds / decomposed).mkdir(parents=True)
    for path in (work.sounds / decomposed / "one.wav", work.models / f"{decomposed}.distill"):
        path.touch()
    for form in (composed, decomposed):
        assert work.corpus(f"sounds/{form}") == work.sounds / decomposed
        assert work.model(f"{form}.distill") == path
    (work.models / f"{composed}.distill").touch()
    assert [work.model(f"{form}.distill").stem for form in (composed, decomposed)] == [composed, decomposed]


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    (tmp_path / "one").write_bytes(b"1")
    return tmp_path / "one"


def test_recordings_are_copied_with_their_folders_beside_others(work: Workspace, sound: Path) -> None:
    places = ["one.WAV", "one.WAV", "snare/Größe.wav", "../one.wav", "/one.wav"]
    places += ["snare/._Größe.wav", "._pack.zip", ".DS_Store", "notes.txt", "Kit.WAV.asd", "license"]
    uploads = [*((sound, place) for place in places), (sound.with_name("none"), "none.wav")]
    folder, count, refused = added(work, " mine ", uploads)
    assert (folder, count) == ("sounds/mine", 3)
    assert written(work) == {"one.WAV", "one 2.WAV", "snare/Gr\u00f6\u00dfe.wav"}
    assert (work.sounds / "mine" / "one 2.WAV").read_bytes() == b"1"
    outside, absolute, none, others = refused
    assert others.startswith("3 files left out: 1 .txt, 1 .asd, 1 (no suffix); expected recordings such as .wav, ")
    assert (outside, absolute) == (f"'..': {ELSEWHERE}", f"'': {ELSEWHERE}")
    assert none == "none.wav: expected a file that can be copied, found: No such file or directory"


@pytest.mark.parametrize(
    ("places", "kept"),
    [
        (["pack/kick/1.wav", "pack/snare/1.wav"], {"kick/1.wav", "snare/1.wav"}),  # the folders in it are labels
        (["kick/1.wav", "kick/hard/1.wav"], {"kick/1.wav", "kick/hard/1.wav"}),  # and so may it be
        (["kick/1.wav", "kick/2.wav"], {"kick/1.wav", "kick/2.wav"}),  # it is one, beside others that come later
        (["kick/1.wav", "snare/1.wav"], {"kick/1.wav", "snare/1.wav"}),
        (["kick/808/1.wav", "snare/1.wav"], {"kick/808/1.wav", "snare/1.wav"}),
    ],
)
def test_of_the_folders_that_are_added_one_around_others_is_left_out(
    work: Workspace, sound: Path, places: list[str], kept: set[str]
) -> None:
    assert added(work, "mine", [(sound, place) for place in places]) == ("sounds/mine", 2, [])
    assert written(work) == kept


NAMES = [
    *("Loop, 90 BPM.wav", "Kick [Hard].wav", "Tom 50%.wav", "A♭ pad.wav", "Hat@2.wav", "Fx;1.wav", "Tom – low.wav"),
    *("(wet) bell.wav", '"it\'s" #1 & 2.wav', " lead.wav", ".hidden.wav", "-n.wav", "~.wav", "<b>.wav", "😀.wav"),
    *(
        "a\nb.wav",
        "a..wav",
        "CON.wav",
        "Gr\u00f6\u00dfe.wav",
        "Gro\u0308\u00dfe.wav",
        "x" * 251 + ".wav",
        "é" * 125 + ".wav",
    ),
]


def test_a_name_stays_as_it_is(work: Workspace, sound: Path) -> None:
    uploads = [(sound, place) for name in NAMES for place in (name, f"{name} folder/{name}")]
    folders = sum(len(f"{name} folder".encode()) <= 255 for name in NAMES)
    _, count, refused = added(work, "mine", uploads)
    assert count == len(NAMES) + folders
    assert set(NAMES) <= written(work)
    assert len(written(work)) == count
    too_long = "expected a file that can be copied, found: File name too long"
    assert refused == [f"{one_line(name, 100)}: {too_long}" for name in NAMES[-2:]]


def test_an_archive_is_refused_and_the_recordings_beside_it_are_added(work: Workspace, sound: Path) -> None:
    names = ["drums.zip", "pack/Loops.TAR.GZ", "a.7z", "._drums.zip"]
    _, count, refused = added(work, "mine", [(sound, name) for name in [*names, "one.wav"]])
    said = "expected recordings, found an archive; unpack it, then drop the folder"
    assert (count, written(work)) == (1, {"one.wav"})
    assert refused == [f"{name}: {said}" for name in ("drums.zip", "Loops.TAR.GZ", "a.7z")]


@settings(max_examples=50)
@given(st.lists(TEXT, max_size=4))
def test_no_upload_is_written_elsewhere(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    root = tmp_path_factory.mktemp("uploads")
    (root / "one.wav").write_bytes(b"1")
    work = Workspace(root / "work")
    odd = ("../x", "a/../../x", "/x", "a//x", "a\0b", "\udc2e./x")
    _, count, refused = added(work, "mine", [(root / "one.wav", f"{name}.wav") for name in (*names, *odd)])
    written = [path for path in root.rglob("*") if path.is_file() and path != root / "one.wav"]
    assert len(written) == count
    assert len(refused) >= len(odd)
    assert all(path.is_relative_to(work.sounds / "mine") for path in written)
