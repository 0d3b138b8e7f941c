"""The models of a folder, and a sentence for every file that is none."""

from pathlib import Path

import pytest
from unit.tiny import write_model, write_prior_model

from distill.errors import ParamsError
from distill.model_file.format import load_bundle, save_bundle
from distill.model_file.library import list_models


def test_every_model_is_listed_with_what_it_can(tmp_path: Path) -> None:
    write_model(tmp_path / "codec.distill")
    write_prior_model(tmp_path / "bare.distill", reference=False)
    write_prior_model(tmp_path / "full.distill", labels=["kick", "snare"])
    (tmp_path / "full.distill.md").write_text("a card is no model")
    bundle = load_bundle(tmp_path / "full.distill")
    noted = {"recordings": 12, "tier": "small", "val_bits_per_second": 721.5}
    metadata = bundle.metadata.model_copy(update={"metadata": noted})
    save_bundle(tmp_path / "full.distill", bundle.codec, bundle.prior, metadata, bundle.reference)
    bare, codec, full = list_models(tmp_path)
    assert [one.name for one in (bare, codec, full)] == ["bare", "codec", "full"]
    assert [(one.can_generate, one.can_judge) for one in (bare, codec, full)] == [
        (True, False),
        (False, False),
        (True, True),
    ]
    assert (full.recordings, full.tier, full.val_bits_per_second) == (12, "small", 721.5)
    assert full.labels == ("kick", "snare")
    assert full.utilization == 0.5
    assert full.date.endswith("Z")
    assert full.path == str(tmp_path / "full.distill")
    assert (codec.recordings, codec.tier, codec.utilization, codec.val_bits_per_second) == (None, None, None, None)
    assert codec.codec_bits_per_second == pytest.approx(
        9 * load_bundle(tmp_path / "codec.distill").codec.spectrogram.frame_rate
    )
    assert not any(one.problem for one in (bare, codec, full))


def test_figures_of_another_type_are_unknown(tmp_path: Path) -> None:
    write_prior_model(tmp_path / "a.distill")
    bundle = load_bundle(tmp_path / "a.distill")
    noted = {"recordings": [1], "tier": "\x1b[31m", "val_bits_per_second": "many"}
    metadata = bundle.metadata.model_copy(update={"metadata": noted})
    save_bundle(tmp_path / "a.distill", bundle.codec, bundle.prior, metadata)
    (found,) = list_models(tmp_path)
    assert (found.recordings, found.tier, found.val_bits_per_second) == (None, None, None)


def test_damaged_and_foreign_files_are_listed_with_the_reason(tmp_path: Path) -> None:
    write_prior_model(tmp_path / "good.distill")
    data = (tmp_path / "good.distill").read_bytes()
    (tmp_path / "cut.distill").write_bytes(data[:-4])
    (tmp_path / "empty.distill").touch()
    (tmp_path / "folder.distill").mkdir()
    (tmp_path / "pickle.distill").write_bytes(b"\x80\x04abc")
    (tmp_path / "gone.distill").symlink_to(tmp_path / "nothing")
    problems = {one.name: one.problem for one in list_models(tmp_path)}
    assert problems.pop("good") == ""
    for name, part in {
        "cut": "expected a Distill model, found a damaged file",
        "empty": "found an empty file (0 bytes)",
        "folder": "found a folder; name the file in it",
        "pickle": "found a pickle, which can run code and is never opened",
        "gone": "No such file",
    }.items():
        assert part in problems.pop(name)
    assert not problems


@pytest.mark.parametrize(("name", "found"), [("none", "nothing there"), ("file", "a file; name the folder")])
def test_what_is_no_folder_is_a_sentence(tmp_path: Path, name: str, found: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ParamsError, match=f"DIR .*{name}: expected a folder of models, found {found}"):
        list_models(tmp_path / name)
