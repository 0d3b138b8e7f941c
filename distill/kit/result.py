"""What is in a kit."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.kit.draws import Refused
from distill.kit.keys import Key
from distill.kit.settings import KitSettings
from distill.novelty.verdict import Novelty

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "distill_kit"
INDEX = "kit.json"
MOST_VELOCITY = 127


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
    novelty: Novelty | None

    @property
    def verdict(self) -> str:
        """The verdict of novelty, or `unknown`."""
        return "unknown" if self.novelty is None else self.novelty.verdict


@dataclass(frozen=True)
class KitGroup:
    """The sounds on one key, from soft to loud layers; how many are missing, and which draws were refused."""

    label: str
    key: Key
    sounds: tuple[KitSound, ...]
    missing: int
    refused: Refused


@dataclass(frozen=True)
class Kit:
    """A kit on disk: its folder, its files within it, the model it came from, and its groups in the order of keys."""

    folder: Path
    files: tuple[str, ...]
    model: str  # name of the file
    model_sha256: str  # of its weights
    sample_rate: int  # Hz
    settings: KitSettings
    groups: tuple[KitGroup, ...]
    refused: Refused  # in all

    @property
    def sounds(self) -> list[KitSound]:
        """All sounds, key by key."""
        return [sound for group in self.groups for sound in group.sounds]

    @property
    def missing(self) -> int:
        """Number of places that stayed empty."""
        return sum(group.missing for group in self.groups)

    def verdicts(self) -> dict[str, int]:
        """How many sounds have each verdict: `new`, `close`, `copy`, `unknown`."""
        found = [sound.verdict for sound in self.sounds]
        return {verdict: found.count(verdict) for verdict in ("new", "close", "copy", "unknown")}

    def json(self) -> dict[str, Any]:
        """All but the folder, as `kit.json` holds it."""
        return {
            "format": FORMAT,
            "version": 1,
            "model": {"file": self.model, "payload_sha256": self.model_sha256},
            "sample_rate": self.sample_rate,
            "settings": self.settings.model_dump(),
            "files": list(self.files),
            "missing": self.missing,
            "refused": asdict(self.refused),
            "verdicts": self.verdicts(),
            "groups": [_group_json(group) for group in self.groups],
        }

    def table(self) -> "pd.DataFrame":
        """A row a sound: file, label, key, note, velocities, round robin, length, level and novelty."""
        import pandas as pd

        rows = [
            {"label": group.label, "key": group.key.number, "note": group.key.name, **_sound_json(sound)}
            for group in self.groups
            for sound in group.sounds
        ]
        return pd.json_normalize(rows).rename_axis("sound")


def velocity_layers(sounds: int, layers: int) -> list[tuple[int, range]]:
    """Layers of sounds, soft to loud: for each, the number of its sounds and its velocities.

    As many layers as there are sounds, at most `layers`.
    """
    layers = max(1, min(layers, sounds))
    return [
        (
            sounds * (one + 1) // layers - sounds * one // layers,
            range(1 + MOST_VELOCITY * one // layers, 1 + MOST_VELOCITY * (one + 1) // layers),
        )
        for one in range(layers)
    ]


def sounding(groups: Sequence[KitGroup]) -> list[KitGroup]:
    """The groups that have sounds."""
    return [group for group in groups if group.sounds]


def _group_json(group: KitGroup) -> dict[str, Any]:
    return {
        "label": group.label,
        "key": group.key.number,
        "note": group.key.name,
        "is_drum": group.key.is_drum,
        "missing": group.missing,
        "refused": asdict(group.refused),
        "sounds": [_sound_json(sound) for sound in group.sounds],
    }


def _sound_json(sound: KitSound) -> dict[str, Any]:
    values = {name: value for name, value in vars(sound).items() if name != "novelty"}
    return {**values, "verdict": sound.verdict, "novelty": None if sound.novelty is None else sound.novelty.json()}
