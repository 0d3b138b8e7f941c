"""Sampler presets of a kit: SFZ and DecentSampler.

Sounds of labels play to their end, whatever the length of the note. An instrument at notes covers all keys, and its
sounds end with the note.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import groupby
from xml.etree import ElementTree

from distill.kit.kit import KitGroup
from distill.kit.settings import KitFormat
from distill.text import one_line

RELEASE_SECONDS = 0.3  # of instruments at notes


def file_word(label: str) -> str:
    """Label as part of a file name: 1 to 40 characters of `a-z`, `0-9` and single `-` between them.

    Different labels can give the same word, so a file name needs another part that is unique.
    """
    latin = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"[^a-z0-9]+", "-", latin).strip("-")[:40].strip("-") or "sound"


def sfz_bytes(groups: Sequence[KitGroup]) -> bytes:
    """Kit as SFZ (sfzformat.com), in ASCII: a group for each key and layer, round robins by `seq_position`."""
    played = (
        f"ampeg_release={RELEASE_SECONDS:g}"
        if any(group.keys for group in groups)
        else "loop_mode=one_shot"
    )
    lines = ["// A kit made by Distill; kit.txt says what is in it.", "<global>", played]
    for group in groups:
        low, high = group.range
        for _, layer in groupby(group.sounds, key=lambda sound: sound.low_velocity):
            first, *rest = layer
            velocities = f"lovel={first.low_velocity} hivel={first.high_velocity}"
            lines += ["", f"// {group.note} {file_word(group.label)}", "<group>"]
            lines.append(f"lokey={low} hikey={high} pitch_keycenter={group.key} {velocities}")
            if rest:
                lines.append(f"seq_length={first.round_robins}")
            if group.is_hat:
                lines.append("group=1 off_by=1")
            for sound in (first, *rest):
                position = f" seq_position={sound.position}" if rest else ""
                lines.append(f"<region> sample={sound.file}{position}{sound.play.sfz}")
    return ("\n".join(lines) + "\n").encode("ascii")


def dspreset_bytes(groups: Sequence[KitGroup]) -> bytes:
    """Kit as a DecentSampler preset: XML, a group for each key; one-shots have `ampEnvEnabled="false"`."""
    root = ElementTree.Element("DecentSampler")
    parent = ElementTree.SubElement(root, "groups")
    for group in groups:
        attributes = {"name": one_line(group.label, 80), "ampVelTrack": "1"}
        if group.is_hat:
            attributes |= {"tags": "hat", "silencedByTags": "hat", "silencingMode": "fast"}
        if group.keys:
            attributes |= {"attack": "0", "decay": "0", "sustain": "1"}
            attributes["release"] = f"{RELEASE_SECONDS:g}"
        element = ElementTree.SubElement(parent, "group", attributes)
        low, high = group.range
        for sound in group.sounds:
            sample = {"path": sound.file, "rootNote": group.key, "loNote": low, "hiNote": high}
            sample |= {"loVel": sound.low_velocity, "hiVel": sound.high_velocity}
            sample |= sound.play.dspreset
            if sound.round_robins > 1:
                sample |= {"seqMode": "round_robin", "seqLength": sound.round_robins}
                sample["seqPosition"] = sound.position
            values = {name: str(value) for name, value in sample.items()}
            ElementTree.SubElement(element, "sample", values)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


WRITERS: dict[KitFormat, Callable[[Sequence[KitGroup]], bytes]] = {
    "sfz": sfz_bytes,
    "dspreset": dspreset_bytes,
}
