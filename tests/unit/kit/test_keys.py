"""Keys of a kit: General MIDI's for drums that a name says, white ones from C1 for the rest, none twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import ParamsError
from distill.kit.keys import KEYS, assign_keys, drum_keys, note_name


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


def test_what_names_no_drum_is_on_white_keys_from_c1() -> None:
    keys = assign_keys([f"pad {letter}" for letter in "abcdefgh"])
    assert [key.number for key in keys] == [24, 26, 28, 29, 31, 33, 35, 36]
    assert [key.name for key in keys] == ["C1", "D1", "E1", "F1", "G1", "A1", "B1", "C2"]
    assert not any(key.is_drum for key in keys)


def test_drums_go_before_other_sounds_wherever_they_are_in_the_list() -> None:
    labels = [*(f"pad {letter}" for letter in "abcdefgh"), "kick", "snare", "open hat"]
    keys = assign_keys(labels)
    assert [key.number for key in keys] == [24, 26, 28, 29, 31, 33, 35, 40, 36, 38, 46]
    assert [key.is_drum for key in keys] == [False] * 8 + [True] * 3
    assert [key.is_hat for key in keys] == [False] * 10 + [True]


def test_a_collision_takes_the_next_choice_and_then_the_next_free_key() -> None:
    keys = assign_keys(["snare a", "snare b", "snare c", "clap", "snare d", "hat"])
    assert [key.number for key in keys] == [38, 40, 41, 39, 43, 42]
    assert [key.is_hat for key in keys] == [False] * 5 + [True]
    assert [key.number for key in assign_keys(["kick"] * 4)] == [36, 35, 37, 38]


def test_notes_are_named_with_60_as_c4() -> None:
    assert [note_name(key) for key in (0, 24, 42, 60, 127)] == ["C-1", "C1", "F#2", "C4", "G9"]


@given(
    st.lists(st.sampled_from(["kick", "snare", "tom", "hat", "cuica", "pad", "x"]) | st.text(max_size=12), max_size=128)
)
def test_no_key_is_taken_twice(labels: list[str]) -> None:
    numbers = [key.number for key in assign_keys(labels)]
    assert len(set(numbers)) == len(labels)
    assert set(numbers) <= set(KEYS)


def test_there_are_no_more_keys_than_128() -> None:
    assert sorted(key.number for key in assign_keys(["snare"] * 64 + ["pad"] * 64)) == list(KEYS)
    with pytest.raises(ParamsError, match="expected at most 128 labels, one for each MIDI key, found 129; choose some"):
        assign_keys(["pad"] * 129)
