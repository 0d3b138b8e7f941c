"""Fidelity: each measure on sounds of which the answer is known."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from distill.audio.partials import Tone, tone_line, tone_summary
from distill.codec.fidelity import Fidelity, attack_ms, envelope, summary

RATE = 24_000


def _hit(attack_seconds: float = 0.004) -> NDArray[np.float64]:
    """A struck sound that starts after 0.1 s and rises for `attack_seconds`."""
    time = np.arange(RATE // 2) / RATE - 0.1
    shape = np.where(time < 0, 0.0, np.minimum(1.0, time / attack_seconds) * np.exp(-np.maximum(time, 0) / 0.1))
    return np.asarray(0.5 * shape * np.sin(2 * np.pi * 3000 * time))


def test_half_the_amplitude_is_six_decibels_less_of_level_and_peak_and_nothing_else() -> None:
    same, half = Fidelity.measure(_hit(), _hit(), RATE), Fidelity.measure(_hit(), _hit() / 2, RATE)
    assert (same.level_db, same.peak_db, same.attack_ms, same.treble_db, same.pre_attack_db) == (0.0,) * 5
    assert same.envelope == pytest.approx(1.0) == half.envelope
    assert half.level_db == pytest.approx(-6.02, abs=0.01) == half.peak_db


def test_a_smeared_attack_is_longer() -> None:
    assert attack_ms(envelope(_hit(0.02), RATE)) == pytest.approx(0.8 * 20, abs=3)
    assert Fidelity.measure(_hit(0.004), _hit(0.024), RATE).attack_ms == pytest.approx(16, abs=4)


def test_noise_before_the_attack_is_heard() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE // 2) * (np.arange(RATE // 2) < 0.09 * RATE)
    assert Fidelity.measure(_hit(), _hit() + 0.01 * noise, RATE).pre_attack_db > 30


def test_treble_is_the_energy_above_6_khz() -> None:
    time = np.arange(RATE) / RATE
    low, high = np.sin(2 * np.pi * 1000 * time), np.sin(2 * np.pi * 9000 * time)
    assert Fidelity.measure(low + high, low + high / 10, RATE).treble_db == pytest.approx(-20, abs=0.1)
    assert Fidelity.measure(low + high, low / 2 + high, RATE).treble_db == pytest.approx(0, abs=0.1)


def test_flutter_is_how_much_a_held_tone_wavers() -> None:
    time = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * 450 * time)  # whole periods in a window
    fading = tone * np.exp(-2 * time)
    wavering = [tone * 10 ** (depth * np.sin(2 * np.pi * 8 * time) / 20) for depth in (1, 2)]
    assert Fidelity.measure(tone, fading, RATE).flutter_db == pytest.approx(0, abs=0.05)
    # Of two periods the line takes a share of the variance, 3 / (2 pi)^2 on average; windows of 20 ms smooth.
    left = math.sqrt(0.5 * (1 - 3 / (2 * math.pi) ** 2)) * np.sinc(8 * 0.02)
    assert Fidelity.measure(tone, wavering[1], RATE).flutter_db == pytest.approx(2 * left, rel=0.02)
    assert Fidelity.measure(tone, wavering[0], RATE).flutter_db == pytest.approx(left, rel=0.02)
    assert math.isnan(Fidelity.measure(wavering[1], tone, RATE).flutter_db)  # nothing is held
    assert math.isnan(Fidelity.measure(tone[:2400], tone[:2400], RATE).flutter_db)  # not for long enough
    assert math.isnan(
        Fidelity.measure(tone[:99], tone[:99], RATE).flutter_db
    )  # shorter than what its level is measured in
    late = np.where(np.arange(RATE) < RATE - 20, 0.0, 0.5)  # all sound is after the last whole window
    assert math.isnan(Fidelity.measure(late, late, RATE).flutter_db)


def test_silence_has_nothing_to_measure() -> None:
    silent = Fidelity.measure(np.zeros(RATE), _hit(), RATE)
    assert math.isnan(silent.level_db)
    assert summary([silent]) == {}
    assert Fidelity.measure(_hit(), np.zeros(RATE // 2), RATE).level_db == pytest.approx(-80.0)


def test_the_summary_has_median_and_percentiles() -> None:
    made = summary([Fidelity.measure(_hit(), _hit() * 10 ** (level / 20), RATE) for level in (-3.0, 0.0, 1.0)])
    assert made["level_db/median"] == pytest.approx(0.0, abs=1e-6)
    assert made["level_db/p10"] == pytest.approx(-2.4, abs=1e-6)
    assert made["level_db/mean_absolute"] == pytest.approx(4 / 3)


def test_the_tone_of_decodes_is_summed_up_without_what_has_none() -> None:
    time, noise = np.arange(RATE) / RATE, np.random.default_rng(0).standard_normal((2, RATE)) * 0.1
    tone = sum(np.sin(2 * np.pi * hertz * time) for hertz in (440, 1000))
    sharp = sum(np.sin(2 * np.pi * hertz * 2 ** (6 / 1200) * time) for hertz in (440, 1000))
    pairs = {"same": (tone, tone), "sharp": (tone, sharp), "lost": (tone, noise[0]), "noise": (noise[0], noise[1])}
    found = {name: Tone.measure(*pair, RATE) for name, pair in pairs.items()}
    made = tone_summary([found["same"], found["sharp"], found["lost"], found["noise"]])
    assert (made["tonal_originals"], made["tonal_decodes"]) == (0.75, 0.5)
    assert made["f1"] > 0.95
    assert 0 < made["cents"] < 6  # the median of those that have any left
    assert tone_summary([found["lost"]])["tone_to_noise_lost"] > 20
    assert "cents" not in tone_summary([found["lost"]])
    assert tone_summary([found["noise"]]) == {"tonal_originals": 0.0, "tonal_decodes": 0.0}


def test_the_line_of_tones_says_what_was_measured_of_them() -> None:
    figures = {"tonal_originals": 0.63, "tonal_decodes": 0.02, "f1": 0.164, "cents": 12.04, "tone_to_noise_lost": 18.6}
    metrics = {f"tone/{name}": value for name, value in figures.items()}
    assert tone_line(metrics) == (
        "63% tonal, 2% once decoded; partials found again 0.16 (F1), 12.0 cents off, tone-to-noise ratio -18.6 dB"
    )
    del metrics["tone/cents"]
    assert "(F1), tone-to-noise ratio" in tone_line(metrics)
    assert tone_line({name: metrics[name] for name in list(metrics)[:2]}) == "63% tonal, 2% once decoded"
    assert tone_line({}) == ""
