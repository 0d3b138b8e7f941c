"""Lines on sounds and takes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from distill.audio.output import Output
from distill.generate.decoding import NO_SAMPLES
from distill.generate.presentation.results import Generated, Similarity, Take, Varied
from distill.generate.selection.rejection import Drafts, GeneratedSound
from distill.novelty.verdict import Novelty, Shared

CODES = np.zeros((4, 6), np.int64)


def of(nearest: str, held_out: int = 20) -> Novelty:
    alike = Shared(nearest, 0.0, 0.4, 0.1, 0.9, 0.5)
    return Novelty("new", alike, alike, 0.0, held_out)


def test_a_line_says_how_much_of_a_take_changed_and_its_verdict_in_some_words() -> None:
    take = Take(
        CODES, of("drums/kick_tight.wav"), None, NO_SAMPLES, 1.0, similarity=Similarity(0.72, 1.0, 2.5, "close")
    )
    made = Varied(draws=Drafts({0: take}), output=Output(16_000), seed=0, strength=0.3)
    assert made.lines([Path("a.wav")])[0] == "a.wav  1.00 s  28% of codes changed  New. Nearest: kick_tight"
    said = "the codec is not exact: takes at strength 0 differ from the recording by 2.5 dB, others by more"
    assert made.lines([Path("a.wav")])[1] == said
    (row,) = made.json([Path("a.wav")])["takes"]
    assert row["similarity"]["coding_db"] == 2.5
    assert row["short"] == "New. Nearest: kick_tight"
    assert row["explanation"].startswith("New: 50 % of the recordings")
    assert row["explanation"].endswith("drums/kick_tight.wav")


@pytest.mark.parametrize("name", ["kick_tight.wav", f"{'long name ' * 20}.wav", f"{'音' * 60}.wav"])
@pytest.mark.parametrize("held_out", [3, 20])
def test_a_sound_is_one_line_of_80_columns_and_two_of_40(name: str, held_out: int) -> None:
    sound = GeneratedSound(CODES, of(name, held_out), ("drone", "ending"), NO_SAMPLES, 12.0)
    made = Generated(draws=Drafts({0: sound, 1: sound}), output=Output(8000), seed=1)
    paths = [Path(f"generated/demo_1234567890_00{number}.wav") for number in range(2)]
    wide, narrow = (made.lines(paths, width) for width in (80, 40))
    assert [line.split()[0] for line in wide[:2]] == list(map(str, paths))
    assert all("Faulty: drone, ending" in line for line in wide[:2])
    assert all("Faulty: drone, ending" in line for line in "\n".join(narrow).split("\n")[1:4:2])
    for lines, width in ((wide, 80), (narrow, 42)):  # path and length have 42
        assert max(cell_len(part) for line in lines for part in line.split("\n")) <= width


def test_a_result_is_printed_as_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    notes = {
        0: GeneratedSound(CODES, of("kick.wav"), ("drone",), NO_SAMPLES, 1.0, 60.0, 60.0625),
        1: GeneratedSound(CODES, None, None, NO_SAMPLES, 12.0, 60.0),
    }
    made = Generated(draws=Drafts(notes), output=Output(8000), seed=1)
    assert str(made) == repr(made)
    assert str(made).splitlines() == [
        "sound  seconds  note                verdict",
        "0      1.00     C4: +6 cents        Faulty: drone; New. Nearest: kick",
        "1      12.00    C4: no clear pitch",
    ]
    take = Take(CODES, of("kick.wav"), None, NO_SAMPLES, 1.0, similarity=Similarity(0.72, 1.0, 2.5, "close"))
    varied = Varied(draws=Drafts(dict.fromkeys(range(40), take)), output=Output(16_000), seed=0, strength=0.3)
    lines = str(varied).splitlines()
    assert lines[0].split() == ["take", "seconds", "verdict"]
    assert lines[32:] == ["31    1.00     28% of codes changed; New. Nearest: kick", "and 8 more"]


def test_what_was_heard_is_said_in_words() -> None:
    pitches = (60.0625, 59.5, 48.0, None)
    drawn = {
        number: GeneratedSound(CODES, None, None, NO_SAMPLES, 1.0, 60.0, pitch) for number, pitch in enumerate(pitches)
    }
    made = Generated(draws=Drafts(drawn, Counter(mistuned=7)), output=Output(8000), seed=1)
    *sounds, summary, _, _ = made.lines([Path(f"{number}.wav") for number in range(4)])
    heard = ["C4: +6 cents", "C4: -50 cents", "C4: heard at C3", "C4: no clear pitch"]
    assert sounds == [f"{number}.wav  1.00 s  {said}" for number, said in enumerate(heard)]
    assert summary == "1 of 4 sounds at their note within 20 cents; 7 others drawn again"
    assert (made.off_note, made.redrawn_off_note) == (3, 7)
