"""The `distill` command as people type it: exit status, one sentence on stderr, one JSON document on stdout."""

import inspect
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import soundfile
import typer

import distill
from distill.audio.write import AudioFormat, write_audio
from distill.cli import main as cli
from distill.cli.flags import answer, existing, spelt, writable
from distill.codec.tones.atoms import shipped_sets
from distill.codes.file import load_codes
from distill.errors import ParamsError
from distill.model_file.build import card_text
from distill.model_file.format import load_bundle
from distill.params import Params
from distill.storage.files import write_new
from distill.storage.weights import weights_sha256
from programs import Forked, fork, until
from unit.codec.tonal import sound_of
from unit.command import CommandLine, Done
from unit.pitched import write_pitched_model
from unit.tiny import write_model, write_prior_model, write_tone

KIT = ("kit", "m.distill", "--out", "kit", "--seconds", "0.2", "--seed", "3")
ROOT = Path(__file__).parents[3]
TRAIN = ("train", "sounds", "--sample-rate", "8000", "--codebook-size", "8", "--rvq-levels", "6", "--epochs", "16")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
@pytest.mark.usefixtures("shell")
@pytest.mark.parametrize(
    ("stream", "command"),
    [("stdout", "inspect m.distill"), ("stderr", "vary m.distill loud.wav -n 1 --seed 1 --pictures --json")],
)
def test_a_reader_that_has_enough_is_no_error(stream: str, command: str) -> None:
    """As `head` has after its lines, of results or of warnings and progress: sounds and pictures are made."""
    write_prior_model(Path("m.distill"))
    soundfile.write("loud.wav", 4 * np.sin(np.arange(4000) * 0.2), 16_000, "FLOAT")
    reading, writing = os.pipe()
    os.close(reading)
    program = "import sys; from distill.cli.main import main; sys.argv[0] = 'distill'; main()"
    line, pipes = (
        [sys.executable, "-c", program, *command.split()],
        dict.fromkeys(("stdout", "stderr"), subprocess.PIPE),
    )
    done = subprocess.run(line, **{**pipes, stream: writing}, text=True, check=False)  # type: ignore[call-overload]
    os.close(writing)
    assert (done.returncode, done.stderr or "") == (0, "")
    assert {path.suffix for path in Path().glob("varied/*")} == ({".wav", ".png"} if stream == "stderr" else set())


def test_encode_and_decode_go_there_and_back(shell: CommandLine) -> None:
    codec = write_model(Path("m.distill"))
    write_tone(Path("a.wav"), 0.3)
    write_tone(Path("sub/a.flac"), 0.2, 44_100)
    done = shell("encode", "m.distill", "a.wav", "sub/a.flac", "-o", "x.codes", "--json")
    report = json.loads(done.out)
    assert set(report) == {"file", "recordings", "seconds", "frames", "times_real_time", "warnings"}
    assert (report["file"], report["recordings"], report["seconds"]) == ("x.codes", 2, 0.5)
    assert report["frames"] == sum(len(one.codes) for one in load_codes(codec, Path("x.codes")))
    done = shell("decode", "m.distill", "x.codes", "-o", "out", "--format", "flac", "--json")
    sounds = json.loads(done.out)["sounds"]
    assert [(row["file"], row["seconds"]) for row in sounds] == [("out/a.flac", 0.3), ("out/a_2.flac", 0.2)]
    assert soundfile.info("out/a_2.flac").frames == 3200
    plain = shell("encode", "m.distill", "a.wav", "-o", "one.codes")
    assert re.fullmatch(r"one\.codes  1 recording, 0\.30 s, \d+ frames, \d+ x real time\n", plain.out)
    assert shell("decode", "m.distill", "one.codes", "-o", "out").out.startswith("out/a.wav  0.30 s")
    again = shell("decode", "m.distill", "one.codes", "-o", "again.ogg").out  # the untrained codec is loud
    assert re.fullmatch(r"again\.ogg  0\.30 s  attenuated by \d+\.\d dB to avoid clipping\n", again)
    assert sounds[0]["gain_db"] < 0
    assert soundfile.info("again.ogg").format == "OGG"


def test_paths_are_found_in_the_other_normal_form(shell: CommandLine) -> None:
    composed, decomposed = "Gl\u00f6ck", "Glo\u0308ck"  # as keyboards write it, as macOS writes it on disk
    Path(decomposed).mkdir()
    write_prior_model(Path(decomposed) / f"{decomposed}.distill")
    write_tone(Path(f"{decomposed}.wav"), 0.3)
    model = f"{composed}/{composed}.distill"
    for command in ("inspect", "verify"):
        assert shell(command, model).status == 0
    assert shell("list", composed).out.splitlines()
    for command in (("encode", model, f"{composed}.wav", "-o", "x"), ("vary", model, f"{composed}.wav", "-n", "1")):
        done = shell(*command)
        assert done.status == 0, done.err
    assert not Path(composed).exists()
    done = shell("train", f"{composed}/none")
    assert f"DIR {decomposed}/none: expected a folder of recordings, found nothing there; check the path" in done.err


def test_what_distill_did_not_make_is_never_replaced(shell: CommandLine) -> None:
    """Each command is to write where a person's own file is: a recording, or notes."""
    write_prior_model(Path("m.distill"))
    write_model(Path("codec.distill"))
    mine = [Path(name) for name in ("a.wav", "b.wav", "m_7_000.wav", "m_7_000_nearest.wav", "a_7_000.wav")]
    mine += [Path(name) for name in ("new.distill.md", "codec.distill.md", "x.distill", "plucked_string/a2_soft.flac")]
    Path("plucked_string").mkdir()
    for number, path in enumerate(mine):
        soundfile.write(path, np.full(4800, 0.1 * (number + 1)), 16_000, format="WAV")
    before = [path.read_bytes() for path in mine]
    done = shell("encode", "m.distill", "a.wav", "b.wav", "-o", "takes.codes")
    assert done.status == 0, done
    commands = (
        ("decode m.distill takes.codes -o . --replace", "-o a.wav"),
        ("encode m.distill a.wav -o b.wav --replace", "-o b.wav"),
        ("train . --name new -o .", "--name new.distill.md"),
        ("train-prior codec.distill --data .", "--output codec.distill.md"),
        ("train-prior codec.distill --data . --output x.distill --replace", "--output x.distill"),
    )
    for command, where in commands:
        assert (
            f"distill: {where}: expected a new file, found one that Distill did not make and never replaces; choose "
            "another name or folder"
        ) == shell.refused(*command.split()), command
    assert shell("demo", ".").err == (
        "distill: plucked_string/a2_soft.flac: expected no file, or this recording, found another; name another folder\n"
    )
    assert not Path("plucked_string/a2_hard.flac").exists()  # all names are looked at before the first is written
    for command, written in (  # these go on with the next number
        ("generate m.distill --seconds 0.1 --seed 7 -o .", "m_7_001.wav"),
        ("generate m.distill --seconds 0.1 --seed 7 -o . --format flac --pictures", "m_7_001.flac"),
        ("vary m.distill a.wav -n 1 --seed 7 -o .", "a_7_001.wav"),
    ):
        done = shell(*command.split())
        assert (done.status, done.out.split("  ")[0]) == (0, written), done
        note = "distill: note: . holds other files of these names, which stay; these sounds have higher numbers"
        assert note in done.err.splitlines()
    assert [path.read_bytes() for path in mine] == before


def test_sounds_of_one_seed_and_other_settings_are_all_kept(shell: CommandLine) -> None:
    write_prior_model(Path("m.distill"))
    write_tone(Path("a.wav"), 0.5)
    generate = ("generate", "m.distill", "-n", "2", "--seconds", "0.3", "--seed", "7", "--pictures", "--json")
    vary = ("vary", "m.distill", "a.wav", "-n", "2", "--seed", "1", "--json")
    runs = [(*generate, "--temperature", value) for value in ("0.8", "1.2")]
    runs += [(*vary, "--strength", value) for value in ("0", "1")]
    made = {}
    for command in runs:
        report = json.loads(shell(*command).out)
        for sound in report.get("sounds", report.get("takes")):
            made[Path(sound["file"])] = Path(sound["file"]).read_bytes()
    assert sorted(map(str, made)) == [
        *(f"generated/m_7_{number:03d}.wav" for number in range(4)),
        *(f"varied/a_1_{number:03d}.wav" for number in range(4)),
    ]
    everything = {path: path.read_bytes() for folder in ("generated", "varied") for path in Path(folder).iterdir()}
    assert len(everything) == 3 * 4 + 4
    Path("varied/a_1_002.wav").unlink()  # also one that is missing comes back
    for command in runs:  # the same settings give the same files
        assert shell(*command).status == 0
    assert {
        path: path.read_bytes() for folder in ("generated", "varied") for path in Path(folder).iterdir()
    } == everything
    assert made.items() <= everything.items()


def test_a_file_that_comes_while_a_command_works_stays(shell: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    write_prior_model(Path("m.distill"))
    for name in ("a", "b"):
        write_tone(Path(f"{name}.wav"), 0.3)
    assert shell("encode", "m.distill", "a.wav", "b.wav", "-o", "two.codes").status == 0
    Path("there").mkdir()
    commands = {
        "encode m.distill a.wav -o x.codes": Path("x.codes"),
        "decode m.distill two.codes -o there": Path("there/b.wav"),
        "decode m.distill two.codes -o new": Path("new/song.als"),
    }
    for command, mine in commands.items():

        def come(_: object, done: int, *__: object, mine: Path = mine) -> None:
            if done:
                mine.parent.mkdir(exist_ok=True)
                mine.write_text("mine")

        with monkeypatch.context() as patched:
            patched.setattr("distill.progress.ProgressReport.__call__", come)
            done = shell(*command.split())
        assert done.status == 2, command
        assert "expected a new file, found one that Distill did not make and never replaces" in done.err, command
        assert mine.read_text() == "mine", command


def test_what_distill_made_is_replaced_when_that_is_said(shell: CommandLine) -> None:
    write_prior_model(Path("m.distill"))
    write_tone(Path("a.wav"), 0.3)
    first = ("encode", "m.distill", "a.wav", "-o", "x.codes")
    for command in (first, *(("decode", "m.distill", "x.codes", "-o", f"y.{kind}") for kind in get_args(AudioFormat))):
        assert shell(*command).status == 0
        assert shell.refused(*command) == (
            f"distill: -o {command[-1]}: expected a new file, found one that Distill made; use --replace to replace it, "
            "or choose another name or folder"
        )
        assert shell(*command, "--replace").status == 0
    for _ in range(2):  # equal seeds give equal sounds, so they need no more than the same seed
        assert shell("generate", "m.distill", "--seconds", "0.1", "--seed", "7", "--pictures").status == 0


def test_a_model_is_verified_or_refused_with_its_fault(shell: CommandLine) -> None:
    path = Path("m.distill")
    metadata = write_prior_model(path)
    done = shell("verify", "m.distill")
    assert (done.status, [line.split()[:2] for line in done.out.splitlines()]) == (
        0,
        [["ok", part] for part in ("form", "metadata", "weights", "hash", "reference", "codec", "prior")],
    )
    report = json.loads(shell("verify", "m.distill", "--json").out)
    assert (report["model"], report["ok"]) == ("m.distill", True)
    assert metadata.payload_sha256 in report["checks"]["hash"]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "m.distill: expected weights with SHA-256" in shell.refused("verify", "m.distill")


def test_a_model_is_given_a_prior_in_a_copy_or_in_place(shell: CommandLine) -> None:
    codec = write_model(Path("m.distill"))
    for number in range(4):
        write_tone(Path(f"sounds/{number}.wav"), 0.3, pitch=200.0 * (number + 1))
    tiny = ("--data", "sounds", "--epochs", "2", "--hidden-size", "16", "--layers", "1", "--heads", "2")
    done = shell("train-prior", "m.distill", *tiny, "-o", "copy.distill", "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert report["model"] == "copy.distill"
    assert "distill generate copy.distill" in Path("copy.distill.md").read_text()
    assert report["recordings"] == 4
    assert {"val_bits_per_second", "val_perplexity", "best_epoch", "rollbacks", "stopped_as_asked"} <= set(report)
    assert load_bundle(Path("m.distill")).prior is None
    bundle = load_bundle(Path("copy.distill"))
    assert bundle.metadata.codec_sha256 == weights_sha256(codec)
    assert bundle.metadata.prior_config is not None
    assert (bundle.metadata.prior_config.hidden_size, bundle.metadata.prior_config.num_layers) == (16, 1)

    there = "expected a model without a prior, or a new name with --output, found an existing one; use --replace"
    assert there in shell.refused("train-prior", "copy.distill", *tiny)
    assert there in shell.refused("train-prior", "m.distill", *tiny, "-o", "copy.distill")
    before = Path("copy.distill").read_bytes()
    done = shell("train-prior", "copy.distill", *tiny, "--architecture", "flat", "--replace")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("prior of 4 usable recordings, tier small: ")
    assert lines[1].startswith("held-out perplexity ")
    assert re.fullmatch(r"\d+ bits per second of held-out audio; counting alone \d+", lines[2])
    assert lines[3] == "no sign of memorisation" or lines[3].startswith("warning: the prior predicts")
    assert lines[-1].startswith("copy.distill  ")
    assert Path("copy.distill").read_bytes() != before
    assert not list(Path(".distill").glob("train/*"))


def test_generating_reports_the_novelty_of_each_sound(shell: CommandLine) -> None:
    write_prior_model(Path("m.distill"), labels=["kick", "snare"])
    write_tone(Path("a.wav"))
    command = ["generate", "m.distill", "-n", "2", "--seconds", "0.2", "--seed", "3", "--label", "kick"]
    command += ["--prompt", "a.wav", "--min-novelty", "close"]
    done = shell(*command, "--json")
    assert done.status == 0, done
    report = json.loads(done.out)
    assert (report["seed"], report["label"], report["summary"]["sounds"]) == (3, "kick", 2)
    for sound in report["sounds"]:
        assert Path(sound["file"]).exists()
        figures = {"verdict", "judged_by", "held_out", "percentile", "passage_seconds", "codes", "spectra"}
        assert set(sound["novelty"]) == figures
        assert isinstance(sound["faults"], list)
        assert re.match(r"New: |Close to |A copy of ", sound["explanation"])
        for space in ("codes", "spectra"):
            shared = sound["novelty"][space]
            assert re.fullmatch(r"\d\.wav", shared["nearest"])
            assert {"copied_seconds", "edit_distance", "percentile", "likeness"} < set(shared)
    assert set(report["faults"]) > {"faulty", "rejected", "fault_rate", "fault_rate_held_out", "in_words"}


def test_pictures_and_nearest_recordings_lie_beside_the_sounds(shell: CommandLine) -> None:
    write_prior_model(Path("m.distill"))
    done = shell("generate", "m.distill", "-n", "2", "--seconds", "0.2", "--seed", "1", "--pictures", "--json")
    (first, _) = json.loads(done.out)["sounds"]
    beside = sorted(path.name for path in Path("generated").glob("m_1_000*"))
    assert beside == ["m_1_000.png", "m_1_000.wav", "m_1_000_nearest.wav"]
    model = distill.load("m.distill")
    assert model.bundle.reference is not None
    codes = model.bundle.reference.codes[list(model.bundle.reference.names).index(nearest_of(first))]
    info = soundfile.info("generated/m_1_000_nearest.wav")
    assert info.samplerate == model.sample_rate
    assert info.frames == len(model.decode(codes))
    write_prior_model(Path("bare.distill"), reference=False)
    shell("generate", "bare.distill", "--seconds", "0.2", "--seed", "1", "--pictures")
    assert sorted(path.name for path in Path("generated").glob("bare*")) == ["bare_1_000.png", "bare_1_000.wav"]


def nearest_of(sound: dict[str, Any]) -> str:
    novelty = sound["novelty"]
    return str(novelty["spectra" if novelty["judged_by"] == "spectra" else "codes"]["nearest"])


def test_ctrl_c_keeps_the_sounds_that_are_done(shell: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    write_prior_model(Path("m.distill"))

    def write_two(path: Path, data: bytes) -> bool:
        if path.stem.endswith("_002"):
            raise KeyboardInterrupt
        return write_new(path, data)

    monkeypatch.setattr("distill.cli.generate.write_new", write_two)
    done = shell("generate", "m.distill", "-n", "5", "--seconds", "0.1", "--seed", "1")
    assert (done.status, done.out) == (130, "")
    assert done.err.splitlines()[-1] == "distill: interrupted; nothing half-written was kept"
    assert sorted(path.name for path in Path("generated").iterdir()) == ["m_1_000.wav", "m_1_001.wav"]
    assert [soundfile.info(path).frames for path in Path("generated").iterdir()] == [1600, 1600]


def test_every_command_says_the_remarks_on_a_recording(shell: CommandLine) -> None:
    write_prior_model(Path("m.distill"))
    soundfile.write("loud.wav", np.full(4000, 2.5), 16_000, subtype="FLOAT")
    remark = "loud.wav: peak 2.5 is above full scale; scaled to 1.0"
    for command in (
        "encode m.distill loud.wav -o a.codes",
        "vary m.distill loud.wav -n 1",
        "generate m.distill --prompt loud.wav --seconds 0.1",
    ):
        done = shell(*command.split(), "--json")
        assert f"distill: warning: {remark}\n" in done.err
        assert json.loads(done.out)["warnings"] == [remark]


def test_lines_and_json_say_notes_and_what_was_heard(shell: CommandLine) -> None:
    write_pitched_model(Path("p.distill"))
    write_audio(Path("a.wav"), sound_of(shipped_sets()[0], 57.0, 0.4).numpy(), 16_000)
    done = shell("generate", "p.distill", "--note", "C3,Fb3", "--label", "string", "--seed", "1")
    first, second, summary, *_ = done.out.splitlines()
    assert re.match(r"generated/p_1_000\.wav  \d\.\d\d s  C3: [+-]\d+ cents$", first)
    assert re.match(r"generated/p_1_001\.wav  \d\.\d\d s  E3: [+-]\d+ cents$", second)
    assert summary.startswith("2 of 2 sounds at their note within 20 cents")
    takes = ("vary", "p.distill", "a.wav", "-n", "2", "--strength", "0", "--seed", "1", "--json")
    for moved, note in ((("--transpose", "-1.5"), 55.5), (("--note", "60"), 60.0)):
        made = json.loads(shell(*takes, *moved).out)
        assert [take["note"] for take in made["takes"]] == [pytest.approx(note, abs=0.07)] * 2
        assert [take["pitch"] for take in made["takes"]] == [pytest.approx(note, abs=0.13)] * 2
        assert made["tuning"] == {
            "a4_hertz": 440.0,
            "in_words": ["2 of 2 takes at their note within 20 cents"],
            "off_note": 0,
            "redrawn": 0,
        }
    assert "tuning" not in json.loads(shell(*takes).out)
    assert "  0% of codes changed" in shell(*takes[:-1], "--note", "60").out


def test_takes_of_a_model_without_reference_and_equal_ones_are_reported(shell: CommandLine) -> None:
    write_prior_model(Path("bare.distill"), reference=False)
    write_tone(Path("a.wav"), seconds=0.5)
    done = shell(
        "vary", "bare.distill", "a.wav", "-n", "2", "--strength", "1", "--seed", "2", "--format", "flac", "--json"
    )
    found = json.loads(done.out)
    assert (found["seed"], found["strength"], found["recording"], found["equal"]) == (2, 1.0, "a.wav", 0)
    assert [take["file"] for take in found["takes"]] == ["varied/a_2_000.flac", "varied/a_2_001.flac"]
    assert all(take["novelty"] is take["similarity"]["verdict"] is None for take in found["takes"])
    done = shell("vary", "bare.distill", "a.wav", "-n", "1", "--strength", "0", "--seed", "2")
    assert "  0.50 s  0% of codes changed" in done.out
    assert "novelty unknown: the model has no codes of its training recordings" in done.out
    write_audio(Path("short.wav"), np.full(200, 0.1, dtype=np.float32), 16_000)
    done = shell("vary", "bare.distill", "short.wav", "-n", "20", "--strength", "0.01", "--seed", "2")
    said = r"\d+ takes the same as the recording or another take; a higher strength changes\s+more"
    assert re.search(said, done.out)


def test_help_shows_the_defaults_of_the_settings() -> None:
    group: Any = typer.main.get_command(cli.app)
    (weight,) = (one for one in group.commands["train"].params if one.name == "vqvae_commitment_weight")
    assert weight.show_default == "0.25"


@pytest.mark.parametrize(
    ("modules", "unused"),
    [
        ("distill.cli.main", ("torch", "mlflow", "pandas", "scipy", "av")),  # what --help imports
        ("distill.ui.worker", ("torch", "mlflow", "scipy")),  # the page waits for none of them
        (
            "distill.api, distill.codes.encode, distill.generate.presentation.audition, distill.kit.make",
            ("av", "lightning_fabric", "mlflow", "scipy", "torch._dynamo", "vector_quantize_pytorch"),
        ),
    ],
)
def test_what_is_not_needed_is_not_imported(modules: str, unused: tuple[str, ...]) -> None:
    script = f"import sys, {modules}; print([name for name in {unused} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_training_from_the_command_line_survives_ctrl_c_and_a_kill(tmp_path: Path) -> None:
    """Ctrl-C in the first try, SIGKILL in the second, to the end in the third: the bytes of one that never stopped."""
    for folder in ("whole", "stopped"):
        for number in range(2):
            write_tone(tmp_path / folder / "sounds" / f"{number}.wav", 0.4, 8_000, 300.0 * (number + 1))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    undisturbed = start(whole, "--name", "one")

    process = start(stopped)
    until(lambda: list((stopped / ".distill").glob("checkpoints/*/step_*.safetensors")), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, ""), err
    assert re.search(
        r"^distill: interrupted by SIGINT: training is saved after step \d+ of 16; run the same ", err, re.M
    )
    assert not list(stopped.glob("models/*"))

    process = start(stopped)
    until(lambda: "2 used" in process.stderr, process)
    process.send_signal(signal.SIGKILL)
    assert process.end().returncode == -signal.SIGKILL

    process = start(stopped, "--json").end()
    assert process.returncode == 0, process.stderr
    assert "continues after step " in process.stderr
    report: dict[str, Any] = json.loads(process.stdout)
    assert re.fullmatch(r"models/model-\d{8}-\d{6}\.distill", report["model"])
    assert undisturbed.end().returncode == 0, undisturbed.stderr
    out = undisturbed.stdout
    assert out.splitlines()[0].startswith("0.8 s of sound at 8000 Hz, as set: ")
    assert out.splitlines()[1].startswith("codec of 2 usable recordings, tier small: ")
    assert any(line.startswith("shape 1 ") for line in out.splitlines())
    assert re.fullmatch(r"models/one\.distill  \d+\.\d MB", out.splitlines()[-1])
    assert (stopped / report["model"]).read_bytes() == (whole / "models/one.distill").read_bytes()
    assert load_bundle(stopped / report["model"]).metadata.metadata["written"] == "2001-09-09T01:46:40Z"
    assert report["bytes"] == (stopped / report["model"]).stat().st_size
    assert set(report["codebook_health"]) == {f"level_{number}" for number in range(6)}
    assert {"val_loss", "best_epoch", "epochs_trained", "warnings", "tier", "recordings"} <= set(report)
    assert sorted(path.name for path in stopped.iterdir()) == [".distill", "models", "sounds"]
    assert [path.name for path in (stopped / ".distill").iterdir()] == ["corpora"]


def start(folder: Path, *arguments: str) -> Forked:
    """A training; the date would be the only bytes that differ."""
    steady = {"DISTILL_PRECISION": "fp32", "SOURCE_DATE_EPOCH": "1000000000"}
    return fork(folder, "distill", *TRAIN, *arguments, **steady)


def test_epochs_are_those_of_both_trainings_and_a_refused_one_leaves_no_folder(
    shell: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, Any]] = []

    def refuse(_: str, __: Path, params: Params, *_others: Any) -> None:
        seen.append((params.vqvae_config(5).epochs, params.prior_config(5).epochs))
        raise ParamsError("refused")

    monkeypatch.setattr("distill.pipeline.train.train_model", refuse)
    Path("sounds").mkdir()
    for flags in ((), ("--epochs", "7"), ("--epochs", "7", "--prior")):
        assert "refused" in shell.refused("train", "sounds", "--out", "new/models", *flags)
    assert seen == [(4, 50), (7, 50), (7, 7)]
    assert not Path("new").exists()


def test_models_are_listed_and_what_is_none_is_said_why(shell: CommandLine) -> None:
    write_model(Path("models/codec.distill"))
    write_prior_model(Path("models/full.distill"), labels=["kick", "snare"])
    Path("models/other.distill").write_text("hello")
    done = shell("list")
    assert done.status == 0, done
    _, *rows = (line.split() for line in done.out.splitlines() if "no model" not in line)
    assert [(row[0], *row[-2:]) for row in rows] == [("codec", "encode,", "decode"), ("full", "generate,", "judge")]
    assert "no model: models/other.distill: expected a Distill model, found another format; check the path" in done.out
    report = json.loads(shell("list", "models", "--json").out)
    told = [(row["name"], bool(row["problem"])) for row in report["models"]]
    assert told == [("codec", False), ("full", False), ("other", True)]
    Path("empty").mkdir()
    assert shell("list", "empty").out == "no model files in empty\n"
    assert shell("--version") == Done(0, f"distill {distill.__version__}\n", "")


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_the_list_and_the_contents_are_readable_in_a_narrow_terminal(
    shell: CommandLine, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    write_prior_model(Path("models/ねこ.distill"), labels=["kick", "snare"])
    monkeypatch.setenv("COLUMNS", str(columns))
    listed = shell("list").out.splitlines()
    shown = [*listed, *shell("inspect", "models/ねこ.distill").out.splitlines()[3:]]
    assert max(map(len, shown)) <= max(columns, 80)
    assert {line.split()[-1] for line in shown if len(line) > columns} == {
        word for line in shown for word in line.split() if len(word) == 64
    }  # hashes stay in one piece
    words = " ".join(" ".join(shown).split())
    assert "model ねこ written (UTC) 20" in words
    assert "can generate, judge" in words
    assert "kick, snare" in words


def test_nothing_is_wrapped_in_a_file(shell: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "a rather long name " * 8
    write_prior_model(Path("models", f"{name}.distill"), labels=[f"label-{number}" for number in range(15)])
    _, row = shell("list").out.splitlines()
    assert row.startswith(f"{name.strip()}  20")
    labels = next(line for line in shell("inspect", f"models/{name}.distill").out.splitlines() if "label-0" in line)
    assert labels.endswith("label-14")


def test_json_is_escaped_where_the_encoding_lacks_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, text in (("utf-8", '"ねこ"'), ("latin-1", r'"\u306d\u3053"')):
        stdout = io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr(sys, "stdout", stdout)
        answer(True, "ねこ")
        stdout.flush()
        assert stdout.buffer.getvalue().decode(encoding) == f"{text}\n"  # type: ignore[attr-defined]
        monkeypatch.undo()
    monkeypatch.setattr(sys, "stdout", None)  # closed by `>&-`
    answer(True, "ねこ")


def test_inspect_fits_80_columns_and_breaks_no_path_or_hash(
    shell: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path = Path("a folder with a long name", "another one within it", f"{'m' * 60}.distill")
    metadata = write_prior_model(path, labels=[f"label-{number}" for number in range(15)])
    lines = shell("inspect", str(path)).out.splitlines()
    assert lines[0] == str(path)
    assert max(len(line.rstrip()) for line in lines[1:]) <= 80
    assert f"weights  {metadata.payload_sha256}" in lines
    assert any(line.endswith(f" {metadata.codec_sha256}") for line in lines)
    assert "".join(line.strip() for line in lines).count("label-14") == 1
    done = shell("inspect", str(path), "--card")
    assert (done.status, done.out) == (0, card_text(path.name, load_bundle(path).metadata))


def test_a_kit_is_made_replaced_with_the_flag_and_warns_of_places_that_stay_empty(
    shell: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    bells = "bells, big = loud"
    write_prior_model(Path("m.distill"), labels=["drum/kick", bells])
    done = shell(*KIT, "--per-label", "2", "--keys", f"Kick=E2,{bells}=F#2")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[:3] == ["E2    40  2 x drum/kick", f"F#2   42  2 x {bells}", "kit  4 sounds on 2 keys"]
    assert lines[3].startswith("verdicts ")
    assert lines[4:] == ["  held out to tell well", "seed 3"]
    made = ["kit.dspreset", "kit.json", "kit.png", "kit.sfz", "kit.txt", "samples"]
    assert sorted(path.name for path in Path("kit").iterdir()) == made
    assert sorted(path.name for path in Path().iterdir()) == ["kit", "m.distill"]

    done = shell(*KIT, "--per-label", "1", "--format", " sfz", "--label", "kick", "--replace", "--json")
    report = json.loads(done.out)
    assert [(group["label"], group["key"], group["note"]) for group in report["groups"]] == [("drum/kick", 36, "C2")]
    assert report == {"folder": "kit", **json.loads(Path("kit/kit.json").read_text(encoding="utf-8"))}
    assert not Path("kit/kit.dspreset").exists()

    calls = itertools.count()  # after two drafts and a take all are silent, until all attempts are spent
    monkeypatch.setattr("distill.kit.generate.is_silent", lambda *_: next(calls) >= 3)
    done = shell(*KIT, "--per-label", "9", "--label", bells, "--replace")
    missing = json.loads(Path("kit/kit.json").read_text(encoding="utf-8"))["missing"]
    line = f"{bells}: {9 - missing} of 9 sounds; refused draws: "
    assert missing == 7
    assert f"distill: warning: {line}" in done.err
    assert f"missing         {line}" in Path("kit/kit.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("columns", ["40", "80"])
def test_help_cuts_no_description_and_asks_for_what_is_needed(
    shell: CommandLine, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    listed = " ".join(shell("--help").out.split())
    assert "..." not in listed.removeprefix(listed.partition("Options:")[0])
    assert "kit Make an instrument for samplers: new sounds on keys, as SFZ and DecentSampler files. morph" in listed
    vary = " ".join(shell("vary", "--help").out.split())
    assert "{MODEL.distill|AUDIO} [AUDIO]" in vary
    assert "which needs no training [required] AUDIO <path> after a model file, the recording to vary Options" in vary


def test_a_leading_tilde_is_the_home_folder(
    shell: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shells leave it as it is in `--out=~/made` and in quotes; a folder named ~ would be dangerous to remove."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    write_prior_model(tmp_path / "home" / "a.distill")
    done = shell("generate", "~/a.distill", "--seconds", "0.2", "--seed", "1", "--out=~/made")
    assert done.status == 0, done.err
    assert [path.name for path in (tmp_path / "home" / "made").iterdir()] == ["a_1_000.wav"]
    assert not Path("~").exists()
    assert (
        "~no-such-user/a.distill: expected a Distill model, found nothing there"
        in shell("inspect", "~no-such-user/a.distill").err
    )


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.__name__)
def test_every_path_of_a_command_is_spelt_as_on_disk(command: Callable[..., None]) -> None:
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind, *about = get_args(parameter.annotation) or (parameter.annotation,)
        if Path in (kind, *get_args(kind)):
            checked = about[0].callback  # all three give a path as `spelt` does
            assert checked in (spelt, writable) or checked.__qualname__.startswith(existing.__name__), parameter
