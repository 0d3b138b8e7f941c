"""Kits on disk: groups of sounds on keys, and the text and JSON that describe them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from distill import __version__
from distill.audio.output import Output
from distill.generate.presentation.notebook import players_and_table
from distill.generate.settings import default_guidance
from distill.kit.loops import Loop
from distill.kit.settings import KitSettings
from distill.notes import CONCERT, Tuning, note_name
from distill.text import beside, one_line, several, wrapped

if TYPE_CHECKING:
    import pandas as pd

    from distill.novelty.verdict import Novelty

FORMAT = "distill_kit"
INDEX = "kit.json"
MAX_VELOCITY = 127


def by_reason(refused: Counter[str]) -> dict[str, int]:
    """Numbers of rejected drafts by reason, as `kit.json` names it; instruments at notes add `mistuned`."""
    words = {"copy": "copies", "silent": "silent", "equal": "repeats"}
    return {words.get(reason, reason): refused[reason] for reason in {**words, **refused}}


def in_words(refused: Counter[str]) -> str:
    """Numbers of rejected drafts in words: `3 copies, 1 silent`."""
    return (
        ", ".join(f"{count} {reason}" for reason, count in by_reason(refused).items() if count)
        or "none"
    )


class Play(NamedTuple):
    """Playback of a sound, for each file of a kit: SFZ opcodes, words, JSON fields, and DecentSampler attributes."""

    sfz: str
    in_words: str
    json: dict[str, Any]
    dspreset: dict[str, Any]
    loop: tuple[int, int] | None = None  # first and last sample


ONE_SHOT = Play("", "", {}, {"ampEnvEnabled": "false", "loopEnabled": "false"})  # plays to its end


def held(tune: int) -> Play:
    """Playback `tune` cents higher, until the sound or its note ends."""
    sample = {"ampEnvEnabled": "true", "tuning": tune / 100, "loopEnabled": "false"}
    return Play(
        f" tune={tune} loop_mode=no_loop", f", tune {tune:+d}, no loop", {"tune": tune}, sample
    )


def held_by(loop: Loop, tune: int, sample_rate: int) -> Play:
    """Playback `tune` cents higher, repeating the loop while the note is held."""
    seconds = f"{loop.start / sample_rate:.2f}-{loop.end / sample_rate:.2f} s"
    around = {"loopEnabled": "true", "loopStart": loop.start, "loopEnd": loop.end}
    return Play(
        f" tune={tune} loop_mode=loop_sustain loop_start={loop.start} loop_end={loop.end}",
        f", tune {tune:+d}, loop {seconds}",
        {"tune": tune, "loop": loop._asdict()},
        {**held(tune).dspreset, **around},
        loop[:2],
    )


@dataclass(frozen=True)
class KitSound:
    """Sound of a kit: its path within the folder, its velocity range, and its position among the round robins.

    `level_db` is the level before normalisation, in dBFS. `novelty` is None if the model has no reference.
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
    under_db: float = 0.0  # dB below the requested loudness

    @property
    def verdict(self) -> str:
        """Novelty verdict, or `unknown`."""
        return self.novelty.verdict if self.novelty else "unknown"

    def json(self) -> dict[str, Any]:
        """Entry of the sound in `kit.json`."""
        values = {**vars(self), "novelty": self.novelty and self.novelty.json()}
        del values["play"]
        if not self.under_db:
            del values["under_db"]
        return {**values, "verdict": self.verdict, **self.play.json}


@dataclass(frozen=True)
class KitGroup:
    """Sounds on one MIDI key, layers from soft to loud; the number of missing sounds, and rejected drafts by reason."""

    label: str
    key: int
    is_drum: bool
    is_hat: bool  # other hi-hats silence it
    sounds: tuple[KitSound, ...]
    missing: int
    refused: Counter[str]
    keys: tuple[int, ...] = ()  # lowest and highest, for an instrument at notes
    heard: tuple[int, ...] = ()  # sorted notes of a label's sounds, if they differ

    @property
    def note(self) -> str:
        """Note name of the key, where C4 is 60."""
        return note_name(self.key)

    @property
    def range(self) -> tuple[int, ...]:
        """Lowest and highest key that play the sounds."""
        return self.keys or (self.key, self.key)

    def json(self) -> dict[str, Any]:
        """Entry of the group in `kit.json`."""
        values = {**vars(self), "note": self.note, "refused": by_reason(self.refused)}
        values["sounds"] = [sound.json() for sound in self.sounds]
        for name in ("keys", "heard"):
            notes = list(values.pop(name))
            values |= {name: notes} if notes else {}
        return values


@dataclass(frozen=True)
class Kit:
    """Kit on disk: its folder, the model that generated it, and its groups in the order of keys."""

    folder: Path
    model: str  # file name
    model_sha256: str  # of its weights
    sample_rate: int  # Hz
    settings: KitSettings
    by_label: bool  # whether the model has labels
    groups: tuple[KitGroup, ...]
    refused: Counter[str]  # of the whole kit
    one_shot_remark: str = ""  # remark on a one-shot model
    tuning: Tuning = CONCERT  # of an instrument at notes

    @property
    def sounds(self) -> list[KitSound]:
        """All sounds, in the order of keys."""
        return [sound for group in self.groups for sound in group.sounds]

    @property
    def files(self) -> list[str]:
        """Sorted paths of all files within the folder."""
        presets = (f"kit.{kind}" for kind in self.settings.formats)
        return sorted(
            {INDEX, "kit.png", "kit.txt", *presets, *(sound.file for sound in self.sounds)}
        )

    @property
    def recorded(self) -> dict[str, Any]:
        """Settings as `kit.json` and `kit.txt` record them."""
        values = {
            **self.settings.model_dump(exclude={"progress"}),
            "guidance": default_guidance(self.by_label),
            "by_label": self.by_label,
            "formats": list(self.settings.formats),
            "tuning": self.tuning.hertz if self.settings.notes else None,
        }
        names = [
            "per_label",
            "velocity_layers",
            "seconds",
            "seed",
            "temperature",
            "guidance",
            "allow_copies",
            "by_label",
            "formats",
            "notes",
            "every",
            "tuning",
            "width",
            "one_key",
            "round_robins",
            "loudness",
        ]
        left_out = {"width": 1.0, "one_key": False}
        return {
            name: values[name] for name in names if values[name] not in (None, left_out.get(name))
        }

    @property
    def missing_lines(self) -> list[str]:
        """A line for each group with fewer sounds than requested."""
        lines = []
        for group in self.groups:
            if not group.missing:
                continue
            name, others = one_line(group.label, 60), ""
            if self.settings.notes:
                name += f" {group.note}"
                others = "" if group.sounds else "; its keys play other notes"
            count = f"{len(group.sounds)} of {len(group.sounds) + group.missing} sounds"
            lines.append(f"{name}: {count}; refused draws: {in_words(group.refused)}{others}")
        return lines

    @property
    def note_lines(self) -> list[str]:
        """A line for each label whose round robins on one key have different notes."""
        return [
            f"{one_line(group.label, 60)} {group.note}: its {len(group.sounds)} sounds on one key have different notes, from "
            f"{note_name(group.heard[0])} to {note_name(group.heard[-1])}; for an instrument in tune over all keys, ask for "
            "this label alone at notes"
            for group in self.groups
            if group.heard
        ]

    @property
    def loudness_lines(self) -> list[str]:
        """A line on the sounds below the requested loudness, if any."""
        return Output(self.sample_rate, self.settings.loudness).lines(
            [sound.under_db for sound in self.sounds]
        )

    def verdicts(self) -> dict[str, int]:
        """Number of sounds by verdict: `new`, `close`, `copy`, `unknown`."""
        verdicts = Counter(sound.verdict for sound in self.sounds)
        return {verdict: verdicts[verdict] for verdict in ("new", "close", "copy", "unknown")}

    @property
    def verdict_line(self) -> str:
        """Numbers of new sounds, close sounds and copies, or why they are unknown."""
        counts = self.verdicts()
        if self.one_shot_remark:
            return f"none: {self.one_shot_remark}"
        if counts["unknown"]:
            return "unknown: the model has no codes of its training recordings, so no copy could be left out"
        line = f"{counts['new']} new, {counts['close']} close, {counts['copy']} copies of training recordings"
        is_sure = all(sound.novelty.is_sure for sound in self.sounds if sound.novelty)
        return line if is_sure else f"{line}; too few recordings are held out to tell well"

    @property
    def remarks(self) -> list[str]:
        """Notes and warnings on groups, each with its kind at the start."""
        return [f"note: {line}" for line in self.note_lines] + [
            f"warning: {line}" for line in self.missing_lines
        ]

    def lines(self, width: int) -> list[str]:
        """Return the lines of text for a terminal that is `width` columns wide."""
        rows = []
        for group in self.groups:
            if group.sounds:
                sounds = f"{len(group.sounds)} x {one_line(group.label, 60)}"
                rows.append(beside(f"{group.note:<4} {group.key:>3}", sounds, width))
        noun, over = ("note", ", over all keys") if self.settings.notes else ("key", "")
        places = several(len(rows), noun) + over
        rows.append(f"{self.folder}  {several(len(self.sounds), 'sound')} on {places}")
        remarks = filter(None, [self.tuning.in_words, *self.loudness_lines])
        last = [f"verdicts {self.verdict_line}", f"seed {self.settings.seed}"]
        return rows + wrapped([*remarks, *last], width)

    def json(self) -> dict[str, Any]:
        """Content of `kit.json`."""
        return {
            "format": FORMAT,
            "version": 1,
            **({"untrained": self.one_shot_remark} if self.one_shot_remark else {}),
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
        """Table with a row for each sound: its entry in `kit.json`, label, key and note."""
        import pandas as pd

        return pd.json_normalize(
            self.json()["groups"], "sounds", ["label", "key", "note"]
        ).rename_axis("sound")

    def _repr_html_(self) -> str:
        """Audio players and the table, for notebooks."""
        return players_and_table(
            ((self.folder / sound.file).read_bytes() for sound in self.sounds), self.table()
        )

    def text(self) -> str:
        """Content of `kit.txt`: origin, settings, verdicts, missing sounds, keys and sounds."""
        weights = f", weights with SHA-256 {self.model_sha256}" if self.model_sha256 else ""
        lines = [
            f"A kit of {len(self.sounds)} sounds, made by Distill {__version__}",
            "",
            f"{'model':<16}{one_line(self.model)}{weights}",
            *(
                f"{name.replace('_', ' '):<16}{_in_words(value)}"
                for name, value in self.recorded.items()
            ),
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
                turn = f"{sound.position} of {sound.round_robins}"
                played = f"{velocities}, {turn}{sound.play.in_words}"
                line = f"     {sound.file}  {sound.seconds:.2f} s  {played}  {sound.verdict}"
                if sound.novelty:
                    line += f", nearest recording {one_line(sound.novelty.nearest.nearest)}"
                lines.append(line)
        return "\n".join(lines) + "\n"


def _in_words(value: Any) -> str:
    """Readable value of a setting: lists without brackets, yes and no."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
