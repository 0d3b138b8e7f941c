"""Names of files from labels that nobody has checked."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.kit.names import MOST_CHARACTERS, file_word


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ("kick", "kick"),
        ("drums/Kick 01", "drums-kick-01"),
        ("../../etc/passwd", "etc-passwd"),
        ("C:\\Windows\\con", "c-windows-con"),
        ('a"b<c>&d', "a-b-c-d"),
        ("a\nsample=../x.wav $b", "a-sample-x-wav-b"),
        ("Trommel übel", "trommel-ubel"),
        ("ドラム", "sound"),
        ("\ud800", "sound"),
        ("...", "sound"),
        ("", "sound"),
        ("x" * 1000, "x" * 40),
    ],
)
def test_a_label_becomes_a_plain_word(label: str, word: str) -> None:
    assert file_word(label) == word


@given(st.text(st.characters(), max_size=80) | st.text(st.sampled_from("./\\\0\n\"'<>&$=:*? aA0-_~%"), max_size=80))
def test_any_label_becomes_a_plain_word(label: str) -> None:
    word = file_word(label)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", word)
    assert len(word) <= MOST_CHARACTERS
