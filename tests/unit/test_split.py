"""The split: pure, within its bounds, kind to labels, never empty on a side; what it says; and seeds from seeds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from distill.seeds import derive_seed
from distill.split import Split, bounds, draw, split_recordings, split_remark

RATE = 1000


@dataclass(frozen=True)
class Sound:
    """What the split knows of a recording."""

    path: str
    seconds: float = 1.0
    alike: str = ""
    label: str = ""
    trimmed_before: float = 0.0

    @property
    def pcm_sha256(self) -> str:
        return self.path

    @property
    def group(self) -> str:
        return self.alike or f"g{self.path}"

    @property
    def samples(self) -> int:
        return round(self.seconds * RATE)


@st.composite
def corpora(drawn: st.DrawFn) -> list[Sound]:
    """Recordings of 0.1 to 500 s, alone or in groups, with and without labels."""
    lengths = drawn(st.lists(st.integers(1, 5000), min_size=1, max_size=30))
    groups = drawn(st.lists(st.sampled_from(["", "", "", "g", "h"]), min_size=len(lengths), max_size=len(lengths)))
    labels = drawn(st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=len(lengths), max_size=len(lengths)))
    return [
        Sound(f"{n}.wav", one / 10, *rest) for n, (one, *rest) in enumerate(zip(lengths, groups, labels, strict=True))
    ]


seeds = st.integers(0, 2**32 - 1)
fractions = st.floats(0.01, 0.99)


def held_samples(sounds: Sequence[Sound], split: Split) -> int:
    return split.end + sum(one.samples for one in sounds if one.path in split.held_out)


@given(corpora(), seeds, fractions, st.booleans())
def test_both_sides_have_sound_whatever_the_order(
    sounds: list[Sound], seed: int, fraction: float, by_label: bool
) -> None:
    split = split_recordings(sounds, seed, fraction, by_label)
    assert 0 < held_samples(sounds, split) < sum(one.samples for one in sounds)
    assert split.cut not in split.held_out
    assert split == split_recordings(sounds[::-1], seed, fraction, by_label)
    assert split_remark(sounds, split, RATE, fraction, by_label).count("\n") == 0


@given(corpora(), seeds, fractions, st.booleans())
def test_groups_stay_together_unless_nothing_else_could_be_held_out(
    sounds: list[Sound], seed: int, fraction: float, by_label: bool
) -> None:
    split = split_recordings(sounds, seed, fraction, by_label)
    if not split.is_apart:
        for group in {one.group for one in sounds}:
            own = {one.path for one in sounds if one.group == group}
            assert own <= split.held_out or own.isdisjoint(split.held_out)
            assert split.cut not in own or len(own) == 1


@given(corpora(), seeds, fractions)
def test_a_label_keeps_half_of_its_groups(sounds: list[Sound], seed: int, fraction: float) -> None:
    split = split_recordings(sounds, seed, fraction, by_label=True)
    units = {(one.label, one.path if split.is_apart else one.group): one.path in split.held_out for one in sounds}
    for label, count in Counter(label for label, _ in units if label).items():
        assert sum(held for (own, _), held in units.items() if own == label) <= count // 2


@given(corpora(), seeds, fractions)
def test_held_out_sound_is_within_its_bounds_or_at_most_the_smallest_group(
    sounds: list[Sound], seed: int, fraction: float
) -> None:
    split, total = split_recordings(sounds, seed, fraction), sum(one.samples for one in sounds)
    units = Counter[str]()
    for one in sounds:
        units[one.path if split.is_apart else one.group] += one.samples
    assert held_samples(sounds, split) - split.end <= max(bounds(fraction)[1] * total, min(units.values()))
    for unit, samples in units.items():
        if samples > fraction * total and samples > min(units.values()):
            assert unit not in split.held_out


@given(st.integers(1, 40), seeds, fractions)
def test_sounds_of_one_length_are_held_out_by_their_draws(count: int, seed: int, fraction: float) -> None:
    sounds = [Sound(f"{number}.wav") for number in range(count)]
    drawn = {one.path for one in sounds if draw(one.group, seed) < fraction}
    least, most = bounds(fraction)
    assume(least * count <= len(drawn) <= most * count)
    assert split_recordings(sounds, seed, fraction) == Split(frozenset(drawn))


@given(st.integers(5, 40), seeds, st.sampled_from([0.1, 0.2, 0.3, 0.5]))
def test_sounds_of_one_length_need_no_end(count: int, seed: int, fraction: float) -> None:
    sounds = [Sound(f"{number}.wav") for number in range(count)]
    split = split_recordings(sounds, seed, fraction)
    assert not split.cut
    assert int(bounds(fraction)[0] * count) <= len(split.held_out) <= max(1, bounds(fraction)[1] * count)
    assert split_remark(sounds, split, RATE, fraction, by_label=False) == ""


def test_the_fraction_is_met_on_average() -> None:
    sounds = [Sound(f"{number:016x}") for number in range(20_000)]
    assert abs(len(split_recordings(sounds, 3, 0.2).held_out) / len(sounds) - 0.2) < 0.01


def said(sounds: Sequence[Sound], fraction: float, seed: int = 0, by_label: bool = False) -> str:
    return split_remark(sounds, split_recordings(sounds, seed, fraction, by_label), RATE, fraction, by_label)


SESSION = [Sound("session.wav", 12, "g"), *(Sound(f"hit{number}.wav", 1, "g") for number in range(12))]
OTHERS = [Sound(f"other{number}.wav") for number in range(3)]


@pytest.mark.parametrize("seed", range(6))
def test_a_session_and_hits_cut_from_it_are_trained_on(seed: int) -> None:
    split = split_recordings([*SESSION, *OTHERS], seed, 0.3)
    assert split.held_out < {one.path for one in OTHERS}
    assert said([*SESSION, *OTHERS], 0.3, seed).startswith(f"held out: {len(split.held_out)}.0 of 27.0 s (")
    assert said([*SESSION, *OTHERS], 0.3, seed).endswith(
        "asked 30%); session.wav and its near-duplicates or parts, 13 recordings, are one group and are trained on; "
        "held-out figures rest on little sound"
    )


@pytest.mark.parametrize("seed", range(6))
def test_where_all_are_alike_they_are_split_by_recording(seed: int) -> None:
    split = split_recordings(SESSION, seed, 0.3)
    assert split.is_apart
    assert "session.wav" not in split.held_out
    assert said(SESSION, 0.3, seed).endswith(
        "asked 30%); 13 recordings are near-duplicates or parts of others and are on both sides, as too little else can "
        "be held out, so held-out figures flatter: add other sounds, or learn loops and the hits in them apart"
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_end_of_a_long_recording_is_held_out(seed: int) -> None:
    hits = [Sound(f"hit{number}.wav") for number in range(7)]
    sounds = [Sound("long.wav", 300), *hits]
    split = split_recordings(sounds, seed, 0.5)
    assert (split.cut, split.end) == ("long.wav", 76_750)
    assert len(split.held_out) < 7
    assert said(sounds, 0.5, seed).endswith("asked 50%); the end of long.wav is held out, from 223.2 s on")
    assert said([Sound("long.wav", 300, trimmed_before=5.0)], 0.5, seed) == (
        "held out: 75.0 of 300.0 s (25%, asked 50%); the end of long.wav is held out, from 230.0 s on"
    )


def test_a_group_that_is_longer_than_what_is_held_out_is_named() -> None:
    pads = [Sound("pad.wav", 60, "g"), Sound("pad soft.wav", 60, "g")]
    assert said([*pads, Sound("long hit.wav", 7)], 0.5) == (
        "held out: 7.0 of 127.0 s (6%, asked 50%); pad.wav and its near-duplicates or parts, 2 recordings, are one "
        "group and are trained on; held-out figures rest on little sound"
    )


@pytest.mark.parametrize("seed", range(6))
def test_loops_and_the_hits_in_them_are_parted_where_one_short_hit_is_all_that_is_not_in_them(seed: int) -> None:
    """Else a hat of 0.1 s alone, held out, would choose the weights."""
    loops = [Sound(f"loop{number}.wav", 4.0, "g") for number in range(4)]
    hits = [Sound(f"{name}.wav", 0.4, "g") for name in ("kick", "snare", "clap")]
    sounds = [*loops, *hits, Sound("hat.wav", 0.12)]
    split = split_recordings(sounds, seed, 0.2)
    low, high = bounds(0.2)
    assert split.is_apart
    assert low <= held_samples(sounds, split) / sum(one.samples for one in sounds) <= high
    assert "7 recordings are near-duplicates or parts of others and are on both sides" in said(sounds, 0.2, seed)
    others = [Sound(f"other{number}.wav", 1.0) for number in range(8)]
    assert not split_recordings([*sounds, *others], seed, 0.2).is_apart
    assert not split_recordings([Sound("hat.wav", 0.1), Sound("pad.wav", 60.0)], seed, 0.2).is_apart  # none are alike


def test_no_label_is_lost_and_what_has_one_sound_is_said() -> None:
    kit = [Sound(f"{label}/1.wav", 1 + number / 4, "", label) for number, label in enumerate("abcdefgh")]
    split = split_recordings(kit, 0, 0.5, by_label=True)
    assert split == Split(frozenset(), "h/1.wav", 1375)
    assert said(kit, 0.5, by_label=True) == (
        "held out: 1.4 of 15.0 s (9%, asked 50%); the end of h/1.wav is held out, from 1.4 s on; of labels with one sound "
        "nothing is held out: a, b, c, d, e and 2 more; held-out figures rest on little sound"
    )
    assert said(kit, 0.5) == ""
    velocities = [Sound(f"{label}/{n}.wav", 1, label, label) for label in ("kick", "snare") for n in range(3)]
    split = split_recordings(velocities, 0, 0.5, by_label=True)
    assert split.is_apart
    assert Counter(name[:4] for name in split.held_out) == {"kick": 1, "snar": 1}


def test_seeds_differ_in_every_part() -> None:
    derived = {derive_seed(a, b, c) for a in range(8) for b in range(8) for c in range(8)}
    assert len(derived) == 512
    assert all(0 <= seed < 2**63 for seed in derived)
