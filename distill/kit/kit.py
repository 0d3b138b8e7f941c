"""What a kit is: its settings, what is on each key, and the files that say so: presets of samplers, text and JSON.

Sounds of labels play to their end, whatever the note's length. Their keys are General MIDI's for names of drums, white
ones upwards from C1 for the rest. An instrument at notes has all keys, and its sounds end with the note.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

from distill import __version__
from distill.audio.output import Output
from distill.drums import drum_keys
from distill.errors import ParamsError
from distill.generate.notebook import players_and_table
from distill.generate.settings import default_guidance
from distill.kit.loops import Loop
from distill.kit.settings import KitFormat, KitSettings
from distill.notes import CONCERT, KEYS, Tuning, note_name, read_note
from distill.text import beside, one_line, several, wrapped

if TYPE_CHECKING:
    import pandas as pd

    from distill.novelty.verdict import Novelty

FORMAT = "distill_kit"
INDEX = "kit.json"
MOST_VELOCITY = 127
MOST_CLUSTERS = 8  # groups of a model without labels
RELEASE_SECONDS = 0.3  # after the end of a note, of an instrument at notes
HATS = frozenset({42, 44, 46})  # closed, pedal, open


class Place(NamedTuple):
    """Where a label is: its MIDI key, whether it is a drum, and a hi-hat, which other hi-hats silence."""

    key: int
    is_drum: bool
    is_hat: bool


def read_keys(given: Mapping[str, int | str]) -> dict[str, int]:
    """Keys of labels from MIDI numbers or notes such as "F#2". Raises ParamsError, also for a key given twice."""
    keys = dict[str, int]()
    for label, note in given.items():
        text = str(note).strip()
        key = read_note(text)
        if key is None or key in keys.values():
            other = "something else" if key is None else "the key of another label"
            raise ParamsError(
                f"keys {one_line(label, 60)}={one_line(text, 60)}: expected a key of its own, 0 to {KEYS[-1]}, or its "
                f"note, C-1 to G9, found {other}; choose another key"
            )
        keys[label] = key
    return keys


def assign_keys(labels: Sequence[str], known: Sequence[str], given: Mapping[str, int]) -> list[Place]:
    """A key of its own for each of at most 128 labels; that of `given`, for a label that has one.

    `known` are the labels that tell whether short names are drums. Of the drums the first label takes its first choice.
    A later one takes its next choice, else the next free key upwards. What names no drum takes the free white keys
    upwards from C1, then whatever is free. Raises ParamsError for more.
    """
    if len(labels) > len(KEYS):
        raise ParamsError(
            f"kit: expected at most {len(KEYS)} labels, one for each MIDI key, found {len(labels)}; choose some of them"
        )
    drums = dict(zip(known, drum_keys(known), strict=True))
    choices = [drums.get(label, ()) for label in labels]
    chosen = {position: given[label] for position, label in enumerate(labels) if label in given}  # to key
    for rank in range(max(map(len, choices), default=0)):
        for position, keys in enumerate(choices):
            if position not in chosen and rank < len(keys) and keys[rank] not in chosen.values():
                chosen[position] = keys[rank]
    for position, keys in enumerate(choices):
        if keys and position not in chosen:
            upwards = (*KEYS[keys[0] :], *reversed(KEYS[: keys[0]]))
            chosen[position] = next(key for key in upwards if key not in chosen.values())
    first = 24  # C1
    white_first = sorted(KEYS[first:], key=lambda key: "#" in note_name(key))
    free = [key for key in (*white_first, *reversed(KEYS[:first])) if key not in chosen.values()]
    places = []
    for position, (label, keys) in enumerate(zip(labels, choices, strict=True)):
        key = chosen[position] if position in chosen else free.pop(0)
        is_hat = not HATS.isdisjoint([key] if label in given else keys)
        places.append(Place(key, is_hat or bool(keys), is_hat))
    return places


def key_ranges(notes: Sequence[int]) -> dict[int, tuple[int, int]]:
    """The lowest and the highest key that play each of some notes, given upwards: together all keys, each one once.

    A key plays the nearest note, of two the higher one. Keys beyond the lowest and the highest note play these.
    """
    firsts = [KEYS[0], *((low + high + 1) // 2 for low, high in pairwise(notes))]
    lasts = [*(first - 1 for first in firsts[1:]), KEYS[-1]]
    return dict(zip(notes, zip(firsts, lasts, strict=True), strict=True))


def by_reason(refused: Counter[str]) -> dict[str, int]:
    """Numbers of refused draws as `kit.json` names their reasons; instruments at notes have another one."""
    words = {"copy": "copies", "silent": "silent", "equal": "repeats"}
    return {words.get(reason, reason): refused[reason] for reason in {**words, **refused}}


def in_words(refused: Counter[str]) -> str:
    """Numbers of refused draws in words: `3 copies, 1 silent`."""
    return ", ".join(f"{count} {reason}" for reason, count in by_reason(refused).items() if count) or "none"


class Play(NamedTuple):
    """How samplers play a sound, as each file of a kit says it: opcodes, words, fields, and attributes of a sample."""

    sfz: str
    in_words: str
    json: dict[str, Any]
    dspreset: dict[str, Any]


ONE_SHOT = Play("", "", {}, {"ampEnvEnabled": "false", "loopEnabled": "false"})  # to its end, however long the note is


def held(tune: int) -> Play:
    """Play a sound `tune` cents higher, to its end, or while its note is held."""
    sample = {"ampEnvEnabled": "true", "tuning": tune / 100, "loopEnabled": "false"}
    return Play(f" tune={tune} loop_mode=no_loop", f", tune {tune:+d}, no loop", {"tune": tune}, sample)


def held_by(loop: Loop, tune: int, sample_rate: int) -> Play:
    """Play a steady sound `tune` cents higher, and repeat a part of it while its note is held."""
    seconds = f"{loop.start / sample_rate:.2f}-{loop.end / sample_rate:.2f} s"
    around = {"loopEnabled": "true", "loopStart": loop.start, "loopEnd": loop.end}
    return Play(
        f" tune={tune} loop_mode=loop_sustain loop_start={loop.start} loop_end={loop.end}",
        f", tune {tune:+d}, loop {seconds}",
        {"tune": tune, "loop": loop._asdict()},
        {**held(tune).dspreset, **around},
    )


@dataclass(frozen=True)
class KitSound:
    """A sound of a kit: its file within the kit, the velocities that play it, its position among the round robins.

    `level_db` is the level before it was normalised, in dBFS. `novelty` is None where the model has no reference.
    """

    file: str
    low_velocity: int
    high_velocity: int
    position: int  # from 1 to `round_robins`
    round_robins: int
    seconds: float
    level_db: float
    novelty: "Novelty | None"
    play: Play = ONE_SHOT
    under_db: float = 0.0  # dB below the loudness that was asked for

    @property
    def verdict(self) -> str:
        """The verdict of novelty, or `unknown`."""
        return self.novelty.verdict if self.novelty else "unknown"

    def json(self) -> dict[str, Any]:
        """The sound as `kit.json` holds it."""
        values = {name: value for name, value in vars(self).items() if name not in ("play", "under_db")}
        values |= {"under_db": self.under_db} if self.under_db else {}
        return {**values, "verdict": self.verdict, "novelty": self.novelty and self.novelty.json(), **self.play.json}


@dataclass(frozen=True)
class KitGroup:
    """The sounds on one MIDI key, from soft to loud layers; how many are missing, and refused draws, by reason."""

    label: str
    key: int
    is_drum: bool
    is_hat: bool  # which other hi-hats silence
    sounds: tuple[KitSound, ...]
    missing: int
    refused: Counter[str]
    keys: tuple[int, ...] = ()  # the lowest and the highest that play a group at a note
    heard: tuple[int, ...] = ()  # notes of the sounds of a label, upwards, where they differ

    @property
    def note(self) -> str:
        """The note of its key, where C4 is 60."""
        return note_name(self.key)

    def json(self) -> dict[str, Any]:
        """The group as `kit.json` holds it."""
        values = {**vars(self), "note": self.note, "refused": by_reason(self.refused)}
        values |= {"sounds": [sound.json() for sound in self.sounds], "keys": list(self.keys)}
        values["heard"] = list(self.heard)
        return {name: value for name, value in values.items() if name not in ("keys", "heard") or value}


@dataclass(frozen=True)
class Kit:
    """A kit on disk: its folder, the model it came from, and its groups in the order of keys."""

    folder: Path
    model: str  # name of the file
    model_sha256: str  # of its weights
    sample_rate: int  # Hz
    settings: KitSettings
    by_label: bool  # whether its groups are labels of the model; else clusters by spectrum, takes, or an instrument
    groups: tuple[KitGroup, ...]
    refused: Counter[str]  # in all
    untrained: str = ""  # sentence of a model for which nothing was trained
    tuning: Tuning = CONCERT  # of an instrument at notes: a key sounds at its pitch there

    @property
    def sounds(self) -> list[KitSound]:
        """All sounds, key by key."""
        return [sound for group in self.groups for sound in group.sounds]

    @property
    def files(self) -> list[str]:
        """All files, as paths within the folder."""
        presets = (f"kit.{kind}" for kind in self.settings.formats)
        return sorted({INDEX, "kit.png", "kit.txt", *presets, *(sound.file for sound in self.sounds)})

    @property
    def recorded(self) -> dict[str, Any]:
        """The settings as its files hold them."""
        given = {**self.settings.model_dump(exclude={"progress"}), "guidance": default_guidance(self.by_label)}
        given |= {"by_label": self.by_label, "formats": list(self.settings.formats)}
        given["tuning"] = self.tuning.hertz
        names = "per_label velocity_layers seconds seed temperature guidance allow_copies by_label formats notes every"
        names += " tuning" * (self.settings.notes is not None) + " width" * (self.settings.width != 1)
        names += " one_key round_robins" * self.settings.one_key
        names += " loudness"
        return {name: given[name] for name in names.split() if given[name] is not None}

    @property
    def missing_lines(self) -> list[str]:
        """A line for each group that has fewer sounds than were asked for."""
        has_notes, lines = self.settings.notes is not None, []
        for group in self.groups:
            name = one_line(group.label, 60) + f" {group.note}" * has_notes
            others = "; its keys play other notes" * (has_notes and not group.sounds)
            count = f"{len(group.sounds)} of {len(group.sounds) + group.missing} sounds"
            lines += [f"{name}: {count}; refused draws: {in_words(group.refused)}{others}"] * bool(group.missing)
        return lines

    @property
    def note_lines(self) -> list[str]:
        """A line for each label whose sounds are round robins on one key, though they have different notes."""
        return [
            f"{one_line(group.label, 60)} {group.note}: its {len(group.sounds)} sounds on one key have different notes, from "
            f"{note_name(group.heard[0])} to {note_name(group.heard[-1])}; for an instrument in tune over all keys, ask for "
            "this label alone at notes"
            for group in self.groups
            if group.heard
        ]

    @property
    def loudness_lines(self) -> list[str]:
        """A line on the sounds that are not as loud as was asked for."""
        return Output(self.sample_rate, self.settings.loudness).lines([sound.under_db for sound in self.sounds])

    def verdicts(self) -> dict[str, int]:
        """How many sounds have each verdict: `new`, `close`, `copy`, `unknown`."""
        verdicts = Counter(sound.verdict for sound in self.sounds)
        return {verdict: verdicts[verdict] for verdict in ("new", "close", "copy", "unknown")}

    @property
    def verdict_line(self) -> str:
        """How many sounds are new, close and copies; or that it is unknown, and why."""
        counts = self.verdicts()
        if self.untrained:
            return f"none: {self.untrained}"
        if counts["unknown"]:
            return "unknown: the model has no codes of its training recordings, so no copy could be left out"
        said = f"{counts['new']} new, {counts['close']} close, {counts['copy']} copies of training recordings"
        is_sure = all(sound.novelty.is_sure for sound in self.sounds if sound.novelty)
        return said if is_sure else f"{said}; too few recordings are held out to tell well"

    @property
    def remarks(self) -> list[str]:
        """Notes and warnings on groups, each with its kind at the start."""
        return [f"note: {line}" for line in self.note_lines] + [f"warning: {line}" for line in self.missing_lines]

    def lines(self, width: int) -> list[str]:
        """Return the lines of text for a terminal that is `width` columns wide."""
        rows = [
            beside(f"{group.note:<4} {group.key:>3}", f"{len(group.sounds)} x {one_line(group.label, 60)}", width)
            for group in self.groups
            if group.sounds
        ]
        place, over = ("note", ", over all keys") if self.settings.notes else ("key", "")
        places = several(len(rows), place) + over
        rows.append(f"{self.folder}  {several(len(self.sounds), 'sound')} on {places}")
        said = filter(None, [self.tuning.in_words, *self.loudness_lines])
        return rows + wrapped([*said, f"verdicts {self.verdict_line}", f"seed {self.settings.seed}"], width)

    def json(self) -> dict[str, Any]:
        """All but the folder, as `kit.json` holds it."""
        return {
            "format": FORMAT,
            "version": 1,
            **({"untrained": self.untrained} if self.untrained else {}),
            "model": {"file": self.model, "payload_sha256": self.model_sha256},
            "sample_rate": self.sample_rate,
            "settings": self.recorded,
            "files": self.files,
            "missing": sum(group.missing for group in self.groups),
            "refused": by_reason(self.refused),
            "verdicts": self.verdicts(),
            "groups": [group.json() for group in self.groups],
        }

    def table(self) -> "pd.DataFrame":
        """A row a sound: what `kit.json` says of it, with label, key and note."""
        import pandas as pd

        return pd.json_normalize(self.json()["groups"], "sounds", ["label", "key", "note"]).rename_axis("sound")

    def _repr_html_(self) -> str:
        """Players of its sounds, and their table, as notebooks show them."""
        return players_and_table(((self.folder / sound.file).read_bytes() for sound in self.sounds), self.table())

    def text(self) -> str:
        """`kit.txt`, for people: origin, settings, verdicts, empty places, keys and sounds."""
        weights = f", weights with SHA-256 {self.model_sha256}" if self.model_sha256 else ""
        lines = [
            f"A kit of {len(self.sounds)} sounds, made by Distill {__version__}",
            "",
            f"{'model':<16}{one_line(self.model)}{weights}",
            *(f"{name.replace('_', ' '):<16}{_in_words(value)}" for name, value in self.recorded.items()),
            f"{'verdicts':<16}{self.verdict_line}",
            f"{'refused':<16}draws that were made again: {in_words(self.refused)}",
            *(f"{'missing':<16}{line}" for line in self.missing_lines),
            *(f"{'notes':<16}{line}" for line in self.note_lines),
            *(f"{'loudness':<16}{line}" for line in self.loudness_lines),
        ]
        for group in self.groups:
            keys = ", keys {}-{}".format(*group.keys) if group.keys else ""
            lines += ["", f"{group.note:<4} {group.key:>3}  {one_line(group.label)}{keys}"]
            for sound in group.sounds:
                velocities = f"velocity {sound.low_velocity}-{sound.high_velocity}"
                played = f"{velocities}, {sound.position} of {sound.round_robins}{sound.play.in_words}"
                near = f", nearest recording {one_line(sound.novelty.nearest.nearest)}" if sound.novelty else ""
                lines.append(f"     {sound.file}  {sound.seconds:.2f} s  {played}  {sound.verdict}{near}")
        return "\n".join(lines) + "\n"


def _in_words(value: Any) -> str:
    """A setting for people: lists without brackets, yes and no."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def file_word(label: str) -> str:
    """A label as a part of a file's name: only `a-z`, `0-9` and single `-` inside, 1 to 40 characters.

    Two labels can give the same word: a file's name needs something of its own beside it.
    """
    latin = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"[^a-z0-9]+", "-", latin).strip("-")[:40].strip("-") or "sound"


def sfz_bytes(groups: Sequence[KitGroup]) -> bytes:
    """The kit as SFZ (sfzformat.com), in ASCII: a group for each key and layer, round robins by `seq_position`."""
    played = f"ampeg_release={RELEASE_SECONDS:g}" if any(group.keys for group in groups) else "loop_mode=one_shot"
    lines = ["// A kit made by Distill; kit.txt says what is in it.", "<global>", played]
    for group in groups:
        low, high = group.keys or (group.key, group.key)
        for _, layer in groupby(group.sounds, key=lambda sound: sound.low_velocity):
            first, *rest = layer
            velocities = f"lovel={first.low_velocity} hivel={first.high_velocity}"
            lines += ["", f"// {group.note} {file_word(group.label)}", "<group>"]
            lines.append(f"lokey={low} hikey={high} pitch_keycenter={group.key} {velocities}")
            lines += [f"seq_length={first.round_robins}"] * bool(rest) + ["group=1 off_by=1"] * group.is_hat
            for sound in (first, *rest):
                position = f" seq_position={sound.position}" * bool(rest)
                lines.append(f"<region> sample={sound.file}{position}{sound.play.sfz}")
    return ("\n".join(lines) + "\n").encode("ascii")


def dspreset_bytes(groups: Sequence[KitGroup]) -> bytes:
    """The kit as a DecentSampler preset: XML, a group for each key. A one-shot is `ampEnvEnabled="false"` there."""
    root = ElementTree.Element("DecentSampler")
    parent = ElementTree.SubElement(root, "groups")
    for group in groups:
        attributes = {"name": one_line(group.label, 80), "ampVelTrack": "1"}
        if group.is_hat:
            attributes |= {"tags": "hat", "silencedByTags": "hat", "silencingMode": "fast"}
        if group.keys:
            attributes |= {"attack": "0", "decay": "0", "sustain": "1", "release": f"{RELEASE_SECONDS:g}"}
        element = ElementTree.SubElement(parent, "group", attributes)
        low, high = group.keys or (group.key, group.key)
        for sound in group.sounds:
            sample = {"path": sound.file, "rootNote": group.key, "loNote": low, "hiNote": high}
            sample |= {"loVel": sound.low_velocity, "hiVel": sound.high_velocity, **sound.play.dspreset}
            if sound.round_robins > 1:
                sample |= {"seqMode": "round_robin", "seqLength": sound.round_robins, "seqPosition": sound.position}
            ElementTree.SubElement(element, "sample", {name: str(value) for name, value in sample.items()})
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


WRITERS: dict[KitFormat, Callable[[Sequence[KitGroup]], bytes]] = {"sfz": sfz_bytes, "dspreset": dspreset_bytes}
