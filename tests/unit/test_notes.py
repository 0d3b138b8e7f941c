"""Notes as people write them, and what they are told about what is none."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import ParamsError
from distill.notes import KEYS, NAMES, Notes, note_name, pitch_name, read_note, read_notes

EXPECTED = "expected notes such as C3, F#2 or Bb4, MIDI numbers from 0 to 127 (C4 is 60), or a range such as C2:C4"


def test_notes_are_named_with_60_as_c4() -> None:
    assert [note_name(key) for key in (0, 24, 42, 60, 127)] == ["C-1", "C1", "F#2", "C4", "G9"]
    assert [pitch_name(pitch) for pitch in (60.0, 59.875, 60.5625)] == ["C4", "C4 -12 cents", "C#4 -44 cents"]


@pytest.mark.parametrize(
    ("notes", "keys"),
    [
        ("C3", [48]),
        (60, [60]),
        (" c3 , E3,62", [48, 52, 62]),
        ("F#2,f♯2,Gb2,G♭2", [42] * 4),
        ("Cb4,B#3,bb3,B3", [59, 60, 58, 59]),
        ("C-1,G9", [0, 127]),
        ("B3:Db4", [59, 60, 61]),
        ("60:60,C1", [60, 24]),
        (["C3", 64, "A0:B0"], [48, 64, 21, 22, 23]),
    ],
)
def test_notes_are_names_numbers_and_ranges_of_these(notes: Notes, keys: list[int]) -> None:
    assert read_notes(notes) == keys


@given(st.sampled_from(KEYS), st.sampled_from(KEYS))
def test_a_range_has_both_of_its_ends(one: int, other: int) -> None:
    first, last = sorted((one, other))
    assert read_note(note_name(one)) == read_note(str(one)) == one
    assert read_notes(f"{note_name(first)}:{last}") == list(range(first, last + 1))


@pytest.mark.parametrize(
    ("notes", "found"),
    [
        *((text, text) for text in ("H3", "C12", "128", "-1", "C4:", "C2:C3:C4", "c##3", "٣")),
        ("", "nothing"),
        ("C3,,E3", "nothing"),
        ("C3, x", "x"),
        (-1, "-1"),
        (60.5, "60.5"),
        ([], "nothing"),
    ],
)
def test_what_is_no_note_is_a_sentence(notes: Notes, found: str) -> None:
    with pytest.raises(ParamsError) as caught:
        read_notes(notes)
    given = ",".join(notes) if isinstance(notes, list) else notes
    assert str(caught.value) == f"note {given}: {EXPECTED}, found {found}"


def test_a_range_that_falls_is_a_sentence() -> None:
    with pytest.raises(ParamsError, match=r"^note C4:C2: expected a range from a lower .* first; write C2:C4$"):
        read_notes("C4:C2")


@given(st.text(st.sampled_from([*"".join(NAMES), *"b♭♯:,-0123456789 H"]), max_size=8))
def test_any_text_is_notes_or_a_sentence(text: str) -> None:
    with contextlib.suppress(ParamsError):
        assert set(read_notes(text)) <= set(KEYS)
