"""The demo corpus is reproducible, well mastered, equal to the committed one, and in tune."""

import re
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from distill.audio.partials import find_partials, steadiness
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


def test_corpus_is_a_few_dozen_short_well_mastered_recordings_in_eight_families(demo: Demo) -> None:
    families = Counter(name.split("/")[0] for name in demo)
    tonal = ["blown_pipe", "chord", "fm_bell", "glide", "plucked_string", "struck_bar"]
    assert sorted(families) == sorted(["drum", "noise_sweep", *tonal])
    assert min(families.values()) >= 3
    for other in islice(demo_recordings(seed=1), 2):
        samples = demo[other.name.removesuffix(".flac")]
        assert samples.shape == other.samples.shape
        assert not np.array_equal(samples, other.samples), other.name
    for name, samples in demo.items():
        assert 0.15 <= samples.size / DEMO_SAMPLE_RATE <= 2.2, name
        peak = np.abs(samples).max()
        assert -14.01 <= 20 * np.log10(peak) <= -0.99, name
        assert abs(samples.mean(dtype=np.float64)) < 5e-4, name
        assert samples[0] == samples[-1] == 0, name
        assert np.abs(samples[-44:]).max() < 0.001 * peak, f"{name} ends in a click"


def test_the_files_are_small_16_bit_mono_flac_the_same_each_time_and_as_committed(demo: Demo, tmp_path: Path) -> None:
    paths = write_demo(tmp_path)
    assert write_demo(tmp_path) == paths  # equal files may be there, others not
    names = [path.relative_to(tmp_path).as_posix() for path in paths]
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
    file = tmp_path / f"{list(demo)[-1]}.flac"
    file.parent.mkdir()
    file.write_text("mine")
    with pytest.raises(AudioError, match=r"expected no file, or this recording, found another; name another folder"):
        write_demo(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]
    assert file.read_text() == "mine"


def pitch_of(samples: Samples, note: str) -> float:
    """The loudest frequency within 20 % of a note such as `a4`, in cents above it."""
    nominal = 440 * 2 ** (int(note[1]) - 4 - SEMITONES_BELOW_A[note[0]] / 12)
    hertz = np.fft.rfftfreq(1 << 20, 1 / DEMO_SAMPLE_RATE)  # steps of 0.04 Hz
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size), 1 << 20))
    spectrum[np.abs(hertz / nominal - 1) > 0.2] = 0
    return float(1200 * np.log2(hertz[spectrum.argmax()] / nominal))


def test_strings_and_pipes_are_in_tune_and_a_glide_begins_and_ends_on_its_notes(demo: Demo) -> None:
    for name, samples in demo.items():
        family, *notes = re.findall(r"^\w+|(?<=[/_])[a-g]\d", name)
        if family in ("plucked_string", "blown_pipe"):
            assert abs(pitch_of(samples, notes[0])) < 5, name
    lead = demo["glide/lead_a3_e4"]
    assert abs(pitch_of(lead[:20_000], "a3")) < 5 > abs(pitch_of(lead[-20_000:], "e4"))


def test_pipes_hold_a_tone_that_vibrates_and_glides_hold_none(demo: Demo) -> None:
    for name in (name for name in demo if name.startswith("blown_pipe")):
        partials = find_partials(demo[name], DEMO_SAMPLE_RATE)
        lowest = partials.frequencies[partials.is_loud, 0]
        steps = np.abs(np.diff(1200 * np.log2(lowest[np.isfinite(lowest)])))
        assert 0.5 < np.median(steps) < 10, name
        pipe = steadiness(partials)
        assert pipe.is_tonal, name
        assert pipe.share < 0.995, f"{name} has no breath"
    for name in ("glide/siren_a4", "glide/drop_e5_a2"):
        gliding = steadiness(find_partials(demo[name], DEMO_SAMPLE_RATE))
        assert gliding.share > 0.8 > 0.2 > gliding.life, name
