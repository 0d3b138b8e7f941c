"""What the judges hear of tones and noise."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.judge import features
from benchmarks.judge.features import Samples, effects, panel, pitches, speech
from benchmarks.judge.measures import Comparison, Null
from benchmarks.judge.sounds import probes
from benchmarks.judge.two_sample import two_sample_test
from distill.errors import ArtifactError
from distill.novelty.report import sound_statistics
from unit.tiny import RATE, tiny_codec

DEMO = Path(__file__).parents[4] / "data" / "demo"
LOWEST_KEY, KEYS = 21, 88
A4 = 69


def tone(seconds: float, pitch: float = 440.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return np.sum([0.4 / part * np.sin(2 * np.pi * pitch * part * time) for part in (1, 2, 3)], axis=0).astype(
        np.float32
    )


@pytest.mark.parametrize("seconds", [0.5, 5.0])
def test_the_note_of_a_tone_is_heard_in_every_window(seconds: float) -> None:
    found = pitches(tone(seconds), RATE)
    assert found.shape == (int(seconds * 22_050) // 256, 440)
    inner = found[5:-5, KEYS : 2 * KEYS].argmax(axis=1)
    assert (inner == A4 - LOWEST_KEY).mean() > 0.95


def test_embeddings_differ_between_tone_and_noise() -> None:
    noise = np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32) / 10
    found = [speech(one, RATE) for one in (tone(2.0), noise)]
    assert [one.shape[1] for one in found] == [96, 96]
    assert len(found[0]) == pytest.approx(2.0 * 12.5, abs=2)
    steady = np.linalg.norm(np.diff(found[0][5:-8], axis=0), axis=1).mean()
    assert np.linalg.norm(found[0].mean(axis=0) - found[1].mean(axis=0)) > steady


def test_embeddings_of_effects_are_those_of_their_package() -> None:
    """Every 64th value of `aisfx` 0.1.2 with the front end of its paper (Essentia 2.1b6), which are not installed here."""
    time = np.arange(3 * 44_100) / 44_100
    glide, square = np.sin(2 * np.pi * (200 + 1500 * time) * time), np.sign(np.sin(2 * np.pi * 330 * time))
    found = effects((0.3 * glide + 0.2 * square * np.exp(-2 * time)).astype(np.float32), 44_100)
    assert found.shape == (2, 512)
    package = [
        [1.6363, 2.5011, 3.5644, 1.6731, 3.7406, 1.6101, 0.8080, 1.3584],
        [1.6025, 2.9861, 1.4958, 3.0318, 2.9322, 1.7796, 0.7556, 2.4814],
    ]
    assert found[:, ::64] == pytest.approx(np.array(package), abs=2e-4)


def test_effects_hear_noise_and_missing_treble_of_the_demo_where_speech_hardly_does() -> None:
    """Recordings of the demo that one thing is wrong with, beside others; in deviations of recordings."""
    recordings: list[Samples] = []
    for path in sorted(DEMO.rglob("*.flac")):
        sound, rate = soundfile.read(path, dtype="float32")
        recordings.append(sound)
    sides = recordings[::2], recordings[1::2]
    wrong = probes(sides[1], rate, seed=0)
    found, told = {}, {}
    for hear in (effects, speech):
        held_out, others = (sound_statistics(hear(sound, rate) for sound in side) for side in sides)
        generator = np.random.default_rng(0)
        null = Null.of(Comparison(held_out, others), 13, generator)
        for kind in ("noise with their bands", "nothing above 4 kHz", "half a semitone higher"):
            sounds = sound_statistics(hear(sound, rate) for sound in wrong[kind])
            values = Comparison(held_out, sounds).draws(13, generator).mean(axis=0)
            found[hear.__name__, kind] = float(null.deviations(values)[0])
            told[hear.__name__, kind] = two_sample_test(held_out, sounds, generator).p_value
    assert found["effects", "noise with their bands"] > 2 * found["speech", "noise with their bands"] > 2
    assert found["effects", "nothing above 4 kHz"] > 3 > 1 > abs(found["speech", "nothing above 4 kHz"])
    assert max(abs(found[name, "half a semitone higher"]) for name in ("effects", "speech")) < 1
    assert told["effects", "noise with their bands"] == 0.001
    assert told["effects", "half a semitone higher"] > 0.05


def test_every_judge_hears_the_shortest_sound_and_gives_the_same_again() -> None:
    sounds = [np.full(1, 0.1, np.float32), tone(0.3)]
    for hear in panel(tiny_codec()).values():
        found = hear(sounds)
        assert np.isfinite(found).all()
        assert (found == hear(sounds)).all()
        assert (found[0] != found[1]).any()


def test_a_network_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    features._network.cache_clear()
    monkeypatch.setitem(features.NETWORKS, "pitch", ("no-such-package", "a.onnx"))
    with pytest.raises(ArtifactError, match=r"^no-such-package: expected the network .* not installed; run make judge"):
        panel(tiny_codec())
