"""Requests that `generate` was asked for: of a pattern, what to follow, a tempo, or none of these."""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distill.errors import AudioWarning, ParamsError
from distill.generate.arrange import ScoreRequest, fitted
from distill.generate.follow import follow_request
from distill.generate.loop import LoopRequest
from distill.generate.policies import Sampling
from distill.generate.requests import LONGEST_SECONDS, GenerateSettings, Recording, check_tuning
from distill.generate.score import BEATS, Score, is_midi, read_midi, read_pattern, read_programs
from distill.generate.selection.choice import DRAFTS
from distill.generate.sounds import GenerationRequest
from distill.generate.source import Recorded, Source
from distill.notes import CONCERT

Listen = Callable[[Recording, int | None], Recorded]
"""What reads a recording, a file or samples at a rate in Hz."""

Wanted = tuple[GenerationRequest, Sequence[str]]
"""What is drawn, and remarks on it."""


def request_of(source: Source, asked: GenerateSettings, label: int, notes: Sequence[float], listen: Listen) -> Wanted:
    """What a source draws of a label, 0 for none, for settings at notes, in semitones (MIDI). Raises ParamsError."""
    shared: dict[str, Any] = {
        "count": asked.count,
        "sampling": Sampling(asked.temperature, asked.top_k, asked.top_p, asked.guidance_scale),
        "label": label,
        "width": asked.width,
        "finds_faults": True,
        "drafts": asked.drafts or DRAFTS,
    }
    if asked.pattern is not None:
        return _played(source, read_pattern(asked.pattern, *asked.tempo, asked.swing or 0.0), asked, **shared)
    if asked.follow is not None:
        return _following(source, asked, asked.follow, listen, shared)
    if asked.is_loop:
        bpm, bars = asked.tempo
        return LoopRequest(max_seconds=BEATS * bars * 60 / bpm, bpm=bpm, beats=BEATS * bars, **shared), []
    if asked.prompt is not None:
        prompt = listen(asked.prompt, asked.prompt_rate)
        shared |= {"prompt": prompt.codes, "side_info": prompt.side_info}
    has_length = asked.seconds is not None
    shared |= {"max_seconds": asked.seconds or LONGEST_SECONDS, "natural_ending": not has_length}
    return GenerationRequest(**shared, notes=notes), []


def _following(
    source: Source, asked: GenerateSettings, followed: Recording, listen: Listen, shared: dict[str, Any]
) -> Wanted:
    """What is drawn to follow a recording or a MIDI file. A remark on a file is an AudioWarning. Raises ParamsError."""
    path = Path(followed) if isinstance(followed, str | os.PathLike) else None
    score_path = path if path is not None and is_midi(path) else None
    if score_path is None:
        check_tuning(asked.tuning, None)
    others = {"track", "program", "stems"} if score_path is None else {"loose", "follow_rate"}
    kinds = ("a MIDI file", "a recording") if score_path is None else ("a recording", "a MIDI file")
    if unfit := [name for name in sorted(others) if getattr(asked, name) not in (None, False)]:
        raise ParamsError(f"{unfit[0]}: expected {kinds[0]} to follow, found {kinds[1]}; leave {unfit[0]} out")
    if score_path is None:
        shared["drafts"] = asked.drafts or 1  # each note has drafts of its own
        return follow_request(source, listen(followed, asked.follow_rate), loose=asked.loose or 0.0, **shared)
    programs = read_programs(asked.program) if asked.program else {}
    read = read_midi(score_path, asked.track, programs)
    for remark in read.remarks:
        warnings.warn(f"{score_path}: {remark}", AudioWarning, stacklevel=2)
    score, remarks = read.with_drums(source.labels)
    wanted, moved = _played(source, score, asked, **shared)
    return wanted, [*remarks, *moved]


def _played(source: Source, score: Score, asked: GenerateSettings, label: int, **about: Any) -> Wanted:
    """A request for renditions of a score, of which notes without a label have this one."""
    numbers = {name: source.label_number(name) if name else label for name in score.labels}
    played, remarks = fitted(score, source.tuner, numbers)
    tuning = source.tuner.tuning(asked.tuning) if any(note.key is not None for note in played.notes) else CONCERT
    about |= {"score": played, "numbers": numbers, "tuning": tuning.offset, "stems": asked.stems}
    wanted = ScoreRequest(max_seconds=LONGEST_SECONDS, label=label, **about)
    return wanted, [*remarks, *filter(None, [tuning.in_words])]
