"""Flags and paths that are refused before any work, and the messages."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from distill.cli.flags import check_output, make_folder
from distill.cli.train import params_of_flags
from distill.errors import ParamsError
from distill.params import default_params, default_values

GIVEN = {"corpus.path": "sounds", "bundle.name": "mine"}


def test_what_is_not_given_is_as_in_params_yaml() -> None:
    assert params_of_flags(GIVEN) == default_params(corpus={"path": "sounds"}, bundle={"name": "mine"})
    assert params_of_flags({**GIVEN, "vqvae.epochs": 3}).vqvae_config(5).epochs == 3
    for text, rate in (("auto", "auto"), ("44100", 44_100)):
        assert params_of_flags({**GIVEN, "corpus.sample_rate": text}).corpus.sample_rate == rate


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("vqvae.learning_rate", 0.0, "--learning-rate: expected greater than 0, found 0.0"),
        ("corpus.sample_rate", "100", "--sample-rate: expected greater than or equal to 8000 or auto, found 100"),
        *(
            ("corpus.sample_rate", text, "--sample-rate: expected integer or auto, found ")
            for text in ("", "44.1", "²")
        ),
        ("prior.num_heads", 3, "--heads: expected a divisor of hidden_size 128, found 3"),
        ("bundle.name", "../x", "--name: expected up to 100 letters, digits, dots, .* found '../x'"),
        ("corpus.path", "", "DIR: expected .* found ''"),
    ],
)
def test_a_value_that_the_command_line_does_not_refuse_names_its_flag(setting: str, value: Any, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        params_of_flags({**GIVEN, setting: value})


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("vqvae", "epochs", -3, r"^vqvae\.epochs: expected greater than or equal to 1 or auto, found -3$"),
        ("prior", "architecture", None, r"^prior\.architecture: expected a value, found none; add it there"),
    ],
)
def test_for_a_wrong_file_of_a_checkout_no_flag_is_blamed(
    monkeypatch: pytest.MonkeyPatch, section: str, key: str, value: Any, message: str
) -> None:
    values = deepcopy(default_values())
    del values[section][key]
    if value is not None:
        values[section][key] = value
    monkeypatch.setattr("distill.params.default_values", lambda: values)
    with pytest.raises(ParamsError, match=message):
        params_of_flags(GIVEN)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "file").touch()
    make_folder("--out", tmp_path / "new" / "one")
    assert list((tmp_path / "new" / "one").iterdir()) == []
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    for place, found in (("file", "File exists"), ("file/below", "Not a directory"), ("new", "Permission denied")):
        with pytest.raises(ParamsError, match=rf"--out .*{place}: expected a folder to write to, found {found}"):
            make_folder("--out", tmp_path / place)


def test_a_link_to_an_input_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "take.wav").touch()
    (tmp_path / "link.wav").symlink_to(tmp_path / "take.wav")
    with pytest.raises(ParamsError, match="expected a file other than the input, found the same"):
        check_output(tmp_path / "link.wav", [tmp_path / "take.wav"])
