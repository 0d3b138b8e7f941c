"""Keys of a kit: General MIDI's for drums that a name says, white ones from C1 for the rest, none twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import ParamsError
from distill.kit.kit import KEYS, Key, assign_keys, drum_keys


@pytest.mark.parametrize(
    ("labels", "key"),
    [
        ("kick, drums/Kick_01, BD, bass drum, Bass-Drum 2", 36),
        ("snares, sd-tight", 38),
        ("snare_rim, rimshot", 37),
        ("claps", 39),
        ("hat, closed hi-hat, HiHatClosed, hihat_closed", 42),
        ("HatOpen, open hi-hat", 46),
        ("hat_pedal", 44),
        ("tom, floor tom", 41),
        ("tom_low", 45),
        ("TomMid", 47),
        ("high tom", 50),
        ("crash", 49),
        ("ride", 51),
        ("ride bell", 53),
        ("cowbell", 56),
        ("tambourine", 54),
        ("maracas, shaker", 70),
        ("kick/808, kickstart, atom, bass, piano, , ///", None),
    ],
)
def test_names_of_drums_are_whole_words_of_the_last_part(labels: str, key: int | None) -> None:
    assert {next(iter(drum_keys(label)), None) for label in labels.split(", ")} == {key}


PADS = [f"pad {letter}" for letter in "abcdefgh"]


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        (PADS, [24, 26, 28, 29, 31, 33, 35, 36]),  # white keys from C1
        ([*PADS, "kick", "snare", "open hat"], [24, 26, 28, 29, 31, 33, 35, 40, 36, 38, 46]),  # drums go first
        (["snare a", "snare b", "snare c", "clap", "snare d", "hat"], [38, 40, 41, 39, 43, 42]),  # then the next free
        (["kick"] * 4, [36, 35, 37, 38]),
    ],
)
def test_labels_are_on_their_keys(labels: list[str], numbers: list[int]) -> None:
    keys = assign_keys(labels)
    assert [key.number for key in keys] == numbers
    assert [key.is_drum for key in keys] == ["pad" not in label for label in labels]
    assert [key.is_hat for key in keys] == ["hat" in label for label in labels]


@given(
    st.lists(st.sampled_from(["kick", "snare", "tom", "hat", "cuica", "pad", "x"]) | st.text(max_size=12), max_size=128)
)
def test_no_key_is_taken_twice(labels: list[str]) -> None:
    numbers = [key.number for key in assign_keys(labels)]
    assert len(set(numbers)) == len(labels)
    assert set(numbers) <= set(KEYS)


def test_there_are_128_keys_named_with_60_as_c4() -> None:
    assert [Key(key).name for key in (0, 24, 42, 60, 127)] == ["C-1", "C1", "F#2", "C4", "G9"]
    assert sorted(key.number for key in assign_keys(["snare"] * 64 + ["pad"] * 64)) == list(KEYS)
    with pytest.raises(ParamsError, match="expected at most 128 labels, one for each MIDI key, found 129; choose some"):
        assign_keys(["pad"] * 129)
