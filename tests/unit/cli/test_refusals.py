"""What commands refuse: exit status 2, one sentence on stderr, nothing written."""

import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from distill.cli.flags import check_output, make_folder
from distill.cli.train import params_of_flags
from distill.errors import ParamsError
from distill.params import default_params, default_values
from unit.command import CommandLine
from unit.pitched import write_pitched_model
from unit.tiny import write_model, write_prior_model, write_tone

GIVEN = {"corpus.path": "sounds", "bundle.name": "mine"}
NO_RECORDING = "expected a recording, found"
NO_MODEL = "expected a Distill model or a recording, found"
NOTHING = "nothing there; check the path"
NO_CODES = "expected a file of codes that `distill encode` wrote, found"
NO_REFERENCE = "bare.distill: expected a model with the codes of its training recordings, to"

REFUSED = {
    "encode m.distill none.wav -o x": f"none.wav: {NO_RECORDING} {NOTHING}",
    "encode m.distill a.wav none.wav -o x": f"none.wav: {NO_RECORDING} {NOTHING}",
    "decode m.distill none.codes -o x.wav": f"none.codes: {NO_CODES} {NOTHING}",
    "inspect none.distill": f"none.distill: expected a Distill model, found {NOTHING}",
    "inspect folder": "folder: expected a Distill model, found a folder; name a file in it",
    "encode m.distill empty.wav -o x": f"empty.wav: {NO_RECORDING} a file that is empty",
    "encode m.distill . -o x": f".: {NO_RECORDING} a folder; name a file in it",
    "encode m.distill a.wav -o no/x": "-o no/x: expected a path in an existing folder, found no no",
    "encode m.distill a.wav -o a.wav": "-o a.wav: expected a file other than the input",
    "encode m.distill -o x": "Missing argument 'AUDIO...'; see distill encode --help",
    "decode codec.distill one.codes -o x.wav": "one.codes: expected codes of the codec ",
    "decode m.distill one.codes -o x": "-o x: expected the suffix .wav, .flac, .ogg or .mp3, or --format",
    "decode m.distill one.codes -o x.wav --format flac": "--format flac: expected the format that x.wav names; leave",
    "decode m.distill two.codes -o x.wav": "-o x.wav: expected a folder for 2 recordings",
    "train none": "DIR none: expected a folder of recordings, found nothing there; check the path",
    "train text.wav": "DIR text.wav: expected a folder of recordings, found a file; name the folder that holds it, and unpack an archive",
    "train . --name m --out .": "--name m: expected a new name, found m.distill there; choose another name",
    "train . --out new/mine.distill": "--out new/mine.distill: expected a folder, found the name of a model; use --name mine "
    "--out new",
    "train . --name a/b": "--name: expected up to 100 letters, digits",
    "train . --out text.wav": "--out text.wav: expected a folder to write to, found a file; choose another folder",
    "generate m.distill -o text.wav": "--out text.wav: expected a folder to write to, found a file; choose another folder",
    "generate m.distill -o text.wav/x": "--out text.wav/x: expected a folder to write to, found Not a directory; choose",
    "train . --epochs x": "--epochs: expected a valid integer, found x; see distill train --help",
    "train . --tier huge": "--tier: expected one of auto, small, medium, large, found huge; see distill train --help",
    "train . --sample-rate auto": "--sample-rate: expected a valid integer, found auto; see distill train --help",
    "train . --learning-rate 0": "--learning-rate: expected greater than 0, found 0",
    "train-prior codec.distill": "codec.distill: expected the folder of its recordings, found no record of it in",
    "train-prior codec.distill --heads 3": "--heads: expected heads of an even size, found 3 for hidden_size 128",
    "generate m.distill --label tom": "label tom: expected one of kick, snare; found none of them (a folder is",
    "generate bare.distill --label tom": "label tom: expected a model trained with labels, found one without",
    "generate bare.distill --min-novelty close": f"{NO_REFERENCE} judge sounds by, found one made without (bundle.refe",
    "generate m.distill --loose .5": "loose: expected follow with it, found none; name one, or leave it out",
    "generate m.distill --stems": "stems: expected follow or pattern with it, found none; name one, or leave it out",
    "generate m.distill --follow a.wav --tuning 430": "tuning 430: expected a note to tune, found none; name a note such a",
    "generate m.distill --follow text.mid": "text.mid: expected a MIDI file, found another kind of file; check the path or",
    "fill m.distill a.wav --from 0 --to inf": "--to: expected less than or equal to 3600, found inf; see distill fill",
    "generate m.distill --swing .5": "swing: expected pattern with it, found none; name one, or leave it out",
    "generate m.distill --bars 2": "bpm: expected recordings that repeat, to draw loops along them, found none; give a patt",
    "generate m.distill --bpm 99 --seconds 2": "seconds: expected none beside bpm, which has its own; leave one of them out",
    "generate m.distill --follow a.wav --note C3": "note: expected none beside follow, which has its own; leave one of them",
    "generate m.distill --follow a.wav --pattern kick:x": "pattern: expected none beside follow, which has its own; leave",
    "generate m.distill --pattern kick:x --seconds 1": "seconds: expected none beside pattern, which has its own; leave on",
    "generate m.distill --pattern kick": "pattern kick: expected labels and their steps, such as kick:x...x... snare:....x",
    "generate m.distill --pattern tom:x": "label tom: expected one of kick, snare; found none of them (a folder is",
    "generate m.distill --follow none.mid": f"none.mid: expected a recording or a MIDI file, found {NOTHING}",
    "generate m.distill --pattern kick:x --bpm 1": "--bpm: expected greater than or equal to 20, found 1",
    "generate m.distill --note C3": "note: expected recordings with a pitch, found that 0% of them have one; leave the note out",
    "generate pitched.distill --note C3 --label hiss": "note: expected recordings with the label hiss with a pitch, f",
    "generate m.distill --note C3 --tuning a4": "tuning a4: expected A4 in Hz, from 380 to 500, or corpus, found neither",
    "generate m.distill --tuning 432": "tuning 432: expected a note to tune, found none; name a note such as C3",
    "vary pitched.distill a.wav --tuning 432": "tuning 432: expected a note to tune, found none; name a note such as C3",
    "generate m.distill --prompt none.wav": f"none.wav: {NO_RECORDING} {NOTHING}",
    "morph m.distill a.wav none.wav": f"none.wav: {NO_RECORDING} {NOTHING}",
    "train-prior m.distill --data none": f"--data none: expected a folder of recordings, found {NOTHING}",
    "vary m.distill text.wav": f"text.wav: {NO_RECORDING} a file that",
    "vary m.distill": "m.distill: expected a recording to vary, found a model file alone; name a recording after it",
    "vary none.wav": f"none.wav: {NO_MODEL} {NOTHING}",
    "vary text.wav": f"text.wav: {NO_RECORDING} a file that is text, not audio",
    "vary .": f".: {NO_MODEL} a folder; name a file in it",
    "kit none.wav --out x": f"none.wav: {NO_MODEL} {NOTHING}",
    "vary m.distill a.wav --strength nan": "--strength: expected a finite number, found nan",
    "kit m.distill --out x --keys a=C4,a=D4": "--keys a=C4,a=D4: expected one note for a, found a second; give it once",
    "kit m.distill --out x --keys gong=C2": "label gong: expected one of kick, snare",
    "kit m.distill --out x --keys kick": "--keys kick: expected LABEL=NOTE, such as kick=C2, or several with commas betw",
    "kit a.wav --out x --every 2": "every 2: expected notes of which to take some, found none",
    "kit m.distill --out x --every 3": "every 3: expected notes of which to take some, found none; give notes such as C1",
    "kit m.distill --out x --label kick --notes C1 --every 0": "--every: expected greater than or equal to 1, found 0",
    "kit m.distill --out x --label kick --notes C1 --keys kick=C2": "keys kick: expected none for an instrument at notes",
    "sing": "No such command 'sing'; see distill --help",
    "list none": f"none: expected a folder of models, found {NOTHING}",
    "list text.wav": "text.wav: expected a folder of models, found a file; name the folder that holds it",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, recordings and codes."""
    found = tmp_path_factory.mktemp("refusals")
    write_prior_model(found / "m.distill", labels=["kick", "snare"])
    write_prior_model(found / "bare.distill", reference=False)
    write_model(found / "codec.distill", seed=1)
    write_pitched_model(found / "pitched.distill")
    write_tone(found / "a.wav")
    (found / "empty.wav").touch()
    (found / "text.wav").write_text("hello")
    (found / "text.mid").write_text("hello")
    (found / "folder").mkdir()
    (found / "folder" / "song.als").touch()
    return found


@pytest.fixture
def command(folder: Path, shell: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The shell, in that folder."""
    monkeypatch.chdir(folder)
    if not Path("one.codes").exists():
        assert shell("encode", "m.distill", "a.wav", "-o", "one.codes").status == 0
        assert shell("encode", "m.distill", "a.wav", "a.wav", "-o", "two.codes").status == 0
    return shell


def test_every_refusal_is_one_sentence(command: CommandLine) -> None:
    for line, sentence in REFUSED.items():
        found = command.refused(*line.split(" "))
        assert found.startswith(f"distill: {sentence}"), (line, found)
    assert not {"varied", "generated"} & {path.name for path in Path().iterdir()}


def test_wrong_paths_are_refused_before_large_libraries_are_loaded(tmp_path: Path) -> None:
    """Each command with a wrong path in the place of each input, in one process that can import neither."""
    write_tone(tmp_path / "a.wav")
    (tmp_path / "m.distill").touch()
    lines = [
        *("generate none", "generate m.distill --prompt none", "generate m.distill --follow none.mid", "vary none"),
        *("vary m.distill none", "kit none -o k", "morph m.distill a.wav none", "extend m.distill none --after 1"),
        *("fill m.distill none --from 0 --to 1", "encode m.distill none -o x", "decode m.distill none -o x.wav"),
        *("inspect none", "verify none", "export none -o x", "train none", "train-prior none", "list none"),
        *("train-prior m.distill --data none", "push none a/b", "generate m.distill -o a.wav", "kit a.wav -o a.wav"),
        *("export m.distill -o a.wav", "ui --folder a.wav"),
    ]
    code = (
        "import sys; sys.modules.update(torch=None, scipy=None, gradio=None)\n"
        "from distill.cli.main import main\n"
        "for line in sys.argv[1:]:\n"
        "    sys.argv = ['distill', *line.split()]\n"
        "    try: main()\n"
        "    except SystemExit as ended: print(ended.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *lines], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    said = done.stderr.splitlines()
    assert done.stdout.split() == ["2"] * len(lines) == ["2"] * len(said)
    for line, sentence in zip(lines, said, strict=True):
        assert re.fullmatch(
            r"distill: .*(none(\.mid)?|a\.wav): expected .*, found (nothing there|a file).*", sentence
        ), line


def test_an_empty_argument_is_refused(command: CommandLine) -> None:
    expected = "distill: expected a value for each argument, found an empty one; check the command's variables"
    assert command.refused("list", "") == expected


def test_what_is_not_given_is_as_in_params_yaml() -> None:
    assert params_of_flags(GIVEN) == default_params(corpus={"path": "sounds"}, bundle={"name": "mine"})
    assert params_of_flags({**GIVEN, "vqvae.epochs": 3}).vqvae_config(5).epochs == 3


def test_for_a_wrong_file_of_a_checkout_no_flag_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    values = deepcopy(default_values())
    values["vqvae"]["epochs"] = -3
    monkeypatch.setattr("distill.params.default_values", lambda: values)
    with pytest.raises(ParamsError, match=r"^vqvae\.epochs: expected greater than or equal to 1 or auto, found -3$"):
        params_of_flags(GIVEN)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    make_folder("--out", tmp_path / "new" / "one")
    assert list((tmp_path / "new" / "one").iterdir()) == []
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(ParamsError, match=r"--out .*new: expected a folder to write to, found Permission denied"):
        make_folder("--out", tmp_path / "new")


def test_a_link_to_an_input_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "take.wav").touch()
    (tmp_path / "link.wav").symlink_to(tmp_path / "take.wav")
    with pytest.raises(ParamsError, match="expected a file other than the input, found the same"):
        check_output(tmp_path / "link.wav", [tmp_path / "take.wav"])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SOURCE_DATE_EPOCH", "abc", "whole seconds since 1970, found 'abc'; correct or unset it"),
        ("SOURCE_DATE_EPOCH", "-5", "whole seconds since 1970, found '-5'; correct or unset it"),
        ("DISTILL_DEVICE", "gpu", "auto, cpu or cuda, found 'gpu'; correct or unset it"),
        ("DISTILL_WORKERS", "0", "auto or a whole number from 1 to 1024, found '0'; correct or unset it"),
    ],
)
def test_a_wrong_variable_is_refused_by_every_command_before_libraries_read_it(
    shell: CommandLine, monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)
    for command in ("generate a.distill", "train sounds", "verify a.distill"):
        assert shell.refused(*command.split()) == f"distill: {name}: expected {expected}"
    assert shell("--version").status == 0
