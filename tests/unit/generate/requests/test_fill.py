"""Parts that are drawn: what is given stays, to the sample, and seams are no steps."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from distill import Sound
from distill.api import Model
from distill.audio.read import read_original
from distill.audio.write import write_audio
from distill.codec.tones.atoms import shipped_sets
from distill.errors import ParamsError
from distill.generate.requests.fill import FADE_SECONDS, nats_after, spliced
from unit.codec.tonal import RATE, sound_of
from unit.command import CommandLine
from unit.pitched import networks

FADE = round(FADE_SECONDS * RATE)


def string(pitch: float = 60, seconds: float = 1.0) -> np.ndarray:
    return sound_of(shipped_sets()[0], pitch, seconds, 1.0).numpy()


def sine(count: int, phase: float = 0.0, hertz: float = 441.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(count) / RATE + phase).astype(np.float32)


def test_a_part_is_drawn_and_the_rest_stays(model: Model) -> None:
    sound = string()
    made = model.fill(sound, start=0.4, end=0.6, n=2, seed=1, label="string")
    start, end = round(0.4 * RATE), round(0.6 * RATE)
    for filled in made.sounds:
        assert len(filled) == len(sound)
        assert np.array_equal(filled[: start - FADE], sound[: start - FADE])
        assert np.array_equal(filled[end + FADE :], sound[end + FADE :])
        assert not np.allclose(filled[start:end], sound[start:end], atol=1e-3)
    assert not np.array_equal(made.sounds[0], made.sounds[1])
    again = model.fill(sound, start=0.4, end=0.6, seed=1, label="string")
    assert np.array_equal(again.sounds[0], made.sounds[0])


def test_a_recording_is_extended_at_both_ends(model: Model) -> None:
    sound = string(seconds=0.5)
    made = model.extend(sound, before=0.25, after=0.5, seed=1)
    (longer,) = made.sounds
    first, last = round(0.25 * RATE), round(0.25 * RATE) + len(sound)
    assert len(longer) == round(1.25 * RATE)
    assert np.array_equal(longer[first + FADE : last - FADE], sound[FADE:-FADE])
    for side in ({"before": 0.25}, {"after": 0.5}):
        (one,) = model.extend(sound, seed=1, **side).sounds
        assert len(one) == round((0.5 + sum(side.values())) * RATE)


def test_what_has_two_channels_keeps_them(model: Model) -> None:
    stereo = np.stack([string(), 0.5 * string()], axis=1)
    (filled,) = model.fill(stereo, start=0.4, end=0.6, seed=1).sounds
    assert filled.shape == stereo.shape
    assert np.array_equal(filled[: round(0.4 * RATE) - FADE], stereo[: round(0.4 * RATE) - FADE])


@pytest.mark.parametrize("phase", [0.0, 1.0, 3.0, 5.0])
def test_what_is_drawn_goes_on_in_phase_and_as_loud(phase: float) -> None:
    given, drawn = sine(RATE), 0.6 * sine(RATE, phase)
    made = spliced(given, drawn, RATE // 4, RATE // 2, RATE)
    assert float(np.abs(np.diff(made)).max()) < 1.2 * float(np.abs(np.diff(given)).max())  # no click
    for seam in (RATE // 4, RATE // 2):
        around = made[seam - 200 : seam + 200]
        assert float(np.square(around).mean()) == pytest.approx(0.5, rel=0.1)


def test_ends_without_a_seam_are_what_is_drawn() -> None:
    given, drawn = np.zeros(1000, np.float32), sine(1000)
    assert spliced(given, drawn, 0, 1000, RATE) == pytest.approx(drawn, abs=1e-3)
    both = np.stack([drawn, 0.5 * drawn], axis=1)
    assert spliced(np.zeros((1000, 2), np.float32), both, 0, 1000, RATE) == pytest.approx(both, abs=1e-3)


def test_what_is_likelier_costs_fewer_nats() -> None:
    codec, prior = networks()
    codes = torch.zeros(20, len(codec.architecture.codebook_sizes), dtype=torch.long).numpy()
    codes[:, 0], codes[:, 1:4] = 50, [60, 8, 1]
    other = codes.copy()
    other[:, 1] = 61
    nats = nats_after(prior, [codes[:10], other[:10]], codes[10:], 2)
    assert nats.shape == (2,)
    assert bool(nats.isfinite().all())


@pytest.mark.parametrize("part", [(0.0, 0.2), (0.8, 1.0), (0.0, 1.0), (0.5, 0.5001)])
def test_parts_at_ends_and_short_ones_are_drawn(model: Model, part: tuple[float, float]) -> None:
    sound = string()
    (filled,) = model.fill(sound, start=part[0], end=part[1], seed=1).sounds
    assert len(filled) == len(sound)
    assert np.isfinite(filled).all()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"start": 0.5, "end": 0.5},
            "to 0.5: expected a part that ends after it begins, at 0.5 s, found none; give a la",
        ),
        (
            {"start": 0.5, "end": 2.0},
            "to 2: expected a part of the recording, which lasts 1 s, found a later end; give an",
        ),
    ],
)
def test_parts_that_there_are_not_are_sentences(model: Model, given: dict[str, float], expected: str) -> None:
    with pytest.raises(ParamsError) as error:
        model.fill(string(), **given)
    assert expected in str(error.value)


def test_less_than_a_sample_is_no_extension(model: Model) -> None:
    with pytest.raises(
        ParamsError, match="extend: expected seconds before or after the recording, found less than a samp"
    ):
        model.extend(string(), after=1e-9)


def test_commands_write_what_they_draw(shell: CommandLine, path: Path) -> None:
    write_audio(Path("a.wav"), string(), RATE)
    assert shell("extend", str(path), "a.wav", "--after", "0.5", "--seed", "1").status == 0
    assert shell("fill", str(path), "a.wav", "--from", "0.2", "--to", "0.5", "--seed", "1").status == 0
    assert [file.name for file in Path("extended").iterdir()] == ["a_1_000.wav"]
    assert [file.name for file in Path("filled").iterdir()] == ["a_1_000.wav"]
    assert (
        "extend: expected seconds before or after the recording, found none; give at least one of both"
        in shell.refused("extend", str(path), "a.wav")
    )


OTHER_RATE = 24_000


def kept_parts(sound: np.ndarray, rate: int, start: float, end: float) -> np.ndarray:
    """Samples of the parts that are not drawn, without the crossfades."""
    fade = round(FADE_SECONDS * rate)
    return np.concatenate([sound[: round(start * rate) - fade], sound[round(end * rate) + fade :]])


@pytest.mark.parametrize("kind", ["wav", "flac"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("subtype", "kept"), [("PCM_U8", "PCM_16"), ("PCM_16", "PCM_16"), ("PCM_24", "PCM_24"), ("FLOAT", "FLOAT")]
)
def test_files_keep_bits_rate_and_samples_of_the_recording(
    shell: CommandLine, path: Path, kind: str, channels: int, subtype: str, kept: str
) -> None:
    rate = OTHER_RATE
    noise = np.random.default_rng(1).normal(size=(rate, channels)) * 0.001
    sound = 0.4 * np.sin(np.arange(rate) / 20)[:, None] + noise + 0.02  # with an offset
    sound *= 5 if subtype == "FLOAT" and kind == "wav" else 1  # above full scale
    soundfile.write("a.wav", sound, rate, subtype=subtype)
    made = shell("fill", str(path), "a.wav", "--from", "0.3", "--to", "0.5", "--seed", "1", "--format", kind, "--json")
    assert made.status == 0
    report = json.loads(made.out)
    (row,) = report["sounds"]
    assert (report["sample_rate"], row["seconds"]) == (rate, 1.0)
    info = soundfile.info(row["file"])
    rounded = kind == "flac" and subtype == "FLOAT"
    assert (info.subtype, info.samplerate, info.channels) == ("PCM_24" if rounded else kept, rate, channels)
    given, filled = (soundfile.read(file)[0] for file in ("a.wav", row["file"]))
    error = kept_parts(given, rate, 0.3, 0.5) - kept_parts(filled, rate, 0.3, 0.5)
    assert np.abs(error).max() <= (2**-24 if rounded else 0)
    assert (
        report["warnings"]
        == ["flac: floats of the recording are rounded to 24 bits, and clipped above full scale; wav keeps them"]
        * rounded
    )


def test_what_does_not_stay_is_said(shell: CommandLine, path: Path) -> None:
    sound = np.repeat(0.3 * string()[:, None], 4, axis=1)
    soundfile.write("four.wav", sound, RATE, subtype="PCM_32")
    asked = ("fill", str(path), "four.wav", "--from", "0.3", "--to", "0.5", "--seed", "1", "--json")
    more = ("--format", "ogg", "--sample-rate", "48000", "--loudness", "-30")
    report = json.loads(shell(*asked, *more).out)
    assert report["warnings"] == [
        "four.wav: its samples have more bits than a 32-bit float, to which they are rounded; its 4 channels are mixed to mono",
        "ogg: what stays of the recording is not the same samples, as the format is lossy; wav and flac keep them",
    ]
    assert report["remarks"] == [
        f"what stays of the recording is resampled from {RATE} to 48000 Hz",
        "what stays of the recording is brought to another loudness",
    ]
    assert soundfile.info(report["sounds"][0]["file"]).samplerate == report["sample_rate"] == 48_000


def test_samples_are_extended_at_their_own_rate(model: Model) -> None:
    sound = string()[: OTHER_RATE // 2]
    made = model.extend(Sound(sound, OTHER_RATE), before=0.25, after=0.5, seed=1)
    (longer,) = made.sounds
    first, fade = OTHER_RATE // 4, round(FADE_SECONDS * OTHER_RATE)
    assert made.sample_rate == OTHER_RATE
    assert len(longer) == first + len(sound) + OTHER_RATE // 2
    assert np.array_equal(longer[first + fade : first + len(sound) - fade], sound[fade:-fade])
    assert np.abs(longer[:first]).max() > 0.01


def test_a_lossy_recording_stays_as_it_is_decoded(shell: CommandLine, path: Path) -> None:
    write_audio(Path("a.mp3"), string(), RATE, "mp3")
    made = shell("fill", str(path), "a.mp3", "--from", "0.3", "--to", "0.5", "--seed", "1", "--json")
    (row,) = json.loads(made.out)["sounds"]
    assert soundfile.info(row["file"]).subtype == "FLOAT"
    given, (filled, _) = read_original(Path("a.mp3")).samples, soundfile.read(row["file"], dtype="float32")
    assert np.array_equal(kept_parts(given, RATE, 0.3, 0.5), kept_parts(filled, RATE, 0.3, 0.5))


def test_what_is_no_recording_is_refused(shell: CommandLine, path: Path) -> None:
    soundfile.write("silent.wav", np.zeros(RATE), RATE)
    said = shell.refused("fill", str(path), "silent.wav", "--from", "0.3", "--to", "0.5")
    assert "silent.wav: expected a recording, found a file that is silent (peak 0); check the path, repair" in said
    assert not Path("filled").exists()
