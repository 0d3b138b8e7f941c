"""Patterns of hits, such as "kick:x...x... snare:....x...": labels, steps and rests."""

import re
from collections.abc import Iterator

from distill.errors import ParamsError
from distill.generate.scores.score import MOST_SECONDS, Note, Score, checked
from distill.text import one_line

BEATS = 4  # beats in a bar
GAINS = {"X": 1.0, "x": 0.7, "o": 0.35}  # accent, hit, ghost note


def read_pattern(text: str, bpm: float, bars: int, swing: float) -> Score:
    """Read a pattern such as "kick:x...x... snare:....x...": each label's steps divide a bar of four beats.

    `x` is a hit, `X` a louder hit, `o` a softer hit, `.` or `-` a rest. The pattern repeats for `bars` at `bpm` beats a
    minute; `swing`, from 0 (straight) to 1 (triplet swing), delays every second step. Raises ParamsError.
    """
    swung = (
        1 / 3
    )  # delay of every second step at a swing of 1, as a fraction of a step: triplet swing
    shown = one_line(text, 60)
    lines = list(_lines(text))
    if not any(step in GAINS for _, steps in lines for step in steps):
        found = (
            "rests alone; add a hit"
            if lines
            else "something else; write x, X, o, . or - after each label and a colon"
        )
        raise ParamsError(
            f"pattern {shown}: expected labels and their steps, such as kick:x...x... snare:....x..., found {found}"
        )
    bar = BEATS * 60 / bpm
    if bars * bar > MOST_SECONDS:
        raise ParamsError(
            f"bars {bars}: expected at most {MOST_SECONDS:.0f} s, found {bars * bar:.0f} s at {bpm:g} bpm; give fewer bars"
        )
    notes = []
    for label, steps in lines:
        for number, step in enumerate(steps):
            late = swung * swing * (number % 2)
            notes += [
                Note((repeat + (number + late) / len(steps)) * bar, None, GAINS[step], None, label)
                for repeat in range(bars)
                if step in GAINS
            ]
    return Score(checked(notes, f"pattern {shown}"), bars * bar)


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Labels and steps of a pattern; empty if any part of it is malformed."""
    part = re.compile(rf"[\s,;]*([^:\s,;][^:]*):\s*([{''.join(GAINS)}.|-]+)(?=[\s,;]|$)")
    found, place = [], 0
    while place < len(text.rstrip(" ,;\t\n")):
        match = part.match(text, place)
        steps = match[2].replace("|", "") if match else ""
        if match is None or not steps:
            return
        found.append((match[1].strip(), steps))
        place = match.end()
    yield from found
