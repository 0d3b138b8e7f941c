"""Names of drums: whole words, short ones only where the others are drums, too."""

import pytest

from distill.drums import drum_keys


@pytest.mark.parametrize(
    ("labels", "key"),
    [
        ("kick, drums/Kick_01, bass drum, Bass-Drum 2", 36),
        ("snares", 38),
        ("snare_rim, rimshot", 37),
        ("hat, closed hi-hat, HiHatClosed, hihat_closed", 42),
        ("HatOpen, open hi-hat", 46),
        ("tom, floor tom", 41),
        ("tom_low", 45),
        ("high tom", 50),
        ("ride", 51),
        ("ride bell", 53),
        ("maracas, shaker", 70),
        ("kick/808, kickstart, atom, bass, piano, , ///, Chords, Ohh (vocal), hats/BD", None),
    ],
)
def test_names_of_drums_are_whole_words_of_the_last_part(labels: str, key: int | None) -> None:
    assert {next(iter(keys), None) for keys in drum_keys(labels.split(", "))} == {key}


@pytest.mark.parametrize(
    ("labels", "keys"),
    [
        ("BD, SD, LT, MT, HT, CH, OH, CP, RS, CY, CB, MA", [36, 38, 45, 47, 50, 42, 46, 39, 37, 49, 56, None]),
        ("drums/BD 808, sd-tight, bass", [36, 38, None]),
        ("kick, snare, clap, perc, fx, ch 1, oh, bass, vox", [36, 38, 39, None, None, 42, 46, None, None]),
        ("Kicks, Snares, HH, Percs", [36, 38, 42, None]),
        ("ch 1, oh, Ohh (vocal), Chords", [None] * 4),  # channels, voices
        ("ah, eh, oh", [None] * 3),
        ("ah, eh, oh, kick, snare", [None, None, None, 36, 38]),
        ("Kick, Snare Top, Tom 1, OH L, OH R, Room", [36, 38, 41, None, None, None]),  # microphones
        ("Kick, Snare, HH Vocals, Bass, Lead, Pad, Choir", [36, 38, None, None, None, None, None]),
        ("violin, viola, bass drum, cb, cl", [None, None, 36, None, None]),  # instruments of an orchestra
    ],
)
def test_short_names_are_drums_in_a_kit_of_drums(labels: str, keys: list[int | None]) -> None:
    assert [next(iter(found), None) for found in drum_keys(labels.split(", "))] == keys
