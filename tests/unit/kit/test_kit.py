"""Keys and presets: no key twice, and nothing in a label becomes an opcode, an element, a line or a path."""

import re
from collections import Counter
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import ParamsError
from distill.kit.keys import Place, assign_keys, key_ranges, read_keys
from distill.kit.kit import KitGroup, KitSound, held, held_by
from distill.kit.loops import Loop
from distill.kit.presets import dspreset_bytes, file_word, sfz_bytes
from distill.notes import KEYS
from distill.text import one_line

LABELS = st.text(st.characters(), min_size=1, max_size=60) | st.text(st.sampled_from("<>&\"'\n\r\t\0\x1b/=$ a#]-!"))


def groups_of(labels: list[str]) -> list[KitGroup]:
    groups = []
    for label, place in zip(labels, assign_keys(labels, labels, {}), strict=True):
        names = [f"samples/{place.key:03d}_{file_word(label)}_{one:02d}.wav" for one in (1, 2)]
        made = tuple(KitSound(name, 1, 127, one, 2, 1, 0, None) for one, name in enumerate(names, 1))
        groups.append(KitGroup(label, *place, made, 0, Counter()))
    return groups


@given(st.lists(LABELS, min_size=1, max_size=5))
def test_an_sfz_has_only_the_lines_that_it_should(labels: list[str]) -> None:
    lines = sfz_bytes(groups_of(labels)).decode("ascii").split("\n")
    known = (
        r"// A kit made by Distill; .*|// [A-G]#?-?\d [a-z0-9-]+|"
        r"<global>|loop_mode=one_shot|<group>|seq_length=2|group=1 off_by=1||"
        r"lokey=(\d+) hikey=\1 pitch_keycenter=\1 lovel=1 hivel=127|"
        r"<region> sample=samples/\d{3}_[a-z0-9-]+_0[12]\.wav seq_position=[12]"
    )
    assert all(re.fullmatch(known, line) for line in lines)
    assert lines.count("<group>") == len(labels)


@given(st.lists(LABELS, min_size=1, max_size=5))
def test_a_dspreset_is_well_formed_and_keeps_the_names(labels: list[str]) -> None:
    groups = groups_of(labels)
    root = ElementTree.fromstring(dspreset_bytes(groups))
    assert root.tag == "DecentSampler"
    assert [group.attrib["name"] for group in root.iter("group")] == [one_line(label, 80) for label in labels]
    assert [one.attrib["path"] for one in root.iter("sample")] == [one.file for group in groups for one in group.sounds]
    assert {element.tag for element in root.iter()} == {"DecentSampler", "groups", "group", "sample"}


def test_presets_have_keys_velocities_and_round_robins_and_hats_silence_each_other() -> None:
    places = [("a", 1, 63, 1, 1), ("b", 64, 127, 1, 2), ("c", 64, 127, 2, 2)]
    kick = tuple(KitSound(f"samples/{name}.wav", *place, 1.0, -9.0, None) for name, *place in places)
    hat = KitGroup("Hats", 42, True, True, kick[:1], 0, Counter())
    groups = [KitGroup("kick/808", 36, True, False, kick, 0, Counter()), hat]
    assert sfz_bytes(groups).decode("ascii").splitlines()[1:] == [
        *("<global>", "loop_mode=one_shot", ""),
        *("// C2 kick-808", "<group>", "lokey=36 hikey=36 pitch_keycenter=36 lovel=1 hivel=63"),
        *("<region> sample=samples/a.wav", ""),
        *("// C2 kick-808", "<group>", "lokey=36 hikey=36 pitch_keycenter=36 lovel=64 hivel=127", "seq_length=2"),
        *("<region> sample=samples/b.wav seq_position=1", "<region> sample=samples/c.wav seq_position=2", ""),
        *("// F#2 hats", "<group>", "lokey=42 hikey=42 pitch_keycenter=42 lovel=1 hivel=63", "group=1 off_by=1"),
        "<region> sample=samples/a.wav",
    ]
    root = ElementTree.fromstring(dspreset_bytes(groups))
    own = dict.fromkeys(("rootNote", "loNote", "hiNote"), "36") | dict.fromkeys(
        ("ampEnvEnabled", "loopEnabled"), "false"
    )
    robin = {"seqMode": "round_robin", "seqLength": "2"}
    assert [sample.attrib for sample in root.iter("sample")][:2] == [
        {"path": "samples/a.wav", "loVel": "1", "hiVel": "63", **own},
        {"path": "samples/b.wav", "loVel": "64", "hiVel": "127", **own, **robin, "seqPosition": "1"},
    ]
    assert [group.attrib for group in root.iter("group")] == [
        {"name": "kick/808", "ampVelTrack": "1"},
        {"name": "Hats", "ampVelTrack": "1", "tags": "hat", "silencedByTags": "hat", "silencingMode": "fast"},
    ]


def test_presets_of_an_instrument_have_key_ranges_tunings_and_loops() -> None:
    looped = KitSound("samples/a.wav", 1, 127, 1, 2, 1.0, -9.0, None, held_by(Loop(100, 899, 0.99), -3, 16_000))
    plain = KitSound("samples/b.wav", 1, 127, 2, 2, 1.0, -9.0, None, held(0))
    groups = [KitGroup("bass", 36, False, False, (looped, plain), 0, Counter(), (0, 127))]
    assert sfz_bytes(groups).decode("ascii").splitlines()[1:] == [
        *("<global>", "ampeg_release=0.3", "", "// C2 bass", "<group>"),
        *("lokey=0 hikey=127 pitch_keycenter=36 lovel=1 hivel=127", "seq_length=2"),
        "<region> sample=samples/a.wav seq_position=1 tune=-3 loop_mode=loop_sustain loop_start=100 loop_end=899",
        "<region> sample=samples/b.wav seq_position=2 tune=0 loop_mode=no_loop",
    ]
    (group,) = ElementTree.fromstring(dspreset_bytes(groups)).iter("group")
    envelope = {"attack": "0", "decay": "0", "sustain": "1", "release": "0.3"}
    assert group.attrib == {"name": "bass", "ampVelTrack": "1", **envelope}
    own = {"rootNote": "36", "loNote": "0", "hiNote": "127", "loVel": "1", "hiVel": "127", "ampEnvEnabled": "true"}
    own |= {"seqMode": "round_robin", "seqLength": "2"}
    loop = {"loopEnabled": "true", "loopStart": "100", "loopEnd": "899"}
    assert [sample.attrib for sample in group] == [
        {"path": "samples/a.wav", **own, "tuning": "-0.03", **loop, "seqPosition": "1"},
        {"path": "samples/b.wav", **own, "tuning": "0.0", "loopEnabled": "false", "seqPosition": "2"},
    ]


@given(st.sets(st.sampled_from(KEYS), min_size=1))
def test_every_key_plays_the_nearest_note(notes: set[int]) -> None:
    played = key_ranges(sorted(notes))
    assert list(played) == sorted(notes)
    keys = [(key, note) for note, (low, high) in played.items() for key in range(low, high + 1)]
    assert [key for key, _ in keys] == list(KEYS)
    assert all(note == min(notes, key=lambda one: (abs(one - key), -one)) for key, note in keys)


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ("drums/Kick 01", "drums-kick-01"),
        ("../../etc/passwd", "etc-passwd"),
        ("a\nsample=../x.wav $b", "a-sample-x-wav-b"),
        ("ドラム", "sound"),
        ("", "sound"),
        ("x" * 1000, "x" * 40),
    ],
)
def test_a_label_becomes_a_plain_word(label: str, word: str) -> None:
    assert file_word(label) == word


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
    places = assign_keys(labels, labels, {})
    assert [place.key for place in places] == numbers
    assert [place.is_drum for place in places] == ["pad" not in label for label in labels]
    assert [place.is_hat for place in places] == ["hat" in label for label in labels]


def test_given_keys_are_the_labels_own_and_tell_what_is_a_hat() -> None:
    keys = read_keys({"pad": "Gb2", "hat": 60, "kick": " c2 ", "bass": "0"})
    assert keys == {"pad": 42, "hat": 60, "kick": 36, "bass": 0}
    labels = ["hat", "open hat", "pad", "kick", "tom", "bass"]
    assert assign_keys(labels, labels, keys) == [
        *(Place(60, True, False), Place(46, True, True), Place(42, True, True), Place(36, True, False)),
        *(Place(41, True, False), Place(0, False, False)),
    ]
    alone = assign_keys(["CH", "OH"], ["BD", "SD", "CH", "OH"], {})  # of a model that has the others, too
    assert alone == [Place(42, True, True), Place(46, True, True)]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        *(({"x": note}, "something else") for note in (-1, 128, "H2", "Cbb2", "G#9", "", "36.0")),
        ({"a": "C2", "x": 36}, "the key of another label"),
    ],
)
def test_a_key_that_is_none_or_taken_is_refused(given: dict[str, int | str], found: str) -> None:
    with pytest.raises(ParamsError) as caught:
        read_keys(given)
    assert str(caught.value) == (
        f"keys x={given['x']}: expected a key of its own, 0 to 127, or its note, C-1 to G9, found {found}; choose another key"
    )


@given(
    st.lists(st.sampled_from(["kick", "snare", "tom", "hat", "cuica", "pad", "x"]) | st.text(max_size=12), max_size=128)
)
def test_no_key_is_taken_twice(labels: list[str]) -> None:
    numbers = [place.key for place in assign_keys(labels, labels, {})]
    assert len(set(numbers)) == len(labels)
    assert set(numbers) <= set(KEYS)


def test_there_are_128_keys() -> None:
    labels = ["snare"] * 64 + ["pad"] * 64
    assert sorted(place.key for place in assign_keys(labels, labels, {})) == list(KEYS)
    with pytest.raises(ParamsError, match="expected at most 128 labels, one for each MIDI key, found 129; choose some"):
        assign_keys(["pad"] * 129, [], {})
