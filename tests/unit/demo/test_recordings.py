"""The demo corpus is reproducible, well mastered, and each instrument sounds like what its name says."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy.signal import find_peaks

from distill.demo.instruments import DEMO_SAMPLE_RATE
from distill.demo.recordings import DemoRecording, demo_recordings, write_demo
from distill.errors import AudioError

FAMILIES = {"plucked_string", "struck_bar", "drum", "fm_bell", "noise_sweep", "chord"}
COMMITTED = Path(__file__).parents[3] / "data" / "demo"
SEMITONES_BELOW_A = {"c": 9, "d": 7, "e": 5, "f": 4, "g": 2, "a": 0, "b": -2}


@pytest.fixture(scope="module")
def demo() -> dict[str, DemoRecording]:
    return {recording.name.removesuffix(".flac"): recording for recording in demo_recordings()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    folder = tmp_path_factory.mktemp("demo")
    return folder, write_demo(folder)


def family(demo: dict[str, DemoRecording], name: str) -> list[DemoRecording]:
    return [recording for recording in demo.values() if recording.family == name]


def power(samples: NDArray[np.float32]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Frequencies in Hz and the power spectrum, zero-padded to steps of 0.04 Hz."""
    size = 1 << 20
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size), size)) ** 2
    return np.fft.rfftfreq(size, 1 / DEMO_SAMPLE_RATE), spectrum


def centroid(samples: NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    return float(spectrum @ np.fft.rfftfreq(samples.size, 1 / DEMO_SAMPLE_RATE) / spectrum.sum())


def share(samples: NDArray[np.float32], low: float, high: float) -> float:
    """Share of the energy between `low` and `high` Hz."""
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(samples.size, 1 / DEMO_SAMPLE_RATE)
    return float(spectrum[(hertz >= low) & (hertz < high)].sum() / spectrum.sum())


def peak_near(samples: NDArray[np.float32], expected: float, fraction: float = 0.2) -> float:
    """The strongest frequency within `fraction` of `expected`, in Hz."""
    hertz, spectrum = power(samples)
    near = np.abs(hertz / expected - 1) < fraction
    return float(hertz[near][spectrum[near].argmax()])


def cents(measured: float, nominal: float) -> float:
    return float(1200 * np.log2(measured / nominal))


def nominal_hertz(recording: DemoRecording) -> float:
    match = re.search(r"(?:^|[/_])([a-g])(\d)(?=[_.])", recording.name)
    assert match is not None, recording.name
    return float(440 * 2 ** (int(match[2]) - 4 - SEMITONES_BELOW_A[match[1]] / 12))


def level_db(samples: NDArray[np.float32], start: float, stop: float) -> float:
    """Mean level between two positions given as fractions of the length."""
    part = samples[int(start * samples.size) : int(stop * samples.size)].astype(np.float64)
    return float(10 * np.log10(np.mean(part**2) + 1e-20))


def test_corpus_is_a_few_dozen_short_recordings_in_six_families(demo: dict[str, DemoRecording]) -> None:
    counts = Counter(recording.family for recording in demo.values())
    assert set(counts) == FAMILIES
    assert min(counts.values()) >= 5
    assert 36 <= len(demo) <= 48
    seconds = [recording.samples.size / recording.sample_rate for recording in demo.values()]
    assert min(seconds) >= 0.15
    assert max(seconds) <= 2.2
    assert 40 <= sum(seconds) <= 50


def test_every_recording_is_well_mastered(demo: dict[str, DemoRecording]) -> None:
    for name, recording in demo.items():
        samples = recording.samples
        assert samples.dtype == np.float32, name
        assert recording.sample_rate == DEMO_SAMPLE_RATE, name
        peak = np.abs(samples).max()
        assert -14.01 <= 20 * np.log10(peak) <= -0.99, name
        assert abs(samples.mean(dtype=np.float64)) < 5e-4, name
        assert samples[0] == 0, name
        assert samples[-1] == 0, name
        assert np.abs(samples[-44:]).max() < 0.001 * peak, f"{name} ends in a click"
    peaks = [np.abs(recording.samples).max() for recording in demo.values()]
    assert max(peaks) > 2.5 * min(peaks), "the corpus should mix loud and quiet recordings"


def test_same_seed_writes_the_same_bytes(written: tuple[Path, list[Path]], tmp_path: Path) -> None:
    folder, paths = written
    again = write_demo(tmp_path)
    assert [path.relative_to(folder) for path in paths] == [path.relative_to(tmp_path) for path in again]
    for path, repeated in zip(paths, again, strict=True):
        assert path.read_bytes() == repeated.read_bytes(), path.name


def test_every_recording_depends_on_the_seed(demo: dict[str, DemoRecording]) -> None:
    for other in demo_recordings(seed=1):
        mine = demo[other.name.removesuffix(".flac")]
        assert mine.samples.shape == other.samples.shape
        assert not np.array_equal(mine.samples, other.samples), other.name


def test_files_are_small_16_bit_mono_flac_with_nothing_left_over(
    written: tuple[Path, list[Path]], demo: dict[str, DemoRecording]
) -> None:
    folder, paths = written
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(paths)
    assert sum(path.stat().st_size for path in paths) <= 2_800_000
    for path, recording in zip(paths, demo.values(), strict=True):
        assert path == folder / recording.name
        info = soundfile.info(path)
        assert (info.format, info.subtype, info.channels, info.samplerate) == ("FLAC", "PCM_16", 1, DEMO_SAMPLE_RATE)
        samples, _ = soundfile.read(path, dtype="float32")
        np.testing.assert_allclose(samples, recording.samples, atol=1 / 2**15)


def test_committed_corpus_is_what_the_code_synthesises(demo: dict[str, DemoRecording]) -> None:
    committed = {path.relative_to(COMMITTED).as_posix() for path in COMMITTED.rglob("*.flac")}
    assert committed == {recording.name for recording in demo.values()}
    for recording in demo.values():
        samples, _ = soundfile.read(COMMITTED / recording.name, dtype="float32")
        # Two steps of 16 bits: the last digits of sines differ between processors.
        np.testing.assert_allclose(samples, recording.samples, atol=2 / 2**15, err_msg=recording.name)


def test_writing_into_a_file_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "demo"
    file.write_text("mine")
    with pytest.raises(AudioError, match=r"demo: expected a folder .* found a file; name another folder"):
        write_demo(file)
    assert file.read_text() == "mine"


def test_strings_are_in_tune_and_ring_on_harmonics(demo: dict[str, DemoRecording]) -> None:
    for recording in family(demo, "plucked_string"):
        nominal = nominal_hertz(recording)
        assert abs(cents(peak_near(recording.samples, nominal), nominal)) < 5, recording.name
        assert abs(cents(peak_near(recording.samples, 2 * nominal, 0.1), 2 * nominal)) < 10, recording.name
        hertz, spectrum = power(recording.samples)
        # Between two harmonics there is next to nothing.
        on, off = (spectrum[np.abs(hertz / nominal - k) < 0.06].max() for k in (1.0, 1.5))
        assert on > 100 * off, recording.name


@pytest.mark.parametrize(
    ("bar", "ratios"), [("marimba", (4.0,)), ("vibraphone", (4.0, 10.0)), ("glockenspiel", (2.756, 5.404))]
)
def test_bars_have_the_modes_of_their_shape(
    demo: dict[str, DemoRecording], bar: str, ratios: tuple[float, ...]
) -> None:
    recordings = [recording for name, recording in demo.items() if name.startswith(f"struck_bar/{bar}")]
    assert len(recordings) >= 2
    for recording in recordings:
        nominal = nominal_hertz(recording)
        assert abs(cents(peak_near(recording.samples, nominal), nominal)) < 10, recording.name
        hertz, spectrum = power(recording.samples)
        for ratio in ratios:
            partial = peak_near(recording.samples, ratio * nominal, 0.1)
            assert partial == pytest.approx(ratio * nominal, rel=0.01), (recording.name, ratio)
            around = np.abs(hertz / (ratio * nominal) - 1) < 0.1
            assert spectrum[around].max() > 100 * np.median(spectrum[around]), (recording.name, ratio)


def test_drums_occupy_their_bands(demo: dict[str, DemoRecording]) -> None:
    bands = {
        "kick": (0, 150, 0.75),
        "hat": (2000, 22_050, 0.99),
        "snare": (1000, 20_000, 0.35),
        "clap": (500, 3500, 0.8),
    }
    for recording in family(demo, "drum"):
        name = recording.name.split("/")[1].removesuffix(".flac").split("_")[0]
        if name in bands:
            low, high, least = bands[name]
            assert share(recording.samples, low, high) > least, recording.name
    toms = [centroid(demo[f"drum/tom_{size}"].samples[8000:]) for size in ("low", "mid", "high")]
    assert toms == sorted(toms)


def test_bells_are_inharmonic(demo: dict[str, DemoRecording]) -> None:
    for recording in family(demo, "fm_bell"):
        hertz, spectrum = power(recording.samples)
        found, _ = find_peaks(spectrum, height=1e-3 * spectrum.max(), distance=400)
        assert len(found) >= 5, recording.name
        ratios = hertz[found] / nominal_hertz(recording)
        assert np.abs(2 * ratios - np.round(2 * ratios)).max() > 0.1, f"{recording.name} is harmonic"


def test_struck_sounds_die_away_by_themselves(demo: dict[str, DemoRecording]) -> None:
    for name in ("plucked_string", "struck_bar", "drum", "fm_bell"):
        for recording in family(demo, name):
            samples = recording.samples
            assert level_db(samples, 0.8, 0.9) < level_db(samples, 0, 0.2) - 20, recording.name
            assert level_db(samples, 0.6, 0.8) < level_db(samples, 0.2, 0.4) - 8, recording.name


@pytest.mark.parametrize(
    ("name", "directions"),
    [("riser_long", (1, 1)), ("riser_short", (1, 1)), ("faller", (-1, -1)), ("whoosh_slow", (1, -1))],
)
def test_sweeps_move_the_way_they_are_named(
    demo: dict[str, DemoRecording], name: str, directions: tuple[int, int]
) -> None:
    samples = demo[f"noise_sweep/{name}"].samples
    tenth = samples.size // 10
    early, middle, late = (np.log2(centroid(samples[int(at * tenth) :][: 2 * tenth])) for at in (1, 4, 7))
    assert directions[0] * (middle - early) > 0.7
    assert directions[1] * (late - middle) > 0.7


@pytest.mark.parametrize(
    ("name", "notes"),
    [
        ("a_minor", "a2 e3 a3 c4"),
        ("f_major", "f3 a3 c4 f4"),
        ("c_major", "c3 g3 c4 e4"),
        ("g_seventh", "g2 d3 f3 b3"),
        ("d_suspended", "d3 g3 a3 d4"),
        ("e_minor_seventh", "e3 b3 d4 g4"),
    ],
)
def test_chords_hold_all_their_notes(demo: dict[str, DemoRecording], name: str, notes: str) -> None:
    samples = demo[f"chord/{name}"].samples
    hertz, spectrum = power(samples)
    for note in notes.split():
        nominal = 440 * 2 ** (int(note[1]) - 4 - SEMITONES_BELOW_A[note[0]] / 12)
        semitone = np.abs(12 * np.log2(np.maximum(hertz, 1) / nominal)) < 0.5
        assert abs(cents(float(hertz[semitone][spectrum[semitone].argmax()]), nominal)) < 25, note
        assert spectrum[semitone].max() > 0.01 * spectrum.max(), note
    assert abs(level_db(samples, 0.25, 0.4) - level_db(samples, 0.45, 0.6)) < 6, "a chord is steady"
    assert level_db(samples, 0, 0.02) < level_db(samples, 0.25, 0.6) - 6, "a chord comes in softly"
