"""The tab Library renames and imports models, and replaces none."""

from pathlib import Path

import pytest

from distill.errors import ParamsError
from distill.ui.library_tab import move


def test_a_model_that_comes_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """A training in a terminal may end while an import is checked."""
    imported, target = tmp_path / "upload.distill", tmp_path / "kicks.distill"
    imported.write_bytes(b"imported")
    target.write_bytes(b"trained")
    with pytest.raises(ParamsError, match=r"name 'kicks': expected a new name, found a model of this name"):
        move(imported, target)
    assert (imported.read_bytes(), target.read_bytes()) == (b"imported", b"trained")
    move(imported, tmp_path / "other.distill")
    assert (tmp_path / "other.distill").read_bytes() == b"imported"
    assert not imported.exists()
