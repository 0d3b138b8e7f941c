"""The folder of a kit: nobody's files are lost."""

import json
from pathlib import Path

import pytest

from distill.errors import ParamsError
from distill.kit.make import kit_folder


def write_kit(folder: Path, files: list[str]) -> Path:
    (folder / "samples").mkdir(parents=True)
    for name in files:
        (folder / name).touch()
    (folder / "kit.json").write_text(json.dumps({"format": "distill_kit", "files": [*files, "kit.json"]}))
    return folder


def test_a_new_an_empty_and_a_linked_folder_are_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    assert kit_folder(tmp_path / "new" / "deep", False) == tmp_path / "new" / "deep"
    assert kit_folder(tmp_path / "empty", False) == kit_folder(tmp_path / "link", False) == tmp_path / "empty"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "link"]


def test_a_kit_is_replaced_only_when_asked(tmp_path: Path) -> None:
    out = write_kit(tmp_path / "kit", ["kit.sfz", "samples/036_kick_01.wav"])
    with pytest.raises(
        ParamsError, match="expected a new or an empty folder, found one with files in it; name another"
    ):
        kit_folder(out, False)
    assert kit_folder(out, True) == out


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ("song.als", "song.als"),
        ("samples/mine.wav", "samples/mine.wav"),
        ("samples/036_kick_02.wav", "samples/036_kick_02.wav"),
        ("listed.wav", "listed.wav"),
    ],
)
def test_a_kit_with_files_of_ones_own_is_kept(tmp_path: Path, own: str, found: str) -> None:
    out = write_kit(tmp_path / "kit", ["kit.sfz", "samples/036_kick_01.wav", "listed.wav"])
    if own != "listed.wav":
        (out / "listed.wav").unlink()
        (out / own).touch()
    with pytest.raises(ParamsError, match=f"a kit that Distill made and nothing else, to replace it, found {found}; "):
        kit_folder(out, True)


def test_links_in_a_kit_are_not_followed(tmp_path: Path) -> None:
    out = write_kit(tmp_path / "kit", ["kit.sfz"])
    (out / "kit.txt").symlink_to("kit.sfz")
    with pytest.raises(ParamsError, match=r"found kit\.txt"):
        kit_folder(out, True)


@pytest.mark.parametrize("index", [None, "", "[]", "{}", '{"format": "distill_kit"}', '{"files": []}', "[" * 100_000])
def test_another_folder_is_not_replaced(tmp_path: Path, index: str | None) -> None:
    (tmp_path / "song").mkdir()
    (tmp_path / "song" / "kit.sfz").touch()
    if index is not None:
        (tmp_path / "song" / "kit.json").write_text(index)
    with pytest.raises(ParamsError, match=r"found (no|another) kit\.json; move your own files away"):
        kit_folder(tmp_path / "song", True)


def test_places_that_cannot_be_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    for out, message in (
        (tmp_path / "file", "expected a folder, found a file; name another folder"),
        (
            tmp_path / "file" / "kit",
            f"expected a folder to make it in, found a file, {tmp_path / 'file'}; name another",
        ),
        (Path(), "expected a folder of its own, found the current folder or one above it; name a folder in it"),
        (tmp_path, "expected a folder of its own, found the current folder or one above it; name a folder in it"),
        (Path("x" * 300), "expected a folder to write to, found File name too long; name another folder"),
        (Path("/proc/kit"), "expected a folder to write to, found No such file or directory; name another folder"),
    ):
        with pytest.raises(ParamsError, match=f"--out {out}: {message}"):
            kit_folder(out, True)
