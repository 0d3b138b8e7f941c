"""Split recordings into training and held-out: one pure function of the recordings, shared by codec and prior.

Near-duplicates form a group, which stays on one side. A group is held out when its hash (`draw`) is below the requested
fraction. To keep these bounds, the next groups by hash are held out as well, or a group is trained on after all:

- held-out sound is half to twice the requested amount, training keeps at least half of its own share, and the number of
  held-out groups has the same upper bound;
- a group larger than the requested amount is trained on;
- at most half of the groups of a label are held out, so the only group of a label is trained on.

If the held-out groups have too little sound, the end of a long recording is held out as well. Near-duplicates are split
like unrelated recordings if no group can be held out (there is only one), or less than a tenth of the requested amount
(loops are grouped with the hits in them).
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

from distill.text import normal_form

Side = Literal["train", "val"]

END = ":end"  # suffix of the id and the group of a recording's held-out end


class Recording(Protocol):
    """Recording to split. Near-duplicates share a `group`; `label` is "" without a label.

    `trimmed_before`, the seconds of silence that were cut from the start of the file, is only used in `split_remark`.
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
    """PCM hashes of the held-out recordings, and hash `cut` of a recording whose last `end` samples are held out.

    If `is_apart`, near-duplicates may be on both sides.
    """

    held_out: frozenset[str]
    cut: str = ""
    end: int = 0
    is_apart: bool = False


class Group(NamedTuple):
    """Recordings that stay on one side."""

    name: str
    recordings: list[Recording]
    labels: set[str]

    @property
    def samples(self) -> int:
        """Total number of samples."""
        return _samples(self.recordings)


def draw(group: str, seed: int) -> float:
    """Hash of the group and the seed, uniform in [0, 1)."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def bounds(fraction: float) -> tuple[float, float]:
    """Minimum and maximum proportion of held-out sound for a requested `fraction`."""
    return fraction / 2, min(2 * fraction, (1 + fraction) / 2)


def split_recordings(
    recordings: Iterable[Recording], seed: int, fraction: float, by_label: bool = False
) -> Split:
    """Choose the held-out recordings; no two recordings may be equal. Labels only count if `by_label`.

    Neither side is empty, except for a single recording of one sample. Raises ValueError for no recordings.
    """
    every = sorted(recordings, key=lambda recording: recording.pcm_sha256)
    if not every:
        raise ValueError("a split needs recordings, found none")
    least, least_unlike = (
        math.ceil(proportion * _samples(every))
        for proportion in (bounds(fraction)[0], fraction / 10)
    )
    alike = _grouped(every, lambda recording: recording.group, by_label)
    apart = _grouped(every, lambda recording: recording.pcm_sha256[:16], by_label)
    has_duplicates = len(alike) < len(apart)
    # Groups to split, whether near-duplicates are split, and the minimum of samples in groups that can be held out.
    ways = [(alike, False, 0)]
    if has_duplicates:
        ways = [(alike, False, least_unlike), (apart, True, 0)]
    for groups, is_apart, enough in ways:
        chosen, count = _chosen(groups, seed, fraction)
        drawn = [recording for group in chosen[:count] for recording in group.recordings]
        held_out = _hashes(drawn)
        single = [group.recordings[0] for group in groups if len(group.recordings) == 1]
        long = [
            each for each in single if each.samples >= 2 * least and each.pcm_sha256 not in held_out
        ]
        if long and _samples(drawn) < least:
            return Split(held_out, _longest(long).pcm_sha256, least, is_apart)
        if chosen and max(_samples(drawn), chosen[0].samples) >= enough:
            return Split(held_out or _hashes(chosen[0].recordings), is_apart=is_apart)
    longest = _longest(every)
    end = min(least, longest.samples // 2)
    return Split(frozenset(), longest.pcm_sha256, end, has_duplicates)


def _grouped(
    recordings: Iterable[Recording], name: Callable[[Recording], str], by_label: bool
) -> list[Group]:
    groups: dict[str, Group] = {}
    for recording in recordings:
        group = groups.setdefault(name(recording), Group(name(recording), [], set()))
        group.recordings.append(recording)
        if by_label and recording.label:
            group.labels.add(normal_form(recording.label))
    return list(groups.values())


def _chosen(groups: Sequence[Group], seed: int, fraction: float) -> tuple[list[Group], int]:
    """Groups that can be held out, in order, and the number of them that are."""
    totals, taken = Counter(label for group in groups for label in group.labels), Counter[str]()
    movable = [group for group in groups if all(totals[label] > 1 for label in group.labels)]
    total = sum(group.samples for group in groups)
    least, most = (proportion * total for proportion in bounds(fraction))
    smallest = min((group.samples for group in movable), default=total)
    if smallest > max(most, total / 2):
        return [], 0
    most, most_of_one = max(most, smallest), max(fraction * total, smallest)
    most_groups = max(1, math.floor(bounds(fraction)[1] * len(groups)))
    chosen: list[Group] = []
    size = by_draw = 0
    enough = math.ceil(fraction * len(groups))
    for group in sorted(movable, key=lambda group: draw(group.name, seed)):
        is_drawn = draw(group.name, seed) < fraction
        if not is_drawn and (size >= least or len(chosen) >= enough):
            break
        are_labels_kept = all(taken[label] < totals[label] // 2 for label in group.labels)
        is_within = group.samples <= min(most_of_one, most - size) and len(chosen) < most_groups
        if is_within and are_labels_kept:
            chosen.append(group)
            size += group.samples
            taken.update(group.labels)
            by_draw += is_drawn
    # If the additional groups are still too little, they are trained on.
    return chosen, len(chosen) if size >= least else by_draw


def split_remark(
    recordings: Collection[Recording],
    split: Split,
    sample_rate: int,
    fraction: float,
    by_label: bool,
) -> str:
    """Sentence on what could not be held out and on its cost, or "" if the split is as requested."""
    total = _samples(recordings)
    least, most = (proportion * total for proportion in bounds(fraction))
    cut = [recording for recording in recordings if recording.pcm_sha256 == split.cut]
    held_out = (each for each in recordings if each.pcm_sha256 in split.held_out)
    size = split.end + _samples(held_out)
    groups = _grouped(recordings, lambda recording: recording.group, by_label)
    if split.is_apart:
        several = sum(len(group.recordings) for group in groups if len(group.recordings) > 1)
        remarks = [
            f"{several} recordings are near-duplicates or parts of others and are on both sides, as too little else can be "
            "held out, so held-out figures flatter: add other sounds, or learn loops and the hits in them apart"
        ]
        groups = _grouped(recordings, lambda recording: recording.pcm_sha256, by_label)
    else:
        remarks = [
            _trained_on(group)
            for group in groups
            if group.samples > fraction * total
            and group.recordings[0].pcm_sha256 not in split.held_out
            and (len(group.recordings) > 1 or (size < least and group.recordings != cut))
        ]
    for recording in cut:
        start = recording.trimmed_before + (recording.samples - split.end) / sample_rate
        remarks.append(f"the end of {recording.path} is held out, from {start:.1f} s on")
    remarks += _single_labels(groups, cut)
    if size < least:
        remarks.append("held-out figures rest on little sound")
    if not remarks and size <= most:
        return ""
    asked = f"({size / total:.0%}, asked {fraction:.0%})"
    whole = f"held out: {size / sample_rate:.1f} of {total / sample_rate:.1f} s {asked}"
    return "; ".join([whole, *remarks])


def _single_labels(groups: Sequence[Group], cut: Sequence[Recording]) -> list[str]:
    """Remark on the labels with one group, which is trained on, as a list of one or none."""
    sounds = Counter(label for group in groups for label in group.labels)
    partly = {normal_form(recording.label) for recording in cut}
    single = sorted({label for label, number in sounds.items() if number == 1} - partly)
    if not single:
        return []
    more = f" and {len(single) - 5} more" if len(single) > 5 else ""
    return [f"of labels with one sound nothing is held out: {', '.join(single[:5])}{more}"]


def _trained_on(group: Group) -> str:
    longest = max(group.recordings, key=lambda recording: (recording.samples, recording.path)).path
    if len(group.recordings) == 1:
        return f"{longest} is longer than what is held out and is trained on"
    alike = f"{len(group.recordings)} recordings"
    return f"{longest} and its near-duplicates or parts, {alike}, are one group and are trained on"


def _samples(recordings: Iterable[Recording]) -> int:
    return sum(recording.samples for recording in recordings)


def _hashes(recordings: Iterable[Recording]) -> frozenset[str]:
    return frozenset(recording.pcm_sha256 for recording in recordings)


def _longest(recordings: Iterable[Recording]) -> Recording:
    return max(recordings, key=lambda recording: recording.samples)
