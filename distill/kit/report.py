"""`kit.txt`: what a kit is, for people."""

from distill import __version__
from distill.kit.clusters import MOST_CLUSTERS
from distill.kit.keys import FIRST_KEY, note_name
from distill.kit.result import Kit, KitGroup, KitSound, sounding
from distill.kit.sounds import FADE_SECONDS, PEAK_DB, TRIM_DB
from distill.text import one_line


def kit_text(kit: Kit) -> str:
    """The text of a kit: origin, settings, verdicts, empty places, keys and sounds."""
    settings = kit.settings
    groups = "one group for each label"
    if not settings.by_label:
        groups = f"at most {MOST_CLUSTERS} groups by spectrum, from dark to bright, as the model has no labels"
    lines = [
        f"A kit of {len(kit.sounds)} sounds on {len(sounding(kit.groups))} keys, made by Distill {__version__}",
        "",
        f"model       {one_line(kit.model)}, weights with SHA-256 {kit.model_sha256}",
        f"seed        {settings.seed}: the same model, seed and settings give the same kit",
        f"settings    {settings.per_label} sounds a group, {settings.velocity_layers} velocity "
        f"layer{'s' * (settings.velocity_layers != 1)}, at most {settings.seconds:g} s, temperature "
        f"{settings.temperature:g}, guidance {settings.guidance:g}",
        f"groups      {groups}",
        f"keys        drums on the keys of General MIDI, the rest on white keys from {note_name(FIRST_KEY)} upwards; "
        f"MIDI note {FIRST_KEY} is {note_name(FIRST_KEY)} here and 60 is C4 (some programs call them C0 and C3)",
        f"sounds      {kit.sample_rate} Hz, mono, 16 bits; cut where they are {-TRIM_DB:g} dB below their peak, the last "
        f"{FADE_SECONDS * 1000:g} ms faded, peak at {PEAK_DB:g} dBFS",
        f"verdicts    {verdict_line(kit)}",
        f"refused     draws that were made again: {kit.refused.words}",
        *(f"missing     {line}" for line in missing_lines(kit)),
    ]
    for group in kit.groups:
        lines += ["", f"{group.key.name:<4} {group.key.number:>3}  {one_line(group.label)}"]
        lines += [f"     {_sound_line(sound)}" for sound in group.sounds] or ["     no sound"]
    return "\n".join(lines) + "\n"


def verdict_line(kit: Kit) -> str:
    """How many sounds are new, close and copies; or that it is unknown, and why."""
    counts = kit.verdicts()
    if counts["unknown"]:
        return "unknown: the model has no codes of its training recordings, so no copy could be left out"
    asked = " (copies were allowed)" if kit.settings.allow_copies else ""
    return f"{counts['new']} new, {counts['close']} close, {counts['copy']} copies of training recordings{asked}"


def missing_lines(kit: Kit) -> list[str]:
    """A line for each group that has fewer sounds than were asked for."""
    return [_missing(group) for group in kit.groups if group.missing]


def _missing(group: KitGroup) -> str:
    return (
        f"{one_line(group.label, 60)}: {len(group.sounds)} of {len(group.sounds) + group.missing} sounds; "
        f"refused draws: {group.refused.words}"
    )


def _sound_line(sound: KitSound) -> str:
    played = f"velocity {sound.low_velocity}-{sound.high_velocity}, {sound.position} of {sound.round_robins}"
    nearest = "" if sound.novelty is None else f", nearest recording {one_line(sound.novelty.nearest.nearest)}"
    return f"{sound.file}  {sound.seconds:.2f} s  {played}  {sound.verdict}{nearest}"
