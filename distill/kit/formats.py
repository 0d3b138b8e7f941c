"""Files of a kit: SFZ and DecentSampler presets, and the picture. Sounds play to their end, whatever the note's length."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from distill.audio.plots import FLOOR_DB, drawable, drawing, spectrogram_db
from distill.kit.kit import KitFormat, KitGroup, KitSound
from distill.text import one_line

MOST_CHARACTERS = 40
UNNAMED = "sound"  # for labels without a Latin letter or digit
HEIGHT = 48  # pixels of a sound
WIDTH = 200  # pixels of the longest sound
GAP = 6  # pixels between sounds
MOST_COLUMNS = 8  # sounds of a key that are shown
LINEAR_KHZ = 0.7  # below it the frequency axis is about linear, above it about logarithmic

Samples = NDArray[np.float32]  # [N]


def file_word(label: str) -> str:
    """A label as a part of a file's name: only `a-z`, `0-9` and single `-` inside, 1 to 40 characters.

    Two labels can give the same word: a file's name needs something of its own beside it.
    """
    latin = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"[^a-z0-9]+", "-", latin).strip("-")[:MOST_CHARACTERS].strip("-") or UNNAMED


def sfz_bytes(groups: Sequence[KitGroup]) -> bytes:
    """The kit as SFZ (sfzformat.com), in ASCII: a group for each key and layer, round robins by `seq_position`."""
    lines = ["// A kit made by Distill; kit.txt says what is in it.", "<global>", "loop_mode=one_shot"]
    for group in groups:
        for sounds in _layers(group):
            low, high, length = sounds[0].low_velocity, sounds[0].high_velocity, sounds[0].round_robins
            key = group.key.number
            opcodes = [f"lokey={key} hikey={key} pitch_keycenter={key} lovel={low} hivel={high}"]
            if length > 1:
                opcodes.append(f"seq_length={length}")
            if group.key.is_hat:
                opcodes.append("group=1 off_by=1")
            lines += ["", f"// {group.key.name} {file_word(group.label)}", "<group>", *opcodes]
            for sound in sounds:
                position = f" seq_position={sound.position}" if length > 1 else ""
                lines.append(f"<region> sample={sound.file}{position}")
    return ("\n".join(lines) + "\n").encode("ascii")


def dspreset_bytes(groups: Sequence[KitGroup]) -> bytes:
    """The kit as a DecentSampler preset: XML, a group for each key. A one-shot is `ampEnvEnabled="false"` there."""
    root = ElementTree.Element("DecentSampler")
    parent = ElementTree.SubElement(root, "groups")
    for group in groups:
        key = str(group.key.number)
        attributes = {"name": one_line(group.label, 80), "ampVelTrack": "1"}
        if group.key.is_hat:
            attributes |= {"tags": "hat", "silencedByTags": "hat", "silencingMode": "fast"}
        element = ElementTree.SubElement(parent, "group", attributes)
        for sound in group.sounds:
            sample = {
                "path": sound.file,
                "rootNote": key,
                "loNote": key,
                "hiNote": key,
                "loVel": str(sound.low_velocity),
                "hiVel": str(sound.high_velocity),
                "ampEnvEnabled": "false",
                "loopEnabled": "false",
            }
            if sound.round_robins > 1:
                sample |= {
                    "seqMode": "round_robin",
                    "seqLength": str(sound.round_robins),
                    "seqPosition": str(sound.position),
                }
            ElementTree.SubElement(element, "sample", sample)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _layers(group: KitGroup) -> list[list[KitSound]]:
    return [list(sounds) for _, sounds in groupby(group.sounds, key=lambda sound: sound.low_velocity)]


WRITERS: dict[KitFormat, Callable[[Sequence[KitGroup]], bytes]] = {"sfz": sfz_bytes, "dspreset": dspreset_bytes}


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """A small spectrogram in dB `[HEIGHT, <= WIDTH]`, low frequencies first, and its length."""

    levels: NDArray[np.float32]
    seconds: float
    verdict: str


def thumbnail(samples: Samples, sample_rate: int, verdict: str) -> Thumbnail:
    """Make the small spectrogram of samples `[N]`."""
    levels = spectrogram_db(samples, sample_rate)
    top = np.arcsinh(sample_rate / 2000 / LINEAR_KHZ)
    kilohertz = LINEAR_KHZ * np.sinh(np.linspace(0, top, HEIGHT))
    rows = np.round(kilohertz / (sample_rate / 2000) * (len(levels) - 1)).astype(int)
    columns = np.linspace(0, levels.shape[1] - 1, min(WIDTH, levels.shape[1])).round().astype(int)
    return Thumbnail(levels[rows][:, columns].astype(np.float32), len(samples) / sample_rate, verdict)


def write_picture(path: Path, rows: Sequence[tuple[str, Sequence[Thumbnail]]]) -> None:
    """Draw a row of sounds for each (title, sounds), all at the same scale of time, as PNG."""
    longest = max(one.seconds for _, sounds in rows for one in sounds)
    columns = min(MOST_COLUMNS, max(len(sounds) for _, sounds in rows))
    picture = np.full((len(rows) * (HEIGHT + GAP), columns * (WIDTH + GAP)), np.nan, dtype=np.float32)
    with drawing(path, (2.6 + 1.7 * columns, 0.8 + 0.56 * len(rows))) as figure:
        axis = figure.subplots()
        for row, (title, sounds) in enumerate(rows):
            top = row * (HEIGHT + GAP)
            axis.text(-8, top + HEIGHT / 2, drawable(title, 32), fontsize=8, ha="right", va="center", parse_math=False)
            for column, one in enumerate(sounds[:columns]):
                left = column * (WIDTH + GAP)
                width = max(1, round(one.seconds / longest * WIDTH))
                shown = np.linspace(0, one.levels.shape[1] - 1, width).round().astype(int)
                picture[top : top + HEIGHT, left : left + WIDTH] = FLOOR_DB
                picture[top : top + HEIGHT, left : left + width] = one.levels[::-1, shown]
                place, box = (left + WIDTH - 4, top + 4), {"facecolor": "black", "edgecolor": "none", "pad": 1}
                axis.text(*place, one.verdict, fontsize=6, color="white", ha="right", va="top", bbox=box)
            if len(sounds) > columns:
                axis.text(picture.shape[1], top + HEIGHT / 2, f"+ {len(sounds) - columns}", fontsize=8, va="center")
        axis.imshow(picture, cmap="magma", vmin=FLOOR_DB, vmax=0, aspect="auto", interpolation="nearest")
        axis.set_yticks([])
        axis.set_xticks([0, WIDTH], ["0", f"{longest:.2f} s"], fontsize=7)
        axis.set_frame_on(False)
