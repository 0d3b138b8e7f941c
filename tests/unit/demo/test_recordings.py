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
from distill.demo.recordings import demo_recordings, write_demo
from distill.errors import AudioError

COMMITTED = Path(__file__).parents[3] / "data" / "demo"
SEMITONES_BELOW_A = {"c": 9, "d": 7, "e": 5, "f": 4, "g": 2, "a": 0, "b": -2}
Samples = NDArray[np.float32]
Demo = dict[str, Samples]


@pytest.fixture(scope="module")
def demo() -> Demo:
    return {recording.name.removesuffix(".flac"): recording.samples for recording in demo_recordings()}


def family(demo: Demo, start: str) -> list[tuple[str, Samples]]:
    return [(name, samples) for name, samples in demo.items() if name.startswith(start)]


def power(samples: Samples) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Frequencies in Hz and the power spectrum, zero-padded to steps of 0.04 Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size), 1 << 20)) ** 2
    return np.fft.rfftfreq(1 << 20, 1 / DEMO_SAMPLE_RATE), spectrum


def centroid(samples: Samples) -> float:
    hertz, spectrum = power(samples)
    return float(spectrum @ hertz / spectrum.sum())


def cents_off(samples: Samples, nominal: float, fraction: float = 0.1) -> float:
    hertz, spectrum = power(samples)
    near = np.abs(hertz / nominal - 1) < fraction
    return abs(float(1200 * np.log2(hertz[near][spectrum[near].argmax()] / nominal)))


def hertz_of(name: str) -> float:
    letter, octave = re.findall(r"(?:[/_]|^)([a-g])(\d)(?=_|$)", name)[0]
    return float(440 * 2 ** (int(octave) - 4 - SEMITONES_BELOW_A[letter] / 12))


def level_db(samples: Samples, start: float, stop: float) -> float:
    part = samples[int(start * samples.size) : int(stop * samples.size)].astype(np.float64)
    return float(10 * np.log10(np.mean(part**2) + 1e-20))


def test_corpus_is_a_few_dozen_short_well_mastered_recordings_in_six_families(demo: Demo) -> None:
    families = Counter(name.split("/")[0] for name in demo)
    assert sorted(families) == ["chord", "drum", "fm_bell", "noise_sweep", "plucked_string", "struck_bar"]
    assert min(families.values()) >= 5
    for (name, samples), other in zip(demo.items(), demo_recordings(seed=1), strict=True):
        assert samples.shape == other.samples.shape
        assert not np.array_equal(samples, other.samples), name
        assert 0.15 <= samples.size / DEMO_SAMPLE_RATE <= 2.2, name
        peak = np.abs(samples).max()
        assert -14.01 <= 20 * np.log10(peak) <= -0.99, name
        assert abs(samples.mean(dtype=np.float64)) < 5e-4, name
        assert samples[0] == samples[-1] == 0, name
        assert np.abs(samples[-44:]).max() < 0.001 * peak, f"{name} ends in a click"


def test_the_files_are_small_16_bit_mono_flac_the_same_each_time_and_as_committed(demo: Demo, tmp_path: Path) -> None:
    paths, again = write_demo(tmp_path / "one"), write_demo(tmp_path / "two")
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    assert write_demo(tmp_path / "one") == paths  # equal files may be there
    names = [path.relative_to(tmp_path / "one").as_posix() for path in paths]
    assert names == [f"{name}.flac" for name in demo]
    assert sorted(names) == sorted(path.relative_to(COMMITTED).as_posix() for path in COMMITTED.rglob("*.flac"))
    assert sum(path.stat().st_size for path in paths) <= 2_800_000
    for path, name, samples in zip(paths, names, demo.values(), strict=True):
        info = soundfile.info(path)
        assert (info.format, info.subtype, info.channels, info.samplerate) == ("FLAC", "PCM_16", 1, DEMO_SAMPLE_RATE)
        np.testing.assert_allclose(soundfile.read(path, dtype="float32")[0], samples, atol=1 / 2**15)
        committed, _ = soundfile.read(COMMITTED / name, dtype="float32")
        # Two steps of 16 bits: the last digits of sines differ between processors.
        np.testing.assert_allclose(committed, samples, atol=2 / 2**15, err_msg=name)


def test_another_file_of_that_name_is_left_as_it_is(demo: Demo, tmp_path: Path) -> None:
    file = tmp_path / f"{next(iter(demo))}.flac"
    file.parent.mkdir()
    file.write_text("mine")
    with pytest.raises(AudioError, match=r"expected no file, or this recording, found another; name another folder"):
        write_demo(tmp_path)
    assert file.read_text() == "mine"


def test_strings_are_in_tune_and_ring_on_harmonics(demo: Demo) -> None:
    for name, samples in family(demo, "plucked_string"):
        nominal = hertz_of(name)
        assert cents_off(samples, nominal, 0.2) < 5, name
        assert cents_off(samples, 2 * nominal) < 10, name
        hertz, spectrum = power(samples)
        on, off = (spectrum[np.abs(hertz / nominal - k) < 0.06].max() for k in (1.0, 1.5))
        assert on > 100 * off, name  # between two harmonics there is next to nothing


def test_bars_have_the_modes_of_their_shape(demo: Demo) -> None:
    for bar, ratios in (("marimba", (4.0,)), ("vibraphone", (4.0, 10.0)), ("glockenspiel", (2.756, 5.404))):
        for name, samples in family(demo, f"struck_bar/{bar}"):
            nominal = hertz_of(name)
            assert cents_off(samples, nominal, 0.2) < 10, name
            hertz, spectrum = power(samples)
            for ratio in ratios:
                assert cents_off(samples, ratio * nominal) < 17, (name, ratio)
                around = np.abs(hertz / (ratio * nominal) - 1) < 0.1
                assert spectrum[around].max() > 100 * np.median(spectrum[around]), (name, ratio)


def test_drums_occupy_their_bands(demo: Demo) -> None:
    bands = (
        ("kick", 0, 150, 0.75),
        ("hat", 2000, 22_050, 0.99),
        ("snare", 1000, 20_000, 0.35),
        ("clap", 500, 3500, 0.8),
    )
    for drum, low, high, least in bands:
        for name, samples in family(demo, f"drum/{drum}"):
            energy = np.abs(np.fft.rfft(samples)) ** 2
            first, last = (round(hertz * samples.size / DEMO_SAMPLE_RATE) for hertz in (low, high))
            assert energy[first:last].sum() > least * energy.sum(), name
    toms = [centroid(demo[f"drum/tom_{size}"][8000:]) for size in ("low", "mid", "high")]
    assert toms == sorted(toms)


def test_bells_are_inharmonic(demo: Demo) -> None:
    for name, samples in family(demo, "fm_bell"):
        hertz, spectrum = power(samples)
        ratios = hertz[find_peaks(spectrum, height=1e-3 * spectrum.max(), distance=400)[0]] / hertz_of(name)
        assert len(ratios) >= 5, name
        assert np.abs(2 * ratios - np.round(2 * ratios)).max() > 0.1, f"{name} is harmonic"


def test_struck_sounds_die_away_by_themselves(demo: Demo) -> None:
    for name, samples in demo.items():
        if not name.startswith(("noise_sweep", "chord")):
            assert level_db(samples, 0.8, 0.9) < level_db(samples, 0, 0.2) - 20, name
            assert level_db(samples, 0.6, 0.8) < level_db(samples, 0.2, 0.4) - 8, name


def test_sweeps_move_the_way_they_are_named(demo: Demo) -> None:
    for name, one, other in (("riser_long", 1, 1), ("riser_short", 1, 1), ("faller", -1, -1), ("whoosh_slow", 1, -1)):
        samples = demo[f"noise_sweep/{name}"]
        tenth = samples.size // 10
        early, middle, late = (np.log2(centroid(samples[at * tenth :][: 2 * tenth])) for at in (1, 4, 7))
        assert one * (middle - early) > 0.7, name
        assert other * (late - middle) > 0.7, name


def test_chords_hold_all_their_notes(demo: Demo) -> None:
    samples = demo["chord/e_minor_seventh"]
    hertz, spectrum = power(samples)
    for note in map(hertz_of, ("e3", "b3", "d4", "g4")):
        assert cents_off(samples, note, 0.028) < 25, note
        assert spectrum[np.abs(hertz / note - 1) < 0.028].max() > 0.01 * spectrum.max(), note
    assert abs(level_db(samples, 0.25, 0.4) - level_db(samples, 0.45, 0.6)) < 6, "a chord is steady"
    assert level_db(samples, 0, 0.02) < level_db(samples, 0.25, 0.6) - 6, "a chord comes in softly"
