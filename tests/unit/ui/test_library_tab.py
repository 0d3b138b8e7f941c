"""The library of the page: renaming, deleting and importing lose no file of a person."""

from pathlib import Path

import pytest

from distill.errors import ParamsError
from distill.model_file.build import card_text
from distill.model_file.format import load_bundle
from distill.ui.library_tab import LibraryTab
from distill.ui.workspace import Workspace
from unit.tiny import write_model

NOTES = "# Notes on a pack made with Distill"


@pytest.fixture
def library(tmp_path: Path) -> LibraryTab:
    write_model(tmp_path / "models" / "a.distill")
    made = LibraryTab.__new__(
        LibraryTab
    )  # without its components: a page that is never served leaves an event loop open
    made._work = Workspace(tmp_path)
    return made


def test_notes_beside_a_model_stay(library: LibraryTab, tmp_path: Path) -> None:
    models = tmp_path / "models"
    for name in ("a", "b"):
        (models / f"{name}.distill.md").write_text(NOTES)
    write_model(tmp_path / "b.distill")
    never = (
        r"b\.distill\.md: expected a new file, found one that Distill did not make and never replaces; choose another"
    )
    with pytest.raises(ParamsError, match=never):
        library.rename("a.distill", "b", None)
    with pytest.raises(ParamsError, match=never):
        library.take(str(tmp_path / "b.distill"))
    library.delete("a.distill")
    assert sorted(path.name for path in models.iterdir()) == ["a.distill.md", "b.distill.md"]
    assert {path.read_text() for path in models.iterdir()} == {NOTES}


def test_a_card_goes_with_its_model(library: LibraryTab, tmp_path: Path) -> None:
    models = tmp_path / "models"
    card = card_text("a.distill", load_bundle(models / "a.distill").metadata)
    (models / "a.distill.md").write_text(card)
    *_, generating = library.rename("a.distill", "b", "a.distill")
    assert generating["value"] == "b.distill"  # the form Generate keeps the model, which has no prior here
    assert sorted(path.name for path in models.iterdir()) == ["b.distill", "b.distill.md"]
    library.delete("b.distill")
    assert list(models.iterdir()) == []
