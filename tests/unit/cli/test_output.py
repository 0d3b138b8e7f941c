"""Sample rate and loudness of what commands write."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import distill
from distill import Delivery
from distill.audio.output import integrated_loudness
from distill.audio.write import write_audio
from unit.command import CommandLine
from unit.tiny import RATE, write_prior_model, write_tone

OTHER_RATE = 44_100


@pytest.fixture
def inputs(shell: CommandLine) -> CommandLine:
    """A model with two labels, recordings at another rate than its own, and their codes, in this folder."""
    write_prior_model(Path("m.distill"), labels=["a", "b"])
    for name, pitch in (("a", 330.0), ("b", 220.0)):
        write_tone(Path(f"{name}.wav"), 0.6, OTHER_RATE, pitch)
    assert shell("encode", "m.distill", "-o", "codes", "a.wav", "b.wav").status == 0
    return shell


def said(shell: CommandLine, *arguments: str) -> Any:
    done = shell(*arguments, "--json")
    assert done.status == 0, done.err
    return json.loads(done.out)


COMMANDS = {
    "generate": ("generate", "m.distill", "-n", "3", "--seconds", "0.5", "--seed", "1"),
    "vary": ("vary", "m.distill", "a.wav", "-n", "3", "--seed", "1"),
    "vary alone": ("vary", "a.wav", "-n", "3", "--seed", "1"),
    "morph": ("morph", "m.distill", "a.wav", "b.wav", "--steps", "3"),
    "extend": ("extend", "m.distill", "a.wav", "--after", "0.3", "--seed", "1"),
    "fill": ("fill", "m.distill", "a.wav", "--from", "0.2", "--to", "0.3", "--seed", "1"),
    "decode": ("decode", "m.distill", "codes", "-o", "made"),
}


def rows_of(report: Any) -> Any:
    return next(report[name] for name in ("sounds", "takes", "steps") if name in report)


@pytest.mark.parametrize("command", COMMANDS)
def test_sounds_have_the_rate_and_the_loudness_that_are_asked_for(inputs: CommandLine, command: str) -> None:
    for rate in (8000, 48_000):
        asked = [word if word != "made" else f"made{rate}" for word in COMMANDS[command]]
        report = said(inputs, *asked, "--sample-rate", str(rate), "--loudness", "-30")
        assert report["sample_rate"] == rate
        for row in rows_of(report):
            sound, found = soundfile.read(row["file"])
            assert found == rate
            assert abs(len(sound) - row["seconds"] * rate) <= 1
            assert integrated_loudness(sound, rate) == pytest.approx(-30 - row["under_db"], abs=0.05)


@pytest.mark.parametrize("command", COMMANDS)
def test_without_one_the_rate_is_that_of_a_recording_that_is_changed_or_the_models(
    inputs: CommandLine, command: str
) -> None:
    report = said(inputs, *COMMANDS[command])
    rate = RATE if command in ("generate", "morph", "decode") else OTHER_RATE
    assert {report["sample_rate"], *(soundfile.info(row["file"]).samplerate for row in rows_of(report))} == {rate}
    assert "loudness" not in report
    assert not any("under_db" in row for row in rows_of(report))


@pytest.mark.parametrize("source", [("m.distill", "--per-label", "1", "--allow-copies"), ("a.wav", "--per-label", "2")])
def test_kits_have_the_rate_and_the_loudness_that_are_asked_for(inputs: CommandLine, source: tuple[str, ...]) -> None:
    asked = ("--seconds", "0.5", "--seed", "1")
    plain = said(inputs, "kit", *source, *asked, "--out", "plain")
    assert plain["sample_rate"] == (OTHER_RATE if source[0] == "a.wav" else RATE)
    kit = said(inputs, "kit", *source, *asked, "--out", "kit", "--sample-rate", "48000", "--loudness", "-20")
    assert (kit["sample_rate"], kit["settings"]["loudness"]) == (48_000, -20)
    for group in kit["groups"]:
        for row in group["sounds"]:
            sound, rate = soundfile.read(f"kit/{row['file']}")
            assert rate == 48_000
            assert integrated_loudness(sound, rate) == pytest.approx(-20 - row.get("under_db", 0), abs=0.05)
    names = [row["file"] for group in plain["groups"] for row in group["sounds"]]
    assert names == [row["file"] for group in kit["groups"] for row in group["sounds"]]


def test_loops_of_kits_are_at_the_rate_of_their_files(shell: CommandLine) -> None:
    time, rate = np.arange(2 * OTHER_RATE) / OTHER_RATE, 24_000
    write_audio(Path("steady.wav"), 0.3 * np.sin(2 * np.pi * 330 * time), OTHER_RATE)
    asked = ("--per-label", "1", "--notes", "E4", "--seed", "1", "--out", "kit", "--sample-rate", str(rate))
    ((row,),) = (group["sounds"] for group in said(shell, "kit", "steady.wav", *asked)["groups"])
    sound, found = soundfile.read(f"kit/{row['file']}")
    start, end = row["loop"]["start"], row["loop"]["end"]
    assert (found, 0 < start < end < len(sound)) == (rate, True)
    assert sound[end + 1] == pytest.approx(sound[start], abs=0.05)


def test_sounds_that_stay_under_the_loudness_are_said(inputs: CommandLine) -> None:
    asked = (*COMMANDS["generate"], "--loudness", "0")
    report = said(inputs, *asked)
    (line,) = report["loudness"]["in_words"]
    assert line.startswith(
        f"3 sounds of 3 up to {max(row['under_db'] for row in report['sounds']):.1f} dB under 0 LUFS"
    )
    assert line in " ".join(inputs(*asked, "-o", "again").out.split()).replace("- ", "-")
    for row in report["sounds"]:
        assert np.abs(soundfile.read(row["file"])[0]).max() == pytest.approx(10 ** (-1 / 20), abs=1e-4)


@pytest.mark.usefixtures("inputs")
def test_each_sound_is_the_same_however_many_and_whoever_takes_them() -> None:
    model = distill.load("m.distill")
    asked = {"seconds": 0.5, "seed": 1, "sample_rate": 22_050, "loudness": -25}
    three, told, taken = model.generate(3, **asked), [], {}
    one = model.generate(1, **asked, delivery=Delivery(on_sound=taken.__setitem__, on_output=told.append))
    assert np.allclose(taken[0], three.sounds[0], atol=1e-4)
    assert one.sounds == []
    assert [(output.sample_rate, output.loudness) for output in told] == [(22_050, -25)]


def test_the_rate_is_in_the_text_and_nearest_recordings_have_it(inputs: CommandLine) -> None:
    asked = ("generate", "m.distill", "--seconds", "0.2", "--seed", "1", "--pictures", "--sample-rate", "22050")
    assert inputs(*asked).out.splitlines()[-1] == "seed 1, 22050 Hz"
    rates = {soundfile.info(file).samplerate for file in Path("generated").glob("*.wav")}
    assert (rates, len(list(Path("generated").glob("*_nearest.wav")))) == ({22_050}, 1)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--sample-rate", "7999"), "--sample-rate: expected greater than or equal to 8000, found 7999"),
        (("--sample-rate", "192001"), "--sample-rate: expected less than or equal to 192000, found 192001"),
        (("--loudness", "0.5"), "--loudness: expected less than or equal to 0, found 0.5"),
        (("--loudness", "-71"), "--loudness: expected greater than or equal to -70, found -71"),
        (("--sample-rate", "96000", "--format", "mp3"), "expected to write 96000 Hz mp3, found"),
    ],
)
def test_what_cannot_be_is_a_sentence(inputs: CommandLine, flags: tuple[str, ...], sentence: str) -> None:
    assert sentence in inputs.refused("generate", "m.distill", *flags)
    assert not Path("generated").exists()
