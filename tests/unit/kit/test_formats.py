"""Files of samplers and pictures for any label: nothing in a label becomes an opcode, an element or a line."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.audio.plots import FLOOR_DB, drawable
from distill.kit.formats import HEIGHT, MOST_CHARACTERS, dspreset_bytes, file_word, sfz_bytes, thumbnail, write_picture
from distill.kit.keys import assign_keys
from distill.kit.kit import KitGroup, KitSound, Refused
from distill.text import one_line

LABELS = st.text(st.characters(), min_size=1, max_size=60) | st.text(st.sampled_from("<>&\"'\n\r\t\0\x1b/=$ a#]-!"))


def groups_of(labels: list[str], sounds: int = 2) -> list[KitGroup]:
    return [
        KitGroup(
            label,
            key,
            tuple(
                KitSound(f"samples/{key.number:03d}_{file_word(label)}_{one:02d}.wav", 1, 127, one, sounds, 1, 0, None)
                for one in range(1, sounds + 1)
            ),
            0,
            Refused(),
        )
        for label, key in zip(labels, assign_keys(labels), strict=True)
    ]


@given(st.lists(LABELS, min_size=1, max_size=5))
def test_an_sfz_has_only_the_lines_that_it_should(labels: list[str]) -> None:
    lines = sfz_bytes(groups_of(labels)).decode("ascii").split("\n")
    known = (
        r"// .*|<global>|loop_mode=one_shot|<group>|seq_length=2|group=1 off_by=1||"
        r"lokey=(\d+) hikey=\1 pitch_keycenter=\1 lovel=1 hivel=127|"
        r"<region> sample=samples/\d{3}_[a-z0-9-]+_0[12]\.wav seq_position=[12]"
    )
    assert all(re.fullmatch(known, line) for line in lines)
    comments = [line for line in lines if line.startswith("//")][1:]
    assert all(re.fullmatch(r"// [A-G]#?-?\d [a-z0-9-]+", line) for line in comments)
    assert lines.count("<group>") == len(labels)


@given(st.lists(LABELS, min_size=1, max_size=5))
def test_a_dspreset_is_well_formed_and_keeps_the_names(labels: list[str]) -> None:
    groups = groups_of(labels)
    root = ElementTree.fromstring(dspreset_bytes(groups))
    assert root.tag == "DecentSampler"
    assert [group.attrib["name"] for group in root.iter("group")] == [one_line(label, 80) for label in labels]
    assert [one.attrib["path"] for one in root.iter("sample")] == [one.file for group in groups for one in group.sounds]
    assert {element.tag for element in root.iter()} == {"DecentSampler", "groups", "group", "sample"}


def test_hats_silence_each_other_and_a_single_sound_is_no_round_robin() -> None:
    groups = groups_of(["open hat", "closed hat", "kick"], sounds=1)
    text = sfz_bytes(groups).decode("ascii")
    assert text.count("group=1 off_by=1") == 2
    assert "seq_" not in text
    root = ElementTree.fromstring(dspreset_bytes(groups))
    assert [group.attrib.get("silencedByTags") for group in root.iter("group")] == ["hat", "hat", None]
    assert not any("seqMode" in sample.attrib for sample in root.iter("sample"))


def test_a_thumbnail_shows_where_a_tone_is() -> None:
    tone = np.sin(np.arange(16_000) * 2 * np.pi * 2000 / 16_000).astype(np.float32)
    tone[8000:] = 0
    found = thumbnail(tone, 16_000, "new")
    assert (found.levels.shape[0], found.seconds) == (HEIGHT, 1.0)
    half = found.levels.shape[1] // 2
    kilohertz = 0.7 * np.sinh(np.linspace(0, np.arcsinh(8 / 0.7), HEIGHT))
    assert kilohertz[found.levels[:, : half - 4].mean(axis=1).argmax()] == pytest.approx(2, abs=0.15)
    assert (found.levels[:, half + 4 :] == FLOOR_DB).all()


@pytest.mark.parametrize("label", ["$\\frac{1}{$", "ドラム", "\x1b[31m", "\ud800", "_^%", "x" * 500])
def test_any_title_can_be_drawn(tmp_path: Path, label: str) -> None:
    sounds = [thumbnail(np.ones(length, dtype=np.float32), 8000, "close") for length in (1, 10, 20_000)]
    write_picture(tmp_path / "kit.png", [(label, sounds), ("kick", sounds * 4)])
    assert (tmp_path / "kit.png").read_bytes().startswith(b"\x89PNG")
    assert len(drawable(label, 32)) <= 32


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
