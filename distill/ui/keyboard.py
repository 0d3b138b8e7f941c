"""Keys and pads for generated sounds, as HTML: `instrument.html` plays them by mouse, touch, keyboard and MIDI.

A key has the addresses of its sounds, which alternate, and a playback rate. Sounds can end when the key is released.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from distill.notes import KEYS, note_name
from distill.ui import view

OCTAVE = 12
LEAST_KEYS, MOST_KEYS = 2 * OCTAVE + 1, 4 * OCTAVE + 1
BLACK = (1, 3, 6, 8, 10)  # black keys in an octave


class Group(NamedTuple):
    """Sounds on a key, which alternate; `rate` changes their pitch."""

    key: int
    name: str
    addresses: Sequence[str]
    rate: float = 1.0


def of_sounds(paths: Sequence[Path], rows: Sequence[Mapping[str, Any]]) -> str:
    """Keys for sounds, from rows of `--json`: at their notes, spread over all keys, or else one on each white key."""
    numbered = enumerate(zip(paths, rows, strict=True), 1)
    there = [(f"sound {number}", path, row) for number, (path, row) in numbered if path.is_file()]
    notes = {row.get("note") for _, _, row in there}
    if None in notes:
        # From C4.
        white = (key for key in KEYS[60:] if key % OCTAVE not in BLACK)
        return _keys(
            [
                Group(key, name, [view.address(path)])
                for key, (name, path, _) in zip(white, there, strict=False)
            ]
        )
    by_note = {round(row["note"]): list[str]() for _, _, row in there}
    for _, path, row in there:
        by_note[round(row["note"])].append(view.address(path))
    return _keys(
        _over_all([Group(key, note_name(key), sounds) for key, sounds in sorted(by_note.items())]),
        True,
    )


def of_grid(paths: Sequence[Path], names: Sequence[str], columns: int) -> str:
    """Pads in a grid of `columns`, as the sounds lie between those at its ends or corners."""
    keys = zip(KEYS[36:], paths, names, strict=False)  # from C2
    return _pads(
        [Group(key, name, [view.address(path)]) for key, path, name in keys if path.is_file()],
        columns,
    )


def of_kit(folder: Path, made: Mapping[str, Any]) -> str:
    """Pads for the groups of a kit, or keys of an instrument, from its `kit.json`."""
    groups, are_notes = [], False
    for group in made.get("groups") or []:
        files = [folder / "samples" / Path(sound["file"]).name for sound in group["sounds"]]
        cents = next((sound.get("tune", 0) for sound in group["sounds"]), 0)
        are_notes |= "keys" in group
        addresses = [view.address(file) for file in files]
        groups.append(Group(group["key"], str(group["label"]), addresses, 2 ** (cents / 1200)))
    groups = [group for group in groups if group.addresses]
    return _keys(_over_all(groups), True) if are_notes else _pads(groups)


def _over_all(groups: Sequence[Group]) -> list[Group]:
    """Groups for all visible keys: sounds of the nearest group, transposed to the key."""
    if not groups:
        return []
    middle = groups[len(groups) // 2].key
    lowest = (
        max(groups[0].key, middle - MOST_KEYS // 2) if len(groups) > 1 else max(0, middle - OCTAVE)
    )
    shown = KEYS[lowest - lowest % OCTAVE :][:MOST_KEYS]
    keys = [key for key in shown if key <= max(groups[-1].key, shown[0] + LEAST_KEYS - 1)]
    nearest = [min(groups, key=lambda group, key=key: abs(group.key - key)) for key in keys]  # type: ignore[misc]
    pairs = zip(keys, nearest, strict=True)
    return [
        Group(key, group.name, group.addresses, group.rate * 2 ** ((key - group.key) / OCTAVE))
        for key, group in pairs
    ]


def _keys(groups: Sequence[Group], ends: bool = False) -> str:
    if not groups:
        return ""
    by_key = {group.key: group for group in groups}
    first = min(by_key) // OCTAVE * OCTAVE
    last = max(max(by_key), first + LEAST_KEYS - 1)
    drawn = [
        _button(by_key.get(key, Group(key, "", [])), key % OCTAVE in BLACK)
        for key in KEYS[first : last + 1]
    ]
    return f'<div class="keys" data-ends="{int(ends)}" data-first="{first}">{"".join(drawn)}</div>{_below()}'


def _button(group: Group, is_black: bool) -> str:
    note = note_name(group.key)
    shown = note if group.key % OCTAVE == 0 else ""
    kind = "black" if is_black else "white"
    title = f"{note}: {group.name}" if group.name not in ("", note) else note
    return (
        f'<button type="button" class="{kind}" {_data(group)} aria-label="{escape(title)}" title="{escape(title)}">'
        f"{shown}</button>"
    )


def _pads(groups: Sequence[Group], columns: int | None = None) -> str:
    pads = "".join(
        f'<button type="button" class="pad" {_data(one)}>{escape(one.name)}</button>'
        for one in groups
    )
    grid = f' style="grid-template-columns: repeat({columns}, 1fr)"' if columns else ""
    return f'<div class="pads" data-ends="0"{grid}>{pads}</div>{_below()}' if pads else ""


def _data(group: Group) -> str:
    sounds = escape(json.dumps(list(group.addresses)))
    return f'data-key="{group.key}" data-sounds="{sounds}" data-rate="{group.rate:.6f}"'


def _below() -> str:
    return (
        '<p class="small">Play with the mouse, with the keys A W S E D … of your keyboard, or with MIDI. '
        'Z and X change the octave. <button type="button" data-midi>Use a MIDI keyboard</button></p>'
    )
