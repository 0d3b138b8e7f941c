"""Files of samplers: SFZ and DecentSampler. Sounds play to their end, whatever the length of the note."""

from collections.abc import Callable, Sequence
from itertools import groupby
from xml.etree import ElementTree

from distill.kit.names import file_word
from distill.kit.result import KitGroup, KitSound
from distill.kit.settings import KitFormat
from distill.text import one_line


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
