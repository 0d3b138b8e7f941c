"""Drum names: keys of labels on the General MIDI percussion map."""

import re
from collections.abc import Sequence

KICK, SNARE, CLOSED_HAT, OPEN_HAT = (36, 35), (38, 40), (42,), (46,)

# Names, and their keys on the General MIDI percussion map in order of preference. A name matches a label with all of its
# words. The first matching name applies.
_DRUMS = """
hat open, hihat open, openhat: 46; hat pedal, hihat pedal: 44; hat, hihat, closedhat: 42
rim, rimshot, sidestick, side stick: 37; clap, handclap: 39; kick, bassdrum, bass drum: 36 35; snare: 38 40
tom floor: 41 43; tom low, tom lo: 45 43 41; tom mid: 47 48; tom high, tom hi: 50 48; tom: 41 43 45 47 48 50
crash: 49 57; ride bell: 53; ride: 51 59; china: 52; splash: 55; cymbal: 49 57
tambourine, tamb: 54; cowbell: 56; vibraslap: 58; bongo: 60 61; conga: 63 64 62; timbale: 65 66; agogo: 67 68
cabasa: 69; maracas, maraca, shaker: 70; guiro: 73 74; clave: 75; woodblock, wood block: 76 77
cuica: 79 78; triangle: 81 80
"""
# Abbreviations on drum machines. In other kits they can be channels, vowels or initials.
_SHORT_DRUMS = """
oh: 46; ch, hh: 42; rs: 37; cp: 39; bd: 36 35; sd, sn: 38 40; lt: 45 43 41; mt: 47 48; ht: 50 48; cy: 49 57; cb: 56
"""


def _rules(table: str) -> list[tuple[set[str], tuple[int, ...]]]:
    return [
        (set(name.split()), tuple(map(int, keys.split())))
        for names, keys in (rule.split(": ") for rule in re.split("; |\n", table.strip()))
        for name in names.split(", ")
    ]


_RULES, _SHORT_RULES = _rules(_DRUMS), _rules(_SHORT_DRUMS)


def drum_keys(labels: Sequence[str]) -> list[tuple[int, ...]]:
    """Drum keys for each label of a kit, in order of preference; () if the last part of its path names no drum.

    Words are compared in lower case, plural or singular; digits, punctuation and camel case separate words.
    Short names such as BD count if the kit has a kick and a snare and at least half of its labels name drums.
    OH needs a closed hat: otherwise it is a vowel or an overhead microphone.
    """
    words = [_words(label) for label in labels]
    plain = [_first(_RULES, own) for own in words]
    short = [keys or _first(_SHORT_RULES, own) for keys, own in zip(plain, words, strict=True)]
    if CLOSED_HAT not in short:
        short = [own if keys == OPEN_HAT else keys for keys, own in zip(short, plain, strict=True)]
    is_drum_kit = {KICK, SNARE} <= {*short} and 2 * sum(map(bool, short)) >= len(labels)
    return short if is_drum_kit else plain


def _words(label: str) -> set[str]:
    divided = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label.split("/")[-1]).casefold()
    words = set(re.findall(r"[^\W\d_]+", divided))
    return words | {word[:-1] for word in words if len(word) > 3 and word.endswith("s")}


def _first(rules: Sequence[tuple[set[str], tuple[int, ...]]], words: set[str]) -> tuple[int, ...]:
    return next((keys for names, keys in rules if names <= words), ())
