"""Split into training and held-out recordings: one pure function of the recordings, the same for codec and prior.

Near-duplicates are a group, which is on one side. A group is held out when its draw is below the fraction that is asked
for. Only where that breaks a bound is it trained on, or is a group held out whose draw is near:

- held-out sound is at least half of what is asked for and at most twice, and training keeps half of its own; groups are
  at most as many;
- a group that is more by itself than what is asked for is trained on;
- at most half of the groups of a label are held out, so the only one of a label is trained on.

Where as many groups as are asked for have too little sound, the end of a long recording is held out. Where no group can
be, as when there is one, near-duplicates are split as if they were not alike.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from distill.text import normal_form

Side = Literal["train", "val"]

END = ":end"  # what the id and the group of the end of a recording have beside those of the recording
MOST_NAMED = 5  # labels in a sentence


class Recording(Protocol):
    """What decides. `group` is shared by near-duplicates; `label` is "" where there is none.

    Only a sentence needs `trimmed_before`, the seconds of silence in the file before the samples.
    """

    @property
    def path(self) -> str: ...
    @property
    def pcm_sha256(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def samples(self) -> int: ...
    @property
    def trimmed_before(self) -> float: ...


class Split(NamedTuple):
    """PCM hashes of the recordings that are held out, and the hash of one whose last `end` samples are, if any.

    With `is_apart` near-duplicates may be on both sides.
    """

    held_out: frozenset[str]
    cut: str = ""
    end: int = 0
    is_apart: bool = False


def draw(group: str, seed: int) -> float:
    """Hash of the group and the seed, uniform in [0, 1)."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def bounds(fraction: float) -> tuple[float, float]:
    """Least and most share of the sound that is held out where `fraction` is asked for."""
    return fraction / 2, min(2 * fraction, (1 + fraction) / 2)


def split_recordings(recordings: Iterable[Recording], seed: int, fraction: float, by_label: bool = False) -> Split:
    """Choose what is held out of recordings of which no two are equal; labels count where `by_label` says so.

    Neither side is empty, but for a recording of one sample. Raises ValueError for no recordings.
    """
    every = sorted(recordings, key=lambda one: one.pcm_sha256)
    if not every:
        raise ValueError("a split needs recordings, found none")
    least = math.ceil(bounds(fraction)[0] * sum(one.samples for one in every))
    groups: dict[str, list[Recording]] = defaultdict(list)
    for one in every:
        groups[one.group].append(one)
    for is_apart, units in enumerate((groups, {one.pcm_sha256[:16]: [one] for one in every})):
        drawn, nearest = _drawn(units, seed, fraction, by_label)
        held_out = frozenset(one.pcm_sha256 for one in drawn)
        if sum(one.samples for one in drawn) < least:
            rest = [own[0] for own in units.values() if len(own) == 1 and own[0].pcm_sha256 not in held_out]
            longest = max(rest, key=lambda one: one.samples, default=None)
            if longest is not None and longest.samples >= 2 * least:
                return Split(held_out, longest.pcm_sha256, least, bool(is_apart))
        if drawn or nearest:
            return Split(held_out or frozenset(one.pcm_sha256 for one in nearest), is_apart=bool(is_apart))
    longest = max(every, key=lambda one: one.samples)
    return Split(frozenset(), longest.pcm_sha256, min(least, longest.samples // 2), len(groups) < len(every))


def _drawn(
    groups: Mapping[str, Sequence[Recording]], seed: int, fraction: float, by_label: bool
) -> tuple[list[Recording], list[Recording]]:
    """Recordings of the groups that are held out, and those of the group that is the first to be where there are none."""
    sizes = {group: sum(one.samples for one in own) for group, own in groups.items()}
    labels = {group: {normal_form(one.label) for one in own if one.label and by_label} for group, own in groups.items()}
    totals, taken = Counter(label for own in labels.values() for label in own), Counter[str]()
    movable = [group for group in groups if all(totals[label] > 1 for label in labels[group])]
    total = sum(sizes.values())
    least, most = (share * total for share in bounds(fraction))
    smallest = min((sizes[group] for group in movable), default=total)
    if smallest > max(most, total / 2):
        return [], []
    most_groups = math.floor(bounds(fraction)[1] * len(groups))
    most_of_one, most = max(fraction * total, smallest), max(most, smallest)
    chosen: list[str] = []
    size = by_draw = 0
    for value, group in sorted((draw(group, seed), group) for group in movable):
        if value >= fraction and (size >= least or len(chosen) >= math.ceil(fraction * len(groups))):
            break
        are_labels_kept = all(taken[label] < totals[label] // 2 for label in labels[group])
        is_within = sizes[group] <= min(most_of_one, most - size) and len(chosen) < max(1, most_groups)
        if is_within and are_labels_kept:
            chosen.append(group)
            size += sizes[group]
            taken.update(labels[group])
            by_draw += value < fraction
    drawn = chosen if size >= least else chosen[:by_draw]  # too little: the rest may as well be learnt
    return [one for group in drawn for one in groups[group]], list(groups[chosen[0]])


def split_remark(
    recordings: Collection[Recording], split: Split, sample_rate: int, fraction: float, by_label: bool
) -> str:
    """What could not be held out, and what it costs, in a sentence; "" where the split is as asked for."""
    groups, sounds_of = defaultdict(list), defaultdict(set)
    for one in recordings:
        groups[one.group].append(one)
        if by_label and one.label:
            sounds_of[normal_form(one.label)].add(one.pcm_sha256 if split.is_apart else one.group)
    total = sum(one.samples for one in recordings)
    size = split.end + sum(one.samples for one in recordings if one.pcm_sha256 in split.held_out)
    least, most = (share * total for share in bounds(fraction))
    found = []
    if split.is_apart:
        many = sum(len(own) for own in groups.values() if len(own) > 1)
        found.append(
            f"{many} recordings are near-duplicates or parts of others and are on both sides, as nothing else can be held "
            "out, so held-out figures flatter: add other sounds"
        )
    for own in groups.values():
        samples, longest = sum(one.samples for one in own), max(own, key=lambda one: (one.samples, one.path))
        if split.is_apart or samples <= fraction * total or own[0].pcm_sha256 in split.held_out:
            continue
        if len(own) > 1:
            found.append(
                f"{longest.path} and its near-duplicates or parts, {len(own)} recordings, are one group and are trained on"
            )
        elif size < least and longest.pcm_sha256 != split.cut:
            found.append(f"{longest.path} is longer than what is held out and is trained on")
    for one in recordings:
        if one.pcm_sha256 == split.cut:
            start = one.trimmed_before + (one.samples - split.end) / sample_rate
            found.append(f"the end of {one.path} is held out, from {start:.1f} s on")
            sounds_of.pop(normal_form(one.label), None)
    if single := sorted(label for label, sounds in sounds_of.items() if len(sounds) == 1):
        more = f" and {len(single) - MOST_NAMED} more" if len(single) > MOST_NAMED else ""
        found.append(f"of labels with one sound nothing is held out: {', '.join(single[:MOST_NAMED])}{more}")
    if size < least:
        found.append("held-out figures rest on little sound")
    if not found and size <= most:
        return ""
    asked = f"({size / total:.0%}, asked {fraction:.0%})"
    return "; ".join([f"held out: {size / sample_rate:.1f} of {total / sample_rate:.1f} s {asked}", *found])
