"""What the judges hear of tones and noise."""

import numpy as np
import pytest
from unit.tiny import RATE, tiny_codec

from benchmarks.judge import features
from benchmarks.judge.features import panel, pitches, speech
from distill.errors import ArtifactError

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
